"""Validate the arrays, matrices and modules that public functions get; restore the gradient mode
and the random states of the caller.
"""

import cmath
import copy
import itertools
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rhn.errors import (
    USERS_FAULT,
    InvalidInputError,
    NotFiniteError,
    RhnError,
    UsersCodeError,
    first_line,
    is_out_of_memory,
)
from rhn.utils.validation import in_short, kind_of, not_dense_real

SEVERAL = (
    "; for several sequences give a packed sequence (torch.nn.utils.rnn.pack_sequence), or pad "
    "them (pad_sequence) and give (x, lengths) to a model that takes lengths"
)
HALF = (torch.float16, torch.bfloat16)
DTYPES = (torch.float32, torch.float64, torch.complex64, torch.complex128)


def real_tensor(name: str, value: Any) -> Tensor:
    """Convert a dense real tensor, NumPy array or data frame, of any shape and precision, to a
    tensor.

    >>> real_tensor("x", np.ones(2)).dtype
    torch.float64

    Raises:
        InvalidInputError: the value is complex, sparse, quantised or nested, a tensor on the meta
            device, or not an array of numbers.
    """
    value = value.to_numpy() if hasattr(value, "to_numpy") else value
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        try:
            return torch.from_numpy(np.array(value))
        except TypeError:  # a width that torch does not have
            value = value.dtype
    kind = (
        not_dense_real(value)
        if isinstance(value, Tensor)
        else getattr(value, "dtype", kind_of(value))
    )
    if kind is not None:
        several = name == "x" and isinstance(value, list | tuple) and any(map(np.ndim, value))
        raise InvalidInputError(
            f"{name} is {kind}: expected a dense tensor or a NumPy array of real numbers"
            f"{SEVERAL if several else ''}"
        )
    # a tensor made in inference mode has no gradient, a copy of it has
    return (
        value.clone() if value.is_inference() and not torch.is_inference_mode_enabled() else value
    )


def state_tensor(name: str, value: Any) -> Tensor:
    """Convert an array to a tensor as `real_tensor` does, but also allow complex numbers."""
    if isinstance(value, np.ndarray) and value.dtype.kind == "c":
        value = torch.from_numpy(np.array(value))
    if isinstance(value, Tensor) and value.is_complex():
        return torch.complex(real_tensor(name, value.real), real_tensor(name, value.imag))
    return real_tensor(name, value)


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


def finite_tensor(name: str, value: Any) -> Tensor:
    """Convert an array of finite numbers to a tensor, as `real_tensor` does. Raises
    InvalidInputError if the array is empty, and NotFiniteError for NaN or infinity.
    """
    x = real_tensor(name, value)
    if x.numel() == 0:
        raise InvalidInputError(
            f"{name} has shape {tuple(x.shape)}, and no entries: expected at least one step of at "
            "least one number"
        )
    if x.dim() == 0:
        raise InvalidInputError(f"{name} is a single number: expected a sequence")
    if bad := int((~torch.isfinite(x)).sum()):
        said = f"{name} holds {bad} NaN or infinite numbers, expected finite ones"
        raise NotFiniteError(said, of=name, values=x)
    return x


