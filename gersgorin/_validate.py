"""What every public function of this package asks of its numbers and matrices, checked once where they enter.

Measures that differentiate, for callers that have turned gradients off: evaluations run under `no_grad` or `inference_mode`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rhn.cells.base import not_dense_real
from rhn.errors import InvalidInputError
from rhn.wording import counted

DTYPES = (torch.float32, torch.float64, torch.complex64, torch.complex128)


def real_tensor(name: str, value: Any) -> Tensor:
    """The value as a tensor, if it is a dense tensor of real numbers or a NumPy array of such; both may be of any shape and precision.

    >>> real_tensor("x", np.ones(2)).dtype
    torch.float64

    Raises:
        InvalidInputError: complex, sparse, quantised or nested numbers, a tensor on the meta device, anything else.
    """
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        try:
            return torch.from_numpy(np.array(value))
        except TypeError:  # numbers of a width that torch has not
            value = value.dtype
    kind = not_dense_real(value) if isinstance(value, Tensor) else getattr(value, "dtype", type(value).__name__)
    if kind is not None:
        raise InvalidInputError(f"{name} is {kind}: expected a dense tensor or a NumPy array of real numbers")
    # a tensor made in inference mode has no gradient, a copy of it has
    return value.clone() if value.is_inference() and not torch.is_inference_mode_enabled() else value


def check_square(A: Tensor, *, smallest: int = 1, steps: int | None = None) -> Tensor:
    """Return A if it is a stack of finite square matrices of floating point.

    Args:
        A: (..., n, n), real or complex.
        smallest: the least n.
        steps: the least T of a sequence (T, ..., n, n); None where A need not be one.

    Raises:
        InvalidInputError: not a tensor; a dtype other than float32, float64, complex64, complex128; another shape; too
            few rows or steps; NaN or infinity among the entries.
    """
    if not isinstance(A, Tensor):
        raise InvalidInputError(f"A: expected a torch.Tensor, got {type(A).__name__}; use torch.as_tensor")
    if (kind := not_dense_real(A)) not in (None, "complex"):
        raise InvalidInputError(f"A is {kind}: expected a dense tensor")
    if A.dtype not in DTYPES:
        raise InvalidInputError(f"A: expected float32 or float64 (or complex), got {A.dtype}; use A.double()")
    shape, layout = tuple(A.shape), "(..., n, n)" if steps is None else "(time, ..., n, n)"
    if A.dim() < 2 + (steps is not None) or shape[-1] != shape[-2]:
        raise InvalidInputError(f"A: expected square matrices of shape {layout}, got shape {shape}")
    if shape[-1] < smallest or (steps is not None and shape[0] < steps):
        least = f"n >= {smallest}" + (f" and at least {counted(steps, 'step')}" if steps else "")
        raise InvalidInputError(f"A: expected {layout} with {least}, got shape {shape}")
    # one bad entry makes the sum bad, in a seventh of the time; finite entries may do so too, by overflow
    if not torch.isfinite(A.sum()) and (bad := int((~torch.isfinite(A)).sum())):
        raise InvalidInputError(f"A: expected finite entries, got {bad} of {A.numel()} NaN or infinite")
    return A


def binary_units(A: Tensor) -> Tensor:
    """For each matrix of A the power of two that brings its largest entry into [1, 2), (..., 1, 1); 1 for zero. Dividing is exact."""
    parts = torch.view_as_real(A.resolve_conj()).abs().amax(-1) if A.is_complex() else A.abs()
    largest = parts.amax((-2, -1), keepdim=True)
    unit = torch.exp2((torch.frexp(largest).exponent - 1).to(largest.dtype))
    return torch.where(largest > 0, unit, 1)


def divided(A: Tensor, unit: Tensor | float) -> Tensor:
    """A / unit for a real unit, part by part: dividing complex numbers, torch takes the reciprocal of it, which may overflow."""
    if not A.is_complex():
        return A / unit
    unit = unit[..., None] if isinstance(unit, Tensor) else unit
    return torch.view_as_complex(torch.view_as_real(A.resolve_conj()) / unit)


def check_weights(module: nn.Module) -> None:
    """Raise InvalidInputError, naming them, where weights of a module are NaN or infinite."""
    check_gradients(module)
    bad = [name for name, p in module.named_parameters() if not torch.isfinite(p).all()]
    if bad:
        raise InvalidInputError(
            f"{type(module).__name__}: the weights {', '.join(bad[:3])} are NaN or infinite, expected finite numbers"
        )


def check_gradients(cell) -> None:
    """Raise InvalidInputError where the weights of a module cannot have gradients, because they were made in inference mode."""
    if isinstance(cell, nn.Module) and any(p.is_inference() for p in cell.parameters()):
        raise InvalidInputError(
            f"{type(cell).__name__} was made in torch.inference_mode(), so that its weights have no gradients: make it outside"
        )


@contextmanager
def with_gradients() -> Iterator[None]:
    """Within the block, or a function that this decorates, torch computes gradients; afterwards all is as the caller had it.

    Tensors made in inference mode have none even here: a clone has.
    """
    with torch.inference_mode(False), torch.enable_grad():
        yield
