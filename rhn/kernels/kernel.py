"""A recurrence or loss as one function, which is differentiable and has a `vmap` rule: its tensors,
its equation, and the forward and backward passes of its code for K stacked models.

    TRANSITION(x, s0, W, R, b)                   in C if C supports the call, else fused
    TRANSITION(x, s0, W, R, b, reference=True)   the equation itself

Shapes are those of one model, in the letters of `rhn.kernels`: dimensions are separated by spaces,
and "G*n" is a product. A tensor with "?" may be None.

The passes of an implementation are written once, for tensors by name. Their leading axis is K, or 1
if the models share a tensor:

    forward(**tensors, K=, keep=, **options)                  -> (result, *residuals)
    backward(grad, needs, residuals, **tensors, **options)    -> gradients (K, ...) by name

Residuals are returned only with `keep`. The gradients are at least those that `needs` names. Masks,
which may be None, and targets have no gradient.

`rhn.kernels.batched` has the rules of autograd and `vmap`, which fold a mapped axis into K.
"""

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from rhn.errors import InvalidInputError
from rhn.kernels.batched import BatchedFunction
from rhn.utils.torch_private import is_recorded, is_transformed
from rhn.utils.validation import unexpected

FIRST = ("R", "W", "U")  # weights whose shapes give the sizes that the other tensors must have
NEVER_EMPTY = {"T", "L", "n"}  # sizes
LITERALS = {"1": 1, "2": 2, "3": 3, "4": 4}
Passes = tuple[Callable, Callable]
Sizes = dict[str, int]


@dataclass(frozen=True, eq=False, kw_only=True)
class Kernel:
    """One recurrence or loss, which is called like a function.

    arguments: the shape of each tensor by its name
    options:   the default of every option
    reference: (**tensors, **options) -> the result of one model, in plain differentiable operations
    fused:     forward and backward for K stacked models
    compiled:  those in C, for float32
    supports:  (**tensors, **options) -> True if C computes the call
    """

    name: str
    arguments: Mapping[str, str]
    options: Mapping = field(default_factory=dict)
    reference: Callable[..., Tensor]
    fused: Passes | None = None
    compiled: Passes | None = None
    supports: Callable[..., bool] | None = None

    def __call__(self, *tensors: Tensor | None, reference: bool = False, **options) -> Tensor:
        """Compute the result of one model, or under `vmap` of all models at once. Tensors may be
        given by name. Raises InvalidInputError if a tensor does not fit.
        """
        named, options = self.check(*tensors, **options)
        code = None if reference or is_traced(*named.values()) else self._choose(**named, **options)
        if code is None:
            return self.reference(**named, **options)
        forward = partial(code[0], keep=torch.is_grad_enabled(), **options)
        passes = {"forward": forward, "backward": partial(code[1], **options)}
        call = SimpleNamespace(name=self.name, arguments=tuple(named), **passes)
        stacked = (None if t is None else t.unsqueeze(0) for t in named.values())
        return BatchedFunction.apply(call, *stacked)[0].squeeze(0)

    def check(self, *tensors: Any, **options) -> tuple[dict, dict]:
        """Return all tensors by name and all options of a call. Raises InvalidInputError for a
        tensor that does not fit to the weights.
        """
        shapes = {name.removesuffix("?"): shape for name, shape in self.arguments.items()}
        given = [options.pop(name, None) for name in [*shapes][len(tensors) :]]
        named = dict(zip(shapes, (*tensors, *given), strict=True))
        order = dict.fromkeys([*(name for name in FIRST if name in named), *named])
        like, sizes = named[next(iter(order))], Sizes()
        for name in order:
            if named[name] is not None or name in self.arguments:
                dtype = torch.int64 if name == "targets" else None
                title = f"{name} of the {self.name} kernel"
                check_tensor(title, named[name], shapes[name], sizes, like, dtype)
        return named, {**self.options, **options}

    def _choose(self, **call) -> Passes | None:
        """Return the code for a call; None if only the reference can compute it."""
        first = call[next(iter(self.arguments))]
        in_c = self.supports and first.dtype == torch.float32 and self.supports(**call)
        return self.compiled if in_c else self.fused


def check_tensor(
    name: str, t, shape: str, sizes: Sizes, like: Tensor, dtype: torch.dtype | None = None
) -> None:
    """Raise InvalidInputError unless a tensor has this shape, the type `dtype` (None: that of
    `like`) and the device of `like`. Unknown sizes are added to `sizes`.

    >>> sizes = {"m": 3}
    >>> check_tensor("x", torch.zeros(5, 2, 3), "T B m", sizes, torch.zeros(1))
    >>> sizes["T"], sizes["B"]
    (5, 2)
    """
    if not isinstance(t, Tensor):
        raise unexpected(name, t, "a tensor")
    if t.layout is not torch.strided or not like.is_floating_point():
        raise InvalidInputError(f"{name} is {t.layout}, {t.dtype}: expected dense, floating-point")
    dtype = dtype or like.dtype
    if (t.dtype, t.device) != (dtype, like.device):
        raise InvalidInputError(
            f"{name} is {t.dtype} on {t.device}: expected {dtype} on {like.device}"
        )
    if (solved := _solved(t.shape, shape, sizes)) is None:
        wanted = ", ".join("*".join(str(sizes.get(f, f)) for f in d) for d in _dimensions(shape))
        raise InvalidInputError(f"{name} has shape {tuple(t.shape)}: expected ({wanted})")
    sizes.update(solved)


def _solved(found: torch.Size, shape: str, sizes: Sizes) -> Sizes | None:
    """Return the unknown sizes of a shape, the last dimension first; None if it does not fit."""
    dimensions, solved = _dimensions(shape), LITERALS | sizes
    if len(found) != len(dimensions):
        return None
    for number, factors in zip(reversed(found), reversed(dimensions), strict=True):
        rest = math.prod([solved[f] for f in factors if f in solved])
        solved |= {f: number // rest for f in factors if f not in solved}
        if number != math.prod([solved[f] for f in factors]):
            return None
        if number == 0 and NEVER_EMPTY.intersection(factors):
            return None
    return solved


@functools.cache
def _dimensions(shape: str) -> list[list[str]]:
    """Return the factors of each dimension of a shape."""
    return [dimension.split("*") for dimension in shape.split()]


def is_alone(*tensors: Tensor) -> bool:
    """Return True for a call of one model outside the transformations of `torch.func`."""
    mapped = any(map(is_transformed, tensors))
    return not mapped and not is_traced(*tensors)


def is_traced(first: Tensor, *others: Tensor | None) -> bool:
    """Return True if operations on the tensors are only recorded or simulated (`make_fx`,
    `FakeTensorMode`, `torch.jit.trace`, the meta device, tensor classes), so that a compiled kernel
    has no memory to read.
    """
    if is_recorded() or first.is_meta:
        return True
    kinds = {type(t) for t in (first, *others) if t is not None} - {Tensor, nn.Parameter}
    return any(kind.__torch_dispatch__ is not Tensor.__torch_dispatch__ for kind in kinds)
