"""`gersgorin-plot --pseudospectra`: how small a change of a step moves its eigenvalues, in numbers, a figure and words."""

import json

import numpy as np
import pytest
import torch

from gersgorin import pseudospectrum, temporal_jacobian, trajectory
from gersgorin.analyses.pseudospectra import (
    curve_levels,
    draw_pseudospectra,
    measure_pseudospectra,
    plot_pseudospectrum,
    pseudospectra_table,
)
from gersgorin.analyses.spectra import measure_spectra
from gersgorin.cli.plot import main
from gersgorin.paper.claims import Linear
from rhn.cells import RNN

SMALL = ["--hidden-size", "6", "--steps", "9"]


def portrait(cell, x, **options):
    record = measure_spectra(cell, x, name="cell", chorale="noise")
    return measure_pseudospectra(cell, x, record, side=21, **options), record


@pytest.fixture(scope="module")
def of_normal_steps():
    matrices = torch.tensor([[0.5, -0.25, 0.0], [0.25, 0.5, 0.0], [0.0, 0.0, 0.875]], dtype=torch.float64).repeat(
        3, 1, 1
    )
    return portrait(Linear(3), matrices.flatten(1))[0]


def test_the_numbers_are_those_of_the_shown_steps():
    torch.manual_seed(4)
    cell, x, told = RNN(5, 6, init="gaussian:0.9", dtype=torch.float64), torch.rand(7, 5, dtype=torch.float64), []
    found, record = portrait(cell, x, progress=lambda done, total: told.append((done, total)))
    A = temporal_jacobian(cell, x, trajectory(cell, x)[:-1]).detach()
    assert found.steps.tolist() == [0, 2, 4, 6] and told == [(1, 4), (2, 4), (3, 4), (4, 4)]
    z = found.axis + 1j * found.axis[:, None]
    assert np.array_equal(found.axis, -found.axis[::-1]) and found.axis[-1] > record.numerical_radius.max()
    circle = np.exp(1j * np.linspace(0, 2 * np.pi, 1001))
    for k, step in enumerate(found.steps):
        np.testing.assert_allclose(found.sigma[k], pseudospectrum(A[step], z), rtol=1e-5, atol=1e-12)
        assert found.to_circle[k] == pytest.approx(float(pseudospectrum(A[step], circle).min()), rel=0.05, abs=1e-3)
        assert np.array_equal(found.eigenvalues[k], record.eigenvalues[step])


def test_of_normal_steps_a_change_moves_an_eigenvalue_by_its_norm_at_most(of_normal_steps):
    assert of_normal_steps.to_circle == pytest.approx([0.125] * 3)
    words = "step 1     a change of norm 0.125 puts an eigenvalue on the unit circle; the largest is 0.125 inside it"
    assert words in pseudospectra_table(of_normal_steps)


def test_the_curves_are_where_the_numbers_say(of_normal_steps):
    ax = plot_pseudospectrum(of_normal_steps, 1, levels=np.log10([0.1, 0.2]))
    inner = np.concatenate([path.vertices for path in ax.collections[0].get_paths()[:1]])
    values = of_normal_steps.eigenvalues[1]
    distances = np.abs(inner[:, :1] + 1j * inner[:, 1:] - values).min(1)
    assert distances == pytest.approx(0.1, abs=0.06)  # the grid is 0.115 wide
    levels = curve_levels([of_normal_steps])
    assert 2 < len(levels) < 15 and np.ptp(np.diff(levels)) < 1e-9
    figure = draw_pseudospectra([of_normal_steps, of_normal_steps], "noise")
    assert [ax.get_title() for ax in figure.get_axes()[:6]] == ["step 0", "step 1", "step 2"] * 2


def test_the_command_draws_and_tells_them_where_asked(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["--cell", "rhn", "--compare", "gru", "--pseudospectra", "--json", "--output", "f.png", *SMALL]) == 0
    result = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert (tmp_path / "f-pseudospectra.png").stat().st_size > 10_000
    for found in (result, *result["compare"]):
        rows = found["pseudospectra"]["steps"]
        assert [row["step"] for row in rows] == [0, 3, 5, 8]
        for row in rows:
            assert 0 < row["epsilon_to_circle"] <= row["spectrum_to_circle"] * (1 + 1e-2)
    assert main(["--pseudospectra", *SMALL]) == 0 and "a change of norm" in capsys.readouterr().out
    (tmp_path / "g-pseudospectra.png").mkdir()
    assert main(["--pseudospectra", "--output", "g.png", *SMALL]) == 2 and not (tmp_path / "g.png").exists()
    assert main([*SMALL, "--force"]) == 0 and "a change of norm" not in capsys.readouterr().out
