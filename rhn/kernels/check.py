"""The check of a tensor where it enters a kernel or a cell.

A shape is written in the legend of `rhn.kernels`: dimensions apart by spaces, "G*n" a product, "..." any shape.
"""

import functools
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from rhn.errors import InvalidInputError

Sizes = dict[str, int]
NEVER_EMPTY = ("T", "L", "n")


def check_tensor(name: str, t, shape: str, sizes: Sizes, like: Tensor, dtype: torch.dtype | None = None) -> None:
    """Raise InvalidInputError, naming the tensor, what it is, and what was expected, unless it has a shape, and the type of `like`.

    dtype: its own type. Sizes that were unknown are added to `sizes`.
    """
    why = _unusual(t, like, dtype or like.dtype) or _misshapen(t.shape, shape, sizes)
    if why:
        raise InvalidInputError(f"{name} {why}")


def _unusual(t, like: Tensor, dtype: torch.dtype) -> str | None:
    """Why a tensor cannot be used together with another one, whatever their shapes."""
    if not isinstance(t, Tensor):
        return f"is {type(t).__name__}: expected a tensor"
    if t.is_nested or t.layout is not torch.strided or not like.is_floating_point():
        return f"is {t.dtype} with the layout {t.layout}: expected a dense tensor of floating-point numbers"
    if (t.dtype, t.device) != (dtype, like.device):
        return f"is {t.dtype} on {t.device}: expected {dtype} on {like.device}; convert one of them"
    return None


def _misshapen(found: torch.Size, shape: str, sizes: Sizes) -> str | None:
    """Why a shape is not the expected one; None if it is: then sizes that were unknown are added."""
    if shape == "...":
        return None
    dimensions = _dimensions(shape)
    if len(found) == len(dimensions) and all(_is_size(*each, sizes) for each in zip(found, dimensions, strict=True)):
        return None
    known = ", ".join(f"{size} = {number}" for size, number in sizes.items() if size in shape)
    return f"has shape {tuple(found)}: expected ({shape.replace(' ', ', ')})" + f" with {known}" * bool(known)


def _is_size(number: int, factors: Sequence[str], sizes: Sizes) -> bool:
    """Compare a size with a product; one unknown factor is added to `sizes`."""
    known = math.prod([int(f) if f.isdigit() else sizes.get(f, 1) for f in factors])
    for unknown in [f for f in factors if not f.isdigit() and f not in sizes]:
        if unknown in NEVER_EMPTY and number < known:
            return False
        sizes[unknown] = number // known
        known *= sizes[unknown]
    return number == known


@functools.cache
def _dimensions(shape: str) -> list[list[str]]:
    """The dimensions of a shape, each as factors.

    >>> _dimensions("L G*n 2")
    [['L'], ['G', 'n'], ['2']]
    """
    return [dimension.split("*") for dimension in shape.split()]
