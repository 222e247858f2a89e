"""What a check of a training says agrees with its numbers, whatever these are: verdict, table and JSON of 500 forecasts."""

import json
import math
import random
import re

import numpy as np
import pytest

from gersgorin.checking.forecast import Forecast
from gersgorin.checking.prediction import DOUBT, TrainingCheck
from gersgorin.checking.trials import Trials

DANGLING = re.compile(r",[),.;]|, ?$|\( |\(\)| [,.;)]|;;|\.\.|nan\b|\binf\b|: ?[;.,]|  ")
OUTCOMES = ("leaves", "stays", "explodes", "leaves, then explodes", "may leave")


def trials_of(draw: random.Random, rate: float, window: tuple[float, float] | None, steps: int) -> Trials:
    """Trials at some learning rates, of which those in the window leave and no other."""
    factors = sorted({1.0, *(10.0 ** draw.uniform(-2, 2) for _ in range(draw.randint(0, 5)))})
    taken = [draw.randint(1, steps) for _ in factors]
    left, diverged = np.full(len(factors), np.inf), np.full(len(factors), np.inf)
    for k, factor in enumerate(factors):
        if window and window[0] <= factor * rate <= window[1]:
            left[k] = draw.choice([taken[k], math.inf])
        elif draw.random() < 0.5:
            diverged[k] = taken[k]
    losses = np.array([[1.0 if step < n else np.nan for n in taken] for step in range(max(taken))])
    return Trials(
        factors=np.array(factors),
        parts=(0,) * len(factors),
        losses=losses,
        constants=0.5 * losses,
        left=left,
        diverged=diverged,
        constant=0.5,
        step_seconds=1e-3,
        timed_out=draw.random() < 0.3,
    )


def made(seed: int) -> TrainingCheck:
    """A check of random numbers, of every kind that there can be."""
    draw = random.Random(seed)
    steps, rate = draw.choice([1, 30, 3000, 100_000]), draw.choice([1e-4, 0.00123456, 0.1])

    def step() -> float:
        near = draw.choice([0.01, 0.3, 0.98, 0.9999, 1.0, 1.0001, 1.02, 3.0, 1e6, math.inf, math.inf])
        return max(1.0, near * steps)

    window = draw.choice([None, tuple(sorted(rate * 10.0 ** draw.uniform(-3, 3) for _ in range(2))), (rate, rate)])
    forecast = Forecast(
        escape_steps=step(),
        interval=tuple(sorted((step(), step()))),
        diverges_at=draw.choice([math.inf, math.inf, step()]),
        window=window,
        probability=draw.choice([0.0, 0.004, 0.3, 0.499, 0.5, 0.7, 0.996, 1.0]),
        halves_agree=draw.random() < 0.7,
        cut=draw.choice([None, "trials at 2 learning rates"]),
        trials=trials_of(draw, rate, window, min(steps, 300)),
    )
    return TrainingCheck(
        name="GRU",
        optimizer=draw.choice(["Adam", "SGD"]),
        learning_rate=rate,
        steps=steps,
        steps_per_epoch=draw.choice([1, 7]),
        constant_loss=0.5,
        first_loss=0.9,
        forecast=forecast,
        order=draw.choice([None, math.nan, 0.0, 2.4]),
        rates=draw.choice([{}, {"rnn.weight_hh": 0.01}]),
        left_out=(forecast.cut,) if forecast.cut else (),
    )


CHECKS = [made(seed) for seed in range(500)]


def number(words: str) -> float:
    power = re.fullmatch(r"10\^(\d+)", words)
    return math.inf if words == "never" else 10.0 ** int(power[1]) if power else float(words.replace(",", ""))


def rows(check: TrainingCheck) -> dict[str, str]:
    """The rows of the summary between its sentences and its trials, by name."""
    middle = check.summary().split("\n\n")[1]
    return {line[:15].strip(): line[15:] for line in middle.splitlines()}


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_every_outcome_is_met(outcome):
    assert sum(check.outcome == outcome for check in CHECKS) > 10


def test_the_first_three_lines_are_the_verdict_and_name_the_optimizer():
    for check in CHECKS:
        lines = check.summary().splitlines()
        assert " ".join(lines[:3]) == check.verdict and lines[3] == ""
        assert lines[0].startswith(f"Under {check.optimizer} at a learning rate of {check.learning_rate:.4g}, GRU ")


def test_no_text_has_dangling_punctuation_or_bare_nan():
    for check in CHECKS:
        for sentence in check.sentences:
            assert not DANGLING.search(sentence), sentence
            assert sentence[0].isupper() and sentence.endswith("."), sentence
        assert not re.search(r",[),.;]|,$|\(\)|\bnan\b|\binf\b", check.summary()), check.summary()


