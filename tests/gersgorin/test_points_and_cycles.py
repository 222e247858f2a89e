"""Fixed points and cycles: recorded numbers, known maps, bisection, SciPy, torch's own modules, a
published procedure.
"""

import math
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.optimize
import torch
from cases import others_slow
from readable import other_words, without_layout, words_in
from safetensors.torch import load_file
from scipy.optimize import brentq
from torch import nn

from gersgorin import root_search
from gersgorin.analyses import iterated_map
from gersgorin.analyses.complex_plane import PLANE_TEXTS
from gersgorin.analyses.dynamics_figures import ALL_BELOW, FIGURE_TEXTS, principal_axes
from gersgorin.analyses.fixed_points import (
    AT_EDGE,
    ELSEWHERE,
    LED,
    SHORTER,
    FixedPoints,
    fixed_points,
)
from gersgorin.analyses.point_search import spread
from gersgorin.results import load
from gersgorin.run import open_run
from rhn.errors import InvalidInputError, NotFiniteError
from rhn.utils.named_curves import CURVE_TEXTS
from tests.gersgorin.published import fixed_points_by_adam, three_bits
from tests.gersgorin.test_exponents import drawn
from tests.numbers.record import CELLS, filled

d = torch.float64
NO_INPUT = torch.zeros(1, dtype=d)
FIELDS = ("states", "eigenvalues", "is_slow", "unstable", "neutral", "time_constants")


def search(step, starts, x=NO_INPUT, **options):
    """The points of step(s) from starts (B, N), or (B,) for a state of one number."""
    starts = starts[:, None] if starts.dim() == 1 else starts
    return fixed_points(lambda x, s: step(s), x, starts=starts, **options)


def grid(low, high, number):
    return torch.linspace(low, high, number, dtype=d)


def test_a_linear_map_has_the_one_point_that_solves_it():
    A, b = 0.4 * drawn(6, 6), drawn(6, seed=1)
    found = fixed_points(lambda x, s: A @ s + x, b, starts=10 * drawn(20, 6, seed=2))
    np.testing.assert_allclose(
        found.states, [np.linalg.solve(np.eye(6) - A.numpy(), b)], atol=1e-11
    )
    assert found.found_from.tolist() == [20] and found.input.tolist() == b.tolist()
    with pytest.raises(InvalidInputError, match=r"^point is 1: "):
        found.modes(1)
    values, right = found.modes()
    moduli = np.sort(np.abs(np.linalg.eigvals(A)))[::-1]
    np.testing.assert_allclose(np.abs([values, found.eigenvalues[0]]), [moduli] * 2, atol=1e-12)
    after = right @ (values**7 * np.linalg.solve(right, b.numpy()))
    np.testing.assert_allclose(after, np.linalg.matrix_power(A, 7) @ b.numpy(), rtol=1e-9)


@pytest.mark.parametrize(
    ("network", "how", "first"),
    [
        pytest.param(lambda f, x: open_run(f, x, 0 * x[0]), {}, 0, id="a run"),
        pytest.param(lambda f, x: f, {"state_size": 1}, 0, id="a function of a known size"),
        pytest.param(lambda f, x: f, {}, 5, id="a function"),
        pytest.param(lambda f, x: f, {"s0": torch.ones(1, dtype=d)}, 1, id="a first state"),
    ],
)
def test_the_first_start_is_the_first_state_of_a_function_without_another_one(network, how, first):
    x, starts = torch.ones(3, 1, dtype=d), torch.tensor([[5.0], [6.0]], dtype=d)
    made = network(lambda x, s: s / 2 + x, x)
    found = fixed_points(made, None if how == {} and first == 0 else x, starts=starts, **how)
    assert found.trajectory[0] == first
    np.testing.assert_allclose(found.states, [[2.0]], atol=1e-9)


@pytest.mark.parametrize(
    "starts", [pytest.param(torch.zeros(3), id="numbers"), pytest.param([[0], [1]], id="ids")]
)
def test_starts_that_are_no_vectors_of_floats_are_refused(starts):
    with pytest.raises(InvalidInputError, match=r"^starts is .*expected a number, or float vec"):
        fixed_points(lambda x, s: s / 2, NO_INPUT, starts=torch.as_tensor(starts))


def test_an_id_that_is_repeated_is_a_constant_input():
    table, starts = torch.tensor([[1.0], [3.0]], dtype=d), drawn(4, 1)
    found = fixed_points(lambda x, s: s / 2 + table[x], torch.tensor([1, 1]), starts=starts)
    np.testing.assert_allclose(found.states, [[6.0]], atol=1e-9)
    assert found.input == 1
    with pytest.raises(InvalidInputError, match=r"^x is a sequence of different ids: expected one"):
        fixed_points(lambda x, s: s / 2 + table[x], torch.tensor([1, 0]), starts=starts)


