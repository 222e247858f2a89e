"""Steps of so many layers that their Jacobians are no numbers of float64: the products, bounds and
exponents, against NumPy with logarithms of its own.
"""

import math
import re

import numpy as np
import pytest
import torch
from tables import for_each

import gersgorin
from gersgorin.cli.main import main
from gersgorin.run.run import Run
from rhn.cells import DTRNN, DTSRNN, RHN, RNN, Cell

pytestmark = pytest.mark.usefixtures("own_folder")
N, M, T = 4, 3, 4


def made(kind: type, depth: int, init: str = "gaussian:0.1", **options) -> Cell:
    generator = torch.Generator().manual_seed(depth)
    return kind(M, N, depth, init=init, generator=generator, dtype=torch.float64, **options)


def inputs() -> torch.Tensor:
    return torch.rand(T, M, dtype=torch.float64, generator=torch.Generator().manual_seed(7))


class Logged:
    """A product P exp(log) with the largest entry of P at 1."""

    def __init__(self, P: np.ndarray):
        self.P, self.log = P, 0.0

    def then(self, J: np.ndarray) -> None:
        self.P = J @ self.P
        if size := np.abs(self.P).max():
            self.P, self.log = self.P / size, self.log + math.log(size)

    @property
    def log_norm(self) -> float:
        return self.log + math.log(np.linalg.norm(self.P, 2))


