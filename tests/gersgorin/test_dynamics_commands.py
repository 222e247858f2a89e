"""`gersgorin lyapunov`, `fixed-points` and `pseudospectra`: they print what the functions find and
draw what was measured.
"""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from linear_steps import Linear
from matplotlib import figure

from gersgorin import eigenvalues, fixed_points, lyapunov, temporal_jacobian, trajectory
from gersgorin.analyses.fixed_points import FixedPoints, principal_axes
from gersgorin.analyses.pseudospectra import pseudospectra
from gersgorin.cli.main import main
from gersgorin.linalg import numerical_radius, pseudospectrum
from gersgorin.linalg.singular_values import distance_to_circle
from gersgorin.network.open import open_run
from rhn.cells import LSTM, RHN, RNN
from rhn.data import chorale

d = torch.float64
SMALL = ["--hidden-size", "6", "--steps", "12"]


pytestmark = pytest.mark.usefixtures("own_folder", "unarranged")


def run(*args) -> int:
    return main([str(a) for a in args])


def printed(capsys) -> dict:
    return json.loads(capsys.readouterr().out, parse_constant=pytest.fail)


@pytest.mark.parametrize("cell", [LSTM, RNN])
def test_json_is_what_the_functions_find(cell, capsys):
    network = ["--cell", cell.__name__.lower(), *SMALL, "--seed", 2, "--json"]
    x = torch.as_tensor(chorale("bwv269"))[:12].double()
    built = cell(88, 6, dtype=d, generator=torch.Generator().manual_seed(2))
    wanted = lyapunov(built, x.repeat(4, 1), count=3, warmup=12, seed=2)
    assert run("lyapunov", "--count", 3, "--repeat", 4, *network) == 0
    spectrum = printed(capsys)["lyapunov"]
    assert spectrum["exponents"] == wanted.exponents.tolist() and spectrum["steps"] == 36
    assert spectrum["unit"] == "quarter notes" and spectrum["curve"]["steps"][-1] == 36
    assert run("fixed-points", "--starts", 20, *network) == 0
    points = printed(capsys)["fixed_points"]
    (point,) = points["points"]
    state = torch.tensor(point["state"], dtype=d)
    torch.testing.assert_close(built.step(x.mean(0), state).detach(), state, rtol=0, atol=1e-10)
    assert points["starts"] == point["found_from"] == 20 and point["kind"] == "stable"


def test_defaults_of_the_commands(capsys):
    assert run("lyapunov", "--cell", "rnn", "--steps", 4, "--hidden-size", 12, "--json") == 0
    found = printed(capsys)["lyapunov"]
    assert len(found["exponents"]) == 10 and found["steps"] == 9 * 4 and found["warmup"] == 4
    assert run("fixed-points", *SMALL, "--json") == 0
    assert printed(capsys)["fixed_points"]["starts"] == 50


def test_a_network_without_a_fixed_point(capsys):
    network = ["--cell", "irnn", "--init", "identity:1e-3", *SMALL, "--output", "a.png", "b.npz"]
    assert run("fixed-points", "--starts", 4, *network) == 0
    out = capsys.readouterr().out
    assert "The search found no fixed point.\nThe search failed from 4 of 4 starts." in out
    assert "The least |F(s) - s|" in out and "give other starts or a larger margin (0.5)" in out
    found = FixedPoints.load("b.npz")
    assert found.kinds == found.table() == [] and found.summary() in out


def test_the_grid_of_pseudospectra_of_small_steps_of_time_lies_around_their_spectra():
    generator = torch.Generator().manual_seed(0)
    W = torch.randn(8, 8, generator=generator, dtype=torch.float64) / 8**0.5
    A = 0.98 * torch.eye(8).double() + 0.02 * W
    found = pseudospectra(
        lambda x, s: s @ A.T + x, torch.ones(9, 8).double(), s0=torch.zeros(8).double()
    )
    half = found.axis[-1]
    assert 0.9 < found.middle < 1 and half < 0.1 and found.middle + half > 1  # the circle is seen
    assert (np.abs(found.eigenvalues - found.middle) < half).all()
    z = found.middle + found.axis[70] + 1j * found.axis[20]
    exact = np.linalg.svd(z * np.eye(8) - A.numpy(), compute_uv=False)[-1]
    assert found.sigma[0, 20, 70] == pytest.approx(exact, rel=1e-6)
    assert found.plot().get_xlim()[1] < 1.2


