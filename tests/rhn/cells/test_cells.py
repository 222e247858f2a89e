"""Every cell is its equation, over time and under masks, and a torch module like any other."""

import copy
import math
import pickle

import numpy as np
import pytest
import torch
from cases import CELL_CASES, SHALLOW_CASES, assert_close, inputs, randomize
from hypothesis import given, settings
from hypothesis import strategies as st

from rhn.cells import CELLS, DTRNN, DTSRNN, GRU, LSTM, MGU, RHN, RNN, SLSTM, Cell, Gates, MinGRU, resolve_cell
from rhn.errors import InvalidInputError

every_case = pytest.mark.parametrize("case", CELL_CASES, ids=str)
shallow = pytest.mark.parametrize("case", SHALLOW_CASES, ids=str)


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
            z = p["weight_hh"][layer] @ s[b] + p["bias"][layer] + (layer == 0) * (p["weight_ih"] @ x[step, b])
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


@pytest.mark.parametrize("f", ["tanh", "relu"])
@pytest.mark.parametrize("depth", [1, 2, 5])
@pytest.mark.parametrize("kind", ["dt-rnn", "all", "last"])
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
@pytest.mark.parametrize("kernel", ["manual", "reference"])
def test_forward_is_the_repeated_step(case, kernel):
    cell = case.build(kernel=kernel)
    x, _ = inputs(cell, 6, 3)
    _, s = inputs(cell, 3)
    outputs, last = cell(x, s)
    for t in range(6):
        s = cell.step(x[t], s)
        assert_close(outputs[t], s[..., : cell.hidden_size], 1e-12, f"output {t}")
    assert_close(last, s, 1e-12, "last state")
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
    mask = torch.arange(4)[:, None] < torch.tensor([4, 2, 0])
    outputs, last = cell(x, s0, mask)
    swapped, last_first = first(x.transpose(0, 1), s0, mask.T)
    assert_close(swapped.transpose(0, 1), outputs, 1e-14, "batch first")
    assert_close(last_first, last, 1e-14, "batch first, last")
    for module in (cell, first):
        alone, state = module(x[:, 1], s0[1], mask[:, 1])
        assert alone.shape == (4, cell.hidden_size)
        assert_close(alone, outputs[:, 1], 1e-12, "unbatched")
        assert_close(state, last[1], 1e-12, "unbatched, last")


@shallow
def test_masked_sequences_are_as_if_run_alone(case):
    cell, lengths = case.build(), torch.tensor([5, 3, 0, 1])
    x, _ = inputs(cell, 5, 4)
    _, s0 = inputs(cell, 4)
    mask = torch.arange(5)[:, None] < lengths
    w, v = torch.randn(5, 4, cell.hidden_size, dtype=x.dtype), torch.randn(4, cell.state_size, dtype=x.dtype)
    leaves = [x.clone().requires_grad_(), s0.clone().requires_grad_(), *cell.parameters()]
    outputs, last = cell(leaves[0], leaves[1], mask)
    assert (outputs[~mask] == 0).all()
    assert torch.equal(last[2], s0[2]), "no real frame: the state stays s0"
    got = torch.autograd.grad((outputs * w).sum() + (last * v).sum(), leaves)
    total = (leaves[1][2] * v[2]).sum()
    for b in (0, 1, 3):
        y, state = cell(leaves[0][: lengths[b], b], leaves[1][b])
        assert_close(outputs[: lengths[b], b], y, 1e-12, f"outputs of {b}")
        assert_close(last[b], state, 1e-12, f"last state of {b}")
        total = total + (y * w[: lengths[b], b]).sum() + (state * v[b]).sum()
    names = ["x", "s0", *(name for name, _ in cell.named_parameters())]
    for name, g, h in zip(names, got, torch.autograd.grad(total, leaves), strict=True):
        assert_close(g, h, 1e-11, f"gradient of {name}")
    assert (got[0][~mask] == 0).all()


def test_a_state_that_overflows_in_the_padding_does_not_reach_the_outputs():
    cell = RNN(1, 1, nonlinearity="relu")
    randomize(cell)
    with torch.no_grad():
        cell.weight_hh.fill_(1e20)
    outputs, last = cell(torch.ones(6, 1, 1), torch.ones(1, 1), torch.arange(6).unsqueeze(1) < 1)
    assert (outputs[1:] == 0).all() and torch.isfinite(last).all()


@settings(max_examples=30)
@given(st.lists(st.lists(st.booleans(), min_size=4, max_size=4), min_size=1, max_size=3))
def test_a_mask_with_a_gap_is_refused_and_no_other(columns):
    cell, mask = RNN(2, 3), torch.tensor(columns).T
    x = torch.zeros(4, mask.shape[1], 2)
    if any(sorted(column, reverse=True) != column for column in columns):
        with pytest.raises(InvalidInputError, match="gap"):
            cell(x, mask=mask)
    else:
        cell(x, mask=mask)


