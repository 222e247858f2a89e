"""Each sentence about growth is true of the numbers beside it: recomputed by NumPy."""

import math
import re

import numpy as np
import pytest
import torch
from tables import for_each

import gersgorin
from gersgorin.analyses.growth import Growth, compared_words, growth_over_all
from rhn.cells import RNN

LOG2 = math.log(2)


def matrices(kind: str, seed: int) -> np.ndarray:
    """(T, 3, 3) of a product of some kind."""
    draw = np.random.default_rng(seed)
    T = int(draw.integers(2, 60))
    scale = 10 ** draw.uniform(-1.5, 1.5)
    turns = np.stack([np.linalg.qr(draw.normal(size=(3, 3)))[0] for _ in range(T)])
    up = int(draw.integers(1, T))
    factors = np.where(np.arange(T) < up, 1.5, draw.uniform(0.3, 0.9))
    late = np.ones(T)
    late[-1] = 1e-4
    return {
        "random": scale * draw.normal(size=(T, 3, 3)),
        "orthogonal": turns,
        "growing, then shrinking": factors[:, None, None] * turns,
        "shrinking, then growing": turns / factors[:, None, None],
        "constant": np.broadcast_to(scale * draw.normal(size=(3, 3)), (T, 3, 3)),
        "all at the end": late[:, None, None] * turns,
        "zero": np.where((np.arange(T) >= up)[:, None, None], 0.0, turns),
        "nilpotent": np.broadcast_to(np.triu(np.ones((3, 3)), 1), (T, 3, 3)),
        "one step": scale * draw.normal(size=(1, 3, 3)),
        "back again": np.stack([4.0 * np.eye(3), 0.25 * np.eye(3)]),
    }[kind]


KINDS = (
    "random", "orthogonal", "growing, then shrinking", "shrinking, then growing", "constant",
    "all at the end", "zero", "nilpotent", "one step", "back again",
)  # fmt: skip


def logs_of(A: np.ndarray) -> np.ndarray:
    """log ||A[t] ... A[0]||_2, (T,)."""
    P, log, found = np.eye(len(A[0])), 0.0, []
    for step in A:
        P = step @ P
        size = np.abs(P).max()
        if size:
            P, log = P / size, log + math.log(size)
        found.append(log + math.log(np.linalg.norm(P, 2)) if size else -math.inf)
    return np.array(found)


def network(A: np.ndarray):
    """s' = A[t] s, with the entries of A[t] as input."""

    def step(x, s):
        return x.reshape(3, 3) @ s

    return step, torch.from_numpy(A.reshape(-1, 9).copy()), torch.zeros(3, dtype=torch.float64)


def claimed(value: str) -> float:
    """The natural logarithm of a number in a sentence."""
    value = value.replace(",", "")
    return float(value[3:]) * math.log(10) if value.startswith("10^") else math.log(float(value))


