"""The configuration of a study, of a run of several studies, and three presets. The defaults are
the paper's (section 5.1 and figure 4 of Zilly et al. 2017).

The protocol of a study is everything that must stay the same when the study continues. Its
fingerprint is in every file of a trial, so that a file of another study is never taken for its own.
Versions of the toolkit and of torch are columns of a trial, not part of the protocol.
"""

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from math import exp, log
from pathlib import Path
from typing import Annotated, Any, Literal, get_args
from zlib import crc32

import numpy as np
from cyclopts import Parameter

from rhn.cells.options import cell_options, has_depth, parameters_of, read_options
from rhn.cells.registry import resolve_cell
from rhn.errors import DataError, InvalidInputError, first_line
from rhn.training.state import Objective
from rhn.utils.command_line import Device
from rhn.utils.io import as_path
from rhn.utils.validation import (
    LARGEST_INIT,
    Count,
    Fraction,
    Natural,
    NonNegative,
    Range,
    check_values,
)

LOWEST = 1e-30  # of learning rates and deviations: products of smaller ones underflow in float32
Scheme = Literal["gaussian", "scaled", "orthogonal", "identity"]
SCHEMES: tuple[Scheme, ...] = get_args(Scheme)
OF_ONE_SIZE = ("scaled", "orthogonal")  # standard deviation 1 / sqrt(n) for n units
Interval = Annotated[tuple[float, float], Parameter(metavar="LOW HIGH")]
OptimizerName = Literal["sgd", "adam", "adamw", "rmsprop"]
OPTIMIZERS: tuple[OptimizerName, ...] = get_args(OptimizerName)
PAPERS_STD = (1e-8, 1e-2)
LEARNING_RATES = {"sgd": (1e-4, 1.0)} | dict.fromkeys(OPTIMIZERS[1:], (1e-5, 0.1))
"""The ranges of learning rates. That of SGD, and the deviations above, are the paper's range."""
BY_SET = {"by_set": True}
"""Metadata of a field without an option of its own in the command: --set gives the field."""
LATER = {"later": True}
"""Metadata of a field that the first protocols lack: a protocol, and so its fingerprint, contains
the field only if its value is not the default.
"""
PAPER_ARCHITECTURES = ("rhn", "dt-rnn", "dts-rnn")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The hyperparameters of one trial. init_std: the standard deviation of the initial weights;
    with the scheme `identity`, of the noise that is added to the identity.

    >>> Settings(learning_rate=0.1, init_std=0.01, transform_bias=-2.0).init_scheme
    'gaussian'
    """

    learning_rate: float
    init_std: float
    transform_bias: float
    init_scheme: str = "gaussian"

    @property
    def init(self) -> str:
        """The initialisation as cells and models expect it."""
        if self.init_scheme in OF_ONE_SIZE:
            return self.init_scheme
        return f"{self.init_scheme}:{self.init_std!r}"


@dataclass(frozen=True, kw_only=True)
class SharedSettings:
    """The settings that the studies of a run share. Raises InvalidInputError."""

    # settings and rows are held in memory
    trials: Annotated[int, Range(least=1, most=100_000)] = 60
    """Total number of trials of each study. A larger number extends a study."""
    epochs: Count = 1000
    """Maximum number of epochs of a trial."""
    patience: Count = 100
    """A trial stops after this number of epochs without a lower loss."""
    budget_scale: Annotated[float, Range(above=0, most=1e6)] = field(default=1.0, metadata=BY_SET)
    """Multiply the paper's budget of parameters (150,000 per layer) by this factor."""
    objective: Objective = "train"
    """The loss by which a trial is judged, at its best epoch: training (train) or validation loss
    (valid).
    """
    optimizer: OptimizerName = field(default="sgd", metadata=LATER)
    """Optimizer. sgd: the paper's, with momentum 0.9. adam, adamw, rmsprop: those of torch.optim
    with default settings, except for the learning rate.
    """
    learning_rate: Interval | None = None
    """Lowest and highest learning rate, drawn log-uniformly. Default: from 1e-4 to 1 for sgd, as in
    the paper; from 1e-5 to 0.1 for the other optimizers.
    """
    init_std: Interval = PAPERS_STD
    """Lowest and highest standard deviation of the initial weights, drawn log-uniformly."""
    init_schemes: tuple[Scheme, ...] = field(default=("gaussian",), metadata=LATER | BY_SET)
    """Initialisation schemes, drawn with equal chances. gaussian and identity have the standard
    deviation of the trial; scaled and orthogonal have 1/sqrt(n) for n units.
    """
    transform_bias: tuple[float, ...] = (0.0, -1.0, -2.0, -3.0)
    """Initial biases of the transform gates, drawn with equal chances."""
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
        limits = f"{LOWEST:g} <= low <= high <= {LARGEST_INIT:g}"
        for name in ("learning_rate", "init_std"):
            low, high = getattr(self, name)
            if not LOWEST <= low <= high <= LARGEST_INIT:
                raise InvalidInputError(f"{name} is {low:g} {high:g}: expected {limits}")
        for name in ("transform_bias", "init_schemes"):
            if len(set(values := getattr(self, name))) < len(values):
                raise InvalidInputError(f"{name} is {values}: expected different values")


