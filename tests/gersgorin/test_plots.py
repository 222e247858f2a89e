"""Figures show the record: what is drawn is checked, not only that drawing works."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from examples.paper.claims import of_matrices
from gersgorin.analyses.spectra import spectra
from gersgorin.plotting.animation import save_animation
from gersgorin.plotting.spectra import plot_products, plot_spectrum, plot_suggested, spectrum_limit
from gersgorin.run import Label, Run, shown_steps
from rhn.cells import RHN, RNN


@pytest.fixture(scope="module")
def records():
    torch.manual_seed(2)
    x = torch.rand(9, 5, dtype=torch.float64)
    cells = RHN(5, 8, 2, init="gaussian:0.6", dtype=torch.float64), RNN(5, 8, init="gaussian:0.6", dtype=torch.float64)
    return [spectra(Run.of(cell, x, label=Label(name=type(cell).__name__, sequence="noise"))) for cell in cells]


def line(ax, label):
    return next(drawn for drawn in ax.lines if drawn.get_label() == label)


@pytest.mark.parametrize("discs", ["row", "column", "both"])
def test_panels_and_bands_show_the_discs_the_record_speaks_of_and_no_others(records, discs):
    record = replace(records[0], discs=discs)
    ax, over_time = plot_spectrum(record, 4), plot_suggested(record)
    drawn = line(ax, "eigenvalues")
    assert np.array_equal(drawn.get_xdata() + 1j * drawn.get_ydata(), record.eigenvalues[4])
    labels = {drawn.get_label() for drawn in (*ax.lines, *over_time.collections)}
    for axis in ("row", "column"):
        shown = discs in (axis, "both")
        assert (
            (f"union of the {axis} discs" in labels)
            == (f"right edges of the {axis} discs (min to max)" in labels)
            == shown
        )
        centers, radii = getattr(record, f"{axis}_centers"), getattr(record, f"{axis}_radii")
        if shown:
            outline = line(ax, f"union of the {axis} discs").get_xdata()
            ends = (centers[4] - radii[4]).min(), (centers[4] + radii[4]).max()
            assert (outline.min(), outline.max()) == pytest.approx(ends)
            band = next(
                c for c in over_time.collections if c.get_label() == f"right edges of the {axis} discs (min to max)"
            )
            assert band.get_datalim(over_time.transData).ymax == pytest.approx((centers + radii).max())
            assert (centers + radii).max() < spectrum_limit([records[1], record])
    x, y = ax.collections[0].get_paths()[0].vertices.T  # shaded: where the spectrum can be
    assert 0 < x[y > 0].max() <= record.rightmost_disc[4] and 0 < y.max() <= record.reach[4]


def test_time_axes_show_radius_and_products(records):
    record = records[0]
    assert np.array_equal(line(plot_suggested(record), "spectral radius").get_ydata()[:-1], record.spectral_radius)
    drawn = line(plot_products(record), "norm of dy[t]/dy[0]")
    assert np.array_equal(drawn.get_xdata(), np.arange(10))
    assert np.allclose(drawn.get_ydata()[1:] * np.log(10), record.log_norm_product)


def test_the_numerical_range_is_drawn_in_panels_and_its_radius_over_time(records):
    record = records[0]
    drawn = line(plot_spectrum(record, 4), "numerical range")
    assert np.array_equal(drawn.get_xdata() + 1j * drawn.get_ydata(), record.range_outline(4))
    radius = line(plot_suggested(record), "numerical radius").get_ydata()
    assert np.array_equal(radius[:-1], record.numerical_radius) and radius.max() < spectrum_limit([record])
    column = torch.zeros(9, 9).index_fill(1, torch.tensor([0]), 1.0)  # rows reach 1, the range reaches (1 + sqrt 9) / 2
    assert spectrum_limit([of_matrices(column[None], "column")]) > 2


def test_shown_steps_hold_the_first_and_the_last():
    assert [shown_steps(T) for T in (1, 2, 3, 100)] == [[0], [0, 1], [0, 1, 2], [0, 33, 66, 99]]


def test_the_animation_has_a_frame_a_step(records, tmp_path):
    from PIL import Image

    with Image.open(save_animation(records[1], tmp_path / "moving.gif")) as image:
        assert image.n_frames == 9
