"""Results along a run: recorded numbers, closed forms, tables of literals, files and figures."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from cases import others_slow
from oracles import differences, log_norms, rows_of_spectra
from readable import other_words, without_layout, words_in

from gersgorin.analyses import spectra as spectra_home
from gersgorin.analyses.compare import compare
from gersgorin.analyses.fixed_points import fixed_points
from gersgorin.analyses.gains import gains
from gersgorin.analyses.gates import gates
from gersgorin.analyses.lyapunov import lyapunov
from gersgorin.analyses.products import products
from gersgorin.analyses.pseudospectra import LEAST_AT, pseudospectra
from gersgorin.analyses.spectra import (
    NO_NUMBER,
    NORM_NOT_CONVERGED,
    NOT_CONVERGED,
    ROWS,
    Spectra,
    spectra,
)
from gersgorin.run import open_run
from rhn.cells import make_cell
from rhn.errors import InvalidInputError
from tests.numbers.record import NETWORKS, X, cell, filled

DIAGONAL = torch.diag(torch.tensor([0.5, -0.25, 0.125], dtype=torch.float64))


def linear(A):
    """The run of s' = A s + x over ten steps."""
    return open_run(lambda x, s: A @ s + x, torch.zeros(10, len(A)).double(),
                    torch.ones(len(A)).double())  # fmt: skip


def test_a_diagonal_step_has_these_numbers():
    found = spectra(linear(DIAGONAL))
    table = {name: np.median(value) for name, value in found.table().items()}
    expected = {
        "spectral radius": 0.5, "largest modulus in the row discs": 0.5,
        "rightmost point of the overlap of both": 0.5, "2-norm": 0.5,
        "row discs inside the unit circle (share)": 1.0, "departure from normality (0 to 1)": 0.0,
        "largest eigenvalue condition": 1.0, "entries of a state": 3,
        "log10 ||ds[T]/ds[0]||": -10 * math.log10(2), "eigenvalues of a step": 3,
        "half-life of ||ds[t]/ds[0]|| by the mean rate (steps)": 1.0,
        "doubling time of ||ds[t]/ds[0]|| by the mean rate (steps)": math.inf,
    }  # fmt: skip
    assert {name: table[name] for name in expected} == pytest.approx(expected)
    assert table["numerical radius (upper bound)"] == 0.5 and found.log_norm_bound != 0
    assert table["Jacobian against differences (relative)"] < 1e-8
    np.testing.assert_allclose(found.finite_time_exponent, -math.log(2))
    growth = found.by_step()["log10 ||ds[t+1]/ds[0]||"]
    np.testing.assert_allclose(growth, -np.arange(1, 11) * math.log10(2))


@pytest.mark.parametrize(("entries", "angles"), [(3, 32), (4, 16)])
def test_a_numerical_range_has_half_of_the_lines_for_more_entries(entries, angles, monkeypatch):
    monkeypatch.setattr("gersgorin.analyses.spectra.SMALL", 3)
    found = spectra(linear(torch.eye(entries).double()))
    np.testing.assert_allclose(found.support, np.cos(2 * np.pi / angles * np.arange(angles)[None])
                               .repeat(10, 0), atol=1e-12)  # fmt: skip


@pytest.mark.parametrize(
    ("start", "warmup", "wanted"),
    [
        pytest.param(0.0, 0, 1 / 1.875, id="from 0"),
        pytest.param(0.0, 2, 0.25 / 1.875, id="after two steps"),
        pytest.param(4.0, 0, 0.25, id="from 4, falling"),
        pytest.param(2.0, 0, 0.0, id="at rest"),
    ],
)
def test_the_largest_move_is_that_of_an_entry_over_the_largest_entry(start, warmup, wanted):
    """States 0, 1, 1.5, 1.75, 1.875 or 4, 3, 2.5, ... of s / 2 + x, and its fixed point 2."""
    x, s0 = torch.ones(4, 1), torch.tensor([start, 0.0]).double()
    run = open_run(lambda x, s: s / 2 + x * torch.tensor([1.0, 0.0]), x, s0)
    row = "largest move of the state in a step / its size"
    assert lyapunov(run, warmup=warmup).table()[row] == wanted
    if warmup == 0:
        assert fixed_points(run, starts=2).table()[row] == wanted


@pytest.mark.parametrize(
    ("entry", "share"),
    [
        pytest.param(1.0, 0.0, id="on the circle"),
        pytest.param(1 - 1e-15, 0.0, id="on it up to rounding"),
        pytest.param(0.999, 0.5, id="inside"),
        pytest.param(1.001, 0.0, id="outside"),
    ],
)
def test_a_disc_that_touches_the_circle_is_not_inside(entry, share):
    A = torch.tensor([[0.0, entry], [2.0, 0.0]], dtype=torch.float64)
    inside = spectra(linear(A)).table()["row discs inside the unit circle (share)"]
    assert np.unique(inside).tolist() == [share]


