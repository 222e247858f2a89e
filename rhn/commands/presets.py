"""`rhn presets`: what can be trained by name."""

import inspect
from dataclasses import dataclass

from rhn.command import print_json


@dataclass(frozen=True, kw_only=True)
class Presets:
    """List the presets of `rhn train`."""

    json: bool = False
    """Print a JSON list: name, parameters, depth, hidden_size, tied."""

    def run(self) -> None:
        from rhn.presets import PRESETS, preset

        configs = {name: preset(name) for name in PRESETS}
        rows = [_row(name, config) for name, config in configs.items()]
        if self.json:
            print_json(rows)
            return
        print(
            f"{'preset':<22}{'data':<8}{'cell':<8}{'parameters':>10}{'depth':>7}{'layers':>8}{'units':>7}{'tied':>6}   what"
        )
        for row, config in zip(rows, configs.values(), strict=True):
            names = f"{row['name']:<22}{getattr(config, 'corpus', 'jsb'):<8}{config.cell:<8}{row['parameters'] / 1e6:>9.2f}M"
            sizes = f"{row['depth']:>7}{getattr(config, 'layers', 1):>8}{row['hidden_size']:>7}"
            print(f"{names}{sizes}{'yes' if row['tied'] else 'no':>6}   {_what(PRESETS[row['name']])}")


def _row(name: str, config) -> dict:
    from rhn.commands.train_chorales import count_parameters
    from rhn.presets import LanguageConfig
    from rhn.presets.language import parameters

    text = isinstance(config, LanguageConfig)
    return {
        "name": name,
        "parameters": parameters(config) if text else count_parameters(config),
        "depth": config.depth,
        "hidden_size": config.hidden_size,
        "tied": text and config.tied,
    }


def _what(make) -> str:
    """The first line that the function behind a preset says of itself."""
    return inspect.getdoc(getattr(make, "func", make)).partition("\n")[0]
