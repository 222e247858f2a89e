"""Fixed points: known ones, torch's own modules as judges, SciPy's root from the same starts,
minima of the speed told apart.
"""

import math
import re
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import scipy.linalg
import scipy.optimize
import torch
from cases import SHALLOW_CASES, inputs, randomize
from tables import for_each, others_slow

import gersgorin
from gersgorin import fixed_points, open_run, temporal_jacobian, trajectory
from gersgorin.linalg import zeros
from gersgorin.linalg.zeros import least_of_each, meeting
from gersgorin.run.cell import as_cell
from gersgorin.run.iterated_map import IteratedMap
from rhn.cells import GRU, RNN
from rhn.errors import InvalidInputError
from rhn.utils.figures import GREEN, RED

d = torch.float64


def normal(*shape, seed=0):
    return torch.randn(*shape, dtype=d, generator=torch.Generator().manual_seed(seed))


def test_a_linear_map_has_the_one_point_that_solves_it():
    A, b = 0.4 * normal(6, 6), normal(6, seed=1)
    points = fixed_points(lambda x, s: A @ s + x, b, starts=10 * normal(20, 6, seed=2))
    np.testing.assert_allclose(
        points.states, [np.linalg.solve(np.eye(6) - A.numpy(), b.numpy())], atol=1e-11
    )
    assert points.found_from.tolist() == [20]
    assert points.lost == 0
    assert points.input.tolist() == b.tolist()
    moduli = np.sort(np.abs(np.linalg.eigvals(A.numpy())))[::-1]
    np.testing.assert_allclose(np.abs(points.eigenvalues[0]), moduli, atol=1e-12)


def test_one_bistable_unit_has_three_points():
    root = scipy.optimize.brentq(lambda s: math.tanh(2 * s) - s, 0.5, 1)
    points = fixed_points(
        lambda x, s: torch.tanh(2 * s), None, starts=torch.linspace(-2, 2, 40, dtype=d).unsqueeze(1)
    )
    order = points.states[:, 0].argsort()
    np.testing.assert_allclose(points.states[order, 0], [-root, 0, root], atol=1e-10)
    slopes = [2 * (1 - root**2), 2, 2 * (1 - root**2)]
    np.testing.assert_allclose(points.eigenvalues[order, 0], slopes, atol=1e-9)
    assert [points.kinds[p] for p in order] == ["stable", "unstable", "stable"]
    assert points.found_from.sum() == 40 - points.lost
    np.testing.assert_allclose(points.time_constants[order[1]], -1 / math.log(2), atol=1e-9)


@pytest.mark.parametrize("theirs", [torch.nn.RNN, torch.nn.GRU, torch.nn.LSTM])
def test_torchs_own_module_stands_still_at_every_point(theirs):
    module = theirs(3, 8, dtype=d)
    randomize(module, 4, gain=3.0)
    x = normal(60, 3)
    points = fixed_points(module, x.mean(0), starts=trajectory(module, x))
    states = torch.from_numpy(points.states)
    state = states.unsqueeze(0)
    state = (
        tuple(part.contiguous() for part in state.chunk(2, -1))
        if theirs is torch.nn.LSTM
        else state
    )
    with torch.no_grad():
        _, after = module(x.mean(0).expand(1, len(states), 3).contiguous(), state)
    after = torch.cat(after, -1) if theirs is torch.nn.LSTM else after
    residuals = torch.linalg.vector_norm(after[0] - states, dim=-1).numpy()
    np.testing.assert_allclose(residuals, points.residuals, atol=1e-14)
    assert (residuals[~points.is_slow] < 1e-10).all() and not points.is_slow[0]
    A = temporal_jacobian(module, x.mean(0), states).detach().numpy()
    for found, expected in zip(points.eigenvalues, np.linalg.eigvals(A), strict=True):
        np.testing.assert_allclose(np.sort_complex(found), np.sort_complex(expected), atol=1e-9)


@for_each("case", SHALLOW_CASES)
def test_scipys_roots_from_the_same_starts_are_among_the_points(case):
    cell = case.build(seed=7)
    x, starts = inputs(cell, 12)

    def A(s):
        return temporal_jacobian(cell, x[0], torch.from_numpy(s)).detach().numpy()

    def F(s):
        return cell.step(x[0], torch.from_numpy(s)).detach().numpy()

    theirs = [
        scipy.optimize.root(lambda s: F(s) - s, s, jac=lambda s: A(s) - np.eye(len(s)))
        for s in starts.numpy()
    ]
    roots = torch.from_numpy(np.array([root.x for root in theirs]))
    points = fixed_points(cell, x[0], starts=torch.cat((starts, roots)), margin=1e3)
    found = points.states[~points.is_slow]
    for root in theirs:
        if root.success and np.linalg.norm(F(root.x) - root.x) < 1e-9:
            assert np.abs(found - root.x).max(1).min() < 1e-4
    alone = fixed_points(
        cell.step, x[0], starts=starts, margin=1e3
    )  # by autograd: nothing that is none
    for state, slow in zip(alone.states, alone.is_slow, strict=True):
        assert slow or np.linalg.norm(F(state) - state) < 1e-10


