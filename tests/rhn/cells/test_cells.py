"""Every cell is its equation, once more in NumPy: over time, under dropout masks, with its gates
and its closed-form Jacobians.
"""

import copy
import functools
import itertools

import numpy as np
import pytest
import torch
from cases import CELL_CASES, SHALLOW_CASES, assert_close, dropout_mask, inputs
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import jacrev, vmap

from rhn.cells import (
    GRU,
    LSTM,
    RHN,
    CellMasks,
    Gates,
    Layer,
    Part,
    StackedCell,
    described_layers,
)
from rhn.errors import InvalidInputError
from rhn.kernels.activations import ACTIVATIONS
from rhn.utils.scale import unscaled

every_case = pytest.mark.parametrize("case", CELL_CASES, ids=str)
shallow = pytest.mark.parametrize("case", SHALLOW_CASES, ids=str)


def masks_for(cell, B, kind, *, seed=0):
    """Random masks of every sort that the cell takes; `kind`: there are none, or the gate blocks'
    masks are "shared" or "apart".
    """
    if kind == "none":
        return CellMasks()
    J, m, n = (cell.blocks if kind == "apart" else 1), cell.input_size, cell.hidden_size
    own = {"dtype": cell.weight_ih.dtype}
    return CellMasks(
        dropout_mask(J, B, m, seed=3 * seed, **own),
        dropout_mask(J, B, n, seed=3 * seed + 1, **own) if "state" in cell.masks else None,
        dropout_mask(B, n, seed=3 * seed + 2, **own) if "candidate" in cell.masks else None,
    )


def run(cell, T=6, B=3):
    """x (T, B, m) and s0 (B, state_size)."""
    return inputs(cell, T, B)[0], inputs(cell, B, seed=2)[1]


# ---- the equations, once more, in NumPy ----------------------------------------------------------


def sigma(z):
    return 1 / (1 + np.exp(-z))


FUNCTIONS = {
    "tanh": np.tanh,
    "sigmoid": sigma,
    "relu": lambda z: np.maximum(z, 0),
    "linear": lambda z: z,
}


def products(W, v, masks, n):
    """W (G n, k) times v (B, k), block by block: each reads what its own mask, or the one of all,
    leaves of v.
    """
    blocks = W.reshape(-1, n, W.shape[-1])
    return np.stack([(v * masks[j % len(masks)]) @ block.T for j, block in enumerate(blocks)])


def numpy_highway(case, p, x, s, masks):
    """Zilly et al. (2017), equations 6-9."""
    f = FUNCTIONS[case.options.get("activation", "tanh")]
    n = s.shape[1]
    for layer, R in enumerate(p["weight_hh"]):
        z = products(R, s, masks.state, n) + p["bias"][layer].reshape(-1, 1, n)
        if layer == 0:
            z += products(p["weight_ih"], x, masks.input, n)
        t = sigma(z[1] + case.options.get("gate_constant", 0.0))
        c = 1 - t if case.options.get("coupled", True) else sigma(z[2])
        s = f(z[0]) * masks.candidate * t + s * c
    return s


def nonlinearity(case):
    return FUNCTIONS[case.options.get("nonlinearity", "relu" if case.key == "irnn" else "tanh")]


def numpy_transition(case, p, x, y, masks):
    """Pascanu et al. (2013): shortcuts S from y to the last layers."""
    f = nonlinearity(case)
    s, n, S = y, y.shape[1], p.get("weight_skip", ())
    shortcuts = {"dts-rnn": 1 if case.options.get("skip") == "last" else case.depth - 1}
    assert len(S) == min(case.depth - 1, shortcuts.get(case.key, 0))
    for layer, R in enumerate(p["weight_hh"]):
        (z,) = products(R, s, masks.state, n) + p["bias"][layer]
        if layer == 0:
            z += products(p["weight_ih"], x, masks.input, n)[0]
        if layer >= case.depth - len(S):
            z += products(S[layer - case.depth], y, masks.state, n)[0]
        s = f(z)
    return s


def numpy_lstm(case, p, x, s, masks):
    h, c = np.split(s, 2, axis=1)
    n = h.shape[1]
    z = products(p["weight_ih"], x, masks.input, n) + products(p["weight_hh"], h, masks.state, n)
    i, f, g, o = z + p["bias"].reshape(4, 1, n)
    c = sigma(f) * c + sigma(i) * np.tanh(g) * masks.candidate
    return np.concatenate((sigma(o) * np.tanh(c), c), 1)


