"""Check the tensors of a kernel by name and shape, once, where a call enters.

    arguments = {"x": "T B m", "s0": "B n", "W": "G*n m", "state_mask?": "1|G B n"}
    validate("highway", arguments, (x, s0, W, None), {"G": 2})

Shapes are written in the legend of `rhn.kernels`: dimensions apart by spaces, "G*n" a product, "1|G" one or the other, "..." any shape.
A tensor with "?" may be None. Only types, shapes, devices and layouts are read, never data: a check works under `vmap` (where a tensor
has the shape of one model's) and costs microseconds.
"""

import functools
import math
from collections.abc import Collection, Mapping, Sequence

import torch
from torch import Tensor, nn

from rhn.errors import InvalidInputError

Sizes = dict[str, int]
Dimension = tuple[tuple[int | str, ...], ...]
"""The alternatives of one dimension, each a product of numbers and names of sizes."""
NEVER_EMPTY = ("T", "L", "n")


def validate(kernel: str, arguments: Mapping[str, str], tensors: Sequence, sizes: Sizes) -> list[Tensor | None]:
    """The tensors, one initial state s0 repeated for all rows; `sizes`: those known, such as G.

    Raises InvalidInputError, which names a tensor, what it is, and what was expected.
    """
    first, checked, sizes = tensors[0], [], dict(sizes)
    for (argument, shape), t in zip(arguments.items(), tensors, strict=True):
        name = argument.removesuffix("?")
        if t is None and name != argument:
            checked.append(None)
            continue
        why = _unusual(t, first, whole=name == "targets")
        if why is None and name == "s0" and t.shape[:-1] in ((), (1,)):
            t = t.expand(first.shape[1], -1)
        if why is None and shape != "..." and not _fits(t.shape, parse_shape(shape), sizes):
            known = ", ".join(f"{size} = {number}" for size, number in sizes.items() if size in shape)
            why = f"has shape {tuple(t.shape)}: expected ({shape.replace(' ', ', ')})" + f" with {known}" * bool(known)
        if why is not None:
            raise InvalidInputError(f"{name} of the {kernel} kernel {why}")
        checked.append(t)
    return checked


def _unusual(t, like: Tensor, whole: bool) -> str | None:
    """Why no kernel computes with a tensor beside the first one, whatever their shapes; `whole`: whether it is to have int64."""
    if not isinstance(t, Tensor):
        return f"is {type(t).__name__}: expected a tensor"
    dtype = torch.int64 if whole else like.dtype
    if t.layout is not torch.strided or not like.is_floating_point():
        return f"is {t.dtype} with the layout {t.layout}: expected a dense tensor of floating-point numbers"
    if (t.dtype, t.device) != (dtype, like.device):
        return f"is {t.dtype} on {t.device}: expected {dtype} on {like.device}; convert one of them"
    return None


def _fits(found: torch.Size, dimensions: Sequence[Dimension], sizes: Sizes) -> bool:
    """Compare a shape, and add the sizes that it says and that are not known yet."""
    if len(found) != len(dimensions):
        return False
    for number, alternatives in zip(found, dimensions, strict=True):
        unknown = next((f for f in alternatives[0] if f.__class__ is str and f not in sizes), None)
        if unknown is not None:
            known = math.prod(_size(f, sizes) for f in alternatives[0] if f != unknown)
            if unknown in NEVER_EMPTY and number < known:
                return False
            sizes[unknown] = number // known
        if all(math.prod([_size(f, sizes) for f in factors]) != number for factors in alternatives):
            return False
    return True


@functools.cache
def parse_shape(text: str) -> tuple[Dimension, ...]:
    """The dimensions of a shape, each with its alternatives.

    >>> parse_shape("1|G G*n 32")
    (((1,), ('G',)), (('G', 'n'),), ((32,),))
    """
    split = [[word.split("*") for word in dimension.split("|")] for dimension in text.split()]
    return tuple(tuple(tuple(int(f) if f.isdigit() else f for f in word) for word in words) for words in split)


def shape_of(text: str, sizes: Mapping[str, int]) -> list[int]:
    """The numbers of a shape whose sizes are known.

    >>> shape_of("L G*n 32", {"L": 3, "G": 2, "n": 5})
    [3, 10, 32]
    """
    return [math.prod([_size(f, sizes) for f in factors]) for (factors,) in parse_shape(text)]


def _size(factor: int | str, sizes: Mapping[str, int]) -> int:
    return factor if factor.__class__ is int else sizes[factor]


def validate_choice(what: str, name: str, offered: Collection[str]) -> None:
    """Raises InvalidInputError for a name that is not offered."""
    if name not in offered:
        raise InvalidInputError(f"unknown {what} {name!r}: expected {' or '.join(map(repr, offered))}")


def is_alone(*tensors: Tensor) -> bool:
    """Check if a call is one model's, outside of `torch.func`, whose transformations not every kernel of torch has."""
    return not is_traced(*tensors) and not any(map(torch._C._functorch.is_functorch_wrapped_tensor, tensors))


def is_traced(*tensors: Tensor | None) -> bool:
    """Check if operations on the tensors are only recorded or simulated: then a compiled kernel has no memory to read.

    So under `make_fx`, `FakeTensorMode`, `torch.jit.trace`, on the meta device, and for tensor classes with their own operations.
    """
    if torch._C._len_torch_dispatch_stack() or torch._C._get_tracing_state() is not None or tensors[0].is_meta:
        return True
    kinds = {type(t) for t in tensors if t is not None} - {Tensor, nn.Parameter}
    return any(kind.__torch_dispatch__ is not Tensor.__torch_dispatch__ for kind in kinds)
