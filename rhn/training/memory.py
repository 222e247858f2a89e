"""Estimate the memory of a training from shapes, read the free memory, and size the parts of an ensemble.

For every position of a batch (a step of one row) a model keeps a few copies of the products of its matrices, one number for each of
their rows: in the forward pass, in the backward pass and between. On a CPU an ensemble is cut into parts that fit into the cache.
"""

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING

from rhn.errors import InvalidInputError

if TYPE_CHECKING:  # callers of `free_memory` do not wait for torch
    from collections.abc import Callable

    import torch
    from torch import nn

COPIES = 5  # measured on our cells: 2.4 to 5.6; compiled kernels need less
TRAINED = 4  # weights, gradients, momentum, and the best weights so far
CACHE_BYTES = 8 << 20  # weights of the models in one pass of a step: more than fits the cache is slower
PART_BYTES = 512 << 20  # memory of such a pass: larger parts gain nothing


def weight_bytes(model: "nn.Module") -> int:
    """One set of a model's parameters."""
    return sum(p.numel() * p.element_size() for p in model.parameters())


def build_if_it_fits(build: "Callable[[str | torch.device | None], nn.Module]", cell: str, device=None) -> "nn.Module":
    """build(device), a model to be trained; raises InvalidInputError if the free memory does not hold it.

    build: called on the "meta" device first, where weights take no memory; not for a user's cell, which may not work there.
    """
    from rhn.cells import is_ours

    if not is_ours(cell):
        return build(device)
    try:
        model = build("meta")
    except RuntimeError as error:  # torch's, for sizes whose number of bytes overflows
        raise InvalidInputError("the network is beyond any memory: use a smaller hidden size or depth") from error
    require_memory(model, device=device)
    return build(device)


def require_memory(model: "nn.Module", models: int = 1, device=None) -> None:
    """Raise InvalidInputError if the free memory of a device does not hold the training of `models` models like this one."""
    need, have = models * TRAINED * weight_bytes(model), free_memory(str(device or "cpu"))
    if need > have:
        whose, smaller = ("the network's", "") if models == 1 else (f"{models} networks'", "fewer of them, ")
        raise InvalidInputError(
            f"{whose} weights, gradients and optimizer need about {in_words(need)} of memory, {in_words(have)} are free: "
            f"use {smaller}a smaller hidden size or depth"
        )


def step_bytes(model: "nn.Module", positions: int) -> int:
    """Estimated bytes of one model for a step on a batch of `positions` positions, beside its weights.

    Evaluation needs no more: it has twice the rows and no backward pass.
    """
    outputs = sum(p.numel() // p.shape[-1] for p in model.parameters() if p.dim() > 1)
    return COPIES * 4 * outputs * positions


def part_size(model: "nn.Module", positions: int, device: "torch.device") -> int | None:
    """Number of models in one pass of a step on such a batch; None for all of them (on a GPU)."""
    if device.type != "cpu":
        return None
    return max(1, min(CACHE_BYTES // weight_bytes(model), PART_BYTES // step_bytes(model, positions)))


def free_memory(device: str = "cpu") -> int:
    """Bytes free on a device ("cpu", "cuda", "cuda:1") now; on a CPU also within the limit of its control group, if it has one."""
    if device.startswith("cuda"):
        import torch

        return torch.cuda.mem_get_info(device)[0]
    return int(min(_available(), _left_in_group(Path("/sys/fs/cgroup"))))


def in_words(size: float) -> str:
    """A size in bytes for people.

    >>> in_words(1.5 * 2**30), in_words(300 * 2**20), in_words(5000), in_words(99)
    ('1.5 GiB', '300 MiB', '5 KiB', '99 bytes')
    """
    if size < 2**10:
        return f"{size:.0f} bytes"
    if size < 2**20:
        return f"{size / 2**10:.0f} KiB"
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.0f} MiB"


def _available() -> int:
    """Bytes that new processes may take; all memory if the system does not report it."""
    try:
        fields = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        return int(fields["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _left_in_group(group: Path) -> float:
    """Bytes left in a container (control groups, version 2), cached files counted as free."""
    try:
        limit = int((group / "memory.max").read_text())
        cached = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())["inactive_file"]
        return max(0, limit - int((group / "memory.current").read_text()) + int(cached))
    except (OSError, KeyError, ValueError):
        return math.inf
