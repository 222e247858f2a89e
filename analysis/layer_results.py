"""The base class of results about the layers of a network. Does not need torch."""

from dataclasses import dataclass
from typing import Any, ClassVar

from matplotlib.axis import Axis
from matplotlib.ticker import MaxNLocator

from rhn.utils.results import Result
from rhn.utils.tables import formatted

DATA, SPLIT, SEQUENCES = "data", "split", "sequences"
FRAMES = "frames (of a text: tokens)"
BEST_CONSTANT = "constant predictor (best on these sequences)"
LAYER, LOSS = "layer", "loss"
HEADER = (DATA, SPLIT, SEQUENCES, FRAMES)
DIGITS = ".5g"


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class LayerResult(Result):
    """Numbers of the layers of a network along some sequences."""

    page: ClassVar[str] = "docs/guides/gates-lesions.md"
    item: ClassVar[str] = LAYER
    """The head of the first column."""
    columns: ClassVar[tuple[str, ...]] = ()
    """The heads of the columns of numbers."""

    network: str
    """The network in titles: its cells, depth and units."""
    data: str
    """Name of the data."""
    split: str
    """Split of the data; "" for sequences of no split."""
    step: str
    """The kind of a step: "frame", "token"; "" with a loss of the user's."""

    def title(self) -> list[str]:
        return [self.network]

    def header(self) -> dict[str, Any]:
        """Return the texts and numbers above the table, below data and split."""
        raise NotImplementedError

    def rows(self) -> list[tuple[Any, ...]]:
        """Return the rows of the table, each a label and numbers."""
        raise NotImplementedError

    def blocks(self) -> list[list[list[str]]]:
        header = [
            [name, (value or "-") if isinstance(value, str) else formatted(value, DIGITS)]
            for name, value in {DATA: self.data, SPLIT: self.split, **self.header()}.items()
        ]
        rows = [[label, *(formatted(n, DIGITS) for n in numbers)]
                for label, *numbers in self.rows()]  # fmt: skip
        return [header, [[self.item, *self.columns], *rows]]


def layer_ticks(labels: tuple[str, ...], axis: Axis, first: int = 1) -> None:
    """Label an axis with the names of as many layers as fit. first: position of the first layer."""
    named = dict(enumerate(labels, first))
    axis.set_major_locator(MaxNLocator("auto", integer=True, min_n_ticks=1))
    axis.set_major_formatter(lambda place, _: named.get(round(place), ""))
    axis.set_label_text(LAYER)
