"""From a configuration to its model, before training."""

from rhn.engine.seeds import weights_generator
from rhn.errors import InvalidInputError
from rhn.language.config import LanguageConfig
from rhn.models.language import LanguageModel


def build_model(config: LanguageConfig, vocabulary_size: int, *, seed: int | None = None, device=None) -> LanguageModel:
    """The model of a configuration with its first weights; those of another seed where one is given.

    Raises InvalidInputError where the cell does not have what the configuration asks for.
    """
    generator = weights_generator(config.seed if seed is None else seed, config.cell, config.depth)
    names = ("hidden_size", "depth", "layers", "embedding_size", "tied", "init")
    options = {name: getattr(config, name) for name in names} | config.cell_options
    try:
        model = LanguageModel(
            config.cell, vocabulary_size=vocabulary_size, generator=generator, device=device, **options
        )
    except RuntimeError as error:  # torch's, for sizes beyond any memory
        reason = next(iter(str(error).splitlines()), "")
        raise InvalidInputError(f"a {config.cell} of {config.hidden_size} units cannot be built: {reason}") from error
    model.use_precision(config.precision)
    return model
