"""The paper's statements (Zilly et al. 2017, sections 3 and 4), asserted on the numbers the gallery
draws.
"""

import functools
from pathlib import Path

import numpy as np
import pytest
import torch

from examples import figures as claims
from gersgorin import compare, eigenvalues, gersgorin_discs, temporal_jacobian
from gersgorin.growth import HALF_LIFE, LOG_NORM
from rhn.cells import RHN, make_cell
from rhn.data import chorale

d = torch.float64
moving_spectra = functools.cache(lambda seed: firsts(claims.moving_spectra(seed)))


def firsts(found):
    """The spectra of each network of a comparison."""
    return [one.first for one in found.networks]


def test_figure_2_small_weights_centre_near_0_and_identity_near_1():
    small, identity = firsts(claims.initialisations())
    assert np.abs(small.centers[0]).max() < 0.1 and np.abs(identity.centers[0] - 1).max() < 0.1
    assert identity.row_radii[0].max() < 0.5 < small.row_radii[0].min()


def test_closed_gates_give_the_identity_and_open_ones_the_spectrum_of_the_candidate():
    (closed, opened), rhn = firsts(claims.gate_limits()), claims.gated(40.0)
    assert np.allclose(closed.eigenvalues, 1, atol=1e-12) and closed.row_radii.max() < 1e-12
    x = torch.as_tensor(chorale(claims.CHORALE))[0].double()
    h = rhn.gates(x, torch.zeros(claims.UNITS, dtype=d)).h[0]
    candidate = (1 - h * h)[:, None] * rhn.weight_hh[0, : claims.UNITS]
    assert np.allclose(opened.eigenvalues[0], eigenvalues(candidate), atol=1e-12)


def test_radii_grow_with_the_matrix_at_a_fixed_standard_deviation():
    radii = [gersgorin_discs(claims.gaussian_matrix(n)).radii.mean() for n in (8, 32, 128, 512)]
    assert radii == sorted(radii)
    assert radii[-1] == pytest.approx(511 * 0.05 * np.sqrt(2 / np.pi), rel=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_gates_hold_the_radius_and_move_the_bulk_and_a_tanh_rnn_the_other_way_round(seed):
    rnn, irnn, rhn = moving_spectra(seed)
    named = {"RNN": rnn, "IRNN": irnn, "RHN": rhn}
    bulk = {name: np.ptp(found.centers.mean(1)) for name, found in named.items()}
    radius = {name: np.ptp(found.spectral_radius) for name, found in named.items()}
    assert bulk["IRNN"] > bulk["RHN"] > 4 * bulk["RNN"]
    assert radius["RNN"] > 5 * radius["RHN"] > 5 * radius["IRNN"]
    assert np.abs(rhn.spectral_radius - 1).max() < 0.05
    assert np.abs(rnn.spectral_radius - 1).min() > 0.4
    assert np.abs(irnn.spectral_radius - 1).max() < 0.01
    assert np.allclose(rhn.centers.mean(1), rhn.eigenvalues.mean(1), atol=1e-12)


def test_the_gallerys_table_of_moving_spectra():
    text = (Path(__file__).parents[2] / "docs" / "gallery.md").read_text()
    for record in moving_spectra(0):
        bulk, radius = record.centers.mean(1), record.spectral_radius
        values = (radius.mean(), np.ptp(radius), bulk.mean(), np.ptp(bulk))
        assert f"| {' | '.join(f'{value:.3f}' for value in values)} |\n" in text, record.network


def test_spectra_of_single_steps_do_not_compose():
    growing, vanishing = firsts(claims.counterexamples())
    assert growing.spectral_radius.max() == 0
    assert growing.log_norm_product[-1] == pytest.approx(10 * np.log(2))
    assert vanishing.spectral_radius.min() == 2 and vanishing.log_norm_product[-1] == -np.inf


def test_equation_14_holds_with_transposed_derivatives_and_fails_as_printed():
    jacobians, printed = claims.random_layers()
    z = eigenvalues(jacobians)
    assert claims.outside(jacobians, z).any(-1).sum() == 0
    assert claims.outside(printed, z, tol=1e-6).any(-1).sum() == 29  # of 2000
    cell = RHN(3, 5, coupled=False, **claims.seeded())
    x, s = torch.rand(3, dtype=d), torch.rand(5, dtype=d)
    A = temporal_jacobian(cell, x, s)
    assert torch.allclose(claims.equation_14(cell, x, s, printed=False), A, atol=1e-15)
    assert not torch.allclose(claims.equation_14(cell, x, s, printed=True), A, atol=1e-3)


def test_highway_layers_keep_the_product_that_deep_transitions_lose():
    kinds, depths = ("dt-rnn", "dts-rnn", "rhn"), (1, 3, 5)
    cells = {
        (kind, depth): make_cell(kind, 88, 16, depth=depth, **claims.seeded())
        for kind in kinds
        for depth in depths
    }
    found = compare(cells, torch.as_tensor(chorale("bwv269"))[:20].double())
    logs = dict(zip(cells, found.table()[LOG_NORM], strict=True))
    for depth in depths:
        assert logs["dt-rnn", depth] <= logs["dts-rnn", depth] < logs["rhn", depth]
    assert (
        logs["dt-rnn", 5] < 1.5 * logs["dt-rnn", 3] < 0 and logs["dts-rnn", 5] > logs["dt-rnn", 3]
    )
    lives = dict(zip(cells, found.table()[HALF_LIFE], strict=True))
    assert lives["rhn", 5] > 1 > lives["dt-rnn", 1] > lives["dt-rnn", 5]
