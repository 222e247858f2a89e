"""Bounds of products of Jacobians: against 60 digits, on hard matrices, along real runs; text, JSON
and figures of the command.
"""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from cases import CELL_CASES, randomize
from hypothesis import given, settings
from hypothesis import strategies as st
from matrices import square_matrices
from tables import for_each

from examples.paper.claims import Linear
from gersgorin.analyses.bounds import bounds
from gersgorin.analyses.spectra import spectra
from gersgorin.cli.main import main
from gersgorin.linalg.products import cumulative_log_norms
from gersgorin.loading.open import open_run
from gersgorin.run.cell import layer_jacobians, temporal_jacobian, trajectory
from rhn.cells import GRU, RHN, RNN
from rhn.data import chorale
from rhn.errors import InvalidInputError

LAST_DIGITS = 1e-12  # of a bound in nats, which are not certain
mp = pytest.importorskip(
    "mpmath", reason="mpmath is not installed: nothing to check against"
).mp.clone()
mp.dps = 60


def singular_values(A) -> list:
    """To 60 digits, the largest first; of a NumPy or mpmath matrix."""
    A = mp.matrix(A.tolist()) if isinstance(A, np.ndarray) else A
    return sorted(mp.svd_r(A, compute_uv=False), reverse=True)


def exact_log_norms(steps: np.ndarray) -> list:
    """log ||A_{t-1} ... A_0||, t = 1..T, to 60 digits; -inf for zero."""
    products, norms = mp.eye(steps.shape[-1]), []
    for A in steps:
        products = mp.matrix(A.tolist()) * products
        largest = singular_values(products)[0]
        norms.append(mp.log(largest) if largest > mp.mpf(10) ** -400 else -mp.inf)
    return norms


def chains(largest: int = 4) -> st.SearchStrategy[np.ndarray]:
    """(T, n, n) of hard matrices and their transposes, with some noise, T = 1..9."""

    def build(A, T, noise, seed):
        rng = np.random.default_rng(seed)
        turned = [A.numpy() if rng.random() < 0.5 else A.numpy().T for _ in range(T)]
        return np.stack(turned) + noise * rng.standard_normal((T, *A.shape))

    sizes = st.integers(1, 9), st.sampled_from([0.0, 1e-9, 0.3]), st.integers(0, 99)
    return st.builds(build, square_matrices(largest), *sizes)


def bounded(steps: np.ndarray, dtype=torch.float64):
    """The bounds of bare matrices (T, n, n), one a step."""
    return bounds(Linear(steps.shape[-1]), torch.as_tensor(steps, dtype=dtype).flatten(1))


@settings(max_examples=60)
@given(chains())
def test_every_kind_of_bound_holds_for_every_length_of_window_at_every_time(steps):
    found, exact = bounded(steps), exact_log_norms(steps)
    assert found.steps == len(exact)
    for t, log_norm in enumerate(exact):
        assert all(bound >= log_norm - LAST_DIGITS for bound in found.upper[:, :, t].ravel())
        assert all(bound <= log_norm + LAST_DIGITS for bound in found.lower[:, t])
    assert np.isfinite(found.best).all()
    slack = 1e-12 * (1 + np.abs(found.best[:-1]))
    assert (found.best[1:] <= found.best[:-1] + slack).all()  # longer windows bind better
    assert (found.lower[1:] >= found.lower[:-1] - 1e-12 * (1 + np.abs(found.best[:-1]))).all()


def test_a_fixed_norm_finds_what_the_euclidean_one_cannot_see():
    """A shear keeps the norm above 1 at every step, and shrinks in the long run."""
    A = np.array([[0.5, 8.0], [0.0, 0.5]])
    found = bounded(np.stack([A] * 64))
    euclidean, diagonal, quadratic = found.upper[:, 0, -1] / 64
    assert euclidean > 2 and diagonal < 0.3 and quadratic < -0.5
    assert found.sufficient == 0 and "halves, on average, at least every" in next(found.sentences())


