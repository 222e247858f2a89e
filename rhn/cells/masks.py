"""Dropout masks of a cell: one draw a sequence, shared by all time steps and all recurrence layers (Gal and Ghahramani 2016).

    z_j = W_j (x * input_j) + R_j (s * state_j) + b_j        block j of the gates (RHN: H, T, C), at every layer
    s'  = (h * candidate) * t + s * c                        the carried state s is never masked

A mask's entries are 0, or 1/keep so that expectations stay. J = 1: the blocks share one mask (the official TensorFlow code);
J = G: each block has its own (the official Torch7 code; RHN only). `candidate` is the recurrent dropout of Semeniuta et al. (2016).
"""

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from rhn.errors import InvalidInputError

if TYPE_CHECKING:
    from rhn.cells.base import Cell


class CellMasks(NamedTuple):
    """The masks of one cell for one window of B sequences; None where nothing is dropped. Constants: they get no gradient.

    input (J, B, m) multiplies x where it enters the gates; state (J, B, n) the state where it enters R; candidate (B, n) h.
    """

    input: Tensor | None = None
    state: Tensor | None = None
    candidate: Tensor | None = None

    @property
    def given(self) -> tuple[str, ...]:
        """The names of the masks that are not None."""
        return tuple(name for name, mask in self._asdict().items() if mask is not None)


def check_masks(masks: CellMasks, cell: "Cell", batch: int, dtype: torch.dtype) -> None:
    """Raise InvalidInputError where a mask's shape or dtype does not fit, or the cell cannot take it."""
    blocks = sorted({1, cell.blocks}) if cell.separate_masks else [1]
    for name in masks.given:
        mask, row = getattr(masks, name), (batch, cell.input_size if name == "input" else cell.hidden_size)
        if name != "input" and name not in cell.masks:
            raise InvalidInputError(
                f"{type(cell).__name__} takes no {name} mask: expected masks for {' and '.join(('input', *cell.masks))} only; "
                f"set {'drop_hidden' if name == 'state' else 'drop_candidate'} to 0, or write a cell whose `masks` names it and whose "
                "states(x, s0, dropout) applies it"
            )
        wanted = [row] if name == "candidate" else [(J, *row) for J in blocks]
        if tuple(mask.shape) not in wanted or mask.dtype != dtype:
            raise InvalidInputError(
                f"the {name} mask is {mask.dtype} of shape {tuple(mask.shape)}: "
                f"expected {dtype} of shape {' or '.join(map(str, wanted))}"
            )


def apply_input_mask(x: Tensor, masks: CellMasks | None) -> tuple[Tensor, CellMasks]:
    """x (T, B, m) times an input mask that all gate blocks share, and the masks still to be applied."""
    masks = CellMasks() if masks is None else masks
    if masks.input is None or len(masks.input) > 1:
        return x, masks
    return x * masks.input[0], masks._replace(input=None)
