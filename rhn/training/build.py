"""Build the models of a configuration from their seeds if the free memory holds their training, and size the parts of an ensemble.

Seeds depend only on (seed, architecture, depth, trial or epoch), never on scheduling.

For every position of a batch (a step of one row) a model keeps a few copies of the products of its matrices, one number for each of
their rows: in the forward pass, in the backward pass and between. On a CPU an ensemble is cut into parts that fit into the cache.
"""

import ctypes
import sys
from collections.abc import Callable, Sequence
from zlib import crc32

import numpy as np
import torch
from torch import nn

from rhn.cells import is_ours
from rhn.errors import InvalidInputError
from rhn.models import LanguageModel, PolyphonicModel
from rhn.training.config import LanguageConfig, TrainingConfig
from rhn.utils.memory import free_memory, in_words

COPIES = 5  # measured on our cells: 2.4 to 5.6; compiled kernels need less
TRAINED = 4  # weights, gradients, momentum, and the best weights so far
CACHE_BYTES = 8 << 20  # weights of the models in one pass of a step: more than fits the cache is slower
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _GIGABYTE = -1, -3, 1 << 30
PART_BYTES = 512 << 20  # memory of such a pass: larger parts gain nothing


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
    if is_ours(config.cell):  # a user's cell may not work without memory
        try:
            require_memory(model(config.cell, device="meta", **options), device=device)
        except RuntimeError as error:  # torch's, for sizes whose number of bytes overflows
            raise InvalidInputError("the network is beyond any memory: use a smaller hidden size or depth") from error
    return model(config.cell, device=device, **options)


def build_models(build: Callable[[int], nn.Module], seeds: Sequence[int], device) -> dict[int, nn.Module]:
    """The models of several seeds, on the CPU, to be trained together on a device.

    Raises InvalidInputError if the free memory of the device does not hold them all, or if a seed occurs twice.
    """
    first = build(abs(seeds[0]))  # a negative seed is refused below
    require_memory(first, len(seeds), device)  # before the seeds are compared one by one
    if len(set(seeds)) < len(seeds) or min(seeds) < 0:
        raise InvalidInputError(f"the seeds are {', '.join(map(str, seeds))}, expected distinct ones of 0 or more")
    return {seeds[0]: first} | {seed: build(seed) for seed in seeds[1:]}


def require_memory(model: nn.Module, models: int = 1, device=None) -> None:
    """Raise InvalidInputError if the free memory of a device does not hold the training of `models` models like this one."""
    need, have = models * TRAINED * weight_bytes(model), free_memory(str(device or "cpu"))
    if need > have:
        whose, smaller = ("the network's", "") if models == 1 else (f"{models} networks'", "fewer of them, ")
        raise InvalidInputError(
            f"{whose} weights, gradients and optimizer need about {in_words(need)} of memory, {in_words(have)} are free: "
            f"use {smaller}a smaller hidden size or depth"
        )


def weight_bytes(model: nn.Module) -> int:
    """One set of a model's parameters."""
    return sum(p.numel() * p.element_size() for p in model.parameters())


def step_bytes(model: nn.Module, positions: int) -> int:
    """Estimated bytes of one model for a step on a batch of `positions` positions, beside its weights.

    Evaluation needs no more: it has twice the rows and no backward pass.
    """
    outputs = sum(p.numel() // p.shape[-1] for p in model.parameters() if p.dim() > 1)
    return COPIES * 4 * outputs * positions


def part_size(model: nn.Module, positions: int, device: torch.device) -> int | None:
    """Number of models in one pass of a step on such a batch; None for all of them (on a GPU)."""
    if device.type != "cpu":
        return None
    return max(1, min(CACHE_BYTES // weight_bytes(model), PART_BYTES // step_bytes(model, positions)))


def tune_malloc() -> None:
    """Let this process keep freed memory for its next tensors (with glibc; otherwise nothing happens).

    By default every tensor of more than 128 kB is given back to the system and fetched again, page by page, at the next step:
    measured, a third of a step's time in small networks. For processes that do nothing but train.
    """
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", lambda *_: 0)
        mallopt(_M_MMAP_THRESHOLD, _GIGABYTE)
        mallopt(_M_TRIM_THRESHOLD, 2 * _GIGABYTE - 1)


def weights_generator(seed: int, arch: str, depth: int, trial: int = 0) -> torch.Generator:
    """The CPU generator of the initial weights of one trial, for every device."""
    (word,) = _sequence("weights", seed, arch, depth, trial).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(word))


def batch_order(seed: int, arch: str, depth: int, epoch: int, batches: int) -> list[int]:
    """The order of the batches of an epoch: the same for every trial of (architecture, depth).

    >>> batch_order(0, "rhn", 4, 1, 7)
    [2, 0, 6, 1, 3, 5, 4]
    """
    return np.random.default_rng(_sequence("batches", seed, arch, depth, epoch)).permutation(batches).tolist()


def seeded(*numbers: int, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator on a device that is a function of these numbers."""
    (word,) = np.random.SeedSequence(numbers).generate_state(1, np.uint64)
    return torch.Generator(device).manual_seed(int(word >> np.uint64(1)))


def _sequence(purpose: str, seed: int, arch: str, depth: int, number: int) -> np.random.SeedSequence:
    return np.random.SeedSequence([seed, crc32(arch.encode()), depth, number, crc32(purpose.encode())])
