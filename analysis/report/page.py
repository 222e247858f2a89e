"""The HTML of a report: sections of text, figures and tables in one file that needs no other file.

Names from users and files are escaped. The Content-Security-Policy blocks every request, and every
script but page.js.
"""

import base64
import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from importlib import resources
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

from gersgorin.analyses import figure_of
from gersgorin.run.run import Progress, silent
from rhn.utils.figures import image, our_texts
from rhn.utils.io import atomic_path, made_with

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from rhn.utils.result import Result

MOST_NUMBERS = 4  # at the head of the page
FOLDERS = re.compile(r"(?<![\w.:/<])/(?:[^\s/<>&'\"]+/)+")  # of an absolute path
LONGEST = 200  # characters of a value
OPEN_ROWS = 12  # longer tables are folded


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table of texts and numbers; a row is a dict from names of columns to values. A click on the
    name of a column sorts the rows. A long table shows only its caption until the user clicks on
    it.
    """

    caption: str
    rows: Sequence[dict[str, str | float | int | None]]
    most: int = 100
    """Largest number of rows that are shown."""


@dataclass(frozen=True, kw_only=True)
class Section:
    """One part of the page: paragraphs, figures, tables, and (name, number) pairs for the head of
    the page. The head shows the first four pairs of all sections.
    """

    title: str = ""
    text: Sequence[str] = ()
    numbers: Sequence[tuple[str, str]] = ()
    figures: Sequence[Callable[[], "Figure"]] = ()
    tables: Sequence[Table] = ()


def section_of(result: "Result", title: str = "") -> Section:
    """Make a section of the sentences, the figure and the table of a result, without columns that
    are NaN in every row. If the result has no numbers, the section has only the sentences.
    """
    text, rows = [*result.sentences()], result.table()
    if not rows:
        return Section(title=title, text=text)
    known = {name for row in rows for name, value in row.items() if value == value}  # not NaN
    rows = [{name: row[name] for name in row if name in known} for row in rows]
    tables = [Table(caption="The numbers", rows=rows)]
    return Section(title=title, text=text, figures=[lambda: figure_of(result)], tables=tables)


def write_page(
    path: Path,
    title: str,
    sections: Sequence[Section],
    made: str,
    progress: Progress = silent,
) -> None:
    """Write the page to an HTML file, atomically. Raises OutputError.

    made: a sentence with the version and the day.
    progress: called with (sections done, sections in all).
    """
    with atomic_path(path) as temporary:
        page = page_html(title, sections, made, progress)
        temporary.write_text(page, encoding="utf-8", errors="replace")


def page_html(
    title: str, sections: Sequence[Section], made: str, progress: Progress = silent
) -> str:
    """Return the page as text. A sentence that an earlier section has is not repeated, unless a
    section has nothing else.
    """
    script, said = _part("page.js"), set[str]()
    parts, numbers = list[str](), list[str]()
    for k, section in enumerate(sections, 1):
        text = [line for line in dict.fromkeys(section.text) if line not in said]
        if not (text or section.figures or section.tables):
            text = [*section.text]
        said.update(text)
        parts.append(_section(section, text, k))
        progress(k, len(sections))
        numbers += [f"<dt>{_safe(name)}</dt><dd>{_safe(n)}</dd>" for name, n in section.numbers]
    links = [f'<a href="#section-{k}">{_safe(s.title)}</a>' for k, s in enumerate(sections, 1)]
    return Template(_part("page.html")).substitute(
        title=_safe(title),
        numbers="\n".join(f"<div>{each}</div>" for each in numbers[:MOST_NUMBERS]),
        links="\n".join(links),
        sections="\n".join(parts),
        made=_safe(made),
        made_with=escape(made_with()),
        style=_part("page.css"),
        script=script,
        checksum="sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def _safe(text: str) -> str:
    """Escape a text for HTML, and remove the folders of the machine that made the page.

    >>> _safe("from /home/me/runs/a.pt & 1/2")
    'from a.pt &amp; 1/2'
    """
    return escape(FOLDERS.sub("", text))


def _section(section: Section, text: Sequence[str], number: int) -> str:
    """Return the HTML of a section. Its sentences are beside its figures, which then need no titles
    and footers that repeat them.
    """
    with our_texts("" if section.text else None, footer=not section.text):
        figures = [
            f'<figure class="scrolls" tabindex="0">{image(draw, section.title)}</figure>'
            for draw in section.figures
        ]
    paragraphs = [f"<p>{_safe(line)}</p>" for line in text]
    columns = ["\n".join(["<div>", *part, "</div>"]) for part in (figures, paragraphs) if part]
    body = [f"<h2>{_safe(section.title)}</h2>", '<div class="columns">', *columns, "</div>"]
    tables = map(_table, section.tables)
    return "\n".join([f'<section id="section-{number}">', *body, *tables, "</section>"])


def _table(table: Table) -> str:
    caption, shown = table.caption, table.rows[: table.most]
    if len(shown) < len(table.rows):
        caption += f", the first {len(shown)} of {len(table.rows)} rows"
    caption = _safe(caption)
    columns = list(dict.fromkeys(name for row in table.rows for name in row))
    names = (_safe(name.replace("_", " ")) for name in columns)
    heads = "".join(f'<th scope="col"><button type="button">{name}</button></th>' for name in names)
    rows = "\n".join(
        f"<tr>{''.join(_cell(row.get(name)) for name in columns)}</tr>" for row in shown
    )
    details = "<details open>" if len(table.rows) <= OPEN_ROWS else "<details>"
    return (
        f"{details}\n<summary>{caption}</summary>\n"
        f'<div class="scrolls" tabindex="0" role="region" aria-label="{caption}">\n'
        f"<table>\n<thead><tr>{heads}</tr></thead>\n<tbody>\n{rows}\n</tbody>\n</table>\n</div>\n</details>"
    )


def _cell(value) -> str:
    """Format a cell of a table. A number is shown with five digits, and sorted by all of its
    digits.
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        shown = f"{value:,}" if isinstance(value, int) else f"{value:.5g}"
        return f'<td class="number" data-value="{value}">{shown}</td>'
    text = "" if value is None else str(value)
    return f"<td>{_safe(text if len(text) <= LONGEST else f'{text[: LONGEST - 3]}...')}</td>"


def _part(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")
