"""A step whose gradient is not its slope gets a note in every analysis; a step that only has kinks,
rounding or a strong curvature gets none.
"""

import re
from itertools import product

import pytest
import torch
from tables import for_each
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

import gersgorin
import rhn
from examples import real_layers
from gersgorin.analyses import ANALYSES
from gersgorin.run.cell import as_cell
from gersgorin.run.slopes import gradient_note

NOTE = "The gradient of this step is not its slope"
d = torch.float64


def drawn(*shape, dtype=d):
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(0))


W = drawn(6, 6) / 2


class Rounded(torch.autograd.Function):
    """round with the gradient of the identity, once differentiable and without a forward mode."""

    @staticmethod
    def forward(ctx, s):
        return s.round()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        return grad


class Spike(torch.autograd.Function):
    """A jump with the gradient of a fast sigmoid, as spiking units have."""

    @staticmethod
    def forward(ctx, v):
        ctx.save_for_backward(v)
        return (v > 0).to(v.dtype)

    @staticmethod
    def backward(ctx, grad):
        (v,) = ctx.saved_tensors
        return grad / (1 + 5 * v.abs()) ** 2


def spiking(x, s):
    """Potentials and spikes of leaky units that fire at 1."""
    v, z = s.unflatten(-1, (2, -1)).unbind(-2)
    v = 0.9 * v * (1 - z) + W.to(s)[:3, :3] @ z + x
    return torch.cat((v, Spike.apply(v - 1)))


def looked_up(x, s):
    """An entry of the state counts steps, as the position in a cache."""
    place = int(s[0].abs()) % 6
    return torch.cat((s[:1].detach().floor() + 1, torch.tanh(s[1:] + x[0] + W[place, 1:])))


def notes(step, s0, x=None, analysis="spectra"):
    x = drawn(9, 3, dtype=s0.dtype) if x is None else x
    run = gersgorin.open_run(step, x, s0=s0)
    return [words for words in ANALYSES[analysis](run).sentences() if words.startswith(NOTE)]


@for_each(
    ("name", "step"),
    (
        ("a part", lambda x, s: torch.tanh(0.5 * s + s.detach() + x[0])),
        ("a factor", lambda x, s: torch.tanh(s * float(s.abs().max()))),
        ("one entry of six", lambda x, s: torch.tanh(W @ s + 2 * s[0].detach() + x[0])),
        ("straight through", lambda x, s: Rounded.apply(2 * torch.tanh(W @ s))),
        ("surrogate", lambda x, s: (s > 0) + torch.sigmoid(s) - torch.sigmoid(s).detach()),
        ("spikes", spiking),
        ("scaled", lambda x, s: torch.tanh(W @ (0.1 * s + 0.9 * s.detach()))),
    ),
)
def test_a_gradient_that_is_not_the_slope_gets_a_note(name, step):
    assert len(notes(step, torch.full((6,), 0.7, dtype=d))) == 1


@pytest.mark.parametrize("analysis", [n for n, row in ANALYSES.items() if row.needs == "run"])
def test_the_note_is_in_every_analysis_of_a_run(analysis):
    step = lambda x, s: torch.tanh(0.5 * s + s.detach() + x[0])  # noqa: E731
    assert len(notes(step, torch.zeros(6, dtype=d), analysis=analysis)) == 1


def test_the_note_is_in_a_comparison_once_for_each_network():
    def step(x, s):
        return torch.tanh(0.5 * s + s.detach() + x[0])

    x, s0 = drawn(9, 3), torch.zeros(6, dtype=d)
    both = gersgorin.compare({"detached": (step, s0), "gru": nn.GRU(3, 6)}, x)
    assert both.summary(whole=False).count(NOTE) == 1


@pytest.mark.parametrize("units", [1, 7])
@pytest.mark.parametrize("share", [0.25, 0.5])
def test_the_note_of_a_linear_step_names_its_share_of_the_slope(units, share):
    """In every direction the slope is 0.75."""
    found = gersgorin.products(
        lambda x, s: 0.75 * (share * s + (1 - share) * s.detach()) + x,
        drawn(9, units),
        s0=torch.zeros(units, dtype=d),
    )
    assert f"(in one direction it is {100 * share:.0f} % of the slope)" in found.doubt