LATER_FIELDS = {f.name: f.default for f in fields(SharedSettings) if "later" in f.metadata}


@dataclass(frozen=True, kw_only=True)
class StudyConfig(SharedSettings):
    """The configuration of one study; `data` is the checksum of the data, `options` are those of
    the cell. Between runs only `trials` may change, to a larger number.

    >>> study = StudyConfig(arch="rhn", depth=2, data="checksum", trials=5)
    >>> study.name, study.trials
    ('rhn-depth2', 5)
    """

    arch: str
    depth: Count
    data: str
    batch_size: Count = 32
    momentum: Fraction = 0.9
    """Momentum of SGD; the other optimizers ignore this value."""
    options: dict = field(default_factory=dict)

    def __post_init__(self):
        super().__post_init__()
        for name, value in self.options.items():  # they are part of the name of a folder
            if not re.fullmatch(r"[\w.+-]+", f"{name}{value}"):
                raise InvalidInputError(f"option {name} is {value!r}: expected [a-zA-Z0-9._+-]")
        object.__setattr__(self, "momentum", float(self.momentum))

    @property
    def cell(self) -> str:
        """The architecture, under the name that this field has in other configurations."""
        return self.arch

    @property
    def label(self) -> str:
        """Name of the architecture and its options, such as `dts-rnn-skip-last`."""
        return "-".join([self.arch, *(f"{k}-{v}" for k, v in sorted(self.options.items()))])

    @property
    def name(self) -> str:
        """Name of the study and of its folder, such as `dt-rnn-depth4`."""
        return f"{self.label}-depth{self.depth}"

    @property
    def gated(self) -> bool:
        """True if the cell declares a transform bias."""
        return "transform_bias" in parameters_of(resolve_cell(self.arch))

    def settings(self, number: int) -> Settings:
        """Return the hyperparameters of a trial, whichever worker trains it, and when."""
        entropy = [self.seed, crc32(self.arch.encode()), self.depth, number]
        rng = np.random.default_rng(np.random.SeedSequence(entropy))
        rates: Any = self.learning_rate  # no longer None
        return Settings(
            learning_rate=_log_uniform(rng, *rates),
            init_std=_log_uniform(rng, *self.init_std),
            transform_bias=self.transform_bias[rng.integers(len(self.transform_bias))],
            init_scheme=self.init_schemes[rng.integers(len(self.init_schemes))],
        )

    def trial(self, number: int) -> dict[str, Any]:
        """Return everything that determines the training of a trial, for JSON."""
        settings = asdict(self.settings(number))
        if not self.gated:  # drawn, but not used
            del settings["transform_bias"]
        return {"study": self.protocol(), "trial": number, "settings": settings}

    def protocol(self) -> dict[str, Any]:
        """Return, for JSON, the fields that must not change when a study continues."""
        left_out = {name for name, old in LATER_FIELDS.items() if getattr(self, name) == old}
        left_out |= {"trials"} if self.optimizer == "sgd" else {"trials", "momentum"}
        values = {name: value for name, value in asdict(self).items() if name not in left_out}
        return json.loads(json.dumps(values))

    @property
    def fingerprint(self) -> str:
        """The fingerprint of the protocol."""
        return fingerprint_of(self.protocol())