@pytest.mark.parametrize("name", others_slow(["rnn", "lstm", "pair"], "rnn"))
def test_every_row_of_spectra_is_numpys(name):
    f, x, how = NETWORKS[name]()
    found = spectra(f, x[:6], **how).table()
    matrices = open_run(f, x[:6], **how).jacobians().numpy()
    wanted = [rows_of_spectra(A) for A in matrices]
    for row in wanted[0]:
        numbers = [each[row] for each in wanted]
        coarse = "overlap" in row or "numerical radius" in row  # a grid, and a polygon
        tolerance = {"rel": 5e-3} if coarse else {"rel": 1e-8, "abs": 1e-12}
        assert np.ravel(found[row]) == pytest.approx(numbers[: np.size(found[row])], **tolerance)
    logs = log_norms(matrices)[-1]
    assert found["log10 ||ds[T]/ds[0]||"] == pytest.approx(logs / math.log(10), rel=1e-9)


@pytest.mark.parametrize(("factor", "rate"), [(1.0, 0.0), (2.0, math.log(2)), (0.0, -math.inf)])
def test_growth_of_a_multiple_of_the_identity(factor, rate):
    found = products(linear(factor * torch.eye(2).double()))
    table = found.table()
    assert table["growth rate of ||ds[t]/ds[0]|| (1/step)"] == pytest.approx(rate)
    life = {0.0: math.inf, math.log(2): math.inf, -math.inf: 0.0}[rate]
    assert table["half-life of ||ds[t]/ds[0]|| by the mean rate (steps)"] == life
    assert found.notes() == {"steps whose product is 0": 10 * (factor == 0)}
    np.testing.assert_allclose(found.exponent, rate)
    with np.errstate(divide="ignore"):
        back = np.append(np.log10(float(factor)) * np.arange(10, 0, -1), 0)
    np.testing.assert_allclose(found.curves()["to last state"], back)
    places = [table[f"step t of the {end} ||ds[t]/ds[0]||"] for end in ("largest", "smallest")]
    assert places == {1.0: [1, 1], 2.0: [10, 1], 0.0: [1, 1]}[factor]


@pytest.mark.parametrize("blocks", [2, 5])
def test_blocks_of_steps_change_nothing(blocks, monkeypatch):
    f, x, _ = cell("rhn", "3")
    whole = [analysis(f, x) for analysis in (spectra, products, gains)]
    monkeypatch.setattr("gersgorin.run.BLOCK", math.ceil(len(x) / blocks) * 6**2)
    assert len([*open_run(f, x).slices()]) == blocks
    for one, other in zip(whole, (spectra(f, x), products(f, x), gains(f, x)), strict=True):
        for name, value in vars(one).items():
            if isinstance(value, np.ndarray):
                np.testing.assert_allclose(getattr(other, name), value, 1e-9, 1e-9)


def test_gains_are_norms_of_jacobians_of_layers_and_inputs():
    f, x, _ = cell("dts-rnn", "3")
    run, found = open_run(f, x), gains(f, x)
    layers = f.layer_jacobians(*run.at())
    wanted = [np.linalg.norm(J.detach()[..., :6, :6], 2, axis=(-2, -1)) for J in layers]
    np.testing.assert_allclose(found.layers, np.stack(wanted, 1))
    for t, s in enumerate(run.states[:-1]):
        B = differences(lambda x, s=s: f.step(x[None], s[None])[0], x[t])
        assert found.input[t] == pytest.approx(np.linalg.norm(B, 2), rel=1e-7)
    stack = filled(torch.nn.LSTM(3, 4, 2))
    A = open_run(stack, X).jacobians().numpy()
    wanted = [np.linalg.norm(A[:, part, part], 2, axis=(1, 2)) for part in (np.s_[:8], np.s_[8:])]
    np.testing.assert_allclose(gains(stack, X).layers, np.stack(wanted, 1))
    ids = gains(open_run(lambda x, s: s / 2 + x, torch.arange(3), torch.zeros(2)))
    assert np.isnan(ids.input).all() and [*ids.notes().values()] == [3]


