"""What every public function of this package asks of its matrices, checked once where they enter."""

import torch
from torch import Tensor

from rhn.errors import InvalidInputError

DTYPES = (torch.float32, torch.float64, torch.complex64, torch.complex128)


def check_square(A: Tensor, name: str = "A", *, smallest: int = 1, batch_dims: int = 0, steps: int = 0) -> Tensor:
    """Return A if it is a stack of finite square matrices of floating point.

    Args:
        A: (..., n, n), real or complex.
        name: what the caller calls A.
        smallest: the least n.
        batch_dims: how many leading dimensions there must be at least; 1 for a sequence (T, ..., n, n).
        steps: the least T of a sequence.

    Raises:
        InvalidInputError: not a tensor; a dtype other than float32, float64, complex64, complex128; another shape; too
            few rows or steps; NaN or infinity among the entries.
    """
    if not isinstance(A, Tensor):
        raise InvalidInputError(f"{name}: expected a torch.Tensor, got {type(A).__name__}; use torch.as_tensor")
    if A.dtype not in DTYPES:
        raise InvalidInputError(f"{name}: expected float32 or float64 (or complex), got {A.dtype}; use A.double()")
    shape, layout = tuple(A.shape), "(time, ..., n, n)" if batch_dims else "(..., n, n)"
    if A.dim() < 2 + batch_dims or shape[-1] != shape[-2]:
        raise InvalidInputError(f"{name}: expected square matrices of shape {layout}, got shape {shape}")
    if shape[-1] < smallest or (batch_dims and shape[0] < steps):
        least = f"n >= {smallest}" + (f" and at least {steps} step(s)" if steps else "")
        raise InvalidInputError(f"{name}: expected {layout} with {least}, got shape {shape}")
    # one bad entry makes the sum bad, in a seventh of the time; finite entries may do so too, by overflow
    if not torch.isfinite(A.sum()) and (bad := int((~torch.isfinite(A)).sum())):
        raise InvalidInputError(f"{name}: expected finite entries, got {bad} of {A.numel()} NaN or infinite")
    return A