# ---- gates ---------------------------------------------------------------------------------------


def memory(cell, s):
    """What a cell's gates carry on and replace: the state, or a part of it."""
    h, *others = s.split(cell.hidden_size, -1)
    return {LSTM: lambda c: c, SLSTM: lambda c, n, m: c / n}.get(type(cell), lambda: h)(*others)


@every_case
@pytest.mark.parametrize("saturated", [False, True], ids=["", "saturated"])
def test_gates_reproduce_the_step(case, saturated):
    cell = case.build(saturated=saturated)
    x, s = inputs(cell, 2, 3)
    gates, n = cell.gates(x, s), cell.hidden_size
    if not isinstance(cell, RHN | LSTM | GRU | MGU | MinGRU | SLSTM):
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
    for kernel in ("manual", "reference"):
        cell.kernel = kernel
        assert_close(cell(x)[0], plain(x)[0], 1e-14, kernel)
    assert_close(cell.step(x, s), plain.step(x, s), 1e-14, "step")
    assert_close(cell.jacobian(x, s), plain.jacobian(x, s), 1e-13, "jacobian")
    with torch.no_grad():
        for p in cell.parameters():
            p.zero_()  # as any weight decay would in the end
    assert torch.allclose(torch.stack(cell.gates(x, s).t), torch.sigmoid(torch.tensor(-1.25, dtype=torch.float64)))


# ---- a torch module like any other ---------------------------------------------------------------


@shallow
def test_state_dict_deepcopy_pickle_dtype_and_config(case):
    cell = case.build()
    x, _ = inputs(cell, 3, 2)
    other = case.plain()
    assert not torch.equal(other(x)[0], cell(x)[0])
    other.load_state_dict(cell.state_dict())
    copies = [other, copy.deepcopy(cell), pickle.loads(pickle.dumps(cell))]
    for twin in copies:
        assert torch.equal(twin(x)[0], cell(x)[0])
        assert twin.config() == cell.config()
        assert repr(twin) == repr(cell)
    single = copy.deepcopy(cell).to(torch.float32)
    assert {p.dtype for p in single.parameters()} == {torch.float32}
    assert_close(single(x.float())[0].double(), cell(x)[0], 1e-5, "float32")
    with torch.no_grad():
        next(copies[1].parameters()).zero_()
    assert next(cell.parameters()).any(), "a deep copy shares nothing"
    unusual = case.plain(init="gaussian:0.123", batch_first=True, kernel="reference")
    twin = type(cell)(**unusual.config())
    assert twin.config() == unusual.config()
    assert [(n, p.shape) for n, p in twin.named_parameters()] == [(n, p.shape) for n, p in cell.named_parameters()]


@shallow
def test_the_meta_device_needs_no_memory_and_no_random_numbers(case):
    before = torch.get_rng_state()
    cell = case.plain(10, 10**5, device="meta")
    assert torch.equal(torch.get_rng_state(), before)
    assert all(p.is_meta for p in cell.parameters())
    small = case.plain(3, 4, device="meta")
    assert isinstance(small, Cell) and (small.input_size, small.hidden_size, small.depth) == (3, 4, case.depth)
    first, *others = [name for name, _ in small.named_parameters()]
    assert first == "weight_ih" and (others[0] == "weight_hh" or "weight_hh" not in others)
    x = torch.empty(5, 2, 3, dtype=torch.float64, device="meta")
    assert small(x)[0].shape == (5, 2, 4)
    real = small.to_empty(device="cpu")
    real.reset_parameters(torch.Generator().manual_seed(3))
    wanted = case.plain(3, 4, generator=torch.Generator().manual_seed(3))
    assert all(torch.equal(p, q) for p, q in zip(real.parameters(), wanted.parameters(), strict=True))


def test_extra_repr_tells_the_configuration():
    options = "coupled=True, transform_bias=-2.0, activation='tanh', gate_constant=0.0"
    assert repr(RHN(88, 64, 5)) == f"RHN(88, 64, depth=5, init='uniform:0.04', {options})"
    assert "batch_first=True" in repr(LSTM(3, 4, batch_first=True))
    assert "kernel='reference'" in repr(GRU(3, 4, kernel="reference"))


# ---- what is refused, and how --------------------------------------------------------------------


@pytest.mark.parametrize("key", CELLS)
@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ((0, 4), "input_size must be a whole number of at least 1, got 0"),
        ((3, 0), "hidden_size must be .* got 0"),
        ((3, -4), "hidden_size must be .* got -4"),
        ((3, 4.0), "hidden_size must be .* got 4.0"),
        ((3, "4"), "hidden_size must be .* got '4'"),
        ((True, 4), "input_size must be .* got True"),
        ((3, 4, 0), "depth must be .* got 0"),
    ],
)
def test_sizes_are_whole_numbers_of_at_least_one(key, sizes, message):
    with pytest.raises(InvalidInputError, match=message):
        CELLS[key](*sizes)


