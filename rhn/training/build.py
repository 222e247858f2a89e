"""Build the models of a configuration, before training."""

from collections.abc import Sequence

from torch import nn

from rhn.errors import InvalidInputError
from rhn.models import LanguageModel, PolyphonicModel
from rhn.training.config import LanguageConfig, TrainingConfig
from rhn.training.memory import build_if_it_fits, require_memory
from rhn.training.seeds import weights_generator


def build_model(
    config: TrainingConfig, vocabulary_size: int | None = None, *, seed: int | None = None, device=None
) -> nn.Module:
    """The model of a configuration with its first weights.

    Args:
        vocabulary_size: of a language model.
        seed: of the weights, instead of that of the configuration.

    Raises InvalidInputError if the cell lacks an option of the configuration, or if the free memory does not hold the model.
    """
    generator = weights_generator(config.seed if seed is None else seed, config.cell, config.depth)
    options = {"hidden_size": config.hidden_size, "depth": config.depth, "init": config.init, "generator": generator}
    model = PolyphonicModel
    if isinstance(config, LanguageConfig):
        model = LanguageModel
        options |= {name: getattr(config, name) for name in ("layers", "embedding_size", "tied")}
        options["vocabulary_size"] = vocabulary_size
    options |= config.options
    built = build_if_it_fits(lambda where: model(config.cell, device=where, **options), config.cell, device)
    built.use_precision(config.precision)
    return built


def build_models(config: LanguageConfig, vocabulary_size: int, seeds: Sequence[int], device) -> dict[int, nn.Module]:
    """The language models of several seeds, on the CPU, to be trained together on a device.

    Raises InvalidInputError as `build_model`, if the free memory of the device does not hold them all, or if a seed occurs twice.
    """
    own = build_model(config, vocabulary_size)
    require_memory(own, len(seeds), device)  # before the seeds are compared one by one
    if len(set(seeds)) < len(seeds) or min(seeds) < 0:
        raise InvalidInputError(f"the seeds are {', '.join(map(str, seeds))}, expected distinct ones of 0 or more")
    return {seed: own if seed == config.seed else build_model(config, vocabulary_size, seed=seed) for seed in seeds}
