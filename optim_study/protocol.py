"""The protocol of a study: how a trial is trained, the ranges of its settings, and everything else
that must stay the same when a study continues. The defaults are the paper's (section 5.1 and figure
4 of Zilly et al. 2017).

The protocol is stored with the study, and its fingerprint is in every file of a trial, so that a
file of another study is never taken for one of this study.
"""

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any, Literal, get_args
from zlib import crc32

import numpy as np
from cyclopts import Parameter
from cyclopts.validators import Number

from rhn.cells.registry import accepts, resolve_cell
from rhn.errors import DataError, InvalidInputError, first_line
from rhn.presets import PARAMETERS_PER_LAYER
from rhn.training.state import Objective
from rhn.utils.command_line import Count, Fraction, Natural
from rhn.utils.validation import LARGEST_FLOAT, LARGEST_INIT, check_values

LOWEST = 1e-30  # of learning rates and deviations: products of smaller ones underflow in float32
HIGHEST = {"learning_rate": LARGEST_FLOAT, "init_std": LARGEST_INIT}
Scheme = Literal["gaussian", "scaled", "orthogonal", "identity"]
SCHEMES: tuple[Scheme, ...] = get_args(Scheme)
"""Names of the initialisation schemes, see `rhn.cells.init`."""
OF_ONE_SIZE = ("scaled", "orthogonal")
"""Schemes with a fixed standard deviation: 1 / sqrt(n) for the recurrent weights of n units."""

Interval = Annotated[tuple[float, float], Parameter(metavar="LOW HIGH")]
OptimizerName = Literal["sgd", "adam", "adamw", "rmsprop"]
OPTIMIZERS: tuple[OptimizerName, ...] = get_args(OptimizerName)
PAPERS_STD = (1e-8, 1e-2)
"""The paper's range of standard deviations of Gaussian initial weights."""
LEARNING_RATES = {"sgd": (1e-4, 1.0)} | dict.fromkeys(OPTIMIZERS[1:], (1e-5, 0.1))
"""The range of learning rates of each optimizer. The range for SGD is the paper's. The other
optimizers divide the gradient by its size, so a step changes a weight by about the learning rate. A
rate of 0.1 is as large as a trained weight, and with 1e-5 no weight moves further than 0.07 in the
paper's 7,000 steps. The ranges of these optimizers therefore also have four decades, but end at
0.1. They contain torch's default rates, 1e-3 and 1e-2 (rmsprop).
"""

LATER_FIELDS = {"init_schemes": ("gaussian",), "optimizer": "sgd"}
"""Fields that a protocol contains only if their value differs from this one. The fingerprints of
stored studies depend on it.
"""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The hyperparameters of one trial.

    >>> Settings(learning_rate=0.1, init_std=0.01, transform_bias=-2.0).init_scheme
    'gaussian'
    """

    learning_rate: float
    init_std: float
    """Standard deviation of the initial weights; with the scheme `identity`, of the noise that is
    added to the identity. The schemes `scaled` and `orthogonal` ignore this value.
    """
    transform_bias: float
    """Initial bias of the transform gates; cells without these gates ignore this value."""
    init_scheme: str = "gaussian"

    @property
    def init(self) -> str:
        """The initialisation as cells and models expect it.

        >>> near_identity = {"init_std": 1e-3, "init_scheme": "identity"}
        >>> Settings(learning_rate=0.1, transform_bias=0.0, **near_identity).init
        'identity:0.001'
        """
        if self.init_scheme in OF_ONE_SIZE:
            return self.init_scheme
        return f"{self.init_scheme}:{self.init_std!r}"


@dataclass(frozen=True, kw_only=True)
class SharedSettings:
    """The settings that the studies of a run share; the defaults are the paper's. Raises
    InvalidInputError for values out of range.
    """

    # settings and rows are held in memory
    trials: Annotated[int, Parameter(validator=Number(gte=1, lte=100_000))] = 60
    """Total number of trials of each study. A larger number extends a study."""
    epochs: Count = 1000
    """Maximum number of epochs of a trial."""
    patience: Count = 100
    """A trial stops after this number of epochs without a lower loss."""
    budget_scale: Annotated[float, Parameter(validator=Number(gt=0, lte=1e6))] = 1.0
    """Multiply the paper's budget of parameters (150,000 per layer) by this factor."""
    objective: Objective = "train"
    """The loss by which a trial is judged: on the training data (train) or validation data (valid).
    The lowest value of all epochs counts, and the weights of this epoch are kept.
    """
    optimizer: OptimizerName = "sgd"
    """Optimizer. sgd: the paper's, with momentum 0.9. adam, adamw, rmsprop: those of torch.optim
    with default settings, except for the learning rate.
    """
    learning_rate: Interval | None = None
    """Lowest and highest learning rate. Each trial draws its rate between them, log-uniformly.
    Default: from 1e-4 to 1 for sgd, as in the paper; from 1e-5 to 0.1 for the other optimizers.
    """
    init_std: Interval = PAPERS_STD
    """Lowest and highest standard deviation of the initial weights. Each trial draws its deviation
    between them, log-uniformly.
    """
    init_schemes: tuple[Scheme, ...] = ("gaussian",)
    """Initialisation schemes, from which each trial draws one with equal chances. gaussian and
    identity have the standard deviation of the trial; scaled and orthogonal have 1/sqrt(n) for n
    units.
    """
    transform_bias: tuple[float, ...] = (0.0, -1.0, -2.0, -3.0)
    """Initial biases of the transform gates, from which each trial draws one with equal chances."""
    seed: Natural = 0
    """Seed of the drawn settings, the initial weights and the minibatch order."""

    def __post_init__(self):
        if self.learning_rate is None:
            object.__setattr__(self, "learning_rate", LEARNING_RATES.get(self.optimizer))
        check_values(self)
        # 1 and 1.0 are the same protocol
        for name in ("learning_rate", "init_std", "transform_bias"):
            object.__setattr__(self, name, tuple(map(float, getattr(self, name))))
        object.__setattr__(self, "budget_scale", float(self.budget_scale))
        for name, highest in HIGHEST.items():
            low, high = getattr(self, name)
            if not LOWEST <= low <= high <= highest:
                raise InvalidInputError(
                    f"{name} is {low:g} {high:g}: expected {LOWEST:g} <= low <= high <= {highest:g}"
                )
        for name in ("transform_bias", "init_schemes"):
            if len(set(values := getattr(self, name))) < len(values):
                raise InvalidInputError(f"{name} is {values}: expected different values")