def test_sizes_may_be_numpys():
    config = RHN(np.int64(3), np.int32(4), np.int8(2)).config()
    assert [type(config[name]) for name in ("input_size", "hidden_size", "depth")] == [int, int, int]


@pytest.mark.parametrize("key", [key for key in CELLS if key not in ("dt-rnn", "dts-rnn", "rhn")])
def test_cells_without_recurrence_depth_say_so(key):
    with pytest.raises(InvalidInputError, match="has no recurrence depth: depth must be 1, got 3"):
        CELLS[key](3, 4, 3)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: RHN(3, 4, kernel="fast"), "unknown kernel 'fast'"),
        (lambda: RHN(3, 4, init="xavier"), "unknown initialisation 'xavier'"),
        (lambda: RHN(3, 4, activation="gelu"), "unknown activation 'gelu': expected 'tanh' or 'relu' or"),
        (lambda: RHN(3, 4, gate_constant=float("inf")), "gate_constant must be a finite number, got inf"),
        (lambda: DTRNN(3, 4, nonlinearity="gelu"), "unknown nonlinearity 'gelu'"),
        (lambda: DTSRNN(3, 4, 2, skip="first"), "unknown skip 'first'"),
        (lambda: resolve_cell("rnh"), "unknown cell 'rnh'; did you mean"),
        (lambda: resolve_cell("DT_RNN "), "did you mean 'dt-rnn'"),
        (lambda: resolve_cell("no.such.module:Cell"), "cannot load the cell 'no.such.module:Cell'"),
        (lambda: resolve_cell("math:nothing"), "cannot load the cell"),
        (lambda: resolve_cell("math:pi"), "is not callable"),
    ],
)
def test_unknown_names_are_refused_with_the_known_ones(build, message):
    with pytest.raises(InvalidInputError, match=message):
        build()


def test_resolve_cell_finds_ours_and_a_users():
    assert resolve_cell("rhn") is RHN
    assert resolve_cell("math:pow") is math.pow


@pytest.mark.parametrize("kernel", ["manual", "reference"])
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda c: c(torch.zeros(3)), r"x has shape \(3,\): expected \(T, B, 3\) or \(T, 3\)"),
        (lambda c: c(torch.zeros(5, 2, 4)), r"x has shape \(5, 2, 4\): expected \(T, B, 3\)"),
        (lambda c: c(torch.zeros(0, 2, 3)), "no time steps"),
        (lambda c: c(torch.zeros(5, 2, 3).double()), r"x is torch.float64, the weights are torch.float32: convert one"),
        (lambda c: c(torch.zeros(5, 2, 3), torch.zeros(3, 4)), r"of shape \(3, 4\): expected .* of shape \(2, 4\)"),
        (lambda c: c(torch.zeros(5, 3), torch.zeros(1, 4)), r"of shape \(1, 4\): expected .* of shape \(4,\)"),
        (lambda c: c(torch.zeros(5, 2, 3), torch.zeros(2, 4).double()), "s0 is torch.float64"),
        (lambda c: c(torch.zeros(5, 2, 3), mask=torch.ones(2, 5) > 0), r"mask has shape \(2, 5\): expected \(5, 2\)"),
        (lambda c: c(torch.zeros(5, 3), mask=torch.ones(5, 1) > 0), r"mask has shape \(5, 1\): expected \(5,\)"),
        (lambda c: c(torch.zeros(5, 2, 3), mask=torch.ones(5, 2)), "mask is torch.float32.*expected torch.bool"),
    ],
)
def test_what_does_not_fit_is_said_in_the_callers_layout(call, message, kernel):
    with pytest.raises(InvalidInputError, match=message):
        call(RHN(3, 4, 2, kernel=kernel))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda c: c(torch.zeros(3)), r"x has shape \(3,\): expected \(B, T, 3\)"),
        (lambda c: c(torch.zeros(2, 5, 7)), r"x has shape \(2, 5, 7\): expected \(B, T, 3\)"),
        (lambda c: c(torch.zeros(2, 0, 3)), "no time steps"),
        (lambda c: c(torch.zeros(2, 5, 3), torch.zeros(5, 4)), r"expected .* of shape \(2, 4\)"),
        (lambda c: c(torch.zeros(2, 5, 3), mask=torch.ones(2) > 0), r"mask has shape \(2,\): expected \(2, 5\)"),
    ],
)
def test_what_does_not_fit_is_said_with_batch_first_too(call, message):
    with pytest.raises(InvalidInputError, match=message):
        call(LSTM(3, 2, batch_first=True))