@pytest.mark.parametrize("function", [lyapunov, fixed_points, pseudospectra])
def test_modules_and_runs_are_the_same(function):
    cell, x = RHN(88, 6, 2), chorale("bwv269")[:25]
    of_cell = function(cell, x)
    assert of_cell.to_dict() == function(open_run(cell, x)).to_dict()
    assert of_cell.title.startswith("rhn, depth 2, 6 units")
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.GRU(4, 5)).double()
    assert "GRU, 5 units" in function(model, torch.rand(8, 3, dtype=d)).title


@pytest.fixture(scope="module")
def spectra():
    g = torch.Generator().manual_seed(0)
    cells = [RNN(3, n, init="gaussian:0.8", dtype=d, generator=g) for n in (10, 4)]
    x = torch.randn(300, 3, dtype=d, generator=g)
    return [replace(lyapunov(cell, x), title=f"{cell.hidden_size} units") for cell in cells]


def test_exponents_are_drawn_with_two_standard_errors(spectra):
    ax = spectra[1].plot(spectra[0].plot(figure.Figure().subplots()))
    for spectrum, (points, _, (bars,)) in zip(spectra, ax.containers, strict=True):
        np.testing.assert_array_equal(points.get_ydata(), spectrum.exponents)
        lengths = [np.ptp(segment[:, 1]) for segment in bars.get_segments()]
        np.testing.assert_allclose(lengths, 4 * spectrum.standard_errors)
    lost = replace(spectra[1], exponents=np.array([0.1, -0.2, -np.inf, -np.inf]))
    assert len(lost.plot().containers[0][0].get_ydata()) == 2


def test_convergence_ends_at_the_exponents(spectra):
    _, one = spectra[0].plot().figure.axes
    assert [line.get_ydata()[-1] for line in one.lines[:-1]] == spectra[0].exponents[:8].tolist()
    assert all(line.get_xdata()[-1] == 300 for line in one.lines[:-1])
    assert one.get_xlabel() == "steps counted"


def test_points_lie_where_the_axes_say_and_kinds_look_different():
    A = torch.tensor([1.5, 0.5, 0.2], dtype=d).diag()
    starts = torch.randn(30, 3, dtype=d, generator=torch.Generator().manual_seed(1)) * torch.tensor(
        [1.0, 9.0, 3.0]
    )
    points = fixed_points(lambda x, s: A @ s, None, starts=starts)
    ax, beside = points.plot().figure.axes
    searched, *modes, saddle = ax.lines
    assert [line.get_label() for line in modes] == ["growing mode", "slowest decaying mode"]
    assert saddle.get_label() == "saddle point" and len(searched.get_xdata()) == 30
    x, y = (-starts.mean(0).numpy())[[1, 2]]
    assert saddle.get_xdata()[0] == pytest.approx(x, abs=2)
    assert saddle.get_ydata()[0] == pytest.approx(y, abs=2)
    axes, shares = principal_axes(points.starts)
    np.testing.assert_allclose(
        searched.get_xdata(), (points.starts - points.starts.mean(0)) @ axes[0]
    )
    assert 0.8 < shares[0] < 0.95 and ax.get_xlabel().endswith(f"({shares[0]:.0%})")
    drawn = beside.lines[1]
    np.testing.assert_array_equal(drawn.get_xdata(), points.eigenvalues[0].real)
    slow = replace(points, is_slow=np.array([True]))
    assert slow.plot().lines[-1].get_markerfacecolor() == "none"
    assert principal_axes(np.ones((4, 1)))[0].shape == (2, 1)


def test_pseudospectra_are_those_of_the_shown_steps():
    torch.manual_seed(4)
    cell, x, told = RNN(5, 6, init="gaussian:0.9", dtype=d), torch.rand(7, 5, dtype=d), []
    found = pseudospectra(cell, x, side=21, progress=lambda done, total: told.append((done, total)))
    A = temporal_jacobian(cell, x, trajectory(cell, x)[:-1]).detach()
    assert found.steps.tolist() == [0, 2, 4, 6] and told == [(1, 4), (2, 4), (3, 4), (4, 4)]
    z = found.axis + 1j * found.axis[:, None]
    assert np.array_equal(found.axis, -found.axis[::-1])
    assert found.axis[-1] > float(numerical_radius(A[::2]).max())
    for k, step in enumerate(found.steps):
        np.testing.assert_allclose(
            found.sigma[k], pseudospectrum(A[step], z), rtol=1e-5, atol=1e-12
        )
        assert found.to_circle[k] == pytest.approx(distance_to_circle(A[step]))
        np.testing.assert_allclose(found.eigenvalues[k], eigenvalues(A[step]), rtol=1e-10)


