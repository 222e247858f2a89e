"""Do spectra at the start say which settings train?

The trials of a small study, and their networks before training. The initial weights follow from
the seed of a trial, so nothing is trained here. Each network reads the first frames of the first
training chorale. A measure is a number of the untrained network, or a setting; its AUC is the share
of ordered pairs (`paper.pair_order`).

    python -m paper.settings_that_train            # both studies, into docs/results and docs/figures
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure

import gersgorin
from gersgorin.analyses.gains import Gains
from gersgorin.analyses.spectra import Spectra
from optim_study import TrialRow, read_csv, small
from optim_study.backend import chorales_of_study, models_of_trials
from optim_study.results import by_network
from optim_study.shares import BELOW
from paper.pair_order import Order, pair_order, same_network, two_networks
from rhn.errors import DataError

RESULTS, FIGURES = Path("docs/results"), Path("docs/figures")
FRAMES = 32
FAST = 0.1  # learning rate
FIRST, HELD_OUT = "first", "held out"
STUDIES = {FIRST: "small-study.csv", HELD_OUT: "small-study-seed-1.csv"}
TABLE, PICTURE = "settings-that-train.csv", "settings-that-train.png"


class Start(NamedTuple):
    """A trial, and what its untrained network does on a chorale."""

    trial: TrialRow
    spectra: Spectra
    gains: Gains


MEASURES: dict[str, Callable[[Start], float]] = {
    "spectral radius": lambda s: float(np.median(s.spectra.spectral_radius)),
    "row discs": lambda s: float(np.median(s.spectra.row_reach)),
    "column discs": lambda s: float(np.median(s.spectra.column_reach)),
    "2-norm": lambda s: float(np.median(s.spectra.norm)),
    "growth of the product": lambda s: float(s.spectra.finite_time_exponent[-1]),
    "input gain": lambda s: float(np.median(s.gains.input)),
    "learning rate": lambda s: s.trial.learning_rate,
    "deviation": lambda s: s.trial.init_std,
    "transform bias": lambda s: (
        np.nan if s.trial.transform_bias is None else s.trial.transform_bias
    ),
    "is an RHN": lambda s: float(s.trial.arch == "rhn"),
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
        (config,) = small(arch=(row.arch,), depth=(row.depth,), seed=row.seed).studies(
            corpus.checksum
        )
        settings = config.settings(row.trial)
        drawn = settings.learning_rate, settings.init_std
        if not np.allclose(drawn, (row.learning_rate, row.init_std), rtol=1e-5):
            raise DataError(
                f"trial {row.trial} of {config.name}: expected the settings of its seed"
            )
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


def orders(trials: Trials) -> dict[tuple[str, str], Order]:
    """Compute the AUC by pairs and measure: of one network, of two, the same among trials with a
    learning rate of at least 0.1, and of each network with trials that train.
    """
    fast = trials.some(trials.values["learning rate"] >= FAST)
    of = np.array(trials.networks)
    scopes = {
        "within": (trials, same_network),
        "between": (trials, two_networks),
        f"within, rate >= {FAST}": (fast, same_network),
        f"between, rate >= {FAST}": (fast, two_networks),
    }
    for network in dict.fromkeys(trials.networks):
        scopes[network] = trials.some(of == network), same_network
    return {
        (scope, name): pair_order(values, some.trains, some.networks, chosen)
        for scope, (some, chosen) in scopes.items()
        for name, values in some.values.items()
    }