def test_the_ghost_of_a_lost_pair_is_slow_and_not_fixed():
    starts = torch.tensor([[-1.0], [0.4], [0.9]], dtype=d)
    ghost = fixed_points(lambda x, s: s + 0.002 + s * s, None, starts=starts)
    assert ghost.is_slow.tolist() == [True]
    assert ghost.kinds == ["slow, neutral"]
    assert ghost.found_from.tolist() == [3]
    assert abs(ghost.states[0, 0]) < 1e-4
    assert ghost.residuals[0] == ghost.least_residual == pytest.approx(0.002)
    none = fixed_points(lambda x, s: s + 0.5 + s * s, None, starts=starts)
    assert "The least |F(s) - s| reached from any start is 0.5:" in none.summary()
    none = fixed_points(
        lambda x, s: s + 1 - 0.98 * torch.sin(s),
        starts=torch.linspace(-7, 7, 41, dtype=d)[:, None],
    )
    words = none.notes()[-1]
    assert re.search(r"least .* is 0.02: .* a hundredth of its median at the starts", words)
    assert "tolerance" not in words


def test_kinds_counts_and_time_constants_of_known_eigenvalues():
    A = torch.tensor([0.5, 2.0, -1.0, 0.0], dtype=d).diag()
    points = fixed_points(lambda x, s: A @ s, None, starts=0.3 * torch.ones(1, 4, dtype=d))
    (found,) = points.table()
    assert (found["kind"], found["unstable"], found["neutral"], found["spectral_radius"]) == (
        "saddle",
        1,
        1,
        2,
    )
    np.testing.assert_allclose(
        points.time_constants[0], [-1 / math.log(2), np.inf, 1 / math.log(2), 0], atol=1e-12
    )
    assert np.isinf(replace(points, eigenvalues=np.array([[1 + 2e-8, 0.5]])).time_constants[0, 0])
    (row,) = replace(points, eigenvalues=np.array([[1.5, 1.1, 0.9, 0.2]])).table()
    assert row["growth_time"] == pytest.approx(1 / math.log(1.5)), "of its fastest growth"
    assert row["decay_time"] == pytest.approx(-1 / math.log(0.9)), "of its slowest decay"
    (row,) = replace(points, eigenvalues=np.array([[1.5, 1.1]])).table()
    assert math.isnan(row["decay_time"]), "all modes grow"
    # a line of them
    line = fixed_points(lambda x, s: torch.cat((s[:1], 0.5 * s[1:])), None, starts=normal(9, 2))
    assert line.kinds == ["neutral"] * 9 and np.abs(line.states[:, 1]).max() < 1e-9


def test_modes_that_do_not_span_all_states_have_no_shares():
    block = torch.tensor([[0.5, 1.0], [0.0, 0.5]], dtype=torch.float64)
    found = fixed_points(lambda x, s: s @ block.T, starts=torch.full((3, 2), 0.1).double())
    with pytest.raises(np.linalg.LinAlgError, match="do not span"):
        found.modes().driven(np.eye(2))


def test_modes_are_scipys_and_tell_how_a_deviation_goes_on():
    rng = np.random.default_rng(0)
    A, d, B, C = (
        rng.normal(size=(5, 5)) / 3,
        rng.normal(size=5),
        rng.normal(size=(5, 2)),
        rng.normal(size=(3, 5)),
    )
    found = fixed_points(
        lambda x, s: torch.tanh(s @ torch.from_numpy(A).T), starts=torch.full((3, 5), 0.1).double()
    )
    modes = found.modes()
    values, left, right = scipy.linalg.eig(A, left=True)
    order = [int(np.abs(values - value).argmin()) for value in modes.eigenvalues]
    np.testing.assert_allclose(modes.eigenvalues, found.eigenvalues[0], atol=1e-12)
    left, right = left[:, order].conj().T, right[:, order]
    scale = np.abs((left * right.T).sum(1))[:, None]
    np.testing.assert_allclose(modes.driven(B), np.abs(left @ B) / scale, rtol=1e-9)
    np.testing.assert_allclose(modes.read(C), np.abs(C @ right), rtol=1e-9)
    after = modes.right @ (modes.eigenvalues**7 * (modes.left @ d))
    np.testing.assert_allclose(after, np.linalg.matrix_power(A, 7) @ d, rtol=1e-9)