def numpy_gru(case, p, x, h, masks):
    n = h.shape[1]
    u = products(p["weight_ih"], x, masks.input, n) + p["bias"].reshape(3, 1, n)
    v = products(p["weight_hh"], h, masks.state, n)
    r, z = sigma(u[:2] + v[:2])
    candidate = np.tanh(u[2] + r * (v[2] + p["bias_hn"]))
    return (1 - z) * candidate * masks.candidate + z * h


EQUATIONS = {
    "rhn": numpy_highway,
    "lstm": numpy_lstm,
    "gru": numpy_gru,
    **dict.fromkeys(("rnn", "irnn", "dt-rnn", "dts-rnn"), numpy_transition),
}
KINDS = [
    *itertools.product(CELL_CASES, ("none", "shared")),
    *((case, "apart") for case in CELL_CASES if case.key == "rhn"),
]


@pytest.mark.parametrize(("case", "kind"), KINDS, ids=str)
@pytest.mark.parametrize("kernel", ["manual", "reference"])
def test_steps_and_runs_are_the_equation_in_numpy(case, kind, kernel):
    cell = case.build(kernel=kernel)
    x, s0 = run(cell)
    masks, n = masks_for(cell, 3, kind), cell.hidden_size
    p = {name: weight.detach().numpy() for name, weight in cell.named_parameters()}
    neutral = np.ones((1, 1))

    def equation(x, s, masks):
        arrays = CellMasks(*(neutral if mask is None else mask.numpy() for mask in masks))
        return torch.from_numpy(EQUATIONS[case.key](case, p, x.numpy(), s.numpy(), arrays))

    (outputs, last), s, steps = cell(x, s0, masks), s0, cell.step(x, s0)
    for t in range(6):
        s = equation(x[t], s, masks)
        assert_close(outputs[t], s[:, :n], 1e-12, f"output {t}")
        assert_close(steps[t], equation(x[t], s0, CellMasks()), 1e-12, f"step {t}")
    assert_close(last, s, 1e-12, "last state")
    assert cell.config()["kernel"] == kernel


@shallow
def test_layouts_of_a_run(case):
    cell, first = case.build(), case.build(batch_first=True)
    x, s0 = run(cell)
    masks = masks_for(cell, 3, "shared")
    outputs, last = cell(x, s0, masks)
    swapped, state = first(x.transpose(0, 1), s0, masks)
    assert_close(swapped.transpose(0, 1), outputs, 1e-14, "batch first")
    assert_close(state, last, 1e-14, "batch first, last")
    second = CellMasks(*(None if mask is None else mask[..., 1:2, :] for mask in masks))
    for module in (cell, first):
        alone, state = module(x[:, 1], s0[1], second)
        assert_close(alone, outputs[:, 1], 1e-12, "unbatched")
        assert_close(state, last[1], 1e-12, "unbatched, last")
    assert torch.equal(cell(x)[0], cell(x, torch.zeros_like(s0))[0]), "no initial state is zero"


@every_case
@pytest.mark.parametrize("saturated", [False, True])
def test_gates_reproduce_the_step(case, saturated):
    cell = case.build(saturated=saturated)
    x, s = inputs(cell, 2, 3)
    gates, n = cell.gates(x, s), cell.hidden_size
    if not isinstance(cell, RHN | LSTM | GRU):
        assert gates == Gates()
        return
    before = s
    for h, t, c, state in zip(gates.h, gates.t, gates.c, gates.states, strict=True):
        assert h.shape == t.shape == c.shape == (2, 3, n)
        # what gates carry on and replace: the state, or an LSTM's c
        assert_close(h * t + before[..., -n:] * c, state[..., -n:], 1e-14, "s = h t + s c")
        assert ((t >= 0) & (t <= 1) & (c >= 0) & (c <= 1)).all()
        before = state
        if isinstance(cell, RHN):
            assert torch.equal(t + c, torch.ones_like(t)) == cell.coupled
    assert len(gates) == cell.depth and torch.equal(before, cell.step(x, s))


