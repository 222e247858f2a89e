"""The activity of a network's transform gates: the numbers, their table, and figure 5(b) of Zilly
et al. (2017). Does not need torch.

Legend: L layers, S sequences, T steps of a sequence (frames or tokens), N steps of all sequences
one after another.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from string import ascii_uppercase
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

import numpy as np

from analysis.layer_results import FRAMES, LAYER, SEQUENCES, LayerResult, layer_ticks
from rhn.utils.results import STEP
from rhn.utils.validation import unexpected

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import SubFigure

MEAN, BELOW, ABOVE, SUM = "mean", "share below 0.1", "share above 0.9", "sum of means"
GATE, CURVE_OF, SEQUENCE = "mean gate", "layer ", "sequence"
UNITS = {"frame": "quarter notes", "token": "tokens", "": "time steps"}
CURVES, MAP = "curves", "map"
KINDS = (CURVES, MAP)
"""The kinds of figures: a curve for each layer over time, or layers over time in colour."""
MAPS = 4  # sequences in a map, at least: those of figure 5(b); a column has fewer
PANEL = 2.3  # inches, with the tokens of a text
WORDS = 80  # tokens that fit below a time axis, at most
LONGEST_WORD = 12  # characters of a token below a time axis
VISIBLE = {"\n": "↵", " ": "␣"}


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class GateActivity(LayerResult):
    """The transform gates of each layer of a network, at each step of some sequences.

    >>> from analysis import gate_activity
    >>> from rhn import PolyphonicModel
    >>> found = gate_activity(PolyphonicModel("rhn", hidden_size=3, depth=2), np.ones((4, 88)))
    >>> found.activity.shape, found.labels  # (layers, frames)
    ((2, 4), ('1', '2'))
    """

    printed: ClassVar[tuple[str, ...]] = (SUM,)
    texts: ClassVar[tuple[str, ...]] = (
        SEQUENCES, FRAMES, LAYER, MEAN, BELOW, ABOVE, SUM, GATE, CURVE_OF, SEQUENCE,
        *UNITS.values(),
    )  # fmt: skip

    labels: tuple[str, ...]
    """Names of the layers: "1".."L", or "1.1", "1.2", "2.1", ... in stacked networks."""
    names: tuple[str, ...]
    """Names of the sequences."""
    lengths: np.ndarray
    """Number of steps of each sequence, (S,)."""
    activity: Annotated[np.ndarray, "layer", "step"]
    """Mean transform gate of each layer over its units, at each step, (L, N)."""
    open: Annotated[np.ndarray, "layer", "step"]
    """Share (0..1) of the units of each layer whose gate is above 0.9, at each step, (L, N)."""
    closed: Annotated[np.ndarray, "layer", "step"]
    """Share (0..1) of the units of each layer whose gate is below 0.1, at each step, (L, N)."""
    symbols: tuple[str, ...] = field(default=())
    """Token at each step of a text, (N,); empty for chorales."""
    shown: int = 2
    """Number of sequences, counted from the first, in the figure; a map shows four or more."""

    @property
    def sequences(self) -> list[Self]:
        """The gates of each sequence, as separate results."""
        ends = np.cumsum(self.lengths).tolist()
        return [
            replace(
                self,
                names=(name,),
                lengths=np.array([end - start]),
                activity=self.activity[:, start:end],
                open=self.open[:, start:end],
                closed=self.closed[:, start:end],
                symbols=self.symbols[start:end],
            )
            for name, start, end in zip(self.names, [0, *ends], ends, strict=False)
        ]

    @property
    def mean_by_layer(self) -> np.ndarray:
        """Mean gate of each layer over all steps and units, (L,)."""
        return self.activity.mean(1)

    def items(self) -> Sequence[str]:
        return [*self.labels]

    def coordinates(self) -> Mapping[str, Any]:
        return {"layer": self.items(), "sequence": ("step", np.repeat(self.names, self.lengths))}

    def by_step(self) -> Mapping[str, Sequence[Any]]:
        """Return the mean gate of each layer by sequence and step, from 0 in each sequence."""
        means = zip(self.labels, self.activity.tolist(), strict=True)
        return {
            SEQUENCE: np.repeat(self.names, self.lengths).tolist(),
            STEP: np.concatenate([np.arange(length) for length in self.lengths]).tolist(),
            **{f"{CURVE_OF}{label}": numbers for label, numbers in means},
        }

    def table(self) -> Mapping[str, Any]:
        return {
            MEAN: self.mean_by_layer,
            BELOW: self.closed.mean(1),
            ABOVE: self.open.mean(1),
            SUM: float(self.mean_by_layer.sum()),
            SEQUENCES: len(self.names),
            FRAMES: self.activity.shape[1],
        }

    def figure_title(self) -> str:
        return f"{self.title_of_data()}\n{SUM} {self.table()[SUM]:.3g}"

    def plot(self, ax: "Axes | None" = None) -> "Axes":
        """Draw the mean gate of each layer along the first sequence, into these axes or new ones.
        The tokens of a text stand below the axis if they fit.
        """
        from rhn.utils.composer import new_axes
        from rhn.utils.named_curves import over_steps, place_names

        one = self.sequences[0]
        curves = dict(zip((CURVE_OF + label for label in self.labels), one.activity, strict=True))
        ax = over_steps(new_axes() if ax is None else ax, curves, UNITS[self.step], GATE)
        ax.set_title(one.names[0], parse_math=False)
        ax.set(yscale="linear", ylim=(0, None))
        one._write_words(ax)
        return place_names(ax)

    def plot_map(self, ax: "Axes | None" = None) -> "Axes":
        """Draw the mean gates of the first sequence as a map of layers over time, from white at 0
        to red at 1, into these axes or new ones.
        """
        from rhn.utils.composer import new_axes
        from rhn.utils.named_curves import AXIS

        one = self.sequences[0]
        ax = new_axes() if ax is None else ax
        how: Any = {"origin": "lower", "aspect": "auto", "interpolation": "nearest"}
        ax.imshow(one.activity, cmap="Reds", vmin=0, vmax=1, **how)
        ax.set_title(one.names[0], parse_math=False)
        ax.set_xlabel(f"{AXIS} ({UNITS[self.step]})")
        layer_ticks(self.labels, ax.yaxis, 0)
        one._write_words(ax)
        return ax

    def _write_words(self, ax: "Axes") -> None:
        """Write the tokens of a text below the axis if they fit."""
        if self.symbols and len(self.symbols) <= WORDS:
            words = [VISIBLE.get(word, word)[:LONGEST_WORD] for word in self.symbols]
            ax.set_xticks(range(len(words)), words, rotation=90, parse_math=False)

    def draw(self, part: "SubFigure", kind: str = CURVES) -> float:
        """Draw the first sequences. kind: one of `KINDS`. Raises InvalidInputError."""
        if kind not in KINDS:
            raise unexpected("kind", kind, " or ".join(KINDS))
        return self._draw_maps(part) if kind == MAP else self._draw_curves(part)

    def _draw_curves(self, part: "SubFigure") -> float:
        from rhn.utils.composer import fitted

        each = self.sequences[: self.shown]
        for ax, one in zip(part.subplots(len(each), 1, sharey=True, squeeze=False)[:, 0], each,
                           strict=True):  # fmt: skip
            one.plot(ax)
        return fitted(part, 1 + len(each) * PANEL)

    def _draw_maps(self, part: "SubFigure") -> float:
        from rhn.utils.composer import STACKED, fitted
        from rhn.utils.figures import figure_width

        is_narrow = figure_width(part) < STACKED
        each = self.sequences[: self.shown if is_narrow else max(self.shown, MAPS)]
        panels = part.subplots(len(each), 1, squeeze=False)[:, 0]
        for number, (ax, one) in enumerate(zip(panels, each, strict=True)):
            one.plot_map(ax)
            letter = ascii_uppercase[number % len(ascii_uppercase)]
            ax.set_title(f"{letter}: {one.names[0]}", parse_math=False)
        part.colorbar(panels[0].images[0], ax=panels, aspect=40, label=GATE)
        return fitted(part, 1 + len(each) * PANEL)
