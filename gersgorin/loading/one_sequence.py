"""Read x of an analysis as one sequence: which axes are frames, a batch of one, and units; layouts
in which modules take it.

Every analysis of a run, `compare` and `Recorder` read x by these functions.

Legend: T frames, m units.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

from gersgorin._validate import finite_tensor
from rhn.errors import InvalidInputError


def one_sequence(x: Any, *, ids: bool | None = None) -> Tensor:
    """One sequence as it was given: numbers (T, m), (T, 1, m) or (1, T, m), or ids of tokens (T,),
    (T, 1) or (1, T).

    Args:
        x: a tensor, an array, a data frame with a row a frame, or a packed sequence. Numbers (T,)
            are frames of one unit.
        ids: whether x is ids; None: if it is int64 in one of these shapes.

    Raises:
        InvalidInputError: anything else; several sequences; NotFiniteError: NaN or infinity.
    """
    x = finite_tensor("x", unpacked(x))
    whole = not x.is_floating_point() and x.dtype != torch.bool
    ids = (
        x.dtype == torch.int64 and (x.dim() == 1 or (x.dim() == 2 and 1 in x.shape))
        if ids is None
        else ids
    )
    if ids and not whole:
        raise InvalidInputError(
            f"x is {x.dtype} of shape {tuple(x.shape)}: expected ids of tokens (T,), integers"
        )
    x = x.long() if ids else x if x.is_floating_point() else x.double()  # frames of keys are bytes
    x = x[:, None] if x.dim() == 1 and not ids else x
    if not is_one(x):
        expected = "ids (T,), (T, 1) or (1, T)" if ids else "(T, m), (T, 1, m) or (1, T, m)"
        raise InvalidInputError(
            f"x of shape {tuple(x.shape)} holds several sequences: expected one, {expected}, "
            "such as x[:, :1], or x[:1] of (B, T, m)"
        )
    return x


def unpacked(x: Any) -> Any:
    """The steps that all packed sequences have, (T, B, m); anything else as it is."""
    if not isinstance(x, PackedSequence):
        return x
    padded, lengths = pad_packed_sequence(x)
    return padded[: int(lengths.min())]


def is_one(x: Tensor) -> bool:
    """True for numbers or ids of one sequence, without or with a batch of one before or after the
    axis of time.
    """
    return x.dim() <= _alone(x) or 1 in x.shape[:2]


def without_batch(x: Tensor) -> Tensor:
    """Frames (T, m), or ids (T,), of one sequence."""
    return x.flatten(0, 1) if x.dim() > _alone(x) else x


def layouts(module: nn.Module, x: Tensor) -> list[tuple[Tensor, int]]:
    """One sequence as it may be passed to a module, each time with the axis of time, whatever its
    own layout is.

    (T, 1, m) and (1, T, m), the other way round if a part of the module is batch_first; at the end
    without a batch.
    """
    x = without_batch(x)
    batches = [(x[:, None], 0), (x[None], 1)]
    return (batches[::-1] if any(map(reads_batch_first, module.modules())) else batches) + [(x, 0)]


def reads_batch_first(cell: nn.Module) -> bool:
    """True for a cell that reads (B, T, m)."""
    return bool(getattr(cell, "batch_first", False))


def _alone(x: Tensor) -> int:
    """Number of axes of one sequence without a batch."""
    return 1 if x.dtype == torch.int64 else 2