@pytest.mark.parametrize("rate", others_slow([0.96, 0.999], 0.96))
def test_a_point_far_from_the_starts_is_found(rate):
    B = drawn(6)
    found = fixed_points(lambda x, s: rate * s + 4 * B * x, torch.ones(1), starts=drawn(5, 6))
    np.testing.assert_allclose(found.states, [4 / (1 - rate) * B.numpy()], rtol=1e-6)
    assert found.found_from.tolist() == [5] and found.settled_after > 200


@pytest.mark.parametrize("size", [2.0, 1e4])
def test_one_bistable_unit_has_three_points(size):
    root = brentq(lambda s: math.tanh(2 * s) - s, 0.5, 1)
    starts = torch.cat((grid(-size, size, 40), grid(-0.1, 0.1, 5)))
    found = search(lambda s: torch.tanh(2 * s), starts)
    order = found.states[:, 0].argsort()
    np.testing.assert_allclose(found.states[order, 0], [-root, 0, root], atol=1e-10)
    slopes = [2 * (1 - root**2), 2, 2 * (1 - root**2)]
    np.testing.assert_allclose(found.eigenvalues[order, 0], slopes, atol=1e-9)
    assert found.unstable[order].tolist() == [0, 1, 0]
    np.testing.assert_allclose(found.time_constants[order[1]], -1 / math.log(2), atol=1e-9)
    table = found.table()
    assert sum(table[row] for row in (LED, SHORTER, AT_EDGE, ELSEWHERE)) == 45
    assert table[LED] == found.found_from.sum()


def test_an_lstm_has_the_nine_points_that_bisection_finds():
    """Two units that do not read each other, with three points each."""
    lstm = nn.LSTM(1, 2, dtype=d)
    weights, biases = np.array([6.0, 3.0, 4.0, 5.0]), np.array([0.5, 0.5, 0.0, 0.0])
    with torch.no_grad():
        for p in lstm.parameters():
            p.zero_()
        lstm.weight_hh_l0.copy_(torch.cat([w * torch.eye(2) for w in weights]))
        lstm.bias_hh_l0.copy_(torch.tensor(biases).repeat_interleave(2))

    def state(h):
        i, f, g, o = weights * h + biases
        i, f, o = (1 / (1 + np.exp(-z)) for z in (i, f, o))
        c = i * np.tanh(g) / (1 - f)
        return o * np.tanh(c), c

    places = np.linspace(-1, 1, 4002)
    signs = np.sign([state(h)[0] - h for h in places])
    ends = [(places[k], places[k + 1]) for k in np.flatnonzero(signs[1:] != signs[:-1])]
    roots = [brentq(lambda h: state(h)[0] - h, *each, xtol=1e-15) for each in ends]
    assert len(roots) == 3
    wanted = [[a, b, state(a)[1], state(b)[1]] for a in roots for b in roots]
    found = fixed_points(lstm, NO_INPUT, starts=3 * drawn(400, 4))
    states = found.states[np.lexsort(found.states[:, 1::-1].round(6).T)]
    np.testing.assert_allclose(states, wanted, atol=1e-8)


@pytest.mark.parametrize("theirs", [nn.RNN, nn.GRU, nn.LSTM])
def test_torchs_own_module_stands_still_at_every_point(theirs):
    module, x = filled(theirs(3, 8)).requires_grad_(False), drawn(60, 3)
    for p in module.parameters():
        p.mul_(1.7)
    found = fixed_points(module, x)
    np.testing.assert_allclose(found.input, x.mean(0))

    def after(s):
        parts = s[None, None].chunk(2, -1) if theirs is nn.LSTM else s[None, None]
        end = module(x.mean(0)[None, None], parts)[1]
        return torch.cat(end, -1)[0, 0] if theirs is nn.LSTM else end[0, 0]

    for s, residual, values in zip(
        torch.tensor(found.states), found.residuals, found.eigenvalues, strict=True
    ):
        assert (after(s) - s).norm().item() == pytest.approx(residual, abs=1e-14)
        A = torch.autograd.functional.jacobian(after, s).numpy()
        np.testing.assert_allclose(
            np.sort_complex(values), np.sort_complex(np.linalg.eigvals(A)), atol=1e-9
        )
    assert (found.residuals[~found.is_slow] < 1e-10).all() and not found.is_slow[0]


@pytest.mark.parametrize("name", CELLS)
def test_scipys_roots_from_the_same_starts_are_among_the_points(name):
    f, x, _ = CELLS[name]()
    starts = open_run(f, x).states[:12]

    def F(s):
        return f.step(x[0], torch.from_numpy(s)).detach().numpy()

    theirs = [scipy.optimize.root(lambda s: F(s) - s, s) for s in starts.numpy()]
    roots = torch.from_numpy(np.array([root.x for root in theirs]))
    found = fixed_points(f, x[0], starts=torch.cat((starts, roots)), margin=1e3)
    points = [root.x for root in theirs if np.linalg.norm(F(root.x) - root.x) < 1e-9]
    assert points
    for point in points:
        assert np.abs(found.states[~found.is_slow] - point).max(1).min() < 1e-4


