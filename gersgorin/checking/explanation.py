"""Measure the plateau of a training: rates of learning at the best constant output, order, gains, on one minibatch.

    explanation = explain(loop, seconds=4)
    explanation.order, explanation.rates, explanation.cells

They explain the forecast and do not enter it.
"""

import copy
import time
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from gersgorin._validate import with_gradients
from gersgorin.analyses.plateau import measure_rates
from gersgorin.checking.gains import Gains, measure_gains
from gersgorin.checking.loop import TrainingLoop, output_of
from gersgorin.objective import output_bias_of
from rhn.errors import USERS_FAULT
from rhn.utils.wording import first_line

PASSES = 20  # steps of the training that take as long as the rates, in double precision
GAINS = 8  # largest time of gains and exponents relative to that of the rates
LARGE = 500_000  # parameters, from which on gains take longer


@dataclass(frozen=True)
class Explanation:
    """Measures of the plateau; those that the model does not have are None or empty."""

    order: float | None = None
    rates: dict[str, float] = field(default_factory=dict)
    cells: tuple[Gains, ...] = ()
    left_out: tuple[str, ...] = ()
    """Measures without time, and measures that failed, in words."""


@with_gradients()
def explain(loop: TrainingLoop, seconds: float) -> Explanation:
    """Rates, order and gains of the untrained model, as far as there is time."""
    if PASSES * loop.step_seconds > seconds:
        return Explanation(left_out=("rates and gains, for lack of time",))
    start, order, rates = time.monotonic(), None, {}
    try:
        probe = _Probe(loop)
        rates, slopes = measure_rates(probe)
        if probe.output_bias is not None and rates:
            order = slopes[max(rates, key=lambda name: rates[name])]
        spent = time.monotonic() - start
        if GAINS * spent > seconds - spent or sum(p.numel() for p in probe.model.parameters()) > LARGE:
            return Explanation(order, rates, left_out=("gains, for lack of time",))
        return Explanation(order, rates, tuple(measure_gains(probe)))
    except USERS_FAULT as error:  # whatever a module raises in double precision, or a cell without such measures
        return Explanation(order, rates, left_out=(f"{'gains' if rates else 'rates and gains'}: {first_line(error)}",))


class _Probe:
    """One minibatch with a copy of the model in float64 and evaluation mode, as far as `measure_rates` reads an `Objective`."""

    def __init__(self, loop: TrainingLoop):
        self.model = copy.deepcopy(loop.model).double().eval()
        probe = loop.data.probe()
        self.inputs, self.targets = map(_double, probe)
        self.loss_fn = loop.loss_fn
        self._constant = loop.constant_output([probe])[0].double()
        outputs = self.outputs()
        self.mask = torch.ones(outputs.shape[:-1], dtype=torch.bool, device=outputs.device)
        self.output_bias = output_bias_of(self.parameters, outputs)

    @property
    def parameters(self) -> dict[str, nn.Parameter]:
        return {name: p for name, p in self.model.named_parameters() if p.requires_grad}

    def outputs(self) -> Tensor:
        with torch.backends.cudnn.flags(enabled=False):  # cuDNN's recurrences have no gradient in evaluation mode
            return output_of(self.model(self.inputs))

    def best_constant(self) -> tuple[Tensor, float]:
        return self._constant, float("nan")

    def gradients(self) -> tuple[float, dict[str, Tensor]]:
        parameters = self.parameters
        loss = self.loss_fn(self.outputs(), self.targets)
        slopes = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True, materialize_grads=True)
        return loss.item(), dict(zip(parameters, slopes, strict=True))


def _double(values: Tensor) -> Tensor:
    return values.double() if values.is_floating_point() else values
