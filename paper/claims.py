"""The rows of the page on the paper, read from claims.toml, with our values in their places."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from string import Formatter
from typing import NamedTuple

from paper.values import Value, text_of

TABLE = Path(__file__).with_name("claims.toml")
SECTIONS = {
    "figures": "Figures",
    "tables": "Tables",
    "equations": "Equations",
    "claims": "Claims of the text",
}
"""The titles of the sections of the page, by their names in the table."""
PICTURES = {
    "figures": ["", "![Figure 4 of the trials of full size that are there](figures/figure-4.png)"]
}
"""Lines below the table of a section."""
HEADER = (
    "| where | in the paper | its number | ours | reached | note | command |",
    "|---|---|---|---|---|---|---|",
)


class Claim(NamedTuple):
    """A figure, table, equation or claim; claims.toml explains the fields."""

    where: str
    words: str
    ours: str
    reached: str
    command: str
    theirs: str = "-"
    note: str = ""
    allowed: Mapping[str, tuple[float, float]] = {}

    def values_in(self) -> set[str]:
        """Return the names of the values that the row shows."""
        parsed = (*Formatter().parse(self.ours), *Formatter().parse(self.note))
        return {name for _, name, _, _ in parsed if name}

    def line(self, values: Mapping[str, Value]) -> str:
        """Return the row of the page; `-` for a value that is missing."""
        shown = dict.fromkeys(self.values_in(), "-")
        shown |= {name: text_of(values[name]) for name in shown if name in values}
        ours, note = self.ours.format_map(shown), self.note.format_map(shown)
        command = f"`{self.command}`"
        cells = (self.where, self.words, self.theirs, ours, self.reached, note, command)
        return f"| {' | '.join(cells)} |"

    def broken(self, values: Mapping[str, Value]) -> dict[str, Value]:
        """Return the values, by name, for which `reached` does not hold."""
        return {name: values[name] for name in self.allowed if not self.holds(name, values[name])}

    def holds(self, name: str, value: Value) -> bool:
        """Return True if a value is in its allowance."""
        least, most = self.allowed[name]
        middle = value[0] if isinstance(value, tuple) else value
        return least <= middle <= most


def load_claims() -> dict[str, list[Claim]]:
    """Read the rows of each section."""
    tables = tomllib.loads(TABLE.read_text())
    return {section: [Claim(**row) for row in tables[section]] for section in SECTIONS}


def sections(values: Mapping[str, Value]) -> list[str]:
    """Return the sections of the page."""
    found = []
    for section, claims in load_claims().items():
        lines = [claim.line(values) for claim in claims]
        picture = PICTURES.get(section, [])
        found.append("\n".join([f"## {SECTIONS[section]}", "", *HEADER, *lines, *picture]))
    return found
