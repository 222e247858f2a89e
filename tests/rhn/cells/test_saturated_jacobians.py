"""Closed-form Jacobians of saturated cells keep their digits: against mpmath, and float32 against float64."""

import copy
from functools import reduce

import pytest
import torch
from cases import SHALLOW_CASES, inputs
from tables import for_each

from gersgorin.cell import layer_jacobians
from rhn.cells import GRU, LSTM, RHN, RNN
from rhn.kernels.activations import ACTIVATIONS

mp = pytest.importorskip("mpmath", reason="mpmath is not installed: nothing to check against").mp.clone()
mp.dps = 700  # differences of 1e-160 of values whose derivatives are 1e-260


def sigmoid(z):
    return 1 / (1 + mp.exp(-z))


EXACT = {"tanh": lambda z: mp.sech(z) ** 2, "sigmoid": lambda z: sigmoid(z) * sigmoid(-z)}


@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize(("dtype", "largest"), [(torch.float64, 300), (torch.float32, 80)], ids=str)
def test_derivatives_are_accurate_to_a_few_roundings(name, dtype, largest):
    z = torch.cat((torch.linspace(0, largest, 301), torch.logspace(-12, 1, 50))).to(dtype)
    z = torch.cat((z, -z))
    unit, tiny = torch.finfo(dtype).eps, torch.finfo(dtype).tiny
    for value, found in zip(z.tolist(), ACTIVATIONS[name].derivative(z).tolist(), strict=True):
        wanted = EXACT[name](mp.mpf(value))
        assert abs(found - wanted) <= 4 * unit * wanted + 2 * tiny, value


def rnn(c, x, s):
    return tanh_of(c["weight_ih"] * x + c["weight_hh"][0] * s + c["bias"][0])


def lstm(c, x, s):
    n = len(s) // 2
    i, f, g, o = blocks(c["weight_ih"] * x + c["weight_hh"] * s[:n] + c["bias"], n)
    new = [sigmoid(f[k]) * s[n + k] + sigmoid(i[k]) * mp.tanh(g[k]) for k in range(n)]
    return mp.matrix([sigmoid(o[k]) * mp.tanh(new[k]) for k in range(n)] + new)


def gru(c, x, s):
    n = len(s)
    u, v = blocks(c["weight_ih"] * x + c["bias"], n), blocks(c["weight_hh"] * s, n)
    r, z = ([sigmoid(u[block][k] + v[block][k]) for k in range(n)] for block in (0, 1))
    g = [mp.tanh(u[2][k] + r[k] * (v[2][k] + c["bias_hn"][k])) for k in range(n)]
    return mp.matrix([(1 - z[k]) * g[k] + z[k] * s[k] for k in range(n)])


def rhn(c, x, s):
    n = len(s)
    for layer, (R, b) in enumerate(zip(c["weight_hh"], c["bias"], strict=True)):
        h, t, *carry = blocks(R * s + b + (c["weight_ih"] * x if layer == 0 else 0 * b), n)
        carry = [sigmoid(v) for v in carry[0]] if carry else [1 - sigmoid(v) for v in t]
        s = mp.matrix([mp.tanh(h[k]) * sigmoid(t[k]) + s[k] * carry[k] for k in range(n)])
    return s


def tanh_of(z):
    return z.apply(mp.tanh)


def blocks(z, n):
    return [z[k : k + n] for k in range(0, len(z), n)]


def in_digits(v: torch.Tensor):
    if v.dim() == 3 or (v.dim() == 2 and v.shape[0] < 3):  # a matrix or a vector a layer
        return [in_digits(part) for part in v]
    return mp.matrix(v.double().tolist())


def differences(step, at, h):
    columns = []
    for j in range(len(at)):
        ahead, behind = at.copy(), at.copy()
        ahead[j] += h
        behind[j] -= h
        columns.append((step(ahead) - step(behind)) / (2 * h))
    return [[column[i] for column in columns] for i in range(len(columns[0]))]


CELLS = {"rnn": (RNN, rnn), "lstm": (LSTM, lstm), "gru": (GRU, gru), "rhn": (RHN, rhn)}


# Not where the state already is the candidate to the last digit: h - s of an RHN, which multiplies the gate's derivative, is rounding.
@for_each(("key", "options"), [*((key, {}) for key in CELLS), ("rhn", {"coupled": False})])
@for_each(("dtype", "largest"), [(torch.float64, 300), (torch.float32, 20)])
def test_jacobians_of_saturated_cells_against_many_digits(key, options, dtype, largest):
    (build, step), g = CELLS[key], torch.Generator().manual_seed(1)
    cell = build(4, 3, 2 if key == "rhn" else 1, dtype=dtype, **options)
    with torch.no_grad():
        for name, p in cell.named_parameters():
            draw = torch.rand(p.shape, generator=g, dtype=torch.float64) * 2 - 1
            p.copy_(draw.sign() * (0.1 + draw.abs()) * (largest / 1.2 if name == "bias" else 0.7))
    x, s = (torch.rand(size, generator=g, dtype=torch.float64).to(dtype) - 0.5 for size in (4, cell.state_size))
    exact = {name: in_digits(p.detach()) for name, p in cell.named_parameters()}
    exact_x, exact_s, h = in_digits(x), in_digits(s), mp.mpf(10) ** -160
    found = {"jacobian": cell.jacobian(x, s), "input": cell.input_jacobian(x, s)}
    found["layers"] = reduce(lambda A, J: J @ A, layer_jacobians(cell, x, s))
    by_s = differences(lambda v: step(exact, exact_x, v), exact_s, h)
    by_x = differences(lambda v: step(exact, v, exact_s), exact_x, h)
    unit, tiny = torch.finfo(dtype).eps, torch.finfo(dtype).tiny
    for name, wanted in (("jacobian", by_s), ("layers", by_s), ("input", by_x)):
        for row, wanted_row in zip(found[name].tolist(), wanted, strict=True):
            for value, entry in zip(row, wanted_row, strict=True):
                # z is off by a few roundings of its size, a derivative by twice that, relatively
                assert abs(value - entry) <= 20 * largest * unit * abs(entry) + 8 * tiny, name


@for_each("case", SHALLOW_CASES)
def test_float32_agrees_with_float64_where_everything_is_saturated(case):
    cell = case.build(5, 7, saturated=True, dtype=torch.float32)
    x, s = inputs(cell, 4)
    wide = copy.deepcopy(cell).double()
    for name in ("jacobian", "input_jacobian"):
        found, wanted = getattr(cell, name)(x, s).double(), getattr(wide, name)(x.double(), s.double())
        far = (found - wanted).abs() - 1e-3 * wanted.abs()
        assert (far <= 1e-35).all(), (
            f"{name}: {wanted[far > 1e-35][:3].tolist()}, got {found[far > 1e-35][:3].tolist()}"
        )
