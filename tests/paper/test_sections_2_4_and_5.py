"""Longest paths, largest states, discs of larger matrices and the schematic of a layer, against
closed forms.
"""

from itertools import pairwise

import numpy as np
import pytest
import torch

from paper import coupling, deviations, identity, paths, schematic
from paper.values import median_and_quartiles


@pytest.mark.parametrize(
    ("network", "length"),
    [
        pytest.param("stacked", 4 + 6 - 1, id="stacked"),
        pytest.param("deep", 4 * 6, id="deep transition"),
        pytest.param("rhn", 4 * 6, id="rhn"),
    ],
)
def test_the_longest_path_of_four_layers_in_six_steps(network, length):
    assert paths.longest_path(*paths.NETWORKS[network](4, 6)) == length


def test_a_path_is_counted_only_from_the_first_state():
    """A second input passes through more layers than the first one."""
    first, other = (torch.ones(2, requires_grad=True) for _ in range(2))
    last = (other.tanh().tanh().tanh() + first.tanh() + first).tanh()
    assert paths.longest_path(first, last) == 2
    assert paths.longest_path(other, last) == 4


def test_the_picture_shows_paths_of_the_same_lengths():
    for edges, length in (
        (paths.stacked_edges(3, 4), 3 + 4 - 1),
        (paths.deep_edges(3, 4), 3 * 4),
    ):
        path = paths.longest_of(edges)
        assert len(path) - 1 == length
        assert {*pairwise(path)} <= {*edges}
    titles = [ax.get_title("left") or ax.get_title() for ax in paths.draw().axes]
    assert titles == ["3 stacked layers: 6 layers", "recurrence depth 3: 12 layers"]


def test_coupled_states_stay_within_1_and_others_do_not():
    """Each state lies between the one before and tanh."""
    for deviation in (0.1, 1.0, 10.0):
        assert coupling.largest_state(deviation, True, 0) <= 1
    assert coupling.largest_state(1.0, False, 0) > 1


def test_moduli_of_a_matrix_are_those_of_numpy():
    disc, radius = deviations.moduli(16, 3)
    generator = torch.Generator().manual_seed(3)
    A = 0.05 * torch.randn(16, 16, dtype=torch.float64, generator=generator).numpy()
    assert disc == pytest.approx(np.abs(A).sum(1).max())
    assert radius == pytest.approx(np.abs(np.linalg.eigvals(A)).max())


def test_the_deviation_that_is_allowed_falls_with_the_size_of_the_matrix():
    """The spectral radius of n x n Gaussian numbers is near sqrt(n), the sum of a row near
    n sqrt(2 / pi).
    """
    found = deviations.rows()
    for n in deviations.SIZES:
        assert found[f"radius_reaches_1_{n}"][0] * n**0.5 == pytest.approx(1, abs=0.15)
    assert found["discs_reach_1_256"][0] * 256 * (2 / np.pi) ** 0.5 == pytest.approx(1, abs=0.2)


def test_networks_of_the_identity_start_with_a_spectral_radius_near_1(monkeypatch):
    monkeypatch.setattr(identity, "STEPS", 5)
    found = identity.trained(identity.frames(), 1e-3, 0)
    assert found.step.tolist() == [0, 5]
    assert found.eigenvalues.shape == (2, identity.UNITS)
    assert found.radius[0].max() == pytest.approx(1, abs=0.02)


def test_medians_have_their_quartiles():
    assert median_and_quartiles([4, 0, 1, 2, 3]) == (2, 1, 3)


def test_only_the_first_layer_of_the_schematic_reads_the_input():
    (ax,) = schematic.draw().axes
    arrows = [text for text in ax.texts if getattr(text, "arrow_patch", None) is not None]
    of_input = [arrow for arrow in arrows if arrow.xyann[1] == schematic.INPUT]
    first = schematic.LAYERS[0]
    assert len(of_input) == 3
    assert all(first.left < arrow.xy[0] < first.left + schematic.WIDTH for arrow in of_input)
