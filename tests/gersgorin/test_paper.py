"""The paper's statements (Zilly et al. 2017, sections 3 and 4), asserted on the numbers the gallery draws."""

import numpy as np
import pytest

from gersgorin import gallery


def test_figure_2_small_weights_centre_near_0_and_identity_near_1():
    small, identity = gallery.initialisations()
    assert np.abs(small.row_centers[0]).max() < 0.1 and np.abs(identity.row_centers[0] - 1).max() < 0.1
    assert identity.row_radii[0].max() < 0.5 < small.row_radii[0].min()


def test_closed_gates_make_the_jacobian_the_identity():
    closed, _ = gallery.gate_limits()
    assert np.allclose(closed.eigenvalues, 1, atol=1e-12) and closed.row_radii.max() < 1e-12


def test_open_gates_leave_the_spectrum_of_the_candidate():
    _, opened = gallery.gate_limits()
    rhn = gallery.RHN(88, gallery.UNITS, init="gaussian:0.05", dtype=gallery.torch.float64, generator=gallery.seeded())
    rnn = gallery.RNN(88, gallery.UNITS, dtype=gallery.torch.float64)
    n = gallery.UNITS
    with gallery.torch.no_grad():
        rnn.weight_ih.copy_(rhn.weight_ih[:n])
        rnn.weight_hh.copy_(rhn.weight_hh[:, :n])
        rnn.bias.copy_(rhn.bias[:, :n])
    assert np.allclose(opened.eigenvalues, gallery.on_chorale(rnn, "rnn").eigenvalues, atol=1e-12)


def test_radii_grow_with_the_matrix_at_a_fixed_standard_deviation():
    radii = [gallery.mean_radius(n) for n in (8, 32, 128, 512)]
    assert radii == sorted(radii)
    assert radii[-1] == pytest.approx(511 * 0.05 * np.sqrt(2 / np.pi), rel=0.02)


def test_gates_move_the_spectrum_and_an_rnn_hardly_does():
    rnn, rhn = gallery.moving_spectra()
    spread = [np.ptp(r.eigenvalues.real.mean(1)) for r in (rnn, rhn)]
    assert spread[1] > 5 * spread[0]


def test_one_step_spectra_do_not_compose():
    growing, vanishing = gallery.counterexamples()
    assert growing.spectral_radius.max() == 0 and growing.log_norm_product[-1] == pytest.approx(10 * np.log(2))
    assert vanishing.spectral_radius.min() == 2 and vanishing.log_norm_product[-1] == -np.inf


def test_every_picture_is_drawn_and_written(tmp_path, capsys):
    assert gallery.main(["--out", str(tmp_path)]) == 0
    assert {p.stem for p in tmp_path.glob("*.png")} == set(gallery.GALLERY)
    assert gallery.main(["--out", str(tmp_path / "missing")]) == 2
    assert "create it first" in capsys.readouterr().err
