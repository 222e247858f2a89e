"""The damage of lesions: the numbers, their table, and figure 6 of Zilly et al. (2017). Does not
need torch.

    damage = loss of the lesioned network - loss of the whole one, in nats per predicted step
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np

from analysis.layer_results import (
    BEST_CONSTANT,
    ENDS,
    FRAMES,
    LAYER,
    LOSS,
    SEQUENCES,
    LayerResult,
    layer_ticks,
)
from analysis.lesion_modes import MODES
from rhn.utils.figures import BLUE, GREY, ORANGE
from rhn.utils.tables import formatted

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import SubFigure

MODE, LESIONED, NONE = "mode", "lesioned", "none"
DAMAGE, BEYOND = "damage", "beyond blind"
DAMAGE_FROM, DAMAGE_TO = "damage from", "damage to"
BEYOND_FROM, BEYOND_TO = "beyond blind from", "beyond blind to"
PAIRS = "two layers; diagonal: one layer"
UNITS = {"frame": "damage (nats per frame)", "token": "damage (nats per token)", "": DAMAGE}


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class LesionTable(LayerResult):
    """The losses of a network whose layers are lesioned in turn. The arrays have an entry for each
    lesioned network.

    Kinds of entries: "layer", "pair" (two layers are lesioned), "blind" (a control: a layer is
    kept, and only its input is removed), "beyond blind" (a layer compared with its control).

    >>> from analysis import lesion
    >>> from rhn import PolyphonicModel
    >>> found = lesion(PolyphonicModel("rhn", hidden_size=3, depth=2), [np.ones((5, 88))])
    >>> list(zip(found.row_kind, found.label))
    [('layer', '1'), ('layer', '2'), ('blind', '1'), ('beyond blind', '1')]
    """

    item: ClassVar[str] = LESIONED
    printed: ClassVar[tuple[str, ...]] = (BEST_CONSTANT,)
    texts: ClassVar[tuple[str, ...]] = (
        SEQUENCES, FRAMES, MODE, ENDS, BEST_CONSTANT, LESIONED, NONE, LOSS, DAMAGE, DAMAGE_FROM,
        DAMAGE_TO, BEYOND, BEYOND_FROM, BEYOND_TO, LAYER, PAIRS, *UNITS.values(),
        *(mode.label for mode in MODES.values()),
    )  # fmt: skip

    mode: str
    baseline: float
    """Loss of the unlesioned network: nats per predicted step, or the mean of the user's loss."""
    constant: float
    """Loss of the constant predictor with the lowest loss on these sequences; NaN with a loss of
    the user's.
    """
    sequences: int
    """Number of sequences."""
    frames: int
    """Number of predicted steps; 0 with a loss of the user's."""
    row_kind: tuple[str, ...]
    """Kind of each entry."""
    label: tuple[str, ...]
    """Lesioned layers of each entry, such as "1", "1.2" (cell 1, layer 2) or "1+3" (a pair)."""
    loss: Annotated[np.ndarray, "row"]
    """Loss of each network, as `baseline`."""
    delta: Annotated[np.ndarray, "row"]
    """Damage of each entry: the difference in loss from the unlesioned network, or for "beyond
    blind" from the control.
    """
    low: Annotated[np.ndarray, "row"]
    """Lower end of the 95 % interval of `delta` over sequences (`analysis.paired_interval`); `high`
    is the upper end. NaN for a single sequence, or a loss that is not finite.
    """
    high: Annotated[np.ndarray, "row"]
    lengths: Annotated[np.ndarray, "sequence"] | None = None
    """Number of predicted steps of each sequence (N,), in the given order without those of one
    step; ones with a loss of the user's. None, as for the sums, in files of 0.7.0.
    """
    baseline_sums: Annotated[np.ndarray, "sequence"] | None = None
    """Loss of the unlesioned network on each sequence (N,), in nats summed over its predicted
    steps, or the user's loss.
    """
    loss_sums: Annotated[np.ndarray, "row", "sequence"] | None = None
    """The same of each entry's network, (K, N): `loss` is their sum over the sequences, divided by
    that of `lengths`.
    """

    def of_kind(self, kind: str = "layer") -> dict[str, np.ndarray]:
        """Return loss, damage and the ends of its interval by label, for entries of one kind."""
        numbers = np.stack([self.loss, self.delta, self.low, self.high], 1)
        found = zip(self.row_kind, self.label, numbers, strict=True)
        return {label: row for own, label, row in found if own == kind}

    def title(self) -> list[str]:
        return [*super().title(), f"{MODE}: {MODES[self.mode].label}; {ENDS}"]

    def lesioned(self) -> dict[str, np.ndarray]:
        """Return loss, damage and the ends of its interval by label, of the unlesioned network and
        of those with one or two lesioned layers.
        """
        none = np.array([self.baseline, 0.0, 0.0, 0.0])
        return {NONE: none} | self.of_kind("layer") | self.of_kind("pair")

    def items(self) -> Sequence[str]:
        return [*self.lesioned()]

    def coordinates(self) -> Mapping[str, Any]:
        return {"row_kind": ("row", [*self.row_kind]), "label": ("row", [*self.label])}

    def table(self) -> Mapping[str, Any]:
        rows, beyond, none = self.lesioned(), self.of_kind("beyond blind"), np.full(4, np.nan)
        loss, damage, low, high = np.transpose([*rows.values()])
        _, more, more_low, more_high = np.transpose([beyond.get(label, none) for label in rows])
        return {
            LOSS: loss,
            DAMAGE: damage,
            DAMAGE_FROM: low,
            DAMAGE_TO: high,
            BEYOND: more,
            BEYOND_FROM: more_low,
            BEYOND_TO: more_high,
            BEST_CONSTANT: self.constant,
            SEQUENCES: self.sequences,
            FRAMES: self.frames or None,
        }

    def figure_title(self) -> str:
        numbers = f"{LOSS} {formatted(self.baseline)}, {BEST_CONSTANT} {formatted(self.constant)}"
        return f"{self.title_of_data()}\n{numbers}"

    def plot(self, ax: "Axes | None" = None) -> "Axes":
        """Draw the damage of each layer's lesion with its 95 % interval (figure 6), into these axes
        or new ones; diamonds are the blind controls.
        """
        from rhn.utils.composer import new_axes

        ax = new_axes() if ax is None else ax
        layers = self.of_kind()
        place = {label: x for x, label in enumerate(layers, start=1)}
        blind = {label: row for label, row in self.of_kind("blind").items() if label in place}
        _points(ax, [*place.values()], layers, fmt="o", color=BLUE, label=MODES[self.mode].label)
        if blind:
            beside = [place[label] + 0.2 for label in blind]
            _points(
                ax, beside, blind, fmt="D", color=ORANGE, label=MODES["blind"].label, mfc="white"
            )
        ax.axhline(0, color=GREY, linewidth=0.8, zorder=0)
        layer_ticks((*place,), ax.xaxis)
        ax.set(xlim=(0.5, len(place) + 0.5), ylabel=UNITS[self.step])
        ax.legend()
        return ax

    def draw(self, part: "SubFigure") -> float:
        from rhn.utils.composer import one_panel, pair

        if "pair" not in self.row_kind:
            return one_panel(part, self.plot)
        alone, both, height = pair(part)
        self.plot(alone)
        _plot_pairs(self, both)
        return height


