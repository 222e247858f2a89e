"""The table of kernels: each row holds the tensors of a recurrence or loss, its equation, and its
code for K stacked models.

    TRANSITION(x, s0, W, R, b)                   in C if its limit allows, else fused
    TRANSITION(x, s0, W, R, b, reference=True)   the equation itself

Backward uses the same code as forward. A call is checked once, at its start. The code for a call is
chosen by shapes, types, devices and the machine's compiler, never by values. A call under `vmap`
(in which a tensor has the shape of one model's tensor) or in a CUDA graph is therefore treated like
any other call.

Shapes are those of one model, in the letters of `rhn.kernels`: dimensions are separated by spaces,
and "G*n" is a product. A tensor with "?" may be None.
"""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from rhn.errors import InvalidInputError
from rhn.kernels import compiled, gated, losses, transition
from rhn.kernels.function import Code, batched_function, is_traced
from rhn.utils.validation import kind_of

C, FUSED = "C", "fused"
NEVER_EMPTY = ("T", "L", "n")  # sizes
Sizes = dict[str, int]


@dataclass(frozen=True, eq=False, kw_only=True)
class Kernel:
    """One recurrence or loss, which is called like a function.

    name:      its name, also in messages
    arguments: the shape of each tensor by its name
    options:   the default of every option
    reference: (**tensors, **options) -> the result of one model, in plain differentiable operations
    fused:     forward and backward for K stacked models, see `rhn.kernels.function`; None: the
               reference is used instead
    compiled:  forward and backward in C
    limit:     (**tensors, **options) -> the reason why C does not compute a call, or None
    """

    name: str
    arguments: Mapping[str, str]
    options: Mapping = field(default_factory=dict)
    reference: Callable[..., Tensor]
    fused: tuple[Callable, Callable] | None = None
    compiled: tuple[Callable, Callable] | None = None
    limit: Callable[..., str | None] | None = None

    def __call__(self, *tensors: Tensor | None, reference: bool = False, **options) -> Tensor:
        """Compute the result of one model, or under `vmap` the results of all models at once.

        Tensors may be given by name. Raises InvalidInputError if a tensor does not fit.
        """
        named, options = self.check(*tensors, **options)
        code = None if reference or is_traced(*named.values()) else self._choose(**named, **options)
        if code is None:
            return self.reference(**named, **options)
        return batched_function(
            Code(self.name, *code), named, keep=torch.is_grad_enabled(), **options
        )

    def check(self, *tensors: Any, **options) -> tuple[dict, dict]:
        """Return all tensors by name and all options of a call. A single initial state s0 is
        repeated for all rows.

        Raises InvalidInputError if a tensor does not fit. The message names the tensor, its
        properties and the expected properties.
        """
        by_name = [*self.arguments][len(tensors) :]
        tensors += tuple(options.pop(name.removesuffix("?"), None) for name in by_name)
        checked: dict = {}
        sizes: Sizes = {}
        for (argument, shape), t in zip(self.arguments.items(), tensors, strict=True):
            name = argument.removesuffix("?")
            if name == "s0" and getattr(t, "shape", (0, 0))[:-1] in ((), (1,)):
                t = t.expand(tensors[0].shape[1], -1)
            if t is not None or name == argument:
                dtype = torch.int64 if name == "targets" else None
                title = f"{name} of the {self.name} kernel"
                check_tensor(title, t, shape, sizes, tensors[0], dtype)
            checked[name] = t
        return checked, {**self.options, **options}

    def _choose(self, **call) -> tuple[Callable, Callable] | None:
        """Return the code for a call; None if only the reference can compute it."""
        in_c = self.compiled is not None and (self.limit is None or self.limit(**call) is None)
        return self.compiled if in_c else self.fused


