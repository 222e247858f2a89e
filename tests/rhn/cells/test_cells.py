"""Every cell is its equation, over time and under masks, and a torch module like any other."""

import numpy as np
import pytest
import torch
from cases import CELL_CASES, SHALLOW_CASES, assert_close, inputs, randomize
from tables import for_each

from rhn.cells import CELLS, GRU, LSTM, RHN, Gates

every_case = for_each("case", CELL_CASES)
shallow = for_each("case", SHALLOW_CASES)


# ---- the equations, once more, in NumPy ----------------------------------------------------------


def numpy_weights(cell):
    return {name: p.detach().numpy() for name, p in cell.named_parameters()}


def sigma(z):
    return 1 / (1 + np.exp(-z))


def numpy_rhn(cell, x, y):
    """Equations 6-9, one sequence and one unit at a time."""
    p, n, s = numpy_weights(cell), cell.hidden_size, y.copy()
    outputs = np.empty((len(x), *y.shape))
    for step, b in np.ndindex(outputs.shape[:2]):
        for layer in range(cell.depth):
            z = (
                p["weight_hh"][layer] @ s[b]
                + p["bias"][layer]
                + (layer == 0) * (p["weight_ih"] @ x[step, b])
            )
            for i in range(n):
                h, t = np.tanh(z[i]), sigma(z[n + i])
                s[b, i] = h * t + s[b, i] * (1 - t if cell.coupled else sigma(z[2 * n + i]))
        outputs[step, b] = s[b]
    return outputs


@pytest.mark.parametrize("coupled", [True, False])
@pytest.mark.parametrize("depth", [1, 10])
def test_rhn_equals_an_independent_numpy_loop(depth, coupled):
    cell = RHN(3, 4, depth, coupled=coupled, dtype=torch.float64)
    randomize(cell)
    x, s0 = torch.randn(5, 2, 3, dtype=torch.float64), torch.randn(2, 4, dtype=torch.float64)
    outputs, last = cell(x, s0)
    wanted = numpy_rhn(cell, x.numpy(), s0.numpy())
    assert_close(outputs, torch.from_numpy(wanted), 1e-13, "outputs")
    assert_close(last, torch.from_numpy(wanted[-1]), 1e-13, "last state")


@pytest.mark.parametrize(
    ("kind", "depth", "f"),
    [
        ("dt-rnn", 1, "relu"),
        ("dt-rnn", 5, "tanh"),
        ("all", 2, "tanh"),
        ("all", 5, "relu"),
        ("last", 1, "tanh"),
        ("last", 5, "relu"),
    ],
)
def test_deep_transitions_equal_an_independent_numpy_loop(kind, depth, f):
    options = {} if kind == "dt-rnn" else {"skip": kind}
    key = "dts-rnn" if options else "dt-rnn"
    cell = CELLS[key](3, 4, depth, nonlinearity=f, dtype=torch.float64, **options)
    randomize(cell)
    x, s0 = torch.randn(5, 2, 3, dtype=torch.float64), torch.randn(2, 4, dtype=torch.float64)
    p, apply = numpy_weights(cell), np.tanh if f == "tanh" else lambda z: np.maximum(z, 0)
    y = s0.numpy()
    for t in range(5):
        s = apply(x[t].numpy() @ p["weight_ih"].T + y @ p["weight_hh"][0].T + p["bias"][0])
        for layer in range(2, depth + 1):
            z = s @ p["weight_hh"][layer - 1].T + p["bias"][layer - 1]
            if kind == "all":
                z += y @ p["weight_skip"][layer - 2].T
            elif kind == "last" and layer == depth:
                z += y @ p["weight_skip"][0].T
            s = apply(z)
        y = s
    assert_close(cell(x, s0)[1], torch.from_numpy(y), 1e-13, "last state")


# ---- over time -----------------------------------------------------------------------------------


