"""Colours, style, titles, axes and legends that all figures share, and the files of `--output`."""

import base64
import io
import math
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from html import escape
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING
from zlib import crc32

from rhn.errors import InvalidInputError
from rhn.utils.io import (
    atomic_path,
    check_output,
    made_with,
    real_path,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from matplotlib.ft2font import FT2Font

# Okabe and Ito's, for the colour-blind
BLUE, ORANGE, GREEN, RED = "#0072B2", "#E69F00", "#009E73", "#D55E00"
PURPLE, SKY, GREY = "#CC79A7", "#56B4E9", "#666666"
COLOURS, MARKERS = (BLUE, ORANGE, GREEN, RED, PURPLE, SKY, "black"), "osD^vPX*"  # of several series
SUFFIXES, NUMBERS = (".png", ".svg", ".pdf"), (".npz", ".json", ".csv")
SIZES = {"column": 3.25, "page": 6.75, "slide": 40 / 3}  # widths of figures, in inches
PAGE_HEIGHT, SLIDE_HEIGHT = 9.0, 7.5
FOOT = 10  # points of the foot of a figure, at most
BOLD = 1.18  # times the width of letters: bold ones
LONGEST_NAME = 100  # characters of a figure's default name
NO_DATE = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}  # metadata of files
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
_texts: ContextVar[tuple[str | None, bool]] = ContextVar("_texts", default=(None, True))


@contextmanager
def our_style(figure: str | float | None = None) -> Iterator[None]:
    """Return a context in which matplotlib draws in our style, independently of the user's
    matplotlibrc.

    figure: the width of figures, see `inches_of`. None: the width of an outer `our_style`, or each
    figure's own width.
    """
    import matplotlib

    token = _chosen.set(_chosen.get() if figure is None else inches_of(figure))
    inches = _chosen.get() or 10
    # 7 in a column; from the last row of a lecture hall one reads 16
    points = 16 if inches > 12 else min(9, 6 + inches / 3.25)
    dots = 144 if inches > 12 else 160  # a slide has 1,920 by 1,080 points
    small = dict.fromkeys(("legend.fontsize", "xtick.labelsize", "ytick.labelsize"), points - 1)
    large = {"font.size": points, "axes.titlesize": points, "figure.titlesize": points + 1}
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE | small | large | {"savefig.dpi": dots})
        try:
            yield
        finally:
            _chosen.reset(token)


@contextmanager
def our_texts(title: str | None = None, *, footer: bool = True) -> Iterator[None]:
    """Return a context in which figures have this title instead of their own, or no footer."""
    token = _texts.set((title, footer))
    try:
        yield
    finally:
        _texts.reset(token)


def fold_to_axes(ax) -> None:
    """Fold the title and the labels of a caller's axes to the width and height of the axes. The
    title is placed where matplotlib's current style places it.
    """
    width, height = ax.bbox.size / ax.figure.dpi
    if title := ax.get_title("left") or ax.get_title():
        ax.set_title("", loc="left")
        ax.set_title(folded(title, width, ax.title.get_fontsize()))
    for axis, inches in ((ax.xaxis, width), (ax.yaxis, height)):
        label = folded(axis.get_label_text(), inches, axis.label.get_fontsize())
        axis.set_label_text(label)


def mark_step(ax, step: int) -> None:
    """Mark a time step in curves over time."""
    ax.axvline(step, color=GREY, linewidth=0.8, linestyle=":", zorder=0)


def set_limit(ax, limit: float) -> None:
    """Set the limits of axes. In the complex plane they show the square of half width `limit`
    around 0. A value axis ends at `limit`, and begins at -`limit` if there are negative values.
    """
    if ax.get_aspect() == 1:
        ax.set(xlim=(-limit, limit), ylim=(-limit, limit))
    else:
        low, _ = ax.get_ylim()
        ax.set_ylim(-limit if low < 0 else min(low, limit / 10), limit)


def add_legend(ax) -> None:
    """Give a caller's axes a legend, if they have several named curves and no legend yet."""
    _, labels = ax.get_legend_handles_labels()
    if len(labels) > 1 and not ax.get_legend():
        ax.legend()


def remove_legends(drawing) -> None:
    """Remove the legends from axes or a figure."""
    from matplotlib.legend import Legend

    for artist in drawing.findobj(lambda found: isinstance(found, Legend)):
        artist.remove()


