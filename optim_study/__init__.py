"""The swarm study: train sixty random settings of each architecture and depth, on any number of
workers, to see whether deep recurrences can be optimised.

    from optim_study import paper, run, small, smoke

    results = run(smoke(arch=("rhn", "dt-rnn"), depth=(1, 4)))
    results.rows, results.figure, results.best
"""

from typing import TYPE_CHECKING

from rhn.utils.lazy import lazy_names
from rhn.version import __version__ as __version__

if TYPE_CHECKING:
    from optim_study.config import PRESETS as PRESETS
    from optim_study.config import RunConfig as RunConfig
    from optim_study.config import Settings as Settings
    from optim_study.config import StudyConfig as StudyConfig
    from optim_study.config import paper as paper
    from optim_study.config import small as small
    from optim_study.config import smoke as smoke
    from optim_study.figures import plot_map as plot_map
    from optim_study.figures import plot_swarm as plot_swarm
    from optim_study.results import TrialRow as TrialRow
    from optim_study.results import read_csv as read_csv
    from optim_study.results import write_csv as write_csv
    from optim_study.runner import run as run
    from optim_study.shares import REGIONS as REGIONS
    from optim_study.shares import Share as Share
    from optim_study.shares import training_shares as training_shares

__all__, _load, __dir__ = lazy_names(
    __name__,
    {
        "figures": ("plot_map", "plot_swarm"),
        "config": (
            "PRESETS",
            "RunConfig",
            "Settings",
            "StudyConfig",
            "paper",
            "small",
            "smoke",
        ),
        "results": ("TrialRow", "read_csv", "write_csv"),
        "runner": ("run",),
        "shares": ("REGIONS", "Share", "training_shares"),
    },
)
if not TYPE_CHECKING:  # a name outside the table is an error
    __getattr__ = _load
