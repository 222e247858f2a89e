"""The layout of x: the axis of the batch and the axis of time. The layout is decided once, when the
data are read.

The layout is decided by an argument, by `batch_first` of the module, or by an axis of length 1,
never by trying.

Legend: T time steps, B sequences, m numbers of an input.
"""

from dataclasses import dataclass
from typing import Any, Self

from torch import Tensor, nn

from rhn.errors import InvalidInputError
from rhn.utils.old import counted, fits
from rhn.utils.validation import in_short


@dataclass(frozen=True)
class Layout:
    """The axes of x: batch and time.

    >>> import torch
    >>> layout = Layout.of(nn.GRU(3, 4, batch_first=True), x := torch.zeros(8, 20, 3))
    >>> layout, layout.sizes(x), layout.to_time_first(x).shape
    (Layout(batch=0), (20, 8), torch.Size([20, 8, 3]))
    """

    batch: int | None
    """The axis of the sequences, 0 or 1; None: x is one sequence without a batch axis."""

    @classmethod
    def of(
        cls, module: Any, x: Tensor, batch_axis: int | None = None, *, ids: bool | None = None
    ) -> Self:
        """The layout of x as a module reads it.

        Three rules give the axis of the batch; the first that applies counts. 1: batch_axis, if it
        is given. 2: the axis that `batch_first` in a part of the module declares, such as an
        nn.LSTM (0 if True in any part, else 1). 3: the one of the first two axes that has length 1.

        Args:
            module: the network; a function has no parts.
            x: numbers (T, m), (T, B, m) or (B, T, m), or with more axes, or ids (T,), (T, B) or
                (B, T).
            batch_axis: the axis that the user gave; None: not given.
            ids: whether x contains ids of tokens; None: see `is_ids`.

        Raises:
            InvalidInputError: no rule applies; the axis is not 0 or 1; or an axis is given for x
                without a batch.
        """
        check_batch_axis(batch_axis)
        shape = tuple(x.shape)
        if not has_batch(x, ids=ids):
            if batch_axis is not None:
                raise InvalidInputError(
                    f"x {shape} is one sequence without a batch: leave batch_axis={batch_axis} out"
                )
            return cls(None)
        axis = declared_axis(module) if batch_axis is None else batch_axis
        if axis is None:
            axis = single_axis(x)
        if axis is None:
            raise InvalidInputError(
                f"x {shape} has two axes that may be the batch: give batch_axis=0 for (B, T, ...) "
                "or batch_axis=1 for (T, B, ...) (--batch-axis)"
            )
        return cls(axis)

    @classmethod
    def of_one(cls, x: Tensor, *, ids: bool | None = None) -> Self:
        """The layout of one sequence, without a batch or with a batch of one.

        Raises InvalidInputError for several sequences.

        >>> import torch
        >>> Layout.of_one(torch.zeros(20, 1, 3)).frames(torch.zeros(20, 1, 3)).shape
        torch.Size([20, 3])
        """
        if not has_batch(x, ids=ids):
            return cls(None)
        axis = single_axis(x)
        if axis is None:
            expected = "ids (T,), (T, 1) or (1, T)" if ids else "(T, m), (T, 1, m) or (1, T, m)"
            raise InvalidInputError(
                f"x of shape {tuple(x.shape)} holds several sequences: expected one, {expected}, "
                "such as x[:, :1], or x[:1] of (B, T, m)"
            )
        return cls(axis)

    @property
    def time(self) -> int:
        """The axis of the time steps."""
        return 1 if self.batch == 0 else 0

    def sizes(self, x: Tensor) -> tuple[int, int]:
        """The sizes (T, B) of x."""
        return x.shape[self.time], 1 if self.batch is None else x.shape[self.batch]

    def to_time_first(self, values: Tensor, lead: int = 0) -> Tensor:
        """A view (T, B, ...) of values that have the layout of x. lead: the number of axes before
        those of x.
        """
        if self.batch is None:
            return values.unsqueeze(lead + 1)
        return values.transpose(lead, lead + 1) if self.batch == 0 else values

    def back(self, values: Tensor) -> Tensor:
        """A view of values (T, B, ...) in the layout of x; the inverse of `to_time_first`."""
        if self.batch is None:
            return values.squeeze(1)
        return values.transpose(0, 1) if self.batch == 0 else values

    def of_outputs(self, o: Tensor, T: int, B: int) -> "Layout | None":
        """The layout of outputs, one for each of T steps of B sequences: the layout of x, or the
        one with time and batch swapped. None if the outputs have neither layout.
        """
        return next(
            (
                each
                for each in (self, Layout(0), Layout(1))
                if o.dim() > (0 if each.batch is None else 1) and each.sizes(o) == (T, B)
            ),
            None,
        )

    def frames(self, x: Tensor, k: int = 0) -> Tensor:
        """A view of the frames (T, m), or ids (T,), of sequence k of x."""
        return self.to_time_first(x)[:, k]

    def sequence(self, x: Tensor, k: int = 0) -> Tensor:
        """A view of sequence k of x, with all axes of x."""
        return x if self.batch is None else x.narrow(self.batch, k, 1)

    def first_steps(self, x: Tensor, steps: int) -> Tensor:
        """A view of the first time steps of x."""
        return x.narrow(self.time, 0, steps)


