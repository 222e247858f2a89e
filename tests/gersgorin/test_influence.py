"""The influence of inputs is the norm of the derivatives of outputs, or of losses, in them,
whatever the model is.
"""

import json

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.legend import Legend
from tables import for_each
from test_layouts import Loop
from torch import nn

import gersgorin
from gersgorin.analyses import influence as analysis
from gersgorin.analyses.influence import Influence
from gersgorin.analyses.steps import Products
from gersgorin.cli.main import main
from gersgorin.network.sequence_map import ModelWithData, SequenceMap
from rhn.cells import RHN
from rhn.errors import InvalidInputError

T, M = 7, 3


class Attention(nn.Module):
    """Causal self-attention, (B, T, m)."""

    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(M, 1, batch_first=True)

    def forward(self, x):
        mask = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).triu(1)
        return self.attention(x, x, x, attn_mask=mask)[0]


class OwnLoop(nn.Module):
    """A loop with a norm between the steps of its cell, (T, B, m)."""

    def __init__(self):
        super().__init__()
        self.cell, self.norm = nn.GRUCell(M, 5), nn.LayerNorm(5)

    def forward(self, x):
        h, outputs = x.new_zeros(x.shape[1], 5), []
        for x_t in x:
            h = self.norm(self.cell(x_t, h))
            outputs.append(h)
        return torch.stack(outputs)


class Scan(nn.Module):
    """A linear recurrence h = a h + b x with the same a for all units, (B, T, m); no submodule says
    so.
    """

    def __init__(self, a=0.8):
        super().__init__()
        self.a = nn.Parameter(torch.tensor(a, dtype=torch.float64))

    def forward(self, x):
        h, outputs = torch.zeros_like(x[:, 0]), []
        for t in range(x.shape[1]):
            h = self.a * h + x[:, t]
            outputs.append(h)
        return torch.stack(outputs, 1)


class InPlace(nn.Module):
    """A module that changes its input and its outputs in place, (B, T, m)."""

    def __init__(self):
        super().__init__()
        self.rnn = nn.GRU(M, 5, batch_first=True)

    def forward(self, x):
        o = self.rnn(x.mul_(2))[0]
        o[:, 0] = 0
        return o


class Stateful(nn.Module):
    """A module that keeps its state from call to call, (B, T, m)."""

    def __init__(self):
        super().__init__()
        self.cell = nn.GRUCell(M, 5)
        self.register_buffer("h", torch.zeros(1, 5))

    def forward(self, x):
        outputs = []
        for t in range(x.shape[1]):
            self.h = self.cell(x[:, t], self.h.expand(len(x), -1))
            outputs.append(self.h)
        return torch.stack(outputs, 1)


class WithPositions(nn.Module):
    """A model of ids of tokens (B, T) that looks its positions up first, and computes with time
    first.
    """

    def __init__(self):
        super().__init__()
        self.positions, self.embedding, self.rnn = (
            nn.Embedding(T, 4),
            nn.Embedding(9, 4),
            nn.GRU(8, 5),
        )

    def forward(self, ids):
        return {"logits": self.rest(self.embedding(ids.transpose(0, 1)))}

    def rest(self, e):
        p = self.positions(torch.arange(len(e)))[:, None]
        return self.rnn(torch.cat((e, p), -1))[0].transpose(0, 1)


def brute_force(function, x):
    """||d o[t2] / d x[t1]||_F from the whole Jacobian; function (T, m) -> (T, k)."""
    J = torch.autograd.functional.jacobian(function, x)  # (T, k, T, m)
    return J.square().sum((1, 3)).sqrt().numpy()


CASES = {
    "torch.nn, several layers": (
        lambda: nn.LSTM(M, 5, num_layers=2),
        lambda f, x: f(x[:, None])[0][:, 0],
        1,
    ),
    "own loop": (OwnLoop, lambda f, x: f(x[:, None])[:, 0], 1),
    "scan": (Scan, lambda f, x: f(x[None])[0], 0),
    "attention": (Attention, lambda f, x: f(x[None])[0], 0),
    "our cell": (lambda: RHN(M, 5, 2, init="gaussian:0.3"), lambda f, x: f(x[:, None])[0][:, 0], 1),
    "changes in place": (InPlace, lambda f, x: f(x[None].clone())[0], 0),
    "kept state": (Stateful, lambda f, x: f(x[None])[0], 0),
}