def test_the_figure_has_the_run_and_a_stroke_for_each_growing_and_the_slowest_decaying_mode(
    tmp_path,
):
    found = fixed_points(GRU(88, 6, init="uniform:0.5"), torch.zeros(30, 88))
    assert found.trajectory.shape == (31, 6)
    counts = Counter(line.get_color() for line in found.plot().lines if line.get_linestyle() == "-")
    assert counts[RED] == found.unstable[:8].sum()
    assert counts[GREEN] == (found.unstable[:8] < 6).sum()
    # by a complex pair: an ellipse of half axes 2 to 1
    turn = torch.tensor([[0.9, -0.8], [0.2, 0.9]], dtype=d)
    focus = fixed_points(lambda x, s: s @ turn.T, None, starts=normal(30, 2))
    line = fixed_points(
        lambda x, s: torch.cat((s[:1], 0.5 * s[1:])), None, starts=normal(9, 2)
    ).plot()
    assert {"neutral mode"} == {
        each.get_label() for each in line.lines if "mode" in each.get_label()
    }
    (ellipse,) = {
        tuple(map(tuple, line.get_xydata()))
        for line in focus.plot().lines
        if line.get_linestyle() == "-"
    }
    assert np.divide(*np.linalg.svd(ellipse - np.mean(ellipse, 0))[1]) == pytest.approx(2, rel=0.1)
    found.save(tmp_path / "points.npz")
    with pytest.raises(InvalidInputError, match="have no Jacobians"):
        gersgorin.load(tmp_path / "points.npz").modes()


def test_float32_and_small_blocks_find_the_same(monkeypatch):
    cell = RNN(3, 6, init="gaussian:1.2", dtype=d, generator=torch.Generator().manual_seed(3))
    x = 0.3 * normal(50, 3)
    whole = fixed_points(cell, 0 * x[0], starts=trajectory(cell, x))
    monkeypatch.setattr(zeros, "BLOCK", 4 * 36)
    seen = []
    parts = fixed_points(
        cell, 0 * x[0], starts=trajectory(cell, x), progress=lambda *now: seen.append(now)
    )
    np.testing.assert_allclose(parts.states, whole.states, atol=1e-9)
    every = 51 + whole.settled
    assert len(whole.states) > 1 and seen[0] == (4, every) and seen[-1] == (every, every)
    cell.float()
    single = fixed_points(cell, 0 * x[0].float(), starts=trajectory(cell, x.float()))
    assert single.states.dtype == np.float32 and single.tolerance == 1e-5
    for state in single.states[~single.is_slow]:
        assert np.abs(whole.states - state).max(1).min() < 1e-3


def test_the_search_stays_in_the_box_of_the_starts():
    def far(x, s):  # stands still at 2.9, where no state settles
        return 2 * s - 2.9

    starts = torch.tensor([[-1.0], [1.0]], dtype=d)
    assert fixed_points(far, None, starts=starts, margin=1).states[0, 0] == pytest.approx(2.9)
    found = fixed_points(far, None, starts=starts, margin=0.9)
    box = r"kept to the box .* by 1.8 \(0.9 of the starts' .* edge\): .* margin \(0.9\)\."
    assert re.search(box, " ".join(found.notes()))
    assert found.finding.endswith("no fixed point: 2 of 2 searches ended at the edge of the region")


