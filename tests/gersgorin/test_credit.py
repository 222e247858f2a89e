"""Credit over time is the brute-force gradient of every frame's loss in every state, and its lags
add up to the whole gradient.
"""

import copy
import json

import numpy as np
import pytest
import torch
from cases import assert_close, randomize
from gersgorin.analyses.credit import Unrolled
from gersgorin.analyses.supervised import Supervised
from tables import for_each
from taggers import Tagger
from torch import nn

from gersgorin import credit
from gersgorin.cli.main import main
from rhn.cells import RHN, RNN, from_torch
from rhn.checkpoints import save_checkpoint
from rhn.errors import InvalidInputError
from rhn.models import LanguageModel, PolyphonicModel

T = 6
MODELS = {
    "rhn": lambda: PolyphonicModel("rhn", hidden_size=4, depth=2, input_size=3, output_size=3),
    "dts-rnn": lambda: PolyphonicModel(
        "dts-rnn", hidden_size=4, depth=3, input_size=3, output_size=3
    ),
    "lstm": lambda: PolyphonicModel("lstm", hidden_size=4, input_size=3, output_size=3),
    "words": lambda: LanguageModel("gru", vocabulary_size=5, hidden_size=4, tied=True),
}
ALL = MODELS | {
    "stack": lambda: PolyphonicModel(
        "rhn", hidden_size=4, depth=2, layers=3, input_size=3, output_size=3
    ),
    "own": lambda: Loop(Wrapped()),
}


class Own(nn.Module):
    """A user's: the sequence in two windows, the state carried from one to the other."""

    def __init__(self, rnn, first=False):
        super().__init__()
        self.rnn, self.first, self.output = rnn, first, nn.Linear(4, 3)

    def forward(self, x):
        turned = (lambda v: v.transpose(0, 1)) if self.first else lambda v: v
        begin, state = self.rnn(turned(x[:2]))
        rest, _ = self.rnn(turned(x[2:]), state)
        return self.output(torch.cat((turned(begin), turned(rest))))


class Piled(nn.Module):
    """The layers of torch.nn's module, each as a cell of ours."""

    def __init__(self, theirs):
        super().__init__()
        self.cells = nn.ModuleList(from_torch(theirs, k) for k in range(theirs.num_layers))

    def forward(self, x, state=None):
        last = []
        for k, cell in enumerate(self.cells):
            x, after = cell(x, state and state[k])
            last.append(after)
        return x, last


class Loop(nn.Module):
    def __init__(self, rnn):
        super().__init__()
        self.rnn, self.output = rnn, nn.Linear(4, 3)

    def forward(self, x):
        state, outputs = None, []
        for x_t in x:
            state = self.rnn(x_t, state)
            outputs.append(self.output(state[0] if isinstance(state, tuple) else state))
        return torch.stack(outputs)


class Wrapped(nn.Module):
    """A user's step around one of our cells."""

    state_size = 4

    def __init__(self):
        super().__init__()
        self.inner, self.scale = RHN(3, 4, 2), nn.Parameter(torch.tensor([0.8]))

    def step(self, x, s):
        return self.scale * self.inner.step(x, s)

    def forward(self, x, s):
        return self.step(x, x.new_zeros(len(x), 4) if s is None else s)


def built(make):
    model = make().double()
    randomize(model)
    return model


def probe(model, *lead, seed=0):
    """(x, targets) of `lead` frames and sequences, the targets the next frames."""
    g = torch.Generator().manual_seed(seed)
    shape = (lead[0] + 1, *lead[1:])
    words = isinstance(model, LanguageModel)
    frames = (
        torch.randint(5, shape, generator=g)
        if words
        else (torch.rand(*shape, 3, generator=g) < 0.4).double()
    )
    frames[-1] = (4 if words else 1) - frames[-2]  # something changes, whatever is drawn
    return frames[:-1], frames[1:]