def check_square(A: Tensor, *, smallest: int = 1, steps: int | None = None) -> Tensor:
    """Return A if it is a stack of finite square floating-point matrices.

    Args:
        A: (..., n, n), real or complex.
        smallest: the least n.
        steps: the least T of a sequence (T, ..., n, n); None for a stack of any shape.

    Raises:
        InvalidInputError: A is not a tensor, has a dtype other than float32, float64, complex64 and
            complex128, has another shape, too few rows or too few steps, or contains NaN or
            infinity.
    """
    if (
        not isinstance(A, Tensor)
        or A.dtype not in DTYPES
        or not_dense_real(A) not in (None, "complex")
    ):
        got = f"{A.dtype}, {A.layout}" if isinstance(A, Tensor) else type(A).__name__
        raise InvalidInputError(
            f"A: expected a dense tensor of float32 or float64 (or complex), got {got}"
        )
    shape, stack = tuple(A.shape), steps is None
    if (
        len(shape) < 3 - stack
        or shape[-1] != shape[-2]
        or shape[-1] < smallest
        or shape[0] < (steps or 0)
    ):
        layout = "(..., n, n)" if stack else f"(time >= {steps}, ..., n, n)"
        raise InvalidInputError(
            f"A: expected square matrices {layout} with n >= {smallest}, got shape {shape}"
        )
    # else the sum overflows
    if not cmath.isfinite(A.sum().item()) and (bad := int((~torch.isfinite(A)).sum())):
        raise NotFiniteError(
            f"A: expected finite entries, got {bad} of {A.numel()} NaN or infinite"
        )
    return A


def check_precision(name: str, *tensors: Tensor) -> None:
    """Raise InvalidInputError if a network computes with one of these tensors in half precision.
    torch has no norms and no eigenvalues in this precision.
    """
    for t in tensors:
        if t.dtype in HALF:
            raise InvalidInputError(
                f"{name} computes in {str(t.dtype).removeprefix('torch.')}: expected x, the state "
                "and the weights in float32 or float64, such as x.float()"
            )


ROLES: dict[str, Callable[[Any], bool]] = {
    "network": lambda value: callable(value) or isinstance(value, str | Path),
    "loss_fn": lambda value: callable(value) or isinstance(value, str),
    "optimizer": lambda value: isinstance(value, str | torch.optim.Optimizer),
}
"""For each kind of argument, a test whether a value can be one. An argument of another kind is an
array of numbers.
"""


def check_order(expected: str, **given: Any) -> None:
    """Raise InvalidInputError if two arguments are swapped, or if a network is a class instead of
    an object. Arguments count as swapped if each can only be the other one.

    expected: the call in words, such as "spectra(network, x)". given: the arguments by name.
    "model", "module" and "cell" are networks; names that are not in `ROLES` are numbers.
    """
    known = {name: value for name, value in given.items() if value is not None}
    for (name, value), (other, taken) in itertools.combinations(known.items(), 2):
        wrong = not _can_be(name, value) and not _can_be(other, taken)
        if wrong and _can_be(name, taken) and _can_be(other, value):
            raise InvalidInputError(
                f"{name} is {in_short(value)}, and {other} is {in_short(taken)}: they are "
                f"swapped, expected {expected}"
            )
    for name, value in known.items():
        if _role(name) == "network" and isinstance(value, type):
            raise InvalidInputError(
                f"{name} is the class {value.__name__}: expected a network, {value.__name__}(...)"
            )


def _role(name: str) -> str:
    return "network" if name in ("model", "module", "cell") else name


def _can_be(name: str, value: Any) -> bool:
    """True if a value can be the argument of this name."""
    role = _role(name)
    if role in ROLES:
        return ROLES[role](value)
    return not callable(value) and not isinstance(value, torch.optim.Optimizer)


def check_weights(module: nn.Module) -> None:
    """Raise NotFiniteError with the names of weights that are NaN or infinite, and
    InvalidInputError for a TorchScript module.
    """
    for part in module.modules():
        if isinstance(part, torch.jit.ScriptModule):
            name = getattr(part, "original_name", "") or "the module"
            raise InvalidInputError(
                f"{name} is compiled by TorchScript, which cannot be copied or traced: give the "
                f"{name} from before torch.jit.script or torch.jit.trace, with its weights"
            )
    check_gradients(module)
    bad = [name for name, p in module.named_parameters() if not torch.isfinite(p).all()]
    if bad:
        raise NotFiniteError(
            f"{type(module).__name__}: the weights {', '.join(bad[:3])} are NaN or infinite, "
            "expected finite numbers"
        )


