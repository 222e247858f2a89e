"""The table of kernels: each row holds the tensors of a recurrence or loss, its equation, and its
code for K stacked models.

    TRANSITION(x, s0, W, R, b)                   in C if C supports the call, else fused
    TRANSITION(x, s0, W, R, b, reference=True)   the equation itself

Backward uses the same code as forward. Shapes are those of one model, in the letters of
`rhn.kernels`: dimensions are separated by spaces, and "G*n" is a product. A tensor with "?" may be
None.
"""

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor

from rhn.errors import InvalidInputError
from rhn.kernels import compiled, gated, losses, transition
from rhn.kernels.function import BatchedFunction, Code, is_traced
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
    fused:     forward and backward for K stacked models, see `rhn.kernels.function`
    compiled:  those in C
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
        call = Code(self.name, forward, partial(code[1], **options), tuple(named))
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
        in_c = self.supports is not None and self.supports(**call)
        return self.compiled if in_c else self.fused


_INPUT = {"x": "T B m", "s0": "B n"}
_MASKS = {"state_mask?": "1 B n", "candidate_mask?": "B n"}
TRANSITION = Kernel(
    name="deep transition",
    arguments=_INPUT
    | {"W": "G*n m", "R": "L G*n n", "b": "L G*n", "S?": "shortcuts n n"}
    | {"state_mask?": "J B n", "candidate_mask?": "B n"},
    options={"activation": "tanh"},
    reference=transition.reference,
    fused=(transition.forward, transition.backward),
    compiled=(compiled.forward, compiled.backward),
    supports=transition.supports,
)
LSTM = Kernel(
    name="LSTM",
    arguments={"x": "T B m", "s0": "B 2*n", "W": "4*n m", "R": "4*n n", "b": "4*n"} | _MASKS,
    reference=gated.lstm_reference,
    fused=(gated.lstm_forward, gated.lstm_backward),
)
GRU = Kernel(
    name="GRU",
    arguments=_INPUT | {"W": "3*n m", "R": "3*n n", "b": "3*n", "q": "n"} | _MASKS,
    reference=gated.gru_reference,
    fused=(gated.gru_forward, gated.gru_backward),
)
SOFTMAX = Kernel(
    name="softmax",
    arguments={"y": "T B n", "U": "V n", "b": "V", "targets": "T B", "mask?": "B n"},
    reference=losses.softmax_reference,
    compiled=(losses.softmax_forward_in_c, losses.softmax_backward_in_c),
    supports=losses.softmax_supports,
)
OUTPUT = Kernel(
    name="output and loss",
    arguments={"y": "T B n", "W": "keys n", "b": "keys", "frames": "T B keys", "mask": "T B"},
    reference=losses.output_reference,
    compiled=(losses.output_forward_in_c, losses.output_backward_in_c),
    supports=losses.output_supports,
)


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
