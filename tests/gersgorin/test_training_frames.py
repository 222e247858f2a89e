"""A model, sequences and a loss as one thing: its losses and gradients are the model's own, its
constants the best there are.
"""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.optimize import minimize
from tables import for_each
from torch import nn

from gersgorin.loading.find_cell import Watched
from gersgorin.loading.sequence_map import SequenceMap
from gersgorin.training.frames import FrameTraining
from gersgorin.training.losses import CLIP
from rhn.errors import InvalidInputError
from rhn.models import LanguageModel, PolyphonicModel


class Own(nn.Module):
    """A user's: an LSTM and a linear output; `between` stands in for the recurrence."""

    def __init__(self, m=3, n=4, K=3, between=None):
        super().__init__()
        self.rnn, self.out = between or nn.LSTM(m, n), nn.Linear(n, K)

    def forward(self, x):
        y = self.rnn(x)
        y, state = y if isinstance(y, tuple) else (y, None)
        return self.out(y), state


def polyphonic(**options):
    return PolyphonicModel(
        "rhn", hidden_size=5, depth=2, input_size=3, output_size=3, init="uniform:0.5", **options
    )


def frames(*shape, seed=0):
    drawn = (torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < 0.3).double()
    drawn[-1:] = 1 - drawn[-2:-1]  # something changes, whatever is drawn
    return drawn


def test_the_loss_of_a_polyphonic_model_is_its_own_over_real_frames_alone():
    torch.manual_seed(0)
    model, pieces = polyphonic(), [frames(7, 3), frames(4, 3, seed=1)]
    training = FrameTraining(model, pieces)
    each = [model.double().nll(piece.unsqueeze(1))[:, 0] for piece in pieces]
    torch.testing.assert_close(training.mean_loss(), torch.cat(each).mean())
    torch.testing.assert_close(training.frame_losses()[:3, 1], each[1])
    assert (training.frame_losses()[3:, 1] == 0).all() and training.output_bias == "output.bias"


def test_the_loss_of_a_language_model_is_its_own():
    torch.manual_seed(0)
    ids, model = (
        torch.randint(6, (8, 2)),
        LanguageModel("gru", vocabulary_size=6, hidden_size=6, tied=True),
    )
    training = FrameTraining(model, ids)
    torch.testing.assert_close(
        training.frame_losses(), model.double()(ids[:-1], targets=ids[1:]).nll
    )
    assert training.output_bias == "output_bias"
    assert FrameTraining(model, ids[:, 0]).inputs.shape == (7, 1)


def test_gradients_are_those_of_the_model_which_stays_as_it_is():
    torch.manual_seed(0)
    model, x = polyphonic(), frames(6, 2, 3)
    before = {name: p.clone() for name, p in model.named_parameters()}
    loss, gradients = FrameTraining(model, x).gradients()
    assert all(
        p.dtype == torch.float32 and torch.equal(p, before[name])
        for name, p in model.named_parameters()
    )
    wanted = model.double().nll(x).mean()
    wanted.backward()
    assert loss == pytest.approx(wanted.item(), rel=1e-12)
    for name, p in model.named_parameters():
        torch.testing.assert_close(gradients[name], p.grad, msg=name)


def own_loss(z, t):
    return F.huber_loss(z, t, reduction="none")


LOSSES = [
    ("bernoulli", frames(9, 2, 3)),
    ("squared", frames(9, 2, 3)),
    (own_loss, frames(9, 2, 3)),
    ("categorical", None),
]


@pytest.mark.parametrize(
    ("loss", "targets"), LOSSES, ids=("bernoulli", "squared", "own", "categorical")
)
def test_no_constant_output_is_better_than_the_best(loss, targets):
    targets = torch.arange(18).view(9, 2) * 7 % 5 % 3 if targets is None else targets
    training = FrameTraining(Own(), (frames(9, 2, 3, seed=4), targets), loss)
    constant, least = training.best_constant()

    def value(z):
        return training.loss_fn(torch.as_tensor(z).expand(9, 2, 3), training.targets).item()

    found = minimize(value, np.zeros(3), method="Powell", options={"xtol": 1e-8, "ftol": 1e-12})
    assert least == pytest.approx(value(constant.numpy())) and least == pytest.approx(
        found.fun, abs=1e-6
    )
    with torch.no_grad():
        training.parameters[training.output_bias].copy_(constant)
        training.model.out.weight.zero_()
    assert training.mean_loss().item() == pytest.approx(least)


def test_a_key_that_never_sounds_has_finite_odds():
    x = frames(9, 2, 3)
    x[..., 1] = 0
    constant, _ = FrameTraining(polyphonic(), x).best_constant()
    assert constant[1].item() == pytest.approx(np.log(CLIP / (1 - CLIP)))


def test_a_loss_of_one_number_is_taken_as_it_is():
    x, y = frames(9, 2, 3), frames(9, 2, 3, seed=1)
    training = FrameTraining(model := Own(), (x, y), F.mse_loss)
    assert training.mean_loss().item() == pytest.approx(F.mse_loss(model.double()(x)[0], y).item())
    with pytest.raises(InvalidInputError, match="one number"):
        FrameTraining(Own(), ([x[:, 0], x[:4, 0]], [y[:, 0], y[:4, 0]]), F.mse_loss)