@for_each("name", CASES)
def test_the_influence_is_that_of_the_whole_jacobian(name):
    build, call, axis = CASES[name]
    module, x = build(), torch.randn(T, M, dtype=torch.float64)
    found = gersgorin.influence(module, x.unsqueeze(axis))
    module = module.double()
    np.testing.assert_allclose(
        found.influence, brute_force(lambda x: call(module, x), x), rtol=1e-9, atol=1e-14
    )
    assert found.probes == 0 and not found.error.any() and found.ahead == 0


def test_embeddings_of_positions_are_no_inputs():
    module, ids = WithPositions(), torch.tensor([3, 1, 4, 1, 5, 8, 2])
    found = gersgorin.influence(module, ids[None], batch_axis=0)
    module.double()
    e = module.embedding(ids).detach()
    np.testing.assert_allclose(
        found.influence, brute_force(lambda e: module.rest(e[:, None])[0], e), rtol=1e-9
    )


def test_a_linear_recurrence_has_its_half_life_effective_length_and_shares():
    a, steps = 0.8, 80
    found = gersgorin.influence(Scan(a).double(), torch.randn(1, steps, 2))
    np.testing.assert_allclose(found.by_lag, 2**0.5 * a ** np.arange(steps), rtol=1e-6)
    assert found.half_life == pytest.approx(np.log(2) / -np.log(a), rel=1e-6)
    assert found.effective_length == pytest.approx(1 / (1 - a), rel=1e-6)
    assert found.share_beyond(4) == pytest.approx(a**10, rel=1e-6)


def test_a_module_that_reads_both_ways_is_said_to():
    found = gersgorin.influence(nn.GRU(M, 4, bidirectional=True), torch.randn(T, M))
    assert 0 < found.ahead < 1 and "Later inputs have" in found.summary()


def test_the_estimate_is_within_its_errors():
    x = torch.randn(12, M, dtype=torch.float64)
    module = nn.GRU(M, 40)
    exact, found = gersgorin.influence(module, x), gersgorin.influence(module, x, probes=24)
    causal = np.tril_indices(12)
    z = ((found.influence - exact.influence)[causal]) / found.error[causal]
    assert 0.6 < np.sqrt(np.mean(z**2)) < 1.6 and np.abs(z).max() < 6
    z = (found.by_lag - exact.by_lag) / found.by_lag_error
    assert np.abs(z).max() < 5 and "The standard error of a lag is at most" in found.summary()


def test_long_runs_are_estimated_without_being_asked(monkeypatch):
    monkeypatch.setattr(analysis, "EXACT", 100)
    assert gersgorin.influence(nn.RNN(M, 20), torch.randn(9, M)).probes == analysis.PROBES


def test_the_module_is_left_as_it_was():
    module, x = nn.Sequential(nn.Linear(M, M), nn.Dropout(0.5)), torch.randn(T, M)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    first, again = (gersgorin.influence(module, x).influence for _ in range(2))
    assert module.training and all(
        p.requires_grad and p.dtype == torch.float32 for p in module.parameters()
    )
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())
    np.testing.assert_array_equal(first, again)


@pytest.mark.parametrize(("batch_first", "read"), [(False, (5, 20)), (True, (20, 5))])
def test_a_result_says_how_its_sequences_were_read(batch_first, read):
    module = nn.LSTM(M, 2, batch_first=batch_first)
    found = gersgorin.influence(module, torch.randn(5, 20, M))
    steps, sequences = read
    assert found.about == f"{sequences} sequences of {steps} steps"
    assert gersgorin.influence(module, torch.randn(20, M)).about == ""


