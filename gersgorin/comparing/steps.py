"""One run, of which only a few numbers of each step are kept: Jacobians come in blocks, are measured and multiplied, and let go."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn

from gersgorin.comparing.record import KEPT
from gersgorin.discs import gersgorin_discs
from gersgorin.dynamics import running_log_norms
from gersgorin.measuring import BLOCK, finite_run
from gersgorin.own_loop import OwnLoop
from gersgorin.spectrum import eigenvalue_conditions, one_thread

AXES = {"row": ("row",), "column": ("column",), "both": ("row", "column")}


@torch.no_grad()
@one_thread()
def measure_steps(cell: nn.Module | OwnLoop, x: Tensor, *, name: str, along: str, discs: str) -> dict[str, np.ndarray]:
    """Run a cell over x (T, m) from a zero state: the measures of `KEPT`, (T,) each, equal to those of `measure_spectrum`.

    name, along: of the cell and the sequence, for errors. Raises InvalidInputError as there.
    """
    run = finite_run(cell, x, name=name, along=along)
    block, measured = max(1, BLOCK // run.state_size**2), []

    def steps() -> Iterator[Tensor]:
        for start in range(0, len(run), block):
            A = run.jacobians(slice(start, start + block))
            leading = eigenvalue_conditions(A)[0][:, 0]  # as `measure_spectrum` has them, to the last bit
            reaches = [
                disc.centers.abs() + disc.radii for disc in (gersgorin_discs(A, axis=axis) for axis in AXES[discs])
            ]
            reach = torch.stack([reach.amax(-1) for reach in reaches]).amin(0)
            measured.append((leading, torch.linalg.matrix_norm(A, 2), reach))
            yield from A

    log_norms = torch.stack(list(running_log_norms(steps())))
    columns = *(torch.cat(parts) for parts in zip(*measured, strict=True)), log_norms
    leading, *others = (column.cpu().numpy() for column in columns)
    return dict(zip(KEPT, (np.abs(leading), *others), strict=True))