def test_the_search_begins_where_the_state_rests_however_late():
    # 50 is reached after some thousand steps, and 43 after 200
    starts = torch.linspace(-1, 1, 5, dtype=d)[:, None]
    found = fixed_points(lambda x, s: 0.99 * s + 0.5, None, starts=starts)
    assert found.states[0, 0] == pytest.approx(50) and found.kinds == ["stable"]
    assert found.settled_after > 1000 and f"{found.settled_after:,} steps later" in found.summary()
    # a cycle and a rotation stay in their region
    for turn in (math.pi, 0.7):
        R = torch.tensor([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
        turned = fixed_points(lambda x, s, R=R: R.to(s) @ s, None, starts=normal(5, 2))
        assert turned.settled_after == 200


def test_a_sequence_gives_the_mean_input_and_the_starts():
    cell = RNN(3, 6, init="gaussian:1.2", dtype=d, generator=torch.Generator().manual_seed(3))
    x = normal(50, 3)
    found = fixed_points(cell, x, starts=17)
    wider = found.margin * max(1, np.ptp(found.starts, axis=0).max())
    box = (
        "The search kept to the box of the starts and of the states 200 steps later, wider "
        f"all around by {wider:.3g} (0.5 of the starts' longest edge)."
    )
    assert box in [*found.sentences()]
    wanted = fixed_points(cell, x.mean(0), starts=trajectory(cell, x)[torch.arange(17) * 51 // 17])
    np.testing.assert_array_equal(found.states, wanted.states)
    np.testing.assert_array_equal(found.input, x.mean(0))
    more = fixed_points(cell, x, starts=60).starts
    np.testing.assert_array_equal(more[:51], trajectory(cell, x).detach())
    assert len(np.unique(more, axis=0)) == 60
    assert np.ptp(more[51:], 0).max() <= np.ptp(more[:51], 0).max()
    given = fixed_points(cell, x, starts=found.starts)
    np.testing.assert_array_equal(given.states, found.states)
    held, same = (
        fixed_points(cell, x, starts=17, hold=0.5),
        fixed_points(cell, torch.full_like(x[0], 0.5), starts=found.starts),
    )
    np.testing.assert_array_equal(held.states, same.states)
    assert held.title.endswith("input held at 0.5")
    assert (
        fixed_points(cell.float(), x.float(), starts=17).residuals[0] < 1e-10
    )  # of a copy in float64
    with pytest.raises(InvalidInputError, match="starts is 0: expected at least 1"):
        fixed_points(cell, x, starts=0)


def test_around_a_state_that_stays_the_starts_are_random():
    run = open_run(
        lambda x, s: torch.tanh(2 * s), torch.zeros(30, 1, dtype=d), s0=torch.zeros(1, dtype=d)
    )
    found = fixed_points(run, starts=20)
    assert sorted(found.states.ravel().round(3)) == [-0.958, 0, 0.958]
    assert len(np.unique(found.starts)) >= 10
    assert "The starts are random, around the first state.The search kept to the box" in "".join(
        found.sentences()
    )
    assert "Only 1 of the starts is distinct" in "".join(
        fixed_points(lambda x, s: s / 2, None, starts=S.new_zeros(9, 2)).sentences()
    )


class Bistable(torch.nn.Module):
    """tanh(2 s) for each of two units, with the sizes of the batches of its Jacobians."""

    state_size = input_size = 2
    batches: list[int] = []  # noqa: RUF012 - of all copies

    def step(self, x, s):
        return torch.tanh(2 * s + x)

    def jacobian(self, x, s):
        self.batches.append(len(s))
        return torch.diag_embed(2 / torch.cosh(2 * s + x) ** 2)


def test_a_batch_shrinks_as_searches_end_and_ends_that_meet_go_on_as_one():
    cell = Bistable()
    points = fixed_points(cell, torch.zeros(2, dtype=d), starts=normal(400, 2))
    assert len(points.states) == 9 and points.found_from.sum() == 400 - points.lost
    searching = next(k for k, size in enumerate(cell.batches) if size <= 9)
    sizes, later = cell.batches[:searching], cell.batches[searching:]
    assert sizes == sorted(sizes, reverse=True) and max(later) == 9 == later[-1]


def test_states_that_meet_have_one_number_and_go_on_as_the_slowest():
    s = normal(5, 3).repeat_interleave(4, 0) + 1e-9 * normal(20, 3, seed=1)
    numbers = meeting(s, 1e-7)
    assert numbers.reshape(5, 4).unique(dim=1).shape == (5, 1)
    assert sorted(numbers.unique().tolist()) == [0, 1, 2, 3, 4]
    key = normal(20, seed=2)
    for number, row in enumerate(least_of_each(numbers, key).tolist()):
        assert key[row] == key[numbers == number].min() and numbers[row] == number


@for_each("tolerance", [None, 1e-6])
def test_three_points_within_a_hundred_thousandth_are_three_of_their_kinds(tolerance):
    def step(x, s):
        return s - 0.5e10 * s * (s - 1e-5) * (s - 2e-5)

    starts = torch.linspace(-3e-5, 5e-5, 60, dtype=d)[:, None]
    found = fixed_points(step, starts=starts, tolerance=tolerance)
    near = dict(
        zip((1e5 * found.states.ravel()).round().astype(int).tolist(), found.kinds, strict=True)
    )
    assert near == {0: "stable", 1: "unstable", 2: "stable"}


X, S = torch.zeros(3, dtype=d), torch.zeros(4, 2, dtype=d)


def test_a_constant_input_needs_no_starts_and_states_may_be_tuples():
    W = torch.randn(4, 4, generator=torch.Generator().manual_seed(0), dtype=d) / 4

    def step(x, state):
        h, a = state
        return torch.tanh(2 * h @ W + x.sum(-1, keepdim=True) - a), 0.9 * a + 0.1 * h

    found = fixed_points(
        step,
        torch.full((3,), 0.1, dtype=d),
        starts=20,
        s0=(torch.zeros(4, dtype=d), torch.zeros(4, dtype=d)),
    )
    h, a = found.states[0].reshape(2, 4)
    np.testing.assert_allclose(np.tanh(2 * h @ W.numpy() + 0.3 - a), h, atol=1e-9)
    assert found.drawn and len(np.unique(found.starts, axis=0)) == 20


def test_memories_far_from_the_first_state_are_found():
    W = 5 * torch.eye(2, dtype=d)  # two bits, at about +-5 each
    points = fixed_points(
        lambda x, s: 0.9 * s + 0.1 * torch.tanh(s) @ W,
        torch.zeros(1, dtype=d),
        starts=200,
        s0=torch.zeros(1, 2, dtype=d),
    )
    assert Counter(points.kinds) == {"stable": 4, "saddle": 4, "unstable": 1} and points.lost == 0
    root = scipy.optimize.brentq(lambda s: 5 * math.tanh(s) - s, 1, 6)
    np.testing.assert_allclose(
        np.abs(points.states[np.array(points.kinds) == "stable"]), root, atol=1e-8
    )


def test_a_ring_of_slow_points_is_not_lost():
    angles = torch.arange(32, dtype=d) * 2 * math.pi / 32
    # a bump at any angle, up to the steps of the grid
    W = 4 * torch.cos(angles - angles[:, None]) / 32
    bumps = 1.6 * torch.cos(angles - torch.linspace(0, 6, 60, dtype=d)[:, None])
    points = fixed_points(lambda x, s: 0.9 * s + 0.1 * torch.tanh(s) @ W, None, starts=bumps)
    assert len(points.states) > 50 and points.lost == 0
    phases = np.angle(points.states @ np.exp(1j * angles.numpy()))
    assert np.diff(np.sort(phases)).max() < 0.5


@pytest.mark.parametrize(
    ("offset", "kinds"), [(-1e-3, ["saddle", "stable"]), (1e-3, ["slow, neutral"])]
)
def test_between_two_fixed_points_there_is_no_slow_one(offset, kinds):
    def step(x, s):  # the speed between the points at x = +-0.03 is largest at 0
        return s + 0.01 * torch.stack([offset + s[..., 0] ** 2, s[..., 0] - s[..., 1]], -1)

    starts = torch.stack([torch.linspace(-1, 2, 60), torch.zeros(60)], 1).double()
    assert sorted(fixed_points(step, starts=starts).kinds) == kinds


def test_the_size_of_a_time_step_does_not_make_a_point_neutral():
    growth = torch.tensor([0.005, -0.5, -1.0], dtype=d)
    for step in (1e-1, 1e-4):
        points = fixed_points(
            lambda x, s, step=step: s + step * growth * s, None, starts=normal(9, 3)
        )
        assert points.kinds == ["saddle"]
        assert points.time_constants[0, 0] == pytest.approx(-1 / (0.005 * step), rel=1e-3)


@pytest.mark.parametrize("loss", [3e-7, 3e-6])
def test_a_mode_that_decays_is_neutral_only_to_a_limit_that_is_named(loss):
    starts = normal(9, 2)
    factors = torch.tensor([1 - loss, 0.5], dtype=d)
    found = fixed_points(lambda x, s: factors * s, None, starts=starts)
    (row,) = found.table()
    named = re.search("up to (.*?) from .* takes (.*?) steps or more", found.summary())
    limit, steps = map(float, named.groups()) if named else (0, math.inf)
    assert (row["kind"] == "neutral") == (loss < limit)
    if row["kind"] == "neutral":
        left = (1 - loss) ** steps  # of the mode
        assert row["decay_time"] == math.inf and left > 1 / math.e
    else:
        assert row["decay_time"] == pytest.approx(-1 / math.log(1 - loss), rel=1e-6)


def test_a_tuple_of_starts_is_one_of_states():
    def step(x, state):
        h, a = state
        return 0.5 * h - a + x.sum(), 0.9 * a + 0.1 * h

    points = fixed_points(step, torch.ones(1, dtype=d), starts=(normal(9, 2), normal(9, 2, seed=1)))
    np.testing.assert_allclose(points.states, [[2 / 3] * 4], atol=1e-9)


A, B = normal(4, 4, seed=3) / 4, normal(4, 3, seed=4)
ALL, ZERO = normal(9, 4, seed=5), torch.zeros(2, dtype=d)
SPLIT = ALL[:, :2], ALL[:, 2:]


def of_two(x, s):
    """Of vectors: matmul refuses rows of batches."""
    return (A @ torch.cat(s) + B @ x).split(2)


def of_matrix(x, S):
    assert S.shape == (2, 2)
    return (A @ S.flatten() + B @ x).view(2, 2)


def of_complex(x, s):
    return torch.view_as_complex((A @ torch.view_as_real(s).flatten() + B @ x).view(2, 2))


@for_each("sequence", [False, True])
@for_each(
    ("step", "starts", "given"),
    [
        (of_two, SPLIT, {}),
        (of_two, SPLIT, {"s0": (ZERO, ZERO)}),
        (of_two, SPLIT, {"state_size": (2, 2)}),
        (of_two, ALL, {"s0": (ZERO, ZERO)}),
        (of_two, ALL, {"state_size": (2, 2)}),
        (of_two, 9, {"s0": (ZERO, ZERO)}),
        (of_matrix, ALL.view(9, 2, 2), {}),
        (of_matrix, ALL.view(9, 2, 2), {"s0": torch.zeros(2, 2, dtype=d)}),
        (of_matrix, ALL.numpy(), {"s0": torch.zeros(2, 2, dtype=d)}),
        (of_complex, torch.view_as_complex(ALL.view(9, 2, 2)), {}),
        (of_complex, ALL.numpy().view(complex), {"s0": torch.zeros(2, dtype=torch.complex128)}),
        (of_complex, ALL, {"s0": torch.zeros(2, dtype=torch.complex128)}),
    ],
)
def test_a_function_gets_x_as_a_vector_and_states_in_their_own_shape(step, starts, given, sequence):
    x = normal(3, seed=6)
    found = fixed_points(step, x.expand(2, 3) if sequence else x, starts=starts, **given)
    alone = np.linalg.solve(np.eye(4) - A.numpy(), B.numpy() @ x.numpy())
    np.testing.assert_allclose(found.states, [alone], atol=1e-9)


def test_a_module_is_searched_in_the_precision_of_the_starts():
    module = torch.nn.GRUCell(3, 2)
    found = fixed_points(module, torch.zeros(3), starts=normal(9, 2))
    after = module.double()(torch.zeros(1, 3, dtype=d), torch.from_numpy(found.states[:1]))
    np.testing.assert_allclose(after.detach(), found.states[:1], atol=1e-10)


def test_a_step_may_return_an_output_and_the_next_state():
    points = fixed_points(
        lambda x, s: (s.sum(), torch.tanh(2 * s + x)), torch.zeros(1, dtype=d), starts=normal(20, 1)
    )
    assert sorted(points.kinds) == ["stable", "stable", "unstable"]


@for_each("change", ["noise", "own state", "own state, at first zero"])
def test_a_step_that_gives_two_answers_is_refused(change):
    class Odd(torch.nn.Module):
        state_size, own = 2, torch.zeros(2)

        def forward(self, x, s):
            self.own = self.own + s + (change == "own state")
            return s + x + (torch.randn(2) if change == "noise" else self.own)

    with pytest.raises(
        InvalidInputError, match="two different states from the same input and state"
    ):
        gersgorin.spectra(Odd(), torch.ones(5, 1))


@pytest.mark.parametrize("unit", others_slow([1.0, 25.0], 25.0))
def test_units_of_some_entries_do_not_hide_points(unit):
    def step(x, s):  # rates in Hz beside synapses in 0 to 1, which take a hundred times as long
        h, u, x = s[..., :3] * unit, s[..., 3:6], s[..., 6:]
        rate = torch.nn.functional.softplus(h)
        h = h + 0.1 * (-h + 8 * u * x * rate - rate.sum(-1, keepdim=True) + 8)
        u = u + (0.3 - u) / 1500 + 0.3 * (1 - u) * rate / 1000
        return torch.cat((h / unit, u, x + (1 - x) / 300 - s[..., 3:6] * x * rate / 1000), -1)

    r = torch.rand(150, 9, dtype=d, generator=torch.Generator().manual_seed(0))
    points = fixed_points(
        step,
        None,
        starts=torch.cat(
            ((25 * r[:, :3] - 10) / unit, 0.3 + 0.6 * r[:, 3:6], 0.2 + 0.8 * r[:, 6:]), -1
        ),
    )
    assert Counter(points.kinds) == {"saddle": 10, "stable": 3} and points.lost == 0


def test_what_the_starts_come_to_is_found_in_many_dimensions():
    """A saddle at 0, nearer to random starts than both attractors."""
    v, starts = normal(200), 2 * normal(60, 200, seed=1)
    found = fixed_points(
        lambda x, s: s + 0.1 * (-s + torch.tanh(s) @ (torch.outer(v, v) / 100)), None, starts=starts
    )
    assert Counter(found.kinds) == {"stable": 2, "saddle": 1} and found.lost == 0
    assert next(found.sentences()) == "The search found a saddle and 2 stable fixed points."


@for_each(
    ("step", "kind"),
    [
        (lambda x, s: torch.tanh(s), "neutral"),  # at 0 each of Newton's steps takes off a third
        (lambda x, s: 0.99 * s + 0.01 * torch.relu(0.99 * s), "kink"),
        (lambda x, s: 0.99 * s + 0.01 * torch.relu(1.01 * s), "kink"),
        (lambda x, s: torch.relu(s + 1) / 2, "stable"),
    ],
)
def test_a_critical_point_is_one_point_and_a_kink_has_no_kind(step, kind):
    found = fixed_points(step, starts=torch.linspace(-2, 2, 50, dtype=d)[:, None])
    assert found.kinds == [kind] and found.lost == 0
    assert ("has a kink" in "".join(found.sentences())) == (kind == "kink")


def test_at_a_kink_nothing_is_said_of_the_fate_of_a_small_change():
    """For s' = relu(W s), at 0: the slope by torch is 0 there, and the state grows on one side."""
    W = np.array([[1.2, 0.5], [0.5, 1.1]])
    above, below = np.array([1e-8, 1e-9]), np.array([-1e-8, -1e-9])
    for _ in range(200):
        above, below = np.maximum(W @ above, 0), np.maximum(W @ below, 0)
    assert np.linalg.norm(above) > 1 and np.linalg.norm(below) == 0

    weights = torch.from_numpy(W)
    starts = torch.tensor(np.random.default_rng(0).uniform(-1, 1, (20, 2)))
    found = fixed_points(lambda x, s: torch.relu(s @ weights.T), starts=starts)
    (row,) = found.table()
    np.testing.assert_allclose(found.states, 0, atol=1e-12)
    assert row["kind"] == "kink" and "stable" not in found.brief()
    assert math.isnan(row["growth_time"]) and math.isnan(row["decay_time"])
    assert (
        "the step has a kink or a jump: the eigenvalues there may hold on one side or on none"
        in found.summary()
    )
    assert found.to_dict()["points"][0]["growth_time"] is None
    assert not any("mode" in line.get_label() for line in found.plot().lines)


def test_a_jump_that_a_search_takes_for_a_point_is_marked():
    """2 s modulo 1 has one fixed point, 0. Beside 1 it nears 1, and falls to 0 at 1."""
    starts = torch.linspace(0, 1, 41, dtype=d)[:, None]
    found = fixed_points(lambda x, s: torch.remainder(2 * s, 1), starts=starts)
    assert set(found.kinds) == {"kink"}
    smooth = fixed_points(lambda x, s: torch.remainder(2 * s + 0.25, 1), starts=starts)
    inside = [k for k, s in zip(smooth.kinds, smooth.states, strict=True) if 0.5 < s[0] < 0.9]
    assert inside == ["unstable"]  # 0.75


@pytest.mark.parametrize("slope", [0.0, 1e-16])
def test_the_figure_of_spectra_has_a_width_if_all_eigenvalues_are_1(slope, recwarn):
    """The map s + s^3 has the eigenvalue 1 at 0 up to rounding."""
    found = fixed_points(
        lambda x, s: (1 + slope) * s - s**3, starts=torch.linspace(-0.5, 0.5, 9, dtype=d)[:, None]
    )
    found = replace(found, eigenvalues=np.full_like(found.eigenvalues, 1 + 2 * slope))
    low, high = found.plot().figure.axes[1].get_xlim()
    assert not recwarn.list and low < 0.95 and high > 1.05


def test_eigenvalues_of_a_tie_give_no_statement_about_stability():
    """At 0 the slopes are 0.5 and 2, and their mean by autograd, 1, is that of no side. The other
    point, at 3, is stable.
    """

    def step(x, s):
        return torch.where(s < 2, torch.maximum(0.5 * s, 1.5 * s), 3 + (s - 3) / 2)

    ends = [np.array([size]) for size in (1e-9, -1e-9)]
    assert [float(step(None, torch.from_numpy(s))[0] / s[0]) for s in ends] == [1.5, 0.5]
    found = fixed_points(step, starts=torch.tensor([[-1.0], [0.1], [2.5], [4.0]], dtype=d))
    rows = {row["kind"]: row for row in found.table()}
    assert set(rows) == {"kink", "stable"}
    assert math.isnan(rows["kink"]["unstable"]) and math.isnan(rows["kink"]["neutral"])
    assert rows["stable"]["unstable"] == rows["stable"]["neutral"] == 0
    assert "neutral" not in "".join(found.sentences())


def test_a_pitchfork_is_one_point_although_the_speed_is_tiny_along_a_curve_through_it():
    def toggle(x, s):
        return s + 0.1 * (2 / (1 + s.flip(-1) ** 2) - s)

    found = fixed_points(
        toggle,
        torch.zeros(1, dtype=d),
        starts=torch.tensor(np.random.default_rng(0).uniform(0, 2, (40, 2))),
    )
    assert found.kinds == ["neutral"] and found.lost == 0
    np.testing.assert_allclose(found.states, [[1, 1]], atol=1e-4)


def test_a_slow_point_is_a_minimum_of_the_speed():
    n, r = 30, np.random.default_rng(0)
    J = torch.tensor(2.5 * r.standard_normal((n, n)) / np.sqrt(n))
    b = torch.tensor(r.standard_normal(n))

    def step(x, s):
        return s + 0.1 * (-s + torch.tanh(s) @ J.T + b)

    found = fixed_points(step, None, starts=2 * torch.tensor(r.standard_normal((60, n))))
    assert found.is_slow.any()
    for s, A in zip(torch.tensor(found.states), found.jacobians, strict=True):
        residual, slopes = (step(None, s) - s).numpy(), A - np.eye(n)
        assert (
            np.linalg.norm(slopes.T @ residual)
            <= 1e-6 * np.linalg.norm(slopes, 2) * np.linalg.norm(residual) + 1e-12
        )


@for_each(("period", "what"), [(1, "fixed point"), (2, "cycle of period 2")])
def test_a_step_that_takes_its_state_apart_may_have_no_point(period, what):
    def drift(x, s):
        a, b = s.unbind(-1)
        return torch.stack([a + 1, b], -1)

    found = fixed_points(
        drift, torch.zeros(1, dtype=d), starts=torch.ones(3, 2, dtype=d), period=period
    )
    assert found.finding.startswith(f"The search found no {what}") and found.table() == []
    assert "give other starts or a larger margin (0.5)" in found.summary()


def test_a_search_that_fails_is_not_called_a_property_of_the_network():
    # Newton's method from outside of the steep part ends at the corner of the box; the map does not
    starts = torch.linspace(-3, 3, 60, dtype=torch.float64)[:, None]

    def step(x, s):
        return torch.tanh(3 * s) + 1e-3 * torch.sin(40 * s)

    found = fixed_points(step, torch.zeros(1).double(), starts=starts)
    words = found.summary()
    assert "No point was reached" not in words
    lost = len(found.starts) - found.found_from.sum()
    lost -= found.run_into
    assert (f"The search failed from {lost} of 60 starts." in words) == bool(lost)
    run_on = replace(found, found_from=found.found_from * 0, run_into=60).summary()
    assert "From 60 of 60 starts repeated steps reach a point" in run_on and "failed" not in run_on
    failed = replace(
        found, found_from=found.found_from - np.eye(1, len(found.states))[0].astype(int)
    )
    assert "The search failed from" in failed.summary()


def test_starts_whose_search_failed_run_along_the_map():
    points = torch.tensor([[0.0], [2.0]]).double()
    x, apart = torch.zeros(1).double(), torch.tensor(1e-4)
    starts = torch.tensor([[1.0], [-3.0], [5.0]]).double()
    assert IteratedMap(as_cell(lambda x, s: s / 2), x).runs_into(starts, points, apart) == 3
    assert IteratedMap(as_cell(lambda x, s: 1.01 * s), x).runs_into(starts, points, apart) == 0
    turning = IteratedMap(as_cell(lambda x, s: -s), x)  # passes the point 1 at every second step
    ones = torch.ones(1, 1).double()
    assert turning.runs_into(ones, ones, apart) == 0


@for_each("change", ["counter", "dropout", "noise"])
def test_two_answers_that_a_zero_state_hides_are_refused(change):
    """At s = 0 all of these steps return the same state twice."""

    class Odd:
        count = 0

        def __call__(self, x, s):
            self.count += 1
            factor = {
                "counter": lambda: 1 + 0.05 * self.count,
                "dropout": lambda: 2 * (torch.rand(4) > 0.5),
                "noise": lambda: 1 + 0.3 * torch.randn(4),
            }[change]()
            return torch.tanh(0.5 * s * factor + x)

    words = "two different states from the same input and state"
    for analysis in (gersgorin.products, gersgorin.lyapunov, gersgorin.influence):
        with pytest.raises(InvalidInputError, match=words):
            analysis(Odd(), torch.ones(20, 1), s0=torch.zeros(4))


def test_a_point_without_a_finite_derivative_is_named():
    with pytest.raises(InvalidInputError, match=r"NaN or infinite at the point \[0\.0\]"):
        gersgorin.fixed_points(
            lambda x, s: s.clamp(min=0).sqrt() * 1, starts=torch.zeros(3, 1).double()
        )


def test_the_starts_that_are_states_of_the_run_are_called_so():
    x = torch.tensor([0.0, 1.0]).repeat(50).double()[:, None]
    found = gersgorin.fixed_points(lambda x, s: 0 * s + x, x, s0=torch.zeros(1).double())
    assert "states of the run from which the search starts are distinct" in found.summary()


def test_starts_between_states_of_the_run_are_not_called_states_of_the_run():
    gru, x = torch.nn.GRU(3, 6), torch.randn(30, 3)
    found = gersgorin.fixed_points(gru, x, starts=200)
    different = len({tuple(row) for row in found.starts.tolist()})
    assert different < 200
    assert (
        f"Only {different} of the 200 starts are distinct; these are the 31 states of the run, and "
        "points between two of them." in found.notes()
    )
