"""Do spectra at the start say which settings train?

The trials of two small studies, and their networks before training. The initial weights follow from
the seed of a trial, so nothing is trained here. Each network reads the first frames of the first
training chorale. A measure is a number of the untrained network, or a setting; its AUC is the share
of pairs in order (`paper.pair_order`). `paper.predictions` has what was expected of the second
study before it was trained.
"""

import csv
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure, SubFigure

import gersgorin
from gersgorin.analyses.gains import Gains
from gersgorin.analyses.spectra import Spectra
from optim_study import TrialRow, read_csv, small
from optim_study.backend import chorales_of_study, models_of_trials
from optim_study.results import by_network
from optim_study.shares import BELOW
from paper.pair_order import Chosen, Order, pair_order, same_network, two_networks
from paper.predictions import (
    ABOVE,
    BETWEEN,
    BETWEEN_FAST,
    MOST_BEYOND_THE_NAME,
    PREDICTED,
    WITHIN,
    WITHIN_FAST,
)
from paper.values import FIGURES, RESULTS, Value
from rhn.errors import DataError
from rhn.utils.composer import composed, legend_above
from rhn.utils.figures import BLUE, RED, save_figure

FRAMES = 32
FAST = 0.1  # learning rate
FIRST, HELD_OUT = "first", "held out"
STUDIES = {FIRST: "small-study.csv", HELD_OUT: "small-study-seed-1.csv"}
COLORS = {FIRST: BLUE, HELD_OUT: RED}
TABLE, PICTURE = RESULTS / "settings-that-train.csv", "settings-that-train.png"
RATE, RADIUS, NAME = "learning rate", "spectral radius", "is an RHN"
POOLED = (WITHIN, BETWEEN, WITHIN_FAST, BETWEEN_FAST)
COLUMNS = ("study", "pairs", "measure", "auc", "from", "to", "number of pairs")


class Start(NamedTuple):
    """A trial, and what its untrained network does on a chorale."""

    trial: TrialRow
    spectra: Spectra
    gains: Gains


def bias_of(trial: TrialRow) -> float:
    """Return the initial transform bias; NaN without gates."""
    return np.nan if trial.transform_bias is None else trial.transform_bias


MEASURES: dict[str, Callable[[Start], float]] = {
    RADIUS: lambda s: float(np.median(s.spectra.spectral_radius)),
    "row discs": lambda s: float(np.median(s.spectra.row_reach)),
    "column discs": lambda s: float(np.median(s.spectra.column_reach)),
    "2-norm": lambda s: float(np.median(s.spectra.norm)),
    "growth of the product": lambda s: float(s.spectra.finite_time_exponent[-1]),
    "input gain": lambda s: float(np.median(s.gains.input)),
    RATE: lambda s: s.trial.learning_rate,
    "deviation": lambda s: s.trial.init_std,
    "transform bias": lambda s: bias_of(s.trial),
    NAME: lambda s: float(s.trial.arch == "rhn"),
}
"""Measures by name: medians over the time steps, the growth rate over all steps, and settings."""


class Trials(NamedTuple):
    """Values of each measure, whether a trial trains, and the network of a trial."""

    values: dict[str, np.ndarray]
    trains: np.ndarray
    networks: list[str]

    def some(self, which: np.ndarray) -> "Trials":
        """Return some of the trials."""
        values = {name: v[which] for name, v in self.values.items()}
        networks = [n for n, kept in zip(self.networks, which, strict=True) if kept]
        return Trials(values, self.trains[which], networks)


def starts(rows: Sequence[TrialRow]) -> list[Start]:
    """Build the untrained network of each trial of `small` studies, and measure it. Raises
    DataError if the settings of a row are not those that its seed draws.
    """
    corpus, found = chorales_of_study(None), list[Start]()
    x = torch.as_tensor(corpus.train[0][:FRAMES]).double()
    for row in rows:
        study = small(arch=(row.arch,), depth=(row.depth,), seed=row.seed)
        (config,) = study.studies(corpus.checksum)
        settings = config.settings(row.trial)
        drawn = settings.learning_rate, settings.init_std
        if not np.allclose(drawn, (row.learning_rate, row.init_std), rtol=1e-5):
            place = f"trial {row.trial} of {config.name}"
            raise DataError(f"{place} has other settings: expected those of seed {row.seed}")
        model = models_of_trials(config, {row.trial: settings})[row.trial]
        found.append(Start(row, gersgorin.spectra(model, x), gersgorin.gains(model, x)))
    return found


def trials_of(table: Path) -> Trials:
    """Measure the trials of a table of a study."""
    groups = by_network(read_csv(table))
    rows = [row for group in groups.values() for row in group]
    networks = [name for name, group in groups.items() for _ in group]
    measured = starts(rows)
    values = {name: np.array([of(s) for s in measured]) for name, of in MEASURES.items()}
    return Trials(values, np.array([row.best_train_nll < BELOW for row in rows]), networks)


