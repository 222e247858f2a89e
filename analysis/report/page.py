"""What a report holds, as plain values; and the page made of it: one HTML file with style, script and charting library inside.

Whatever comes from a file is text and nothing else: Jinja2 escapes it in HTML, `plain` in charts, which read a few tags in their texts.
The page's policy lets a browser load nothing and run only the scripts written here, which it knows by their checksums.
"""

import base64
import hashlib
import html
import importlib.util
import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from rhn.errors import InvalidInputError
from rhn.files import atomic_path, finite_json
from rhn.made import made_with

NEEDED = {"jinja2": "Jinja2", "plotly": "plotly"}
LONGEST = 200  # characters of a value; what is longer is cut, with dots


@dataclass(frozen=True, kw_only=True)
class Chart:
    """A chart of plotly's: traces and layout as its JavaScript takes them; numbers are floats, None where there is none."""

    caption: str
    traces: list[dict]
    layout: dict
    tall: bool = False
    """A whole row of the page, instead of a place beside others."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows of texts and numbers; a click on a column's name sorts by it."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str | float | int | None]]
    folded: bool = False
    """Whether only its caption is seen until it is clicked, or printed."""

    @property
    def cells(self) -> list[list]:
        """The rows, without numbers that are not finite."""
        return finite_json(self.rows)


@dataclass(frozen=True, kw_only=True)
class Section:
    """One part of the page."""

    title: str
    words: Sequence[str] = ()
    """A paragraph each."""
    verdict: str = ""
    """What of it the page says first, in a line or two."""
    charts: Sequence[Chart] = ()
    tables: Sequence[Table] = ()


@dataclass(frozen=True, kw_only=True)
class Page:
    """All of it."""

    title: str
    subtitle: str
    sections: Sequence[Section]
    made: str
    """How the page was made: command, version, day."""

    @property
    def verdict(self) -> str:
        """The first paragraph: about three lines of a phone."""
        return " ".join(section.verdict for section in self.sections if section.verdict)


def require_libraries() -> None:
    """Raise InvalidInputError where what the page is made with is not installed."""
    if missing := [name for module, name in NEEDED.items() if importlib.util.find_spec(module) is None]:
        raise InvalidInputError(
            f"a report needs {' and '.join(missing)}, not installed here: pip install 'rhn-toolkit[report]'"
        )


def write_page(page: Page, path: Path) -> None:
    """Write a page as one HTML file, atomically. Raises OutputError."""
    text = page_html(page)
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="replace")


def page_html(page: Page) -> str:
    """The page as a text."""
    from jinja2 import Environment, StrictUndefined
    from plotly.offline import get_plotlyjs

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"shown": shown}
    # in an HTML comment or script nothing may look like its end
    scripts = [script.replace("</script", "<\\/script") for script in (get_plotlyjs(), _part("page.js"))]
    charts = finite_json([{"data": c.traces, "layout": c.layout} for s in page.sections for c in s.charts])
    return environment.from_string(_part("page.html")).render(
        page=page,
        made_with=made_with(),
        style=_part("page.css"),
        scripts=scripts,
        hashes=[_checksum(s) for s in scripts],
        charts=charts,
    )


def plain(text) -> str:
    """A text for a chart, which takes it for what it is: no tag, no line's end, not too long.

    >>> plain("<b>a & b")
    '&lt;b&gt;a &amp; b'
    """
    return html.escape(_cut(" ".join(str(text).split())))


def log_axis(low: float, high: float) -> dict:
    """A logarithmic axis from one number to another, both above 0, with plain numbers along it.

    >>> log_axis(3, 40)["tickvals"]
    [2.0, 5.0, 10.0, 20.0, 50.0]
    """
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    steps = (1, 2, 5) if len(decades) < 5 else (1,)
    every = 1 + len(decades) // 12
    ticks = [float(f"{step}e{decade}") for decade in decades[::every] for step in steps]
    last = next((k for k, tick in enumerate(ticks) if tick >= high), len(ticks) - 1)
    ticks = [tick for tick in ticks[: last + 1] if tick * 2 >= low]
    return {"type": "log", "tickvals": ticks, "ticktext": [f"{tick:g}" for tick in ticks]}


def shown(value) -> str:
    """A value of a table: numbers with five digits, nothing for what is not there.

    >>> shown(0.123456789), shown(None), shown(1234), shown("x")
    ('0.12346', '', '1,234', 'x')
    """
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return _cut(str(value))
    return f"{value:,}" if isinstance(value, int) else f"{value:.5g}"


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else text[: LONGEST - 3] + "..."


def _part(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def _checksum(script: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
