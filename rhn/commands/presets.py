"""`rhn presets`: what can be trained by name."""

import inspect
import itertools
import textwrap
from dataclasses import dataclass

from rhn.command import print_json

WIDTH = 100


@dataclass(frozen=True, kw_only=True)
class Presets:
    """List the presets of `rhn train`."""

    json: bool = False
    """Print a JSON list: name, parameters, depth, hidden_size, tied, published_test."""

    def run(self) -> None:
        from rhn.presets import PRESETS, parameters, preset
        from rhn.published import published_test

        configs = {name: preset(name) for name in PRESETS}
        rows = [
            {
                "name": name,
                "parameters": parameters(config),
                "depth": config.depth,
                "hidden_size": config.hidden_size,
                "tied": getattr(config, "tied", False),
                "published_test": published_test(name),
            }
            for name, config in configs.items()
        ]
        if self.json:
            print_json(rows)
            return
        width = max(map(len, PRESETS)) + 1
        sizes = f"{'parameters':>10}{'depth':>7}{'layers':>8}{'units':>7}{'tied':>6}{'paper':>7}"
        print(f"{'preset':<{width}}{'data':<8}{'cell':<8}{sizes}")
        for row, config in zip(rows, configs.values(), strict=True):
            names = f"{row['name']:<{width}}{getattr(config, 'corpus', 'jsb'):<8}{config.cell:<8}{row['parameters'] / 1e6:>9.2f}M"
            sizes = f"{row['depth']:>7}{getattr(config, 'layers', 1):>8}{row['hidden_size']:>7}"
            test = row["published_test"]
            paper = "" if test is None else f"{test:.1f}" if test > 10 else f"{test:.2f}"
            print(f"{names}{sizes}{'yes' if row['tied'] else 'no':>6}{paper:>7}".rstrip())
        print("\npaper: the published test result, perplexity of words or bits a character\n")
        for what, group in itertools.groupby(PRESETS, key=lambda name: _what(PRESETS[name])):
            first, *others = group
            names = f"{first} to {others[-1]}" if others else first
            print(textwrap.fill(f"{names}: {what}", WIDTH, subsequent_indent="  "))


def _what(make) -> str:
    """The first line that the function behind a preset says of itself."""
    return inspect.getdoc(getattr(make, "func", make)).partition("\n")[0]
