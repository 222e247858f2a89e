"""How many trials to train as one program: what K of them take of memory, and the K that suits the device.

Legend: K trials, P parameters of one network, T frames of the longest batch, B rows of a batch, n units, L recurrence depth.

    bytes = base + 4 K P * 4                       weights, momentum, best weights, the models they started from
                 + 4 k P * 2                       gradients and one temporary of the update
                 + 4 k T B (a L n + b n + 5 * 88)  activations of a step, forward and backward, and the logits

On a CPU the trainer takes a stack through a step in parts of k <= K models that fit the cache; on a GPU k = K. For our cells a and b
count the buffers of `rhn.kernels`; for others they are a guess at what autograd keeps. Measured in tests/optim_study/test_fuse.py.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rhn.errors import InvalidInputError

LARGEST_ON_CPU = 15  # measured: beyond it fusing gains nothing there, and a killed worker's group is redone as a whole
SHARE = 0.6  # of the free memory
BASE = {"cpu": 350 << 20, "cuda": 1 << 30}  # a process with torch and optuna; on a GPU its context and libraries

_BUFFERS = {
    "rhn": (9, 6),
    "dt-rnn": (5, 4),
    "dts-rnn": (5, 4),
    "rnn": (5, 4),
    "irnn": (5, 4),
    "lstm": (18, 8),
    "gru": (16, 8),
}
_OTHERS = (30, 10)


@dataclass(frozen=True, kw_only=True)
class Network:
    """What memory depends on."""

    arch: str
    depth: int
    hidden_size: int
    parameters: int
    """Of the whole network, output layer and biases included."""


@dataclass(frozen=True, kw_only=True)
class Batches:
    """The largest batch of an epoch."""

    frames: int
    rows: int


def memory(network: Network, fused: int, batches: Batches, device: str) -> int:
    """Estimated peak bytes of a process that trains `fused` trials of this network as one program."""
    at_once = min(fused, cache_part(network)) if device == "cpu" else fused
    kept, passing = 4 * fused * network.parameters, 2 * at_once * network.parameters
    a, b = _BUFFERS.get(network.arch, _OTHERS)
    n = network.hidden_size
    activations = at_once * batches.frames * batches.rows * (a * network.depth * n + b * n + 5 * 88)
    return BASE[device] + 4 * (kept + passing + activations)


def cache_part(network: Network) -> int:
    """How many models a CPU takes through a step together."""
    from rhn.training.loop import CACHE_BYTES

    return max(1, CACHE_BYTES // (4 * network.parameters))


def choose(
    network: Network, *, trials: int, jobs: int, device: str, batches: Batches, fuse: int | str, free: int | None = None
) -> int:
    """K for a network: what was asked, or the largest that suits.

    On a CPU every worker gets two groups or more, so that they end at about the same time; on a GPU all trials go together, halved
    later if the memory does not last. `free` is the memory to be shared by all jobs.

    Raises InvalidInputError where the number asked for, or even a single trial, does not fit.
    """
    free = free_memory(device) if free is None else free
    if fuse != "auto":
        _require(
            memory(network, min(fuse, trials), batches, device),
            free / jobs,
            f"{min(fuse, trials)} fused trials",
            network,
        )
        return min(fuse, trials)
    most = -(-trials // jobs) if device == "cuda" else min(LARGEST_ON_CPU, -(-trials // (2 * jobs)))
    fitting = [k for k in range(1, most + 1) if memory(network, k, batches, device) <= SHARE * free / jobs]
    if not fitting:
        _require(memory(network, 1, batches, device), free / jobs, "one trial", network)
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


def largest_batch(pieces: Sequence, batch_size: int) -> Batches:
    """The longest piece and the rows of a batch, filled up as the trainer does."""
    from rhn.training.batches import ROWS

    return Batches(frames=max(map(len, pieces)), rows=-(-batch_size // ROWS) * ROWS)


def _require(need: float, free: float, what: str, network: Network) -> None:
    if need > free:
        raise InvalidInputError(
            f"{what} of {network.arch}-depth{network.depth} would need about {words(need)} of memory a worker, {words(free)} "
            "are free: use a smaller --fuse, fewer --jobs or a smaller --budget-scale"
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
