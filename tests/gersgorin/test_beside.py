"""--lyapunov and --fixed-points: what is printed is what the functions find, what is drawn is what was measured."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from gersgorin import fixed_points, lyapunov
from gersgorin.analyses.fixed_points import (
    draw_fixed_points,
    fixed_points_table,
    plot_fixed_points,
    plot_point_spectra,
    principal_axes,
)
from gersgorin.analyses.lyapunov import draw_lyapunov, lyapunov_table, plot_convergence, plot_lyapunov
from gersgorin.cli.plot import main
from rhn.cells import LSTM, RNN
from rhn.data import chorale

d = torch.float64
SMALL = ["--hidden-size", "6", "--steps", "12"]


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def run(*args) -> int:
    return main([str(a) for a in args])


def test_json_tells_what_the_functions_find(capsys):
    arguments = ["--cell", "lstm", "--compare", "rnn", "--lyapunov", 3, "--repeat", 4, "--fixed-points", 20]
    assert run(*arguments, *SMALL, "--seed", 2, "--json") == 0
    printed = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    x = torch.as_tensor(chorale("bwv269"))[:12].double()
    for cell, told in ((LSTM, printed), (RNN, printed["compare"][0])):
        built = cell(88, 6, dtype=d, generator=torch.Generator().manual_seed(2))
        wanted = lyapunov(built, x.repeat(4, 1), 3, warmup=12, seed=2)
        spectrum, points = told["lyapunov"], told["fixed_points"]
        assert spectrum["exponents"] == wanted.exponents.tolist() and spectrum["steps"] == 36
        assert lyapunov["unit"] == "quarter notes" and lyapunov["curve"]["steps"][-1] == 36
        (point,) = points["points"]
        state = torch.tensor(point["state"], dtype=d)
        torch.testing.assert_close(built.step(x.mean(0), state).detach(), state, rtol=0, atol=1e-10)
        assert points["starts"] == point["found_from"] == 20 and point["kind"] == "stable"
    assert {path.stem.removeprefix(Path(printed["figure"]).stem) for path in Path().glob("*.png")} == {
        "",
        "-lyapunov",
        "-fixed-points",
    }


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (["--lyapunov", 3, "--repeat", 10**9], "--repeat 1000000000: 12,000,000,000 steps need about"),
        (["--fixed-points", 10**9], "--fixed-points is 1000000000, expected 100000 or less"),
        (["--fixed-points", 10**5, "--memory-limit", 0.03], "so many states of 6 entries need about 37 MiB"),
    ],
)
def test_what_the_memory_does_not_hold_is_refused_before_the_work(asked, said, capsys):
    assert run(*SMALL, *asked) == 2
    assert said in capsys.readouterr().err and not list(Path().iterdir())


def test_the_table_tells_from_how_many_steps_and_names_every_figure(capsys):
    assert run(*SMALL, "--lyapunov", 6, "--repeat", 1, "--fixed-points", 3, "--output", "a.png") == 0
    out = capsys.readouterr().out
    assert "from 12 steps;" in out and "of all" in out and "1 fixed point, 0 slow, from 3 starts (0 led to none)" in out
    assert out.endswith("figure: a.png\nfigure: a-lyapunov.png\nfigure: a-fixed-points.png\n")


def test_a_network_without_a_fixed_point_is_told_and_drawn_too(capsys):
    assert run("--cell", "irnn", "--init", "identity:1e-3", "--fixed-points", 4, *SMALL, "--output", "a.png") == 0
    out = capsys.readouterr().out
    assert "0 fixed points, 0 slow, from 4 starts (4 led to none)" in out and "the least |F(s) - s|" in out
    assert run("--cell", "irnn", "--init", "identity:1e-3", "--fixed-points", 4, *SMALL, "--json") == 0
    assert json.loads(capsys.readouterr().out)["fixed_points"]["points"] == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--lyapunov", 7], "--lyapunov 7: the state of rhn, 6 units has 6 entries, expected 1 to 6"),
        (["--lyapunov", 0], "--lyapunov is 0, expected 1 or more"),
        (["--fixed-points", 0], "--fixed-points is 0, expected 1 or more"),
        (["--repeat", 3], "--repeat says how long the run of --lyapunov K is"),
        (["--lyapunov", 1, "--output", "b.png"], "cannot write b-lyapunov.png"),
    ],
)
def test_bad_input_is_one_sentence_exit_2_and_no_figure(arguments, words, capsys):
    Path("b-lyapunov.png").mkdir()
    assert run(*arguments, *SMALL) == 2
    captured = capsys.readouterr()
    assert words in captured.err and captured.err.count("\n") == 1 and not captured.out
    assert not [path for path in Path().glob("*.png") if path.is_file()]


@pytest.fixture(scope="module")
def spectra():
    g = torch.Generator().manual_seed(0)
    cells = [RNN(3, n, init="gaussian:0.8", dtype=d, generator=g) for n in (10, 4)]
    x = torch.randn(300, 3, dtype=d, generator=g)
    return [replace(lyapunov(cell, x), title=f"{cell.hidden_size} units") for cell in cells]


def test_exponents_are_drawn_with_two_standard_errors(spectra):
    ax = plot_lyapunov(spectra)
    for spectrum, (points, _, (bars,)) in zip(spectra, ax.containers, strict=True):
        np.testing.assert_array_equal(points.get_ydata(), spectrum.exponents)
        lengths = [np.ptp(segment[:, 1]) for segment in bars.get_segments()]
        np.testing.assert_allclose(lengths, 4 * spectrum.standard_errors)
    lost = replace(spectra[1], exponents=np.array([0.1, -0.2, -np.inf, -np.inf]))
    assert len(plot_lyapunov([lost]).containers[0][0].get_ydata()) == 2


def test_convergence_ends_at_the_exponents(spectra):
    one, several = plot_convergence(spectra[:1]), plot_convergence(spectra)
    assert [line.get_ydata()[-1] for line in one.lines[:-1]] == spectra[0].exponents[:8].tolist()
    assert [line.get_ydata()[-1] for line in several.lines[:-1]] == [s.exponents[0] for s in spectra]
    assert all(line.get_xdata()[-1] == 300 for line in one.lines[:-1])
    assert one.get_xlabel() == "steps counted"
    assert draw_lyapunov(spectra, "noise").get_suptitle().startswith("Lyapunov exponents on noise\n")


def test_points_lie_where_the_axes_say_and_kinds_look_different():
    A = torch.tensor([1.5, 0.5, 0.2], dtype=d).diag()
    starts = torch.randn(30, 3, dtype=d, generator=torch.Generator().manual_seed(1)) * torch.tensor([1.0, 9.0, 3.0])
    points = fixed_points(lambda s: A @ s, None, starts)
    ax = plot_fixed_points(points)
    searched, saddle = ax.lines
    assert saddle.get_label() == "saddle: 1" and len(searched.get_xdata()) == 30
    x, y = (-starts.mean(0).numpy())[[1, 2]]
    assert saddle.get_xdata()[0] == pytest.approx(x, abs=2) and saddle.get_ydata()[0] == pytest.approx(y, abs=2)
    axes, shares = principal_axes(points.starts)
    np.testing.assert_allclose(searched.get_xdata(), (points.starts - points.starts.mean(0)) @ axes[0])
    assert 0.8 < shares[0] < 0.95 and ax.get_xlabel().endswith(f"({shares[0]:.0%} of their variance)")
    drawn = plot_point_spectra(points).lines[1]
    np.testing.assert_array_equal(drawn.get_xdata(), points.eigenvalues[0].real)
    slow = replace(points, is_slow=np.array([True]))
    assert plot_fixed_points(slow).lines[1].get_markerfacecolor() == "none"
    assert len(draw_fixed_points([points, slow]).subfigs) == 2
    assert principal_axes(np.ones((4, 1)))[0].shape == (2, 1)


def test_words(spectra):
    table = lyapunov_table(spectra[0])
    assert "from 300 steps;" in table and f"{spectra[0].exponents[9]:.4g}" in table and "of all" in table
    shown = [line.split() for line in table.splitlines()[1:-2]]
    assert [words[1] for words in shown if words != ["..."]] == [*"12345678", "10"] and ["..."] in shown
    assert all("+-" in words for words in shown if words != ["..."])
    growing = lyapunov(lambda x, s: 2 * s, torch.zeros(9, 1), 1, s0=torch.zeros(2))
    assert "needs more exponents" in lyapunov_table(growing) and "of these 1 of 2" in lyapunov_table(growing)
    many = fixed_points(lambda s: s, None, torch.arange(20.0, dtype=d).unsqueeze(1))
    assert "and 12 more" in fixed_points_table(many) and "never" in fixed_points_table(many)
