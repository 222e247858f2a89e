"""How many trials to train as one program: what K of them take of memory, and the K that suits the device.

    bytes = base + K (weights, momentum, best weights, the models they started from)
                 + k (gradients, a temporary of the update, and what a step keeps, see `rhn.engine.memory`)

On a CPU the trainer takes a stack through a step in parts of k <= K models; on a GPU k = K. tests/optim_study/test_fuse.py measures it.
"""

from collections.abc import Sequence

from rhn.engine.memory import in_words, part_size, step_bytes, weight_bytes
from rhn.errors import InvalidInputError

LARGEST_ON_CPU = 15  # measured: 30 are 3 to 10 % faster than 15 in small networks, but two workers end less evenly
SHARE = 0.6  # of the free memory
BASE = {"cpu": 350 << 20, "cuda": 1 << 30}  # a process with torch and optuna; on a GPU its context and libraries


def memory(model, fused: int, batches: Sequence, device: str) -> int:
    """Estimated peak bytes of a process that trains `fused` trials of this model, on these `Minibatch`es, as one program."""
    import torch

    positions = max(batch.mask.numel() for batch in batches)
    at_once = min(fused, part_size(model, positions, torch.device(device)) or fused)
    return (
        BASE[device]
        + 4 * fused * weight_bytes(model)
        + at_once * (2 * weight_bytes(model) + step_bytes(model, positions))
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


def largest_batch(pieces: Sequence, batch_size: int):
    """A `Minibatch` of the longest pieces, with its rows filled up as the trainer does, but without content."""
    import torch

    from rhn.chorales.batches import ROWS, Minibatch

    shape = max(map(len, pieces)), -(-batch_size // ROWS) * ROWS
    return Minibatch(torch.empty(*shape, 88, device="meta"), torch.empty(shape, device="meta"), 0)


def _require(need: float, free: float, what: str, model) -> None:
    if need > free:
        raise InvalidInputError(
            f"{what} of {model.cell}-depth{model.depth} would need about {in_words(need)} of memory a worker, "
            f"{in_words(free)} are free: use a smaller --fuse, fewer --jobs or a smaller --budget-scale"
        )