def test_a_published_procedure_finds_the_same_27_points():
    (rnn, starts), x = three_bits(15, 300), torch.zeros(3, dtype=d)
    ours = fixed_points(rnn, x, starts=starts)
    theirs, q, spectra = fixed_points_by_adam(rnn, x, starts, rate=0.1)
    assert len(theirs) == len(ours.states) == 27 and not ours.is_slow.any() and q.max() < 1e-11
    nearest = np.abs(theirs.numpy()[:, None] - ours.states).max(-1).argmin(1)
    assert sorted(nearest) == [*range(27)]
    np.testing.assert_allclose(theirs, ours.states[nearest], atol=1e-4)
    radii = np.abs(ours.eigenvalues[nearest, 0])
    np.testing.assert_allclose(np.abs(spectra).max(1), radii, atol=1e-4)
    assert ours.found_from.sum() == 300
    assert sorted(ours.unstable) == [0] * 8 + [1] * 12 + [2] * 6 + [3]


def test_the_ghost_of_a_lost_pair_is_slow_and_not_fixed():
    starts = torch.tensor([-1.0, 0.4, 0.9], dtype=d)
    ghost = search(lambda s: s + 0.002 + s * s, starts)
    assert ghost.is_slow.tolist() == [True] and ghost.found_from.tolist() == [3]
    assert abs(ghost.states[0, 0]) < 1e-4
    assert ghost.residuals[0] == ghost.least_residual == pytest.approx(0.002)
    cycles = search(lambda s: s + 0.002 + s * s, starts, period=2)
    assert len(cycles.states) == 0 and cycles.least_residual == pytest.approx(0.004, rel=0.01)
    none = search(lambda s: s + 0.5 + s * s, starts)
    assert len(none.states) == 0 and none.least_residual == pytest.approx(0.5)
    beside = search(lambda s: s + 0.5 + s * s, torch.tensor([-10.0, 4.0, 9.0], dtype=d))
    assert beside.is_slow.tolist() == [True]  # 0.5 is below a hundredth of 81.5


def test_counts_and_times_of_known_eigenvalues():
    A = torch.tensor([0.5, 2.0, -1.0, 0.0], dtype=d).diag()
    found = fixed_points(lambda x, s: A @ s, NO_INPUT, starts=0.3 * torch.ones(1, 4, dtype=d))
    row = {name: np.ravel(values)[0] for name, values in found.table().items()}
    wanted = {"moduli > 1": 1, "= 1": 1, "< 1": 2, "radius": 2, "decay time": math.inf}
    assert {name: row[name] for name in wanted} == wanted
    assert row["growth time"] == pytest.approx(1 / math.log(2))
    np.testing.assert_allclose(
        found.time_constants[0], [-1 / math.log(2), np.inf, 1 / math.log(2), 0], atol=1e-12
    )
    line = fixed_points(lambda x, s: torch.cat((s[:1], s[1:] / 2)), NO_INPUT, starts=drawn(9, 2))
    assert line.neutral.tolist() == [1] * 9 and np.abs(line.states[:, 1]).max() < 1e-9


@pytest.mark.parametrize(
    ("values", "growth", "decay"),
    [
        pytest.param([math.e**0.5, math.e**-0.1], 2.0, 10.0, id="grows and decays"),
        pytest.param([math.e**2, math.e], 0.5, math.nan, id="only grows"),
        pytest.param([math.e**-0.5, 0.0], math.inf, 2.0, id="only decays"),
        pytest.param([-1.0, 0.5], math.inf, math.inf, id="neutral"),
        pytest.param([math.nan, math.nan], math.nan, math.nan, id="unknown"),
    ],
)
def test_times_are_those_of_the_fastest_growth_and_the_slowest_decay(values, growth, decay):
    found = search(lambda s: 0 * s, drawn(3, 2))
    found = replace(found, eigenvalues=np.array([values], dtype=complex))
    np.testing.assert_allclose([*found.growth_time, *found.decay_time], [growth, decay])
    table = found.table()
    np.testing.assert_array_equal(table["growth time"], found.growth_time)
    np.testing.assert_array_equal(table["decay time"], found.decay_time)


