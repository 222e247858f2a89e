"""Build the models of a configuration with their initial weights."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from rhn.cells.memory_init import for_steps
from rhn.cells.registry import num_parameters
from rhn.errors import InvalidInputError
from rhn.models.networks import PolyphonicModel
from rhn.training.config import ChoraleConfig, LanguageConfig
from rhn.utils.resources import check_room, weight_bytes
from rhn.utils.seeds import weights_generator
from rhn.utils.validation import unexpected, whole_number

TRAINED = 4  # weights, gradients, momentum, and the best weights so far


def build_model(
    config: ChoraleConfig | LanguageConfig,
    vocabulary_size: int | None = None,
    *,
    seed: int | None = None,
    device=None,
) -> Any:
    """Build a configuration's model. seed: None: that of the configuration."""
    generator = weights_generator(config.seed if seed is None else seed, config.cell, config.depth)
    model: Any = PolyphonicModel
    options = {name: getattr(config, name) for name in ("hidden_size", "depth", "init")}
    if isinstance(config, LanguageConfig):
        from rhn.models.language import LanguageModel  # chorales do not need it

        model, options["init"] = LanguageModel, for_steps(config.init, config.window)
        options |= {name: getattr(config, name) for name in ("layers", "embedding_size", "tied")}
        options["vocabulary_size"] = vocabulary_size
    return model(config.cell, device=device, **options | config.options, generator=generator)


def build_models(build: Callable, seeds: Sequence[int], device) -> dict[int, nn.Module]:
    """Build the models of several seeds on the CPU, if the free memory of a device suffices."""
    if not isinstance(seeds, Sequence | np.ndarray):
        raise unexpected("seeds", seeds, "a list of one or more distinct numbers")
    if len(seeds) > 0:
        first = build(whole_number("seed", seeds[0], 0))
        need = len(seeds) * TRAINED * weight_bytes(first)  # before the seeds are read one by one
        check_room(need, "training", "use fewer or smaller networks", str(device or "cpu"))
    distinct = {whole_number("seed", seed, 0): None for seed in seeds}
    if len(distinct) != max(1, len(seeds)):
        raise InvalidInputError(f"seeds is {[*seeds]}: expected one or more distinct numbers")
    return {seed: build(seed) if k else first for k, seed in enumerate(distinct)}


def parameters(config: ChoraleConfig | LanguageConfig) -> int:
    """Return the number of parameters of a configuration's model, with the vocabulary of the
    published corpus unless the configuration has another size.
    """
    from rhn.data.datasets import data_set

    size = None
    if isinstance(config, LanguageConfig):
        size = config.vocabulary_size or data_set(config.corpus).counts["vocabulary"]
    with torch.device("meta"):
        return num_parameters(build_model(config, size, device="meta"))