@every_case
def test_the_described_layers_have_the_weights_of_the_gates_and_of_the_outputs(case):
    cell = case.build()
    x, s = inputs(cell, 3)
    gates, n, y, deeper = cell.gates(x, s), cell.hidden_size, s, range(1, cell.depth)
    for k, layer in enumerate(cell.layers()):
        read = ((layer.input, x), (layer.recurrent, s[:, :n]), (layer.skip, y[:, :n]))
        assert (layer.input is None) == (k in deeper)
        z = cell.get_parameter(layer.bias.parameter)[layer.bias.index]
        for part, v in read:
            if part is not None:
                z = z + v @ cell.get_parameter(part.parameter)[part.index].T
        s = cell.run_layer(k, x, s, y)
        if (gate := layer.gate) is None:
            wanted = torch.from_numpy(nonlinearity(case)(z.detach().numpy()))
            assert_close(s, wanted, 1e-12, f"layer {k}")
            continue
        blocks = z.unflatten(1, (-1, n))
        t = torch.sigmoid(blocks[:, gate.transform] + gate.constant)
        assert_close(t if gate.opens else 1 - t, gates.t[k], 1e-12, f"t of layer {k}")
        c = 1 - gates.t[k] if gate.carry is None else torch.sigmoid(blocks[:, gate.carry])
        assert_close(c, gates.c[k], 1e-12, f"c of layer {k}")


class OwnStates(GRU):
    """A user's cell, of which torch has no kernel."""

    def states(self, x, s0, dropout=None):
        return super().states(2 * x, s0, dropout)


class Elsewhere(torch.Tensor):
    """A tensor that is not in the memory of the CPU."""

    is_cpu = False


@pytest.mark.parametrize("name", ["lstm", "gru"])
def test_torch_s_own_kernel_computes_plain_calls_on_the_cpu_only(name, monkeypatch):
    calls, kind, own = [], {"lstm": LSTM, "gru": GRU}[name], getattr(torch, name)
    monkeypatch.setattr(torch, name, lambda *given: calls.append(name) or own(*given))

    def runs_torch(cell, x, *more):
        calls.clear()
        cell(x, *more)
        return bool(calls)

    cell, x = kind(3, 4), torch.randn(5, 2, 3)
    assert runs_torch(cell, x) and runs_torch(cell.double(), x.double())
    assert runs_torch(kind(1, 4), x[:1, :1, :1])
    assert not runs_torch(kind(3, 4), x.as_subclass(Elsewhere))
    assert not runs_torch(kind(3, 4, kernel="reference"), x)
    assert not runs_torch(kind(3, 4, dtype=torch.bfloat16), x.bfloat16())
    assert not runs_torch(OwnStates(3, 4), x)
    assert not runs_torch(kind(3, 4), x[:, :0])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert not runs_torch(kind(3, 4), x)
    assert not runs_torch(kind(3, 4, device="meta"), x.to("meta"))
    with FakeTensorMode():
        assert not runs_torch(kind(3, 4), torch.zeros(5, 2, 3))
    mapped = kind(3, 4)
    calls.clear()
    assert vmap(lambda x: mapped(x)[0])(x).shape == (5, 2, 4) and not calls


def test_a_stack_of_cells_of_other_sizes_is_one_cell_after_the_other():
    first, second, third = GRU(5, 7), LSTM(7, 3), RHN(3, 4, 2)
    stack = StackedCell([first, second, third]).double()
    x, s0 = torch.randn(6, 2, 5, dtype=torch.float64), torch.randn(2, 17, dtype=torch.float64)
    outputs, last = stack(x, s0)
    y, ends = x, []
    for cell, s in zip((first, second, third), s0.split((7, 6, 4), -1), strict=True):
        y, end = cell(y, s.contiguous())
        ends.append(end)
    assert_close(outputs, y, 1e-12, "outputs")
    assert_close(last, torch.cat(ends, -1), 1e-12, "last states")
    assert (stack.input_size, stack.hidden_size, stack.state_size) == (5, 4, 17)
    names = (stack.gate_name, stack.carry_name)
    assert names == (first.gate_name, first.carry_name) != (second.gate_name, second.carry_name)
    for rows in ((first, third), (second, second)):
        with pytest.raises(InvalidInputError, match="input_size of the upper cell"):
            StackedCell(rows)