def test_the_command_measures_a_module_and_a_cell(tmp_path, own_folder, monkeypatch, capsys):
    np.save("x.npy", np.random.default_rng(0).normal(size=(T, M)))
    (tmp_path / "attending.py").write_text(
        "from torch import nn\n\ndef both(input_size):\n    return nn.GRU(input_size, 4, "
        "bidirectional=True)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert main(["influence", "--module", "attending:both", "--input", "x.npy", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (
        np.shape(found["influence"]["influence"]) == (T, T)
        and found["influence"]["half_life"] is not None
    )
    small = ["--cell", "lstm", "--hidden-size", "4", "--steps", "9"]
    assert main(["influence", *small, "--probes", "3", "--output", "m.png"]) == 0
    assert (
        "falls to half within" in capsys.readouterr().out
        and (tmp_path / "m.png").stat().st_size > 0
    )


def test_the_map_tries_the_modules_own_precision():
    class Single(nn.Module):
        def forward(self, x):
            if x.dtype != torch.float32:
                raise TypeError("only float32")
            return x.cumsum(0)

    assert SequenceMap(ModelWithData(model=Single(), x=torch.randn(T, M))).outputs.dtype == (
        torch.float32
    )


def test_one_output_of_a_sequence_is_that_of_its_last_step():
    module, x = Loop().double(), torch.randn(1, T, M).double()
    found = gersgorin.influence(module, x)
    slopes = brute_force(lambda x: module(x[None]), x[0])
    np.testing.assert_allclose(found.influence, slopes, rtol=1e-12)
    np.testing.assert_allclose(found.by_lag, slopes[0, ::-1], rtol=1e-12)
    (curve,) = found.figure().axes  # no heat map of one row
    assert not curve.images and (np.array(curve.get_xticks()) % 1 == 0).all()
    assert curve.get_xlabel() == "steps before the last" and found.ahead == 0


