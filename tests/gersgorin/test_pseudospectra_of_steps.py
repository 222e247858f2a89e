"""Pseudospectra of steps: recorded numbers, singular values by SciPy, closed forms and figures."""

import math
from dataclasses import replace

import numpy as np
import pytest
import scipy.linalg
import torch
from readable import other_words, words_in
from torch.autograd.functional import jacobian

from gersgorin.analyses import pseudospectra as home
from gersgorin.analyses.complex_plane import PLANE_TEXTS
from gersgorin.analyses.pseudospectra import NEAREST, TO_CIRCLE, Pseudospectra, pseudospectra
from gersgorin.run import open_run
from rhn.utils.named_curves import CURVE_TEXTS
from tests.numbers.record import X, cell

GRID = ("axis", "sigma", "eigenvalues", "to_circle", "middle")


def of_matrix(*matrices, **how):
    """Pseudospectra of the steps s' = A s, one for each matrix A."""
    A = torch.as_tensor(np.array(matrices))
    n = A.shape[-1]
    return pseudospectra(
        lambda x, s: x.reshape(n, n) @ s, A.flatten(1), torch.zeros(n).double(), **how
    )


def test_numbers_are_those_of_scipy():
    f, told = cell("rhn", "3")[0].requires_grad_(False), []
    run = replace(open_run(f, X[:7]), progress=lambda *done: told.append(done))
    found = pseudospectra(run, side=11)
    assert found.shown.tolist() == [0, 2, 4, 6] and told == [(1, 4), (2, 4), (3, 4), (4, 4)]
    s, angles = torch.zeros(6).double(), np.linspace(0, np.pi, 1000)
    for t, x in enumerate(X[:7]):
        A = jacobian(lambda s, x=x: f.step(x[None], s[None])[0], s).numpy()
        s = f.step(x[None], s[None])[0]
        if t % 2:
            continue
        k, z = t // 2, found.middle + found.axis + 1j * found.axis[:, None]
        wanted = [scipy.linalg.svdvals(point * np.eye(6) - A)[-1] for point in z.ravel()]
        np.testing.assert_allclose(found.sigma[k].ravel(), wanted, atol=1e-13)
        moduli = np.sort(np.abs(np.linalg.eigvals(A)))[::-1]
        np.testing.assert_allclose(np.abs(found.eigenvalues[k]), moduli)
        least = [scipy.linalg.svdvals(np.exp(1j * a) * np.eye(6) - A)[-1] for a in angles]
        assert -1e-12 < min(least) - found.to_circle[k] < angles[1]
        # a change of this norm reaches the circle
        u, sizes, v = np.linalg.svd(np.exp(1j * angles[np.argmin(least)]) * np.eye(6) - A)
        moved = np.linalg.eigvals(A + sizes[-1] * np.outer(u[:, -1], v[-1]))
        assert np.abs(np.abs(moved) - 1).min() < 1e-9
    assert found.table()["time step of the least distance"] == 2 * found.to_circle.argmin()
    steps, radii = (line.split() for line in str(found).splitlines()[2:4])
    assert steps == ["time", "step", "(from", "0)", "0", "2", "4", "6"]
    assert radii[2:] == [f"{abs(z):.4g}" for z in found.eigenvalues[:, 0]]
    assert all(np.shape(curve) == (4,) for curve in found.curves().values())


@pytest.mark.parametrize(
    ("matrix", "middle", "half"),
    [
        pytest.param([[0.7, 0.0], [0.0, 0.6]], 0.65, 1.15 * 0.35, id="a part of the circle"),
        pytest.param([[1.0, 0.0], [0.0, 0.8]], 0.9, 1.35 * 0.1, id="along the real axis"),
        pytest.param([[0.9, -0.15], [0.15, 0.9]], 0.9, 1.35 * 0.15, id="across it"),
        pytest.param([[30.0, 0.0], [0.0, -40.0]], 0.0, 1.15 * 40, id="a large range"),
    ],
)
def test_the_grid_holds_the_numerical_range_and_a_part_of_the_circle(matrix, middle, half):
    found = of_matrix(matrix, side=9)
    assert found.middle == pytest.approx(middle, abs=1e-12) and len(found.axis) == 9
    assert found.axis[-1] == -found.axis[0] == pytest.approx(half, rel=1e-3)
    ends = found.coordinates()["real"][[0, -1]]
    np.testing.assert_allclose(ends, [middle - half, middle + half], atol=1e-3 * half)


