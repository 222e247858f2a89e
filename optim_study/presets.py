"""The configuration of a run, and three presets: the study of the paper, a small one, and one of a
few seconds.

    run(small(arch=("rhn",), out=Path("runs/mine")))

A preset is a function that returns a whole configuration; its arguments replace the values of the
preset.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from optim_study.protocol import SharedSettings, StudyConfig
from rhn.cells.registry import CELLS
from rhn.errors import InvalidInputError
from rhn.utils.io import as_path
from rhn.utils.old import CellOptions, Device, NonNegative, require

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
    depth: tuple[int, ...] = (1, 2, 4, 6)
    """Recurrence depths, in layers per time step. Cells without a depth run only at depth 1."""
    cell_options: CellOptions = field(default_factory=dict)
    """An option of the cell, such as skip=last, for every architecture that has this option. Can be
    given several times. A network with such options is a separate study.
    """

    data: Path | None = None
    """File with the original chorales (.json or .pickle), to use instead of those rebuilt from
    music21's scores.
    """
    out: Path | None = None
    """Folder of the run, created if necessary (default: runs/ARCH)."""
    storage: Annotated[str | None, Parameter(metavar="URL")] = field(default=None, repr=False)
    """Where to store the results: an Optuna database, postgresql://user:password@host:port/database
    (default: the journal file OUT/journal.log).
    """
    wait_storage: Annotated[NonNegative, Parameter(metavar="SECONDS")] = 300.0
    """Longest time to wait for the database each time that it cannot be reached; 0: do not wait."""
    fuse: int | Literal["auto"] = "auto"
    """Number of trials that are trained side by side as one program; auto: chosen by the device and
    its memory.
    """
    jobs: int | Literal["auto"] = "auto"
    """Number of workers, which train trials at the same time. auto: one worker on each GPU; without
    a GPU one on the CPU (with Ray: one on each CPU of the cluster). Without Ray a single worker
    runs in the process of the command.
    """
    engine: Literal["processes", "ray"] = "processes"
    """Where the workers run. processes: as processes of this machine. ray: as tasks of a Ray
    cluster, whose nodes share the folder OUT and the data.
    """
    address: Annotated[str | None, Parameter(metavar="HOST:PORT")] = None
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
        depths = all(depth >= 1 for depth in self.depth)
        require(self, "depth", depths, "whole numbers of at least 1")
        for name in ("fuse", "jobs"):
            value = getattr(self, name)
            counts = value != "auto" and value >= 1
            require(self, name, value == "auto" or counts, "'auto' or a whole number from 1")
        for name in ("arch", "depth"):
            require(self, name, len(getattr(self, name)) > 0, "at least one")
        if self.address is not None and self.engine != "ray":
            raise InvalidInputError("--address is for --engine ray: give both or neither")

    @property
    def architectures(self) -> tuple[str, ...]:
        """Names of the architectures, each once; `all` is replaced by the architectures of the
        paper.

        >>> RunConfig(arch=("dt-rnn", "all")).architectures
        ('dt-rnn', 'rhn', 'dts-rnn')
        >>> RunConfig(arch=("gru,rnn",)).architectures
        ('gru', 'rnn')
        """
        names = (
            name
            for given in ",".join(self.arch).split(",")
            for name in (PAPER_ARCHITECTURES if given == "all" else (given,))
        )
        return tuple(dict.fromkeys(names))

    @property
    def folder(self) -> Path:
        """Folder of the run, which is `out` or else a folder named after the architectures.

        >>> RunConfig(arch=("all",)).folder.as_posix()
        'runs/all'
        """
        return self.out or Path("runs", "-".join(self.arch).replace(",", "-").replace(":", "."))

    def studies(self, data: str) -> list[StudyConfig]:
        """Return the configuration of every study, in the order in which the studies run; `data` is
        the checksum of the data set.

        Raises InvalidInputError for an unknown architecture, a depth that an architecture cannot
        have, or an option that no cell has.
        """
        from rhn.cells import read_options, resolve_cell

        shared = {field.name: getattr(self, field.name) for field in fields(SharedSettings)}
        cells = {arch: resolve_cell(arch) for arch in self.architectures}
        unknown, studies = dict(self.cell_options), []
        for arch, cell in cells.items():
            own = self._options_of(arch)
            unknown = {name: value for name, value in unknown.items() if name not in own}
            options = read_options(arch, own)
            studies += [
                StudyConfig(arch=arch, depth=depth, data=data, options=options, **shared)
                for depth in self._depths_of(cell)
            ]
        read_options(next(iter(cells)), unknown)  # raises for one that no cell has
        return studies

    def _options_of(self, arch: str) -> dict:
        """Return those of the cell options that an architecture has."""
        from rhn.cells import cell_options

        if not self.cell_options:
            return {}
        known = cell_options(arch)
        return {name: value for name, value in self.cell_options.items() if name in known}

    def _depths_of(self, cell: Any) -> list[int]:
        """Return the depths at which to run a cell, each once: only 1 if the cell has no depth."""
        if 1 in self.depth and not getattr(cell, "deep", True):
            return [1]
        return list(dict.fromkeys(self.depth))


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
    scale: dict = {
        "budget_scale": 0.01,
        "epochs": 4,
        "patience": 4,
        "trials": 4,
        "depth": (1, 2),
        "save_seconds": 0.0,
    }
    return RunConfig(**scale | changes)


PRESETS: dict[str, Callable[..., RunConfig]] = {f.__name__: f for f in (paper, small, smoke)}
"""The presets: from the name of each to the function that returns its configuration."""
