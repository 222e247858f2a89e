"""Measure the plateau of a training: rates of learning at the best constant output and its order, on one minibatch.

    explanation = explain(loop, seconds=4)
    explanation.order, explanation.rates

They explain the forecast and do not enter it.
"""

from dataclasses import dataclass, field

from gersgorin._validate import with_gradients
from gersgorin.analyses.plateau import measure_rates
from gersgorin.checking.loop import TrainingLoop
from gersgorin.checking.minibatches import in_double
from gersgorin.objective import BatchObjective
from rhn.errors import USERS_FAULT
from rhn.utils.wording import first_line

PASSES = 20  # steps of the training that take as long as the rates, in double precision


@dataclass(frozen=True)
class Explanation:
    """Measures of the plateau; those that the model does not have are None or empty."""

    order: float | None = None
    rates: dict[str, float] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()
    """Measures without time, and measures that failed, in words."""


@with_gradients()
def explain(loop: TrainingLoop, seconds: float) -> Explanation:
    """Rates and order of the untrained model, as far as there is time."""
    if PASSES * loop.step_seconds > seconds:
        return Explanation(left_out=("rates, for lack of time",))
    order, rates = None, dict[str, float]()
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
        return Explanation(order, rates)
    except USERS_FAULT as error:  # whatever a module raises in double precision
        return Explanation(order, rates, left_out=(f"rates: {first_line(error)}",))
