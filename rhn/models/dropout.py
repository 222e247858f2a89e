"""Variational dropout of a language model (Gal and Ghahramani 2016): masks are drawn once for each
window and shared by all its time steps.

    embedding (T, B)  drops words: all occurrences of a word in a row of a window share one draw
    cells             input, state and candidate of each cell, see `rhn.cells.CellMasks`
    output (B, n)     before the softmax

Every entry is 0 or 1 / keep, where keep is 1 - the dropout rate.
"""

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from rhn.cells import CellMasks
from rhn.cells.base import Cell
from rhn.errors import InvalidInputError


@dataclass(frozen=True, kw_only=True)
class Dropout:
    """The share of entries that is dropped at each place, in [0, 1).

    >>> Dropout(output=0.5).of_cells
    False
    """

    embedding: float = 0.0
    input: float = 0.0
    hidden: float = 0.0
    output: float = 0.0
    candidate: float = 0.0
    gate_masks: Literal["shared", "separate"] = "shared"
    """Whether a cell's gates share their masks (TensorFlow code) or each has its own (Torch7)."""

    @property
    def of_cells(self) -> bool:
        """True if anything is dropped within the cells."""
        return any((self.input, self.hidden, self.candidate))


class Masks(NamedTuple):
    """All dropout masks of a model, drawn once; None where nothing is dropped, and no `cells` if
    nothing is dropped in any cell.

    >>> Masks()
    Masks(embedding=None, cells=(), output=None)
    """

    embedding: Tensor | None = None
    cells: tuple[CellMasks, ...] = ()
    output: Tensor | None = None


def draw_masks(model: Any, tokens: Tensor, dropout: Dropout, generator: torch.Generator) -> Masks:
    """Draw new masks of a `LanguageModel` for tokens (T, B), on the device of the generator."""
    B, n, dtype = tokens.shape[1], model.hidden_size, model.embedding.dtype

    def draw(rate: float, *shape: int) -> Tensor | None:
        if not rate:
            return None
        keep = 1 - rate
        mask = torch.empty(shape, dtype=dtype, device=generator.device)
        return mask.bernoulli_(keep, generator=generator).div_(keep)

    words = draw(dropout.embedding, B, model.vocabulary_size)
    embedding = None if words is None else words.gather(1, tokens.t().to(words.device)).t()
    cells = []
    for cell in model.cells if dropout.of_cells else ():
        J = cell.blocks if dropout.gate_masks == "separate" else 1
        inputs, states = draw(dropout.input, J, B, cell.input_size), draw(dropout.hidden, J, B, n)
        cells.append(CellMasks(inputs, states, draw(dropout.candidate, B, n)))
    return Masks(embedding, tuple(cells), draw(dropout.output, B, n))


def require_masks(model: Any, dropout: Dropout) -> None:
    """Raise InvalidInputError if these rates need masks that a cell of a model does not take."""
    for cell in model.cells if dropout.of_cells else ():
        if not isinstance(cell, Cell):
            kind = type(cell).__name__
            raise InvalidInputError(f"dropout of {kind} is not 0: expected 0, or a rhn.cells.Cell")
