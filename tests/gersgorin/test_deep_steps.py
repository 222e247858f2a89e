"""Steps of so many layers that their Jacobians are no numbers of float64: products, spectra, gains
and bounds against NumPy with logarithms of its own.
"""

import math
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from oracles import highway_step, log_norms, transition_step
from readable import without_layout

from gersgorin.analyses.compare import compare
from gersgorin.analyses.gains import gains, input_gains
from gersgorin.analyses.products import TO_LAST, products
from gersgorin.analyses.spectra import HALF_LIFE, spectra
from gersgorin.jacobians import with_scale
from gersgorin.run import open_run
from rhn.cells import DTRNN, DTSRNN, RHN

N, M, T = 4, 3, 4


def made(kind, depth, init="gaussian:0.1", **options):
    generator = torch.Generator().manual_seed(depth)
    return kind(M, N, depth, init=init, generator=generator, dtype=torch.float64, **options)


X = torch.rand(T, M, dtype=torch.float64, generator=torch.Generator().manual_seed(7))


def layers_of(cell, x, s):
    """(The Jacobians of the layers of a step of an RHN or a DT-RNN, the next state)."""
    weights = [p.detach().numpy() for p in (cell.weight_ih, cell.weight_hh, cell.bias)]
    return (highway_step if isinstance(cell, RHN) else transition_step)(weights, x, s)


def expected(cell):
    """(log ||A[t] ... A[0]||, log ||A[t]||) for each step."""
    every, s = [], np.zeros(N)
    for x in X.numpy():
        layers, s = layers_of(cell, x, s)
        every.append(layers)
    ends = np.cumsum([len(layers) for layers in every]) - 1
    alone = [log_norms(layers)[-1] for layers in every]
    return log_norms(J for layers in every for J in layers)[ends].tolist(), alone


CELLS = {
    "RHN that shrinks": (RHN, 260, {"init": "gaussian:0.01", "transform_bias": 4.0}),
    "RHN, a few layers": (RHN, 3, {}),
    "DT-RNN that shrinks": (DTRNN, 250, {"init": "gaussian:0.01"}),
    "DT-RNN, a few layers": (DTRNN, 3, {}),
}


@pytest.mark.parametrize("name", CELLS)
def test_products_and_spectra_of_any_depth(name):
    kind, depth, options = CELLS[name]
    run = open_run(made(kind, depth, **options), X)
    logs, alone = expected(made(kind, depth, **options))
    found, record, few = products(run), spectra(run), spectra(run, leading=2)
    for got in (found.log_norm, record.log_norm_product, few.log_norm_product):
        np.testing.assert_allclose(got, logs, rtol=1e-9)
    np.testing.assert_allclose(found.log_norm_back[[0, -1]], [logs[-1], alone[-1]], rtol=1e-9)
    assert found.table()[HALF_LIFE] == pytest.approx(-math.log(2) * T / logs[-1], rel=1e-9)
    for norm, log in zip(record.norm, alone, strict=True):  # a norm is right, or NaN
        assert math.isnan(norm) if log < -670 else norm == pytest.approx(math.exp(log), rel=1e-9)
    lost = np.isnan(record.norm)
    assert lost.all() == (depth > 3) and np.isnan(record.eigenvalues[lost]).all()
    assert np.isnan(few.norm[lost]).all() and np.isnan(few.eigenvalues[lost]).all()


@pytest.mark.parametrize("name", ["RHN that shrinks", "DT-RNN that shrinks"])
def test_comparisons_of_any_depth(name):
    kind, depth, options = CELLS[name]
    cell, (logs, _) = made(kind, depth, **options), expected(made(kind, depth, **options))
    found = compare({"deep": cell}, [X, X[:2]])
    assert found.network("deep").steps.tolist() == [T, 2]
    exponents = found.network("deep").last_exponent
    np.testing.assert_allclose(exponents, [logs[-1] / T, logs[1] / 2], rtol=1e-9)
    assert found.notes()["steps whose Jacobian over- or underflows"] == T + 2
    without_layout(found).draw_without_rendering()


def test_gains_of_any_depth():
    cell = made(DTRNN, 250, init="gaussian:0.01")
    found = gains(cell, X)
    layers, _ = layers_of(cell, X[0].numpy(), np.zeros(N))
    assert np.isnan(found.input).all()
    np.testing.assert_allclose(found.layers[0], [np.linalg.norm(J, 2) for J in layers], rtol=1e-9)


@pytest.mark.parametrize("kind", [RHN, DTRNN, DTSRNN])
@pytest.mark.parametrize("depth", [1, 3, 250])
def test_bounds_of_any_depth(kind, depth):
    cell = made(kind, depth, init="gaussian:0.01" if kind is not RHN else "gaussian:1")
    R = cell.weight_hh.detach().numpy()

    def log_norm(A):
        return math.log(np.linalg.norm(A, 2))

    if kind is RHN:
        halves = [(np.linalg.norm(A[:N], 2), np.linalg.norm(A[N:], 2)) for A in R]
        log = sum(math.log(math.hypot(1, h) + t / 2) for h, t in halves)
    else:
        log = log_norm(R[0])
        for k in range(1, depth):
            log += log_norm(R[k])
            if kind is DTSRNN:
                log = float(np.logaddexp(log, log_norm(cell.weight_skip[k - 1].detach().numpy())))
    found = spectra(cell, 0 * X, torch.ones(N).double())  # the largest entry of a state is 1
    assert found.log_norm_bound == pytest.approx(log, rel=1e-9)
    if abs(log) < 700:
        assert found.norm_bound == pytest.approx(math.exp(log), rel=1e-9)