def brute_force(model, x, targets):
    """norms and the gradient of every lag by one autograd.grad for each loss, of a loop with
    weights of its own at every step.
    """
    words, cell = isinstance(model, LanguageModel), model.cells[0]
    names, weights = zip(*cell.named_parameters(), strict=True)
    own = [[w.detach().clone().requires_grad_() for w in weights] for _ in range(T)]
    s, states, losses = x.new_zeros(1, cell.state_size, dtype=torch.float64), [], []
    for t in range(T):
        x_t = model.embedding[x[t]] if words else x[t]
        s = torch.func.functional_call(
            _Step(cell), {f"cell.{k}": w for k, w in zip(names, own[t], strict=True)}, (x_t, s)
        )
        states.append(s)
        y = s[:, : cell.hidden_size]
        z = y @ model.embedding.T + model.output_bias if words else model.output(y)
        frame = (
            nn.functional.cross_entropy if words else nn.functional.binary_cross_entropy_with_logits
        )
        losses.append(frame(z, targets[t], reduction="sum"))
    norms, lags = (
        np.zeros((T, T)),
        torch.zeros(T, sum(w.numel() for w in weights), dtype=torch.float64),
    )
    for t2 in range(T):
        for t1 in range(t2 + 1):
            d_state, *d_weights = torch.autograd.grad(
                losses[t2], [states[t1], *own[t1]], retain_graph=True
            )
            norms[t2, t1] = d_state.norm()
            lags[t2 - t1] += torch.cat([d.flatten() for d in d_weights]) / T
    return norms, lags


class _Step(nn.Module):
    def __init__(self, cell):
        super().__init__()
        self.cell = cell

    def forward(self, x, s):
        return self.cell.step(x, s)


@pytest.mark.parametrize("name", MODELS)
def test_norms_and_lags_equal_brute_force_gradients(name):
    model = built(MODELS[name])
    x, targets = probe(model, T, 1)
    record = credit(model, x, targets)
    norms, lags = brute_force(model, x, targets)
    np.testing.assert_allclose(record.norms, norms, rtol=1e-10, atol=0)
    g = lags.sum(0)
    assert record.gradient_norm == pytest.approx(g.norm().item(), rel=1e-10)
    np.testing.assert_allclose(record.lag_norm, lags.norm(dim=1) / g.norm(), rtol=1e-10)
    np.testing.assert_allclose(record.lag_share, lags @ g / g.norm() ** 2, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(
        record.lost, (g - lags.cumsum(0)).norm(dim=1) / g.norm(), rtol=1e-9, atol=1e-14
    )
    assert (
        record.lost_beyond(2) == record.lost[2] and record.lost_beyond(35) == record.lost[-1] == 0
    )
    if isinstance(model, LanguageModel):
        own = model(x, targets=targets).nll
    else:
        own = model.nll(torch.cat([x, targets[-1:]]))
    assert record.loss == pytest.approx(own.mean().item(), rel=1e-12)


def gradients(model, sequences, loss):
    """The gradient of the mean loss in each parameter, by name."""
    problem = Supervised(model, *sequences, loss)
    parameters = problem.parameters
    found = torch.autograd.grad(problem.losses().mean(), [*parameters.values()])
    return dict(zip(parameters, found, strict=True))


@pytest.mark.parametrize("name", ALL)
def test_the_lags_add_up_to_the_gradient_of_the_models_own_forward(name):
    model = built(ALL[name])
    sequences, loss = probe(model, T, 2), None if name != "own" else "bernoulli"
    wanted = gradients(model, sequences, loss)
    run = Unrolled(Supervised(model, *sequences, loss))
    assert all(parameter.startswith(("cells.", "rnn.")) for parameter in run.parameters)
    g = run.gradient([each.sum(0) for each in run.adjoints()])
    assert_close(
        g,
        torch.cat([wanted[parameter].flatten() for parameter in run.parameters]),
        1e-12,
        "gradient",
    )
    assert len(g) == sum(
        p.numel() for name, p in model.named_parameters() if name.startswith(("cells.", "rnn."))
    )
    assert credit(model, *sequences, loss=loss).lag_share.sum() == pytest.approx(1, rel=1e-12)


@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.GRU, nn.LSTMCell, nn.GRUCell])
@for_each(("first", "layers"), [(False, 1), (True, 1), (True, 3)])
def test_torchs_own_modules_are_measured_as_our_cells_and_stay_as_they_were(kind, first, layers):
    single = issubclass(kind, nn.RNNCellBase)
    options = {} if single else {"batch_first": first, "num_layers": layers}
    theirs = built(lambda: (Loop if single else Own)(kind(3, 4, **options)))
    theirs.first = first and not single
    ours = Own(
        from_torch(theirs.rnn) if single or layers == 1 else Piled(theirs.rnn), first=theirs.first
    )
    ours.output = theirs.output
    before = copy.deepcopy(theirs.state_dict())
    got, wanted = (credit(model, *probe(model, T, 2), loss="bernoulli") for model in (theirs, ours))
    np.testing.assert_allclose(got.norms, wanted.norms, rtol=1e-9, atol=1e-15)
    assert type(theirs.rnn) is kind and all(
        torch.equal(v, before[k]) for k, v in theirs.state_dict().items()
    )


