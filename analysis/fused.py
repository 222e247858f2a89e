"""The losses of many networks that differ in a few parameters, as one program: those parameters are stacked, all others shared.

`vmap` over the changed parameters makes one kernel call for all networks (`rhn.kernels.autograd`); nothing else is copied. What of a
stack is evaluated at once is bounded by memory alone. What the loss is, `analysis.tasks` knows.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from analysis.layers import places
from analysis.tasks import Music, Text
from rhn.training.batches import Minibatch
from rhn.training.ensemble import Ensemble
from rhn.training.memory import free_memory
from rhn.training.numerics import deterministic

CPU_BYTES = 384 << 20  # for the states and gates of networks that run together; more is not faster (measured)


def predicted(batches: Sequence[Minibatch]) -> Tensor:
    """Predicted steps of each sequence, (N,) float64; rows of padding are left out."""
    counts = torch.cat([batch.mask[1:].sum(0, dtype=torch.float64) for batch in batches]).cpu()
    return counts[counts > 0]


def stacked_nll(
    model: nn.Module,
    task: Music | Text,
    lesions: Sequence,
    changes: Callable[..., dict[str, Tensor]],
    batches: Sequence[Minibatch],
    *,
    at_once: int | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Tensor:
    """Nats of each sequence in each changed network, (K, N) float64 on the CPU, sequences in the order of the batches.

    Args:
        model: on the device of the batches.
        task: what it predicts.
        lesions: K of anything; changes(lesion) are new values of some parameters or buffers, by name, the rest being the model's.
        batches: those of the task.
        at_once: networks that run together; by default as many as memory holds.
        progress: called with (networks x batches done, of how many).
    """
    K, columns, done = len(lesions), [], 0
    for batch in batches:
        step, parts = at_once or _networks_at_once(model, task, batch), []
        for start in range(0, K, step):
            some = [changes(lesion) for lesion in lesions[start : start + step]]
            with deterministic():
                parts.append(_stack(model, some).map(task.nll, batch.frames, batch.mask).cpu())
            done += len(some)
            progress(done, K * len(batches))
        real = batch.mask[1:].any(0).cpu()
        columns.append(torch.cat(parts)[:, real])
    return torch.cat(columns, 1)


def _stack(model: nn.Module, changes: Sequence[dict[str, Tensor]]) -> Ensemble:
    """The changed networks: what no lesion changes stays in the one model, which all share."""
    tensors = dict(model.named_parameters()) | dict(model.named_buffers())
    names = {name: None for change in changes for name in change} or {next(iter(tensors)): None}
    return Ensemble(model, {n: torch.stack([c.get(n, tensors[n].detach()) for c in changes]) for n in names}, {})


def _networks_at_once(model: nn.Module, task: Music | Text, batch: Minibatch) -> int:
    T, B = batch.mask.shape
    cells = {place.name: place.cell for place in places(model)}.values()
    numbers = task.width + sum(
        cell.depth * cell.blocks * cell.hidden_size + (cell.depth + 2) * cell.state_size for cell in cells
    )
    budget = free_memory("cuda") // 3 if batch.mask.is_cuda else CPU_BYTES
    return max(1, budget // (T * B * numbers * batch.mask.element_size()))