def test_what_underflows_overflows_or_vanishes():
    for factor in (1e300, 1e-300, 5e-324):
        found = bounded(factor * np.ones((50, 2, 2)))
        expected = 50 * (math.log(2) + math.log(factor))
        assert found.best[-1, -1] == pytest.approx(expected, rel=1e-2 if factor < 1e-310 else 1e-12)


@pytest.mark.parametrize(("dtype", "unit"), [("float64", 2.0**-53), ("float32", 2.0**-24)])
def test_a_product_of_zero_counts_as_one_rounding_unit(dtype, unit):
    steps = np.stack([np.eye(2), np.zeros((2, 2)), np.eye(2)])
    nothing = bounded(steps, getattr(torch, dtype))
    np.testing.assert_allclose(nothing.best[:, -1], math.log(unit))
    # the product as computed is zero
    assert nothing.lower_exponent.max() == -math.inf == nothing.measured_exponent
    assert (nothing.best[:, 0] >= 0).all()  # the first step still keeps it
    told = nothing.summary()
    assert (
        "inf" not in told and "vanishes" not in told and f"at most e^{math.log(unit):.3g}" in told
    )
    assert f"the {dtype} Jacobians as computed" in told


@pytest.mark.parametrize("scale", [20.0, 30.0])
def test_saturated_units_over_eight_steps_keep_their_gradient(scale):
    """tanh rounds to 1 in every unit at some step: 1 - h^2 would be 0 there, and the product with
    it.
    """
    g = torch.Generator().manual_seed(7)
    cell = RNN(3, 4, init=f"scaled:{scale}", generator=g, dtype=torch.float64)
    x = torch.randn(8, 3, generator=g, dtype=torch.float64)
    W, R, b = (mp.matrix(p.detach().reshape(-1, p.shape[-1]).tolist()) for p in cell.parameters())
    s, product, largest = mp.zeros(4, 1), mp.eye(4), 0
    for row in x.tolist():
        z = W * mp.matrix(row) + R * s + b.T
        largest = max(largest, *z.apply(abs))
        s, product = z.apply(mp.tanh), mp.diag([mp.sech(v) ** 2 for v in z]) * R * product
    exact, found = float(mp.log(singular_values(product)[0])), bounds(cell, x)
    assert largest > 9 and exact < -10
    assert found.log_norm[-1] == pytest.approx(exact, abs=1e-6) and found.best[
        -1, -1
    ] == pytest.approx(exact, abs=1e-6)


@for_each("case", CELL_CASES)
def test_along_a_run_of_every_cell(case):
    cell, x = case.plain(3, 4), torch.rand(11, 3, dtype=torch.float64)
    randomize(cell, 3, gain=0.8)
    found = bounds(cell, x)
    with torch.no_grad():
        A = temporal_jacobian(cell, x, trajectory(cell, x)[:-1])
    measured = cumulative_log_norms(A).numpy()
    np.testing.assert_allclose(found.log_norm, measured, rtol=1e-9, atol=1e-9)
    layers = ["1 layer", "2 layers", "4 layers", "8 layers"][: math.ceil(math.log2(case.depth))]
    assert found.lengths == (*layers, "1 step", "2 steps", "4 steps", "8 steps", "11 steps")
    assert (found.best >= measured - 1e-9).all() and (found.lower <= measured + 1e-9).all()
    if np.isfinite(found.measured_exponent):  # some ReLU networks die
        assert found.exponent[-1] == pytest.approx(found.measured_exponent, abs=1e-6)
    assert found.lower_exponent[-1] == pytest.approx(found.measured_exponent, abs=1e-6)
    assert (found.exponent[1:] <= found.exponent[:-1] + 1e-12).all()


def test_layers_of_a_real_run_against_sixty_digits():
    cell = RHN(88, 5, 3, init="uniform:0.5", dtype=torch.float64)
    x = torch.as_tensor(chorale("bwv66.6"))[:6].double()
    found = bounds(cell, x)
    with torch.no_grad():
        layers = layer_jacobians(cell, x, trajectory(cell, x)[:-1]).numpy()  # (L, T, N, N)
    exact = exact_log_norms(layers.swapaxes(0, 1).reshape(-1, 5, 5))[2::3]
    for t, log_norm in enumerate(exact):
        assert all(bound >= log_norm - LAST_DIGITS for bound in found.upper[:, :, t].ravel())
        assert all(bound <= log_norm + LAST_DIGITS for bound in found.lower[:, t])
    assert (np.diff(found.exponent) <= 1e-14).all() and found.lengths[0] == "1 layer"