@dataclass(frozen=True, kw_only=True)
class RunConfig(SharedSettings):
    """The configuration of a run: one study for each architecture and depth, and the workers that
    train them. The defaults are the paper's protocol.

    >>> config = RunConfig(arch=("rhn",), depth=(1, 2), trials=5)
    >>> config.epochs, config.folder.as_posix()
    (1000, 'runs/rhn')
    """

    arch: tuple[str, ...] = ("all",)
    """Architectures: rnn, irnn, dt-rnn, dts-rnn, rhn, lstm, gru, or your own as
    package.module:factory; all: the paper's rhn, dt-rnn, dts-rnn.
    """
    depth: tuple[Count, ...] = (1, 2, 4, 6)
    """Recurrence depths, in layers per time step. Cells without a depth run only at depth 1."""
    cell_options: dict = field(default_factory=dict)
    """An option of the cell, such as skip=last, for every architecture that has it. Can be given
    several times.
    """
    data: Path | None = None
    """File of the original chorales (.json or .pickle), instead of those of music21's scores."""
    out: Path | None = None
    """Folder of the run, created if necessary (default: runs/ARCH)."""
    storage: Annotated[str, Parameter(metavar="URL")] | None = field(default=None, repr=False)
    """Where to store the results too: an Optuna database, such as postgresql://me@dbhost/study
    (default: the journal file OUT/journal.log).
    """
    wait_storage: Annotated[NonNegative, Parameter(metavar="SECONDS")] = field(
        default=300.0, metadata=BY_SET
    )
    """Longest time to wait for the database each time that it cannot be reached; 0: do not wait."""
    fuse: Count | None = None
    """Number of trials to train as one program (default: chosen by the device and its memory)."""
    jobs: Annotated[int, Range(least=1, most=100_000)] | None = None
    """Number of workers, which train trials at the same time (default: one on each GPU, or one on
    the CPU; with Ray, one on each GPU or each CPU of the cluster).
    """
    engine: Literal["processes", "ray"] = "processes"
    """Where the workers run. processes: as processes of this machine. ray: as tasks of a Ray
    cluster, whose nodes share the folder OUT and the data.
    """
    address: Annotated[str, Parameter(metavar="HOST:PORT")] | None = field(
        default=None, metadata=BY_SET
    )
    """Address of the Ray cluster (default: the address in the environment variable RAY_ADDRESS,
    else a cluster on this machine, else a new cluster for the run).
    """
    device: Device = "auto"
    """Device that trains the networks; auto: a GPU if there is one, else the CPU."""
    save_seconds: NonNegative = field(default=60.0, metadata=BY_SET)
    """Seconds between two saves of the running trials; a kill loses this time and one epoch."""

    def __post_init__(self):
        for name in ("data", "out"):
            if isinstance(value := getattr(self, name), str):  # in Python
                object.__setattr__(self, name, as_path(value))
        super().__post_init__()
        if self.address is not None and self.engine != "ray":
            raise InvalidInputError(f"engine is {self.engine!r}: expected 'ray' with address")

    @property
    def folder(self) -> Path:
        """Folder of the run: `out`, or a folder named after the architectures."""
        return self.out or Path("runs", "-".join(self.arch).replace(":", "."))

    def studies(self, data: str) -> list[StudyConfig]:
        """Return the configuration of every study on the data set with this checksum. Raises
        InvalidInputError for an unknown architecture, or an option that no cell has.
        """
        shared = {field.name: getattr(self, field.name) for field in fields(SharedSettings)}
        named = [{"all": PAPER_ARCHITECTURES}.get(name, (name,)) for name in self.arch]
        left, studies = dict(self.cell_options), []
        for arch in dict.fromkeys(sum(named, ())):
            flat = 1 in self.depth and not has_depth(resolve_cell(arch))
            own = {k: v for k, v in self.cell_options.items() if k in cell_options(arch)}
            left = {k: v for k, v in left.items() if k not in own}
            how: dict = {"data": data, "options": read_options(arch, own), **shared}
            depths = dict.fromkeys((1,) if flat else self.depth)
            studies += [StudyConfig(arch=arch, depth=depth, **how) for depth in depths]
        read_options(studies[0].arch, left)  # raises for one that no cell has
        return studies