@for_each("name", ["rnn", "cell"])
def test_the_outputs_of_a_part_count_while_the_module_reads_x(name):
    class Classifier(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn, self.cell, self.head = (
                nn.GRU(M, 4, batch_first=True),
                nn.GRUCell(4, 4),
                nn.Linear(4, 2),
            )

        def forward(self, x):  # (T, B, m)
            h = None
            for e in self.rnn(x.transpose(0, 1))[0].transpose(0, 1):
                h = self.cell(e, h)
            return self.head(h)

    model, x = Classifier(), torch.randn(T, 1, M)
    found = gersgorin.influence(model, x, submodule=name, batch_axis=1)
    assert (
        found.influence.shape == (T, T)
        and not np.triu(found.influence, 1).any()
        and found.by_lag.all()
    )
    if name == "rnn":
        np.testing.assert_allclose(
            found.influence, gersgorin.influence(model.rnn, x[:, 0]).influence, rtol=1e-12
        )


def test_reach_is_the_share_of_the_influence_from_each_lag_on_and_zeros_are_named():
    r, T = 1e-40, 12
    lags = np.arange(T)[:, None] - np.arange(T)
    found = Influence(
        influence=np.where(lags >= 0, r ** np.maximum(lags, 0.0), 0.0), error=np.zeros((T, T))
    )
    assert found.reach[0] == 1 and found.reach[1] == pytest.approx(r, rel=1e-12)
    assert "from 8 steps back on" in found.summary()  # 1e-320 is subnormal
    even = Influence(influence=np.ones((1, 4)), error=np.zeros((1, 4)))
    assert (
        even.reach == pytest.approx(np.sqrt([1, 0.75, 0.5, 0.25])) and "zero" not in even.summary()
    )


def step_back(lags, r):
    """The influence r^k of an input k steps back, (T, T)."""
    k = np.arange(lags)[:, None] - np.arange(lags)
    return np.where(k >= 0, float(r) ** np.maximum(k, 0), 0.0)


def test_growth_has_a_doubling_time_and_no_half_life():
    found = Influence(influence=step_back(9, 2), error=np.zeros((9, 9)))
    assert found.doubling_time == pytest.approx(1) and found.half_life == np.inf
    words = "The influence of an input is largest 8 steps back."
    first, second = found.sentences()
    assert first == words and second == "Up to lag 8 it doubles every 1 step."
    falls = Influence(influence=step_back(9, 0.5), error=np.zeros((9, 9)))
    assert np.isnan(falls.doubling_time) and falls.half_life == pytest.approx(1)


def test_shares_of_lags_and_of_parts_of_a_sequence_add_up_to_one():
    found = Influence(influence=step_back(20, 1), error=np.zeros((20, 20)))
    assert found.share == pytest.approx(np.full(20, 1 / 20))
    wanted = np.arange(20, 0, -1).reshape(10, 2).sum(1) / 210
    assert found.parts == pytest.approx(wanted) and found.share_beyond(9) == pytest.approx(0.5)


def test_a_class_of_minus_100_has_no_loss():
    model = nn.GRU(3, 4, batch_first=True).double()
    x, y = torch.randn(2, 6, 3), torch.tensor([[0, 1, 2, 3, -100, -100], [-100, 1, 0, 3, 2, 1]])

    def torchs(outputs, y):
        return nn.functional.cross_entropy(outputs.transpose(1, 2), y, reduction="none")

    found = gersgorin.influence(model, x, of="categorical", y=y)
    np.testing.assert_allclose(
        found.influence, gersgorin.influence(model, x, of=torchs, y=y).influence, atol=1e-12
    )


def test_a_step_reads_an_array_of_numpy():
    x = np.ones((5, 3))
    found, same = (
        gersgorin.influence(lambda x, s: 0.5 * s + x.sum(), given, state_size=2)
        for given in (x, torch.from_numpy(x))
    )
    np.testing.assert_array_equal(found.influence, same.influence)


def test_only_lags_with_influence_count_for_the_law_of_a_fall():
    def delayed(*gains):
        lags = np.subtract.outer(np.arange(30), np.arange(30))
        influence = sum(gain * (lags == 3 + k) for k, gain in enumerate(gains))
        return Influence(influence=1.0 * influence, error=np.zeros((30, 30))).summary()

    assert "whether it falls" not in delayed(1.0)
    assert "\n4 lags do not tell whether" in delayed(1.0, 0.5, 0.3, 0.1)


def test_several_sequences_have_the_root_mean_square_of_each():
    torch.manual_seed(0)
    module, x = nn.LSTM(M, 5, batch_first=True), torch.randn(3, T, M)
    whole, each = gersgorin.influence(module, x), [gersgorin.influence(module, s) for s in x]
    squares = np.mean([np.square(one.influence) for one in each], 0)
    np.testing.assert_allclose(whole.influence, np.sqrt(squares), rtol=1e-10)


@for_each("last", [False, True])
def test_packed_sequences_count_where_they_have_steps(last):
    class Packed(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = nn.GRU(M, 5)

        def forward(self, x):
            outputs, state = self.rnn(x)
            return state[0] if last else outputs

    torch.manual_seed(0)
    module, pieces = Packed(), [torch.randn(n, M) for n in (4, T)]
    packed = nn.utils.rnn.pack_sequence(pieces, enforce_sorted=False)
    found = gersgorin.influence(module, packed)
    short, long = (gersgorin.influence(module, piece[:, None]).influence for piece in pieces)
    rows, end = (slice(1), slice(T - 4, T)) if last else (slice(4), slice(4))
    wanted = long.copy()
    wanted[rows, end] = np.sqrt((long[rows, end] ** 2 + short**2) / 2)
    np.testing.assert_allclose(found.influence, wanted, rtol=1e-9)


def test_an_influence_of_nan_says_so():
    found = Influence(influence=np.full((4, 4), np.nan), error=np.zeros((4, 4)))
    assert [*found.sentences()] == ["The influence of an input is not known: it has NaN."]


def test_outputs_of_unknown_padding_are_counted_and_said():
    class Masked(nn.Module):
        def __init__(self):
            super().__init__()
            self.out = nn.Linear(M, 5)

        def forward(self, x, mask):
            return self.out(x).cumsum(1) * mask[..., None]

    torch.manual_seed(0)
    model, x, mask = Masked(), torch.randn(2, T, M), torch.ones(2, T)
    mask[:, -3:] = 0
    words = "6 outputs without influence of any input (up to rounding), counted as 0: if this is"
    for options in ({}, {"feature": 0}, {"probes": 3}):
        found = gersgorin.influence(model, (x, mask), batch_axis=0, **options)
        assert found.without == 6 and str(found).startswith(words)
    found = gersgorin.influence(model, (x[:1], mask[:1] * 0 + 1))
    assert found.without == 0 and "padding" not in str(found)


def test_further_inputs_are_given_in_a_tuple_or_by_name():
    class Weighted(nn.Module):
        def forward(self, x, weights, times=1):
            return times * (weights * x).cumsum(0)

    x, weights = torch.randn(T, M), torch.full((T, M), 2.0)
    one = gersgorin.influence(Weighted(), (x, weights)).influence
    named = gersgorin.influence(Weighted(), {"x": x, "weights": weights, "times": 3}).influence
    np.testing.assert_allclose(one, np.tril(np.full((T, T), 2 * M**0.5)))
    np.testing.assert_allclose(named, 3 * one)


def test_a_loss_of_one_number_has_one_row():
    torch.manual_seed(0)
    model, x = nn.RNN(M, M).double(), torch.randn(T, M, dtype=torch.float64)
    found = gersgorin.influence(model, x[:-1], of=nn.MSELoss(), y=x[1:])
    leaf = x[:-1].clone().requires_grad_()
    (slopes,) = torch.autograd.grad(nn.functional.mse_loss(model(leaf)[0], x[1:]), leaf)
    np.testing.assert_allclose(found.influence, slopes.norm(dim=1)[None], rtol=1e-12)
    assert found.of == "MSELoss" and "gradient of the loss" in next(found.sentences())


def test_the_command_measures_a_loss_on_the_next_frames(own_folder, capsys):
    np.save("x.npy", np.random.default_rng(0).normal(size=(2, T, M)))
    words = ["--cell", "gru", "--hidden-size", "4", "--input", "x.npy", "--json"]
    assert main(["influence", *words, "--of", "squared"]) == 0
    found = json.loads(capsys.readouterr().out)["influence"]
    assert np.shape(found["influence"]) == (T - 1, T - 1) and found["of"] == "squared"
    assert found["title"] == "gru, 4 units on sequence x.npy"


def test_a_figure_shows_a_step_a_limit_and_no_legend():
    found = gersgorin.influence(nn.GRU(M, 5), torch.randn(T, M))
    ax = found.plot(step=3, limit=2, legend=False)
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), found.influence[3, 3::-1])
    assert ax.get_ylim()[1] == 2 and not ax.figure.findobj(Legend)
    with pytest.raises(InvalidInputError, match="step is 7: expected 0 to 6"):
        found.plot(step=T)


