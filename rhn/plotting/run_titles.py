"""What the config.json of a training says of it, in the words of figures' titles. Figures do without what it does not say."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rhn.cells.registry import lacking
from rhn.errors import RhnError
from rhn.utils.io import read_json

SHOWN = 40  # characters of a value, which anybody may have written


@dataclass(frozen=True)
class Told:
    """A training in words."""

    network: str = ""
    """ "rhn, depth 5, 200 units"."""
    facts: tuple[str, ...] = ()
    """How it was trained: initialisation, transform bias, learning rate, seed, data."""
    dropout: bool = False
    """Whether it trains with dropout, so that its training loss is that of thinned networks."""


UNTOLD = Told()


def told_of(run: Path, seed: int | None = None) -> Told:
    """Of a training's folder; seed: of one of several."""
    try:
        config = read_json(run / "config.json")
    except (RhnError, OSError, ValueError):
        return UNTOLD
    if not isinstance(config, dict):
        return UNTOLD
    return Told(_network(config), tuple(_facts(config, seed)), _any_dropout(config))


def shared(facts: Sequence[Sequence[str]]) -> str:
    """What all trainings of a figure have in common.

    >>> shared([("gaussian:0.1", "seed 0"), ("gaussian:0.1", "seed 1")])
    'gaussian:0.1'
    """
    return "; ".join(fact for fact in facts[0] if all(fact in others for others in facts)) if facts else ""


def _network(config: dict) -> str:
    if "cell" not in config:
        return ""
    words = [_short(config["cell"])]
    words += [f"{config['layers']} layers"] if config.get("layers") not in (None, 1) else []
    words += [f"depth {_short(config['depth'])}"] if "depth" in config.keys() - lacking(_short(config["cell"])) else []
    return ", ".join(words + ([f"{_short(config['hidden_size'])} units"] if "hidden_size" in config else []))


def _facts(config: dict, seed: int | None) -> list[str]:
    init = config.get("init") or (f"gaussian:{config['init_std']}" if config.get("init_std") else None)
    gated = "transform_bias" not in lacking(_short(config.get("cell", "")))
    named = {
        "transform bias": config.get("transform_bias") if gated else None,
        "learning rate": config.get("learning_rate"),
    }
    facts = [_short(init)] if init else []
    facts += [f"{name} {_short(value)}" for name, value in named.items() if value is not None]
    seed = config.get("seed") if seed is None else seed
    facts += [f"seed {_short(seed)}"] if seed is not None else []
    if "corpus" in config:
        words = config.get("vocabulary_size")
        path = config.get("path")
        source = Path(path).name if config["corpus"] == "text" and isinstance(path, str) else config["corpus"]
        return facts + [_short(source)] + ([f"{words} words"] if words else [])
    return facts + ([f"chorales {config['data'][:12]}"] if isinstance(config.get("data"), str) else [])


def _any_dropout(config: dict) -> bool:
    return any(name.startswith("drop_") and isinstance(rate, int | float) and rate > 0 for name, rate in config.items())


def _short(value) -> str:
    return str(value)[:SHOWN]
