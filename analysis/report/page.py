"""The HTML of a report: sections of text, figures and tables in one file that needs no other.

Names from users and files are escaped. The Content-Security-Policy blocks every request, and every
script but page.js.
"""

import base64
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from importlib import resources
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

from gersgorin.analyses import figure_of
from rhn.utils.figures import image
from rhn.utils.io import atomic_path, finite_json, made_with

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from rhn.utils.result import Result

LONGEST = 200  # characters of a value
OPEN_ROWS = 12  # longer tables are folded


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows of texts and numbers by name of the column. A click on the name sorts. A long table
    shows only its caption before a click.
    """

    caption: str
    rows: Sequence[dict[str, str | float | int | None]]
    most: int = 100
    """Rows that are shown."""


@dataclass(frozen=True, kw_only=True)
class Section:
    """One part of the page: paragraphs, drawn figures, tables, and a sentence (`verdict`) for the
    head of the page.
    """

    title: str = ""
    text: Sequence[str] = ()
    verdict: str = ""
    figures: Sequence[Callable[[], "Figure"]] = ()
    tables: Sequence[Table] = ()


def section_of(result: "Result", title: str = "") -> Section:
    """Sentences, figure and table of a result; only the sentences if there are no numbers, such as
    gates of a cell without any.
    """
    text, rows = [*result.sentences()], result.table()
    if not rows:
        return Section(title=title, text=text)
    tables = [Table(caption="The numbers", rows=rows)]
    return Section(title=title, text=text, figures=[lambda: figure_of(result)], tables=tables)


def write_page(path: Path, title: str, sections: Sequence[Section], made: str) -> None:
    """Write an HTML file, atomically; made: its command, version and day. Raises OutputError."""
    with atomic_path(path) as temporary:
        temporary.write_text(page_html(title, sections, made), encoding="utf-8", errors="replace")


def page_html(title: str, sections: Sequence[Section], made: str) -> str:
    """The page as text."""
    script = _part("page.js")
    verdict = " ".join(filter(None, (section.verdict for section in sections)))
    links = [f'<a href="#section-{k}">{escape(s.title)}</a>' for k, s in enumerate(sections, 1)]
    return Template(_part("page.html")).substitute(
        title=escape(title),
        verdict=f'<p class="verdict">{escape(verdict)}</p>' if verdict else "",
        links="\n".join(links),
        sections="\n".join(_section(section, k) for k, section in enumerate(sections, 1)),
        made=escape(made),
        made_with=escape(made_with()),
        style=_part("page.css"),
        script=script,
        checksum="sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def _section(section: Section, number: int) -> str:
    figures = [
        f'<figure class="scrolls" tabindex="0">{image(draw, section.title)}</figure>'
        for draw in section.figures
    ]
    text = [f"<p>{escape(line)}</p>" for line in section.text]
    body = [f"<h2>{escape(section.title)}</h2>", *text, *figures, *map(_table, section.tables)]
    return "\n".join([f'<section id="section-{number}">', *body, "</section>"])


def _table(table: Table) -> str:
    caption, shown = table.caption, table.rows[: table.most]
    if len(shown) < len(table.rows):
        caption += f", the first {len(shown)} of {len(table.rows)} rows"
    caption = escape(caption)
    columns = list(dict.fromkeys(name for row in table.rows for name in row))
    names = (escape(name.replace("_", " ")) for name in columns)
    heads = "".join(f'<th scope="col"><button type="button">{name}</button></th>' for name in names)
    rows = "\n".join(
        f"<tr>{''.join(_cell(row.get(name)) for name in columns)}</tr>"
        for row in finite_json(shown)
    )
    details = "<details open>" if len(table.rows) <= OPEN_ROWS else "<details>"
    return (
        f"{details}\n<summary>{caption}</summary>\n"
        f'<div class="scrolls" tabindex="0" role="region" aria-label="{caption}">\n'
        f"<table>\n<thead><tr>{heads}</tr></thead>\n<tbody>\n{rows}\n</tbody>\n</table>\n</div>\n</details>"
    )


def _cell(value) -> str:
    """Format a cell: numbers have five digits, and all digits for sorting."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        shown = f"{value:,}" if isinstance(value, int) else f"{value:.5g}"
        return f'<td class="number" data-value="{value}">{shown}</td>'
    text = "" if value is None else str(value)
    return f"<td>{escape(text if len(text) <= LONGEST else f'{text[: LONGEST - 3]}...')}</td>"


def _part(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")