def check_gradients(cell) -> None:
    """Raise InvalidInputError if the weights of a module are on the meta device, or cannot have
    gradients because they were created in inference mode.
    """
    weights = [*cell.parameters()] if isinstance(cell, nn.Module) else []
    if any(p.is_meta for p in weights):
        raise InvalidInputError(
            f"{type(cell).__name__} is on the meta device, where weights have no numbers: build it "
            "on another device"
        )
    if any(p.is_inference() for p in weights):
        raise InvalidInputError(
            f"{type(cell).__name__} was made in torch.inference_mode(), so its weights have no "
            "gradients: make it outside"
        )


def uncompiled(module: nn.Module) -> nn.Module:
    """The module that torch.compile wraps, or the module itself."""
    return getattr(module, "_orig_mod", module)


def copy_of_module(module: nn.Module) -> nn.Module:
    """A copy of a user's module that can have gradients. Raises InvalidInputError if it cannot be
    copied.
    """
    try:
        with torch.inference_mode(False):
            return copy.deepcopy(module)
    # from torch or the module, such as one that keeps a tensor with a graph
    except Exception as error:
        raise InvalidInputError(
            f"{type(module).__name__} cannot be copied: {first_line(error)}"
        ) from error


def in_precision(
    module: nn.Module, dtype: torch.dtype, device: torch.device | str | None = None
) -> nn.Module:
    """Convert the weights and buffers of a module to a precision, in place; complex tensors stay
    complex. The module should be a copy of the user's.

    >>> module = nn.Linear(1, 1, dtype=torch.complex64)
    >>> in_precision(module, torch.float64).weight.dtype
    torch.complex128
    """

    def converted(t: Tensor) -> Tensor:
        if t.is_complex():
            return t.to(device, dtype.to_complex())
        return t.to(device, dtype if t.is_floating_point() else None)

    return module._apply(converted)


def like_weights(module: nn.Module) -> Tensor | None:
    """An empty real tensor on the device and in the precision of the module's first real or complex
    weight or buffer; None if there is none.
    """
    for t in itertools.chain(module.parameters(), module.buffers()):
        if t.is_floating_point() or t.is_complex():
            return t.new_empty(0, dtype=t.dtype.to_real())
    return None


@contextmanager
def with_gradients() -> Iterator[None]:
    """Context manager and decorator that turns gradients on; the caller's mode is restored
    afterwards.

    Tensors created in inference mode cannot have gradients even here, but their clones can.
    """
    with torch.inference_mode(False), torch.enable_grad():
        yield


@contextmanager
def random_numbers_kept(where: nn.Module | Tensor) -> Iterator[None]:
    """Restore the random states of Python, NumPy and torch at the end of the block, including
    those on the device of a module or tensor.
    """
    tensors = where.parameters() if isinstance(where, nn.Module) else (where,)
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 - the state of a user's code
    try:
        with torch.random.fork_rng(devices=list({t.device for t in tensors if t.is_cuda})):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002


@contextmanager
def users_code(said: str, hint: str | Callable[[], str] = "") -> Iterator[None]:
    """Context manager that turns an error of the user's code into a UsersCodeError with the text
    "said: first line of the error; hint". Errors of the toolkit and out-of-memory errors pass
    through.

    hint: words, or a function that is called after the error and returns them.
    """
    try:
        yield
    except (RhnError, MemoryError):
        raise
    except USERS_FAULT as error:
        found = hint if isinstance(hint, str) else hint()
        end = f"; {found}" if found else ""
        reason = first_line(error).split(". ")[0].removesuffix(".")
        reason = f"{type(error).__name__}: {reason}"
        if str(error).startswith("Caught "):  # by a process of torch's: the error stands last
            reason = str(error).strip().splitlines()[-1]
        if is_out_of_memory(error):
            reason = "there is not enough memory"
        raise UsersCodeError(f"{said}: {reason}{end}") from error