def inches_of(figure: str | float) -> float:
    """Return the width in inches of "column", "page", "slide", or a number of inches. Raises
    InvalidInputError.

    >>> inches_of("column"), inches_of("6.5")
    (3.25, 6.5)
    """
    try:
        inches = SIZES.get(str(figure)) or float(figure)
    except ValueError:
        inches = 0
    if not 2 <= inches <= 40:
        raise InvalidInputError(
            f"figure is {figure!r}: expected {', '.join(SIZES)}, or 2 to 40 inches"
        )
    return inches


def sized(width: float) -> float:
    """Return the width of figures that `our_style` chose, or `width` if it chose none."""
    return _chosen.get() or width


def highest() -> float:
    """Return the largest height in inches that a figure of the chosen width may have on its page or
    slide; infinite if no width was chosen.
    """
    inches = _chosen.get()
    if inches is None:
        return math.inf
    return SLIDE_HEIGHT if inches > 12 else PAGE_HEIGHT


def save_figure(
    path: Path, draw: Callable[[], "Figure"], figure: str | float | None = None
) -> None:
    """Draw a figure in our style and write it to a file, atomically, without a date.

    figure: the width, see `our_style`. Raises OutputError.
    """
    with our_style(figure), atomic_path(path) as temporary:
        draw().savefig(temporary, metadata=NO_DATE.get(path.suffix.lower()))


@dataclass(frozen=True)
class Outputs:
    """The files of `--output`."""

    figures: list[Path]
    others: list[Path]
    size: str | None
    """Width of the figures, see `our_style`."""
    title: str | None = None
    """Title of the figures, see `our_texts`."""
    footer: bool = True
    """True if figures have a footer."""

    @classmethod
    def of(cls, options, default: Path | None, suffixes: tuple[str, ...] = NUMBERS) -> "Outputs":
        """Return the files that the options name, or the default figure. Raises InvalidInputError
        or OutputError.
        """
        files = options.output or [path for path in (default,) if path]
        for path in files:
            check_output(path, (*SUFFIXES, *suffixes))
        figures = [path for path in files if path.suffix.lower() in SUFFIXES]
        others = [path for path in files if path not in figures]
        return cls(figures, others, options.figure, options.title, options.footer)

    def __str__(self) -> str:
        """Return a line of text for each file."""
        figures = [f"figure: {path}" for path in self.figures]
        return "\n".join([*figures, *(f"file: {path}" for path in self.others)])

    def write(self, draw: Callable[[], "Figure"], save: Callable[[Path], object]) -> None:
        """Draw the figures with `draw`, and write the other files with `save`."""
        with our_style(self.size), our_texts(self.title, footer=self.footer):
            for path in self.figures:
                save_figure(path, draw)
            for path in self.others:
                save(path)


def image(draw: Callable[[], "Figure"], label: str) -> str:
    """Draw a figure in our style, and return it as an HTML element that contains the picture. On a
    narrow screen it is shown up to 30 % smaller.
    """
    picture = io.BytesIO()
    with our_style():
        figure = draw()
        figure.savefig(picture, format="webp", pil_kwargs={"lossless": True})
    width, encoded = 96 * figure.get_figwidth(), base64.b64encode(picture.getvalue()).decode()
    style = f"width: {width:.0f}px; max-width: max(100%, {0.7 * width:.0f}px)"
    return f'<img alt="{escape(label)}" style="{style}" src="data:image/webp;base64,{encoded}">'


def figure_name(*words: object) -> Path:
    """Return the default name of a figure, made from `words`: all options that change the figure.
    None and empty words are left out.

    >>> str(figure_name("swarm", "small", None, "by-depth"))
    'swarm-small-by-depth.png'
    """
    whole = "-".join(str(word) for word in words if word not in (None, ""))
    name = re.sub(r"[^\w.-]+", "-", whole)
    if len(name.encode()) > LONGEST_NAME or name != whole:
        # a checksum keeps names apart that were changed
        beginning = name.encode()[:LONGEST_NAME].decode(errors="ignore")
        name = f"{beginning}-{crc32(whole.encode(errors='replace')):08x}"
    return Path(f"{name.lstrip('.-')}.png")


