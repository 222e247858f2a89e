"""Complete trainings by name: `rhn train ptb-sota` is a training with the configuration `preset("ptb-sota")`.

A preset is a function that returns a configuration; each name in `PRESETS` stands for one call of it.
"""

import difflib
from collections.abc import Callable

from rhn.errors import InvalidInputError
from rhn.language.config import LanguageConfig
from rhn.presets import language
from rhn.presets.chorales import CHORALE_PRESETS, PARAMETERS_PER_LAYER, ChoraleConfig
from rhn.presets.language import LANGUAGE_PRESETS

__all__ = ["PARAMETERS_PER_LAYER", "PRESETS", "ChoraleConfig", "LanguageConfig", "parameters", "preset"]

PRESETS: dict[str, Callable[..., ChoraleConfig | LanguageConfig]] = LANGUAGE_PRESETS | CHORALE_PRESETS


def preset(name: str, cell: str | None = None) -> ChoraleConfig | LanguageConfig:
    """The configuration called `name`; a chorale one with another cell of as many parameters where one is given.

    Raises InvalidInputError, with the nearest name, where there is none.
    """
    if name not in PRESETS:
        near = difflib.get_close_matches(name.lower().replace("_", "-"), PRESETS, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise InvalidInputError(f"there is no preset {name!r}{hint} (`rhn presets` lists them)")
    return PRESETS[name](cell=cell) if cell and name in CHORALE_PRESETS else PRESETS[name]()


def parameters(config: ChoraleConfig | LanguageConfig, vocabulary_size: int | None = None) -> int:
    """How many parameters a configuration has; a language model with its corpus's published vocabulary where none is given."""
    if isinstance(config, LanguageConfig):
        return language.parameters(config, vocabulary_size)
    import torch

    from rhn.cells import num_parameters
    from rhn.chorales.build import build_model

    with torch.device("meta"):
        return num_parameters(build_model(config))
