"""The HTML of a report: sections of text, figures as SVG and tables, in one file that refers to nothing outside.

Names from users and files are escaped. The Content-Security-Policy blocks every request, and every script but page.js.
"""

import base64
import copy
import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from importlib import resources
from itertools import groupby
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from rhn.utils.file_marks import made_with
from rhn.utils.io import atomic_path, finite_json

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from rhn.utils.result import Result

LONGEST = 200  # characters of a value
MOST_ROWS = 100  # of a table from a result
OPEN_ROWS = 12  # longer tables are folded
MOST_TIPS = 4000  # points with tooltips in one figure
WIDE = 450  # points: wider figures scroll on a phone, and narrower ones shrink
WHITE = (1.0, 1.0, 1.0, 1.0)
SVG, XLINK = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}"
FONT = "DejaVu Sans, Verdana, sans-serif"  # two families of the same width
SHAPES = (f"{SVG}use", f"{SVG}path")
HINT = '<p class="hint" hidden>scroll sideways for more →</p>'


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows of texts and numbers; a click on the name of a column sorts."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str | float | int | None]]
    folded: bool = False
    """Whether only the caption is visible before a click."""


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A figure as SVG."""

    svg: ElementTree.Element
    caption: str = ""


@dataclass(frozen=True, kw_only=True)
class Section:
    """One part of the page."""

    title: str = ""
    text: Sequence[str] = ()
    """Paragraphs."""
    verdict: str = ""
    """One sentence for the head of the page."""
    pictures: Sequence[Picture] = ()
    tables: Sequence[Table] = ()


@dataclass(frozen=True, kw_only=True)
class Page:
    """The whole report."""

    title: str
    subtitle: str
    sections: Sequence[Section]
    made: str = ""
    """Command, version and day."""

    @property
    def verdict(self) -> str:
        """The verdicts of all sections, about three lines on a phone."""
        return " ".join(section.verdict for section in self.sections if section.verdict)


def section_of(result: "Result", title: str = "") -> Section:
    """Summary, figure and table of a result; of the table at most `MOST_ROWS` rows."""
    rows = result.table()
    columns = list(dict.fromkeys(name for row in rows for name in row))
    some = f", the first {MOST_ROWS} of {len(rows)} rows" if len(rows) > MOST_ROWS else ""
    table = Table(
        caption=f"The numbers{some}",
        columns=[name.replace("_", " ") for name in columns],
        rows=[[row.get(name) for name in columns] for row in rows[:MOST_ROWS]],
        folded=len(rows) > OPEN_ROWS,
    )
    drawn = len(columns) > 1  # the numbers of steps are all that a cell without gates has
    pictures = [picture(lambda: result.plot().figure.figure)] * drawn
    return Section(title=title, text=result.summary().splitlines(), pictures=pictures, tables=[table] * drawn)


def picture(draw: Callable[[], "Figure"], caption: str = "") -> Picture:
    """Draw a figure as SVG, with tooltips: labels of lines, and the texts of `rhn.utils.figures.set_tooltips`."""
    from matplotlib.legend import Legend
    from matplotlib.lines import Line2D

    from rhn.utils.figures import svg_text

    tips: dict[str, list[str]] = {}

    def marked() -> "Figure":
        figure = draw()
        for ax in figure.axes:
            ax.patch.set_visible(ax.get_facecolor() != WHITE)
        legends = [part for legend in figure.findobj(Legend) for part in legend.findobj()]
        for k, artist in enumerate(figure.findobj()):
            texts = getattr(artist, "tooltips", [])
            if isinstance(artist, Line2D) and not artist.get_label().startswith("_") and artist not in legends:
                texts = texts or list(filter(None, [artist.get_label()]))
            if texts and sum(map(len, tips.values())) + len(texts) <= MOST_TIPS:
                artist.set_gid(f"tip-{k}")
                tips[f"tip-{k}"] = texts
        return figure

    root = ElementTree.fromstring(svg_text(marked))
    groups = {element.get("id"): element for element in root.iter()}
    for name, texts in tips.items():
        if name in groups:  # hidden artists are not drawn
            _add_tips(groups[name], texts)
    _shrink(root)
    return Picture(svg=root, caption=caption)


def _add_tips(group: ElementTree.Element, texts: list[str]) -> None:
    """One text is the title of the whole group, several are those of its shapes in order."""
    targets = [group] if len(texts) == 1 else list(_shapes(group))
    for target, text in zip(targets, texts, strict=True):
        title = ElementTree.Element(f"{SVG}title")
        title.text = text
        target.insert(0, title)


def _shapes(group: ElementTree.Element) -> Iterator[ElementTree.Element]:
    for element in group:
        if element.tag in SHAPES:
            yield element
        elif element.tag != f"{SVG}defs":
            yield from _shapes(element)


def _shrink(root: ElementTree.Element) -> None:
    """Drop metadata, styles, unused ids and digits; let the page scale the figure."""
    for parent in list(root.iter()):
        for child in [c for c in parent if c.tag == f"{SVG}style" or not c.tag.startswith(SVG) or "metadata" in c.tag]:
            parent.remove(child)
        if parent.tag not in (f"{SVG}text", f"{SVG}tspan", f"{SVG}title"):
            parent.text = None
        parent.tail = parent.tail and parent.tail.strip()
        for name in ("d", "x", "y"):
            if name in parent.attrib:
                parent.set(name, re.sub(r"\d+\.\d{3,}", lambda match: f"{float(match[0]):.2f}", parent.get(name)))
        if "style" in parent.attrib:
            parent.set("style", re.sub(r"(px|pt) ['\"].*?(;|$)", rf"\1 {FONT}\2", parent.get("style")))
        if XLINK + "href" in parent.attrib:
            parent.set("href", parent.attrib.pop(XLINK + "href"))
    used = {name for element in root.iter() for value in element.attrib.values() for name in _references(value)}
    for element in root.iter():
        if element.get("id") not in used:
            element.attrib.pop("id", None)
    width = float(root.get("viewBox").split()[2])
    for name in ("width", "height", "version"):
        root.attrib.pop(name, None)
    root.set(
        "style", f"width: {width * 4 / 3:.0f}px; max-width: max(100%, {width * (1 if width > WIDE else 0.7):.0f}px)"
    )


def _references(value: str) -> list[str]:
    return [whole or part for whole, part in re.findall(r"^#(.+)$|url\(#(.+?)\)", value)]


def _svg(shown: Picture, number: int, label: str) -> str:
    """The SVG with ids that no other figure of the page has."""
    root = copy.deepcopy(shown.svg)
    for element in root.iter():
        for name, value in element.attrib.items():
            if name == "id":
                element.set(name, f"f{number}-{value}")
            elif name == "href":
                element.set(name, re.sub("^#", f"#f{number}-", value))
            else:
                element.set(name, value.replace("url(#", f"url(#f{number}-"))
    root.set("role", "img")
    root.set("aria-label", label)
    ElementTree.register_namespace("", SVG[1:-1])
    return ElementTree.tostring(root, encoding="unicode")


def write_page(page: Page, path: Path) -> None:
    """Write a page to an HTML file, atomically. Raises OutputError."""
    text = page_html(page)
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="replace")


def page_html(page: Page) -> str:
    """The page as text."""
    script = _part("page.js")
    sections, count = [], 0
    for k, section in enumerate(page.sections, 1):
        figures = [_figure(shown, count + j, section.title) for j, shown in enumerate(section.pictures)]
        count += len(figures)
        body = [_text(section.text), *figures, *map(_table, section.tables)]
        sections.append(
            "\n".join([f'<section id="section-{k}">', f"<h2>{escape(section.title)}</h2>", *body, "</section>"])
        )
    links = [f'<a href="#section-{k}">{escape(s.title)}</a>' for k, s in enumerate(page.sections, 1)]
    return Template(_part("page.html")).substitute(
        title=escape(page.title),
        subtitle=escape(page.subtitle),
        verdict=f'<p class="verdict">{escape(page.verdict)}</p>' if page.verdict else "",
        links="\n".join(links),
        sections="\n".join(sections),
        made=escape(page.made),
        made_with=escape(made_with()),
        style=_part("page.css"),
        script=script,
        checksum="sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def _text(lines: Sequence[str]) -> str:
    """A paragraph for each line; lines with aligned columns stay as they are."""
    parts = []
    for aligned, group in groupby(lines, key=lambda line: "   " in line):
        if aligned:
            block = escape("\n".join(group))
            parts.append(f'<div class="table scrolls" tabindex="0">{HINT}<pre>{block}</pre></div>')
        else:
            parts += [f"<p>{escape(line)}</p>" for line in group]
    return "\n".join(parts)


def _figure(shown: Picture, number: int, title: str) -> str:
    svg = _svg(shown, number, shown.caption or title)
    caption = f"<figcaption>{escape(shown.caption)}</figcaption>" if shown.caption else ""
    return f'<figure><div class="card scrolls" tabindex="0">{HINT}{svg}</div>{caption}</figure>'


def _table(table: Table) -> str:
    caption = escape(table.caption)
    heads = "".join(f'<th scope="col"><button type="button">{escape(name)}</button></th>' for name in table.columns)
    rows = "\n".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in finite_json(table.rows))
    return (
        f"<details{'' if table.folded else ' open'}>\n<summary>{caption}</summary>\n"
        f'<div class="table scrolls" tabindex="0" role="region" aria-label="{caption}">\n{HINT}\n'
        f"<table>\n<thead><tr>{heads}</tr></thead>\n<tbody>\n{rows}\n</tbody>\n</table>\n</div>\n</details>"
    )


def _cell(value) -> str:
    if value is None:
        return '<td class="number"></td>'
    if isinstance(value, int | float) and not isinstance(value, bool):
        return f'<td class="number" data-value="{value}">{in_words(value)}</td>'
    return f"<td>{escape(in_words(value))}</td>"


def in_words(value) -> str:
    """A value of a table: numbers with five digits, empty text for None.

    >>> in_words(0.123456789), in_words(None), in_words(1234), in_words("x")
    ('0.12346', '', '1,234', 'x')
    """
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, int | float):
        text = str(value)
        return text if len(text) <= LONGEST else text[: LONGEST - 3] + "..."
    return f"{value:,}" if isinstance(value, int) else f"{value:.5g}"


def _part(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")
