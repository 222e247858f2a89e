"""What a check of a training says agrees with its numbers, whatever these are: verdict, table and
JSON of 500 forecasts.
"""

import json
import math
import random
import re
from dataclasses import replace

import pytest

from gersgorin.checking.causes.cause import Cause
from gersgorin.checking.prediction import FINDINGS, TrainingCheck
from gersgorin.checking.trials import Trial

DANGLING = re.compile(r",[),.;]|, ?$|\( |\(\)| [,.;)]|;;|\.\.|nan\b|\binf\b|: ?[;.,]|  ")
CAUSES = [
    Cause(f"cause {k}", f"It measures {k}.", f"Mend {k}.", {"value": k}, sure=not k)
    for k in range(4)
]
OUTCOMES = ("leaves", "stays", "explodes", "leaves, then explodes", "may leave")


def trials_of(
    draw: random.Random, rate: float, window: tuple[float, float] | None, steps: int
) -> tuple[Trial, ...]:
    """Trials at some learning rates, of which those in the window leave and no other."""
    factors = [1.0, *(10.0 ** draw.uniform(-2, 2) for _ in range(draw.randint(0, 5)))]
    taken = [
        draw.choice([*([] if factor == 1 else [0]), *[draw.randint(1, steps)] * 2, steps])
        for factor in factors
    ]
    if draw.random() < 0.1:
        taken = [0] * len(factors)
    trials = []
    for factor, n in zip(factors, taken, strict=True):
        trial = Trial(factor, [1.0] * n, [0.5] * n, cut=not n or draw.random() < 0.1)
        if n and window and window[0] <= factor * rate <= window[1]:
            trial.left = draw.choice([n, math.inf])
        elif n and draw.random() < 0.5:
            trial.diverged = n
        trials.append(trial)
    return tuple(trials)


def made(seed: int) -> TrainingCheck:
    """A check of random numbers, of every kind that there can be."""
    draw = random.Random(seed)
    steps, rate = draw.choice([1, 30, 3000, 100_000]), draw.choice([1e-4, 0.00123456, 0.1])

    def step() -> float:
        near = draw.choice(
            [0.01, 0.3, 0.98, 0.9999, 1.0, 1.0001, 1.02, 3.0, 1e6, math.inf, math.inf]
        )
        return max(1.0, near * steps)

    window = draw.choice(
        [None, tuple(sorted(rate * 10.0 ** draw.uniform(-3, 3) for _ in range(2))), (rate, rate)]
    )
    trials = trials_of(draw, rate, window, min(steps, 300))
    tried = bool(trials[0].steps)
    low, middle, high = sorted((step(), step(), step())) if draw.random() < 0.9 else (0.0, 0.0, 0.0)
    forecast = {
        "escape_steps": middle if tried else math.inf,
        "interval": (low, high) if tried else (math.inf, math.inf),
        "probability": draw.choice([0.0, 0.004, 0.15, 0.3, 0.499, 0.7, 0.85, 0.996, 1.0])
        if tried
        else math.nan,
        "trials": trials,
    }
    lacking = draw.choice([("the trials, for lack of time",), ()])
    cut = ["the time was up"] if any(trial.cut for trial in trials) else []
    return TrainingCheck(
        name="GRU",
        optimizer=draw.choice(["Adam", "SGD"]),
        learning_rate=rate,
        steps=steps,
        steps_per_epoch=draw.choice([1, 7]),
        constant_loss=0.5,
        first_loss=0.9,
        **forecast,
        left_out=(*cut, *lacking),
        causes=tuple(CAUSES[draw.randint(0, 1) :][: draw.choice([0, 0, 1, 4])]) if tried else (),
        step_seconds=draw.choice([math.nan, 0.25]),
    )


CHECKS = [made(seed) for seed in range(500)]


def rows(check: TrainingCheck) -> dict[str, str]:
    """The rows of the summary below its sentences, by name; trials in one."""
    table = check.summary().split("\n\n")[1]
    return {row[:15].strip(): row[15:] for row in re.split(r"\n(?! {15})", table)}


TRIED = [check for check in CHECKS if check.tried]


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_every_outcome_is_met(outcome):
    assert sum(check.outcome == outcome for check in CHECKS) >= 10


def test_the_first_lines_are_the_verdict_at_most_three_causes_and_then_the_optimizer():
    for check in CHECKS:
        verdict = check.summary().partition("\n\n")[0].replace("\n", " ")
        assert verdict == check.verdict
        own = "".join(f"{cause.sentence} {cause.remedy} " for cause in check.causes[:3])
        assert verdict.startswith(
            f"{own}Under {check.optimizer} at a learning rate of {check.learning_rate:.4g}, "
        )


def test_subnormals_are_said_where_they_matter():
    for check in CHECKS[:100]:
        told = replace(check, slowed=8.0).sentences()
        assert "8 times as long as with torch.set_flush_denormal(True)" in told[-1]


def test_no_text_has_dangling_punctuation_or_bare_nan():
    for check in CHECKS:
        for sentence in [*check.sentences(), *([check.why] if check.why else [])]:
            assert not DANGLING.search(sentence), sentence
            assert sentence[0].isupper() and sentence.endswith("."), sentence
        assert not re.search(r",[),.;]|,$|\(\)|\bnan\b|\binf\b", check.summary()), check.summary()


