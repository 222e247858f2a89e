"""What was measured of a network's plateau: numbers, to be told, kept or drawn."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from gersgorin.saddle.rates import nearest_integer
from rhn.errors import InvalidInputError

LEFT = 0.98
"""A network has left the plateau when its loss is below this part of the constant output's."""


@dataclass(frozen=True)
class Trajectory:
    """What SGD on the probe goes through, a row each time that it was looked at; the first is the start."""

    steps: np.ndarray
    """Steps of SGD done."""
    loss: np.ndarray
    """Nats a frame."""
    norms: dict[str, np.ndarray]
    """Frobenius norm of every matrix."""
    goal: float
    """The loss below which the plateau is left."""
    ended: Literal["left", "never", "diverged", "unsettled"]
    """never: nothing but the output bias moves any more, or not in 10^60 steps; diverged: the loss is no longer finite; unsettled: the
    loss neither fell nor came to rest in as many gradients as were allowed, as where the learning rate is too high."""

    @property
    def leaves_after(self) -> float:
        """Steps until the loss is below the goal, linear between two looks; infinity where it is not."""
        if self.ended != "left":
            return math.inf
        if len(self.steps) == 1:
            return 0.0
        (before, after), (high, low) = self.steps[-2:], self.loss[-2:]
        return float(before + (after - before) * (high - self.goal) / (high - low))


@dataclass(frozen=True, kw_only=True)
class Plateau:
    """The plateau of one network on its sequences and loss."""

    loss: float
    """Nats a frame of the best constant output on these sequences: what the plateau lies at."""
    rates: dict[str, float]
    """||dL/dM|| / ||M|| of every matrix M at the constant output, by name, the layers of a stack apart."""
    slopes: dict[str, float]
    """d log rate / d log scale of all weights, by matrix; NaN where a rate is below all numbers."""
    follow: Callable[[float, float], Trajectory] = field(repr=False, compare=False)
    """Training from the real start, of a learning rate and a momentum."""

    @property
    def fastest(self) -> str:
        """The matrix of the highest rate."""
        return max(self.rates, key=lambda name: self.rates[name])

    @property
    def order(self) -> float:
        """The slope of the fastest matrix: 0 on a plateau that is left exponentially, P - 2 beside a product of P small matrices."""
        return self.slopes[self.fastest]

    @property
    def integer_order(self) -> int | None:
        """The integer within 0.05 of the order; None where there is none."""
        return nearest_integer(self.order)

    def escape(self, learning_rate: float, momentum: float = 0.9) -> Trajectory:
        """How training leaves the plateau, or does not: SGD from the network's real start, output bias included.

        Every step is taken on the whole probe: the noise of minibatches is left out. It costs one to four hundred gradients.
        Raises InvalidInputError for a learning rate that is not above 0, or a momentum outside [0, 1).
        """
        if not 0 < learning_rate < math.inf:
            raise InvalidInputError(f"the learning rate is {learning_rate}, expected a number above 0")
        if not 0 <= momentum < 1:
            raise InvalidInputError(f"the momentum is {momentum}, expected 0 or more and less than 1")
        return self.follow(float(learning_rate), float(momentum))

    def escape_epochs(self, learning_rate: float, momentum: float = 0.9, batches: int = 1) -> float:
        """Epochs of `batches` steps until the loss is below 0.98 of the constant output's; infinity where it never is.

        Raises InvalidInputError as `escape`, and for fewer than one batch.
        """
        if not batches >= 1:
            raise InvalidInputError(f"there are {batches} batches an epoch, expected 1 or more")
        return self.escape(learning_rate, momentum).leaves_after / batches
