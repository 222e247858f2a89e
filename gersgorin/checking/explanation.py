"""Measure the plateau of a training: rates of learning at the best constant output and its order, on one minibatch.

    explanation = explain(loop, seconds=4)
    explanation.order, explanation.rates

They explain the forecast and do not enter it. `reasons` puts them into words.
"""

import math
import time
from dataclasses import dataclass, field

from gersgorin._validate import with_gradients
from gersgorin.analyses.plateau import measure_rates, steps_to_leave
from gersgorin.checking.loop import TrainingLoop
from gersgorin.checking.minibatches import in_double
from gersgorin.objective import BatchObjective
from rhn.errors import USERS_FAULT
from rhn.utils.wording import first_line

PASSES = 20  # steps of the training that take as long as the rates, in double precision
FLOW = 100  # time of `steps_to_leave` relative to that of the rates
FLAT = 0.5  # order of a plateau, at least, likewise
NO_TIME = "for lack of time"


@dataclass(frozen=True)
class Explanation:
    """Measures of the plateau; those that the model does not have are None or empty."""

    order: float | None = None
    rates: dict[str, float] = field(default_factory=dict)
    flow_steps: float | None = None
    """Steps of SGD on this minibatch alone to leave the plateau, see `Plateau.escape`; None: another optimiser, or no time."""
    left_out: tuple[str, ...] = ()
    """Measures without time, and measures that failed, in words."""


@with_gradients()
def explain(loop: TrainingLoop, seconds: float) -> Explanation:
    """Rates and order of the untrained model, as far as there is time."""
    if PASSES * loop.step_seconds > seconds:
        return Explanation(left_out=(f"rates, {NO_TIME}",))
    start, order = time.monotonic(), None
    rates: dict[str, float] = {}
    try:
        x, y = loop.data.probe()
        constant, loss = loop.constant_output(loop.goals([(x, y)]))
        y = y.double() if y.is_floating_point() else y
        probe = BatchObjective(
            loop.model,
            in_double(x),
            lambda outputs: loop.loss_fn(outputs, y),
            (constant.double().reshape(-1, constant.shape[-1]).mean(0), loss),
            loop.predict,
        )
        rates, slopes = measure_rates(probe)
        if probe.output_bias is not None and rates:
            order = slopes[max(rates, key=lambda name: rates[name])]
        spent = time.monotonic() - start
        flow_steps = None
        if loop.is_plain_sgd and rates and FLOW * spent < seconds - (time.monotonic() - start):
            flow_steps = steps_to_leave(probe, loop.learning_rate, loop.optimizer.param_groups[0]["momentum"])
        return Explanation(order, rates, flow_steps)
    except USERS_FAULT as error:  # whatever a module raises in double precision
        return Explanation(order, rates, left_out=(f"rates: {first_line(error)}",))


def reasons(
    outcome: str,
    trials: list[dict],
    learning_rate: float,
    window: tuple[float, float] | None,
    explanation: Explanation,
) -> list[str]:
    """Why a training does not leave, as far as trials and order show, in sentences; arguments as in `TrainingCheck`."""
    rate = _rate(outcome, [row for row in trials if row["steps"]], learning_rate, window or (math.inf, 0.0))
    return [sentence for sentence in (rate, _order(explanation.order)) if sentence]


def unknown(explanation: Explanation) -> str:
    """The sentence without a reason."""
    if explanation.rates:
        return "Not known: neither gradient, trials, order nor rates show a cause."
    lacks_time = any(NO_TIME in words for words in explanation.left_out)
    return f"Not known: the rates were not measured{f', {NO_TIME}' * lacks_time}."


def _rate(outcome: str, trials: list[dict], own: float, window: tuple[float, float]) -> str:
    """The learning rates that do better."""
    if "explodes" in outcome:
        calm = [r for r in trials if r["learning_rate"] < own and r["diverged"] == math.inf]
        return f"At {calm[-1]['learning_rate']:.3g} it does not explode in {calm[-1]['steps']:,} steps." if calm else ""
    left = [r for r in trials if own < r["learning_rate"] <= window[1] * (1 + 1e-9) and r["left"] < math.inf]
    if not left:
        return ""
    first = min(left, key=lambda row: row["left"])
    start = "The learning rate is too low" if outcome == "stays" else "A higher learning rate is faster"
    return f"{start}: at {first['learning_rate']:.3g} a trial leaves at step {first['left']:,.0f}."


def _order(order: float | None) -> str:
    """The flatness of the plateau."""
    if order is None or not order >= FLAT:
        return ""
    return f"The plateau is flat: weights of half the size learn {2**order:.2g} times as slowly at first (order {order:.1f})."