def test_the_influence_of_single_numbers_adds_up_to_that_of_an_input():
    x = torch.randn(5, 7, 3, dtype=torch.float64)
    model = nn.GRU(3, 4, batch_first=True).double()
    whole = gersgorin.influence(model, x)
    each = [gersgorin.influence(model, x, feature=k).influence for k in range(3)]
    np.testing.assert_allclose(np.sqrt(np.square(each).sum(0)), whole.influence, rtol=1e-10)
    leaf = x.clone().requires_grad_()
    slopes = [
        torch.autograd.grad(o, leaf, retain_graph=True)[0] for o in model(leaf)[0][:, -1].sum(0)
    ]
    expected = torch.stack(slopes)[..., 1].square().sum((0, 1)).div(5).sqrt()
    np.testing.assert_allclose(each[1][-1], expected, rtol=1e-10)
    assert "the root mean square over 5 sequences" in str(whole)
    one = gersgorin.influence(model, x, feature=1)
    assert "influence of an input (feature 1, counted from 0)" in one.finding
    with pytest.raises(InvalidInputError, match="an input has 3 numbers, expected 0 to 2"):
        gersgorin.influence(model, x, feature=3)


def test_an_influence_that_ends_halves_where_it_is_below_half():
    by_lag = np.array([0.2, 1.0, 0.8, 0.6, 0.0, 0.0])  # the largest one step back, below half at 4
    found = Influence(influence=by_lag[::-1][None], error=np.zeros((1, 6)))
    assert found.half_life == 3
    assert "largest 1 step back" in next(found.sentences())
    even = Influence(influence=np.array([[0, 0, 1.0, 1.0, 1.0]]), error=np.zeros((1, 5)))
    assert next(even.sentences()) == "The influence of an input falls to half within 3 steps."


