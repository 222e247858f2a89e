"""From a configuration to its model, before training."""

from rhn.engine.seeds import weights_generator
from rhn.errors import InvalidInputError
from rhn.language.config import LanguageConfig
from rhn.models.language import LanguageModel


def build_model(config: LanguageConfig, vocabulary_size: int, *, seed: int | None = None, device=None) -> LanguageModel:
    """The model of a configuration with its first weights; those of another seed where one is given.

    Raises InvalidInputError where the cell does not have what the configuration asks for.
    """
    seed = config.seed if seed is None else seed
    try:
        model = _model(config, vocabulary_size, seed, device)
    except RuntimeError as error:  # torch's, for sizes beyond any memory
        reason = next(iter(str(error).splitlines()), "")
        raise InvalidInputError(f"a {config.cell} of {config.hidden_size} units cannot be built: {reason}") from error
    model.use_precision(config.precision)
    return model


def _model(config: LanguageConfig, vocabulary_size: int, seed: int, device) -> LanguageModel:
    return LanguageModel(
        config.cell,
        vocabulary_size=vocabulary_size,
        hidden_size=config.hidden_size,
        depth=config.depth,
        layers=config.layers,
        embedding_size=config.embedding_size,
        tied=config.tied,
        init=config.init,
        generator=weights_generator(seed, config.cell, config.depth),
        device=device,
        **config.cell_options,
    )