@pytest.mark.parametrize(
    ("entries", "side"), [pytest.param(2, 101, id="small"), pytest.param(3, 51, id="large")]
)
def test_the_grid_has_half_of_the_points_for_more_entries(entries, side, monkeypatch):
    monkeypatch.setattr(home, "WHOLE", 2)
    assert len(of_matrix(np.eye(entries)).axis) == side
    assert len(of_matrix(np.eye(entries), side=3).axis) == 3


@pytest.mark.parametrize("K", [0.0, 1.0, 100.0])
def test_a_block_of_two_has_a_closed_form(K):
    """The singular values of z - [[0, K], [0, 0]] have the product |z|^2 and the squares' sum 2
    |z|^2 + K^2 (L. Trefethen, M. Embree, 2005).
    """
    found = of_matrix([[0.0, K], [0.0, 0.0]], side=21)
    r = np.abs(found.axis + 1j * found.axis[:, None])
    np.testing.assert_allclose(
        found.sigma[0], (np.sqrt(K**2 + 4 * r**2) - K) / 2, atol=1e-13 * (1 + K)
    )
    assert found.to_circle == pytest.approx([(math.sqrt(K**2 + 4) - K) / 2])
    table = found.table()
    assert table[NEAREST] == 1 and (table[TO_CIRCLE] < 0.9) == (K > 0)


def test_the_grid_of_steps_near_the_identity_lies_around_their_spectra():
    W = torch.randn(8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64) / 8**0.5
    found = of_matrix(0.98 * np.eye(8) + 0.02 * W.numpy())
    half = found.axis[-1]
    assert 0.9 < found.middle < 1 and half < 0.1 and found.middle + half > 1  # the circle is seen
    assert (np.abs(found.eigenvalues - found.middle) < half).all() and len(found.axis) == 101
    assert found.plot().get_xlim()[1] < 1.2


@pytest.mark.parametrize(
    ("distance", "least"),
    [
        pytest.param(0.01, -2, id="from the distance on"),
        pytest.param(math.nan, -2, id="from the least value on if no distance is known"),
        pytest.param(0.5, -1, id="over a decade at least"),
    ],
)
def test_a_curve_may_touch_the_edge_of_the_grid_and_no_curve_crosses_it(distance, least):
    """The least value at the edge is 1, and one of the levels is log10(1) = 0."""
    sigma = np.full((1, 5, 5), 100.0)
    sigma[0, 2, 2], sigma[0, 0, 2] = 0.01, 1.0
    found = replace(of_matrix([[0.5]], side=5), sigma=sigma, to_circle=np.array([distance]))
    assert found.levels[-1] == 0 and least - 0.5 < found.levels[0] <= least


def test_curves_are_where_the_numbers_say_and_have_no_other_words(tmp_path):
    normal = np.array([[0.5, -0.25, 0.0], [0.25, 0.5, 0.0], [0.0, 0.0, 0.875]])
    found = of_matrix(*[normal] * 3, side=41, steps=[2, 0])
    figure = found.figure()
    assert [ax.get_title("left") for ax in figure.axes[:2]] == ["time step 0", "time step 2"]
    paths, drawn = figure.axes[1].collections[0].get_paths(), 0
    assert 2 < len(found.levels) < 15
    for level, path in zip(found.levels, paths, strict=True):
        if len(path.vertices):
            points, drawn = path.vertices @ [1, 1j], drawn + 1
            distances = np.abs(points[:, None] - found.eigenvalues[0]).min(1)
            assert distances == pytest.approx(10**level, abs=0.06)
            assert np.abs(points).max() < found.axis[-1]
    assert drawn > 2
    text = " ".join([*words_in(figure), str(found), found.figure_title()])
    assert other_words(text, found, (*PLANE_TEXTS, *CURVE_TEXTS, "f(x, s)")) == set()
    for name in ("a.npz", "a.json"):
        assert str(Pseudospectra.load(found.save(tmp_path / name))) == str(found)