def test_a_jacobian_that_overflows_has_a_product():
    cell = DTRNN(1, 1, 400, init="gaussian:1", nonlinearity="relu", dtype=torch.float64)
    for p in cell.parameters():
        torch.nn.init.zeros_(p)
    # layers of 10 below a bias: 10^400, at states that stay small
    torch.nn.init.constant_(cell.weight_hh, 10.0)
    cell.bias.data.fill_(-9.0)
    found = spectra(cell, torch.zeros(2, 1).double(), torch.ones(1).double())
    np.testing.assert_allclose(found.log_norm_product / math.log(10), [400, 800], rtol=1e-12)
    assert np.isnan(found.norm).all()


def test_a_jacobian_of_zero_does_not_underflow():
    cell = DTRNN(1, 3, 2, nonlinearity="relu")
    torch.nn.init.constant_(cell.bias, -9.0)  # all units are off
    found, gain = spectra(cell, torch.zeros(4, 1)), gains(cell, torch.zeros(4, 1))
    assert not found.norm.any() and not found.eigenvalues.any() and not gain.input.any()
    assert not any(found.notes().values())


def test_only_jacobians_out_of_range_are_computed_with_their_scale():
    def scaled_jacobian(x, s):
        return torch.ones(len(x), 1, 1), torch.full((len(x),), -2000)

    step, A = SimpleNamespace(own={"scaled_jacobian": scaled_jacobian}.get), torch.tensor([0.0, 2])
    M, e = with_scale(step, "jacobian", A[:, None, None], torch.zeros(2, 1), torch.zeros(2, 1))
    assert (M.flatten().tolist(), e.tolist()) == ([0.5, 2.0], [-1999, 0])
    plain = SimpleNamespace(own=lambda name: None)
    M, e = with_scale(plain, "jacobian", A[:, None, None], torch.zeros(2, 1), torch.zeros(2, 1))
    assert (M.flatten().tolist(), e.tolist()) == ([0.0, 2.0], [0, 0])


def test_an_input_gain_is_the_norm_of_a_jacobian_of_numbers_in_range():
    """Three rows of a state of one entry, two of one of two entries, and what is no number."""
    A = torch.tensor([[[3.0, 4.0]], [[math.inf, 4.0]], [[0.0, 0.0]]])

    def input_jacobian(x, s):
        return A if s.shape[1] == 1 else torch.cat((A[:2], A[[0, 0]]), 1)

    def scaled_form(x, s):
        return torch.ones(len(x), s.shape[1], 2), torch.full((len(x),), 1)

    methods = {"input_jacobian": input_jacobian}
    for size, wanted in ((1, [5.0, math.nan, 0.0]), (2, [50**0.5, math.nan])):
        rows = torch.zeros(len(wanted), 2), torch.zeros(len(wanted), size)
        found = input_gains(SimpleNamespace(own=methods.get), *rows)
        np.testing.assert_allclose(found, wanted, rtol=1e-6)
    methods["scaled_input_jacobian"] = scaled_form  # of M 2^1 for those out of range
    found = input_gains(SimpleNamespace(own=methods.get), torch.zeros(3, 2), torch.zeros(3, 1))
    np.testing.assert_allclose(found, [5.0, math.nan, math.nan], rtol=1e-6)


def test_shortcuts_keep_what_the_layers_lose():
    cell = made(DTSRNN, 300, init="gaussian:0.05")
    W, R, S, b = (
        p.detach().numpy() for p in (cell.weight_ih, cell.weight_hh, cell.weight_skip, cell.bias)
    )
    s = np.tanh(W @ X[0].numpy() + b[0])
    P = (1 - s * s)[:, None] * R[0]  # P_1 = D_1 R_1, P_l = D_l (R_l P_{l-1} + S_l)
    for k in range(1, 300):
        s = np.tanh(R[k] @ s + b[k])
        P = (1 - s * s)[:, None] * (R[k] @ P + S[k - 1])
    np.testing.assert_allclose(open_run(cell, X).jacobians()[0], P, rtol=1e-10, atol=1e-18)


class Halved(RHN):
    """Has no closed forms: its step is another one."""

    def step(self, x, s):
        return super().step(x, s) / 2


def test_layers_of_an_own_step_without_closed_forms_have_one_gain():
    cell = made(Halved, 2)
    found = gains(cell, X)
    assert found.layers.shape == (T, 1)
    for t, (x, s) in enumerate(zip(X, open_run(cell, X).states[:-1], strict=True)):
        A = torch.autograd.functional.jacobian(partial(cell.step, x[None]), s[None])[0, :, 0]
        np.testing.assert_allclose(found.layers[t, 0], np.linalg.norm(A.numpy(), 2), rtol=1e-9)


def test_the_curve_back_is_the_log10_of_norms_to_the_last_state():
    found = products(made(RHN, 2), X)
    np.testing.assert_allclose(10.0 ** found.curves()[TO_LAST][:-1], np.exp(found.log_norm_back))
    assert found.curves()[TO_LAST][-1] == 0
