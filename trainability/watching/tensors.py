"""Read tensors without changing or keeping them: their norm and content."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from rhn.utils.torch_private import flattened, is_transformed

FEW_NUMBERS = 2**16  # elements of a tensor that is joined with others before it is read


def tensors_in(value: Any) -> list[Tensor]:
    """Return the tensors in nested tuples, lists and dictionaries."""
    found = list[Tensor]()
    _collect(value, found)
    return found


def _collect(value: Any, found: list[Tensor]) -> None:
    if isinstance(value, Tensor):
        found.append(value)
    elif isinstance(value, tuple | list):
        for each in value:
            _collect(each, found)
    elif isinstance(value, Mapping):
        for each in value.values():
            _collect(each, found)


def is_readable(t: Tensor) -> bool:
    """Return True for a tensor that has numbers in memory, one beside the other."""
    return t.layout is torch.strided and not t.is_meta and not is_transformed(t)


def dense(gradient: Tensor) -> Tensor:
    """Return the numbers of a gradient, without the zeros of a sparse one."""
    return gradient.coalesce().values() if gradient.is_sparse else gradient


def is_nonzero(gradient: Tensor) -> bool:
    """Return True if a gradient has a number other than 0; on the meta device it has none."""
    return not gradient.is_meta and bool(dense(gradient).any())


def in_vectors(tensors: Iterable[Tensor]) -> list[Tensor]:
    """Return the same numbers in fewer tensors: small ones of one kind become one vector."""
    pieces = list[Tensor]()
    small = dict[tuple[torch.dtype, torch.device], list[Tensor]]()
    for t in tensors:
        if t.numel() < FEW_NUMBERS:
            small.setdefault((t.dtype, t.device), []).append(t)
        else:
            pieces.append(t)
    return pieces + [flattened(several) for several in small.values()]


@torch.no_grad()
def norm_of(tensors: Sequence[Tensor]) -> float:
    """Return the 2-norm of all numbers of tensors; NaN or infinity if one of them is."""
    pieces = in_vectors(map(dense, filter(_has_numbers, tensors)))
    norm = math.hypot(*(float(torch.linalg.vector_norm(piece)) for piece in pieces))
    if math.isfinite(norm):
        return norm
    double = (torch.linalg.vector_norm(piece.double()) for piece in pieces)
    return math.hypot(*map(float, double))  # large single numbers have an infinite square


def _has_numbers(t: Tensor) -> bool:
    return not t.is_meta


def content_hash(t: Tensor) -> int | None:
    """Return a hash of the numbers and the shape; None if they cannot be read."""
    if not is_readable(t):
        return None
    bits = t.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
    return hash((tuple(t.shape), bits.numpy().tobytes()))
