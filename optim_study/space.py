"""The hyperparameters of the swarm study: three ranges, and a setting for every trial number (the paper's section 5.1).

Random search ignores history, so the setting of trial n is a function of (seed, architecture, depth, n) alone: any
number of workers, in any order, on any day, run the same ones.
"""

import math
from dataclasses import dataclass
from zlib import crc32

import numpy as np

from rhn.errors import InvalidInputError
from rhn.presets import PARAMETERS_PER_LAYER


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The hyperparameters of one trial."""

    learning_rate: float
    """Step size of SGD."""
    init_std: float
    """Standard deviation of the Gaussian initial weights."""
    transform_bias: float
    """Initial bias of the transform gates; cells without gates ignore it."""


@dataclass(frozen=True, kw_only=True)
class Space:
    """Where settings are drawn from; the defaults are the paper's.

    Raises:
        InvalidInputError: a range is empty, not positive or not finite, or there is no transform bias to choose from.
    """

    learning_rate: tuple[float, float] = (1e-4, 1.0)
    """Lowest and highest learning rate, log-uniform."""
    init_std: tuple[float, float] = (1e-8, 1e-2)
    """Lowest and highest initial standard deviation, log-uniform."""
    transform_bias: tuple[float, ...] = (0.0, -1.0, -2.0, -3.0)
    """The transform biases, equally likely."""

    def __post_init__(self):
        for name in ("learning_rate", "init_std"):
            low, high = getattr(self, name)
            if not 0 < low <= high < math.inf:
                raise InvalidInputError(f"the range of {name} is {low} to {high}, expected 0 < low <= high < infinity")
            object.__setattr__(self, name, (float(low), float(high)))
        biases = tuple(float(bias) for bias in self.transform_bias)
        if not biases or len(set(biases)) < len(biases) or not all(map(math.isfinite, biases)):
            raise InvalidInputError(f"the transform biases are {list(biases)}, expected different finite numbers")
        object.__setattr__(self, "transform_bias", biases)


def settings(space: Space, *, seed: int, arch: str, depth: int, number: int) -> Settings:
    """The setting of trial `number` in the study of (arch, depth): the same on every call.

    >>> settings(Space(), seed=0, arch="rhn", depth=4, number=7).transform_bias
    0.0
    """
    rng = np.random.default_rng(np.random.SeedSequence([seed, crc32(arch.encode()), depth, number]))
    return Settings(
        learning_rate=_log_uniform(rng, *space.learning_rate),
        init_std=_log_uniform(rng, *space.init_std),
        transform_bias=space.transform_bias[rng.integers(len(space.transform_bias))],
    )


def parameter_budget(depth: int, scale: float = 1.0) -> int:
    """How many parameters a network of this recurrence depth may have, output layer and biases included.

    >>> [parameter_budget(depth) for depth in (1, 2, 4, 6)]
    [150000, 300000, 600000, 900000]
    """
    return round(PARAMETERS_PER_LAYER * depth * scale)


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    value = math.exp(math.log(low) + (math.log(high) - math.log(low)) * rng.random())
    return min(max(value, low), high)  # exp(log(x)) may miss the ends by one rounding
