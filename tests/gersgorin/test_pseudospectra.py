"""Pseudospectra of a run's steps: how small a change of a step moves its eigenvalues, in numbers, a figure and words."""

import numpy as np
import pytest
import torch

from examples.paper.claims import Linear
from gersgorin import eigenvalues, temporal_jacobian, trajectory
from gersgorin.analyses.pseudospectra import CIRCLE_POINTS, pseudospectra
from gersgorin.linalg import numerical_radius, pseudospectrum
from rhn.cells import RNN
from rhn.errors import InvalidInputError


@pytest.fixture(scope="module")
def of_normal_steps():
    matrices = torch.tensor([[0.5, -0.25, 0.0], [0.25, 0.5, 0.0], [0.0, 0.0, 0.875]], dtype=torch.float64).repeat(
        3, 1, 1
    )
    return pseudospectra(Linear(3), matrices.flatten(1), side=21)


def test_the_numbers_are_those_of_the_shown_steps():
    torch.manual_seed(4)
    cell, x, told = RNN(5, 6, init="gaussian:0.9", dtype=torch.float64), torch.rand(7, 5, dtype=torch.float64), []
    found = pseudospectra(cell, x, side=21, progress=lambda done, total: told.append((done, total)))
    A = temporal_jacobian(cell, x, trajectory(cell, x)[:-1]).detach()
    assert found.steps.tolist() == [0, 2, 4, 6] and told == [(1, 4), (2, 4), (3, 4), (4, 4)]
    z = found.axis + 1j * found.axis[:, None]
    assert np.array_equal(found.axis, -found.axis[::-1]) and found.axis[-1] > float(numerical_radius(A[::2]).max())
    circle = np.exp(1j * np.linspace(0, 2 * np.pi, 10001))
    spacing = np.pi / (CIRCLE_POINTS - 1)  # the least singular value changes by no more than the point does
    for k, step in enumerate(found.steps):
        np.testing.assert_allclose(found.sigma[k], pseudospectrum(A[step], z), rtol=1e-5, atol=1e-12)
        assert found.to_circle[k] == pytest.approx(float(pseudospectrum(A[step], circle).min()), abs=2 * spacing)
        np.testing.assert_allclose(found.eigenvalues[k], eigenvalues(A[step]), rtol=1e-10)


def test_the_curves_are_where_the_numbers_say(of_normal_steps):
    _, ax, _, _ = of_normal_steps.plot().figure.axes
    values, (curves,) = of_normal_steps.eigenvalues[1], ax.collections
    for level, path in zip(of_normal_steps.levels, curves.get_paths(), strict=True):
        if len(path.vertices):
            distances = np.abs(path.vertices[:, :1] + 1j * path.vertices[:, 1:] - values).min(1)
            assert distances == pytest.approx(10**level, abs=0.115)  # the width of the grid
    assert 2 < len(of_normal_steps.levels) < 15 and np.ptp(np.diff(of_normal_steps.levels)) < 1e-9


@pytest.mark.parametrize("side", [2, 20, 7.0])
def test_the_grid_has_an_odd_side(side):
    with pytest.raises(InvalidInputError, match=f"side is {side}: expected an odd number"):
        pseudospectra(Linear(2), torch.zeros(3, 4, dtype=torch.float64), side=side)
