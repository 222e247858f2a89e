"""The axes of a module's input and output: the batch and time.

Legend: T time steps, B sequences.
"""

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from rhn.errors import InvalidInputError
from rhn.utils.validation import in_short, is_whole_number, kind_of


@dataclass(frozen=True)
class BatchAxis:
    """The axis of the batch.

    >>> import torch
    >>> BatchAxis(0).to_time_first(torch.zeros(8, 20, 3)).shape
    torch.Size([20, 8, 3])
    """

    batch: int | None
    """The axis of the sequences, 0 or 1; None: one sequence without an axis of the batch."""

    def to_time_first(self, values: Tensor) -> Tensor:
        """Return a view (T, B, ...) of values that have this layout."""
        if self.batch is None:
            return values.unsqueeze(1)
        return values.transpose(0, 1) if self.batch == 0 else values

    def back(self, values: Tensor) -> Tensor:
        """Return a view of values (T, B, ...) in this layout; the inverse of `to_time_first`."""
        if self.batch is None:
            return values.squeeze(1)
        return values.transpose(0, 1) if self.batch == 0 else values


def declared_axis(module: nn.Module) -> int | None:
    """Return the axis of the batch that `batch_first` in the parts of a module declares; None if no
    part has it.
    """
    flags = [bool(part.batch_first) for part in module.modules() if hasattr(part, "batch_first")]
    return (0 if any(flags) else 1) if flags else None


def check_batch_axis(batch_axis: Any) -> None:
    """Raise InvalidInputError for anything but 0, 1 and None."""
    if batch_axis is not None and not is_whole_number(batch_axis, 0, 1):
        raise InvalidInputError(f"batch_axis is {in_short(batch_axis)}: expected 0 or 1")


def output_of(output: Any) -> Tensor:
    """Return the output among what a module returns: the output itself, an object with `logits`, or
    a tuple (output, state).
    """
    output = getattr(output, "logits", output)
    while isinstance(output, tuple | list) and output:
        output = output[0]
    if not isinstance(output, Tensor):
        raise InvalidInputError(
            f"model(x) returned {kind_of(output)}, expected a tensor or a tuple that "
            "begins with one"
        )
    return output