def test_a_bias_is_the_output_bias_only_where_it_is_added_to_every_output():
    assert FrameTraining(Own(), frames(5, 2, 3), "bernoulli").output_bias == "out.bias"
    model = Own(n=3)
    model.out = nn.Linear(3, 3, bias=False)
    assert FrameTraining(model, frames(5, 2, 3), "bernoulli").output_bias is None


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
@pytest.mark.parametrize(
    "x", [frames(9, 4, 88), torch.full((9, 4, 88), 0.5), 1e9 * frames(9, 4, 88)]
)
def test_recurrences_of_torch_are_recurrences_whatever_they_read(kind, x):
    model = Own(88, 32, 88, between=kind(88, 32))
    assert FrameTraining(model, (x, frames(9, 4, 88)), "bernoulli").output_bias == "out.bias"


IDS = torch.arange(12) * 5 % 7 % 4


@pytest.mark.parametrize("ids", [IDS.int(), IDS.int().numpy(), IDS.tolist(), [IDS.tolist()], IDS])
def test_ids_are_any_integers(ids):
    class Words(Own):
        def forward(self, x):
            return super().forward(nn.functional.one_hot(x, 4).double())

    training = FrameTraining(Words(4, 5, 4), ids, "categorical")
    torch.testing.assert_close(training.inputs[:, 0], IDS[:-1])


def symbols(n=2, **options):
    """An embedding, a GRU and an output."""
    return Own(n=n, K=4, between=nn.Sequential(nn.Embedding(4, 3), nn.GRU(3, 2, **options)))


def broken(value):
    model = polyphonic()
    nn.init.constant_(model.output.weight, value)
    return model


@for_each(
    ("model", "sequences", "loss", "said"),
    [
        (broken(torch.nan), frames(5, 3), None, "weights output.weight are NaN"),
        (polyphonic(), frames(5, 3) * torch.inf, None, "NaN or infinite"),
        (polyphonic(), frames(5, 4), None, "expected .*3"),
        (polyphonic(), frames(0, 3), None, "at least one step"),
        (polyphonic(), torch.ones(5, 3), None, "same at every frame"),
        (polyphonic(), [], None, "do not make a batch"),
        (polyphonic(), (frames(5, 3), frames(4, 3)), None, "a target for every frame"),
        (polyphonic(), 2 * frames(5, 3), None, "expected 0 to 1"),
        (polyphonic(), frames(5, 3), "hinge", "unknown loss"),
        (polyphonic(), frames(5, 3), lambda z, t: z.sum(-1) / 0, "expected a finite number"),
        (
            LanguageModel("gru", vocabulary_size=3, hidden_size=4),
            torch.tensor([1, 2, 3]),
            None,
            "out of bounds",
        ),
        (Own(), frames(5, 2, 3), None, "defines no loss"),
        (
            Own(),
            (frames(5, 2, 3), frames(5, 2, 4)),
            "squared",
            "4 numbers a frame and the outputs 3",
        ),
        (Own(), frames(5, 2, 3), lambda z, t: z[0], "expected one number"),
        (Own(between=nn.Linear(3, 4)), frames(5, 2, 3), "bernoulli", "is not a recurrence"),
        (
            Own(between=nn.LSTM(3, 4, batch_first=True)),
            frames(5, 2, 3),
            "bernoulli",
            "is batch_first",
        ),
        (
            Own(between=nn.GRU(3, 2, bidirectional=True)),
            frames(5, 2, 3),
            "bernoulli",
            "looks ahead",
        ),
        (
            symbols(4, bidirectional=True),
            torch.arange(12).view(6, 2) % 4,
            "categorical",
            "looks ahead",
        ),
        (
            symbols(batch_first=True),
            torch.arange(12).view(6, 2) % 4,
            "categorical",
            "is batch_first",
        ),
        (nn.Flatten(), frames(5, 2, 3), "bernoulli", "no weights"),
        (
            nn.Sequential(nn.Linear(3, 3), nn.Flatten()),
            frames(5, 2, 3),
            "bernoulli",
            r"expected outputs \(4, 2, K\)",
        ),
        (len, frames(5, 2, 3), "bernoulli", "expected a torch module"),
    ],
)
def test_bad_input_is_one_sentence(model, sequences, loss, said):
    with pytest.raises(InvalidInputError, match=said):
        FrameTraining(model, sequences, loss)


def test_a_model_that_keeps_a_graph_is_refused_in_a_sentence():
    model, frames = PolyphonicModel(hidden_size=2), torch.ones(3, 1, 88)
    model.kept = model(frames)
    with pytest.raises(InvalidInputError, match="PolyphonicModel cannot be copied"):
        FrameTraining(model, frames)


class Named(Own):
    """A user's network whose attributes have the names of ours."""

    def __init__(self):
        super().__init__()
        self.precision, self.kernel = 16, 3

    def forward(self, x):
        return super().forward(x.round(decimals=self.precision).roll(self.kernel, 0))


def test_attributes_of_a_users_module_that_are_named_like_ours_stay():
    torch.manual_seed(0)
    model, x = Named(), frames(6, 2, 3)
    for found in (SequenceMap(model, x[:, :1]), Watched(model)):
        assert (found.module.precision, found.module.kernel) == (16, 3)
