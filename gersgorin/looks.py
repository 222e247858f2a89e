"""What figures of several networks, layers or moments share: lines told apart without colour, names in lines, what titles say once.

Without torch.
"""

import re
import textwrap
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from gersgorin.plots import entries
from gersgorin.shown import laid_out
from rhn.errors import InvalidInputError
from rhn.figures import BLUE, GREEN, ORANGE, PURPLE, RED, SKY, drawable, titled

COLOURS = (BLUE, ORANGE, GREEN, RED, PURPLE, SKY, "black")
DASHES = ("-", (0, (5, 2)), (0, (1, 1.2)), (0, (5, 1.5, 1, 1.5)))  # 7 and 4: the first 28 lines differ from each other
HANDLE, LETTERS = 0.7, 14  # of a legend: inches beside a text, letters in an inch
MARKERS = "osD^vPX*"


class Named(NamedTuple):
    """How several runs are called in one figure."""

    common: str
    """What their titles share."""
    about: str
    """What is shared of how they were made."""
    names: list[str]
    """What is left of each."""


def as_list(records) -> list:
    """One record, or several, as a list; raises InvalidInputError where there is none."""
    found = list(records) if isinstance(records, Iterable) else [records]
    if not found:
        raise InvalidInputError("there is nothing to draw: expected at least one record")
    return found


def line_style(k: int) -> dict:
    """Colour and dashes of the k-th of several lines."""
    return {"color": COLOURS[k % len(COLOURS)], "linestyle": DASHES[k % len(DASHES)]}


def shade_style(k: int, count: int) -> dict:
    """Shade, from dark to light, and dashes of the k-th of lines that have an order: layers, lengths."""
    return {"color": colormaps["viridis"](0.9 * k / max(1, count - 1)), "linestyle": DASHES[k % len(DASHES)]}


def wrapped(name: str, width: int, lines: int = 3) -> str:
    """A user's name as a figure can show it, in lines of at most so many characters; what is too long loses its end."""
    return folded(drawable(name), width, lines)


def folded(text: str, width: int, lines: int = 3) -> str:
    """A text of ours, which may hold mathematics, likewise."""
    found = textwrap.wrap(text, width)
    if len(found) > lines:
        found[lines - 1 :] = [found[lines - 1][: width - 4].rstrip() + " ..."]
    return "\n".join(found)


def told_apart(titles: Sequence[str], abouts: Sequence[str] = ()) -> Named:
    """What titles, and what is said of how the networks were made, have in common, and what is left of each.

    Alone, all is common. What a title says already is not said again.

    >>> told_apart(["rhn, depth 1, 64 units", "rhn, depth 5, 64 units"], ["seed 0; bwv269", "seed 0; bwv269"])
    Named(common='rhn, 64 units', about='seed 0, bwv269', names=['depth 1', 'depth 5'])
    >>> told_apart(["rhn, depth 5, 64 units", "irnn, 64 units"], ["bias -2, seed 0", "seed 0"])
    Named(common='64 units', about='seed 0', names=['rhn, depth 5, bias -2', 'irnn'])
    >>> told_apart(["rnn, init scaled:1", "rhn: rhn"], ["scaled:1", "rhn/best.safetensors"]).names
    ['rnn, init scaled:1', 'rhn']
    """
    heads = [list(dict.fromkeys(_words(title))) for title in titles]
    tails = [
        [word for word in _words(about) if not {word, f"init {word}", word.removesuffix("/best.safetensors")} & {*head}]
        for head, about in zip(heads, abouts or [""] * len(heads), strict=True)
    ]
    wholes = [head + tail for head, tail in zip(heads, tails, strict=True)]
    shared = [word for word in wholes[0] if all(word in whole for whole in wholes)]
    left = [[word for word in whole if word not in shared] for whole in wholes]
    said = [word for word in tails[0] if word in shared]
    if len(wholes) > 1 and not all(left):
        return Named("", ", ".join(said), [", ".join(head) for head in heads])
    common = [word for word in heads[0] if word in shared]
    return Named(", ".join(common), ", ".join(said), [", ".join(words) for words in left])


def titled_all(figure: Figure, named: Named, what: str) -> None:
    """The title of a figure of several runs: what they share and what is shown, then how they were made."""
    title = f"{named.common}, {what}" if named.common else what[:1].upper() + what[1:]
    titled(figure, drawable(title), drawable(named.about))


def complete(ax: Axes, title: str, about: str = "", *, columns: int = 2) -> Axes:
    """Axes that are a figure of their own: its title, and a legend below."""
    legend_below(ax.figure, [ax], columns=columns)
    titled(ax.figure, drawable(title), drawable(about))
    ax.figure.get_layout_engine().set(w_pad=0.08)  # inches: a heat map's labels need them
    laid_out(ax.figure)
    return ax


def legend_beside(ax: Axes, **options) -> None:
    """A legend to the right of axes, which it does not touch, where there is anything to tell apart."""
    handles, labels = entries(ax)
    if len(labels) > 1:
        place = {"loc": "center left", "bbox_to_anchor": (1.01, 0.5), "handlelength": 3}
        ax.legend(handles, [folded(label, 28, 2) for label in labels], **place | options)


def legend_below(figure: Figure | SubFigure, panels: Iterable[Axes], *, columns: int = 4) -> None:
    """One legend under a figure, in which everything stands once that its panels show, in as many columns as there is room for."""
    pairs = {label: handle for ax in panels for handle, label in zip(*entries(ax), strict=True)}
    if pairs:
        room = figure.bbox.width / figure.figure.dpi
        labels = [folded(label, int((room - 2 * HANDLE) * LETTERS), 2) for label in pairs]
        widths = [HANDLE + max(map(len, label.splitlines())) / LETTERS for label in labels]
        fitting = (n for n in range(min(columns, len(widths)), 1, -1) if _width(widths, n) <= room)
        place = {"loc": "outside lower center", "ncols": next(fitting, 1), "handlelength": 3}
        figure.legend(pairs.values(), labels, **place)


def _width(widths: list[float], columns: int) -> float:
    """Of a legend in so many columns, which are filled one after the other, each as wide as its widest entry."""
    return sum(max(part) for part in np.array_split(widths, columns))


def _words(title: str) -> list[str]:
    return [word for word in re.split(r"[,;:] ", title) if word]
