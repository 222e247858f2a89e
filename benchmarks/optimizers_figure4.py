"""Count the settings that leave the plateau, and those that learn, under each optimizer.

    python -m benchmarks.optimizers_figure4 trials.csv

Prints the tables of the note as Markdown, then all shares with exact intervals of 95 % (Clopper and Pearson), the deep transitions
that left, and the learning rates at which each architecture left. p: Fisher's exact test of both deep transitions against the RHN,
of the same depths and optimizer, in brackets with Holm's correction over all tests of a table.
"""

import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from optim_study.results import Row, optimizers_of, read_csv
from optim_study.shares import BELOW, fisher, holm
from rhn.utils.binomial import exact_interval
from rhn.utils.wording import table

DEPTHS = ((1,), (2,), (4,), (6,), (4, 6))
ARCHITECTURES = (("rhn",), ("dt-rnn",), ("dts-rnn",), ("dt-rnn", "dts-rnn"))
HEADER = ("optimizer", "depth", "rhn", "dt-rnn", "dts-rnn", "dt-rnn and dts-rnn", "p (Holm)")
COUNTS = {"left": lambda row: row.left_epoch is not None, "learned": lambda row: row.best_train_nll < BELOW}


def selected(rows: Sequence[Row], optimizer: str, depths: Sequence[int], archs: Sequence[str]) -> list[Row]:
    """The rows of one optimizer, some depths and some architectures."""
    return [row for row in rows if row.optimizer == optimizer and row.depth in depths and row.arch in archs]


def share(count: int, total: int) -> str:
    """A share with its exact interval."""
    low, high = exact_interval(count, total)
    return f"{count} of {total} ({100 * low:.0f} to {100 * high:.0f} %)"


def counted(rows: Sequence[Row], counts: Callable[[Row], bool]) -> list[tuple[str, ...]]:
    """A row for each optimizer and depth, a column for each architecture and for both deep transitions together."""
    shares, tests = {}, []
    for optimizer in optimizers_of(row.network for row in rows):
        for depths in DEPTHS:
            groups = [selected(rows, optimizer, depths, archs) for archs in ARCHITECTURES]
            if all(groups):
                found = shares[optimizer, depths] = [(sum(map(counts, group)), len(group)) for group in groups]
                tests.append(fisher(found[0], found[-1]))
    return [
        (optimizer, " and ".join(map(str, depths)), *(share(*f) for f in found), f"{p:.1g} ({corrected:.1g})")
        for ((optimizer, depths), found), p, corrected in zip(shares.items(), tests, holm(tests), strict=True)
    ]


def main_table(rows: Sequence[Row]) -> list[tuple[str, ...]]:
    """Depths 4 and 6 together: RHNs, both deep transitions, and the test, of those that left and of those that learned."""
    return [
        (optimizer, name, rhn, both, p)
        for name, counts in COUNTS.items()
        for optimizer, depth, rhn, _, _, both, p in counted(rows, counts)
        if depth == "4 and 6"
    ]


def by_depth(rows: Sequence[Row]) -> list[tuple[str, ...]]:
    """Settings that left, settings that learned, and the best loss: RHN/DT-RNN/DT(S)-RNN, a column for each depth."""
    lines = []
    for optimizer in optimizers_of(row.network for row in rows):
        groups = {
            depth: [selected(rows, optimizer, (depth,), (arch,)) for arch in ("rhn", "dt-rnn", "dts-rnn")]
            for depth in (1, 2, 4, 6)
        }
        measures = {name: lambda group, counts=counts: sum(map(counts, group)) for name, counts in COUNTS.items()}
        measures["best loss"] = lambda group: f"{min(row.best_train_nll for row in group):.2f}"
        for name, measure in measures.items():
            cells = ["/".join(str(measure(group)) if group else "-" for group in three) for three in groups.values()]
            lines.append((f"{optimizer}, {name}", *cells))
    return lines


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    return "\n".join(f"| {' | '.join(line)} |" for line in (header, ["---"] * len(header), *rows))


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
    print(markdown(("optimizer", "depths 4 and 6", "RHN", "deep transitions", "p (Holm)"), main_table(trials)))
    print("", markdown(("RHN/DT-RNN/DT(S)-RNN", "depth 1", "2", "4", "6"), by_depth(trials)), sep="\n")
    for name, counts in COUNTS.items():
        print(f"\n{name}", table(HEADER, counted(trials, counts)), sep="\n")
    print("\ndeep transitions that left", learners(trials), sep="\n")
    print("\nlearning rates of those that left", rates(trials), sep="\n")