def test_one_outcome_is_said_and_it_is_that_of_the_numbers():
    usual = {
        "leaves": "GRU falls below that of the best constant output within",
        "stays": " stays ",
        "explodes": "GRU explodes within",
        "leaves, then explodes": "GRU falls below that of the best constant output, then "
        "explodes within",
        "may leave": "GRU may or may not fall below that of the best constant output",
    }
    for check in TRIED:
        once = {"leaves": "GRU is below that of the best constant output from the first step on ("}
        once["leaves, then explodes"] = once["leaves"].removesuffix(" (") + ", then explodes within"
        phrases = usual | (once if check.escape_steps == 0 else {})
        verdict, whole = (
            check.verdict.replace(" slightly ", " "),
            check.outcome == "leaves" and check.tried >= check.steps,
        )
        assert [name for name, phrase in phrases.items() if phrase in verdict] == [check.outcome], (
            verdict
        )
        assert (verdict != check.verdict) == (
            whole and check.last_loss > 0.9 and check.escape_steps > 0
        )
        assert check.to_json()["outcome"] == check.outcome
        leaves, explodes = check.escape_steps <= check.steps, check.diverges_at < math.inf
        assert not check.outcome.startswith("leaves") or leaves
        assert not (check.outcome == "stays" and leaves) and explodes == (
            "explodes" in check.outcome
        )
        if check.outcome in ("leaves", "stays"):
            assert (check.probability >= 0.5) == leaves
            assert ("GRU probably stays " in check.verdict) == (
                check.outcome == "stays" and check.probability >= 0.1
            )
        (said,) = re.findall(r"\(probability[^()0-9]*(?:over |below )?(\d\.\d\d)\)", check.verdict)
        assert float(said) == pytest.approx(check.probability, abs=0.0101)


def test_times_are_said_as_they_were_found():
    for check in TRIED:
        when = " ".join(check.sentences())
        found = re.search(r"t (does|would do) so after about (\S+) steps", when)
        below = check.escape_steps == 0 and check.outcome.startswith("leaves")
        assert bool(found) == (
            math.isfinite(check.escape_steps) and check.outcome != "explodes" and not below
        ), when
        if found and not found[2].startswith("10^"):
            assert float(found[2].replace(",", "")) == pytest.approx(
                max(1, check.escape_steps), rel=0.006, abs=0.5
            )
        assert (f"explodes at step {check.diverges_at:,.0f}" in when) == math.isfinite(
            check.diverges_at
        ), when


def test_without_a_step_at_its_learning_rate_nothing_is_known():
    untried = [check for check in CHECKS if not check.tried]
    assert len(untried) > 30
    for check in untried:
        assert (
            check.outcome == "may leave"
            and "it is not known if the loss of GRU falls below" in check.verdict
        )
        assert not re.search("probab|escape|explodes at step .* and", check.verdict), check.verdict
        assert [check.to_json()[name] for name in ("probability", "escape_steps")] == [None] * 2


def test_seconds_are_asked_for_if_the_time_was_up_before_a_decision():
    for check in CHECKS:
        needed = bool(check.cut) and (check.outcome == "may leave" or bool(check.probably))
        found = re.search(
            r"to decide, give (more seconds|seconds=\d+)\.", check.verdict, re.IGNORECASE
        )
        assert bool(found) == needed, check.verdict
        if needed:
            assert ("more" in found[1]) == math.isnan(check.step_seconds)
            assert not check.tried or f"ran out after {check.tried:,} step" in check.verdict
            later = re.search(
                r"to decide, give seconds=(\d+)",
                replace(check, setup_seconds=1e6).verdict,
                re.IGNORECASE,
            )
            assert later is None or int(later[1]) >= 1e6


def test_trials_without_steps_are_not_told_as_trials():
    for check in TRIED:
        lines = rows(check)["trials"].splitlines()
        assert [("not tried" in line) for line in lines] == [
            row["steps"] == 0 for row in check.table()
        ], lines
        assert " in 0 steps" not in check.summary()


def test_why_is_the_sentence_of_the_first_cause():
    for check in CHECKS:
        assert (
            check.why
            == check.to_json()["why"]
            == (check.causes[0].sentence if check.causes else None)
        )
        assert [cause["name"] for cause in check.to_json()["causes"]] == [
            cause.name for cause in check.causes
        ]


def test_parts_that_were_left_out_are_said():
    for check in CHECKS:
        assert ("left out" in rows(check)) == bool(check.left_out)


def test_json_is_finite_and_has_the_names_that_stay():
    names = {"escape_steps", "interval", "diverges_at", "probability", "verdict", "optimizer"}
    names |= {"causes"}
    for check in CHECKS:
        content = json.loads(json.dumps(check.to_json(), allow_nan=False))
        assert names <= set(content)
        assert content["escape_steps"] == (
            check.escape_steps if math.isfinite(check.escape_steps) else None
        )
        assert len(content["trials"]) == len(check.trials)


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_a_figure_has_a_line_for_each_trial_and_the_outcome_in_its_title(outcome):
    check = next(check for check in CHECKS if check.outcome == outcome)
    ax = check.plot()
    first = f"; first cause: {check.causes[0].name}" if check.causes else ""
    assert (
        ax.figure.get_suptitle().replace("\n", " ")
        == f"GRU {check.probably}{FINDINGS[outcome]}{first}"
    )
    lines = [line for line in ax.lines if str(line.get_label()).startswith("learning rate")]
    assert [len(line.get_xdata()) for line in lines] == [
        trial.steps for trial in check.trials if trial.steps
    ]
