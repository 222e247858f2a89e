"""Colours, style, sizes and files of figures. A file names the version, and the command or call
that drew the figure.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rhn.errors import InvalidInputError
from rhn.utils.io import atomic_path
from rhn.version import __version__

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

# Okabe and Ito's, for the colour-blind
BLUE, ORANGE, GREEN, RED = "#0072B2", "#E69F00", "#009E73", "#D55E00"
PURPLE, SKY, GREY = "#CC79A7", "#56B4E9", "#666666"
COLOURS = (BLUE, ORANGE, GREEN, RED, PURPLE, SKY, "black")  # of several series
FIGURE_SUFFIXES = (".png", ".svg", ".pdf")
SIZES = {"column": 3.25, "page": 6.75, "slide": 40 / 3}  # widths of figures, in inches
PAGE_HEIGHT, SLIDE_HEIGHT = 9.0, 7.5
SLIDE = 12  # inches: a slide is wider
SMALLEST = 7  # points of a text
PROGRAM = f"rhn-toolkit {__version__}"
STYLE: dict = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "axes.formatter.useoffset": False,  # "+1.2e1" at the corner of an axis is easily missed
    "figure.titleweight": "bold",
    "legend.columnspacing": 1.5,
    "legend.frameon": False,
    "pdf.fonttype": 42,  # embedded, and text stays text
    "svg.hashsalt": "rhn-toolkit",  # the same figure, the same bytes
}
_chosen: ContextVar[float | None] = ContextVar("_chosen", default=None)
command: ContextVar[str] = ContextVar("command", default="")
"""The command that runs; "" outside of commands."""


@contextmanager
def our_style(figure: str | float | None = None) -> Iterator[None]:
    """Return a context in which matplotlib draws in our style, independently of the user's
    matplotlibrc.

    figure: the width of figures, see `inches_of`. None: the width of an outer `our_style`, or each
    figure's own width.
    """
    import matplotlib

    token = _chosen.set(_chosen.get() if figure is None else inches_of(figure))
    inches = _chosen.get() or SLIDE
    # from the last row of a lecture hall one reads 16
    points = 16 if inches > SLIDE else max(SMALLEST, min(9, 6 + inches / 3.25))
    dots = 144 if inches > SLIDE else 160  # a slide has 1,920 by 1,080 points
    small = max(SMALLEST, points - 1)
    texts = dict.fromkeys(("legend.fontsize", "xtick.labelsize", "ytick.labelsize"), small)
    large = {"font.size": points, "axes.titlesize": points, "figure.titlesize": points + 1}
    large |= {"lines.linewidth": points / 6, "lines.markersize": points / 2}
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE | texts | large | {"savefig.dpi": dots})
        try:
            yield
        finally:
            _chosen.reset(token)


def inches_of(figure: str | float) -> float:
    """Return the width in inches of "column", "page", "slide", or a number of inches. Raises
    InvalidInputError.

    >>> inches_of("column"), inches_of("6.5")
    (3.25, 6.5)
    """
    try:
        inches = SIZES.get(str(figure)) or float(figure)
    except (TypeError, ValueError):
        inches = 0
    if not 2 <= inches <= 40:
        raise InvalidInputError(
            f"figure is {figure!r}: expected {', '.join(SIZES)}, or 2 to 40 inches"
        )
    return inches


def figure_width(part: "SubFigure | Axes") -> float:
    """The width of the whole figure, in inches."""
    return float(part.get_figure(root=True).get_figwidth())  # type: ignore[union-attr]


def call_text(name: str, **given: Any) -> str:
    """Return a call as text.

    >>> call_text("Gains.figure", size="page")
    "Gains.figure(size='page')"
    """
    return f"{name}({', '.join(f'{key}={value!r}' for key, value in given.items())})"


def metadata(kind: str, call: str) -> dict[str, str | None] | None:
    """Return the metadata of a file, without a date: the same figure gives the same bytes.

    kind: "png", "svg" or "pdf"; None for others. call: what drew the figure outside of commands.
    """
    origin = command.get() or call
    made = origin.encode(errors="backslashreplace").decode() or None  # names of files may be bytes
    return {
        "png": {"Software": PROGRAM, "Description": made},
        "svg": {"Creator": PROGRAM, "Description": made, "Date": None},
        "pdf": {"Creator": PROGRAM, "Subject": made, "CreationDate": None},
    }.get(kind)


def save_figure(
    path: Path, draw: Callable[[], "Figure"], figure: str | float | None = None
) -> None:
    """Draw a figure in our style and write it to a file, atomically.

    figure: the width, see `our_style`. Raises OutputError.
    """
    with our_style(figure), atomic_path(path) as temporary:
        draw().savefig(temporary)