@pytest.mark.parametrize(
    ("values", "kind", "unstable", "neutral"),
    [
        pytest.param([1 + 9e-7, 0], complex, 0, 1, id="a millionth of a distance of 1"),
        pytest.param([1 + 3e-7, 0.8], complex, 1, 0, id="more of a distance of 0.2"),
        pytest.param([1 + 9e-8, 1 - 9e-8], complex, 0, 2, id="less than 1e-7"),
        pytest.param([1 + 2e-7, 1 - 2e-7], complex, 1, 0, id="more than 1e-7"),
        pytest.param([1 + 1.5e-6, 0.5], np.complex64, 0, 1, id="single precision"),
        pytest.param([1 + 3e-6, 0.5], np.complex64, 1, 0, id="more than rounding"),
    ],
)
def test_an_eigenvalue_near_1_is_neutral(values, kind, unstable, neutral):
    found = search(lambda s: 0 * s, torch.zeros(1, 2, dtype=d))
    found = replace(found, eigenvalues=np.array([values], kind))
    assert (found.unstable.tolist(), found.neutral.tolist()) == ([unstable], [neutral])
    assert found.table()["< 1"] == 2 - unstable - neutral
    np.testing.assert_equal(found.sum_of_signs, math.nan if neutral else -1.0)


@pytest.mark.slow
def test_the_size_of_a_time_step_does_not_make_a_point_neutral():
    step, rates = 1e-4, torch.tensor([0.005, -0.5, -1.0], dtype=d)
    found = search(lambda s: s + step * rates * s, drawn(9, 3))
    assert found.unstable.tolist() == [1] and found.neutral.tolist() == [0]
    assert found.time_constants[0, 0] == pytest.approx(-1 / (0.005 * step), rel=1e-3)


@pytest.mark.parametrize(("margin", "points"), [(1, [2.9]), (0.9, [])], ids=str)
def test_the_search_stays_in_the_box_of_the_starts(margin, points):
    found = search(lambda s: 2 * s - 2.9, torch.tensor([-1.0, 1.0], dtype=d), margin=margin)
    assert found.states.ravel().tolist() == pytest.approx(points)
    assert found.at_edge == (0 if points else 2) and found.settled == 0


