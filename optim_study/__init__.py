"""The swarm study: are deep recurrences optimisable? Sixty random settings an architecture and depth, on any number of workers.

    from optim_study import paper, run, small, smoke

    results = run(smoke(arch=("rhn", "dt-rnn"), depth=(1, 4)))
    results.rows, results.figure, results.best

`import optim_study` is light: torch and optuna are loaded by `run`; tables and figures need neither.
"""

from .presets import PRESETS, RunConfig, paper, small, smoke
from .reading import Reading, read
from .records import Row, read_csv, write_csv
from .space import Settings, Space

__all__ = [
    "PRESETS",
    "Reading",
    "Row",
    "RunConfig",
    "Settings",
    "Space",
    "paper",
    "plot_map",
    "plot_swarm",
    "read",
    "read_csv",
    "run",
    "small",
    "smoke",
    "write_csv",
]


def __getattr__(name: str):
    if name == "run":
        from .runner import run

        return run
    if name in ("plot_swarm", "plot_map"):
        from . import plots

        return getattr(plots, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