def test_a_search_for_fixed_points_names_the_share():
    found = gersgorin.fixed_points(
        lambda x, s: torch.tanh(0.5 * s + s.detach() + x),
        torch.zeros(1, dtype=d),
        starts=torch.linspace(-1, 1, 21, dtype=d)[:, None],
    )
    (note,) = [words for words in found.sentences() if words.startswith(NOTE)]
    share = float(re.findall(r"it is ([\d.]+) % of the slope", note)[0])
    assert share == pytest.approx(100 / 3, rel=0.05)


def test_the_note_is_in_files(tmp_path):
    found = gersgorin.products(
        lambda x, s: 0.5 * s + s.detach(), drawn(9, 3), s0=torch.ones(1, dtype=d)
    )
    path = found.save(tmp_path / "products.npz")
    assert gersgorin.results.Products.load(path).doubt == found.doubt != ""


def test_the_comparison_costs_few_steps():
    calls = []

    def step(x, s):
        calls.append(1)
        return torch.tanh(s + x[0])

    run = gersgorin.open_run(step, drawn(9, 3), s0=torch.zeros(6, dtype=d))
    calls.clear()
    assert run.doubt == ""
    assert len(calls) <= 5


HEALTHY = {
    "relu": lambda x, s: F.relu(W.to(s) @ s),
    "relu of two sides": lambda x, s: F.relu(W.to(s) @ s) - F.relu(-(W.to(s) @ s)),
    "largest entry": lambda x, s: s * s.abs().max() / 2,
    "clamped": lambda x, s: (W.to(s) @ s + x[0]).clamp(-1, 1),
    "normalised": lambda x, s: F.layer_norm(W.to(s) @ s + x[0], (6,)),
    "of length one": lambda x, s: s / (s.norm() + 1e-8),
    "strong": lambda x, s: torch.tanh(50 * (W.to(s) @ s) + x[0]),
    "quick": lambda x, s: torch.sin(100 * (W.to(s) @ s)),
    "saturated": lambda x, s: torch.tanh(1e3 * s + 1e3),
    "constant": lambda x, s: x.sum().expand(6).clone(),
    "large": lambda x, s: 1e6 + W.to(s) @ s,
    "chaotic": lambda x, s: 3.9 * s * (1 - s),
    "sorted": lambda x, s: (W.to(s) @ s).sort().values,
    "position": looked_up,
    "single inside": lambda x, s: torch.tanh(W.float() @ s.float() + 1.0).to(s.dtype),
    "root": lambda x, s: s.abs().sqrt(),
    "no number": lambda x, s: s.log(),
    "fails elsewhere": lambda x, s: s if s[0] == s[1] else s[:3],
    "checkpointed": lambda x, s: checkpoint(
        lambda s: torch.tanh(W.to(s) @ s), s, use_reentrant=False
    ),
    "in place": lambda x, s: s.mul_(0.5).sigmoid_().add_(x[0]),
}


@for_each(("name", "step"), HEALTHY.items())
def test_a_healthy_step_gets_none(name, step):
    for dtype, size, seed in product((d, torch.float32), (0.0, 0.5, 100.0), range(4)):
        generator = torch.Generator().manual_seed(seed)
        x, s = torch.randn(2, 2, 6, generator=generator).to(dtype)
        s = size * s
        assert gradient_note(as_cell(step), x[:, :3], s) == "", (dtype, size, seed)


@for_each(
    "module",
    (nn.RNN, nn.LSTM, nn.GRU, nn.RNNCell, nn.LSTMCell, rhn.cells.RHN),
)
def test_cells_of_the_toolkit_and_of_torch_get_none_by_autograd_either(module):
    run = gersgorin.open_run(module(3, 6), drawn(9, 3))
    assert run.doubt == ""
    step = lambda x, s: run.cell.step(x, s)  # noqa: E731 - without its closed form
    assert notes(step, run.states[3]) == []


@for_each("layer", real_layers.LAYERS)
def test_layers_of_transformers_get_none(layer):
    step, s0, x = real_layers.made(layer)
    assert gersgorin.open_run(step, x, s0=s0).doubt == ""


def test_a_complex_state_gets_none():
    s0 = torch.ones(4, dtype=torch.complex128)
    assert gersgorin.open_run(lambda x, s: s * s.conj() * 1j + x[0], drawn(9, 3), s0=s0).doubt == ""


