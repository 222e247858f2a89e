"""Section 5: which networks train with which settings (figure 4), and what depth is worth at equal
parameters (figure 5(a)). All numbers are of stored tables.
"""

import csv
from collections import defaultdict
from pathlib import Path

import numpy as np

from optim_study import TrialRow, plot_swarm, read_csv, training_shares
from optim_study.folder import rows_in
from optim_study.shares import Share
from paper.values import FIGURES, RESULTS, Value, student

FULL_SIZE, SMALL, BEGUN = "full-size.csv", "small-study.csv", "figure4"
PICTURE = "figure-4.png"


def share_of(share: Share) -> Value:
    """Return the share of trials that train in per cent, with its exact interval."""
    return 100 * share.share, 100 * share.low, 100 * share.high


def name_of(size: str, network: str) -> str:
    """Return `full_dt_rnn_4` for the network "dt-rnn, depth 4"."""
    arch, depth = network.split(", depth ")
    return f"{size}_{arch.replace('-', '_')}_{depth}"


def full_size() -> list[TrialRow]:
    """Return all trials of full size: those of five networks, and those of the networks that have
    begun.
    """
    return [*read_csv(RESULTS / FULL_SIZE), *rows_in(RESULTS / BEGUN)]


def draw(folder: Path = FIGURES) -> None:
    """Draw figure 4 from the trials of full size that are there."""
    plot_swarm(full_size()).savefig(folder / PICTURE)


def figure_4() -> dict[str, Value]:
    """Return the shares of trials that train, in per cent: full size, and small networks."""
    tables = {"full": read_csv(RESULTS / FULL_SIZE), "small": read_csv(RESULTS / SMALL)}
    shares = {
        name_of(size, share.network): share_of(share)
        for size, trials in tables.items()
        for share in training_shares(trials)
    }
    return {**shares, "begun": float(len(rows_in(RESULTS / BEGUN)))}


def perplexities(table: str) -> dict[str, list[float]]:
    """Return the validation perplexities of each run, by seed, of a table of depths."""
    found = defaultdict[str, list[float]](list)
    with (RESULTS / table).open(newline="") as file:
        for row in csv.DictReader(file):
            found[row["run"]].append(float(row["valid_perplexity"]))
    return found


def fall(table: str, depth: int) -> Value:
    """Return by how many per cent the perplexity of this depth is below that of depth 1, with
    Student's interval over seeds.
    """
    found = perplexities(table)
    first, deep = np.array(found["rhn-1"]), np.array(found[f"rhn-{depth}"])
    return student(100 * (first - deep) / first)


def figure_5a() -> dict[str, Value]:
    """Return falls of perplexity from depth 1 in per cent: few words, and all words."""
    return {
        "fall_to_5": fall("ptb-depth.csv", 5),
        "fall_to_8": fall("ptb-depth.csv", 8),
        "fall_to_5_all_words": fall("ptb-depth-whole.csv", 5),
    }


def rows() -> dict[str, Value]:
    """Return the numbers of figures 4 and 5(a), and draw figure 4."""
    draw()
    return {**figure_4(), **figure_5a()}
