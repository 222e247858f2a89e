"""The paper's statements (Zilly et al. 2017, sections 3 and 4) on cells and depths."""

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from examples.paper import claims
from gersgorin.analyses.compare import compare
from gersgorin.analyses.spectra import HALF_LIFE, LOG_NORM, spectra
from gersgorin.linalg import eigenvalues, gersgorin_discs
from gersgorin.run import open_run
from rhn.cells import IRNN, RHN, RNN, make_cell
from rhn.data import chorale

UNITS = claims.UNITS


@cache
def frames():
    return torch.as_tensor(chorale("bwv269")).double()


def test_figure_2_small_weights_centre_near_0_and_identity_near_1():
    inits = {"small": "gaussian:0.02", "identity": "identity:0.005"}
    cells = {name: RNN(88, UNITS, init=init, **claims.seeded()) for name, init in inits.items()}
    found = compare(cells, frames()[:1])
    small, identity = found["small"], found["identity"]
    assert np.abs(small.centers[0]).max() < 0.1 and np.abs(identity.centers[0] - 1).max() < 0.1
    assert identity.row_radii[0].max() < 0.5 < small.row_radii[0].min()


def test_closed_gates_give_the_identity_and_open_ones_the_spectrum_of_the_candidate():
    cells = [
        RHN(88, UNITS, init="gaussian:0.05", transform_bias=b, **claims.seeded())
        for b in (-40.0, 40.0)
    ]
    closed, opened = (spectra(cell, frames()[:5]) for cell in cells)
    assert np.allclose(closed.eigenvalues, 1, atol=1e-12) and closed.row_radii.max() < 1e-12
    h = cells[1].gates(frames()[0], torch.zeros(UNITS).double()).h[0]
    candidate = (1 - h * h)[:, None] * cells[1].weight_hh[0, :UNITS]
    assert np.allclose(opened.eigenvalues[0], eigenvalues(candidate), atol=1e-12)


def test_radii_grow_with_the_matrix_at_a_fixed_standard_deviation():
    radii = [gersgorin_discs(claims.gaussian_matrix(n)).radii.mean() for n in (8, 32, 128, 512)]
    assert radii == sorted(radii)
    assert radii[-1] == pytest.approx(511 * 0.05 * np.sqrt(2 / np.pi), rel=0.02)


def test_highway_layers_keep_the_product_that_deep_transitions_lose():
    kinds, depths = ("dt-rnn", "dts-rnn", "rhn"), (1, 3, 5)
    cells = {
        (kind, depth): make_cell(kind, 88, 16, depth=depth, **claims.seeded())
        for kind in kinds
        for depth in depths
    }
    found = compare(cells, frames()[:20])
    logs = dict(zip(cells, found.table()[LOG_NORM], strict=True))
    for depth in depths:
        assert logs["dt-rnn", depth] <= logs["dts-rnn", depth] < logs["rhn", depth]
    assert (
        logs["dt-rnn", 5] < 1.5 * logs["dt-rnn", 3] < 0 and logs["dts-rnn", 5] > logs["dt-rnn", 3]
    )
    lives = dict(zip(cells, found.table()[HALF_LIFE], strict=True))
    assert lives["rhn", 5] > 1 > lives["dt-rnn", 1] > lives["dt-rnn", 5]


@cache
def moving_spectra(seed):
    """An RNN, an IRNN and an RHN with input weights ten times as large."""
    cells = {
        "rnn": RNN(88, UNITS, init="gaussian:0.1", **claims.seeded(seed)),
        "irnn": IRNN(88, UNITS, **claims.seeded(seed)),
        "rhn": RHN(88, UNITS, init="gaussian:0.1", transform_bias=-1.0, **claims.seeded(seed)),
    }
    for cell in cells.values():
        cell.weight_ih.data *= 10
    return {name: spectra(cell, frames()) for name, cell in cells.items()}


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_gates_hold_the_radius_and_move_the_bulk_and_a_tanh_rnn_the_other_way_round(seed):
    found = moving_spectra(seed)
    bulk = {name: np.ptp(one.centers.mean(1)) for name, one in found.items()}
    radius = {name: np.ptp(one.spectral_radius) for name, one in found.items()}
    assert bulk["irnn"] > bulk["rhn"] > 4 * bulk["rnn"]
    assert radius["rnn"] > 5 * radius["rhn"] > 5 * radius["irnn"]
    away = {name: np.abs(one.spectral_radius - 1) for name, one in found.items()}
    assert away["rhn"].max() < 0.05 < 0.4 < away["rnn"].min() and away["irnn"].max() < 0.01
    rhn = found["rhn"]
    assert np.allclose(rhn.centers.mean(1), rhn.eigenvalues.mean(1), atol=1e-12)


@pytest.mark.slow
def test_the_gallerys_table_of_moving_spectra():
    text = (Path(__file__).parents[2] / "docs" / "gallery.md").read_text()
    for name, found in moving_spectra(0).items():
        bulk, radius = found.centers.mean(1), found.spectral_radius
        values = (radius.mean(), np.ptp(radius), bulk.mean(), np.ptp(bulk))
        assert " | ".join(["", *(f"{value:.3f}" for value in values), ""]).strip() in text, name


def test_one_step_spectra_do_not_compose():
    nilpotent, diagonal = torch.tensor([[[0, 2.0], [0, 0]], [[2.0, 0], [0, 0]]]).double()
    growing = torch.stack([nilpotent, nilpotent.T] * 5)
    vanishing = torch.stack([diagonal, diagonal.flip(0, 1)] * 5)

    def measured(A):
        f = claims.Linear(2)
        return spectra(f, A.flatten(1), torch.zeros(1, 2).double())

    grows, vanishes = measured(growing), measured(vanishing)
    assert grows.spectral_radius.max() == 0
    assert grows.log_norm_product[-1] == pytest.approx(10 * np.log(2))
    assert vanishes.spectral_radius.min() == 2 and vanishes.log_norm_product[-1] == -np.inf


def test_equation_14_holds_with_transposed_derivatives_and_fails_as_printed():
    jacobians, printed = claims.random_layers()
    values = eigenvalues(jacobians)

    def outside(A, tolerance=0.0):
        """Matrices with an eigenvalue outside all row discs."""
        c, r = gersgorin_discs(A)[:2]
        gaps = (
            np.abs(np.asarray(values)[:, :, None] - np.asarray(c)[:, None]) - np.asarray(r)[:, None]
        )
        return int((gaps.min(2) > tolerance).any(1).sum())

    assert outside(jacobians, 1e-12) == 0 and outside(printed, 1e-6) == 29  # of 2000
    cell = RHN(3, 5, coupled=False, **claims.seeded())
    x, s = torch.rand(3).double(), torch.rand(5).double()
    A = open_run(cell, x[None], s).jacobians()[0]
    assert torch.allclose(claims.equation_14(cell, x, s, printed=False), A, atol=1e-15)
    assert not torch.allclose(claims.equation_14(cell, x, s, printed=True), A, atol=1e-3)
