"""The paper's statements (Zilly et al. 2017, sections 3 and 4), asserted on the numbers the gallery
draws.
"""

import functools
from pathlib import Path

import numpy as np
import pytest
import torch

from examples.paper import claims as statements
from gersgorin.linalg.discs import gersgorin_discs
from gersgorin.linalg.inclusion import Ostrowski
from gersgorin.linalg.spectrum import eigenvalues
from gersgorin.run.jacobians import temporal_jacobian
from rhn.cells import RHN, RNN
from rhn.data import chorale


def test_figure_2_small_weights_centre_near_0_and_identity_near_1():
    inits = "gaussian:0.02", "identity:0.005"
    cells = [RNN(88, 64, init=init, **statements.seeded()) for init in inits]
    small, identity = (statements.on_chorale(cell, "rnn") for cell in cells)
    assert (
        np.abs(small.row_centers[0]).max() < 0.1 and np.abs(identity.row_centers[0] - 1).max() < 0.1
    )
    assert identity.row_radii[0].max() < 0.5 < small.row_radii[0].min()


def test_closed_gates_give_the_identity_and_open_ones_the_spectrum_of_the_candidate():
    cells = [
        RHN(88, 64, init="gaussian:0.05", transform_bias=b, **statements.seeded())
        for b in (-40.0, 40.0)
    ]
    closed, opened = (statements.on_chorale(cell, "rhn") for cell in cells)
    assert np.allclose(closed.eigenvalues, 1, atol=1e-12) and closed.row_radii.max() < 1e-12
    rhn = cells[1]
    h = rhn.gates(
        torch.as_tensor(chorale("bwv269"))[0].double(), torch.zeros(statements.UNITS).double()
    ).h[0]
    candidate = (1 - h * h)[:, None] * rhn.weight_hh[0, : statements.UNITS]
    assert np.allclose(opened.eigenvalues[0], eigenvalues(candidate), atol=1e-12)


def test_radii_grow_with_the_matrix_at_a_fixed_standard_deviation():
    radii = [gersgorin_discs(statements.gaussian_matrix(n)).radii.mean() for n in (8, 32, 128, 512)]
    assert radii == sorted(radii)
    assert radii[-1] == pytest.approx(511 * 0.05 * np.sqrt(2 / np.pi), rel=0.02)


moving_spectra = functools.cache(statements.moving_spectra)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_gates_hold_the_radius_and_move_the_bulk_and_a_tanh_rnn_the_other_way_round(seed):
    rnn, irnn, rhn = moving_spectra(seed)
    bulk = {r.title: np.ptp(r.row_centers.mean(1)) for r in (rnn, irnn, rhn)}
    radius = {r.title: np.ptp(r.spectral_radius) for r in (rnn, irnn, rhn)}
    assert (
        bulk["irnn"] > bulk["rhn"] > 4 * bulk["rnn"]
        and radius["rnn"] > 5 * radius["rhn"] > 5 * radius["irnn"]
    )
    assert (
        np.abs(rhn.spectral_radius - 1).max() < 0.05 < 0.4 < np.abs(rnn.spectral_radius - 1).min()
    )
    assert np.abs(irnn.spectral_radius - 1).max() < 0.01
    assert np.allclose(rhn.row_centers.mean(1), rhn.eigenvalues.mean(1), atol=1e-12)


def test_the_gallerys_table_of_moving_spectra():
    text = (Path(__file__).parents[2] / "docs" / "gallery.md").read_text()
    for record in moving_spectra(0):
        bulk, radius = record.row_centers.mean(1), record.spectral_radius
        values = (radius.mean(), np.ptp(radius), bulk.mean(), np.ptp(bulk))
        assert " | ".join(["", *(f"{value:.3f}" for value in values), ""]).strip() in text, (
            record.title
        )


def test_one_step_spectra_do_not_compose():
    growing, vanishing = statements.counterexamples()
    assert growing.spectral_radius.max() == 0 and growing.log_norm_product[-1] == pytest.approx(
        10 * np.log(2)
    )
    assert vanishing.spectral_radius.min() == 2 and vanishing.log_norm_product[-1] == -np.inf


def test_equation_14_holds_with_transposed_derivatives_and_fails_as_printed():
    jacobians, printed = statements.random_layers()
    spectra = eigenvalues(jacobians)
    assert (~Ostrowski(jacobians, alpha=1).contains(spectra)).any(-1).sum() == 0
    assert (~Ostrowski(printed, alpha=1).contains(spectra, tol=1e-6)).any(-1).sum() == 29  # of 2000
    cell, x, s = (
        RHN(3, 5, coupled=False, **statements.seeded()),
        torch.rand(3).double(),
        torch.rand(5).double(),
    )
    A = temporal_jacobian(cell, x, s)
    assert torch.allclose(statements.equation_14(cell, x, s, printed=False), A, atol=1e-15)
    assert not torch.allclose(statements.equation_14(cell, x, s, printed=True), A, atol=1e-3)