# ---- closed-form Jacobians -----------------------------------------------------------------------


@every_case
@pytest.mark.parametrize("saturated", [False, True])
def test_closed_jacobians_are_those_of_autograd(case, saturated):
    cell = case.build(saturated=saturated)
    x, s = inputs(cell, 2, 3)
    for place, name in enumerate(("input_jacobian", "jacobian")):
        wanted = vmap(vmap(jacrev(cell.step, argnums=place)))(x, s)
        assert_close(getattr(cell, name)(x, s), wanted, 1e-11, name, floor=1e-2)
        in_scaled_form = getattr(cell, f"scaled_{name}", None)
        if in_scaled_form is not None:
            found = unscaled(*in_scaled_form(x, s))
            assert_close(found, wanted, 1e-11, f"scaled {name}", floor=1e-2)
    if cell.depth > 1:
        product = functools.reduce(lambda P, J: J @ P, cell.layer_jacobians(x, s))
        assert_close(product, cell.jacobian(x, s), 1e-12, "product of the layers' Jacobians")
    after = s
    for layer in range(cell.depth):
        after = cell.run_layer(layer, x, after, s)
    assert torch.equal(after, cell.step(x, s)), "its layers, one after another"


@shallow
def test_jacobians_of_saturated_cells_keep_their_digits_in_float32(case):
    cell = case.build(saturated=True, dtype=torch.float32)
    x, s = inputs(cell, 4)
    wide = copy.deepcopy(cell).double()
    for name in ("input_jacobian", "jacobian"):
        found, wanted = getattr(cell, name)(x, s), getattr(wide, name)(x.double(), s.double())
        assert ((found - wanted).abs() <= 1e-3 * wanted.abs() + 1e-35).all(), name


@pytest.mark.parametrize("name", ["tanh", "sigmoid"])
@pytest.mark.parametrize(("dtype", "largest"), [(torch.float64, 300), (torch.float32, 80)], ids=str)
def test_slopes_are_accurate_to_a_few_roundings(name, dtype, largest):
    mp = pytest.importorskip("mpmath").mp.clone()
    mp.dps = 300
    z = torch.cat((torch.linspace(0, largest, 301), torch.logspace(-12, 1, 50))).to(dtype)
    z = torch.cat((z, -z))
    unit, tiny = torch.finfo(dtype).eps, torch.finfo(dtype).tiny
    for value, found in zip(z.tolist(), ACTIVATIONS[name].derivative(z).tolist(), strict=True):
        half = mp.sech(mp.mpf(value) / (1 if name == "tanh" else 2)) ** 2
        wanted = half if name == "tanh" else half / 4
        assert abs(found - wanted) <= 4 * unit * wanted + 2 * tiny, value


@shallow
def test_only_the_equation_has_a_gradient_of_its_masks(case):
    cell, mask = case.build(kernel="reference"), dropout_mask(1, 3, 7).requires_grad_()
    (x, s0), masks = run(cell), CellMasks(state=mask)
    assert torch.autograd.grad(cell(x, s0, masks)[0].sum(), mask)[0].any()
    with pytest.raises(RuntimeError, match='no gradient of a dropout mask: use kernel="reference"'):
        torch.autograd.grad(case.build()(x, s0, masks)[0].sum(), mask)


@pytest.mark.parametrize(
    "part",
    [
        pytest.param(Part("bias", slice(0, 0)), id="no rows"),
        pytest.param(Part("weight_hh", (0, 0, 0)), id="one number"),
        pytest.param(Part("weight_hh", (0, slice(3))), id="three rows of four units"),
        pytest.param(Part("weight_hh", (0, [0, 1, 2, 3])), id="a copy"),
        pytest.param(Part("weight_hh", 2), id="a third layer of two"),
        pytest.param(Part("weights"), id="no such parameter"),
    ],
)
def test_layers_of_parts_that_are_no_blocks_of_a_weight_are_refused(part):
    cell = RHN(3, 4, 2)
    cell.layers = lambda: (Layer(recurrent=Part("weight_hh", 0)), Layer(bias=part))
    with pytest.raises(InvalidInputError, match=r"^RHN\.layers\(\) has .*in blocks of 4, of "):
        described_layers(cell)