def place(path: Path) -> str | None:
    """Return the name of a file's folder, for a default name; None if that is the current folder or
    its subfolder runs/.
    """
    file, usual = real_path(path), (Path.cwd(), real_path(Path("runs")))
    return None if file.parent in usual or file in usual else file.parent.name


def titled(figure: "Figure", title: str, about: str = "") -> None:
    """Set the title of a figure, and a small footer with its origin and our version. Title and
    footer are wrapped to the figure's width. `our_texts` changes them.

    about: initialisation, bias, seed and data, such as "uniform:0.04, seed 0; chorale bwv269".
    """
    from matplotlib import rcParams

    (chosen, footer), points = _texts.get(), rcParams["font.size"]
    inches, left = figure.get_figwidth() - 0.1, {"x": 0.04 / figure.get_figwidth(), "ha": "left"}
    title = title if chosen is None else chosen
    figure.suptitle(folded(drawable(title), inches, BOLD * (points + 1)), **left)
    if footer:
        words, small = "; ".join(filter(None, (about, made_with()))), min(max(6, points - 2), FOOT)
        figure.supxlabel(folded(drawable(words), inches, small), fontsize=small, color=GREY, **left)


def drawable(text: str) -> str:
    r"""Escape a user's text for a figure. Characters that the font lacks are written as in Python;
    dollars are escaped, so that they do not start mathematics.

    Use it for names of files, data and architectures; `titled` calls it. A second call changes
    nothing.

    >>> print(drawable("naïve 字 $x$"))
    naïve \u5b57 \$x\$
    """
    from matplotlib.font_manager import FontProperties, findfont, get_font

    font = get_font(findfont(FontProperties()))

    def shown(character: str) -> str:
        if character.isprintable() and font.get_char_index(ord(character)):
            return character
        return character.encode("unicode_escape").decode()

    return re.sub(r"(?<!\\)\$", r"\\$", "".join(map(shown, text)))


def time_label(unit: str, what: str = "time step") -> str:
    """Return the label of a time axis, with the unit of a time step.

    >>> time_label("tokens"), time_label("steps")
    ('time step (tokens)', 'time step')
    """
    return what if unit == "steps" else f"{what} ({drawable(unit)})"


LEAST = 7.0  # sizes of type in the least width of a line: about 12 letters
DPI, HINTED = 100, 1.06  # at which a line is measured, and how much its width varies with that


def folded(text: str, inches: float, size: float) -> str:
    """Fold each line of a title or label into lines of at most `inches`, for letters of `size`
    points.

    Lines with mathematics are not folded. A number is not separated from the word before it, and an
    escaped dollar is not split.

    >>> folded("the discs reach 0.777", 1.0, 9)
    'the discs\\nreach 0.777'
    """
    from matplotlib.font_manager import FontProperties, findfont, get_font

    font = get_font(findfont(FontProperties()))
    font.set_size(size, DPI)
    room, width_of = max(inches, LEAST * size / 72), partial(_line_width, font)
    joined = re.sub(r"(?<=\w) (?=-?\d)", "\xa0", text.replace(r"\$", "\0")).split("\n")
    lines = [line if "$" in line else _folded_line(line, room, width_of) for line in joined]
    return "\n".join(lines).replace("\0", r"\$").replace("\xa0", " ")


def _line_width(font: "FT2Font", line: str) -> float:
    """Return the width of a line in inches. A null character stands for an escaped dollar."""
    font.set_text(line.replace("\0", "$"))
    return HINTED * font.get_width_height()[0] / (64 * DPI)  # it counts in 1/64 of a dot


def _folded_line(line: str, inches: float, width_of: Callable[[str], float]) -> str:
    """Break a line at its spaces. A word that is wider than a line is broken within the word.

    >>> _folded_line("a longer example", 6, len)
    'a\\nlonger\\nexampl\\ne'
    """
    lines = [""]
    for word in line.split(" "):
        share = inches / max(width_of(word), 1e-9)
        pieces = [word] if share >= 1 else wrap(word, max(1, int(share * len(word))))
        for piece in pieces:
            longer = f"{lines[-1]} {piece}".strip(" ")
            if width_of(longer) <= inches:
                lines[-1] = longer
            else:
                lines.append(piece)
    return "\n".join(filter(None, lines))
