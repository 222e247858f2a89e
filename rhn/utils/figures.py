"""Colours, style, titles, axes, legends and metadata that all figures share, and the files of `--output`."""

import base64
import io
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING
from zlib import crc32

from rhn.errors import InvalidInputError
from rhn.utils.io import atomic_path, check_output, command, made_with

if TYPE_CHECKING:
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure, SubFigure

BLUE, ORANGE, GREEN, RED = "#0072B2", "#E69F00", "#009E73", "#D55E00"  # Okabe and Ito's, for the colour-blind
PURPLE, SKY, GREY = "#CC79A7", "#56B4E9", "#666666"
SUFFIXES, NUMBERS = (".png", ".svg", ".pdf"), (".npz", ".json", ".csv")
TITLE_SIZE, CHARACTERS_AN_INCH = 10, 13  # of titles, at that size
LONGEST_NAME = 100  # characters of a figure's default name
METADATA = {  # keys of title, command and version
    ".png": ("Title", "Description", "Software"),
    ".svg": ("Title", "Description", "Creator", "Date"),
    ".pdf": ("Title", "Subject", "Creator", "CreationDate"),
}
STYLE: dict = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 9,
    "axes.formatter.useoffset": False,  # "+1.2e1" at the corner of an axis is easily missed
    "legend.frameon": False,
    "legend.fontsize": 8,
    "savefig.dpi": 160,
    "svg.hashsalt": "rhn-toolkit",  # the same figure, the same bytes
}


@contextmanager
def our_style() -> Iterator[None]:
    """Let matplotlib draw in our style, whatever a user's matplotlibrc holds."""
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        yield


def save_figure(path: Path, draw: Callable[[], "Figure"], **options) -> None:
    """Draw in our style and write, atomically, with title, command and version in the file's metadata, but no date.

    options: those of `Figure.savefig`. Raises OutputError.
    """
    with our_style(), atomic_path(path) as temporary:
        figure = draw()
        title = " ".join(figure.get_suptitle().split()).replace(r"\$", "$")
        values = (title, command() or "drawn by the library", made_with(), None)
        figure.savefig(temporary, metadata=dict(zip(METADATA[path.suffix.lower()], values, strict=False)), **options)


@dataclass(frozen=True)
class Outputs:
    """The files of --output, which can be written."""

    figure: Path | None
    others: list[Path]

    @classmethod
    def of(cls, options, default: Path | None, suffixes: tuple[str, ...] = NUMBERS) -> "Outputs":
        """The figure that the options name, or the default, and files with other suffixes; raises InvalidInputError or OutputError."""
        others = [path for path in options.output if path.suffix.lower() not in SUFFIXES]
        figure, *more = [path for path in options.output if path not in others] or [default]
        if more:
            raise InvalidInputError(f"--output names {1 + len(more)} figures: expected one, with numbers beside it")
        for path in filter(None, (*others, figure)):
            check_output(path, (*SUFFIXES, *suffixes), force=options.force)
        return cls(figure, others)

    def write(self, draw: Callable[[], "Figure"], save: Callable[[Path], object]) -> None:
        """Draw the figure, and save the other files."""
        if self.figure:
            save_figure(self.figure, draw)
        for path in self.others:
            save(path)


def image(draw: Callable[[], "Figure"], label: str) -> str:
    """Draw in our style as an HTML element that refers to nothing outside, at most three tenths smaller on a narrow screen."""
    picture = io.BytesIO()
    with our_style():
        figure = draw()
        figure.savefig(picture, format="webp", pil_kwargs={"lossless": True})
    width, encoded = 96 * figure.get_figwidth(), base64.b64encode(picture.getvalue()).decode()
    style = f"width: {width:.0f}px; max-width: max(100%, {0.7 * width:.0f}px)"
    return f'<img alt="{escape(label)}" style="{style}" src="data:image/webp;base64,{encoded}">'


