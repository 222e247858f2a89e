"""Errors in words, and the sentences of a result in place of a figure."""

import math
import textwrap

from matplotlib.axes import Axes

from rhn.utils.result import Result

LETTERS = 12.5  # of size 8 in an inch
LARGEST = 1000.0  # error that is printed with two decimals
HUGE = 1e300  # error above which exp of a loss is cut off


def shown(error: float) -> str:
    """Return an error as in a table or a sentence; "-" if it is not finite.

    >>> shown(0.517), shown(100325708.4), shown(1e304), shown(math.inf)
    ('0.52', '1e+08', '>1e+300', '-')
    """
    if not math.isfinite(error):
        return "-"
    if error > HUGE:
        return f">{HUGE:g}"
    return f"{error:.2f}" if error < LARGEST else f"{error:.3g}"


def write_sentences(result: Result, ax: Axes) -> None:
    """Print the sentences of a result into axes."""
    figure = ax.get_figure(root=True)
    wide = int(LETTERS * (result.width if figure is None else figure.get_figwidth()))
    lines = [textwrap.fill(words, wide) for words in result.sentences() if words]
    ax.text(0.0, 0.5, "\n\n".join(lines), va="center", size=8, transform=ax.transAxes)
    ax.set_axis_off()
