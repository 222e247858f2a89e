"""The HTML of a report: sections of text, figures and tables, in one file that refers to nothing outside.

Names from users and files are escaped. The Content-Security-Policy blocks every request, and every script but page.js.
"""

import base64
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from importlib import resources
from itertools import groupby
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

from rhn.utils.figures import image
from rhn.utils.io import atomic_path, finite_json, made_with

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from rhn.utils.result import Result

LONGEST = 200  # characters of a value
MOST_ROWS = 100  # of a table from a result
OPEN_ROWS = 12  # longer tables are folded


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows of texts and numbers; a click on the name of a column sorts. Folded, only the caption is visible before a click."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str | float | int | None]]
    folded: bool = False


@dataclass(frozen=True, kw_only=True)
class Section:
    """One part of the page: paragraphs, drawn figures, tables, and a sentence (`verdict`) for the head of the page."""

    title: str = ""
    text: Sequence[str] = ()
    verdict: str = ""
    figures: Sequence[Callable[[], "Figure"]] = ()
    tables: Sequence[Table] = ()


@dataclass(frozen=True, kw_only=True)
class Page:
    """The whole report; `made` is its command, version and day."""

    title: str
    subtitle: str
    sections: Sequence[Section]
    made: str = ""


def section_of(result: "Result", title: str = "") -> Section:
    """Summary, figure and table of a result."""
    table = table_of(result.table(), "The numbers")
    if len(table.columns) < 2:  # the numbers of steps are all that a cell without gates has
        return Section(title=title, text=result.summary().splitlines())
    return Section(title=title, text=result.summary().splitlines(), figures=[result.figure], tables=[table])


def table_of(rows: Sequence[dict], caption: str, most: int = MOST_ROWS) -> Table:
    """The first rows of a table."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    return Table(
        caption=f"{caption}, the first {most} of {len(rows)} rows" if len(rows) > most else caption,
        columns=[name.replace("_", " ") for name in columns],
        rows=[[row.get(name) for name in columns] for row in rows[:most]],
        folded=len(rows) > OPEN_ROWS,
    )


def write_page(page: Page, path: Path) -> None:
    """Write a page to an HTML file, atomically. Raises OutputError."""
    text = page_html(page)
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="replace")


def page_html(page: Page) -> str:
    """The page as text."""
    script, verdict = _part("page.js"), " ".join(filter(None, (section.verdict for section in page.sections)))
    links = [f'<a href="#section-{k}">{escape(s.title)}</a>' for k, s in enumerate(page.sections, 1)]
    return Template(_part("page.html")).substitute(
        title=escape(page.title),
        subtitle=escape(page.subtitle),
        verdict=f'<p class="verdict">{escape(verdict)}</p>' if verdict else "",
        links="\n".join(links),
        sections="\n".join(_section(section, k) for k, section in enumerate(page.sections, 1)),
        made=escape(page.made),
        made_with=escape(made_with()),
        style=_part("page.css"),
        script=script,
        checksum="sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def _section(section: Section, number: int) -> str:
    figures = [
        f'<figure class="scrolls" tabindex="0">{image(draw, section.title)}</figure>' for draw in section.figures
    ]
    body = [f"<h2>{escape(section.title)}</h2>", *_text(section.text), *figures, *map(_table, section.tables)]
    return "\n".join([f'<section id="section-{number}">', *body, "</section>"])


def _text(lines: Sequence[str]) -> list[str]:
    """A paragraph for each line; lines with aligned columns stay as they are."""
    parts = []
    for aligned, group in groupby(map(escape, lines), key=lambda line: "   " in line):
        if aligned:
            parts.append('<pre class="scrolls" tabindex="0">' + "\n".join(group) + "</pre>")
        else:
            parts += [f"<p>{line}</p>" for line in group]
    return parts


def _table(table: Table) -> str:
    caption = escape(table.caption)
    heads = "".join(f'<th scope="col"><button type="button">{escape(name)}</button></th>' for name in table.columns)
    rows = "\n".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in finite_json(table.rows))
    return (
        f"<details{'' if table.folded else ' open'}>\n<summary>{caption}</summary>\n"
        f'<div class="scrolls" tabindex="0" role="region" aria-label="{caption}">\n'
        f"<table>\n<thead><tr>{heads}</tr></thead>\n<tbody>\n{rows}\n</tbody>\n</table>\n</div>\n</details>"
    )


def _cell(value) -> str:
    """A cell: numbers with five digits, and in full for sorting."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        shown = f"{value:,}" if isinstance(value, int) else f"{value:.5g}"
        return f'<td class="number" data-value="{value}">{shown}</td>'
    text = "" if value is None else str(value)
    return f"<td>{escape(text if len(text) <= LONGEST else f'{text[: LONGEST - 3]}...')}</td>"


def _part(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")