@every_case
def test_forward_is_the_repeated_step(case):
    for kernel in ("manual", "reference"):
        cell = case.build(kernel=kernel)
        x, _ = inputs(cell, 6, 3)
        _, s = inputs(cell, 3)
        outputs, last = cell(x, s)
        for t in range(6):
            s = cell.step(x[t], s)
            assert_close(outputs[t], s[..., : cell.hidden_size], 1e-12, f"{kernel}, output {t}")
        assert_close(last, s, 1e-12, f"{kernel}, last state")
        assert last.shape == (3, cell.state_size)
        assert torch.equal(cell(x)[0], cell(x, torch.zeros_like(s))[0]), "no initial state is zero"


@every_case
def test_step_takes_any_leading_dimensions(case):
    cell = case.build()
    x, s = inputs(cell, 4, 2, 3)
    together = cell.step(x, s)
    assert together.shape == (4, 2, 3, cell.state_size)
    after = s
    for layer in range(cell.depth):
        after = cell.run_layer(layer, x, after, s)
    assert torch.equal(after, together), "its layers, one after another"
    assert_close(cell.step(x[1, 0, 2], s[1, 0, 2]), together[1, 0, 2], 1e-12, "one position")
    each = torch.stack([cell.step(a, s[2, 1, 0]) for a in x[0, 0]])
    assert_close(cell.step(x[0, 0], s[2, 1, 0]), each, 1e-12, "broadcast")


@shallow
def test_batch_first_and_unbatched(case):
    cell, first = case.build(), case.build(batch_first=True)
    x, _ = inputs(cell, 4, 3)
    _, s0 = inputs(cell, 3)
    outputs, last = cell(x, s0)
    swapped, last_first = first(x.transpose(0, 1), s0)
    assert_close(swapped.transpose(0, 1), outputs, 1e-14, "batch first")
    assert_close(last_first, last, 1e-14, "batch first, last")
    for module in (cell, first):
        alone, state = module(x[:, 1], s0[1])
        assert alone.shape == (4, cell.hidden_size)
        assert_close(alone, outputs[:, 1], 1e-12, "unbatched")
        assert_close(state, last[1], 1e-12, "unbatched, last")


# ---- gates ---------------------------------------------------------------------------------------


def memory(cell, s):
    """What a cell's gates carry on and replace: the state, or an LSTM's c."""
    return s[..., -cell.hidden_size :]


@every_case
@for_each("saturated", [False, True])
def test_gates_reproduce_the_step(case, saturated):
    cell = case.build(saturated=saturated)
    x, s = inputs(cell, 2, 3)
    gates, n = cell.gates(x, s), cell.hidden_size
    if not isinstance(cell, RHN | LSTM | GRU):
        assert gates == Gates()
        assert len(gates) == 0
        return
    assert len(gates) == cell.depth
    before = s
    for h, t, c, state in zip(gates.h, gates.t, gates.c, gates.states, strict=True):
        assert h.shape == t.shape == c.shape == (2, 3, n)
        assert_close(h * t + memory(cell, before) * c, memory(cell, state), 1e-14, "s = h t + s c")
        assert ((t >= 0) & (t <= 1) & (c >= 0) & (c <= 1)).all()
        before = state
        if isinstance(cell, RHN):
            assert torch.equal(t + c, torch.ones_like(t)) == cell.coupled
    assert torch.equal(before, cell.step(x, s))


@pytest.mark.parametrize("coupled", [True, False])
def test_a_gate_constant_is_a_transform_bias_that_no_parameter_holds(coupled):
    plain = RHN(3, 4, 3, coupled=coupled, dtype=torch.float64)
    cell = RHN(3, 4, 3, coupled=coupled, gate_constant=-1.25, dtype=torch.float64)
    cell.load_state_dict(plain.state_dict())
    x, s = inputs(cell, 2)
    with torch.no_grad():
        plain.bias[:, 4:8] -= 1.25
    assert_close(cell(x)[0], plain(x)[0], 1e-14, "outputs")
    assert_close(cell.jacobian(x, s), plain.jacobian(x, s), 1e-13, "jacobian")
    with torch.no_grad():
        for p in cell.parameters():
            p.zero_()  # as any weight decay would in the end
    assert torch.allclose(
        torch.stack(cell.gates(x, s).t), torch.sigmoid(torch.tensor(-1.25, dtype=torch.float64))
    )