@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.GRU, nn.LSTMCell])
@for_each("trained", ["weight_hh", "bias_hh", "", "no bias"])
def test_the_gradient_is_in_the_trained_parameters_of_torchs_own_modules(kind, trained):
    single = issubclass(kind, nn.RNNCellBase)
    model = built(lambda: (Loop if single else Own)(kind(3, 4, bias=trained != "no bias")))
    for name, p in model.rnn.named_parameters():
        p.requires_grad_(trained == "no bias" or trained in name)
    x, targets = probe(model, T, 2)
    loss = nn.functional.binary_cross_entropy_with_logits(model(x), targets, reduction="sum") / (
        2 * T
    )
    weights = [p for p in model.rnn.parameters() if p.requires_grad]
    g = torch.cat([each.flatten() for each in torch.autograd.grad(loss, weights)])
    run = Unrolled(Supervised(model, x, targets, "bernoulli"))
    assert_close(run.gradient([each.sum(0) for each in run.adjoints()]), g, 1e-12, "gradient")
    assert credit(model, x, targets, loss="bernoulli").gradient_norm == pytest.approx(
        g.norm().item(), rel=1e-10
    )


def test_pieces_of_unequal_length_count_by_their_frames():
    model = built(MODELS["rhn"])
    pieces = [probe(model, T, seed=1), probe(model, T - 2, seed=2)]
    one, two = (credit(model, x, y) for x, y in pieces)
    both = credit(model, *map(list, zip(*pieces, strict=True)))
    short = slice(T - 2)
    np.testing.assert_allclose(
        both.norms[short, short],
        np.sqrt((one.norms[short, short] ** 2 + two.norms**2) / 2),
        rtol=1e-12,
    )
    np.testing.assert_allclose(both.norms[T - 2 :], one.norms[T - 2 :], rtol=1e-12)
    assert both.loss == pytest.approx((one.loss * T + two.loss * (T - 2)) / (2 * T - 2), rel=1e-12)


def test_without_a_gradient_there_are_no_shares():
    model = built(MODELS["rhn"])
    nn.init.zeros_(model.output.weight)
    record = credit(model, *probe(model, T, 1))
    assert record.gradient_norm == 0 and np.isnan(record.lag_share).all() and not record.norms.any()