def check_rate(words: str, logs: np.ndarray) -> None:
    """What the sentence says of the half-life, doubling time or zero is true."""
    rate = logs[-1] / len(logs)
    if found := re.search(r"is zero up to rounding after (\d+) step", words):
        assert np.isneginf(logs).argmax() + 1 == int(found[1])
    elif "keeps its norm" in words:
        assert np.abs(logs).max() < 1e-7 * len(logs)
    elif "ends with the norm" in words:
        assert abs(rate) < 2e-7 and np.abs(logs).max() > 1e-8
    elif found := re.search(r"ends (\S+) times as large as it starts", words):
        assert claimed(found[1]) == pytest.approx(logs[-1], rel=6e-3, abs=6e-3)
        # the norm turned round, towards its start
        assert abs(logs[: -len(logs) // 10]).max() > abs(logs[-1]) + LOG2
    else:
        verb, steps = re.search(
            r"(halves|doubles) every (?:([\d.,e+-]+) steps|step)", words
        ).groups()
        assert verb == ("halves" if rate < 0 else "doubles")
        assert float((steps or "1").replace(",", "")) == pytest.approx(LOG2 / abs(rate), rel=6e-3)
    check_turn(words, logs)


def check_turn(words: str, logs: np.ndarray) -> None:
    """The step in brackets has the extreme norm, which is beyond both ends by a factor of 2."""
    if found := re.search(r"\((largest|smallest) after (\d+) steps?\)", words):
        sign = 1 if found[1] == "largest" else -1
        assert (sign * logs).argmax() + 1 == int(found[2])
        assert (sign * logs).max() > max(0, sign * logs[-1]) + LOG2


def check_further(clause: str, logs: np.ndarray) -> None:
    """So is what a clause says of the norm at the end, on the way, and of half of the change."""
    if found := re.search(r"Jacobians is (.+)$", clause):
        assert claimed(found[1]) == pytest.approx(logs[-1], rel=1e-3, abs=1e-3)
    elif found := re.search(r"he norm is (largest|smallest) after (\d+) steps?: (.+)$", clause):
        extreme = logs.max() if found[1] == "largest" else logs.min()
        assert claimed(found[3]) == pytest.approx(extreme, rel=1e-3, abs=1e-3)
        assert logs[int(found[2]) - 1] == pytest.approx(extreme, abs=1e-9)
        beyond = max(0, logs[-1]) if found[1] == "largest" else min(0, logs[-1])
        assert abs(extreme - beyond) > math.log(1.1)
    elif found := re.search(r"falls on the (first|last)( \d+)? of (\d+) steps$", clause):
        few, T = int(found[2] or 1), int(found[3])
        whole = np.r_[0, logs]
        change = whole[few] if found[1] == "first" else whole[-1] - whole[-1 - few]
        assert len(logs) == T and change / logs[-1] >= 0.5 - 1e-9 and 10 * few <= T


@for_each("kind", KINDS)
def test_each_sentence_is_true_of_the_product(kind):
    for seed in range(12):
        A = matrices(kind, seed)
        logs = logs_of(A)
        step, x, s0 = network(A)
        found = gersgorin.products(step, x, s0=s0)
        np.testing.assert_allclose(found.log_norm, logs, rtol=1e-9, atol=1e-9)
        first, *others = found.sentences()
        check_rate(first, logs)
        for clause in "; ".join(words.removesuffix(".") for words in others).split("; "):
            check_further(clause, logs)
        assert found.half_life == pytest.approx(
            LOG2 / -(logs[-1] / len(logs)) if logs[-1] < -1e-6 * len(logs) else math.inf
        )


@for_each("kind", ("growing, then shrinking", "orthogonal", "random"))
def test_all_results_tell_a_gradient_by_the_same_words(kind):
    A = matrices(kind, 3)
    step, x, s0 = network(A)
    words = next(iter(gersgorin.products(step, x, s0=s0).sentences()))
    check_rate(words, logs_of(A))
    assert next(iter(gersgorin.spectra(step, x, s0=s0).sentences())) == words
    bands = gersgorin.compare([(step, s0)], [x], over="sequences")[0]
    assert next(iter(bands.sentences())) == words
    assert bands.figure().get_suptitle().replace("\n", " ") == words.rstrip(".")


@for_each("dtype", (torch.float64, torch.float32))
def test_an_orthogonal_step_neither_grows_nor_leaves_the_circle(dtype):
    Q = torch.linalg.qr(torch.randn(5, 5, generator=torch.Generator().manual_seed(0)))[0].to(dtype)
    x, s0 = torch.zeros(9, 2, dtype=dtype), torch.ones(5, dtype=dtype)
    if dtype == torch.float64:
        Q = torch.linalg.qr(Q)[0]

    def step(x, s):
        return Q @ s

    text = gersgorin.compare([(step, s0)], [x], over="sequences")[0].summary()
    assert "keeps its norm" in text and "grows in 0 of 1 run" in text
    assert "leaves the unit circle in 0 of 1 run" in text
    alone = gersgorin.spectra(step, x, s0=s0)
    assert "on the unit circle" in alone.summary()
    assert (
        "A small change of the state keeps its size."
        in gersgorin.lyapunov(step, x.repeat(3, 1), s0=s0).summary()
    )


def test_discs_that_touch_the_unit_circle_lie_on_it_and_not_inside():
    """Rectified units with the identity: the discs of units that are on touch the circle."""
    rnn = torch.nn.RNN(3, 16, nonlinearity="relu", batch_first=True)
    with torch.no_grad():
        rnn.weight_hh_l0.copy_(torch.eye(16))
        rnn.bias_hh_l0.zero_()
    x = torch.randn(1, 9, 3, generator=torch.Generator().manual_seed(0))
    found = gersgorin.spectra(rnn, x)
    inside = (rnn(x)[0][0] == 0).double().mean(1)
    assert found.discs_inside_unit_circle.tolist() == pytest.approx(inside.tolist())
    assert "The largest modulus in the row discs is 1, on the unit circle." in found.notes()


@for_each("seed", range(40))
def test_a_ranking_needs_a_tenth_of_difference(seed):
    draw = np.random.default_rng(seed)
    rates = draw.choice([-1.0, 1.0], size=int(draw.integers(2, 6))) * draw.uniform(0.2, 1.0)
    rates = rates * draw.choice([1.0, 1.05, 1.2], size=len(rates))
    rates[draw.random(len(rates)) < 0.2] = 0.0
    names = [f"n{k}" for k in range(len(rates))]
    words = compared_words([*map(Growth, rates)], names, 1e-7)
    named = [k for k in range(len(rates)) if re.search(rf"\bn{k}\b", words)]
    best = rates.max()
    near = {1: best / 1.1, 0: 0.0, -1: best * 1.1}[int(np.sign(best))]
    top = np.flatnonzero(rates >= near)
    ranked = re.search("lasts longest|grows most|grows only", words)
    assert bool(ranked) == (len(top) < len(rates) > 2)
    if len(rates) == 2:
        top = np.arange(2)
    if len(top) < 3:
        assert named == top.tolist()
    if "grows" in words:
        assert ("only" in words) == ((rates > 0).sum() == len(top))
    steps = [float(s) for s in re.findall(r"([\d.]+)(?= steps| to)", words)]
    moving = rates[top][rates[top] != 0]
    expected = LOG2 / np.abs(moving)
    assert all(min(abs(s / expected - 1)) < 6e-3 for s in steps)
    assert bool(steps or "every step" in words) == bool(len(moving))


@pytest.mark.parametrize(
    ("rates", "disagree", "words"),
    [
        ([0.4, -0.1, -0.2], "", "grows only in a, where"),
        ([0.4, 0.01, -0.2], "", "grows most in a, where"),
        ([0.4, -0.1, -0.2], "grows in 4 of 9", "grows most in a ("),
        ([0.4, -0.1, -0.2], "shrinks in 4 of 9", "grows only in a ("),
    ],
)
def test_a_gradient_grows_only_in_one_network_if_it_grows_in_no_run_of_another(
    rates, disagree, words
):
    growths = [Growth(rate, median=True) for rate in rates]
    growths[1] = Growth(rates[1], even=rates[1] == 0.01, median=True, disagree=disagree)
    said = compared_words(growths, ["a", "b", "c"], 1e-7)
    assert said.startswith(f"The gradient {words}")


@pytest.mark.parametrize(
    ("factors", "words"),
    [
        ((0.5, 0.25), "halves every step in the RHN and every 0.5 steps in the RNN"),
        ((0.5, 2.0), "halves every step in the RHN and doubles every step in the RNN"),
        ((1.0, 0.5), "keeps its norm in the RHN and halves every step in the RNN"),
        ((1.0, 1.0), "keeps its norm in the RHN and in the RNN"),
        (
            (0.5, 0.0),
            "halves every step in the RHN and is zero up to rounding at the end in the RNN",
        ),
        ((0.5, np.nan), "halves every step in the RHN"),
    ],
)
def test_a_title_of_two_networks_says_what_each_gradient_does(factors, words):
    """The norm of the product of T steps that multiply by a factor is its T-th power."""
    with np.errstate(divide="ignore"):
        rates = np.log(np.power(factors, 8)) / 8
    assert compared_words([*map(Growth, rates)], ["rhn", "rnn"], 1e-7) == f"The gradient {words}"


def test_the_case_that_was_told_to_vanish():
    rise = np.linspace(0, math.log(2.42), 20)
    logs = np.r_[rise, np.linspace(rise[-1], math.log(0.86), 65)]
    words = [*growth_over_all(logs, "steps")]
    assert words[0].endswith("is 0.86.") and words[1].endswith("2.42.")


@pytest.mark.parametrize(
    ("norms", "extreme"),
    [
        ([1.4, 1.849, *np.linspace(1.8, 1.109, 24)], "largest after 2 steps: 1.849"),
        ([*np.linspace(0.95, 0.55, 13), *np.linspace(0.6, 0.9, 13)], "smallest after 13 steps"),
        ([*np.linspace(1.05, 1.9, 13), *np.linspace(1.8, 0.9, 13)], "largest after 13 steps: 1.9"),
        ([*np.linspace(0.95, 0.6, 13), *np.linspace(0.65, 1.3, 13)], "smallest after 13 steps"),
        ([*np.linspace(1.5, 33, 10), *np.linspace(32, 20, 16)], "largest after 10 steps: 33"),
        ([1.4, *np.linspace(1.3, 0.1, 25)], ""),  # largest at the start, as decay has it
        ([*np.linspace(1.5, 33, 24), 31, 25], ""),  # largest near the end, as growth has it
        ([*np.linspace(1.1, 20, 13), *np.linspace(19.9, 19, 13)], ""),  # less than a tenth above
    ],
)
def test_a_change_that_turns_round_names_where(norms, extreme):
    """The norms are written down: the largest and the smallest can be read off."""
    words = " ".join(growth_over_all(np.log(norms), "steps"))
    assert extreme in words
    assert bool(extreme) == ("est after" in words)


def test_half_of_a_change_has_no_place_if_several_stretches_have_it():
    logs = np.interp(np.arange(1, 86), [0, 26, 40, 43, 60, 76, 85], [0, 3.5, 3, 1, 1, -2.9, -1.4])
    words = " ".join(growth_over_all(logs, "steps"))
    assert "largest after 26 steps" in words and "half of this change" not in words


@for_each("seed", range(30))
def test_few_steps_that_have_half_of_the_change_are_found_by_trying_all(seed):
    draw = np.random.default_rng(seed)
    T = int(draw.integers(20, 60))
    changes = draw.normal(0, 0.1, T)
    changes[draw.integers(0, T, 2)] -= draw.uniform(0, 8, 2)
    logs = changes.cumsum()
    share = np.r_[0, logs] / logs[-1]
    tried = [
        (b - a, a)
        for a in range(T)
        for b in range(a + 1, T + 1)
        if share[b:].min() - share[: a + 1].max() >= 0.5
    ]
    words = " ".join(growth_over_all(logs, "steps"))
    few, first = min(tried, default=(T, 0))
    others = [
        (a, b)
        for a in range(T)
        for b in range(a + 1, min(a + few, T) + 1)
        if share[b] - share[a] >= 0.5 and (b - a < few or b <= first or a >= first + few)
    ]
    if abs(logs[-1]) <= LOG2 or 10 * few > T or others:
        assert "half of this change" not in words
    elif first == 0 or first + few == T:
        few_words = "" if few == 1 else f" {few}"
        assert f"falls on the {'last' if first else 'first'}{few_words} of {T} steps" in words
    else:
        where = f"step {first}" if few == 1 else f"steps {first} to {first + few - 1}"
        assert f"at least half of this change falls on {where}." in words


def test_the_command_prints_no_factor_of_a_step(capsys, tmp_path):
    from gersgorin.cli.main import main

    out = str(tmp_path / "a.png")
    assert main(["compare", "rnn,rhn", "--steps", "5", "--hidden-size", "4", "--output", out]) == 0
    text = capsys.readouterr().out
    assert text.count("halves every") == 2 and "factor" not in text


def test_a_small_change_of_the_state_has_the_half_life_of_its_exponent():
    cell = RNN(2, 3, init="gaussian:0.3", dtype=torch.float64)
    found = gersgorin.lyapunov(cell, torch.zeros(200, 2).double())
    (words,) = (w for w in found.sentences() if "small change" in w)
    assert float(re.search(r"every ([\d.]+) steps", words)[1]) == pytest.approx(
        LOG2 / -found.exponents[0], rel=6e-3
    )


def test_no_network_is_ranked_above_one_that_differs_by_less_than_a_tenth():
    chain = [-math.log(2) / life for life in (1.0, 1.07, 1.14)]
    words = compared_words([*map(Growth, chain)], ["a", "b", "c"], 1e-7)
    assert words == "The gradient halves every 1 to 1.14 steps in all 3 networks"
    growing = [math.log(2) / life for life in (1.0, 0.93, 0.86)]
    assert "most" not in compared_words([*map(Growth, growing)], ["a", "b", "c"], 1e-7)


def test_a_median_is_told_only_of_runs_that_agree():
    def runs(*factors):
        steps = [(lambda x, s, a=a: a * s, torch.ones(1).double()) for a in factors]
        found = gersgorin.compare(steps, torch.zeros(9, 1).double(), over="seeds")[0]
        return [*found.sentences()]

    for factors, words in (
        ((2.0, 0.5), "grows in 1 of 2 runs."),
        ((1.0, 1.1, 0.5), "grows in 1 of 3 runs."),
        ((1.0, 1.0, 0.5), "shrinks in 1 of 3 runs."),
        ((0.0, 0.5), "is zero up to rounding at the end of 1 of 2 runs."),
        ((0.5, 0.25, 0.5), "halves every step in the median."),
    ):
        assert runs(*factors)[0].endswith(words)


def test_rounding_is_said_to_move_an_eigenvalue_only_if_it_may():
    for rows in ([[0, 1], [0, 0]], [[1, 1], [0, 1]], [[0.5, 10], [0, 0.5]]):
        A = torch.tensor(rows).double()
        found = gersgorin.spectra(lambda x, s, A=A: A @ s, torch.zeros(9, 1).double(), state_size=2)
        assert "rounding alone" not in " ".join(found.sentences())
    A = torch.tensor([[0.5, 1e13], [0, 0.6]]).double()
    found = gersgorin.spectra(lambda x, s: A @ s, torch.zeros(9, 1).double(), state_size=2)
    words = " ".join(found.sentences())
    assert "circle; rounding alone may move an eigenvalue by more than 0.001." in words
    moved = np.linalg.eigvals(A.numpy() + np.array([[0, 0], [np.spacing(1e13) / 1e13, 0]]))
    assert abs(np.sort(moved.real) - [0.5, 0.6]).max() > 1e-3


def test_an_influence_that_is_equal_at_all_lags_never_halves():
    for scale in (1, 1e-3, 1e-10, 1e-200, 3.0, 7.7):
        found = gersgorin.influence(lambda x, c=scale: torch.cumsum(x, 0) * c, torch.ones(8, 1))
        assert next(iter(found.sentences())).endswith("is the same at all 8 lags.")


def test_an_influence_that_rises_above_half_again_is_not_said_to_stay_above():
    c = torch.tensor([1.0, 0.4, 0.3, 0.6, 0.9])  # output t: sum of c[lag] x[t - lag]

    def filtered(x):
        padded = torch.nn.functional.pad(x.T[None], (4, 0))
        return torch.nn.functional.conv1d(padded, c.flip(0)[None, None])[0].T

    found = gersgorin.influence(filtered, torch.ones(5, 1))
    torch.testing.assert_close(torch.as_tensor(found.by_lag).float(), c)
    words = " ".join(found.sentences())
    assert "falls to half within 1 step, and is above half again as late as lag 4 of 4." in words
    assert "power law" not in words


def test_a_norm_that_comes_back_is_said_to_end_near_its_start():
    factors = [2.0, 2.0, *16 * [1.0], 0.55, 0.55]
    x = torch.tensor(factors)[:, None]
    step = lambda x, s: x * s  # noqa: E731
    falls = lambda x, s: 0.5 * s  # noqa: E731
    found = gersgorin.compare({"hump": step, "falls": falls}, x, state_size=1)
    norms = np.cumprod(factors)
    assert norms.max() == 4 and 1 < norms[-1] < 2
    assert found.plot().get_figure(root=True).get_suptitle().replace("\n", " ") == (
        "The gradient ends within a factor of 2 of its start in hump (largest after 2 steps) and "
        "halves every step in falls"
    )


def test_a_norm_that_turns_round_is_not_said_to_double():
    """Powers of a matrix that is not normal, by NumPy."""
    A = np.array([[0.9, 30.0], [0.0, 0.9]])

    def transient(x, s):
        return torch.from_numpy(A) @ s

    def plain(x, s):
        return 0.9 * s

    x = torch.zeros(40, 1).double()
    norms = [np.linalg.norm(np.linalg.matrix_power(A, k), 2) for k in range(1, 41)]
    assert (np.argmax(norms), f"{norms[-1]:.3g}") == (8, "19.7")
    turned = "ends 19.7 times as large as it starts"
    for analysis in (gersgorin.spectra, gersgorin.products):
        words = analysis(transient, x, state_size=2).finding
        assert words.endswith(f"{turned} (largest after 9 steps)")
    found = gersgorin.compare({"transient": transient, "plain": plain}, x, state_size=2)
    title = found.plot().get_figure(root=True).get_suptitle().replace("\n", " ")
    assert title == (
        f"The gradient {turned} in transient (largest after 9 steps) and halves every 6.58 steps "
        "in plain"
    )
    assert f"transient: The norm is largest after 9 steps: {max(norms):.4g}." in repr(found)
    assert "plain: The norm" not in repr(found)
    many = {f"n{k}": transient for k in range(6)}
    assert "The norm is largest" not in repr(gersgorin.compare(many, x, state_size=2))


def test_most_runs_end_within_a_factor_of_two_if_the_title_says_so():
    """Runs that differ in length: the ends are those of each run, powers of its factor."""

    def draws(*factors):
        return [(lambda x, s, a=a: a * s, torch.ones(1).double()) for a in factors]

    x = [torch.zeros(steps, 1).double() for steps in (10, 20, 40)]

    def title(*factors):
        networks = {"a": draws(*factors), "b": draws(0.5, 0.5)}
        found = gersgorin.compare(networks, x, over=("seeds", "sequences"))
        figure = found.plot().get_figure(root=True)
        return figure.get_suptitle().replace("\n", " "), figure

    ends = np.power.outer([0.99, 0.95, 0.999], [10, 20, 40])
    assert (ends > 0.5).sum() == 7
    even = "The gradient ends within a factor of 2 of its start in a and halves every step in b"
    assert title(0.99, 0.95, 0.999)[0] == f"{even} (median)"
    ends = np.power.outer([0.95, 0.9, 0.999], [10, 20, 40])
    assert (ends > 0.5).sum() == 4
    said, figure = title(0.95, 0.9, 0.999)
    assert said == "The gradient halves every 13.5 steps in a and every step in b (median)"
    foot = figure.get_supxlabel().replace("\n", " ")
    assert "a: 3 seeds, 9 runs; b: 2 seeds, 6 runs; medians and 10 to 90 % bands" in foot
    counts = figure.axes[-1]
    curves, panels = counts.get_lines(), figure.axes[0].get_lines()
    assert [c.get_color() for c in curves] == [c.get_color() for c in panels[:2]]
    assert [max(c.get_ydata()) for c in curves] == [9, 6]
    # where runs disagree, no rate is that of the drawn median
    assert title(0.9, 1.1, 1.2)[0] == (
        "The gradient grows in 6 of 9 runs in a and halves every step in b (median)"
    )


def test_equal_starts_lead_to_one_point():
    for starts in (torch.ones(1, 1), torch.ones(5, 1), torch.full((1, 3), 0.3)):
        for a in (0.5, 0.9, 0.99):
            found = gersgorin.fixed_points(lambda s, a=a: a * s, starts=starts.double())
            assert len(found.states) == 1 and abs(found.states).max() < 1e-6