def test_rounding_of_later_inputs_is_not_told_and_masked_frames_are_named():
    weights = torch.ones(6, 6).tril().double() + 1e-15 * torch.ones(6, 6).triu(1).double()
    found = gersgorin.influence(lambda x: weights @ x, torch.ones(6, 1).double())
    assert found.ahead > 0 and "Later inputs" not in found.summary()
    y = torch.randint(3, (2, 6))
    y[:, :2] = -100  # not at the end: the frames are no padding
    model = nn.GRU(2, 3, batch_first=True)
    found = gersgorin.influence(model, torch.randn(2, 6, 2), of="cross_entropy", y=y, batch_axis=0)
    assert found.without == 4
    words = "4 losses without influence of any input (up to rounding), counted as 0: masked frames"
    assert str(found).startswith(f"{words} have no loss") and "(x, lengths)" in next(
        found.sentences()
    )


def test_masked_frames_of_one_sequence_are_said_to_count_as_0():
    """By autograd: the loss of a masked frame has no gradient in any input."""
    torch.manual_seed(0)
    gru, x, y = nn.GRU(3, 4, batch_first=True), torch.randn(1, 6, 3), torch.randint(4, (1, 6))
    y[:, :2] = -100
    found = gersgorin.influence(lambda x: gru(x)[0], x, of="categorical", y=y)
    given = x.clone().requires_grad_()
    losses = nn.functional.cross_entropy(gru(given)[0][0], y[0], reduction="none")
    assert (
        not torch.autograd.grad(losses[:2].sum(), given)[0].any() and not found.influence[:2].any()
    )
    words = "2 losses without influence of any input (up to rounding), counted as 0: masked frames"
    assert next(found.sentences()) == f"{words} have no loss."
    assert not any("2 losses" in note for note in found.notes())


class Both(nn.Module):
    """A model that returns its last state and its outputs, in a tuple or a dictionary."""

    def __init__(self, as_dict):
        super().__init__()
        self.rnn, self.head, self.as_dict = nn.GRU(3, 6), nn.Linear(6, 2), as_dict

    def forward(self, x):
        states, last = self.rnn(x)
        found = {"last": last, "outputs": self.head(states)}
        return found if self.as_dict else tuple(found.values())


@for_each(("as_dict", "name"), ((False, "1"), (True, "'last'")))
def test_the_measured_one_of_several_outputs_is_named(as_dict, name):
    model, x = Both(as_dict).double(), torch.randn(10, 1, 3).double()
    found = gersgorin.influence(model, x)
    J = torch.autograd.functional.jacobian(lambda x: model.rnn(x)[1], x)  # (1, 1, 6, 10, 1, 3)
    np.testing.assert_allclose(found.influence[0], J.square().sum((0, 1, 2, 4, 5)).sqrt())
    assert f"Output {name} of 2 of the model is measured." in found.notes()
    y = torch.zeros(1, 1, 6).double()
    loss = gersgorin.influence(model, x, of=lambda o, y: (o - y).square().sum(), y=y)
    assert f"Output {name} of 2 of the model goes into the loss." in loss.notes()


@for_each("model", (nn.LSTM(3, 4), RHN(3, 4), nn.Sequential(nn.Linear(3, 2))))
def test_no_output_is_named_if_there_is_one_or_if_states_follow(model):
    found = gersgorin.influence(model, torch.randn(10, 1, 3))
    assert found.output == "" and "of the model" not in found.summary()


class Filter(nn.Module):
    """Outputs sum_k w_k x[t - k], whose influence at lag k is |w_k|."""

    def __init__(self, w):
        super().__init__()
        self.w = nn.Parameter(torch.from_numpy(w))

    def forward(self, x):
        lag = torch.arange(x.shape[1])[:, None] - torch.arange(x.shape[1])
        return torch.where(lag >= 0, self.w[lag.clamp(0)], 0.0) @ x