def test_starts_are_states_of_the_run_points_between_them_or_random():
    f, x, _ = CELLS["rnn"]()
    states = open_run(f, x).states.numpy()
    some, more = fixed_points(f, x, starts=17), fixed_points(f, x, starts=60)
    np.testing.assert_array_equal(some.starts[:17], states[np.arange(17) * 25 // 17])
    np.testing.assert_array_equal(more.starts[:25], states)
    outside = [not (states == start).all(1).any() for start in more.starts]
    assert more.table()["starts outside the run"] == sum(outside) > 30
    assert np.ptp(more.starts[25:60], 0).max() <= np.ptp(states, 0).max()
    run = open_run(lambda x, s: torch.tanh(2 * s), drawn(30, 1), torch.zeros(1, dtype=d))
    still = fixed_points(run, starts=20)
    assert sorted(still.states.ravel().round(3)) == [-0.958, 0, 0.958]


@pytest.mark.parametrize(
    ("first", "size"),
    [pytest.param([0.5, -4.0], 4.0, id="large"), pytest.param([0.5, -0.25], 1.0, id="small")],
)
@pytest.mark.parametrize(
    ("step", "x"),
    [
        pytest.param(lambda x, s: s / 2 + x, [[0, 1]] * 3, id="constant input"),
        pytest.param(lambda x, s: 1 * s, [[0, 1], [1, 0]], id="a state that never moves"),
    ],
)
def test_starts_without_a_run_to_follow_are_normal_around_the_first_state(step, x, first, size):
    run = open_run(step, torch.tensor(x, dtype=d), torch.tensor(first, dtype=d))
    starts = spread(run, 4001, seed=0)
    assert starts[0].tolist() == first
    deviations = (starts[1:] - starts[0]) / size
    assert abs(deviations.mean()) < 0.05 and deviations.std().item() == pytest.approx(1, rel=0.05)


def test_starts_of_a_run_are_its_states_and_between_two_of_them():
    """States on a line with the sum 4."""
    states = torch.tensor([[4.0, 0.0], [1.0, 3.0], [0.0, 4.0]], dtype=d)
    run = open_run(lambda x, s: 1 * x, states[1:], states[0])
    starts = spread(run, 3003, seed=0)
    assert torch.equal(starts[:3], states) and torch.equal(spread(run, 2, seed=0), states[:2])
    between = starts[3:]
    torch.testing.assert_close(between.sum(1), torch.full((3000,), 4.0, dtype=d))
    assert between.min() == 0 and between[:, 0].mean().item() == pytest.approx(5 / 3, rel=0.05)


def test_searches_are_reported_from_all_starts_and_settled_states_on():
    reports = []
    found = fixed_points(
        lambda x, s: memories(s),
        NO_INPUT,
        s0=drawn(2),
        starts=9,
        progress=lambda *step: reports.append(step),
    )
    done, totals = zip(*reports, strict=True)
    assert [*done] == sorted(done) and [*totals] == sorted(totals)
    assert reports[-1] == (len(found.starts) + found.settled,) * 2
    assert found.settled > 0 and found.rounds > 1


def test_a_map_that_moves_no_state_has_no_isolated_point():
    found = fixed_points(lambda x, s: 1 * s, NO_INPUT, s0=drawn(2), starts=5)
    assert found.rounds == 2


def test_a_point_with_an_infinite_slope_is_refused_also_in_rounds():
    with pytest.raises(NotFiniteError, match="derivative of root at a point is NaN or infinite"):
        fixed_points(root, NO_INPUT, torch.zeros(1, dtype=d), starts=50)


def root(x, s):
    return s.abs().sqrt() * s.sign()


FLIP_FLOPS = load_file(Path(__file__).with_name("flip_flops.safetensors"))
OTHERS_FOUND = (12, 8, 9)  # by FixedPointFinder, rate 0.02, from all 400 states of the run, x = 0


@pytest.mark.parametrize("number", range(3))
def test_three_bits_have_27_points_at_rest_and_around_the_mean_of_their_run(number):
    """The eight memories, the saddles on the twelve edges and six faces, and one in the middle."""
    weights = {
        name.partition(".")[2]: t for name, t in FLIP_FLOPS.items() if name[0] == str(number)
    }
    x = weights.pop("x")[None]
    network = nn.RNN(3, 16, batch_first=True)
    network.load_state_dict(weights)
    at_rest, of_run = fixed_points(network, torch.zeros(1, 1, 3)), fixed_points(network, x)
    for found in (at_rest, of_run):
        assert np.bincount(found.unstable).tolist() == [8, 12, 6, 1]
        assert len(found.starts) == 100 * found.rounds > 100
        assert found.table()["sum of signs of det(I - J) over all points"] == 1
    own = open_run(network, x).states[1:]
    of_states = fixed_points(network, torch.zeros(1, 1, 3), starts=own)
    assert of_states.rounds == 1 and len(of_states.starts) == len(own)
    assert len(at_rest.states) > OTHERS_FOUND[number] >= len(of_states.states)
    assert of_states.table()["sum of signs of det(I - J) over all points"] == len(of_states.states)


def test_rounds_end_at_a_line_of_points_after_20_and_inside_the_box():
    line = fixed_points(lambda x, s: torch.stack((s[0], s[1] / 2)), NO_INPUT, s0=drawn(2), starts=9)
    assert (line.rounds, len(line.starts)) == (2, 18)
    between = line.starts[9:12]  # two states of the run
    np.testing.assert_allclose(between[:, 0], line.trajectory[0, 0])
    assert math.isnan(line.table()["sum of signs of det(I - J) over all points"])
    low, high = line.starts[:9].min(0), line.starts[:9].max(0)
    edge = 0.5 * max(1, (high - low).max()) + 1e-9
    assert (line.starts >= low - edge).all() and (line.starts <= high + edge).all()
    waves = {}
    for width in (20.0, 2000.0):  # 13 points, and more than 20 rounds of 9 starts can find

        def step(x, s, width=width):
            return s + 0.5 * torch.sin(s)

        found = fixed_points(step, NO_INPUT, s0=torch.full((1,), width, dtype=d), starts=9)
        waves[width] = found.rounds
    assert waves[20.0] < 20 == waves[2000.0]


@pytest.mark.parametrize(
    ("slopes", "wanted"),
    [
        pytest.param([[0.5, 0], [0, -3]], 1, id="no eigenvalue above 1"),
        pytest.param([[2, 0], [0, -3]], -1, id="one above 1"),
        pytest.param([[2, 0], [0, 3]], 1, id="two above 1"),
        pytest.param([[2, 1], [-1, 2]], 1, id="a pair outside the unit circle"),
        pytest.param([[0, 1], [-1, 0]], 1, id="a pair on the unit circle"),
        pytest.param([[1 + 1e-9, 0], [0, 0.5]], math.nan, id="an eigenvalue 1"),
    ],
)
def test_the_sum_of_signs_is_that_of_determinants(slopes, wanted):
    A = torch.tensor(slopes, dtype=d)
    found = search(lambda s: A @ s, torch.zeros(1, 2, dtype=d))
    assert len(found.states) == 1
    np.testing.assert_equal(found.sum_of_signs, wanted)
    if wanted == wanted:
        assert np.sign(np.linalg.det(np.eye(2) - A.numpy())) == wanted


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        pytest.param({}, 1, id="three points"),
        pytest.param({"period": 2}, math.nan, id="cycles"),
        pytest.param({"is_slow": np.array([False, True, False])}, math.nan, id="a slow point"),
        pytest.param({"eigenvalues": np.array([[0.5], [math.nan], [2]]) + 0j}, math.nan,
                     id="an unknown eigenvalue"),
        pytest.param({"eigenvalues": np.array([[0.5], [1], [2]]) + 0j}, math.nan, id="one is 1"),
    ],
)  # fmt: skip
def test_cycles_slow_points_and_unknown_eigenvalues_have_no_sum_of_signs(changes, wanted):
    found = search(lambda s: torch.tanh(2 * s), torch.tensor([-1.0, 0, 1.0], dtype=d))
    np.testing.assert_equal(replace(found, **changes).sum_of_signs, wanted)


