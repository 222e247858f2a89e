"""`gersgorin plot --leading`: the spectra of a large state, and eigenvalues that did not converge."""

import json
import math

import numpy as np
import pytest
import torch
from allocations import Allocations

from gersgorin import operators
from gersgorin.analyses.spectra import Spectra, reading, spectra
from gersgorin.cli.plot import main
from gersgorin.plotting.animation import save_animation
from gersgorin.plotting.spectra import draw_run
from gersgorin.run import Run
from rhn.cells import LSTM

d = torch.float64


def by_arnoldi(monkeypatch, restarts):
    monkeypatch.setattr(operators, "BY_LAPACK", 0)
    eigs = operators.eigs
    monkeypatch.setattr(operators, "eigs", lambda *given, **how: eigs(*given, **how | {"maxiter": restarts}))


def of(n):
    return torch.randn(n, n, dtype=d, generator=torch.Generator().manual_seed(0)) / n**0.5


@pytest.mark.parametrize("written", [True, False])
def test_the_record_is_that_of_whole_jacobians(written, monkeypatch):
    """By one written matrix at a time, and by vectors alone, of which none is as large as a matrix."""
    n, k = 150, 6
    cell = LSTM(4, n // 2, init="gaussian:0.3", dtype=d, generator=torch.Generator().manual_seed(2))
    run = Run.of(cell, torch.randn(5, 4, dtype=d, generator=torch.Generator().manual_seed(3)))
    whole, matrix = spectra(run), n * n * 8
    monkeypatch.setattr(operators, "LIMIT", matrix * (operators.WRITTEN if written else 9))
    with Allocations() as allocated:
        found = spectra(run, leading=k)
    np.testing.assert_allclose(found.eigenvalues, whole.eigenvalues[:, :k], atol=1e-10)
    for name in ("row_centers", "row_radii", "column_centers", "column_radii", "norm", "log_norm_product"):
        np.testing.assert_allclose(getattr(found, name), getattr(whole, name), rtol=0, atol=1e-10, err_msg=name)
    np.testing.assert_array_equal(found.reach.round(9), whole.reach.round(9))
    assert allocated.largest <= 9 * matrix and np.isnan(found.norm_bound)


def plot(*words) -> int:
    return main(["--hidden-size", "40", "--steps", "6", "--force", *words])


def test_the_command_tells_the_leading_part_of_what_it_tells_without(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    whole, part = (
        json.loads(capsys.readouterr().out) for words in ((), ("--leading", "3")) if not plot("--json", *words)
    )
    assert "leading_eigenvalues" not in whole and part["leading_eigenvalues"] == 3
    for name in ("spectral_radius", "norm", "reach", "rightmost_disc", "log_norm_product", "finite_time_exponent"):
        assert [s[name] for s in part["steps"]] == pytest.approx([s[name] for s in whole["steps"]], abs=1e-9), name
    assert {s["eigenvalue_condition"] for s in part["steps"]} == {None}
    assert plot("--leading", "1", "--output", "x.npz") == 0
    out = capsys.readouterr().out
    assert "row discs; the 1 leading eigenvalue of 40" in out and "nan" not in out and "bound on the 2-norm" not in out
    record = Spectra.load("x.npz")
    assert record.leading == 1 and "the 1 leading eigenvalue of 40" in draw_run(record).get_suptitle()


def test_a_large_state_has_leading_eigenvalues(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("gersgorin.analyses.spectra.WHOLE", 79)
    assert plot("--cell", "lstm") == 0
    assert "the 32 leading eigenvalues of 80\n" in capsys.readouterr().out


def test_the_free_memory_decides_only_whether_a_command_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("rhn.utils.validation.free_memory", lambda device: 10 << 20)
    assert plot("--cell", "lstm") == 2
    assert "10 MiB are available: use fewer" in capsys.readouterr().err


@pytest.mark.parametrize("dtype", [torch.float32, d], ids=str)
def test_a_step_at_which_no_eigenvalue_is_found_does_not_end_the_run(dtype, monkeypatch, tmp_path):
    by_arnoldi(monkeypatch, restarts=1)
    A = torch.block_diag(torch.linspace(1.5, 1.2, 5, dtype=d).diag(), of(400)).to(dtype)
    cell = torch.nn.Module()
    cell.state_size = len(A)
    cell.step = lambda x, s: x[0] * (A @ s) + (1 - x[0]) * torch.roll(s, 1)  # the second: all of one modulus
    x = torch.tensor([[1], [0], [1]], dtype=dtype)
    record = spectra(Run.of(cell, x), leading=20)
    assert np.isnan(record.eigenvalues).all(1).tolist() == [False, True, False]
    np.testing.assert_allclose(record.spectral_radius, [1.5, math.nan, 1.5], rtol=1e-5)
    assert np.isfinite(record.norm).all() and np.isfinite(record.log_norm_product).all()
    assert "At 3 of 3 steps up to 20 of the 20 leading eigenvalues did not converge, and" in reading(record)
    assert "spectral radius up to 1.5" in reading(record)
    assert record.summary().count(f"{'-':>11}") == 2 and "nan" not in record.summary()  # radius and looseness
    record.save(tmp_path / "x.json")
    assert json.loads((tmp_path / "x.json").read_text())["steps"][1]["spectral_radius"] is None
    draw_run(record).canvas.draw()
    save_animation(record, tmp_path / "x.gif")
    nothing = spectra(Run.of(cell, 0 * x), leading=20)
    assert np.isnan(nothing.eigenvalues).all()
    assert "the row discs reach 1 from 0. At 3 of 3" in reading(nothing) and "spectral radius" not in nothing.summary()
    draw_run(nothing).canvas.draw()
