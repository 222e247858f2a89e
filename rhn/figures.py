"""What figures of this toolkit share: their colours, their style, and how they are written."""

import io
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING
from zlib import crc32

from rhn.files import atomic_path
from rhn.made import command, made_with

if TYPE_CHECKING:
    from matplotlib.figure import Figure, SubFigure

BLUE, ORANGE, GREEN, RED = "#0072B2", "#E69F00", "#009E73", "#D55E00"  # Okabe and Ito's: told apart by the colour-blind
PURPLE, SKY, GREY = "#CC79A7", "#56B4E9", "#666666"
SUFFIXES = (".png", ".svg", ".pdf")
TITLE_SIZE, CHARACTERS_AN_INCH = 10, 13  # of titles, at that size
LONGEST_NAME = 100  # characters of a figure's default name
STYLE = {
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
    """Within, matplotlib draws in our style, whatever a user's matplotlibrc says."""
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        yield


def save_figure(path: Path, draw: Callable[[], "Figure"], **options) -> None:
    """Draw in our style and write, atomically, with title, command and version in the file's metadata.

    options: those of `Figure.savefig`. Raises OutputError.
    """
    with our_style(), atomic_path(path) as temporary:
        figure = draw()
        _keep_mathematics_that_is(figure)
        figure.savefig(temporary, metadata=metadata(figure, path.suffix.lower()), **options)


def svg_text(draw: Callable[[], "Figure"]) -> str:
    """Draw in our style, as SVG whose words are text, on a transparent ground."""
    import matplotlib

    picture = io.StringIO()
    with our_style():
        figure = draw()
        _keep_mathematics_that_is(figure)
        matplotlib.rcParams["svg.fonttype"] = "none"
        figure.savefig(picture, format="svg", facecolor="none", metadata={"Date": None})
    return picture.getvalue()


def set_tooltips(artist, texts: Iterable[str]) -> None:
    """Texts that a report shows when the reader points at an artist: one for all of it, or one for each of its points."""
    artist.tooltips = list(texts)


def figure_name(*words: object) -> Path:
    """The default name of a figure, from all that changes it; words that are None or empty say nothing.

    >>> str(figure_name("swarm", "small", None, "by-depth"))
    'swarm-small-by-depth.png'
    """
    told = "-".join(str(word) for word in words if word not in (None, ""))
    name = re.sub(r"[^\w.-]+", "-", told)
    if len(name.encode()) > LONGEST_NAME or name != told:
        name = f"{name.encode()[:LONGEST_NAME].decode(errors='ignore')}-{crc32(told.encode(errors='replace')):08x}"
    return Path(f"{name.lstrip('.-')}.png")


def place(path: Path) -> str | None:
    """What tells a file or folder, in a default name, from others that are called the same: a checksum of its path; None in the
    current folder, and in runs/ there."""
    home, usual = path.resolve().parent, (Path.cwd(), Path("runs").resolve())
    return (
        None
        if home in usual or path.resolve() in usual
        else f"{crc32(str(path.resolve()).encode(errors='replace')):08x}"
    )


def titled(figure: "Figure | SubFigure", title: str, about: str = "", **options) -> None:
    """The figure's title: what it shows, and below, wrapped to its width, how that was made, with our version.

    about: initialisation, bias, seed and data, such as "uniform:0.04, seed 0; chorale bwv269".
    options: those of `Figure.suptitle`.
    """
    width = figure.bbox.width / figure.figure.dpi * CHARACTERS_AN_INCH
    told = (title, "; ".join(filter(None, (about, made_with()))))
    lines = [line for words in told for line in wrap(words, int(width), break_on_hyphens=False)]
    figure.suptitle("\n".join(map(drawable, lines)), **{"fontsize": TITLE_SIZE} | options)


def metadata(figure: "Figure", suffix: str) -> dict[str, str | None]:
    """What a figure's file says of itself, by the keys of its format: what it shows, the command that draws it, the version.

    Nothing that differs from one run to the next: the same command draws the same bytes.
    """
    title, told = " ".join(figure.get_suptitle().split()).replace(r"\$", "$"), command() or "drawn by the library"
    if suffix == ".svg":
        return {"Title": title, "Description": told, "Creator": made_with(), "Date": None}
    if suffix == ".pdf":
        return {"Title": title, "Subject": told, "Creator": made_with(), "CreationDate": None}
    return {"Title": title, "Description": told, "Software": made_with()}


def drawable(text: str) -> str:
    r"""A user's text as a figure can show it: characters that the font lacks as Python writes them, dollars not as mathematics.

    Names of files, data and architectures go through it wherever they are drawn; `titled` sees to it. Twice is as once.

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
    """What an axis of time says where steps have this unit.

    >>> time_label("tokens"), time_label("steps")
    ('time step (tokens)', 'time step')
    """
    return "time step" if unit == "steps" else f"time step ({drawable(unit)})"


def _keep_mathematics_that_is(figure: "Figure") -> None:
    """Texts between dollars that are no mathematics are shown as they stand: no name of a user's keeps a figure from being drawn."""
    from matplotlib.cbook import is_math_text
    from matplotlib.mathtext import MathTextParser
    from matplotlib.text import Text

    parser = MathTextParser("path")
    for text in figure.findobj(Text):
        try:
            for line in filter(is_math_text, text.get_text().split("\n")):
                parser.parse(line)
        except ValueError:
            text.set_parse_math(False)
