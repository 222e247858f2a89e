"""The base class of results about the layers of a network. Does not need torch."""

from dataclasses import dataclass
from typing import ClassVar

from matplotlib.axis import Axis
from matplotlib.ticker import MaxNLocator

from rhn.utils.results import Result

SEQUENCES = "sequences"
FRAMES = "frames (of a text: tokens)"
BEST_CONSTANT = "constant predictor"
LAYER, LOSS = "layer", "loss"
ENDS = "from, to: 95 % interval over sequences"


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class LayerResult(Result):
    """Numbers of the layers of a network along some sequences."""

    page: ClassVar[str] = "docs/guides/gates-lesions.md"
    item: ClassVar[str] = LAYER
    """The head of the first column."""
    digits: ClassVar[str] = ".5g"

    network: str
    """The network in titles: its cells, depth and units."""
    data: str
    """Name of the data."""
    split: str
    """Split of the data; "" for sequences of no split."""
    step: str
    """The kind of a step: "frame", "token"; "" with a loss of the user's."""

    def title(self) -> list[str]:
        return [f"{self.title_of_data()}, {self.table()[SEQUENCES]} {SEQUENCES}"]

    def title_of_data(self) -> str:
        """Return the network, the data and their split."""
        return f"{self.network}; {self.data} {self.split}".strip()


def layer_ticks(labels: tuple[str, ...], axis: Axis, first: int = 1) -> None:
    """Label an axis with the names of as many layers as fit. first: position of the first layer."""
    named = dict(enumerate(labels, first))
    axis.set_major_locator(MaxNLocator("auto", integer=True, min_n_ticks=1))
    axis.set_major_formatter(lambda place, _: named.get(round(place), ""))
    axis.set_label_text(LAYER)
