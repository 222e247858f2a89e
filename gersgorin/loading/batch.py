"""Find the axis of a batch in the input of a network: by an argument or the module's batch_first,
never by trying layouts.

Legend: T steps, B sequences, m numbers of a step.
"""

from typing import Any

from torch import Tensor, nn

from rhn.errors import InvalidInputError
from rhn.utils.validation import fits
from rhn.utils.wording import in_short


def is_ids(x: Tensor) -> bool:
    """True for ids of tokens: whole numbers of more than the 8 bits of frames of 0 and 1."""
    return not x.is_floating_point() and x.dtype.itemsize > 1


def declared_axis(module: Any) -> int | None:
    """The axis of the batch by `batch_first` of the parts of a module; None if none has it."""
    parts = module.modules() if isinstance(module, nn.Module) else ()
    flags = [bool(part.batch_first) for part in parts if hasattr(part, "batch_first")]
    return (0 if any(flags) else 1) if flags else None


def batch_axis_of(
    module: Any, x: Tensor, given: int | None = None, *, ids: bool | None = None
) -> int | None:
    """The axis of the batch in x, 0 or 1; None for one sequence without a batch, (T, m) or (T,).

    In this order: the axis that was given; `batch_first` of a part of the module, such as an
    nn.LSTM (True in any of them: 0, else 1); the one of the first two axes whose length is 1.

    Args:
        module: the network; a function has no parts.
        x: numbers (T, m), (T, B, m) or (B, T, m), also of more axes, or ids (T,), (T, B) or (B, T).
        given: the user's `batch_axis`.
        ids: whether x is ids; None: if its whole numbers have more than 8 bits.

    Raises:
        InvalidInputError: neither decides; an axis other than 0 and 1; an axis given for x without
            a batch.

    >>> import torch
    >>> batch_axis_of(nn.GRU(3, 4, batch_first=True), torch.zeros(8, 20, 3))
    0
    >>> batch_axis_of(nn.Linear(3, 4), torch.zeros(20, 3)) is None
    True
    """
    if not fits(given, int | None) or given not in (None, 0, 1):
        raise InvalidInputError(f"batch_axis is {in_short(given)}: expected 0 or 1")
    shape, alone = tuple(x.shape), 1 if (is_ids(x) if ids is None else ids) else 2
    if len(shape) <= alone:
        if given is not None:
            raise InvalidInputError(
                f"x {shape} is one sequence without a batch: leave batch_axis={given} out"
            )
        return None
    if given is not None:
        return given
    if (declared := declared_axis(module)) is not None:
        return declared
    if (shape[0] == 1) != (shape[1] == 1):
        return 0 if shape[0] == 1 else 1
    raise InvalidInputError(
        f"x {shape} has two axes that may be the batch: give batch_axis=0 for (B, T, ...) or "
        "batch_axis=1 for (T, B, ...) (--batch-axis)"
    )


def laid_out(module: Any, frames: Tensor, given: int | None = None) -> Tensor:
    """Sequences of a file as a module reads them: several, (T, S, m) or ids (T, S), with the batch
    where `given` or the module has it; one, (T, m) or (T,), then also with a batch, else as it is.

    Raises InvalidInputError, see `batch_axis_of`.
    """
    one = frames.dim() == (1 if is_ids(frames) else 2)
    if one and given is None and declared_axis(module) is None:
        return frames
    batch = frames.unsqueeze(1) if one else frames
    return batch.transpose(0, 1) if batch_axis_of(module, batch, given) == 0 else batch
