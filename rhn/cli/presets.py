"""`rhn presets`: list the presets of `rhn train`."""

import inspect
import itertools
import shutil
import textwrap
from dataclasses import dataclass

from rhn.cli.common import print_json
from rhn.utils.options import option
from rhn.utils.wording import table

WIDTH = 100  # of lines, at most
HEADS = {
    "name": "preset",
    "cell": "cell",
    "parameters": "size",
    "depth": "depth",
    "layers": "layers",
    "hidden_size": "units",
    "tied": "tied",
    "published_test": "paper",
}
OF_THE_TABLE = ("cell", "layers")
LEAST = ("tied", "layers", "cell", "depth", "units")  # columns that narrow terminals do without, in this order
NOTE = "size: parameters. paper: the published test result, perplexity of words or bits a character."


@dataclass(frozen=True, kw_only=True)
class Presets:
    """List the presets of `rhn train`."""

    json: bool = option(False, "Print a JSON list: name, parameters, depth, hidden_size, tied, published_test.")

    def run(self) -> None:
        from rhn.presets import PRESETS, parameters, preset
        from rhn.published import published_test

        columns = min(WIDTH, shutil.get_terminal_size((80, 24)).columns)
        configs = {name: preset(name) for name in PRESETS}
        rows = [
            {
                "name": name,
                "cell": config.cell,
                "parameters": parameters(config),
                "depth": config.depth,
                "layers": getattr(config, "layers", 1),
                "hidden_size": config.hidden_size,
                "tied": getattr(config, "tied", False),
                "published_test": published_test(name),
            }
            for name, config in configs.items()
        ]
        if self.json:
            print_json([{name: value for name, value in row.items() if name not in OF_THE_TABLE} for row in rows])
            return
        lines = [[_shown(name, row[name]) for name in HEADS] for row in rows]
        print(table([*HEADS.values()], lines, left=("cell",), drop=LEAST, width=columns, gap=" "))
        print(f"\n{textwrap.fill(NOTE, columns)}\n")
        for what, group in itertools.groupby(PRESETS, key=lambda name: _what(PRESETS[name])):
            first, *others = group
            names = f"{first} to {others[-1]}" if others else first
            print(textwrap.fill(f"{names}: {what}", columns, subsequent_indent="  "))


def _shown(name: str, value) -> str:
    if value is None:
        return ""
    match name:
        case "parameters":
            return f"{value / 1e6:.2f}M"
        case "tied":
            return "yes" if value else "no"
        case "published_test":
            return f"{value:.1f}" if value > 10 else f"{value:.2f}"
    return str(value)


def _what(make) -> str:
    """The first line of the docstring of a preset's function."""
    return inspect.getdoc(getattr(make, "func", make)).partition("\n")[0]
