"""Seeds depend only on (seed, architecture, depth, trial or epoch), never on scheduling."""

from zlib import crc32

import numpy as np
import torch


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
