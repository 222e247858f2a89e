"""Maps of a study's settings: learning rate against initial standard deviation, one panel for each
network. Needs neither torch nor Optuna.

`plot_map` shows the losses as colours. `plot_area` shows the settings with which networks train,
and outlines the paper's range.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.transforms import ScaledTranslation

from optim_study.protocol import LEARNING_RATES, SCHEMES
from optim_study.results import (
    StudyNetwork,
    TrialRow,
    distinct_trials,
    range_words,
    study_about,
)
from optim_study.shares import BELOW, STD_RANGE, area_title
from optim_study.swarm_plot import COLORS, LABELS, networks_of
from rhn.plotting.old_figures import Block, colour_bar, compose
from rhn.training.state import Objective
from rhn.utils.old import counted, drawable

MARKERS = "os^Dv"
NO_GATES = "P"  # symbol of cells without transform gates
OFFSET = {"scaled": 3, "orthogonal": -3}  # points upwards: these have one standard deviation
NAMES = {"scaled": "scaled (1/sqrt(n))"}  # of schemes in a legend, if not their own
Symbols = dict[str, tuple[str, Any]]
"""Label -> (marker, the values of a row's field that it shows)."""
SHAPES: Symbols = {
    scheme: (marker, (scheme,)) for scheme, marker in zip(SCHEMES, "o^Ds", strict=True)
}


def plot_map(rows: Sequence[TrialRow], *, loss: Objective = "train", about: str = "") -> Figure:
    """Draw the loss of each trial as a colour, on a map of learning rate and initial standard
    deviation. Symbols show the initial transform biases, and crosses mark diverged trials.

    All panels have the same colour scale, which ends a little above the median loss. Losses above
    this end have the last colour of the scale.

    about: settings of the study and origin of the rows.

    Raises InvalidInputError without trials.

    >>> from optim_study import TrialRow
    >>> settings = {"learning_rate": 0.1, "init_std": 0.01, "transform_bias": -2.0}
    >>> losses = {"best_train_nll": 9.0, "best_valid_nll": 9.3, "test_nll": 9.4}
    >>> network = {"arch": "rhn", "depth": 2, "hidden_size": 8}
    >>> row = TrialRow(trial=0, epochs=50, diverged=False, **network, **settings, **losses)
    >>> isinstance(plot_map([row]), Figure)
    True
    """
    rows = distinct_trials(rows)
    panels, symbols = networks_of(rows), bias_symbols(rows)
    losses = np.array([row.loss(loss) for row in rows])
    colors = Normalize(losses.min(), 1.05 * np.median(losses))
    style: dict = {"s": 18, "edgecolor": "0.3", "linewidth": 0.3}
    style |= {"norm": colors, "cmap": "viridis_r"}

    def panel(network: StudyNetwork, trials: Sequence[TrialRow], ax: Axes) -> None:
        for label, marker, own in _of_each(symbols, "transform_bias", trials):
            ax.scatter(*_places(own), c=[row.loss(loss) for row in own], marker=marker, **style)
            _symbol(ax, marker, f"transform bias {label}" if label[-1].isdigit() else label, "0.8")
        if lost := [row for row in trials if row.diverged]:
            cross: dict = {"color": "black", "markersize": 5, "markeredgewidth": 0.8}
            ax.plot(*_places(lost), "x", label="diverged", **cross)
        ax.set_title(f"{drawable(network.title)}: {counted(len(trials), 'trial')}")

    worse = losses.max() > colors.vmax
    label = LABELS[loss] + (f"; the last colour: above {colors.vmax:.4g}" if worse else "")
    shades = ScalarMappable(colors, "viridis_r")
    bar = colour_bar(shades, label, extend="max" if worse else "neither")
    words = (
        f"Random search, {counted(len(rows), 'trial')}: the loss by learning rate and "
        "initial standard deviation"
    )
    return compose(words, study_about(rows, about), *_grid(panels, panel), bar)


def plot_area(
    rows: Sequence[TrialRow], *, loss: Objective = "train", below: float = BELOW, about: str = ""
) -> Figure:
    """Draw the settings with which networks train, on a map of learning rate and initial standard
    deviation. The shape of a symbol shows the initialisation scheme. A symbol is filled if the loss
    of the trial is below `below`, in nats per frame. A box shows the range of settings in the
    paper.

    about: settings of the study and origin of the rows.

    Raises InvalidInputError without trials.

    >>> from optim_study import TrialRow
    >>> settings = {"learning_rate": 0.1, "init_std": 0.01, "transform_bias": -2.0}
    >>> losses = {"best_train_nll": 9.0, "best_valid_nll": 9.3, "test_nll": 9.4}
    >>> network = {"arch": "rhn", "depth": 2, "hidden_size": 8}
    >>> row = TrialRow(trial=0, epochs=50, diverged=False, **network, **settings, **losses)
    >>> isinstance(plot_area([row]), Figure)
    True
    """

    rows = distinct_trials(rows)

    def trained(row: TrialRow) -> bool:
        return row.loss(loss) < below

    def panel(network: StudyNetwork, trials: Sequence[TrialRow], ax: Axes) -> None:
        _draw_box(network.optimizer, ax)
        _draw_schemes(trials, trained, COLORS.get(network.arch, "black"), ax)
        _symbol(ax, "o", f"filled: trained (below {below:g})", "0.3")
        ax.set_title(f"{drawable(network.title)}: {sum(map(trained, trials))} of {len(trials)}")

    blocks = _grid(networks_of(rows), panel)
    return compose(area_title(rows, loss, below), study_about(rows, about), *blocks)


def _draw_box(optimizer: str, ax: Axes) -> None:
    """Draw the range of settings in the paper, with the learning rates of this optimizer."""
    (left, right), (bottom, top) = LEARNING_RATES[optimizer], STD_RANGE
    label = "range of Gaussian deviations in the paper"
    label += "" if optimizer == "sgd" else f", rates for {optimizer}"
    style: dict = {"facecolor": "0.94", "edgecolor": "0.6", "linewidth": 0.8, "zorder": 0.5}
    ax.add_patch(Rectangle((left, bottom), right - left, top - bottom, label=label, **style))


def _draw_schemes(
    trials: Sequence[TrialRow], trained: Callable[[TrialRow], bool], color: str, ax: Axes
) -> None:
    """Draw the trials by scheme. Trials that trained are filled in this color and lie over the
    others. Schemes with the same standard deviation stand side by side.
    """
    inches = ax.figure.figure.dpi_scale_trans
    for scheme, marker, own in _of_each(SHAPES, "init_scheme", sorted(trials, key=trained)):
        ax.scatter(
            *_places(own),
            s=22,
            marker=marker,
            facecolors=[color if trained(row) else "none" for row in own],
            edgecolors=[color if trained(row) else "0.45" for row in own],
            linewidths=0.7,
            gid=scheme,
            transform=ax.transData + ScaledTranslation(0, OFFSET.get(scheme, 0) / 72, inches),
        )
        ax.update_datalim(np.column_stack(_places(own)))  # which points with an offset do not
        _symbol(ax, marker, NAMES.get(scheme, scheme), "none")


def bias_symbols(rows: Sequence[TrialRow]) -> Symbols:
    """Choose a symbol for each transform bias, or for bins of biases if there are many, and one for
    cells without gates. Returns label -> (marker, biases).

    >>> bias_symbols([])
    {}
    """
    values = sorted({row.transform_bias for row in rows if row.transform_bias is not None})
    bins = np.array_split(values, min(len(MARKERS), len(values))) if values else []
    symbols: Symbols = {
        range_words(part): (marker, part) for marker, part in zip(MARKERS, bins, strict=False)
    }
    if any(row.transform_bias is None for row in rows):
        symbols["no gates" if symbols else "trial of a cell without gates"] = NO_GATES, (None,)
    return symbols


def _grid(
    panels: dict[StudyNetwork, list[TrialRow]],
    panel: Callable[[StudyNetwork, Sequence[TrialRow], Axes], None],
) -> list[Block]:
    """Make a panel for each network; in a wide figure a row has the depths of one architecture."""

    def draw(network: StudyNetwork, trials: Sequence[TrialRow], ax: Axes) -> None:
        panel(network, trials, ax)
        ax.set(xscale="log", xlabel="learning rate")
        ax.set(yscale="log", ylabel="initial standard deviation")

    columns = len({network.depth for network in panels})
    return [Block([partial(draw, *row) for row in panels.items()], 2.1, columns, "xy", legend=True)]


def _of_each(
    symbols: Symbols, name: str, trials: Sequence[TrialRow]
) -> Iterator[tuple[str, str, list[TrialRow]]]:
    """Yield (label, marker, trials) for each symbol that these trials have."""
    for label, (marker, values) in symbols.items():
        if own := [row for row in trials if getattr(row, name) in values]:
            yield label, marker, own


def _places(trials: Sequence[TrialRow]) -> tuple[list[float], list[float]]:
    return [row.learning_rate for row in trials], [row.init_std for row in trials]


def _symbol(ax: Axes, marker: str, label: str, face: str) -> None:
    """Name a symbol in the legend."""
    ax.plot([], [], marker, label=label, markersize=5, markeredgecolor="0.3", markerfacecolor=face)
