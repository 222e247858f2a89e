"""From a configuration to its model, before training."""

from collections.abc import Sequence

from rhn.engine.memory import build_if_it_fits, require_memory
from rhn.engine.seeds import weights_generator
from rhn.errors import InvalidInputError
from rhn.language.config import LanguageConfig
from rhn.models.language import LanguageModel


def build_model(config: LanguageConfig, vocabulary_size: int, *, seed: int | None = None, device=None) -> LanguageModel:
    """The model of a configuration with its first weights; those of another seed where one is given.

    Raises InvalidInputError where the cell does not have what the configuration asks for, or the memory free does not hold it.
    """
    generator = weights_generator(config.seed if seed is None else seed, config.cell, config.depth)
    names = ("hidden_size", "depth", "layers", "embedding_size", "tied", "init")
    options = {name: getattr(config, name) for name in names} | config.cell_options
    options |= {"vocabulary_size": vocabulary_size, "generator": generator}
    model = build_if_it_fits(lambda where: LanguageModel(config.cell, device=where, **options), config.cell, device)
    model.use_precision(config.precision)
    return model


def build_models(
    config: LanguageConfig, vocabulary_size: int, seeds: Sequence[int], device
) -> dict[int, LanguageModel]:
    """The models of several seeds, on the CPU, that are to be trained together on a device.

    Raises InvalidInputError as `build_model`, where the memory free on the device does not hold them all, and for a seed given twice.
    """
    own = build_model(config, vocabulary_size)
    require_memory(own, len(seeds), device)  # before the seeds are looked at one by one
    if len(set(seeds)) < len(seeds) or min(seeds) < 0:
        raise InvalidInputError(f"the seeds are {', '.join(map(str, seeds))}, expected distinct ones of 0 or more")
    return {seed: own if seed == config.seed else build_model(config, vocabulary_size, seed=seed) for seed in seeds}