@dataclass(frozen=True, kw_only=True)
class StudyConfig(SharedSettings):
    """The configuration of one study: an architecture, a depth, and everything else on which the
    results depend. Between runs only `trials` may change, to a larger number.

    >>> study = StudyConfig(arch="rhn", depth=2, data="checksum", trials=5)
    >>> study.name, study.trials
    ('rhn-depth2', 5)
    """

    arch: str
    """Name of the architecture: `rhn`, `dt-rnn`, ..., or a user's `package.module:factory`."""
    depth: Count
    """Recurrence depth."""
    data: str
    """Checksum of the data set."""
    batch_size: Count = 32
    """Number of sequences in a batch."""
    momentum: Fraction = 0.9
    """Momentum of SGD; the other optimizers ignore this value."""
    options: dict = field(default_factory=dict)
    """Options of the cell by name, such as `{"skip": "last"}`."""

    def __post_init__(self):
        super().__post_init__()
        for name, value in self.options.items():  # they are part of the name of a folder
            if not re.fullmatch(r"[\w.+-]+", f"{name}{value}"):
                raise InvalidInputError(
                    f"option {name} is {value!r}: expected letters, digits and . _ + -"
                )
        object.__setattr__(self, "momentum", float(self.momentum))

    @property
    def cell(self) -> str:
        """The architecture, under the name that this field has in other configurations."""
        return self.arch

    @property
    def label(self) -> str:
        """Name of the architecture and its options in tables and figures, such as
        `dts-rnn-skip-last`.
        """
        return "-".join(
            [self.arch, *(f"{name}-{value}" for name, value in sorted(self.options.items()))]
        )

    @property
    def name(self) -> str:
        """Name of the study and of its folder, such as `dt-rnn-depth4`."""
        return f"{self.label}-depth{self.depth}"

    @property
    def budget(self) -> int:
        """The largest number of parameters at this recurrence depth, including the output layer and
        the biases.
        """
        return max(1, round(PARAMETERS_PER_LAYER * self.depth * self.budget_scale))

    @property
    def gated(self) -> bool:
        """True if the cell declares a transform bias."""
        return accepts(resolve_cell(self.arch), "transform_bias")

    def settings(self, number: int) -> Settings:
        """Return the hyperparameters of one trial.

        The values depend only on (seed, architecture, depth, number) and the ranges, not on the
        options of the cell. Any number of workers, in any order, therefore run the same trials.
        """
        sequence = np.random.SeedSequence(
            [self.seed, crc32(self.arch.encode()), self.depth, number]
        )
        rng = np.random.default_rng(sequence)
        return Settings(
            learning_rate=_log_uniform(rng, *self.learning_rate),  # type: ignore[misc]
            init_std=_log_uniform(rng, *self.init_std),
            transform_bias=self.transform_bias[rng.integers(len(self.transform_bias))],
            init_scheme=self.init_schemes[rng.integers(len(self.init_schemes))],
        )

    def trial(self, number: int) -> dict[str, Any]:
        """Return everything that determines the initial weights and the training of a trial, for
        JSON.
        """
        settings = asdict(self.settings(number))
        if not self.gated:  # drawn, but not used
            del settings["transform_bias"]
        return {"study": self.protocol(), "trial": number, "settings": settings}

    def protocol(self) -> dict[str, Any]:
        """Return all fields but the number of trials, ready for JSON. Their values must not change
        when a study continues.
        """
        left_out = {"trials"} | {
            name for name, before in LATER_FIELDS.items() if getattr(self, name) == before
        }
        left_out |= {"momentum"} if self.optimizer != "sgd" else set()
        values = {name: value for name, value in asdict(self).items() if name not in left_out}
        return json.loads(json.dumps(values))

    @property
    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits of a hash of the protocol."""
        return hashlib.sha256(json.dumps(self.protocol(), sort_keys=True).encode()).hexdigest()[:16]


def config_from_protocol(protocol: Mapping[str, Any], *, trials: int) -> StudyConfig:
    """Return the configuration of a study from its stored protocol. Raises DataError if the
    protocol is damaged or from another version.
    """
    try:
        return StudyConfig(**{**protocol, "trials": trials})
    except (TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise DataError(f"the stored protocol cannot be read: {first_line(error)}") from None


def require_same_protocol(config: StudyConfig, stored: Mapping[str, Any]) -> None:
    """Raise InvalidInputError if the protocol that is stored with a study differs from this one."""
    here, there = ({**LATER_FIELDS, **values} for values in (config.protocol(), stored))
    for name in sorted(here | there):
        if (wanted := here.get(name)) != (found := there.get(name)):
            raise InvalidInputError(f"{name} of {config.name} is {wanted}: expected {found}")


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    value = math.exp(math.log(low) + (math.log(high) - math.log(low)) * rng.random())
    return min(max(value, low), high)  # exp(log(x)) may miss the ends by one rounding
