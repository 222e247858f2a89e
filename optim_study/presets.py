"""The configuration of a run, and three presets: functions that return a whole configuration, whose
arguments replace the values of the preset.

    run(small(arch=("rhn",), out=Path("runs/mine")))
"""

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from optim_study.protocol import SharedSettings, StudyConfig
from rhn.cells.registry import CELLS, cell_options, read_options, resolve_cell
from rhn.errors import InvalidInputError
from rhn.utils.command_line import Count, Device, NonNegative
from rhn.utils.io import as_path

PAPER_ARCHITECTURES = ("rhn", "dt-rnn", "dts-rnn")
ARCHITECTURES = (
    f"Architectures: {', '.join(CELLS)}, or your own as package.module:factory; all: the paper's "
    f"{', '.join(PAPER_ARCHITECTURES)}."
)


@dataclass(frozen=True, kw_only=True)
class RunConfig(SharedSettings):
    """The configuration of a run: one study for each architecture and depth, and the workers that
    train them. The defaults are the paper's protocol.

    `optim-study run --help` describes the fields.

    >>> config = RunConfig(arch=("rhn",), depth=(1, 2), trials=5)
    >>> config.epochs, config.folder.as_posix()
    (1000, 'runs/rhn')
    """

    arch: Annotated[tuple[str, ...], Parameter(help=ARCHITECTURES)] = ("all",)
    depth: tuple[Count, ...] = (1, 2, 4, 6)
    """Recurrence depths, in layers per time step. Cells without a depth run only at depth 1."""
    cell_options: dict = field(default_factory=dict)
    """An option of the cell, such as skip=last, for every architecture that has this option. Can be
    given several times. A network with such options is a separate study.
    """

    data: Path | None = None
    """File with the original chorales (.json or .pickle), to use instead of those rebuilt from
    music21's scores.
    """
    out: Path | None = None
    """Folder of the run, created if necessary (default: runs/ARCH)."""
    storage: Annotated[str, Parameter(metavar="URL")] | None = field(default=None, repr=False)
    """Where to store the results too: an Optuna database, postgresql://user:password@host/database
    (default: the journal file OUT/journal.log).
    """
    wait_storage: Annotated[NonNegative, Parameter(metavar="SECONDS")] = 300.0
    """Longest time to wait for the database each time that it cannot be reached; 0: do not wait."""
    fuse: Count | None = None
    """Number of trials that are trained side by side as one program (default: as many as the device
    and its memory allow).
    """
    jobs: Count | None = None
    """Number of workers, which train trials at the same time (default: one on each GPU, or one on
    the CPU; with Ray, one on each GPU or each CPU of the cluster). Without Ray a single worker runs
    in the process of the command.
    """
    engine: Literal["processes", "ray"] = "processes"
    """Where the workers run. processes: as processes of this machine. ray: as tasks of a Ray
    cluster, whose nodes share the folder OUT and the data.
    """
    address: Annotated[str, Parameter(metavar="HOST:PORT")] | None = None
    """Address of the Ray cluster (default: the address in the environment variable RAY_ADDRESS,
    else a cluster on this machine, else a new cluster for the run).
    """
    device: Device = "auto"
    """Device that trains the networks; auto: a GPU if there is one, else the CPU."""
    save_seconds: NonNegative = 60.0
    """Seconds between two saves of the running trials. A kill loses at most this time and one
    epoch.
    """

    def __post_init__(self):
        for name in ("data", "out"):
            if isinstance(value := getattr(self, name), str):  # in Python
                object.__setattr__(self, name, as_path(value))
        super().__post_init__()
        if self.address is not None and self.engine != "ray":
            raise InvalidInputError(f"engine is {self.engine!r}: expected 'ray' with address")

    @property
    def architectures(self) -> tuple[str, ...]:
        """Names of the architectures, each once; `all` is replaced by the architectures of the
        paper.

        >>> RunConfig(arch=("dt-rnn", "all")).architectures
        ('dt-rnn', 'rhn', 'dts-rnn')
        """
        named = (PAPER_ARCHITECTURES if name == "all" else (name,) for name in self.arch)
        return tuple(dict.fromkeys(name for names in named for name in names))

    @property
    def folder(self) -> Path:
        """Folder of the run, which is `out` or else a folder named after the architectures.

        >>> RunConfig(arch=("all",)).folder.as_posix()
        'runs/all'
        """
        return self.out or Path("runs", "-".join(self.arch).replace(":", "."))

    def studies(self, data: str) -> list[StudyConfig]:
        """Return the configuration of every study, in the order in which the studies run; `data` is
        the checksum of the data set.

        Raises InvalidInputError for an unknown architecture, a depth that an architecture cannot
        have, or an option that no cell has.
        """
        shared = {field.name: getattr(self, field.name) for field in fields(SharedSettings)}
        left, studies = dict(self.cell_options), []
        for arch in self.architectures:
            deep, known = getattr(resolve_cell(arch), "deep", True), cell_options(arch)
            own = {name: v for name, v in self.cell_options.items() if name in known}
            left = {name: value for name, value in left.items() if name not in own}
            options = read_options(arch, own)
            for depth in dict.fromkeys(self.depth if deep or 1 not in self.depth else (1,)):
                study = StudyConfig(arch=arch, depth=depth, data=data, options=options, **shared)
                studies.append(study)
        read_options(self.architectures[0], left)  # raises for one that no cell has
        return studies


def paper(**changes: Any) -> RunConfig:
    """Return the paper's protocol (section 5.1, figure 4): 60 trials of at most 1000 epochs at each
    of the depths 1, 2, 4 and 6. Raises the errors of `RunConfig`.

    >>> config = paper(arch=("rhn",))
    >>> config.trials, config.epochs, config.depth
    (60, 1000, (1, 2, 4, 6))
    """
    return RunConfig(**changes)


def small(**changes: Any) -> RunConfig:
    """Return the whole study with small networks: 1.5 % of the paper's parameters, 120 epochs. The
    run takes at least ten minutes on two cores, and longer without a C compiler.

    With tiny initial weights, every network stays for 20 to 80 epochs at the loss of a network that
    ignores its state. The patience is therefore 80 epochs: a shorter patience would stop networks
    that learn late.

    >>> config = small(depth=(1, 4))
    >>> config.trials, config.epochs, config.depth
    (60, 120, (1, 4))
    """
    scale: dict = {"budget_scale": 0.015, "epochs": 120, "patience": 80}
    return RunConfig(**scale | changes)


def smoke(**changes: Any) -> RunConfig:
    """Return a run of a few seconds, to check the installation: networks of a few units, 4 trials
    and 4 epochs, with a save after every epoch.

    >>> config = smoke(arch=("rnn",))
    >>> config.trials, config.epochs
    (4, 4)
    """
    scale: dict = {"budget_scale": 0.01, "epochs": 4, "patience": 4, "trials": 4, "depth": (1, 2)}
    return RunConfig(**scale | {"save_seconds": 0.0} | changes)


PRESETS: dict[str, Callable[..., RunConfig]] = {f.__name__: f for f in (paper, small, smoke)}
"""The presets: from the name of each to the function that returns its configuration."""
