"""Networks in double precision: copies of modules in float64, and float64 as the default type of
this thread. `torch.set_default_dtype` is one for the process.

    with DoubleByDefault():
        torch.zeros(3), torch.arange(3) / 2      # float64; float32 in other threads

torch gives its default type to a tensor made from Python's numbers, and to a result of whole
numbers that is not whole. Functions of torch are seen here when Python calls them. Not seen are
`torch.get_default_dtype()`, the constructor `torch.Tensor(...)`, which is float32, and functions
that code in C++ calls, as that of `torch.jit.script`.
"""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from gersgorin import checks
from rhn.errors import NotFiniteError
from rhn.utils.threads import without_cudnn
from rhn.utils.torch_private import replace_tensors, tree_leaves, tree_map

DOUBLE = {torch.float32: torch.float64, torch.complex64: torch.complex128}
DRAWN = {torch.rand, torch.randn, torch.normal}  # a second call would draw other numbers
CONVERT = {"float", "cfloat", "to", "type"}  # to a type that the user names


class DoubleByDefault(TorchFunctionMode):
    """Context manager, see above: what torch made in its default type is computed again."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in DRAWN and _is_by_default(args, kwargs):
            return func(*args, **{**kwargs, "dtype": torch.float64})
        made = func(*args, **kwargs)
        if not isinstance(made, Tensor) or made.dtype not in DOUBLE or func.__name__ in CONVERT:
            return made
        return _in_double(made, func, args, kwargs) if _is_by_default(args, kwargs) else made


def _is_by_default(args: Any, kwargs: Any) -> bool:
    """True if no argument says of which type the result is."""
    return not any(map(_has_type, tree_leaves((args, kwargs))))


def _has_type(one: Any) -> bool:
    """True for a type, and for tensors, arrays and numbers of NumPy that are not whole."""
    if isinstance(one, Tensor):
        return one.is_floating_point() or one.is_complex()
    if isinstance(one, np.ndarray | np.generic):
        is_pythons = isinstance(one, float | complex)
        return one.dtype.kind in "fc" and not is_pythons
    return isinstance(one, torch.dtype)


def _in_double(made: Tensor, func: Any, args: Any, kwargs: Any) -> Tensor:
    """The result of a function in double precision: of tensors from tensors, else by `dtype`."""
    dtype = DOUBLE[made.dtype]
    if not any(isinstance(one, Tensor) for one in tree_leaves((args, kwargs))):
        return func(*args, **{**kwargs, "dtype": dtype})
    args, kwargs = tree_map(_exact, (args, kwargs))
    return func(*args, **kwargs).to(dtype)


def _exact(one: Any) -> Any:
    """A number, or a tensor of whole numbers, in float64; anything else as it is."""
    if isinstance(one, Tensor) and one.dtype is not torch.bool:
        return one.double()
    return torch.tensor(one, dtype=torch.float64) if isinstance(one, float) else one


@contextmanager
def module_runs() -> Iterator[None]:
    """Context in which a module in float64 runs: what it creates in this thread is float64 too,
    and CUDA's own kernels, which have no batched derivatives, are off.
    """
    with without_cudnn(), DoubleByDefault():
        yield


def in_module(f: Callable) -> Callable:
    """The same function of a module, which runs as `module_runs` says."""

    def run(*given: Any) -> Any:
        with module_runs():
            return f(*given)

    return run


def copied(module: nn.Module) -> nn.Module:
    """A copy in float64 and evaluation mode, whose weights are constants."""
    name = type(module).__name__
    with torch.inference_mode(False), checks.users_code(f"{name} cannot be copied"):
        found = copy.deepcopy(module).eval().requires_grad_(False)
        replace_tensors(found, _parameter_in_double)
        bad = [name for name, p in found.named_parameters() if not torch.isfinite(p).all()]
    if bad:
        said = f"weights of {name} are NaN or infinite in {', '.join(bad[: checks.FEW])}"
        raise NotFiniteError(f"{said}: expected numbers", of="weights")
    return found


def _parameter_in_double(t: Tensor) -> Tensor:
    """Real and complex numbers in double precision; whole numbers as they are."""
    if t.is_complex():
        return t.to(torch.complex128)
    return t.to(torch.float64) if t.is_floating_point() else t


def in_double(state: Any, device: torch.device) -> Any:
    """The tensors of a state in float64 or complex128 on a device."""

    def exact(t: Tensor) -> Tensor:
        return t.to(device, torch.complex128 if t.is_complex() else torch.float64)

    return tree_map(exact, state)
