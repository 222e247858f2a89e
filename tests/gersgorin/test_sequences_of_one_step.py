"""Every analysis of a sequence of one time step, with seven units: NumPy on its only Jacobian."""

import math

import numpy as np
import pytest
import scipy.linalg
import torch
from readable import without_layout
from torch.autograd.functional import jacobian

from gersgorin.analyses.compare import compare
from gersgorin.analyses.fixed_points import fixed_points
from gersgorin.analyses.frames import random_frame
from gersgorin.analyses.gains import gains
from gersgorin.analyses.gates import gates
from gersgorin.analyses.influence import influence
from gersgorin.analyses.lyapunov import lyapunov
from gersgorin.analyses.products import products
from gersgorin.analyses.pseudospectra import pseudospectra
from gersgorin.analyses.spectra import spectra
from gersgorin.recorder import Recorder
from gersgorin.run import open_run
from rhn.cells import make_cell
from rhn.errors import InvalidInputError
from tests.numbers.record import drawn, filled

M, N = 3, 7
CELL = filled(make_cell("rhn", M, N, depth=2)).requires_grad_(False)
X, ZERO = drawn(1, M), torch.zeros(N, dtype=torch.float64)


def step(x, s):
    return CELL.step(x[None], s[None])[0]


A = jacobian(lambda s: step(X[0], s), ZERO).numpy()
B = jacobian(lambda x: step(x, ZERO), X[0]).numpy()
LOG_NORM = math.log(np.linalg.norm(A, 2))


def drawn_and_printed(found):
    without_layout(found).draw_without_rendering()
    return str(found)


def test_spectra_and_products():
    found = spectra(CELL, X)
    moduli = np.sort(np.abs(np.linalg.eigvals(A)))[::-1]
    np.testing.assert_allclose(np.abs(found.eigenvalues), moduli[None])
    np.testing.assert_allclose(found.norm, [np.linalg.norm(A, 2)])
    np.testing.assert_allclose(found.centers, A.diagonal()[None])
    np.testing.assert_allclose(found.row_reach, [np.linalg.norm(A, np.inf)])
    np.testing.assert_allclose(found.log_norm_product, [LOG_NORM])
    assert found.typical_step == 0 and drawn_and_printed(found)
    both = products(CELL, X)
    np.testing.assert_allclose([both.log_norm, both.log_norm_back], [[LOG_NORM]] * 2)
    table = both.table()
    assert table["growth rate of ||ds[t]/ds[0]|| (1/step)"] == pytest.approx(LOG_NORM)
    assert drawn_and_printed(both)


def test_gains_and_gates():
    found, parts = gains(CELL, X), CELL.layer_jacobians(X, ZERO[None])
    np.testing.assert_allclose(found.input, [np.linalg.norm(B, 2)])
    np.testing.assert_allclose(found.layers, [[np.linalg.norm(J[0], 2) for J in parts]])
    own = gates(CELL, X)
    wanted = [gate.mean().item() for gate in CELL.gates(X, ZERO[None]).t]
    np.testing.assert_allclose(own.mean.ravel(), wanted)
    assert drawn_and_printed(found) and drawn_and_printed(own)


def test_exponents_are_the_growth_of_the_step_and_have_no_margin():
    found = lyapunov(CELL, X)
    assert found.sum == pytest.approx(np.linalg.slogdet(A).logabsdet)
    assert found.curve_steps.tolist() == [1] and np.isnan(found.margins).all()
    np.testing.assert_array_equal(found.curve, found.exponents[None])
    one = lyapunov(CELL, X, count=1)
    first = random_frame(N, 1, 0, ZERO).numpy()
    np.testing.assert_allclose(one.exponents, [math.log(np.linalg.norm(A @ first))])
    thrice = lyapunov(CELL, X, repeat=3, warmup=2)
    last = open_run(CELL, X.repeat(3, 1)).jacobians()[2]
    assert thrice.sum == pytest.approx(np.linalg.slogdet(last).logabsdet)
    assert drawn_and_printed(found) and drawn_and_printed(thrice)


def test_pseudospectra_of_the_only_step():
    found = pseudospectra(CELL, X, side=5)
    z = found.middle + found.axis + 1j * found.axis[:, None]
    wanted = [scipy.linalg.svdvals(point * np.eye(N) - A)[-1] for point in z.ravel()]
    np.testing.assert_allclose(found.sigma.ravel(), wanted, atol=1e-13)
    assert found.shown.tolist() == [0] and drawn_and_printed(found)


def test_starts_of_a_search_are_drawn_around_the_first_state():
    found = fixed_points(CELL, X, starts=9)
    np.testing.assert_array_equal(found.starts[0], ZERO)
    assert len(np.unique(found.starts[:9], axis=0)) == 9 and found.trajectory.shape == (2, N)
    for s in torch.from_numpy(found.states[~found.is_slow]):
        np.testing.assert_allclose(step(X[0], s), s, atol=1e-10)
    assert len(found.states) > 0 and drawn_and_printed(found)


def test_the_influence_of_the_only_input():
    found = influence(open_run(CELL, X))
    np.testing.assert_allclose(found.influence, [[np.linalg.norm(B)]])
    assert found.share.tolist() == found.reach.tolist() == [1] and found.ahead == 0
    assert found.steps_to_half == math.inf, "the last lag is above half"
    assert found.effective_length == 1 and drawn_and_printed(found)
    # half of the squared distance to 0 has the gradient s
    loss = influence(open_run(CELL, X), of="squared", y=torch.zeros(1, N))
    gradient = step(X[0], ZERO).numpy() @ B
    np.testing.assert_allclose(loss.influence, [[np.linalg.norm(gradient)]])
    with pytest.raises(InvalidInputError, match=r"\(1, 1, 3\) is 1: expected at least 2$"):
        influence(CELL, X)


def test_a_comparison_with_a_longer_run():
    found = compare({"both": CELL, "rnn": filled(make_cell("rnn", M, N))}, [X, drawn(4, M)])
    np.testing.assert_allclose(found.network("both").last_exponent[0], LOG_NORM)
    assert found.network("both").runs_at.tolist() == [2, 1, 1, 1] and drawn_and_printed(found)
    alone = compare({"one": CELL}, X)
    assert alone.table()["log10 ||ds[T]/ds[0]||"] == pytest.approx(LOG_NORM / math.log(10))
    assert drawn_and_printed(alone)


def test_a_recorder_whose_probe_has_one_step():
    found = Recorder(CELL, X).recording
    np.testing.assert_allclose(found.radius, [[np.abs(np.linalg.eigvals(A)).max()]])
    np.testing.assert_allclose(found.reach, [[np.linalg.norm(A, np.inf)]])
    np.testing.assert_allclose(found.exponent, [LOG_NORM])
    np.testing.assert_allclose(found.input_gain, [[np.linalg.norm(B, 2)]])
    assert drawn_and_printed(found)
    longer = Recorder(CELL, [X, drawn(5, M)]).recording  # of four places, two lie in each
    np.testing.assert_allclose(longer.radius[0, [0, 2]], found.radius[0, [0, 0]])
    assert longer.exponent_steps == 1
