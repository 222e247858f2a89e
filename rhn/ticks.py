"""Numbers along logarithmic axes as people write them, and names and legends that fit where they stand."""

import math
from collections.abc import Iterable, Sequence
from itertools import accumulate, pairwise
from textwrap import wrap
from typing import TYPE_CHECKING

from rhn.figures import drawable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

STEPS = (1, 2, 5)  # of numbers along a logarithmic axis
FEW = 0.8  # decades, in which numbers stand in equal steps
LETTER = 0.6  # width of a letter, in sizes of its type


def plain_log_ticks(axis: "Axis") -> None:
    """A logarithmic axis with plain numbers: of many decades powers of ten, of few also 2 and 5, within one equal steps."""
    import numpy as np
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

    low, high = axis.get_view_interval()
    decades = np.log10(high / low)
    subs = STEPS if decades < 3 else (1,)
    axis.set_major_locator(MaxNLocator(7) if decades < FEW else LogLocator(10, subs=subs, numticks=12))
    axis.set_minor_locator(NullLocator() if decades < FEW else LogLocator(10, subs=range(1, 10), numticks=12))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def log_ends(low: float, high: float) -> tuple[float, float]:
    """Where a logarithmic axis ends whose numbers, by `plain_log_ticks`, enclose all values from low to high, above 0."""
    from matplotlib.ticker import MaxNLocator

    low, high = low / 1.05, high * 1.05
    ticks = MaxNLocator(7).tick_values(low, high)
    if ticks[0] > 0 and math.log10(ticks[-1] / ticks[0]) < FEW:
        return float(ticks[0]), float(ticks[-1])
    ends = enclosing(low, high)
    return ends if FEW <= math.log10(ends[1] / ends[0]) < 3 else enclosing(low, high, (1,))


def enclosing(low: float, high: float, steps: Sequence[int] = STEPS) -> tuple[float, float]:
    """The numbers 1, 2 and 5 times a power of ten (or of other steps) next below low and above high, both above 0.

    >>> enclosing(3, 70), enclosing(3, 70, (1,)), enclosing(0.2, 0.2)
    ((2.0, 100.0), (1.0, 100.0), (0.2, 0.2))
    """
    numbers = [
        float(f"{step}e{power}")
        for power in range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 2)
        for step in steps
    ]
    return max(n for n in numbers if n <= low), min(n for n in numbers if n >= high)


def every_label(labels: Sequence[str], ax: "Axes", *, across: bool = False) -> int:
    """1 where an axes has room for all labels, 2 where for every second one, ...: one above another, or `across` beside each other."""
    size, box = ax.yaxis.label.get_fontsize(), ax.get_window_extent()
    each, room = (LETTER * (max(map(len, labels)) + 2), box.width) if across else (1.2, box.height)
    return math.ceil(each * size * len(labels) * ax.figure.dpi / 72 / room)


def in_inches(name: str, inches: float, size: float) -> str:
    """A name as a figure can show it, in lines so short that type of this size (points) keeps within a width.

    >>> in_inches("a-long-name", 0.6, 9)
    'a-long-\\nname'
    """
    shown = drawable(name).replace(r"\$", "$")  # an escaped sign must not be cut in two
    lines = wrap(shown, max(3, int(72 * inches / (LETTER * size)))) or [shown]
    return "\n".join(lines).replace("$", r"\$")


def legend_columns(labels: Iterable[str], inches: float, size: float = 8) -> int:
    """In how many columns the entries of a legend fit beside each other.

    >>> legend_columns(["median", "best constant output (11.16)"], 6), legend_columns(["median", "diverged"], 1)
    (2, 1)
    """
    widths = [(LETTER * size * len(label) + 5 * size) / 72 for label in labels]  # with the handle and the gap

    def width(columns: int) -> float:
        whole, more = divmod(len(widths), columns)  # the first columns have one more, as in matplotlib
        ends = [0, *accumulate(whole + (k < more) for k in range(columns))]
        return sum(max(widths[start:end]) for start, end in pairwise(ends))

    return next((columns for columns in range(len(widths), 1, -1) if width(columns) <= inches), 1)
