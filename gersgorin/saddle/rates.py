"""How fast a network learns at the constant output, and how that depends on the size of its weights.

With small weights every network first learns its output bias and then stands at the loss of the best constant output, beside a saddle
of the loss at zero weights. There

    rate of a matrix M = ||dL/dM|| / ||M||            (1 / unit of gradient flow's time)

says in how much time gradient flow changes it by as much as it is. Where the loss near the saddle is a product of P matrices, the rate
goes with the scale of the weights to the power P - 2: that power is the `order` here, measured as the slope of log rate against log
scale between the network's own scale and a tenth of it. 0: a saddle of second order, which is left exponentially, in a time that is
logarithmic in the scale (Saxe et al. 2014). Above: a flatter one, which takes a power of 1 / scale.

Why these two scales: the slope is to say something of this network, so one is its own; the other is towards the saddle, where the slope
becomes an integer, and one decade is enough for the mean slope to be that integer wherever the network is near the saddle at all.
Where it is not, no integer is near, and none is claimed.
"""

import math
from dataclasses import dataclass

import torch

from gersgorin.objective import Objective
from gersgorin.saddle.matrices import identities, matrices

TENTH = 0.1
NEAR = 0.05  # a slope so near to an integer is called one


@dataclass(frozen=True)
class Rates:
    """Relative rates by matrix, at the network's own scale and at a tenth of it."""

    own: dict[str, float]
    tenth: dict[str, float]

    @property
    def slopes(self) -> dict[str, float]:
        """d log rate / d log scale of every matrix; NaN where a rate is 0."""
        return {name: _slope(rate, self.tenth[name]) for name, rate in self.own.items()}


def measure_rates(objective: Objective) -> Rates:
    """The rates of an objective's network, which is left as it was; frozen parameters count as those that do not move."""
    parameters = objective.parameters
    before = {name: p.detach().clone() for name, p in parameters.items()}
    centres = identities(before)
    try:
        own = rates_at_constant(objective)
        with torch.no_grad():
            for name, centre in centres.items():
                parameters[name].copy_(centre + TENTH * (before[name] - centre))
        return Rates(own, rates_at_constant(objective))
    finally:
        with torch.no_grad():
            for name, p in parameters.items():
                p.copy_(before[name])


def rates_at_constant(objective: Objective) -> dict[str, float]:
    """||dL/dM|| / ||M|| of every matrix, with the output bias put where the mean output is the best constant one.

    A matrix of zeros has the rate infinity where its gradient is not zero, and 0 where it is. A network without an output bias is taken
    as it is.
    """
    put_at_constant(objective)
    slopes = matrices(objective.gradients()[1])
    return {
        name: _ratio(float(slopes[name].norm()), float(M.norm())) for name, M in matrices(objective.parameters).items()
    }


def put_at_constant(objective: Objective) -> None:
    """Move the output bias so that the mean output over the real frames is the best constant output."""
    if objective.output_bias is None:
        return
    with torch.no_grad():
        mean = objective.outputs()[objective.mask].mean(0)
        objective.parameters[objective.output_bias].add_(objective.best_constant()[0] - mean)


def nearest_integer(order: float) -> int | None:
    """The integer within 0.05 of a slope, if there is one.

    >>> nearest_integer(2.98), nearest_integer(2.5)
    (3, None)
    """
    return round(order) if math.isfinite(order) and abs(order - round(order)) <= NEAR else None


def _slope(own: float, tenth: float) -> float:
    usable = 0 < own < math.inf and 0 < tenth < math.inf
    return math.log(own / tenth) / -math.log(TENTH) if usable else math.nan


def _ratio(slope: float, size: float) -> float:
    return slope / size if size else (math.inf if slope else 0.0)
