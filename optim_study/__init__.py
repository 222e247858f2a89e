"""The swarm study: are deep recurrences optimisable? Sixty random settings an architecture and depth, on any number of workers.

    from optim_study import paper, run, small, smoke

    results = run(smoke(arch=("rhn", "dt-rnn"), depth=(1, 4)))
    results.rows, results.figure, results.best

`import optim_study` is light: torch and optuna are loaded by `run`; tables and figures need neither.
"""

from optim_study.presets import PRESETS, RunConfig, paper, small, smoke
from optim_study.protocol import Settings, StudyConfig
from optim_study.results import Row, read_csv, write_csv
from optim_study.shares import Share, training_shares

__all__ = [
    "PRESETS",
    "Row",
    "RunConfig",
    "Settings",
    "Share",
    "StudyConfig",
    "paper",
    "plot_map",
    "plot_swarm",
    "read_csv",
    "run",
    "small",
    "smoke",
    "training_shares",
    "write_csv",
]


def __getattr__(name: str):
    if name == "run":
        from optim_study.runner import run

        return run
    if name in ("plot_swarm", "plot_map"):
        from optim_study import plots

        return getattr(plots, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
