"""The swarm study: train sixty random settings of each architecture and depth, on any number of
workers, to see whether deep recurrences can be optimised.

    from optim_study import paper, run, small, smoke

    results = run(smoke(arch=("rhn", "dt-rnn"), depth=(1, 4)))
    results.rows, results.figure, results.best
"""

from rhn.utils.lazy import lazy_names
from rhn.version import __version__ as __version__

__all__, __getattr__, __dir__ = lazy_names(
    __name__,
    {
        "figures": ("plot_map", "plot_swarm"),
        "config": ("PRESETS", "RunConfig", "Settings", "StudyConfig", "paper", "small", "smoke"),
        "results": ("TrialRow", "read_csv", "write_csv"),
        "runner": ("run",),
        "shares": ("REGIONS", "Share", "training_shares"),
    },
)