def test_blocks_change_nothing(monkeypatch):
    f, x, _ = CELLS["gru"]()
    whole = fixed_points(f, x, starts=60)
    monkeypatch.setattr(root_search, "BLOCK", 4 * 36)
    np.testing.assert_allclose(fixed_points(f, x, starts=60).states, whole.states, atol=1e-9)


def toggle(s):
    return s + 0.1 * (2 / (1 + s.flip(-1) ** 2) - s)


def memories(s):
    return 0.9 * s + 0.5 * torch.tanh(s)  # two bits, at about +-5 each


PATTERN = drawn(200)  # that a network of 200 units stores


def pattern(s):
    return s + 0.1 * (-s + (torch.tanh(s) @ PATTERN) * PATTERN / 100)


def valley(offset):
    """The speed between the points at x = +-0.03 is largest at 0."""
    return lambda s: s + 0.01 * torch.stack([offset + s[0] ** 2, s[0] - s[1]])


FLAT = torch.stack([grid(-1, 2, 60), torch.zeros(60, dtype=d)], 1)


MAPS = (  # step, starts, {(moduli above 1, at 1): number of points}
    (lambda s: s - 0.5e10 * s * (s - 1e-5) * (s - 2e-5), grid(-3e-5, 5e-5, 60),
     {(0, 0): 2, (1, 0): 1}),
    (memories, 2 * drawn(200, 2), {(0, 0): 4, (1, 0): 4, (2, 0): 1}),
    (pattern, 2 * drawn(60, 200, seed=1), {(0, 0): 2, (1, 0): 1}),
    (torch.tanh, grid(-2, 2, 50), {(0, 1): 1}),  # each of Newton's steps takes off a third
    (toggle, 2 * torch.rand(40, 2, generator=torch.Generator().manual_seed(0)).double(),
     {(0, 1): 1}),  # a pitchfork: the speed is tiny along a curve
    (valley(-1e-3), FLAT, {(0, 0): 1, (1, 0): 1}),
    (valley(1e-3), FLAT, {(0, 1): 1}),  # slow
)  # fmt: skip


@pytest.mark.parametrize("number", others_slow(range(len(MAPS)), 0, 1, 2))
def test_points_of_maps_and_the_directions_that_grow_there(number):
    step, starts, wanted = MAPS[number]
    found = search(step, starts)
    assert Counter(zip(found.unstable.tolist(), found.neutral.tolist(), strict=True)) == wanted
    assert found.table()["starts that failed elsewhere"] == found.at_edge == 0


def test_a_ring_of_slow_points_is_not_lost():
    angles = torch.arange(32, dtype=d) * 2 * math.pi / 32
    W = 4 * torch.cos(angles - angles[:, None]) / 32  # a bump at any angle, up to the grid
    bumps = 1.6 * torch.cos(angles - grid(0, 6, 60)[:, None])
    found = search(lambda s: 0.9 * s + 0.1 * torch.tanh(s) @ W, bumps)
    assert len(found.states) > 50
    phases = np.angle(found.states @ np.exp(1j * angles.numpy()))
    assert np.diff(np.sort(phases)).max() < 0.5


@pytest.mark.slow
def test_units_of_some_entries_do_not_hide_points():
    def step(s):  # rates in 25 Hz beside synapses in 0 to 1, which take a hundred times as long
        h, u, x = s[:3] * 25, s[3:6], s[6:]
        rate = torch.nn.functional.softplus(h)
        h = h + 0.1 * (-h + 8 * u * x * rate - rate.sum() + 8)
        u = u + (0.3 - u) / 1500 + 0.3 * (1 - u) * rate / 1000
        return torch.cat((h / 25, u, x + (1 - x) / 300 - s[3:6] * x * rate / 1000))

    r = torch.rand(150, 9, dtype=d, generator=torch.Generator().manual_seed(0))
    parts = (25 * r[:, :3] - 10) / 25, 0.3 + 0.6 * r[:, 3:6], 0.2 + 0.8 * r[:, 6:]
    found = search(step, torch.cat(parts, 1))
    assert sorted(found.unstable > 0) == [False] * 3 + [True] * 10 and found.found_from.sum() == 150


@pytest.mark.slow
def test_a_slow_point_is_a_minimum_of_the_speed():
    J, b = 2.5 * drawn(30, 30) / 30**0.5, drawn(30, seed=1)

    def step(s):
        return s + 0.1 * (-s + torch.tanh(s) @ J.T + b)

    found = search(step, 2 * drawn(60, 30, seed=2))
    assert found.is_slow.any()
    for s, A in zip(torch.tensor(found.states), found.jacobians, strict=True):
        r, slopes = (step(s) - s).numpy(), A - np.eye(30)
        size = np.linalg.norm(slopes, 2) * np.linalg.norm(r)
        assert np.linalg.norm(slopes.T @ r) <= 1e-6 * size + 1e-12