def test_the_outcome_is_that_of_the_numbers():
    for check in CHECKS:
        leaves, explodes = check.escape_steps <= check.steps, check.diverges_at <= check.steps
        fails = explodes and check.probability < 0.5
        is_open = check.forecast.cut is not None and DOUBT <= check.probability <= 1 - DOUBT and not fails
        agrees = {
            "leaves": leaves and not explodes and check.probability >= 0.5 and not is_open,
            "stays": not leaves and not explodes and check.probability < 0.5 and not is_open,
            "explodes": explodes and check.diverges_at < check.escape_steps and check.probability < 0.5,
            "leaves, then explodes": explodes and check.escape_steps <= check.diverges_at and check.probability < 0.5,
            "may leave": is_open or (check.probability >= 0.5) != (leaves and not explodes),
        }
        assert [name for name, fits in agrees.items() if fits] == [check.outcome], check.summary()


def test_one_outcome_is_said_and_the_same_in_verdict_table_and_json():
    phrases = {
        "leaves": "GRU leaves the loss of a constant output within",
        "stays": "GRU stays at the loss of a constant output for all of its",
        "explodes": "GRU explodes before it leaves",
        "leaves, then explodes": "GRU leaves the loss of a constant output, then explodes within",
        "may leave": "GRU may leave the loss of a constant output",
    }
    for check in CHECKS:
        assert [name for name, phrase in phrases.items() if phrase in check.verdict] == [check.outcome], check.verdict
        assert rows(check)["outcome"] == check.to_json()["outcome"] == check.outcome


def test_the_time_of_the_escape_agrees_with_outcome_interval_and_table():
    for check in CHECKS:
        when, told = check.sentences[1], rows(check)
        assert (number(told["leaves after"]) <= check.steps) == (check.escape_steps <= check.steps), told
        low, high = map(number, told["interval"].split(" to "))
        assert low <= number(told["leaves after"]) <= high, told
        found = re.search(r"t (leaves|would leave) after about (\S+) steps", when)
        assert bool(found) == (math.isfinite(check.escape_steps) and not check.diverges_at < check.escape_steps), when
        if found:
            assert found[2] == told["leaves after"]
            assert (found[1] == "leaves") == check.outcome.startswith("leaves"), check.verdict
        if check.outcome == "leaves":
            assert "No escape" not in when and "would" not in when, when


def test_explosions_agree_with_outcome_and_table():
    for check in CHECKS:
        when, told = check.sentences[1], number(rows(check)["explodes at"])
        found = re.search(r"(may explode|explodes) at about step (\S+?)[.;](?: |$)", when)
        assert bool(found) == math.isfinite(check.diverges_at), when
        assert (told <= check.steps) == (check.diverges_at <= check.steps)
        if found:
            assert number(found[2]) == told, when
            assert (found[1] == "explodes") == ("explodes" in check.outcome), check.verdict
        if check.outcome == "leaves, then explodes":
            assert number(rows(check)["leaves after"]) <= told, check.summary()


def test_the_probability_is_the_same_everywhere_and_on_the_side_of_the_outcome():
    for check in CHECKS:
        (said,) = re.findall(r"\(probability[^()0-9]*(?:over |below )?(\d\.\d\d)\)", check.verdict)
        assert said in rows(check)["probability"] and check.to_json()["probability"] == check.probability
        assert float(said) == pytest.approx(check.probability, abs=0.0101)
        if check.outcome != "may leave":
            assert (check.probability >= 0.5) == (check.outcome == "leaves"), check.verdict


def test_the_window_holds_the_learning_rate_that_leaves_and_no_other_outcome():
    for check in CHECKS:
        where, window = check.sentences[2], check.window
        assert ("No learning rate from" in where) == (window is None) == (rows(check)["window"] == "none"), where
        assert check.to_json()["window"] == (window if window is None else [*window])
        if check.outcome != "may leave":
            inside = window is not None and window[0] <= check.learning_rate <= window[1]
            assert inside == (check.outcome == "leaves"), check.summary()
        for rate in re.findall(r"at (\S+) the loss explodes at step", where):
            assert float(rate) >= float(f"{(window or (0, check.learning_rate))[1]:.3g}"), where


def test_halves_that_disagree_are_said():
    for check in CHECKS:
        assert ("two halves of the data disagree" in check.verdict) != check.forecast.halves_agree


def test_parts_that_were_left_out_are_said():
    for check in CHECKS:
        assert ("left out" in rows(check)) == bool(check.left_out)


def test_json_is_finite_and_has_the_names_that_stay():
    names = {"escape_steps", "interval", "diverges_at", "window", "probability", "verdict", "optimizer"}
    names |= {"escape_epochs", "order", "rates"}
    for check in CHECKS:
        content = json.loads(json.dumps(check.to_json(), allow_nan=False))
        assert names <= set(content)
        assert content["escape_steps"] == (check.escape_steps if math.isfinite(check.escape_steps) else None)
        assert len(content["trials"]) == len(check.forecast.trials.factors)


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_a_figure_has_a_line_for_each_trial_and_the_outcome_in_its_title(outcome):
    check = next(check for check in CHECKS if check.outcome == outcome)
    ax = check.plot()
    assert ax.figure.get_suptitle().startswith(f"GRU under {check.optimizer}: {outcome}\n")
    points = sum(len(line.get_xdata()) for line in ax.lines if str(line.get_label()).startswith("trial"))
    assert points == sum(1 + (r["left"] < math.inf) * (r["diverged"] < math.inf) for r in check.table())