def is_ids(x: Tensor) -> bool:
    """Return True for ids of tokens: whole numbers with a dtype of more than 8 bits. Whole numbers
    of 8 bits are frames of 0 and 1.
    """
    return not x.is_floating_point() and x.dtype.itemsize > 1


def has_batch(x: Tensor, *, ids: bool | None = None) -> bool:
    """True if x has an axis of sequences: numbers with three axes or more, or ids with two."""
    return x.dim() > (1 if (is_ids(x) if ids is None else ids) else 2)


def single_axis(x: Tensor) -> int | None:
    """Return the one of the first two axes whose length is 1; axis 1 if both have it; None if
    neither has it.
    """
    if x.shape[1] == 1:
        return 1
    return 0 if x.shape[0] == 1 else None


def declared_axis(module: Any) -> int | None:
    """The axis of the batch that `batch_first` in the parts of a module declares; None if no part
    has it.
    """
    parts = module.modules() if isinstance(module, nn.Module) else ()
    flags = [bool(part.batch_first) for part in parts if hasattr(part, "batch_first")]
    return (0 if any(flags) else 1) if flags else None


def check_batch_axis(batch_axis: Any) -> None:
    """Raise InvalidInputError for anything but 0, 1 and None."""
    if not fits(batch_axis, int | None) or batch_axis not in (None, 0, 1):
        raise InvalidInputError(f"batch_axis is {in_short(batch_axis)}: expected 0 or 1")


def as_module_takes(module: Any, frames: Tensor, batch_axis: int | None = None) -> Tensor:
    """Convert time-first sequences to the layout of a module.

    Several sequences, (T, B, m) or ids (T, B), get the batch on the module's axis. One sequence,
    (T, m) or (T,), gets a batch of one if the axis is given or declared; otherwise it is returned
    unchanged.

    Raises InvalidInputError, see `Layout.of`.
    """
    axis = declared_axis(module) if batch_axis is None else batch_axis
    if has_batch(frames):
        return Layout.of(module, frames, axis).back(frames)
    return with_batch(frames, axis)


def with_batch(x: Any, axis: int | None) -> Any:
    """Add a batch of one on this axis to one sequence without a batch; return any other x
    unchanged. axis None: always unchanged.
    """
    if axis is None or not isinstance(x, Tensor) or has_batch(x):
        return x
    return x.unsqueeze(axis)


def several_in_words(count: int, lengths: list[int]) -> str:
    """The number of sequences and their lengths in words.

    >>> several_in_words(5, [9, 20]), several_in_words(5, [20])
    ('5 sequences of 9 to 20 steps', '5 sequences of 20 steps')
    """
    least, most = min(lengths), max(lengths)
    steps = counted(most, "step")
    return f"{count} sequences of {f'{least} to ' if least < most else ''}{steps}"
