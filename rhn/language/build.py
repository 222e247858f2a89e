"""From a configuration to its model, before training."""

from rhn.engine.memory import build_if_it_fits
from rhn.engine.seeds import weights_generator
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
