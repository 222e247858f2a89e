"""float64 as the default type of this thread: `torch.set_default_dtype` is one for the process.

    with DoubleByDefault():
        torch.zeros(3), torch.arange(3) / 2      # float64; float32 in other threads

torch gives its default type to a tensor made from Python's numbers, and to a result of whole
numbers that is not whole. Functions of torch are seen here when Python calls them. Not seen are
`torch.get_default_dtype()`, the constructor `torch.Tensor(...)`, which is float32, and functions
that code in C++ calls, as that of `torch.jit.script`.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from rhn.utils.torch_private import tree_leaves, tree_map

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
