"""`rhn presets`: list the presets of `rhn train`."""

import itertools
import shutil
import textwrap
from dataclasses import dataclass
from typing import Any

from rhn.cli.entry import print_json
from rhn.utils.options import option
from rhn.utils.wording import table

WIDTH = 100  # of lines, at most
HEADER = ("preset", "cell", "size", "depth", "layers", "units", "tied", "paper")
LEAST = ("tied", "layers", "cell", "depth", "units")  # columns that narrow terminals do without, in this order
NOTE = "size: parameters. paper: the published test result, perplexity of words or bits a character."


@dataclass(frozen=True, kw_only=True)
class Presets:
    """List the presets of `rhn train`."""

    json: bool = option(False, "Print a JSON list: name, parameters, depth, hidden_size, tied, published_test.")

    def run(self) -> None:
        from rhn.presets import PRESETS

        if self.json:
            print_json([facts(name) for name in PRESETS])
            return
        columns = min(WIDTH, shutil.get_terminal_size((80, 24)).columns)
        print(table(HEADER, map(_line, PRESETS), left=("cell",), drop=LEAST, width=columns, gap=" "))
        print(f"\n{textwrap.fill(NOTE, columns)}\n")
        for about, group in itertools.groupby(PRESETS, key=lambda name: PRESETS[name].about):
            first, *others = group
            names = f"{first} to {others[-1]}" if others else first
            print(textwrap.fill(f"{names}: {about}", columns, subsequent_indent="  "))


def facts(name: str) -> dict[str, Any]:
    """The JSON of a preset."""
    from rhn.presets import PRESETS, parameters, preset

    config = preset(name)
    return {
        "name": name,
        "parameters": parameters(config),
        "depth": config.depth,
        "hidden_size": config.hidden_size,
        "tied": getattr(config, "tied", False),
        "published_test": PRESETS[name].test,
    }


def _line(name: str) -> list:
    """A line of the table."""
    from rhn.presets import preset

    config, found = preset(name), facts(name)
    size, paper, tied = f"{found['parameters'] / 1e6:.2f}M", found["published_test"], "yes" if found["tied"] else "no"
    result = "" if paper is None else f"{paper:.1f}" if paper > 10 else f"{paper:.2f}"
    layers = getattr(config, "layers", 1)
    return [name, config.cell, size, config.depth, layers, config.hidden_size, tied, result]
