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

Under `torch.func.vmap` the mapped axis is folded into K: `vmap(grad_and_value(loss))` over stacked
models makes one forward and one backward call. A tensor that they share is never copied K times.
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


class BatchedFunction(torch.autograd.Function):
    """The forward pass over K models, with gradients for all tensors except masks and targets. The
    residuals are returned too: torch.func saves only outputs. call: the name of a kernel, the names
    of its tensors, and its passes.
    """

    @staticmethod
    def forward(call, *tensors):
        K = max(len(t) for t in tensors if t is not None)  # shared tensors have 1
        # autocast would change only some of the operations
        with torch.autocast(tensors[0].device.type, enabled=False):
            return call.forward(**dict(zip(call.arguments, tensors, strict=True)), K=K)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.call, *tensors = inputs
        _, *residuals = output
        ctx.mark_non_differentiable(*residuals)
        ctx.set_materialize_grads(False)  # the residuals' gradients: large, zero and unused
        ctx.save_for_backward(*tensors, *residuals)

    @staticmethod
    def backward(ctx, grad, *_):
        needs = ctx.needs_input_grad[1:]
        if grad is None:  # nothing downstream depends on the states
            return None, *(None for _ in needs)
        grads = _Backward.apply(ctx.call, needs, False, grad, *ctx.saved_tensors)
        return None, *(g if need else None for g, need in zip(grads, needs, strict=True))

    @staticmethod
    def jvp(ctx, *_):
        raise _no_such_derivative(ctx.call, "forward mode")

    @staticmethod
    def vmap(info, in_dims, call, *tensors):
        folded, inner = _fold(info.batch_size, in_dims[1:], tensors)
        outputs = BatchedFunction.apply(call, *folded)
        return tuple(o.unflatten(0, (info.batch_size, inner)) for o in outputs), (0,) * len(outputs)


class _Backward(torch.autograd.Function):
    """The backward pass. With `separate`, which `vmap` needs, a shared tensor gets one gradient for
    each model, else their sum. Gradients that are not needed are empty tensors, because a Function
    under `vmap` must return tensors.
    """

    @staticmethod
    def forward(call, needs, separate, grad, *saved):
        inputs, residuals = saved[: len(needs)], saved[len(needs) :]
        K = max(map(len, (grad, *residuals)))  # jacrev takes several gradients of one forward pass
        residuals = [r.expand(K, *r.shape[1:]) for r in residuals]
        with torch.autocast(grad.device.type, enabled=False):
            named = dict(zip(call.arguments, inputs, strict=True))
            grads = call.backward(grad, dict(zip(named, needs, strict=True)), residuals, **named)
        finished = []
        for (name, like), need in zip(named.items(), needs, strict=True):
            g = grads.get(name)
            if need and g is None:
                raise _no_such_derivative(call, "gradient of a dropout mask")
            if need and like.shape[0] == 1 < g.shape[0] and not separate:
                g = g.sum(0, keepdim=True)
            finished.append(g if need else grad.new_empty(0))
        return tuple(finished)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.call = inputs[0]

    @staticmethod
    def backward(ctx, *_):
        raise _no_such_derivative(ctx.call, "second derivative")

    @staticmethod
    def vmap(info, in_dims, call, needs, separate, grad, *saved):
        folded, inner = _fold(info.batch_size, in_dims[3:], (grad, *saved))
        grads = _Backward.apply(call, needs, True, *folded)
        unfolded = []
        for g, need, t, d in zip(grads, needs, saved, in_dims[4:], strict=False):
            if not need:
                unfolded.append(g.new_empty(info.batch_size, 0))
                continue
            g = g.unflatten(0, (info.batch_size, inner))
            models = t.shape[1 if d == 0 else 0]
            unfolded.append(g.sum(1, keepdim=True) if models == 1 < inner and not separate else g)
        return tuple(unfolded), (0,) * len(unfolded)


def _no_such_derivative(call: SimpleNamespace, what: str) -> RuntimeError:
    return RuntimeError(f'the fused {call.name} kernel has no {what}: use kernel="reference"')


def _fold(size: int, dims, tensors) -> tuple[list[Tensor], int]:
    """Fold a mapped axis into the model axis, (V, K, ...) -> (V K, ...), if there is either."""
    moved = [t if d is None else t.movedim(d, 0) for t, d in zip(tensors, dims, strict=True)]
    pairs = [*zip(moved, dims, strict=True)]
    inner, folded = max(t.shape[0 if d is None else 1] for t, d in pairs if t is not None), []
    for t, d in pairs:
        if t is not None and (d is not None or t.shape[0] > 1):
            t = t.expand(size, *(t.shape if d is None else (inner, *t.shape[2:]))).flatten(0, 1)
        folded.append(t)
    return folded, inner


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