def test_what_cannot_be_bounded_is_refused(monkeypatch):
    x = torch.zeros(3, 2, dtype=torch.float64)
    with pytest.raises(InvalidInputError, match="holds several sequences"):
        bounds(RNN(2, 3, dtype=torch.float64), x[:, None].repeat(1, 2, 1))
    with pytest.raises(InvalidInputError, match="step 1 holds NaN"):
        bounds(lambda x, s: (s * x).abs().sqrt(), torch.tensor([[1.0], [0.0]]), torch.ones(2))
    run = open_run(RNN(3, 9), torch.zeros(30, 3))
    monkeypatch.setattr("rhn.utils.validation.free_memory", lambda device: 1000)
    with pytest.raises(InvalidInputError, match="use fewer steps"):
        bounds(run)


@pytest.fixture(scope="module")
def found():
    torch.manual_seed(1)
    x = torch.rand(13, 4, dtype=torch.float64)
    return replace(bounds(RHN(4, 7, 3, init="uniform:0.4", dtype=torch.float64), x), title="rhn")


@pytest.mark.parametrize(
    ("words", "first"), [(("rhn", "--depth", "3"), "1 layer"), (("gru",), "1 step")]
)
def test_the_command_bounds_the_measured_exponent(words, first, tmp_path, own_folder, capsys):
    assert main(["bounds", "--cell", *words, "--json", "--hidden-size", "6", "--steps", "9"]) == 0
    result = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert [path.stat().st_size > 10_000 for path in tmp_path.glob("*bounds*.png")] == [True]
    measured = spectra(words[0], depth=3 if len(words) > 1 else None, hidden_size=6, steps=9)
    result = result["bounds"]
    assert result["measured_exponent"] == pytest.approx(float(measured.finite_time_exponent[-1]))
    assert result["about"].startswith(
        "Bounds of the products of the float64 Jacobians as computed; the rounding of"
    )
    assert result["windows"][0]["window"] == first
    for row in result["windows"]:
        assert row["lower_exponent"] is None or row["lower_exponent"] <= result["measured_exponent"]
        assert row["exponent_bound"] >= result["measured_exponent"]


def test_the_figure_shows_the_numbers(found):
    ax, beside = replace(found, unit="0.1 s").plot().figure.axes
    drawn = {line.get_label(): line.get_ydata() for line in ax.lines}
    np.testing.assert_allclose(drawn["measured"][1:] * np.log(10), found.log_norm)
    np.testing.assert_allclose(drawn["at most: 1 layer"][1:] * np.log(10), found.best[0])
    assert ax.get_xlabel() == "time step (0.1 s)" and ax.get_ylim()[1] > found.best[
        0
    ].max() / np.log(10)
    drawn = {line.get_label(): line.get_ydata() for line in beside.lines}
    np.testing.assert_allclose(drawn["norm"], found.upper[0, :, -1] / 13)
    assert [label.get_text() for label in beside.get_xticklabels()] == list(found.lengths)
    assert found.plot(ax) is ax


def test_the_sentence_says_what_holds(found):
    assert found.sufficient is not None and "halves, on average, at least every" in next(
        found.sentences()
    )
    grown = replace(
        found, upper=found.upper + 999, lower=found.lower + 999, log_norm=found.log_norm + 999
    )
    assert "does not vanish" in next(grown.sentences()) and np.isinf(grown.half_life).all()
    loose = replace(found, upper=found.upper + 999)
    assert "rounding leaves it open" in next(loose.sentences()) and loose.sufficient is None


def test_long_windows_bound_what_no_single_step_does():
    cell = GRU(
        3, 24, init="uniform:0.6", generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )
    found = bounds(cell, torch.ones(60, 3, dtype=torch.float64))
    assert (
        found.upper[0, 0, -1] > 0 > found.exponent[-1]
        and 0 < found.sufficient < len(found.lengths) - 1
    )
