"""Credit over time, measured: how much of every frame's loss reaches every earlier state, and which lags the gradient is made of.

    record = credit(model, x, targets)
    record.norms[t2, t1]    || dL[t2] / dy[t1] ||
    record.lag_share[k]     the part of the recurrence's gradient that pairs with t2 - t1 = k contribute

Equation 1 of the paper (Zilly et al. 2017) writes the gradient as a sum over pairs: the loss of frame t2 reaches the parameters through
each step t1 <= t2. With g[k] the sum over all pairs of lag k = t2 - t1, the gradient is g = g[0] + ... + g[T - 1], and backpropagation
that goes back at most k steps gets g[0] + ... + g[k] of it. See `gersgorin.assignment.unrolled`.

Legend: T frames, y[t] the state after the recurrence has read frame t; of stacked cells the states of all of them.
"""

from collections import Counter
from typing import Any

import numpy as np
import torch
from torch import nn

from gersgorin.assignment.record import Credit
from gersgorin.assignment.unrolled import Unrolled
from gersgorin.grad_mode import with_gradients
from gersgorin.losses import Loss
from gersgorin.objective import Objective
from gersgorin.watch import cell_title, recurrent_cells
from rhn.provenance import words_of_built


@with_gradients()
def credit(model: nn.Module, x: Any, targets: Any, *, loss: str | Loss | None = None, unit: str = "steps") -> Credit:
    """Measure credit over time, in float64, along the model's run over x.

    Args:
        model: a `PolyphonicModel`, a `LanguageModel`, or any module whose recurrence is a cell of ours, one of torch.nn's (each of its
            layers counts as one, of one direction), or a module with `step(x, s)` and `state_size` whose forward calls it once a frame.
        x: frames (T, B, m) or (T, m), ids (T, B) or (T,), or a list of pieces; targets: likewise, what the model is to predict at
            each frame of x, for the next frame x = frames[:-1], targets = frames[1:].
        loss: see `gersgorin.objective.Objective`; frame by frame.
        unit: of one frame, for the axes of time: "quarter notes", "tokens", "0.1 s".

    Time T single backward passes at once; memory T^2 B N numbers, N entries of the state: 0.2 GB for T = 300, N = 262.

    Raises:
        InvalidInputError: as `Objective`; no cell is found; or the loss is one number for all frames.
    """
    objective = Objective(model, (x, targets), loss)
    run = Unrolled(objective)
    adjoints = run.adjoints()
    present = objective.mask.sum(1)  # sequences that have this frame
    squares = sum(each.square().sum((2, 3)) for each in adjoints) * objective.mask.sum() ** 2
    norms = (squares / present.unsqueeze(1)).sqrt()
    T, cells = len(norms), recurrent_cells(model)
    whole = run.gradient([each.sum(0) for each in adjoints])
    rest, along = torch.zeros_like(whole), whole / whole.norm() ** 2
    lag_norm, lag_share, lost = np.empty((3, T))
    for lag in reversed(range(T)):
        lost[lag] = rest.norm() / whole.norm()
        part = run.gradient([_at_lag(each, lag) for each in adjoints])
        lag_norm[lag], lag_share[lag] = part.norm() / whole.norm(), part @ along
        rest += part
    return Credit(
        loss=run.losses.sum().item(),
        norms=norms.numpy(force=True),
        gradient_norm=whole.norm().item(),
        lag_norm=lag_norm,
        lag_share=lag_share,
        lost=lost,
        path_lengths=path_lengths([*run.cells.values()], T),
        unit=unit,
        loss_unit=objective.loss.unit,
        title=" + ".join(f"{n} x {name}" if n > 1 else name for name, n in Counter(map(cell_title, cells)).items()),
        about=" + ".join(dict.fromkeys(filter(None, map(words_of_built, cells)))),
    )


def path_lengths(cells: list[nn.Module], lags: int) -> np.ndarray:
    """The least and the largest number of nonlinear layers between y[t1] and L[t2], for lags t2 - t1 = 0..lags - 1: (lags, 2).

    As in the paper's figure 1, for stacked cells, the lowest first. What a gate carries, or a state that is carried without one, passes
    a layer without a nonlinearity, and a shortcut the layers before it; a cell that does not describe its `layers()` has neither. The
    output layer is not counted.

    >>> from rhn.cells import DTRNN, RHN
    >>> path_lengths([DTRNN(1, 1, 3)], 3).tolist(), path_lengths([RHN(1, 1, 3)], 3).tolist()
    ([[0, 0], [3, 3], [6, 6]], [[0, 0], [0, 3], [0, 6]])
    """
    steps, entries = zip(*map(_shortest, cells), strict=True)
    depths = [getattr(cell, "depth", 1) for cell in cells]
    k = np.arange(lags)
    least = np.min([k * min(steps[c:]) + sum(entries[c + 1 :]) for c in range(len(cells))], axis=0)
    return np.stack([least, k * max(depths) + sum(depths[1:])], axis=1)


def _shortest(cell: nn.Module) -> tuple[int, int]:
    """The least number of nonlinear layers on the way from a cell's state, and from its input, to its next state."""
    layers = cell.layers() if hasattr(cell, "layers") else (None,) * getattr(cell, "depth", 1)
    from_state, from_input = 0, 0
    for place, layer in enumerate(layers):
        nonlinear = int(getattr(layer, "gate", None) is None and not getattr(layer, "carries", False))
        if getattr(layer, "skip", None) is not None:
            from_state = 0
        from_state, from_input = from_state + nonlinear, from_input + (nonlinear if place else 1)
    return from_state, from_input


def _at_lag(adjoints: torch.Tensor, lag: int) -> torch.Tensor:
    """From [t2, t1, b] the adjoints of states t1 (T, B, N) of the losses `lag` frames later, 0 where there are none."""
    T, picked = len(adjoints), torch.zeros_like(adjoints[0])
    t1 = torch.arange(T - lag, device=adjoints.device)
    picked[: T - lag] = adjoints[t1 + lag, t1]
    return picked