@pytest.mark.parametrize(
    ("w", "words", "not_said"),
    [
        (
            np.where(np.isin(np.arange(60), [0, 45]), 1.0, 1e-3),
            "falls to half within 1 step, and is above half again as late as lag 45 of 59",
            "do not tell",
        ),
        (1.3 ** np.minimum(np.arange(60.0), 10), "at all lags from 8 to 59", "do not tell"),
        (np.full(60, 0.3), "is the same at all 60 lags", "do not tell"),
        (
            np.where(np.arange(60) % 2, 0.0, 0.9 ** np.arange(60)),
            "it is zero up to rounding at 30 of 60 lags",
            "steps back on",
        ),
    ],
)
def test_the_words_fit_influences_that_do_not_fall_steadily(w, words, not_said):
    found = gersgorin.influence(Filter(w), torch.ones(1, 60, 1, dtype=torch.float64))
    np.testing.assert_allclose(found.by_lag, np.abs(w), rtol=1e-12)
    said = " ".join(found.sentences())
    assert words in said.replace("It is", "it is") and not_said not in said


def of_weights(w):
    """The influence |w_k| at lag k."""
    x = torch.ones(1, len(w), 1, dtype=torch.float64)
    return gersgorin.influence(Filter(np.array(w, dtype=float)), x)


def hidden_points(line):
    """The points of a line whose value is finite, but whose colour is not in the picture."""
    ax, canvas = line.axes, FigureCanvasAgg(line.get_figure(root=True))
    canvas.draw()
    picture, hidden = np.asarray(canvas.buffer_rgba())[::-1, :, :3] / 255, []
    for x, y in np.column_stack(line.get_data()).astype(float):
        column, row = np.round(ax.transData.transform((x, y))) if np.isfinite(y) else (-1, -1)
        near = picture[int(row) - 2 : int(row) + 3, int(column) - 2 : int(column) + 3]
        if np.isfinite(y) and not (np.abs(near - to_rgb(line.get_color())) < 0.1).all(-1).any():
            hidden.append(x)
    return hidden


ZEROS = np.full(3, -np.inf)  # logarithms
FIGURES = {
    "an echo": lambda: of_weights(np.eye(60)[7]),
    "every third lag": lambda: of_weights(0.8 ** np.arange(60) * (np.arange(60) % 3 == 0)),
    "lag 0": lambda: of_weights(np.eye(20)[0]),
    "two lags": lambda: of_weights(np.isin(np.arange(50), (0, 39))),
    "far below": lambda: of_weights(np.where(np.arange(20) % 19, 0, 1e-30) + np.eye(20)[5]),
    "products of zero": lambda: Products(log_norm=ZEROS, log_norm_back=ZEROS),
}


@for_each("name", FIGURES)
def test_each_positive_value_is_visible_in_the_figure(name):
    found = FIGURES[name]()
    ax = found.figure().axes[0]
    curves = [line for line in ax.lines if len(line.get_xdata()) > 2]
    assert [hidden_points(curve) for curve in curves] == [[]] * len(curves)
    if isinstance(found, Influence):
        np.testing.assert_array_equal(np.nan_to_num(curves[0].get_ydata()), found.by_lag)
        assert ax.get_xlim()[1] == len(found.by_lag) - 1


def test_an_influence_of_zero_is_written_into_its_panel():
    ahead = gersgorin.influence(
        lambda x: torch.cat((x[:, 1:], 0 * x[:, :1]), 1), torch.ones(1, 50, 1), batch_axis=0
    )
    for found in (of_weights(np.zeros(50)), ahead):
        (text,) = found.figure().axes[0].texts
        assert "zero" in text.get_text()
        assert found.figure().axes[0].get_xlim() == (0, 49)


@for_each("T", (10, 20, 50, 51))
def test_an_influence_of_exactly_half_has_fallen_to_half(T):
    found = of_weights([1, *[0.5] * (T - 1)])
    assert found.half_life == 1
    assert found.finding == "The influence of an input falls to half within 1 step"
    inverse = of_weights(1 / np.arange(1, T + 1))
    assert inverse.half_life == pytest.approx(1, abs=1e-9) and inverse.half_life <= 1


def test_an_influence_of_zero_has_no_half_life():
    assert np.isnan(of_weights(np.zeros(9)).half_life)