def figure_name(*words: object) -> Path:
    """The default name of a figure, from all options that change it; words that are None or empty are left out.

    >>> str(figure_name("swarm", "small", None, "by-depth"))
    'swarm-small-by-depth.png'
    """
    whole = "-".join(str(word) for word in words if word not in (None, ""))
    name = re.sub(r"[^\w.-]+", "-", whole)
    if len(name.encode()) > LONGEST_NAME or name != whole:  # a checksum keeps names apart that were changed
        name = f"{name.encode()[:LONGEST_NAME].decode(errors='ignore')}-{crc32(whole.encode(errors='replace')):08x}"
    return Path(f"{name.lstrip('.-')}.png")


def place(path: Path) -> str | None:
    """The name of a file's folder, for a default name; None in the current folder, and in runs/ there."""
    home, usual = path.resolve().parent, (Path.cwd(), Path("runs").resolve())
    return None if home in usual or path.resolve() in usual else home.name


def titled(figure: "Figure | SubFigure", title: str, about: str = "", **options) -> None:
    """Set the title of a figure and, below it, how it was made, with our version; both wrapped to its width.

    about: initialisation, bias, seed and data, such as "uniform:0.04, seed 0; chorale bwv269".
    options: those of `Figure.suptitle`.
    """
    width = figure.bbox.width / figure.figure.dpi * CHARACTERS_AN_INCH
    texts = map(drawable, (title, "; ".join(filter(None, (about, made_with())))))
    kept = (re.sub(r"(?<=\w) (?=-?\d)", "\xa0", text) for text in texts)  # a number beside its word
    lines = [line for text in kept for line in wrap(text, int(width), break_on_hyphens=False)]
    figure.suptitle("\n".join(lines).replace("\xa0", " "), **{"fontsize": TITLE_SIZE} | options)


def drawable(text: str) -> str:
    r"""Escape a user's text for a figure: characters that the font lacks as in Python, dollars so that they start no mathematics.

    Needed for names of files, data and architectures; `titled` calls it. Twice is as once.

    >>> print(drawable("naïve 字 $x$"))
    naïve \u5b57 \$x\$
    """
    from matplotlib.font_manager import FontProperties, findfont, get_font

    font = get_font(findfont(FontProperties()))
    shown = (
        c if c.isprintable() and font.get_char_index(ord(c)) else c.encode("unicode_escape").decode() for c in text
    )
    return re.sub(r"(?<!\\)\$", r"\\$", "".join(shown))


def time_label(unit: str) -> str:
    """The label of an axis of time, with the unit of a step.

    >>> time_label("tokens"), time_label("steps")
    ('time step (tokens)', 'time step')
    """
    return "time step" if unit == "steps" else f"time step ({drawable(unit)})"


FEW = 0.8  # decades; on shorter axes the numbers have equal steps
LETTER = 0.6  # width of a letter, in sizes of its type


def plain_log_ticks(axis: "Axis") -> None:
    """Label a logarithmic axis with plain numbers: powers of ten on many decades, also 2 and 5 on few, equal steps within one."""
    import numpy as np
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

    low, high = axis.get_view_interval()
    decades = np.log10(high / low)
    labelled = LogLocator(10, subs=(1, 2, 5) if decades < 3 else (1,), numticks=12)
    axis.set_major_locator(MaxNLocator(7) if decades < FEW else labelled)
    axis.set_minor_locator(NullLocator() if decades < FEW else LogLocator(10, subs=range(1, 10), numticks=12))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def in_inches(name: str, inches: float, size: float) -> str:
    """Escape a name for a figure and break it into lines of at most this width, for type of this size (points).

    >>> in_inches("a-long-name", 0.6, 9)
    'a-long-\\nname'
    """
    shown = drawable(name).replace(r"\$", "$")  # an escaped sign must not be cut in two
    lines = wrap(shown, max(3, int(72 * inches / (LETTER * size)))) or [shown]
    return "\n".join(lines).replace("$", r"\$")


def legend_columns(labels: Iterable, inches: float, size: float = 8) -> int:
    """The number of columns, each as wide as the longest entry, in which a legend fits.

    >>> legend_columns(["median", "best constant output (11.16)"], 6), legend_columns(["median", "diverged"], 1)
    (2, 1)
    """
    lengths = [len(label) for label in labels]
    entry = (LETTER * max(lengths) + 5) * size / 72  # with the handle and the gap
    return max(1, min(len(lengths), int(inches / entry)))