# ---- the rows ------------------------------------------------------------------------------------


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
    limit=transition.limit,
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
    limit=losses.softmax_limit,
)
OUTPUT = Kernel(
    name="output and loss",
    arguments={"y": "T B n", "W": "keys n", "b": "keys", "frames": "T B keys", "mask": "T B"},
    reference=losses.output_reference,
    compiled=(losses.output_forward_in_c, losses.output_backward_in_c),
    limit=losses.output_limit,
)
KERNELS = (TRANSITION, LSTM, GRU, SOFTMAX, OUTPUT)


# ---- which code computes, and why ----------------------------------------------------------------


def kernel_states() -> list[dict]:
    """List all implementations of the kernels on every device. Each is a dictionary: name, device,
    purpose, used, and the reason if it is not used.
    """
    devices = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
    in_c = ", ".join(kernel.name for kernel in KERNELS if kernel.compiled)
    fused = ", ".join(kernel.name for kernel in KERNELS if kernel.fused)
    limit = (
        f"; float32, recurrences of up to {compiled.SMALL} units, {compiled.LARGE} in full "
        "batches of 32 rows"
    )
    reason = compiled.missing()
    row = {
        "name": C,
        "device": "cpu",
        "purpose": in_c + limit,
        "used": reason is None,
        "reason": reason,
    }
    others = {"name": FUSED, "purpose": fused, "used": True, "reason": None}
    return [row, *(others | {"device": device} for device in devices)]


def check_tensor(
    name: str, t, shape: str, sizes: Sizes, like: Tensor, dtype: torch.dtype | None = None
) -> None:
    """Raise InvalidInputError unless a tensor has the expected shape and the type and device of
    `like`. Sizes that were unknown are added to `sizes`.

    dtype: the expected type, if it is not that of `like`.
    """
    why = _unusual(t, like, dtype or like.dtype) or _misshapen(t.shape, shape, sizes)
    if why:
        raise InvalidInputError(f"{name} {why}")


def _unusual(t, like: Tensor, dtype: torch.dtype) -> str | None:
    """Return the reason, other than their shapes, why two tensors cannot be used together; None if
    there is none.
    """
    if not isinstance(t, Tensor):
        return f"is {kind_of(t)}: expected a tensor"
    if t.is_nested or t.layout is not torch.strided or not like.is_floating_point():
        return (
            f"is {t.dtype} with the layout {t.layout}: expected a dense tensor of "
            "floating-point numbers"
        )
    if (t.dtype, t.device) != (dtype, like.device):
        return f"is {t.dtype} on {t.device}: expected {dtype} on {like.device}; convert one of them"
    return None


def _misshapen(found: torch.Size, shape: str, sizes: Sizes) -> str | None:
    """Return the reason why a shape is not the expected shape. If it is, return None and add
    unknown sizes to `sizes`.
    """
    dimensions = _dimensions(shape)
    pairs = zip(found, dimensions, strict=False)
    if len(found) == len(dimensions) and all(_is_size(*pair, sizes) for pair in pairs):
        return None
    known = ", ".join(f"{size} = {number}" for size, number in sizes.items() if size in shape)
    why = f"has shape {tuple(found)}: expected ({shape.replace(' ', ', ')})"
    return f"{why} with {known}" if known else why


def _is_size(number: int, factors: Sequence[str], sizes: Sizes) -> bool:
    """Return True if a size equals a product of factors. An unknown factor is solved for and added
    to `sizes`.
    """
    known = math.prod([int(f) if f.isdigit() else sizes.get(f, 1) for f in factors])
    for unknown in [f for f in factors if not f.isdigit() and f not in sizes]:
        if unknown in NEVER_EMPTY and number < known:
            return False
        sizes[unknown] = number // known
        known *= sizes[unknown]
    return number == known


@functools.cache
def _dimensions(shape: str) -> list[list[str]]:
    """Return the dimensions of a shape, each as a list of factors.

    >>> _dimensions("L G*n 2")
    [['L'], ['G', 'n'], ['2']]
    """
    return [dimension.split("*") for dimension in shape.split()]