def scopes(trials: Trials) -> dict[str, tuple[Trials, Chosen]]:
    """Return trials and pairs: of one network, of two, the same among trials with a learning rate
    of at least 0.1, and of each network.
    """
    fast, of = trials.some(trials.values[RATE] >= FAST), np.array(trials.networks)
    own = {
        network: (trials.some(of == network), same_network)
        for network in dict.fromkeys(trials.networks)
    }
    return {
        WITHIN: (trials, same_network),
        BETWEEN: (trials, two_networks),
        WITHIN_FAST: (fast, same_network),
        BETWEEN_FAST: (fast, two_networks),
        **own,
    }


Orders = dict[tuple[str, str, str], Order]
"""The AUC by study, pairs and measure."""


def orders(trials: dict[str, Trials]) -> Orders:
    """Compute the AUC of each measure; measures that are equal in all pairs are left out."""
    found = Orders()
    for study, every in trials.items():
        for scope, (some, chosen) in scopes(every).items():
            for name, values in some.values.items():
                order = pair_order(values, some.trains, some.networks, chosen)
                is_name_of_one_network = name == NAME and chosen is same_network
                if order.pairs and not is_name_of_one_network:
                    found[study, scope, name] = order
    return found


def write_orders(found: Orders, path: Path = TABLE) -> None:
    """Write a row for each AUC, with three decimals."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for key, order in found.items():
            shares = [f"{share:.3f}" for share in order[:3]]
            writer.writerow([*key, *shares, order.pairs])


def read_orders(path: Path = TABLE) -> Orders:
    """Read the table of `write_orders`."""
    found = Orders()
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            shares = (float(row["auc"]), float(row["from"]), float(row["to"]))
            order = Order(*shares, int(row["number of pairs"]))
            found[row["study"], row["pairs"], row["measure"]] = order
    return found


def is_right(order: Order, prediction: str) -> bool:
    """Return True if the interval lies above 0.5, or contains 0.5, as predicted."""
    if prediction == ABOVE:
        return order.low > 0.5
    return order.low <= 0.5 <= order.high


def outcomes(found: Orders) -> dict[tuple[str, str], bool]:
    """Return which predictions are right in the held-out study."""
    return {
        key: is_right(found[HELD_OUT, *key], prediction) for key, prediction in PREDICTED.items()
    }


def predicted(found: Orders) -> dict[str, Value]:
    """Count the predictions and those that are right, and return the difference between the AUC of
    the spectral radius and that of the name of the architecture.
    """
    right = outcomes(found)
    radius, name = (found[HELD_OUT, BETWEEN_FAST, measure].auc for measure in (RADIUS, NAME))
    return {
        "predictions": float(len(right)),
        "predictions_right": float(sum(right.values())),
        "radius_beyond_name": round(radius - name, 3),
        "radius_beyond_name_most": MOST_BEYOND_THE_NAME,
    }


def page_table(found: Orders) -> list[str]:
    """Return the lines of the page's table: a row for each measure and study."""
    lines = [
        "| measure | study | within | between | within, rate >= 0.1 | between, rate >= 0.1 |",
        "|---|---|---|---|---|---|",
    ]
    for name in MEASURES:
        for study in STUDIES:
            cells = []
            for scope in POOLED:
                order = found.get((study, scope, name))
                cells.append("-" if order is None else shares_text(order))
            lines.append(f"| {name} | {study} | {' | '.join(cells)} |")
    return lines


def shares_text(order: Order) -> str:
    """Return `0.944 (0.920 to 0.966)`: the decimals of the table of all AUC, not rounded again."""
    return f"{order.auc:.3f} ({order.low:.3f} to {order.high:.3f})"


def draw(found: Orders) -> Figure:
    """Draw the AUC of each measure with its interval."""
    title = "AUC of numbers of untrained networks"
    call = "paper.settings_that_train.draw()"
    return composed(partial(draw_orders, found=found), title, 10, call=call)


def draw_orders(part: SubFigure, found: Orders) -> float:
    """Draw a panel for each kind of pairs, with a color for each study. Returns the height in
    inches.
    """
    names = [*MEASURES]
    for ax, scope in zip(part.subplots(1, len(POOLED), sharey=True), POOLED, strict=True):
        ax.axvline(0.5, color="0.5", linewidth=1, zorder=0)
        for shift, (study, color) in zip((-0.15, 0.15), COLORS.items(), strict=True):
            shown = {n: found[study, scope, n] for n in names if (study, scope, n) in found}
            at = [names.index(name) + shift for name in shown]
            middle = np.array([order.auc for order in shown.values()])
            low = middle - [order.low for order in shown.values()]
            high = np.array([order.high for order in shown.values()]) - middle
            ax.errorbar(middle, at, xerr=(low, high), fmt="o", ms=4, color=color, label=study)
        ax.set(title=scope, xlim=(-0.05, 1.05), xlabel="AUC")
        ax.set(yticks=range(len(names)), yticklabels=names)
    ax.invert_yaxis()
    legend_above(part, [ax])
    return 4.0


def rows() -> dict[str, Value]:
    """Measure both studies; write the table of all AUC and draw the picture; return how many
    predictions are right.
    """
    found = orders({study: trials_of(RESULTS / table) for study, table in STUDIES.items()})
    write_orders(found)
    save_figure(FIGURES / PICTURE, partial(draw, found))
    return predicted(found)