@pytest.mark.parametrize(
    ("step", "starts", "jumps"),
    [
        (torch.tanh, grid(-2, 2, 50), [0]),
        (lambda s: 0.9 * s + 0.01 * torch.relu(0.9 * s), grid(-2, 2, 50), [0.009]),
        (lambda s: torch.relu(s + 1) / 2, grid(-2, 2, 50), [0]),
        (lambda s: torch.where(s < 2, torch.maximum(0.5 * s, 1.5 * s), 3 + (s - 3) / 2),
         torch.tensor([-1, 0.1, 2.5, 4]).double(), [0, 1]),  # autograd: the mean of 0.5 and 1.5
        (lambda s: torch.remainder(2 * s, 1), grid(0, 1, 41), [1e5] * 2),  # 0, and beside 1
    ], ids=["smooth", "a weak kink", "no point at its kink", "three pieces", "a jump"],
)  # fmt: skip
def test_points_at_kinks_have_the_jump_of_the_slopes(step, starts, jumps, monkeypatch):
    monkeypatch.setattr(iterated_map, "LONGEST", iterated_map.SETTLED)
    found = search(step, starts)
    np.testing.assert_allclose(np.minimum(np.sort(found.jumps), 1e5), jumps, atol=1e-5)


def test_the_scale_of_a_search_is_at_most_ten_times_that_of_the_settled_states():
    starts, settled = grid(0, 100, 3)[:, None], grid(0, 5, 2)[:, None]
    for ends, scale in ((settled, 50), (settled / 50, 10), (starts, 100)):
        assert root_search.ZeroSearch.around(abs, abs, starts, ends, 0.5, 1e-9).scale == scale


@pytest.mark.parametrize(("period", "least"), others_slow([(1, 1.0), (2, 2.0)], (1, 1.0)))
def test_a_step_may_have_no_point(period, least, monkeypatch):
    monkeypatch.setattr(iterated_map, "LONGEST", 1000)
    found = search(lambda s: s + torch.tensor([1.0, 0.0]).double(), torch.ones(3, 2, dtype=d),
                   period=period)  # fmt: skip
    assert found.states.shape == (0, 2) and found.least_residual == pytest.approx(least)
    assert found.settled_after == 1000
    assert found.table()["starts that led to a point"] == 0 and "point" in str(found)


def test_a_point_without_a_finite_derivative_is_refused():
    with pytest.raises(InvalidInputError, match="at a point is NaN or infinite"):
        search(lambda s: s.clamp(min=0).sqrt() * 1, torch.zeros(3).double())


def cycles_by_bisection(rate, period):
    """(Points of this period in [0, 1], multipliers) of the logistic map, from the changes of sign
    of f^k(s) - s on a fine grid.
    """

    def iterated(s, k):
        for _ in range(k):
            s = rate * s * (1 - s)
        return s

    places = np.linspace(1e-4, 1, 10_003)
    signs = np.sign(iterated(places, period) - places)
    ends = [(places[k], places[k + 1]) for k in np.flatnonzero(signs[1:] != signs[:-1])]
    roots = [brentq(lambda s: iterated(s, period) - s, *each, xtol=1e-15) for each in ends]
    points = np.array(roots)
    for k in range(1, period):
        if period % k == 0:
            points = points[np.abs(iterated(points, k) - points) > 1e-6]
    return points, np.prod([rate * (1 - 2 * iterated(points, k)) for k in range(period)], axis=0)