_NETWORKS = ("arch", "depth", "cell_options")
_OPTIONS = [f.name for f in fields(RunConfig) if "by_set" not in f.metadata]
COMMAND_OPTIONS = tuple(dict.fromkeys([*_NETWORKS, *_OPTIONS]))
"""The fields that are options of the command: those of the networks first."""


def paper(**changes: Any) -> RunConfig:
    """Return the paper's protocol (section 5.1, figure 4).

    >>> config = paper(arch=("rhn",))
    >>> config.trials, config.epochs, config.depth
    (60, 1000, (1, 2, 4, 6))
    """
    return RunConfig(**changes)


def small(**changes: Any) -> RunConfig:
    """Return the whole study with small networks: 1.5 % of the paper's parameters, 120 epochs. The
    run takes at least ten minutes on two cores. With tiny initial weights, every network stays for
    20 to 80 epochs at the loss of a network that ignores its state: so the patience is 80 epochs.

    >>> config = small(depth=(1, 4))
    >>> config.trials, config.epochs, config.depth
    (60, 120, (1, 4))
    """
    scale: dict = {"budget_scale": 0.015, "epochs": 120, "patience": 80}
    return RunConfig(**scale | changes)


def smoke(**changes: Any) -> RunConfig:
    """Return a run of a few seconds, to check the installation.

    >>> smoke(arch=("rnn",)).trials
    4
    """
    scale: dict = {"budget_scale": 0.01, "epochs": 4, "patience": 4, "trials": 4, "depth": (1, 2)}
    return RunConfig(**scale | {"save_seconds": 0.0} | changes)


PRESETS: dict[str, Callable[..., RunConfig]] = {f.__name__: f for f in (paper, small, smoke)}
"""The presets by name."""


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """Draw a number from an interval, uniformly in its logarithm."""
    drawn = exp(log(low) + (log(high) - log(low)) * rng.random())
    return min(max(drawn, low), high)  # exp(log(x)) may miss the ends by one rounding


def fingerprint_of(protocol: Mapping[str, Any]) -> str:
    """Return sixteen hexadecimal digits of a hash of a protocol."""
    return hashlib.sha256(json.dumps(protocol, sort_keys=True).encode()).hexdigest()[:16]


def config_from_protocol(protocol: Mapping[str, Any], *, trials: int) -> StudyConfig:
    """Return the configuration of a study from its stored protocol. Raises DataError."""
    known = {each.name for each in fields(StudyConfig)}
    try:
        if unknown := sorted({*protocol} - known):
            raise DataError(f"the stored protocol is of another version: it has {unknown[0]}")
        return StudyConfig(**{**protocol, "trials": trials})
    except (TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise DataError(f"the stored protocol cannot be read: {first_line(error)}") from None


def require_same_protocol(
    config: StudyConfig, stored: Mapping[str, Any], place: object, option: str = "--out"
) -> None:
    """Raise InvalidInputError if the protocol that is stored in a place, which this option of the
    command names, differs from that of the study.
    """
    here, there = ({**LATER_FIELDS, **values} for values in (config.protocol(), stored))
    for name in sorted(here | there):
        if (wanted := here.get(name)) != (found := there.get(name)):
            raise another_study(place, name, wanted, found, option)


def another_study(
    place: object, name: str, here: object, there: object, option: str = "--out"
) -> InvalidInputError:
    """Return the error for a place, named by an option, that holds a study with another field."""
    difference = f"{name} is {here} here and {there} there"
    return InvalidInputError(
        f"{place} holds another study: {difference}; expected another {option}"
    )