def layers_of(cell: Cell, x: np.ndarray, s: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
    """(The Jacobians of the layers of a step of an RHN or a DT-RNN, the next state)."""
    W, R, b = (p.detach().numpy() for p in (cell.weight_ih, cell.weight_hh, cell.bias))
    found = []
    for k in range(cell.depth):
        z = R[k] @ s + b[k] + (W @ x if k == 0 else 0)
        if isinstance(cell, RHN):
            h, t = np.tanh(z[:N]), 1 / (1 + np.exp(-z[N:]))
            dh, dt = (1 - h * h) * t, t * (1 - t) * (h - s)
            found.append(np.diag(1 - t) + dh[:, None] * R[k][:N] + dt[:, None] * R[k][N:])
            s = h * t + s * (1 - t)
        else:
            s = np.tanh(z)
            found.append((1 - s * s)[:, None] * R[k])
    return found, s


def expected(cell: Cell) -> tuple[list[float], list[float]]:
    """(log ||A[t] ... A[0]||, log ||A[t]||) for each step."""
    whole, s, logs, alone = Logged(np.eye(N)), np.zeros(N), [], []
    for x in inputs().numpy():
        step = Logged(np.eye(N))
        layers, s = layers_of(cell, x, s)
        for J in layers:
            whole.then(J)
            step.then(J)
        logs.append(whole.log_norm)
        alone.append(step.log_norm)
    return logs, alone


CELLS = {
    "RHN that shrinks": (RHN, 260, {"init": "gaussian:0.01", "transform_bias": 4.0}),
    "RHN, a few layers": (RHN, 3, {}),
    "DT-RNN that shrinks": (DTRNN, 250, {"init": "gaussian:0.01"}),
    "DT-RNN, a few layers": (DTRNN, 3, {}),
}


@for_each("name", CELLS)
def test_products_of_any_depth(name):
    kind, depth, options = CELLS[name]
    cell = made(kind, depth, **options)
    run = Run.of(cell, inputs())
    logs, alone = expected(cell)
    found, record = gersgorin.products(run), gersgorin.spectra(run)
    np.testing.assert_allclose(found.log_norm, logs, rtol=1e-9)
    np.testing.assert_allclose(record.log_norm_product, logs, rtol=1e-9)
    np.testing.assert_allclose(found.log_norm_back[-1], alone[-1], rtol=1e-9)
    assert found.log_norm_back[0] == pytest.approx(logs[-1], rel=1e-9)
    assert found.half_life == pytest.approx(-math.log(2) * T / logs[-1], rel=1e-9)
    # a norm is right, or it is not told
    for norm, log in zip(record.norm, alone, strict=True):
        assert math.isnan(norm) if log < -670 else norm == pytest.approx(math.exp(log), rel=1e-9)
    if np.isnan(record.norm).any():
        assert "only their products are known" in record.summary()
        assert np.isnan(record.eigenvalues[np.isnan(record.norm)]).all()


@for_each("name", ("RHN that shrinks", "DT-RNN that shrinks"))
def test_leading_eigenvalues_bands_and_comparisons_of_any_depth(name):
    kind, depth, options = CELLS[name]
    cell, (logs, _) = made(kind, depth, **options), expected(made(kind, depth, **options))
    few = gersgorin.spectra(Run.of(cell, inputs()), leading=2)
    np.testing.assert_allclose(few.log_norm_product, logs, rtol=1e-9)
    assert np.isnan(few.norm).all() and np.isnan(few.eigenvalues).all()
    bands = gersgorin.compare([cell], [inputs(), inputs()[:2]], over="sequences")[0]
    assert bands.steps.tolist() == [T, 2]
    np.testing.assert_allclose(bands.last_exponent, [logs[-1] / T, logs[1] / 2], rtol=1e-9)
    bands.figure()
    both = gersgorin.compare({"deep": cell, "flat": made(RNN, 1)}, inputs())
    assert both.figure().get_suptitle().endswith("steps in deep and every 0.41 steps in flat")


@for_each("name", ("RHN that shrinks", "DT-RNN that shrinks", "RHN, a few layers"))
def test_exponents_of_any_depth(name):
    kind, depth, options = CELLS[name]
    cell = made(kind, depth, **options)
    found = gersgorin.lyapunov(cell, inputs().repeat(8, 1))
    s, sums = np.zeros(N), 0.0
    for x in inputs().repeat(8, 1).numpy():
        layers, s = layers_of(cell, x, s)
        sums += sum(np.linalg.slogdet(J)[1] for J in layers)
    assert np.isfinite(found.exponents).all()
    assert found.sum == pytest.approx(sums / (8 * T), rel=1e-6)  # of all, log |det A|


def test_gains_of_any_depth():
    cell = made(DTRNN, 250, init="gaussian:0.01")
    found = gersgorin.gains(Run.of(cell, inputs()))
    assert np.isnan(found.input).all() and "too small or large for a number" in found.finding
    layers, _ = layers_of(cell, inputs()[0].numpy(), np.zeros(N))
    np.testing.assert_allclose(found.layers[0], [np.linalg.norm(J, 2) for J in layers], rtol=1e-9)


@for_each("kind", (RHN, DTRNN, DTSRNN))
@for_each("depth", (1, 3, 250))
def test_bounds_of_any_depth(kind, depth):
    cell = made(kind, depth, init="gaussian:0.01" if kind is not RHN else "gaussian:1")
    R = cell.weight_hh.detach().numpy()
    if kind is RHN:
        logs = [
            math.log(
                math.sqrt(1 + np.linalg.norm(R[k][:N], 2) ** 2) + np.linalg.norm(R[k][N:], 2) / 2
            )
            for k in range(depth)
        ]
        log = sum(logs)
    else:
        log = math.log(np.linalg.norm(R[0], 2))
        for k in range(1, depth):
            log += math.log(np.linalg.norm(R[k], 2))
            if kind is DTSRNN:
                skip = np.linalg.norm(cell.weight_skip[k - 1].detach().numpy(), 2)
                log = float(np.logaddexp(log, math.log(skip)))
    run = Run.of(cell, 0 * inputs())
    assert run.cell.log_norm_bound(1.0) == pytest.approx(log, rel=1e-9)
    bound = float(gersgorin.norm_bound(cell, 1.0))
    assert bound > 0  # never below the norm
    if abs(log) < 700:
        assert bound == pytest.approx(math.exp(log), rel=1e-9)


def test_a_jacobian_that_overflows_has_a_product():
    cell = DTRNN(1, 1, 400, init="gaussian:1", nonlinearity="relu", dtype=torch.float64)
    for p in cell.parameters():
        torch.nn.init.zeros_(p)
    # layers of 10 below a bias: 10^400, at states that stay small
    torch.nn.init.constant_(cell.weight_hh, 10.0)
    cell.bias.data.fill_(-9.0)
    found = gersgorin.spectra(Run.of(cell, torch.zeros(2, 1).double(), torch.ones(1).double()))
    np.testing.assert_allclose(found.log_norm_product / math.log(10), [400, 800], rtol=1e-12)
    assert np.isnan(found.norm).all()
    assert found.finding.startswith("The gradient of DTRNN doubles every 0.00075")


def test_shortcuts_keep_what_the_layers_lose():
    cell = made(DTSRNN, 300, init="gaussian:0.05")
    A = gersgorin.temporal_jacobian(cell, inputs()[0], torch.zeros(N).double()).detach().numpy()
    # by hand: P_1 = D_1 R_1, P_l = D_l (R_l P_{l-1} + S_l)
    W, R, S, b = (
        p.detach().numpy() for p in (cell.weight_ih, cell.weight_hh, cell.weight_skip, cell.bias)
    )
    s = np.tanh(W @ inputs()[0].numpy() + b[0])
    P = (1 - s * s)[:, None] * R[0]
    for k in range(1, 300):
        s = np.tanh(R[k] @ s + b[k])
        P = (1 - s * s)[:, None] * (R[k] @ P + S[k - 1])
    np.testing.assert_allclose(A, P, rtol=1e-10, atol=1e-18)


def test_the_command_prints_the_product_and_the_bound(capsys):
    words = ["--depth", "300", "--steps", "2", "--hidden-size", "4"]
    assert main(["plot", "--cell", "dt-rnn", *words]) == 0
    text = capsys.readouterr().out
    assert "is 10^-" in text and "is zero" not in text
    assert re.search(r"bound on the 2-norm +10\^-", text)