def test_gates_of_a_function_have_its_names():
    lstm = filled(torch.nn.LSTM(3, 6))

    def gates_of(x, state):
        h, _ = state
        z = lstm.weight_ih_l0 @ x + lstm.bias_ih_l0 + lstm.weight_hh_l0 @ h + lstm.bias_hh_l0
        return {"input": z[:6].sigmoid(), "forget": z[6:12].sigmoid()}

    mine, own = gates(lstm, X, of=gates_of), gates(lstm, X)
    np.testing.assert_allclose(mine.mean, own.mean)
    assert mine.names == ("input", "forget")
    assert own.names == ("input gate, layer 1", "forget gate, layer 1")
    unknown = gates(linear(DIAGONAL))
    note = "steps of a network without known gates"
    assert np.isnan(unknown.table()["mean of all gates"]).tolist() == [True] * 10
    assert unknown.notes() == {note: 10} and mine.notes() == own.notes() == {note: 0}
    assert f"note: {note}: 10" in str(unknown).splitlines() and "note" not in str(mine)


def test_the_only_gate_of_the_only_step_of_a_cell_is_the_mean_of_all():
    found = gates(cell("rnn")[0], X[:1], of=lambda x, s: {"open": 0.25 + 0 * s})
    assert found.mean.tolist() == [[0.25]] and found.table()["mean of all gates"].tolist() == [0.25]
    assert [*found.notes().values()] == [0]


@pytest.mark.parametrize(
    ("values", "found"),
    [
        pytest.param([0.5, 1.5], "0.5 to 1.5", id="above 1"),
        pytest.param([-0.5, 0.5], "-0.5 to 0.5", id="below 0"),
        pytest.param([0.5, math.nan], "nan to nan", id="not a number"),
    ],
)
def test_numbers_that_are_no_gates_are_refused(values, found):
    with pytest.raises(InvalidInputError, match=f"^gate is {found}: expected 0 to 1$"):
        gates(linear(DIAGONAL), of=lambda x, s: torch.tensor(values))


def test_a_function_whose_gates_change_their_names_at_one_step_is_refused():
    names = iter(9 * "a" + "b")
    with pytest.raises(InvalidInputError, match=r"^names of gates\(x, s\) is others at another"):
        gates(linear(DIAGONAL), of=lambda x, s: {next(names): torch.ones(1)})


class TwoFactors(torch.nn.Module):
    """A user's step s' = 4 s + x with two factors of its Jacobian, which may not say so."""

    state_size = 3

    def step(self, x, s):
        return 4 * s + x

    def layer_jacobians(self, x, s):
        return [2 * torch.eye(3).double().expand(*s.shape, 3)] * 2


def test_the_share_of_discs_inside_is_unknown_if_one_radius_is():
    found = spectra(linear(torch.diag(torch.tensor([0.5, 2.0], dtype=torch.float64))))
    one_unknown = np.tile([0.1, np.nan], (found.steps, 1))
    assert np.isnan(found.inside(one_unknown)).all()
    assert (found.inside(np.zeros((found.steps, 2))) == 0.5).all()


def test_a_user_s_step_has_as_many_layers_as_its_depth():
    step = TwoFactors()
    assert gains(step, X).layers.tolist() == [[4.0]] * len(X)
    step.depth = 2
    assert gains(step, X).layers.tolist() == [[2.0, 2.0]] * len(X)
    step.depth = "two"
    assert open_run(step, X).step.depth == 1
    assert open_run(lambda x, s: s, X, torch.zeros(3)).step.depth == 1


def test_steps_without_numbers_are_counted(tmp_path):
    found = spectra(filled(torch.nn.RNN(3, 4)), X)
    found.eigenvalues[3] = np.nan
    deep = spectra(filled(make_cell("rhn", 3, 4, depth=1500)), X[:2])
    assert [*found.notes().values()] == [1, 0, 0] and f"{NOT_CONVERGED}: 1" in str(found)
    found.norm[:2] = np.nan
    assert found.notes() == {NOT_CONVERGED: 1, NORM_NOT_CONVERGED: 2, NO_NUMBER: 0}
    assert [*deep.notes().values()] == [0, 0, 2] and deep.typical_step == 0
    known = {name for name, value in deep.table().items() if not np.isnan(value).all()}
    assert known == {
        "departure from normality (0 to 1)",
        "largest eigenvalue condition",
        "2-norm for any input (upper bound)",
        "log10 ||ds[T]/ds[0]||",
        "growth rate of ||ds[t]/ds[0]|| (1/step)",
        "half-life of ||ds[t]/ds[0]|| by the mean rate (steps)",
        "doubling time of ||ds[t]/ds[0]|| by the mean rate (steps)",
        "entries of a state",
        "eigenvalues of a step",
    }
    assert {*deep.table()} == {*ROWS}
    for result in (found, deep):
        assert str(Spectra.load(result.save(tmp_path / "a.json"))) == str(result)
        without_layout(result).draw_without_rendering()


