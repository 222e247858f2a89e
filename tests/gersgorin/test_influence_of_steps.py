"""`influence` of a step f(x, s): the step runs along x. The oracle is torch's autograd."""

import numpy as np
import pytest
import torch
from torch import nn

import gersgorin
from gersgorin.cli.main import main
from gersgorin.data.files import read_data

T, M, N = 7, 3, 4


def frames(*lead):
    return torch.randn(*lead, M, generator=torch.Generator().manual_seed(0)).double()


class Own(nn.Module):
    """A cell with `step` alone."""

    state_size = N

    def __init__(self):
        super().__init__()
        self.mix = nn.Linear(M + N, N)

    def step(self, x, s):
        return torch.tanh(self.mix(torch.cat([x, s], -1)))


class Written(nn.Module):
    """A step as forward(x, state) that returns (output, state)."""

    state_size = N

    def __init__(self):
        super().__init__()
        self.mix, self.out = nn.Linear(M + N, N), nn.Linear(N, 2)

    def forward(self, x, state):
        state = torch.tanh(self.mix(torch.cat([x, state], -1)))
        return self.out(state), state


W = torch.randn(N, M + N, generator=torch.Generator().manual_seed(1)).double()


def function(x, s):
    return torch.tanh(W @ torch.cat([x, s]))


def pair(x, state):
    h, c = state
    c = 0.9 * c + 0.1 * torch.tanh(W @ torch.cat([x, h]))
    return h + c, (torch.tanh(c), c)


def by_hand(outputs, x):
    slopes = torch.autograd.functional.jacobian(outputs, x)  # (T, k, T, m)
    return slopes.square().sum((1, 3)).sqrt().numpy()


def states(step, s):
    def outputs(x):
        found, state = [], s
        for x_t in x:
            after = step(x_t, state)
            output, state = after if isinstance(after, tuple) else (after, after)
            found.append(output)
        return torch.stack(found)

    return outputs


ZERO = torch.zeros(N).double()


@pytest.mark.parametrize(
    ("made", "given", "s0"),
    [
        (lambda: function, {"state_size": N}, ZERO),
        (lambda: function, {"s0": ZERO + 0.3}, ZERO + 0.3),
        (lambda: pair, {"state_size": (N, N)}, (ZERO, ZERO)),
        (Own, {}, ZERO),
    ],
    ids=["function", "first state", "output and tuple", "cell"],
)
def test_the_step_runs_along_x(made, given, s0):
    torch.manual_seed(0)
    f, x = made(), frames(T)
    f = f.double() if isinstance(f, nn.Module) else f
    found = gersgorin.influence(f, x, **given)
    wanted = by_hand(states(getattr(f, "step", f), s0), x)
    np.testing.assert_allclose(found.influence, wanted, rtol=1e-9, atol=1e-14)


def test_the_output_of_a_step_counts_and_not_its_state():
    torch.manual_seed(0)
    module, x = Written().double(), frames(T)
    found = gersgorin.influence(module, x)
    wanted = by_hand(states(module, ZERO), x)
    np.testing.assert_allclose(found.influence, wanted, rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
def test_a_cell_of_torch_is_its_layer(kind):
    torch.manual_seed(0)
    layer, cell = getattr(nn, kind)(M, N), getattr(nn, f"{kind}Cell")(M, N)
    for name, weight in cell.named_parameters():
        weight.data.copy_(getattr(layer, f"{name}_l0"))
    x = frames(T)
    np.testing.assert_allclose(
        gersgorin.influence(cell, x).influence,
        gersgorin.influence(layer, x).influence,
        rtol=1e-9,
        atol=1e-14,
    )


def test_several_sequences_lie_as_the_batch_axis_says():
    x = frames(5, T)
    found = gersgorin.influence(function, x, state_size=N, batch_axis=0)
    each = [gersgorin.influence(function, row, state_size=N).influence for row in x]
    wanted = np.sqrt(np.mean(np.square(each), 0))
    np.testing.assert_allclose(found.influence, wanted, rtol=1e-9, atol=1e-14)
    turned = gersgorin.influence(function, x.transpose(0, 1), state_size=N, batch_axis=1)
    np.testing.assert_allclose(turned.influence, wanted, rtol=1e-9, atol=1e-14)


STEPS = """
import torch
def step(x, s):
    return torch.tanh(0.9 * s + x.sum(-1, keepdim=True))
class Step(torch.nn.Module):
    def forward(self, x, s):
        return step(x, s)
"""


@pytest.mark.parametrize("name", ["step", "Step"])
def test_a_file_of_several_sequences_needs_no_axis_for_a_step(name, own_folder, monkeypatch):
    (own_folder / "steps_of_a_file.py").write_text(STEPS)
    monkeypatch.syspath_prepend(own_folder)
    x = frames(3, T)
    np.save("x.npy", x.numpy())
    words = ["--module", f"steps_of_a_file:{name}", "--state-size", str(N), "--input", "x.npy"]
    assert main(["influence", *words, "--output", "found.npz"]) == 0

    def last(sequence):
        s = torch.zeros(N, dtype=torch.float64)
        for frame in sequence:
            s = torch.tanh(0.9 * s + frame.sum(-1, keepdim=True))
        return s

    each = [torch.autograd.functional.jacobian(last, sequence) for sequence in x]  # (N, T, M)
    expected = torch.stack(each).square().sum((1, 3)).mean(0).sqrt()
    found = gersgorin.load("found.npz").influence[-1]
    np.testing.assert_allclose(found, expected, rtol=1e-9)


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((T,), "7 numbers"),
        ((1,), "1 number"),
        ((T, M), "7 x 3 numbers"),
        ((T, 1, M), "7 x 3 numbers"),
        ((1, T, M), "7 x 3 numbers"),
        ((2, T, M), "2 sequences of 7 steps, 3 numbers each"),
    ],
)
def test_the_footer_has_the_size_as_it_is_read(shape, words, tmp_path):
    np.save(tmp_path / "x.npy", np.zeros(shape))
    assert read_data(tmp_path / "x.npy").about == f"x.npy, {words}"
