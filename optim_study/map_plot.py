"""The map of a study's settings: learning rate against initial standard deviation, one panel for
each network. Needs neither torch nor Optuna.
"""

from collections.abc import Sequence

from matplotlib import rcParams
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.patches import Rectangle

from optim_study.protocol import LEARNING_RATES, PAPERS_STD, SCHEMES
from optim_study.results import TrialRow, by_network, distinct_trials
from optim_study.shares import BELOW, PAPERS_RANGE
from optim_study.swarm_plot import COLORS, TITLES, study_figure, wrapped
from rhn.training.state import Objective

MARKERS = dict(zip(SCHEMES, "o^Ds", strict=True))
PANEL, AROUND = 0.2, 0.14  # inches for each point of the letters: a panel, and what is around all
FILLED, RATE, DEVIATION = "filled: below", "learning rate", "initial standard deviation"


def plot_map(
    rows: Sequence[TrialRow],
    *,
    loss: Objective = "train",
    below: float = BELOW,
    size: str | float = "page",
    title: str | None = None,
    source: str = "",
) -> Figure:
    """Draw the settings of each trial, on a map of learning rate and initial standard deviation.
    The shape of a symbol shows the initialisation scheme. A symbol is filled if the loss of the
    trial is below `below`, in nats per frame. A box shows the range of Gaussian weights in the
    paper.

    size: "page", "column", "slide" or the width in inches. source: origin of the rows, for the
    footer.

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
    panels = by_network(rows)

    def draw(figure: SubFigure, width: float) -> float:
        points = rcParams["font.size"]
        most = max(1, int(width / (PANEL * points)))
        depths = len({row.depth for row in rows})
        columns = min(len(panels), depths if 1 < depths <= most else most)
        lines = -(-len(panels) // columns)
        grid = figure.subplots(lines, columns, squeeze=False, sharex=True, sharey=True)
        for ax in grid.ravel()[len(panels) :]:
            ax.remove()
        for k, (name, trials) in enumerate(panels.items()):
            ax, last = grid.flat[k], k + columns >= len(panels)
            _draw_panel(ax, trials, [row.loss(loss) < below for row in trials], below)
            ax.set_title(wrapped(name, 0.8 * width / columns, points), parse_math=False)
            ax.set(xlabel=RATE if last else "", ylabel="" if k % columns else DEVIATION)
            ax.tick_params(labelbottom=last)
        return points * (AROUND + 1.3 * PANEL * lines)

    return study_figure(draw, TITLES[loss].format(len(rows)), size, title, source)


def _draw_panel(
    ax: Axes, trials: Sequence[TrialRow], trained: Sequence[bool], below: float
) -> None:
    """Draw the trials by scheme; those that trained are filled and lie over the others."""
    (left, right), (bottom, top) = LEARNING_RATES[trials[0].optimizer], PAPERS_STD
    style: dict = {"facecolor": "0.94", "edgecolor": "0.6", "linewidth": 0.8, "zorder": 0.5}
    box = Rectangle((left, bottom), right - left, top - bottom, label=PAPERS_RANGE, **style)
    ax.add_patch(box)
    color = COLORS.get(trials[0].arch, "black")
    for scheme, marker in MARKERS.items():
        for full in (False, True):
            own = [
                row
                for row, good in zip(trials, trained, strict=True)
                if row.init_scheme == scheme and good == full
            ]
            place = [row.learning_rate for row in own], [row.init_std for row in own]
            face = color if full else "none"
            style = {
                "facecolors": face,
                "edgecolors": color if full else "0.45",
                "zorder": 1 + full,
            }
            ax.scatter(*place, s=22, marker=marker, linewidths=0.7, gid=scheme, **style)
        if any(row.init_scheme == scheme for row in trials):
            ax.plot([], [], marker, color="0.3", markerfacecolor="none", label=scheme)
    ax.plot([], [], "o", color="0.3", label=f"{FILLED} {below:g}")
    ax.set(xscale="log", yscale="log")
