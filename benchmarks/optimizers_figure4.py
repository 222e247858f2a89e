"""Count the settings that leave the plateau, and those that learn, under each optimizer.

    python -m benchmarks.optimizers_figure4 trials.csv

Shares have exact intervals of 95 % (Clopper and Pearson). p: Fisher's exact test of both deep transitions
against the RHN, of the same depths and optimizer, in brackets with Holm's correction over all tests of a table.
"""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from optim_study.results import Row, optimizers_of, read_csv, table
from optim_study.shares import BELOW, fisher, holm
from rhn.utils.binomial import exact_interval

DEPTHS = ((1,), (2,), (4,), (6,), (4, 6))
ARCHITECTURES = (("rhn",), ("dt-rnn",), ("dts-rnn",), ("dt-rnn", "dts-rnn"))


def counted(rows: Sequence[Row], counts: Callable[[Row], bool]) -> str:
    """A line for each optimizer and depth, a column for each architecture and for both deep transitions together."""
    shares, tests = {}, []
    for optimizer in optimizers_of(row.network for row in rows):
        for depths in DEPTHS:
            groups = [
                [
                    counts(row)
                    for row in rows
                    if row.optimizer == optimizer and row.depth in depths and row.arch in archs
                ]
                for archs in ARCHITECTURES
            ]
            if all(groups):
                found = shares[optimizer, depths] = [(sum(group), len(group)) for group in groups]
                tests.append(fisher(found[0], found[-1]))
    lines = []
    for ((optimizer, depths), found), p, corrected in zip(shares.items(), tests, holm(tests), strict=True):
        cells = ["{} of {} ({:.0f} to {:.0f} %)".format(*f, *(100 * end for end in exact_interval(*f))) for f in found]
        lines.append((optimizer, " and ".join(map(str, depths)), *cells, f"{p:.1g} ({corrected:.1g})"))
    return table(("optimizer", "depth", "rhn", "dt-rnn", "dts-rnn", "dt-rnn and dts-rnn", "p (Holm)"), lines)


def learners(rows: Sequence[Row]) -> str:
    """The settings of deep transitions of depth 4 and 6 that leave the plateau."""
    found = [row for row in rows if row.depth >= 4 and row.arch != "rhn" and row.left_epoch is not None]
    return table(
        ("network", "optimizer", "trial", "learning rate", "initial std", "left at epoch", "best"),
        [
            (
                r.network.title,
                r.optimizer,
                r.trial,
                f"{r.learning_rate:.2g}",
                f"{r.init_std:.2g}",
                r.left_epoch,
                f"{r.best_train_nll:.2f}",
            )
            for r in found
        ],
    )


def rates(rows: Sequence[Row]) -> str:
    """The learning rates at which each architecture leaves the plateau, all depths together."""
    lines = []
    for optimizer in optimizers_of(row.network for row in rows):
        for arch in ("rhn", "dt-rnn", "dts-rnn"):
            own = [
                r.learning_rate for r in rows if (r.optimizer, r.arch) == (optimizer, arch) and r.left_epoch is not None
            ]
            lines.append((f"{optimizer}, {arch}", len(own), f"{min(own):.2g} to {max(own):.2g}" if own else ""))
    return table(("", "left", "learning rates"), lines)


if __name__ == "__main__":
    trials = read_csv(Path(sys.argv[1]))
    print("left the plateau", counted(trials, lambda row: row.left_epoch is not None), sep="\n")
    print(f"\nbelow {BELOW:g} nats a frame", counted(trials, lambda row: row.best_train_nll < BELOW), sep="\n")
    print("\ndeep transitions that left", learners(trials), sep="\n")
    print("\nlearning rates of those that left", rates(trials), sep="\n")
