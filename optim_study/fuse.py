"""How many trials to train as one program: what K of them take of memory, and the K that suits the device.

    bytes = base + K (weights, momentum, best weights, the models they started from)
                 + k (gradients, a temporary of the update, and what a step keeps, see `rhn.engine.memory`)

On a CPU the trainer takes a stack through a step in parts of k <= K models; on a GPU k = K. tests/optim_study/test_fuse.py measures it.
"""

import math
from collections.abc import Sequence
from pathlib import Path

from rhn.errors import InvalidInputError

LARGEST_ON_CPU = 15  # measured: 30 are 3 to 10 % faster than 15 in small networks, but two workers end less evenly
SHARE = 0.6  # of the free memory
BASE = {"cpu": 350 << 20, "cuda": 1 << 30}  # a process with torch and optuna; on a GPU its context and libraries


def memory(model, fused: int, batches: Sequence, device: str) -> int:
    """Estimated peak bytes of a process that trains `fused` trials of this model, on these `Minibatch`es, as one program."""
    import torch

    from rhn.engine.memory import part_size, step_bytes, weight_bytes

    at_once = min(fused, part_size(model, batches, torch.device(device)) or fused)
    return (
        BASE[device]
        + 4 * fused * weight_bytes(model)
        + at_once * (2 * weight_bytes(model) + step_bytes(model, batches))
    )


def choose(model, batches: Sequence, *, trials: int, jobs: int, device: str, fuse: int | str, free: int) -> int:
    """K for a network: what was asked, or the largest that suits.

    On a CPU every worker gets two groups or more, so that they end at about the same time; on a GPU all trials go together, halved
    later if the memory does not last. `free` is the memory in bytes that all jobs share.

    Raises InvalidInputError where the number asked for, or even a single trial, does not fit.
    """

    def need(k: int) -> int:
        return memory(model, k, batches, device)

    if fuse != "auto":
        asked = min(fuse, trials)
        _require(need(asked), free / jobs, f"{asked} fused trials" if asked > 1 else "one trial", model)
        return asked
    most = -(-trials // jobs) if device == "cuda" else min(LARGEST_ON_CPU, -(-trials // (2 * jobs)))
    fitting = [k for k in range(1, most + 1) if need(k) <= SHARE * free / jobs]
    if not fitting:
        _require(need(1), free / jobs, "one trial", model)
    return max(fitting, default=1)


def free_memory(device: str) -> int:
    """Bytes that can be had on the device now; on a CPU also within the limit of its control group, if it has one."""
    if device == "cuda":
        import torch

        return torch.cuda.mem_get_info()[0]
    limits = [_available(), _left_in_group(Path("/sys/fs/cgroup"))]
    return int(min(limits)) if min(limits) < math.inf else 1 << 40


def words(size: float) -> str:
    """
    >>> words(1.5 * 2**30), words(300 * 2**20)
    ('1.5 GiB', '300 MiB')
    """
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.0f} MiB"


def largest_batch(pieces: Sequence, batch_size: int):
    """A `Minibatch` of the longest pieces, with its rows filled up as the trainer does, but without content."""
    import torch

    from rhn.chorales.batches import ROWS, Minibatch

    shape = max(map(len, pieces)), -(-batch_size // ROWS) * ROWS
    return Minibatch(torch.empty(*shape, 88, device="meta"), torch.empty(shape, device="meta"), 0)


def _require(need: float, free: float, what: str, model) -> None:
    if need > free:
        raise InvalidInputError(
            f"{what} of {model.cell}-depth{model.depth} would need about {words(need)} of memory a worker, {words(free)} are free: "
            "use a smaller --fuse, fewer --jobs or a smaller --budget-scale"
        )


def _available() -> float:
    try:
        fields = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        return int(fields["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return math.inf


def _left_in_group(group: Path) -> float:
    """What a container may still take (control groups, version 2); files the kernel only caches do not count as taken."""
    try:
        limit = int((group / "memory.max").read_text())
        cached = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())["inactive_file"]
        return max(0, limit - int((group / "memory.current").read_text()) + int(cached))
    except (OSError, KeyError, ValueError):
        return math.inf