def test_the_curves_are_where_the_numbers_say():
    normal = torch.tensor([[0.5, -0.25, 0.0], [0.25, 0.5, 0.0], [0.0, 0.0, 0.875]], dtype=d)
    found = pseudospectra(Linear(3), normal.repeat(3, 1, 1).flatten(1), side=21)
    panels = [
        c
        for ax in found.plot().figure.axes
        for c in ax.collections
        if len(c.get_paths()) == len(found.levels)
    ]
    curves = panels[1]
    values = found.eigenvalues[1]
    for level, path in zip(found.levels, curves.get_paths(), strict=True):
        if len(path.vertices):
            distances = np.abs(path.vertices[:, :1] + 1j * path.vertices[:, 1:] - values).min(1)
            assert distances == pytest.approx(10**level, abs=0.115)
            assert np.abs(path.vertices).max() < found.axis[-1]
    one = found.plot(figure.Figure().subplots())
    last, inner = found.levels[:-3:-1]
    assert (
        " ".join(one.get_title().split()).endswith(found.curves) and not one.texts
    )  # numbers on narrow curves would lie on each other
    assert found.curves == f"curves inwards: norm of a change (log₁₀) {last:g}, {inner:g}, ..."
    assert 2 < len(found.levels) < 15 and np.ptp(np.diff(found.levels)) < 1e-9


def test_rounding_does_not_change_the_number_of_curves():
    found = pseudospectra(Linear(3), torch.eye(3, dtype=d).div(2).flatten()[None], side=21)
    scales = 1 + 1e-14 * np.arange(-20, 20)
    assert len({len(replace(found, sigma=scale * found.sigma).levels) for scale in scales}) == 1


@pytest.mark.parametrize("step", [0.25, 0.5, 1, 2, 5, 10])
def test_levels_have_the_least_round_step_that_gives_fewer_than_ten(step):
    found = pseudospectra(Linear(3), torch.eye(3, dtype=d).div(2).flatten()[None], side=5)
    sigma = np.full_like(found.sigma, 10.0 ** (9.5 * step))
    found = replace(found, sigma=sigma, to_circle=np.ones(1))
    np.testing.assert_allclose(np.diff(found.levels), step)


def test_of_one_step_no_other_is_spoken_of():
    found = pseudospectra(Linear(3), torch.eye(3, dtype=d).div(2).flatten()[None], side=21)
    assert found.summary().startswith(
        "A change of norm 0.5 of a step of Linear puts an eigenvalue on the unit circle.\n"
    )


def test_a_summary_begins_with_its_sentence_and_names_as_many_rows_as_asked(spectra):
    (first, _, few), whole = (
        spectra[0].summary(whole=all_).partition("\n\n") for all_ in (False, True)
    )
    assert first.startswith("The largest Lyapunov exponent of")
    assert few.endswith("and 4 more rows with --all")
    shown = [
        f"{exponent:.4g}" in text for text in (few, whole[2]) for exponent in spectra[0].exponents
    ]
    assert shown == [True] * 6 + [False] * 4 + [True] * 10
    growing = lyapunov(
        lambda x, s: torch.remainder(2 * s, 1), torch.zeros(9, 1), count=1, s0=0.3 * torch.ones(2)
    )
    assert "The Kaplan-Yorke dimension needs more exponents." in growing.summary()
    many = fixed_points(lambda x, s: s, None, starts=torch.arange(20.0, dtype=d).unsqueeze(1))
    assert many.summary().count("neutral") == 23 and "inf" in many.summary()
    assert "; with an eigenvalue 1, 20 points may lie on one curve" in many.summary()
    centres = replace(many, eigenvalues=np.array([[0.6 + 0.8j, 0.6 - 0.8j]] * 20))  # each alone
    assert centres.kinds == ["neutral"] * 20 and "curve" not in centres.summary()
