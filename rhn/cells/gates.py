"""The gates of a cell in one time step, and its dropout masks."""

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor


@dataclass(frozen=True)
class Gates:
    """Gates and states of all layers in one time step, as tensors (..., n), one for each layer.

    h is the candidate, t the transform gate, c the carry gate, and states are s_1..s_L. For cells
    without gates all tuples are empty. len() is the number of layers.
    """

    h: tuple[Tensor, ...] = ()
    t: tuple[Tensor, ...] = ()
    c: tuple[Tensor, ...] = ()
    states: tuple[Tensor, ...] = ()

    def __len__(self) -> int:
        return len(self.t)


class CellMasks(NamedTuple):
    """Dropout masks of one cell for one window of B sequences, constants without a gradient. A mask
    that is None drops nothing.

    All time steps and all recurrence layers share a draw (Gal and Ghahramani 2016):

        z_j = W_j (x * input_j) + R_j (s * state_j) + b_j     j is a gate or the candidate
        s'  = (h * candidate) * t + s * c                     candidate: Semeniuta et al. (2016)

    Shapes: input (J, B, m), state (J, B, n), candidate (B, n). Entries are 0 or 1 / keep. With
    J = 1 the blocks share one mask (official TensorFlow code). With J = G each block has its own
    (official Torch7 code; RHN only).
    """

    input: Tensor | None = None
    state: Tensor | None = None
    candidate: Tensor | None = None
