"""Trainings that repeat their bits, fast, on a CPU: one thread, no subnormal numbers, and seeds by name.

Threads: with several, the order of a sum depends on the number of models. Subnormals: tiny weights (the study starts at a standard
deviation of 1e-8) produce numbers below 1e-38, which a CPU multiplies a hundred times slower than zero; they are set to zero. Seeds
depend only on (seed, architecture, depth, trial or epoch), never on scheduling.
"""

import contextlib
import ctypes
import os
import sys
from collections.abc import Iterator
from zlib import crc32

import numpy as np
import torch

from rhn.errors import InvalidInputError

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _GIGABYTE = -1, -3, 1 << 30


@contextlib.contextmanager
def deterministic(threads: int = 1) -> Iterator[None]:
    """Context in which torch uses `threads` threads and sets denormal numbers to zero; the former settings are restored at its end.

    Raises InvalidInputError for more threads than the machine has CPUs: thousands of threads end the process.
    """
    most = os.cpu_count() or 1
    if not 1 <= threads <= most:
        raise InvalidInputError(f"the number of threads is {threads}, expected 1 to {most}, the CPUs of this machine")
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with flushed():
            yield
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def flushed() -> Iterator[None]:
    """Context in which subnormal numbers count as zero on the CPU; the former setting is restored at its end."""
    before = torch.tensor([1e-40], dtype=torch.float32, device="cpu").mul(1).item() == 0
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)


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