@pytest.mark.parametrize(
    ("radii", "typical"),
    [
        pytest.param([1, 2, 3, 4, 0, 1], 5, id="the first of two equal ones is 0"),
        pytest.param([2, 3, 1], 0, id="three"),
        pytest.param([6, 1, 4, 3, 5, 2], 3, id="the lower of two"),
    ],
)
def test_the_typical_step_has_the_median_radius(radii, typical):
    found = spectra(lambda x, s: x * s, torch.tensor(radii).double()[:, None], torch.ones(1))
    assert found.spectral_radius.tolist() == radii and found.typical_step == typical
    said = f"spectral radius {np.median(radii):g} (median), half-life"
    assert found.figure_title().splitlines()[1].startswith(said)
    assert found.plot().get_title(loc="left") == f"time step {typical}"


LSTM = torch.nn.LSTM(3, 4)


def test_a_run_is_saved_and_named(tmp_path):
    run = open_run(LSTM, X, title="mine", data="bwv269", unit="quarter notes")
    stored = np.load(run.save(tmp_path / "run.npz"))
    assert stored["states"].shape == (25, 8) and (stored["inputs"] == X.numpy()).all()
    assert str(products(run)).startswith("mine; bwv269, 24 quarter notes\n")


def every_result():
    """Results of three analyses for networks of several kinds."""
    for name in ("rhn 3", "nn.LSTM", "pair", "cycle"):
        f, x, how = NETWORKS[name]()
        run = open_run(f, x, data="bwv269", **how)
        yield from (spectra(run), spectra(run, leading=1), products(run), gains(run), gates(run))


def test_all_printed_words_are_literals_and_rows_are_the_same():
    rows = {}
    for found in every_result():
        figure_title = found.figure_title()
        assert other_words(f"{found}\n{figure_title}", found) == set(), other_words(
            str(found), found
        )
        kind = type(found).__name__
        if kind in ("Spectra", "Products"):
            assert rows.setdefault(kind, [*found.table()]) == [*found.table()]
    assert len(rows) == 2 and len(rows["Spectra"]) == 21


def test_results_are_saved_and_read_back(tmp_path):
    for number, found in enumerate(every_result()):
        for suffix in (".json", ".npz"):
            again = type(found).load(found.save(tmp_path / f"{number}{suffix}"))
            assert str(again) == str(found)
            for name, value in vars(found).items():
                if isinstance(value, np.ndarray):
                    np.testing.assert_array_equal(getattr(again, name), value)


def test_figures_show_the_numbers_and_no_other_words():
    from gersgorin.analyses.complex_plane import PLANE_TEXTS
    from gersgorin.analyses.disc_panels import DISC_TEXTS
    from gersgorin.analyses.spectra_figure import MODULUS
    from rhn.utils.named_curves import CURVE_TEXTS

    f, x, how = NETWORKS["rhn 3"]()
    found = spectra(f, x, **how)
    figure = found.figure(step=2)
    whole, near, over, growth = figure.axes
    np.testing.assert_array_equal(over.lines[0].get_ydata(), found.spectral_radius)
    np.testing.assert_array_equal(growth.lines[0].get_ydata()[1:],
                                  found.log_norm_product / math.log(10))  # fmt: skip
    for ax in (whole, near):
        dots = next(line for line in ax.lines if line.get_label() == "eigenvalues")
        np.testing.assert_array_equal(dots.get_xdata(), found.eigenvalues[2].real)
    more = ("(time steps)", *PLANE_TEXTS, *CURVE_TEXTS, MODULUS, *DISC_TEXTS)
    assert other_words(" ".join(words_in(figure)), found, more) == set()
    for result in (products(f, x), gains(f, x), gates(f, x)):
        figure = without_layout(result)
        ax = figure.axes[0]
        assert [line.get_ydata().tolist() for line in ax.lines] == [
            row.tolist() for row in result.curves().values()
        ]
        words = f"{result.figure_title()} {' '.join(words_in(figure))}"
        assert other_words(words, result, more) == set()
        assert ax.get_ylabel() == result.label and "mean of all gates" not in result.curves()
    assert products(f, x).curves()["from first state"][0] == 0


@pytest.fixture
def above_the_limit():
    """A run of 70 units, more than ARPACK needs for a norm."""
    return open_run(filled(make_cell("rnn", 3, 70)), X[:3])


