"""What the fair figure 4 comes to with its depths taken together: how many settings leave the plateau, and how many learn.

    python -m benchmarks.fair_figure4 trials.csv

Shares with exact intervals of 95 %, Fisher's exact test of the RHN against each deep transition within a region, and in brackets Holm's
correction over all tests of a table.
"""

import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from optim_study.results import Row, read_csv
from optim_study.shares import BELOW, REGIONS, WHOLE, fisher, holm, region
from rhn.utils.binomial import exact_interval
from rhn.utils.wording import table

USUAL = ("scaled", "orthogonal")
ARCHITECTURES = ("rhn", "dt-rnn", "dts-rnn")


def pooled(rows: Iterable[Row], counts: Callable[[Row], bool]) -> str:
    """A line a region, a column an architecture."""
    rows, lines, tests = list(rows), [], []
    for name in (*REGIONS, " or ".join(USUAL)):
        places = {WHOLE: REGIONS, " or ".join(USUAL): USUAL}.get(name, (name,))
        inside = [row for row in rows if region(row) in places]
        found = [[counts(row) for row in inside if row.arch == arch] for arch in ARCHITECTURES]
        if all(found):
            shares = [(sum(each), len(each)) for each in found]
            lines.append((name, shares))
            tests += [fisher(shares[0], other) for other in shares[1:]]
    corrected = iter(zip(tests, holm(tests), strict=True))
    header = [word for arch in ARCHITECTURES for word in (arch, *([] if arch == "rhn" else ["p (Holm)"]))]
    return table(("settings of", *header), [(name, *_cells(shares, corrected)) for name, shares in lines])


def _cells(shares, tests) -> list[str]:
    words = [
        f"{k} of {n} ({100 * low:.0f} to {100 * high:.0f} %)" for k, n in shares for low, high in [exact_interval(k, n)]
    ]
    p = ["{:.1g} ({:.1g})".format(*next(tests)) for _ in shares[1:]]
    return [words[0], words[1], p[0], words[2], p[1]]


if __name__ == "__main__":
    trials = read_csv(Path(sys.argv[1]))
    print("left the plateau", pooled(trials, lambda row: row.left_epoch is not None), sep="\n")
    print(f"\nbelow {BELOW:g} nats a frame", pooled(trials, lambda row: row.best_train_nll < BELOW), sep="\n")