def above_half(w):
    """The lags at which |w| is above half of its largest value."""
    return np.flatnonzero(np.abs(w) > np.abs(w).max() / 2 + 1e-9)


RISES = {  # above half again and again
    "alternating": np.tile([1, 0.4], 25),
    **{f"cosine {T}": np.cos(0.3 * np.arange(T)) for T in (18, 58, 60, 64, 66, 100)},
    "two echoes": np.eye(50)[0] + 0.9 * np.eye(50)[[20, 40]].sum(0),
}


@for_each("name", RISES)
def test_no_half_life_is_known_of_an_influence_that_may_rise_again(name):
    w = RISES[name]
    found, last = of_weights(w), above_half(w)[-1]
    assert np.isinf(found.half_life) and found.derived()["half_life"] == np.inf
    first = np.setdiff1d(np.arange(len(w)), above_half(w))[0]
    fall = f"falls to half within {first} step{'s' * int(first > 1)}"
    words = f"{fall}, and is above half again as late as lag {last} of {len(w) - 1}"
    assert found.finding == f"The influence of an input {words}"
    assert not any("half at lag" in line.get_label() for line in found.plot().lines)


def test_a_later_echo_is_told_beside_the_largest_influence():
    found = of_weights(np.eye(50)[5] + 0.8 * np.eye(50)[45])
    assert np.isinf(found.half_life)
    rise = "it is 0 at lag 0 and largest, 1, at lag 5"
    told = f"{rise}; it is above half of this again as late as lag 45"
    assert f"{told} of 49" in " ".join(found.notes()).replace("It is 0", "it is 0")


@for_each("period", (3, 4, 6))
def test_an_influence_that_dies_out_in_waves_has_a_half_life(period):
    w = 0.9 ** np.arange(60) * np.cos(np.pi * np.arange(60) / period)
    found, last = of_weights(w), above_half(w)[-1]
    assert last < found.half_life <= last + 1
    words = f"and stays at or below half from lag {last + 1} to 59"
    assert found.finding.endswith(f"rises above half again, {words}")


def saturated(x, s):
    """1 - s^2 is about 1e-22, and rounded to 0."""
    return torch.tanh(3 * s + 30 * x)


NEXT = torch.diag(torch.ones(49), 1).double()  # an output reads only the next input
ALL_ZERO = {
    "structural": (lambda x: 0 * x, "is zero up to rounding"),
    "saturated": (
        lambda x: torch.tanh(30 * x.sign() + x).cumsum(1),
        "is zero up to rounding",
    ),
    "only later inputs": (lambda x: NEXT @ x, "is zero up to rounding at all 50 lags"),
    "only the same step": (
        lambda x: x.sin(),
        "is zero up to rounding for every input of another step",
    ),
}


@for_each("name", ALL_ZERO)
def test_an_influence_of_zero_may_be_one_by_rounding(name):
    model, words = ALL_ZERO[name]
    x = torch.arange(1, 51).double()[None, :, None]
    found = gersgorin.influence(model, x, batch_axis=0)
    assert found.finding == f"The influence of an input {words}"
    told = " ".join(found.sentences())
    assert told.count("zero") == 1 and ("Later inputs have 100 %" in told) == ("later" in name)


def test_a_saturated_step_is_not_said_to_have_no_influence():
    x = torch.ones(1, 9, 1).double()
    found = gersgorin.influence(saturated, x, s0=torch.zeros(1).double())
    assert found.finding == "The influence of an input is zero up to rounding"


@for_each(
    ("of", "joined"),
    [
        (nn.MSELoss(), True),
        (lambda z, y: (z - y).square().mean((0, 2)), True),
        (lambda z, y: (z - y).square().mean(2), False),
        (lambda z, y: (z[-1] - y[-1]).square().mean(), False),
        ("squared", False),
    ],
)
def test_one_loss_of_several_frames_has_a_caution(of, joined):
    """An input acts through the loss of its own frame: the lag to the last frame is no distance."""
    model, x, y = nn.GRU(3, 4), torch.randn(T, 2, 3), torch.randn(T, 2, 4)
    found = gersgorin.influence(model, x, y=y, of=of)
    assert joined == found.doubt.startswith(f"The loss is one number of {T} frames")