class Loop(nn.Module):
    """A cell in a loop that hands the state on by a function."""

    def __init__(self, hand_on=torch.clone, cell=nn.GRUCell):
        super().__init__()
        self.cell, self.hand_on = cell(3, 6), hand_on

    def forward(self, x):
        state, outputs = x.new_zeros(1, 6), []
        if isinstance(self.cell, nn.LSTMCell):
            state = (state, state)
        for t in range(x.shape[1]):
            state = self.cell(x[:, t], self.hand_on(state))
            outputs.append(state[0] if isinstance(state, tuple) else state)
        return torch.stack(outputs, 1)


def without_gradient(h):
    with torch.no_grad():
        return h.clone()


DETACHED = {
    "detach": (Loop(torch.detach), True),
    "no_grad": (Loop(without_gradient), True),
    "one of two": (Loop(lambda s: (s[0].clone(), s[1].detach()), nn.LSTMCell), True),
    "none": (Loop(), False),
    "none of two": (Loop(lambda s: s, nn.LSTMCell), False),
    "a detached copy beside it": (Loop(lambda h: h + 0 * h.detach().norm()), False),
    "torch.nn's": (nn.GRU(3, 6, batch_first=True), False),
}


@for_each("name", DETACHED)
@pytest.mark.parametrize("analysis", ["spectra", "products", "lyapunov", "fixed_points"])
def test_a_loop_that_detaches_its_states_has_a_doubt(name, analysis):
    """Autograd's gradient of the last output in the first inputs is 0 in these loops."""
    loop, detached = DETACHED[name]
    x = drawn(1, 9, 3, dtype=torch.float32).requires_grad_()
    (slope,) = torch.autograd.grad(loop(x)[0][..., -1, :].sum(), x)
    if name != "one of two":
        assert (not slope[:, :-1].any()) == detached
    run = gersgorin.open_run(loop, x.detach())
    found = ANALYSES[analysis](run)
    assert found.doubt.startswith("The gradient of this loop is not its slope") == detached
    assert bool(found.doubt) == detached


class Truncated(Loop):
    """Hands the state on by a function at some steps only."""

    def __init__(self, hand_on, at):
        super().__init__()
        self.elsewhere, self.at = hand_on, at

    def forward(self, x):
        state, outputs = x.new_zeros(1, 6), []
        for t in range(x.shape[1]):
            state = self.cell(x[:, t], self.elsewhere(state) if t in self.at else state)
            outputs.append(state)
        return torch.stack(outputs, 1)


def halved(h):
    return 0.5 * h + 0.5 * h.detach()


@for_each(
    ("hand_on", "at", "words"),
    (
        (torch.detach, (3, 6, 9), "it is cut at 3 of the 11 passes"),
        (torch.detach, (6,), "it is cut at 1 of the 11 passes"),
        (torch.detach, range(12), "it is cut at 11 of the 11 passes"),
        (halved, range(12), "it is changed at 11 of the 11 passes"),
        (halved, (6, 7), "it is changed at 2 of the 11 passes"),
    ),
)
def test_the_doubt_of_a_loop_counts_the_steps_at_which_its_gradient_is_another(hand_on, at, words):
    """As many neighbouring outputs have no gradient, or half of that without the function."""
    x = drawn(1, 12, 3, dtype=torch.float32)
    loop = Truncated(hand_on, at)
    whole, own = (jacobians(loop, x, at) for at in ((), at))
    ratios = (own.norm(dim=(1, 2)) / whole.norm(dim=(1, 2))).round(decimals=3).tolist()
    assert ratios.count(1) == 11 - len({*at} - {0})
    assert {*ratios} <= {1.0, 0.0 if hand_on is torch.detach else 0.5}
    run = gersgorin.open_run(loop, x)
    assert words in run.doubt


def jacobians(loop, x, at):
    """d y[t] / d x[t-1] by autograd of the loop with its function at some steps."""
    before, loop.at = loop.at, at
    slopes = torch.autograd.functional.jacobian(loop, x)[0, :, :, 0]  # (t, unit, s, m)
    loop.at = before
    return torch.stack([slopes[t, :, t - 1] for t in range(1, x.shape[1])])
