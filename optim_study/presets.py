"""What a run of the study is made of, and complete ones by name: the paper's, a small one, and one of seconds.

    run(small(arch=("rhn",), out=Path("runs/mine")))

A preset is a function that returns a whole configuration; what it is given replaces its own values.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from rhn.errors import InvalidInputError

from .config import StudyConfig
from .space import Space

PAPER_ARCHITECTURES = ("rhn", "dt-rnn", "dts-rnn")
PAPER_DEPTHS = (1, 2, 4, 6)


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """One run of the study: a study for each architecture and depth, and how to work on them.

    Raises:
        InvalidInputError: a value is out of range; the message says which and what was expected.
    """

    arch: tuple[str, ...] = PAPER_ARCHITECTURES
    """Architectures: names of `rhn.cells.CELLS` or a user's `package.module:factory`; `all` stands for the paper's three."""
    depth: tuple[int, ...] | None = None
    """Recurrence depths; None: the preset's own, and 1 alone for cells that have no recurrence depth."""
    trials: int = 60
    """Trials of each study, a total."""
    epochs: int = 1000
    """At most so many epochs a trial."""
    patience: int = 100
    """A trial stops after so many epochs without a better loss."""
    budget_scale: float = 1.0
    """Factor on the paper's parameter budgets of 150,000 a layer."""
    objective: Literal["train", "valid"] = "train"
    """Whose best loss is the value of a trial."""
    space: Space = field(default_factory=Space)
    """Where the settings of the trials are drawn from."""
    seed: int = 0
    """Seed of settings, initial weights and the order of batches."""
    data: Path | None = None
    """A file of original chorales; None: those rebuilt from music21's scores."""
    out: Path | None = None
    """Folder of the run, made where it is missing; None: `runs/` and the architectures."""
    storage: str | None = None
    """A PostgreSQL database, postgresql+psycopg://...; None: the journal file OUT/journal.log."""
    fuse: int | Literal["auto"] = "auto"
    """Trials trained as one program."""
    jobs: int = 1
    """Worker processes; 1 works in this process."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to train."""
    save_seconds: float = 60.0
    """Running trials are saved when so many seconds have passed: what a kill costs at most."""
    deep: tuple[int, ...] = PAPER_DEPTHS
    """The depths of architectures that have any, where `depth` is None."""

    def __post_init__(self):
        if not self.arch:
            raise InvalidInputError("there is no architecture to run: expected at least one")
        if self.depth is not None and not self.depth:
            raise InvalidInputError("there is no depth to run: expected at least one")
        if self.fuse != "auto" and not (isinstance(self.fuse, int) and self.fuse >= 1):
            raise InvalidInputError(f"fuse is {self.fuse!r}, expected 'auto' or 1 or more trials")
        if self.jobs < 1:
            raise InvalidInputError(f"jobs is {self.jobs}, expected 1 or more worker processes")
        if not self.save_seconds >= 0:
            raise InvalidInputError(f"save_seconds is {self.save_seconds}, expected 0 or more seconds")

    @property
    def architectures(self) -> tuple[str, ...]:
        """The architectures, `all` written out, each once.

        >>> RunConfig(arch=("dt-rnn", "all")).architectures
        ('dt-rnn', 'rhn', 'dts-rnn')
        """
        names = (name for given in self.arch for name in (PAPER_ARCHITECTURES if given == "all" else (given,)))
        return tuple(dict.fromkeys(names))

    @property
    def folder(self) -> Path:
        """Where the run keeps its files.

        >>> RunConfig(arch=("all",)).folder.as_posix()
        'runs/all'
        """
        return Path("runs", "-".join(self.arch).replace(":", ".")) if self.out is None else self.out

    def studies(self, data: str) -> list[StudyConfig]:
        """The configuration of every study, in the order of work; `data` is the checksum of the data set.

        Raises InvalidInputError for an unknown architecture or a depth that it does not have.
        """
        shared = ("trials", "epochs", "patience", "budget_scale", "objective", "space", "seed")
        values = {name: getattr(self, name) for name in shared}
        return [
            StudyConfig(arch=arch, depth=depth, data=data, **values)
            for arch in self.architectures
            for depth in self._depths(arch)
        ]

    def _depths(self, arch: str) -> tuple[int, ...]:
        from rhn.cells import resolve_cell

        factory = resolve_cell(arch)
        if self.depth is not None:
            return tuple(dict.fromkeys(self.depth))
        return self.deep if getattr(factory, "deep", True) else (1,)


def paper(**changes: Any) -> RunConfig:
    """The paper's protocol (section 5.1, figure 4): 60 trials of at most 1000 epochs at depths 1, 2, 4 and 6."""
    return RunConfig(**changes)


def small(**changes: Any) -> RunConfig:
    """The whole study in about 40 minutes on two cores: networks of 1.5 % of the paper's parameters, 120 epochs.

    What decides is the number of epochs more than the size: with tiny initial weights every network first sits on the plateau of
    a network that ignores its state, for 20 to 80 epochs. Patience is as long as that, or those that leave late would be stopped.
    """
    return RunConfig(**({"budget_scale": 0.015, "epochs": 120, "patience": 80, "jobs": 2} | changes))


def smoke(**changes: Any) -> RunConfig:
    """A few seconds, to see that everything works: networks of a few units, 4 trials, 4 epochs, saved after every one."""
    scale = {"budget_scale": 0.01, "epochs": 4, "patience": 4, "trials": 4, "deep": (1, 2), "save_seconds": 0.0}
    return RunConfig(**(scale | changes))


PRESETS: dict[str, Callable[..., RunConfig]] = {f.__name__: f for f in (paper, small, smoke)}
