"""Profile a training step: the kernel of its recurrence, the seconds of a step, and those of the recurrence.

A few gradients are timed, without a change of weights: those of the whole loss, and those of only the recurrent cells on inputs of the
same shape. On a GPU both are captured as CUDA graphs, like the steps of a training.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from rhn.cells import CellMasks
from rhn.kernels.dispatch import recorded_choices
from rhn.kernels.info import recurrence_words
from rhn.training.ensemble import Ensemble, mapped
from rhn.training.graphs import captured

ENOUGH = 0.2  # seconds, of either: then no further repetition
REPETITIONS = 25


@dataclass(frozen=True)
class Profile:
    """Seconds of the gradients of a step and of their part in the recurrent cells, NaN if memory was too short to measure them;
    `kernel` describes the implementation of the cells."""

    kernel: str
    step: float
    recurrence: float

    @property
    def share(self) -> float:
        """The share of the recurrence in a step; noise may lift a measurement above 1."""
        return min(1.0, self.recurrence / self.step)

    def __str__(self) -> str:
        return self.kernel if math.isnan(self.step) else f"{100 * self.share:.0f} % of a step; {self.kernel}"


def measure_profile(
    ensemble: Ensemble,
    gradients: Callable[[], Any],
    x: Tensor,
    *,
    own: bool,
    masks: tuple[CellMasks, ...] | None = None,
) -> Profile:
    """The profile of a training step of an ensemble.

    Args:
        gradients: computes the gradients of a step and changes nothing.
        x: input of the first cell: (T, B, m), shared by the models, or (K, T, B, m), one for each.
        own: whether the input of the first cell needs a gradient, such as that of an embedding.
        masks: stacked dropout masks of each cell; None for models without dropout.
    """
    device = ensemble.device
    with torch.random.fork_rng([device] if device.type == "cuda" else []), recorded_choices() as choices:
        parts = [captured(call, device) for call in (gradients, lambda: _cells_alone(ensemble, x, own, masks))]
        try:
            step, recurrence = _interleaved(parts, device)
        except torch.OutOfMemoryError:  # beside what the training holds; its own step may fit
            step = recurrence = math.nan
    return Profile(recurrence_words(choices, device, _precision(ensemble)), step, recurrence)


def _cells_alone(ensemble: Ensemble, x: Tensor, own: bool, masks: tuple[CellMasks, ...] | None) -> list:
    """The gradients of each cell's outputs, summed, in its weights and where they are needed in its inputs."""
    found = []
    for i, cell in enumerate(ensemble.skeleton.cells):
        found.append(_gradients(ensemble, i, cell, x, own, None if masks is None else masks[i]))
        x, own = x.new_full((len(ensemble), *x.shape[-3:-1], ensemble.skeleton.hidden_size), 0.5), True
    return found


def _gradients(ensemble: Ensemble, number: int, cell: nn.Module, x: Tensor, own: bool, masks: CellMasks | None) -> Any:
    prefix = f"cells.{number}."
    weights, constants = (
        {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
        for tensors in (ensemble.weights, ensemble.constants)
    )
    dropout = masks is not None and any(m is not None for m in masks)

    def of_one(weights, constants, x, masks):
        def total(weights, x):
            given = {"dropout": masks} if dropout else {}
            return functional_call(cell, (weights, constants), (x,), given)[0].sum()

        return grad(total, argnums=(0, 1) if own else 0)(weights, x)

    in_dims = (0, 0, 0 if x.dim() == 4 else None, mapped(masks))
    return vmap(of_one, in_dims=in_dims)(weights, constants, x, masks)


def _interleaved(calls: list[Callable[[], Any]], device: torch.device) -> list[float]:
    """The least seconds of each call, taken in turns: other programs only make them longer. The first, which also allocates and
    captures, counts only where it is long."""
    times = [[_seconds(call, device)] for call in calls]
    for _ in range(REPETITIONS):
        if all(sum(some) >= ENOUGH for some in times):
            break
        for call, some in zip(calls, times, strict=True):
            some.append(_seconds(call, device))
    return [min(some[1:] or some) for some in times]


def _seconds(call: Callable[[], Any], device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    call()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def _precision(ensemble: Ensemble) -> str:
    return getattr(ensemble.skeleton.cells[0], "precision", "float32")