@pytest.mark.parametrize(
    ("rate", "period", "number"), [(3.2, 2, 2), (3.5, 4, 4), (3.9, 3, 6), (3.9, 4, 4), (3.2, 4, 0)]
)
def test_cycles_of_the_logistic_map_are_those_that_bisection_finds(rate, period, number):
    found = search(lambda s: rate * s * (1 - s), grid(0.01, 0.99, 60), period=period)
    points, multipliers = cycles_by_bisection(rate, period)
    assert len(points) == number == len(found.states)
    order = found.states[:, 0].argsort()
    np.testing.assert_allclose(found.states[order, 0], points, atol=1e-8)
    np.testing.assert_allclose(found.eigenvalues[order, 0].real, multipliers, rtol=1e-5, atol=1e-6)
    times = -period / np.log(np.abs(multipliers))
    np.testing.assert_allclose(found.time_constants[order, 0], times, rtol=1e-4)
    sizes = np.bincount(found.cycle)
    assert sizes.tolist() == [period] * (number // period)
    for cycle in range(len(sizes)):  # a point leads to one of the same cycle
        on = found.states[found.cycle == cycle, 0]
        np.testing.assert_allclose(np.sort(rate * on * (1 - on)), np.sort(on), atol=1e-8)
    assert (found.shorter > 48) == (number == 0)


def test_a_cycle_of_henons_map_has_its_known_points_and_multipliers():
    a, b = 1.4, 0.3
    starts = 3 * torch.rand(200, 2, generator=torch.Generator().manual_seed(0)).double() - 1.5
    found = search(lambda s: torch.stack((1 - a * s[0] ** 2 + s[1], b * s[0])), starts, period=2)
    # its two x are the roots of a^2 x^2 - a (1 - b) x + (1 - b)^2 - a
    xs = np.sort(np.roots([a**2, -a * (1 - b), (1 - b) ** 2 - a]))
    order = found.states[:, 0].argsort()
    np.testing.assert_allclose(found.states[order], np.stack([xs, b * xs[::-1]], 1), atol=1e-9)
    A, B = ([[-2 * a * x, 1], [b, 0]] for x in xs)
    multipliers = np.sort_complex(np.linalg.eigvals(np.array(B) @ A))
    for values in found.eigenvalues:
        np.testing.assert_allclose(np.sort_complex(values), multipliers, atol=1e-9)
    assert found.unstable.tolist() == [1, 1] and found.cycle.tolist() == [0, 0]


@pytest.mark.parametrize(
    "s0", [(torch.zeros(4, dtype=d), torch.zeros(4, dtype=d)), None], ids=["given", "the layer's"]
)
def test_a_state_of_two_tensors_is_searched_as_one_vector(s0):
    def step(x, state):
        h, a = state
        return 0.5 * h - a + x.sum(), 0.9 * a + 0.1 * h

    how = {"state_size": (4, 4)} if s0 is None else {"s0": s0}
    found = fixed_points(step, torch.ones(1, dtype=d), starts=20, **how)
    np.testing.assert_allclose(found.states, [[2 / 3] * 8], atol=1e-9)
    assert len(np.unique(found.starts[:20], axis=0)) == 20


def test_words_are_literals_all_kinds_have_eigenvalues_and_files_are_read_back(tmp_path):
    found = search(lambda s: torch.tanh(1.5 * s), 2 * drawn(200, 2))
    figure = found.figure()
    words = f"{found}\n{' '.join(words_in(figure))}"
    assert other_words(words, found, (*FIGURE_TEXTS, *PLANE_TEXTS, *CURVE_TEXTS)) == set()
    colours = [{line.get_color() for line in ax.lines if line.get_marker() in "oD^"}
               for ax in figure.axes]  # fmt: skip
    assert colours[0] == colours[1] and len(colours[0]) == 3
    for suffix in (".json", ".npz"):
        again = FixedPoints.load(found.save(tmp_path / f"points{suffix}"))
        assert str(again) == str(found)
    assert again.modes(2)[0].shape == (2,)


def test_a_point_without_eigenvalues_has_no_kind_in_the_figure():
    starts = torch.tensor([[-1.0], [1.0]]).double()
    found = fixed_points(lambda x, s: s / 2, torch.zeros(1), starts=starts)
    unknown = replace(found, eigenvalues=np.full_like(found.eigenvalues, np.nan))
    for result, has_kind in ((found, True), (unknown, False)):
        words = words_in(without_layout(result))
        assert any(ALL_BELOW in word for word in words) == has_kind


def test_axes_are_eigenvectors_of_the_covariance_of_the_states():
    states = np.random.default_rng(0).normal(5.0, [1, 9, 3, 2], (50, 4))
    found, wanted = principal_axes(states), np.linalg.eigh(np.cov(states.T))[1][:, :-3:-1].T
    np.testing.assert_allclose(abs(found), abs(wanted), atol=1e-12)
    assert (found[[0, 1], abs(found).argmax(1)] > 0).all()


def test_states_that_grow_beyond_all_numbers_are_no_points():
    starts = torch.tensor([[-1.0, 1.0], [2.0, 3.0]]).double()
    found = fixed_points(lambda x, s: 2 * s, torch.zeros(1), starts=starts)
    np.testing.assert_allclose(found.states, [[0, 0]], atol=1e-9)


@pytest.mark.parametrize("suffix", [".json", ".npz"])
def test_a_result_without_points_is_read_back_and_drawn(suffix, tmp_path):
    found = fixed_points(lambda x, s: s * s + 2, torch.zeros(1), starts=torch.zeros(3, 2))
    again = load(found.save(tmp_path / f"none{suffix}"))
    assert str(again) == str(found)
    for name in ("states", "eigenvalues", "is_slow", "time_constants", "unstable"):
        assert getattr(again, name).shape == getattr(found, name).shape, name
    with pytest.raises(InvalidInputError, match=r"^number of Jacobians is 0: expected those of"):
        again.modes()
    without_layout(again).draw_without_rendering()