def test_a_state_above_the_limit_is_measured_by_products(above_the_limit, monkeypatch):
    """In eight blocks of up to nine rows."""
    whole, done = spectra(above_the_limit), []
    monkeypatch.setattr(spectra_home, "LARGE", 69)
    monkeypatch.setattr("gersgorin.analyses.large_states.BLOCK", 70 * 9)
    found = spectra(replace(above_the_limit, progress=lambda *step: done.append(step)), leading=4)
    for name in (
        "centers",
        "row_radii",
        "column_radii",
        "norm",
        "log_norm_product",
        "spectral_radius",
    ):
        np.testing.assert_allclose(getattr(found, name), getattr(whole, name), rtol=1e-9)
    np.testing.assert_allclose(found.eigenvalues, whole.eigenvalues[:, :4], rtol=1e-8)
    assert (found.difference < 1e-7).all() and np.isnan(found.support).all()
    assert found.support.shape == (3, 4) and done == [(1, 3), (2, 3), (3, 3)]


def test_a_state_is_large_and_has_some_eigenvalues_above_the_limit_only(
    above_the_limit, monkeypatch
):
    run = replace(
        above_the_limit, states=above_the_limit.states[:2], inputs=above_the_limit.inputs[:1]
    )
    for limit, count, most in ((70, 70, 70), (69, 32, 67)):
        monkeypatch.setattr(spectra_home, "LARGE", limit)
        found = spectra(run)
        assert found.eigenvalues.shape == (1, count)
        assert np.isnan(found.log_norm_bound) == (limit < 70)
        assert spectra(run, leading=most).eigenvalues.shape == (1, most)
        with pytest.raises(InvalidInputError, match=f"^leading is {most + 1}: .* 1 to {most}"):
            spectra(run, leading=most + 1)


@pytest.fixture
def one_does_not_converge(monkeypatch):
    """Neither torch's nor NumPy's LAPACK converges for a batch that has a matrix with the first
    entry 0.25.
    """

    def fails(solve):
        def solve_or_fail(A):
            if (np.asarray(A)[..., 0, 0] == 0.25).any():
                raise (
                    torch.linalg.LinAlgError
                    if isinstance(A, torch.Tensor)
                    else np.linalg.LinAlgError
                )
            return solve(A)

        return solve_or_fail

    for library in (torch.linalg, np.linalg):
        for name in ("eig", "eigvals"):
            monkeypatch.setattr(library, name, fails(getattr(library, name)))


FACTORS = torch.tensor([[0.5], [0.25], [0.75], [0.125]], dtype=torch.float64)


def scaled_by_its_input(x, s):
    return s * x


@pytest.mark.parametrize("leading", [None, 1])
def test_a_step_whose_eigenvalues_do_not_converge_is_nan_and_a_note(leading, one_does_not_converge):
    run = open_run(scaled_by_its_input, FACTORS, torch.ones(3).double())
    found = spectra(run, leading=leading)
    np.testing.assert_array_equal(found.spectral_radius, [0.5, np.nan, 0.75, 0.125])
    np.testing.assert_allclose(found.norm, FACTORS[:, 0])
    assert found.notes()[NOT_CONVERGED] == 1 and np.isfinite(found.log_norm_product).all()
    assert found.support.shape == (4, 4 if leading else 32)


def test_other_analyses_have_a_note_of_what_does_not_converge(one_does_not_converge):
    run = open_run(scaled_by_its_input, FACTORS, torch.ones(3).double())
    both = compare({"twice": [run, run]})
    assert both.notes()[NOT_CONVERGED] == 2 and both.network("twice").norm.min() == 0.125
    around = pseudospectra(run, side=9)
    assert np.isnan(around.to_circle).tolist() == [False, True, False, False]
    assert around.notes() == {NOT_CONVERGED: 1} and around.table()[LEAST_AT] == 2
    without_layout(around)
    points = fixed_points(scaled_by_its_input, FACTORS[1], starts=torch.rand(5, 3).double())
    row = {name: np.ravel(values)[0] for name, values in points.table().items()}
    assert np.isnan([row[name] for name in ("moduli > 1", "= 1", "< 1", "radius")]).all()
    assert [*points.notes().values()] == [1] and "moduli" in str(points)
    without_layout(points)


def test_the_default_device_decides_nothing_where_a_tensor_tells_it():
    x, rnn = torch.rand(4, 3), torch.nn.LSTM(3, 2)
    with torch.device("meta"):  # of which no number can be read
        for network, state_size in ((rnn, None), (lambda x, s: s / 2 + x.sum(), 2)):
            run = open_run(network, x, state_size=state_size)
            for analysis in (spectra, products, gains, gates):
                str(analysis(run))
        str(spectra(rnn, x, leading=2))
