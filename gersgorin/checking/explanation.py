"""Measure the plateau of a training: rates of learning at the best constant output, order, gains, on one minibatch.

    explanation = explain(loop, seconds=4)
    explanation.order, explanation.rates, explanation.cells

They explain the forecast and do not enter it. `reason` puts them into words.
"""

import math
import time
from dataclasses import dataclass, field

import numpy as np

from gersgorin._validate import with_gradients
from gersgorin.analyses.plateau import measure_rates, steps_to_leave
from gersgorin.checking.gains import Gains, measure_gains
from gersgorin.checking.loop import TrainingLoop
from gersgorin.checking.minibatches import in_double
from gersgorin.objective import BatchObjective
from rhn.errors import USERS_FAULT
from rhn.utils.wording import first_line

PASSES = 20  # steps of the training that take as long as the rates, in double precision
FLOW = 100  # time of `steps_to_leave` relative to that of the rates
GAINS = 8  # largest time of gains and exponents relative to that of the rates
LARGE = 500_000  # parameters, from which on gains take longer
STRONG = 100.0  # times that a gradient fades or grows along a sequence, at least, to be a reason
FLAT = 0.5  # order of a plateau, at least, likewise
NO_TIME = "for lack of time"


@dataclass(frozen=True)
class Explanation:
    """Measures of the plateau; those that the model does not have are None or empty."""

    order: float | None = None
    rates: dict[str, float] = field(default_factory=dict)
    cells: tuple[Gains, ...] = ()
    flow_steps: float | None = None
    """Steps of SGD on this minibatch alone to leave the plateau, see `Plateau.escape`; None: another optimiser, or no time."""
    left_out: tuple[str, ...] = ()
    """Measures without time, and measures that failed, in words."""


@with_gradients()
def explain(loop: TrainingLoop, seconds: float) -> Explanation:
    """Rates, order and gains of the untrained model, as far as there is time."""
    if PASSES * loop.step_seconds > seconds:
        return Explanation(left_out=(f"rates and gains, {NO_TIME}",))
    start, order, rates = time.monotonic(), None, {}
    try:
        x, y = loop.data.probe()
        constant, loss = loop.constant_output([(x, y)])
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
        if GAINS * spent > seconds - spent or sum(p.numel() for p in probe.model.parameters()) > LARGE:
            return Explanation(order, rates, left_out=(f"gains, {NO_TIME}",))
        cells = tuple(measure_gains(probe))
        flow_steps = None
        if loop.is_plain_sgd and rates and FLOW * spent < seconds - (time.monotonic() - start):
            flow_steps = steps_to_leave(probe, loop.learning_rate, loop.optimizer.param_groups[0]["momentum"])
        return Explanation(order, rates, cells, flow_steps)
    except USERS_FAULT as error:  # whatever a module raises in double precision, or a cell without such measures
        return Explanation(order, rates, left_out=(f"{'gains' if rates else 'rates and gains'}: {first_line(error)}",))


def reason(
    outcome: str,
    trials: list[dict],
    learning_rate: float,
    window: tuple[float, float] | None,
    explanation: Explanation,
    frames: int | None,
) -> str:
    """Why a training does not leave, as far as its trials, order and exponents show; arguments as in `TrainingCheck`."""
    rate = _rate(outcome, [row for row in trials if row["steps"]], learning_rate, window or (math.inf, 0.0))
    found = [rate, _exponent(explanation.cells, frames or 0), _order(explanation.order)]
    if any(found):
        return " ".join(filter(None, found))
    if not (explanation.rates or explanation.cells):
        lacks_time = any(NO_TIME in words for words in explanation.left_out)
        return f"Not known: rates and gains were not measured{f', {NO_TIME}' * lacks_time}."
    return "Not known: neither the trials nor order, rates and gains show a cause."


def _rate(outcome: str, trials: list[dict], own: float, window: tuple[float, float]) -> str:
    """What other learning rates do better."""
    if "explodes" in outcome:
        calm = [r for r in trials if r["learning_rate"] < own and r["diverged"] == math.inf]
        return f"At {calm[-1]['learning_rate']:.3g} it does not explode in {calm[-1]['steps']:,} steps." if calm else ""
    left = [r for r in trials if own < r["learning_rate"] <= window[1] * (1 + 1e-9) and r["left"] < math.inf]
    if not left:
        return ""
    first = min(left, key=lambda row: row["left"])
    start = "The learning rate is too low" if outcome == "stays" else "A higher learning rate is faster"
    return f"{start}: at {first['learning_rate']:.3g} a trial leaves at step {first['left']:,.0f}."


def _exponent(cells: tuple[Gains, ...], frames: int) -> str:
    """How much a gradient fades or grows from the last step of a sequence to the first, in the cell with the strongest change."""
    means = [(float(np.mean(g.exponents)), g) for g in cells if not g.own_loop and len(g.exponents)]
    if not means:
        return ""
    exponent, gains = max(means, key=lambda pair: abs(pair[0]))
    frames = max(frames, gains.exponent_steps)
    way = f"from the last of {frames} steps to the first"
    if exponent == -math.inf:
        return f"In {gains.cell} no gradient comes {way}."
    if not abs(exponent * frames) >= math.log(STRONG):
        return ""
    size = f"10^{round(abs(exponent) * frames / math.log(10))}"
    longer = f", if it goes on as in {gains.exponent_steps}" * (frames > gains.exponent_steps)
    return (
        f"In {gains.cell} a gradient {'fades' if exponent < 0 else 'grows'} by a factor of about {size} {way}{longer}."
    )


def _order(order: float | None) -> str:
    """How flat the plateau is."""
    if order is None or not order >= FLAT:
        return ""
    return f"The plateau is flat: weights of half the size learn {2**order:.2g} times as slowly at first (order {order:.1f})."
