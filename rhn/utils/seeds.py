"""Random numbers of training runs: they depend only on (seed, architecture, depth, trial or epoch),
never on what runs beside a trial, on the device, or on what was drawn before.

    weights_generator(seed, arch, depth, trial)        the initial weights of a trial
    batch_order(seed, arch, depth, epoch, batches)     the order of the minibatches of an epoch
    seeded(seed, epoch, step, ...)                     dropout masks, and other draws of a step
"""

from zlib import crc32

import numpy as np
import torch


def weights_generator(seed: int, arch: str, depth: int, trial: int = 0) -> torch.Generator:
    """Return the CPU generator that draws the initial weights of one trial, whatever its device."""
    entropy = [seed, crc32(arch.encode()), depth, trial, crc32(b"weights")]
    (word,) = np.random.SeedSequence(entropy).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(word))


def batch_order(seed: int, arch: str, depth: int, epoch: int, batches: int) -> list[int]:
    """Return the minibatch order of an epoch, the same for every trial of (architecture, depth).

    >>> batch_order(0, "rhn", 4, 1, 7)
    [2, 0, 6, 1, 3, 5, 4]
    """
    entropy = [seed, crc32(arch.encode()), depth, epoch, crc32(b"batches")]
    return np.random.default_rng(entropy).permutation(batches).tolist()


def seeded(*numbers: int, device: torch.device | str = "cpu") -> torch.Generator:
    """Return a generator with a seed that is a function of these numbers."""
    (word,) = np.random.SeedSequence(numbers).generate_state(1, np.uint64)
    return torch.Generator(device).manual_seed(int(word >> np.uint64(1)))
