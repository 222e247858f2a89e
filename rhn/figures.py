"""What figures of this toolkit share: their colours, their style, and how they are written."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rhn.files import atomic_path

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, RED = "#0072B2", "#E69F00", "#009E73", "#D55E00"  # Okabe and Ito's: told apart by the colour-blind
PURPLE, SKY, GREY = "#CC79A7", "#56B4E9", "#666666"
SUFFIXES = (".png", ".svg", ".pdf")
STYLE = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 9,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "savefig.dpi": 160,
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
    """Draw in our style and write, atomically; `options` are those of `Figure.savefig`. Raises OutputError."""
    with our_style(), atomic_path(path) as temporary:
        draw().savefig(temporary, **options)


def drawable(text: str) -> str:
    r"""A user's text as a figure can show it: characters that the font lacks as Python writes them, dollars not as mathematics.

    Names of files, data and architectures go through it wherever they are drawn.

    >>> print(drawable("naïve 字 $x$"))
    naïve \u5b57 \$x\$
    """
    from matplotlib.font_manager import FontProperties, findfont, get_font

    font = get_font(findfont(FontProperties()))
    shown = (
        c if c.isprintable() and font.get_char_index(ord(c)) else c.encode("unicode_escape").decode() for c in text
    )
    return "".join(shown).replace("$", r"\$")