class Silent(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Parameter(torch.ones(3))

    def forward(self, x):
        return self.a * x.cumsum(0)


class Twice(Wrapped):
    def __init__(self):
        super().__init__()
        self.inner = RNN(3, 4)  # whose next state depends on the last one, whatever its weights

    def step(self, x, s):
        return super().step(x, s)

    def forward(self, x, s):
        return self.step(x, self.step(x, x.new_zeros(len(x), 4) if s is None else s))


@for_each(
    ("model", "loss", "message"),
    [
        (
            Silent(),
            "bernoulli",
            "Silent has no cell of rhn.cells or torch.nn, and no other with step",
        ),
        (nn.Linear(3, 3), "bernoulli", "Linear has no cell of rhn.cells or torch.nn"),
        (len, "bernoulli", "expected a torch module"),
        (
            Own(nn.LSTM(3, 4)),
            lambda z, t: (z - t).square().mean(),
            "is one number for all frames: expected one for each",
        ),
        (Own(nn.LSTM(3, 4)), lambda z, t: z[0], r"gives \(2, 3\): expected \(T, B\)"),
        (Own(nn.LSTM(3, 4)), lambda z, t: z.sum(-1) / 0, "expected a finite number"),
        (Own(nn.LSTM(3, 4)), "hinge", "unknown loss 'hinge'"),
        (
            Loop(Twice()),
            "bernoulli",
            "rnn took 12 steps of states .* for 6 frames of 2 sequences: expected its forward "
            "to call step",
        ),
        (
            Own(nn.LSTM(3, 4)).requires_grad_(False),
            "bernoulli",
            "the recurrence has no trained parameter",
        ),
        (Loop(Wrapped()), None, "Loop defines no loss"),
    ],
)
def test_what_cannot_be_measured_is_said(model, loss, message):
    with pytest.raises(InvalidInputError, match=message):
        credit(model, *probe(model, T, 2), loss=loss)


class Backwards(nn.Module):
    """A recurrence along the first axis of x, whatever it is, and from its end to its beginning."""

    def __init__(self):
        super().__init__()
        self.rnn = nn.GRUCell(3, 3)

    def forward(self, x):
        state, states = None, []
        for frame in x.flip(0):
            state = self.rnn(frame, state)
            states.append(state)
        return torch.stack(states).flip(0)


@for_each("model", [Tagger(nn.GRU(3, 4, batch_first=True), 3), Backwards()])
def test_a_loss_that_reads_later_states_is_refused(model):
    x, targets = probe(model, T, T)
    with pytest.raises(InvalidInputError, match=f"{type(model).__name__} looks ahead"):
        credit(model, x, targets, loss="squared")


@for_each(
    ("x", "targets", "said"),
    [
        (torch.full((5, 3), torch.nan), torch.ones(5, 3), "NaN or infinite"),
        (torch.ones(5, 4), torch.ones(5, 3), "expected .*3"),
        (torch.ones(0, 3), torch.ones(0, 3), "at least one step"),
        ([], [], "do not make a batch"),
        (torch.ones(5, 3), torch.ones(4, 3), "a target for every frame"),
        ([torch.ones(5, 3), torch.ones(4, 3)], [torch.ones(5, 3)] * 2, "a target for every frame"),
        (torch.ones(5, 3), torch.full((5, 3), 2.0), "expected 0 to 1"),
        (torch.ones(5, 2, 3), torch.ones(5, 2, 4), "4 numbers a frame and the outputs 3"),
        (torch.ones(5, 2, 3), torch.ones(5, 2, 1), "1 numbers a frame and the outputs 3"),
    ],
)
def test_data_that_do_not_fit_are_one_sentence(x, targets, said):
    with pytest.raises(InvalidInputError, match=said):
        credit(built(MODELS["rhn"]), x, targets)


def test_a_model_that_cannot_be_copied_or_run_is_one_sentence():
    model, ids = built(MODELS["words"]), torch.tensor([1, 2, 3])
    with pytest.raises(InvalidInputError, match="out of range"):
        credit(model, ids + 3, ids)
    nn.init.constant_(model.output_bias, torch.nan)
    with pytest.raises(InvalidInputError, match="weights output_bias are NaN"):
        credit(model, ids, ids)
    model = built(MODELS["rhn"])
    model.kept = model(torch.ones(3, 1, 3).double())
    with pytest.raises(InvalidInputError, match="PolyphonicModel cannot be copied"):
        credit(model, torch.ones(3, 3), torch.ones(3, 3))


@pytest.mark.parametrize("kind", [torch.Tensor.int, lambda x: x.int().numpy(), torch.Tensor.tolist])
def test_ids_are_any_integers(kind):
    class Reader(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = nn.GRU(5, 5)

        def forward(self, x):
            return self.rnn(nn.functional.one_hot(x, 5).double())

    ids = torch.arange(7) * 3 % 5
    problem = Supervised(Reader(), kind(ids[:-1]), kind(ids[1:]), "categorical")
    assert torch.equal(problem.inputs[:, 0], ids[:-1])
    assert torch.equal(problem.targets[:, 0], ids[1:])


def test_the_command_predicts_the_next_frames_of_a_checkpoint(own_folder, capsys):
    model = built(MODELS["rhn"]).float()
    x, targets = probe(model, T, 2)
    np.save("x.npy", torch.cat([x, targets[-1:]]).transpose(0, 1).numpy())
    save_checkpoint("model.safetensors", model)
    words = ["--checkpoint", "model.safetensors", "--input", "x.npy", "--json", "--force"]
    assert main(["credit", *words]) == 0
    found = json.loads(capsys.readouterr().out)["credit"]
    wanted = credit(model, x, targets)
    assert found["lag_share"] == pytest.approx(wanted.lag_share.tolist())
    assert found["loss_unit"] == "nats a frame"
    assert found["about"].endswith("x.npy, 2 sequences of 7 steps, 3 numbers each")
    words = ["--cell", "rhn", "--depth", "2", "--hidden-size", "4", "--input", "x.npy"]
    assert main(["credit", *words, "--json", "--force"]) == 0
    found = json.loads(capsys.readouterr().out)["credit"]
    assert found["loss_unit"].startswith("squared error")
    assert found["title"] == "rhn, depth 2, 4 units on sequence x.npy"


class Written(nn.Module):
    """A fast and a slow state in a loop, as a tuple or side by side."""

    def __init__(self, joint):
        super().__init__()
        self.joint, self.W, self.output = joint, nn.Linear(5, 2), nn.Linear(2, 3)
        self.cell = self._Joint(self.W) if joint else self._Pair(self.W)

    class _Pair(nn.Module):
        state_size = 2, 2

        def __init__(self, W):
            super().__init__()
            self.W = W

        def forward(self, x, state):
            h, a = state
            h = torch.tanh(self.W(torch.cat((x, h), 1)) - a)
            return h, (h, 0.9 * a + 0.1 * h)

    class _Joint(_Pair):
        state_size = 4

        def step(self, x, s):
            h, a = s.chunk(2, -1)
            h = torch.tanh(self.W(torch.cat((x, h), -1)) - a)
            return torch.cat((h, 0.9 * a + 0.1 * h), -1)

        def forward(self, x, s):
            s = self.step(x, s)
            return s[:, :2], s

    def forward(self, x):
        zeros, seen = x.new_zeros(x.shape[1], 2), []
        state = torch.cat((zeros, zeros), 1) if self.joint else (zeros, zeros)
        for frame in x:
            h, state = self.cell(frame, state)
            seen.append(self.output(h))
        return torch.stack(seen)


def test_a_tuple_of_tensors_has_the_credit_of_the_same_numbers_side_by_side():
    torch.manual_seed(0)
    joint, pair, x, y = Written(True), Written(False), torch.randn(T, 2, 3), torch.randn(T, 2, 3)
    pair.load_state_dict(joint.state_dict())
    one, other = (credit(model, x, y, loss="mse") for model in (joint, pair))
    np.testing.assert_allclose(other.norms, one.norms, rtol=1e-12)
    np.testing.assert_allclose(other.lag_share, one.lag_share, atol=1e-12)
    assert other.gradient_norm == pytest.approx(one.gradient_norm, rel=1e-12)
    pair.cell.register_forward_hook(lambda module, args, returned: (2 * returned[0], returned[1]))
    with pytest.raises(InvalidInputError, match="the output of _Pair is no part of its state"):
        credit(pair, x, y, loss="mse")
