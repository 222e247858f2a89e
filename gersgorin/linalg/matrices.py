"""The checks of matrices and numbers that a user gives: every public function of
`gersgorin.linalg` begins with `check_square`.

Shapes: A (..., n, n); with time steps A (T, ..., n, n).
"""

import cmath
from typing import Any

import torch
from torch import Tensor

from rhn.errors import InvalidInputError, NotFiniteError
from rhn.utils.validation import in_short

DTYPES = (torch.float32, torch.float64, torch.complex64, torch.complex128)


def check_square(A: Any, *, smallest: int = 1, steps: int | None = None) -> Tensor:
    """Return A, a stack of finite square matrices (..., n, n), or (T, ..., n, n) of `steps` or more
    steps, with n at least `smallest`. Raises InvalidInputError, NotFiniteError.

    >>> check_square(torch.eye(2)).shape
    torch.Size([2, 2])
    """
    dense = isinstance(A, Tensor) and A.layout is torch.strided and not A.is_meta
    if not dense or A.dtype not in DTYPES or A.is_nested:
        got = f"{A.dtype}, {A.layout}" if isinstance(A, Tensor) else type(A).__name__
        raise InvalidInputError(f"A is {got}: expected a dense tensor, float32, float64 or complex")
    shape, has_time = tuple(A.shape), steps is not None
    axes = 3 if has_time else 2
    is_square = len(shape) >= axes and shape[-1] == shape[-2] >= smallest
    if not is_square or shape[0] < (steps or 0):
        layout = f"(T >= {steps}, ..., n, n)" if has_time else "(..., n, n)"
        raise InvalidInputError(
            f"A has shape {shape}: expected square matrices {layout} with n >= {smallest}"
        )
    if not cmath.isfinite(A.sum().item()):  # fast, but the sum may overflow
        bad = int((~torch.isfinite(A)).sum())
        if bad > 0:
            said = f"A is NaN or infinite at {bad} of {A.numel()} places: expected finite entries"
            raise NotFiniteError(said, of="A")
    return A


def as_numbers(name: str, value: Any) -> Tensor:
    """Convert a number, a list or an array of real or complex numbers to a tensor. Raises
    InvalidInputError.

    >>> as_numbers("z", [1, 2j])
    tensor([1.+0.j, 0.+2.j])
    """
    if isinstance(value, Tensor):
        if (kind := not_dense_real(value)) not in (None, "complex"):
            raise InvalidInputError(f"{name} is {kind}: expected a dense tensor of numbers")
        return value
    try:
        return torch.as_tensor(value, device="cpu")
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise InvalidInputError(f"{name} is {in_short(value)}: expected numbers") from error


def not_dense_real(t: Any) -> str | None:
    """Return the kind of a tensor in words ("complex", "sparse", ...) if its numbers are not dense,
    real and in memory; otherwise None.

    >>> not_dense_real(torch.ones(2) * 1j), not_dense_real(torch.ones(2))
    ('complex', None)
    """
    kinds = {
        "nested": t.is_nested,
        "on the meta device": t.is_meta,
        "quantised": t.is_quantized,
        "complex": t.is_complex(),
        "sparse": str(t.layout) != "torch.strided",
    }
    return next((kind for kind, is_so in kinds.items() if is_so), None)
