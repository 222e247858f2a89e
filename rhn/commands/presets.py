"""`rhn presets`: what can be trained by name."""

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
        print(f"{'preset':<22}{'data':<8}{'cell':<8}{'parameters':>11}{'depth':>7}{'layers':>8}{'units':>7}{'tied':>6}")
        for row, config in zip(rows, configs.values(), strict=True):
            layers = getattr(config, "layers", 1)
            print(
                f"{row['name']:<22}{getattr(config, 'corpus', 'jsb'):<8}{config.cell:<8}{row['parameters'] / 1e6:>10.2f}M"
                f"{row['depth']:>7}{layers:>8}{row['hidden_size']:>7}{'yes' if row['tied'] else 'no':>6}"
            )
        print("`rhn train PRESET --print-config` shows all values of one")


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