def _plot_pairs(table: LesionTable, ax: "Axes") -> None:
    """Draw the damage of every pair of layers as an image, on the diagonal that of one layer."""
    alone, pairs = table.of_kind(), table.of_kind("pair")
    damage = np.diag([row[1] for row in alone.values()])
    places = itertools.combinations(range(len(alone)), 2)
    for (i, j), row in zip(places, pairs.values(), strict=True):
        damage[i, j] = damage[j, i] = row[1]
    shown = np.ma.masked_invalid(damage)
    low = min(0.0, float(shown.filled(0).min()))
    image = ax.imshow(shown, origin="lower", aspect="auto", cmap="viridis", vmin=low)
    for axis in (ax.xaxis, ax.yaxis):
        layer_ticks((*alone,), axis, 0)
    ax.set_title(PAIRS)
    ax.figure.colorbar(image, ax=ax, aspect=40, label=UNITS[table.step])


def _points(ax: "Axes", at: list, rows: Mapping[str, np.ndarray], **style: Any) -> None:
    """Draw damages with their intervals."""
    _, damage, low, high = np.transpose([*rows.values()])
    errors = np.clip([damage - low, high - damage], 0, None)
    ax.errorbar(at, damage, yerr=errors, markersize=5, linewidth=1.2, capsize=3, **style)
