"""`gersgorin.plateau`: from a model, its sequences and its loss to what is known of its plateau."""

import math
from dataclasses import dataclass, field
from functools import cached_property
from numbers import Real
from typing import Any

from torch import nn

from gersgorin.grad_mode import with_gradients
from gersgorin.losses import Loss
from gersgorin.objective import Objective
from gersgorin.saddle.curvature import Curvature, lowest_curvature
from gersgorin.saddle.escape import FOREVER, Trajectory, follow
from gersgorin.saddle.matrices import matrices
from gersgorin.saddle.rates import measure_rates, nearest_integer
from rhn.errors import InvalidInputError
from rhn.result import Result


def plateau(model: nn.Module, sequences: Any, loss: str | Loss | None = None) -> "Plateau":
    """Measure the plateau that a network stands on, or would, with its output at the best constant.

    Args:
        model, sequences, loss: as for `gersgorin.Objective`: a model with an output, what it reads, and what it is judged by.

    Returns:
        A record with `loss`, `rates`, `slopes`, `order`, and what takes longer and is measured when it is asked for: `curvature` and
        `escape_epochs(learning_rate, momentum, batches)`. The model is left as it was; what is done to it later changes nothing.

    Raises:
        InvalidInputError: as for `gersgorin.Objective`, and for a model without a trained matrix.
    """
    objective = Objective(model, sequences, loss)
    if not matrices(objective.parameters):
        raise InvalidInputError("the model has no trained matrix: leave one that requires gradients")
    rates = measure_rates(objective)
    return Plateau(loss=objective.best_constant()[1], rates=rates.own, slopes=rates.slopes, objective=objective)


@dataclass(frozen=True, kw_only=True, repr=False)
class Plateau(Result):
    """The plateau of one network on its sequences and loss."""

    loss: float
    """Of the best constant output on these sequences, in the objective's `loss.unit`: what the plateau lies at."""
    rates: dict[str, float]
    """||dL/dM|| / ||M|| of every matrix M at the constant output, by name, the layers of a stack apart."""
    slopes: dict[str, float]
    """d log rate / d log scale of all weights, by matrix; NaN where a rate is below all numbers."""
    objective: Objective = field(repr=False, compare=False)
    """The network with its sequences and loss, from which the rest is measured when it is asked for."""

    @property
    def fastest(self) -> str:
        """The matrix of the highest rate."""
        return max(self.rates, key=lambda name: self.rates[name])

    @property
    def order(self) -> float:
        """The slope of the fastest matrix: 0 on a plateau that is left exponentially, P - 2 beside a product of P small matrices.

        NaN for a network without a trained output bias: it does not come to the constant output, and its rates, told as they are, are
        no plateau's.
        """
        return math.nan if self.objective.output_bias is None else self.slopes[self.fastest]

    @property
    def integer_order(self) -> int | None:
        """The integer within 0.05 of the order; None where there is none."""
        return nearest_integer(self.order)

    @property
    def curvature(self) -> float:
        """The most negative curvature at the constant output, 1 / time of gradient flow: along it weights grow as exp(-curvature t)."""
        return self.lowest.value

    @cached_property
    @with_gradients()
    def lowest(self) -> Curvature:
        """The most negative curvature with its direction: `lowest.overlap` is its share in each matrix. About 50 Hessian products."""
        return lowest_curvature(self.objective.with_second_derivatives())

    @with_gradients()
    def escape(
        self, learning_rate: float, momentum: float = 0.9, *, until: float = math.inf, most: int = 800
    ) -> Trajectory:
        """How training leaves the plateau, or does not: SGD from the network's real start, output bias included.

        It is followed for at most `until` steps, each on the whole probe: the noise of minibatches is left out. One to four hundred
        gradients are usual, and at most `most` are taken.

        Raises InvalidInputError for a learning rate outside [1e-12, 1e12], where rounding decides, a momentum outside [0, 1), or steps
        that are no number above 0.
        """
        if not (_is_number(learning_rate) and 1e-12 <= learning_rate <= 1e12):
            raise InvalidInputError(f"the learning rate is {learning_rate!r}, expected a number above 0, 1e-12 to 1e12")
        if not (_is_number(momentum) and 0 <= momentum < 1):
            raise InvalidInputError(f"the momentum is {momentum!r}, expected 0 or more and less than 1")
        if not (_is_number(until) and until > 0):
            raise InvalidInputError(f"`until` is {until!r}, expected a number of steps above 0, or infinity")
        return follow(self.objective, float(learning_rate), float(momentum), until=min(until, FOREVER), most=most)

    def escape_epochs(self, learning_rate: float, momentum: float = 0.9, batches: int = 1) -> float:
        """Epochs of `batches` steps until the loss is below 0.98 of the constant output's; infinity where it never is.

        Raises InvalidInputError as `escape`, and for fewer than one batch.
        """
        if not (_is_number(batches) and 1 <= batches < math.inf):
            raise InvalidInputError(f"there are {batches!r} batches an epoch, expected 1 or more")
        return self.escape(learning_rate, momentum).leaves_after / batches


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)
