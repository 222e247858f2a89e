"""Validate the tensors of every kernel by name and shape, once, before a pointer leaves Python.

    HIGHWAY = Signature("highway", {"x": "T B m", "s0": "B n", "W": "G*n m", ...}, sizes_from=("x", "R"), ...)
    x, s0, W, R, b, *masks = HIGHWAY.validate(x, s0, W, R, b, state_mask, candidate_mask, G=2)

All implementations of a recurrence, the reference among them, share its `Signature`. Only types, shapes, devices and layouts are read,
never data, so that validation works under `vmap` (where a tensor has the shape of one model's) and costs microseconds.

Shapes are written in the legend of `rhn.kernels`: sizes apart by spaces, "G*n" a product.
"""

import functools
from collections.abc import Callable, Collection, Mapping
from typing import NoReturn

import torch
from torch import Tensor, nn

from rhn.errors import InvalidInputError

Dimension = tuple[int | str, ...]
"""The factors of one dimension: numbers, and names of sizes."""
Sizes = dict[str, int]
NEVER_EMPTY = ("T", "L", "n")


def parse_shape(text: str) -> tuple[Dimension, ...]:
    """The dimensions of a shape.

    >>> parse_shape("L G*n 32")
    (('L',), ('G', 'n'), (32,))
    """
    return tuple(tuple(int(f) if f.isdigit() else f for f in word.split("*")) for word in text.split())


def size_of(dimension: Dimension, sizes: Mapping[str, int]) -> int:
    """The number that a dimension stands for."""
    size = 1
    for factor in dimension:
        size *= factor if factor.__class__ is int else sizes[factor]
    return size


class Signature:
    """The tensors of one kernel, in the order of its arguments.

    Args:
        name: of the kernel, for messages.
        shapes: the shape of each tensor by its name.
        sizes_from: the tensors whose shapes say what T, B, m, n and so on are; all others must fit.
        optional: tensors that may be None.
        whole: tensors of int64; all others have the type of the first one.
        row: a tensor (B, k) that may also be (1, k) or (k,), one row for all.
        refuses: what shapes alone do not say: sizes -> what is wrong, or None.
    """

    def __init__(
        self,
        name: str,
        shapes: Mapping[str, str],
        *,
        sizes_from: Collection[str],
        optional: Collection[str] = (),
        whole: Collection[str] = (),
        row: str | None = None,
        refuses: Callable[[Sizes], str | None] = lambda sizes: None,
    ) -> None:
        self.name, self._optional, self._whole, self._row, self._refuses = name, optional, whole, row, refuses
        self._shapes = [(tensor, parse_shape(text)) for tensor, text in shapes.items()]
        self._check_shapes = functools.lru_cache(maxsize=1024)(self._compare_shapes)
        self._sources = [place for place, tensor in enumerate(shapes) if tensor in sizes_from]

    def validate(self, *tensors: Tensor | None, **sizes: int) -> list[Tensor | None]:
        """The same tensors, one row repeated where it stands for all and negated views resolved; `sizes`: those known, such as G.

        Raises InvalidInputError, which names a tensor, what it is, and what was expected.
        """
        first, out, shapes = tensors[0], [], []
        dtype, device, on_cpu = (first.dtype, first.device, first.is_cpu) if isinstance(first, Tensor) else (None,) * 3
        for t, (tensor, _) in zip(tensors, self._shapes, strict=True):
            if t is None and tensor in self._optional:
                out.append(None), shapes.append(None)
                continue
            if not isinstance(t, Tensor):
                self._refuse(tensor, f"is {type(t).__name__}", "a tensor")
            wanted = torch.int64 if tensor in self._whole else dtype
            if t.dtype is not wanted:
                self._refuse(tensor, f"is {t.dtype}", f"{wanted}; convert one of them")
            if not (on_cpu and t.is_cpu) and t.device != device:
                self._refuse(tensor, f"is on {t.device}", f"{device}, where the others are")
            if t.layout is not torch.strided:
                self._refuse(tensor, f"has the layout {t.layout}", "a dense tensor")
            out.append(t.resolve_neg() if t.is_neg() else t), shapes.append(t.shape)
        if not dtype.is_floating_point:
            self._refuse(self._shapes[0][0], f"is {dtype}", "floating-point numbers")
        found, known = tuple(shapes), tuple(sizes.items())
        try:
            place, shape = self._check_shapes(found, known)
        except TypeError:  # sizes that are symbols, as while operations are recorded, cannot be looked up
            place, shape = self._compare_shapes(found, known)
        if shape is not None:
            out[place] = out[place].expand(shape)
        return out

    def _compare_shapes(self, found: tuple, given: tuple[tuple[str, int], ...]) -> tuple[int, list[int] | None]:
        """Refuse shapes that do not fit; the place of the tensor of one row, and the shape that it is to have."""
        sizes, place_of_row, row = dict(given), 0, None
        for place in self._sources:
            if found[place] is not None:
                self._read_sizes(place, found[place], sizes)
        for place, (shape, (tensor, dimensions)) in enumerate(zip(found, self._shapes, strict=True)):
            if shape is None:
                continue
            wanted = [size_of(dimension, sizes) for dimension in dimensions]
            if [*shape] != wanted:
                if tensor != self._row or [*shape] not in ([1, wanted[1]], wanted[1:]):
                    self._refuse_shape(place, shape, sizes)
                place_of_row, row = place, wanted
        if why := self._refuses(sizes):
            raise InvalidInputError(f"the {self.name} kernel was given {why}")
        for place in self._sources:
            if any(
                sizes.get(factor) == 0
                for dimension in self._shapes[place][1]
                for factor in dimension
                if factor in NEVER_EMPTY
            ):
                self._refuse_shape(place, found[place], {})
        return place_of_row, row

    def _read_sizes(self, place: int, found: torch.Size, sizes: Sizes) -> None:
        """Add the sizes that a shape says and that are not known yet."""
        shape = self._shapes[place][1]
        if len(found) != len(shape):
            self._refuse_shape(place, found, sizes)
        for number, dimension in zip(found, shape, strict=True):
            unknown = [factor for factor in dimension if factor.__class__ is str and factor not in sizes]
            if unknown:
                known = size_of(tuple(factor for factor in dimension if factor not in unknown), sizes)
                sizes[unknown[0]] = number // known

    def _refuse_shape(self, place: int, found: torch.Size, sizes: Sizes) -> NoReturn:
        tensor, shape = self._shapes[place]
        names = ", ".join("*".join(map(str, dimension)) for dimension in shape)
        wanted = f"({names})"
        if all(factor in sizes for dimension in shape for factor in dimension if isinstance(factor, str)):
            wanted += f" = {tuple(size_of(dimension, sizes) for dimension in shape)}"
        elif len(found) == len(shape):
            wanted += " with T, L and n of at least 1"
        self._refuse(tensor, f"has shape {tuple(found)}", wanted)

    def _refuse(self, tensor: str, found: str, wanted: str) -> NoReturn:
        raise InvalidInputError(f"{tensor} of the {self.name} kernel {found}: expected {wanted}")


def _masks_of_highway(sizes: Sizes) -> str | None:
    if sizes.get("J", 1) not in (1, sizes["G"]):
        return f"a state_mask of {sizes['J']} blocks: expected 1, or {sizes['G']}, one for each gate block"
    return None


def _shortcuts(sizes: Sizes) -> str | None:
    if sizes.get("shortcuts", 0) >= sizes["L"]:
        return f"S of {sizes['shortcuts']} layers: expected at most {sizes['L'] - 1}, all layers but the first"
    return None


_RECURRENCE = {"x": "T B m", "s0": "B n"}
_MASKS = ("state_mask", "candidate_mask")
HIGHWAY = Signature(
    "highway",
    _RECURRENCE | {"W": "G*n m", "R": "L G*n n", "b": "L G*n", "state_mask": "J B n", "candidate_mask": "B n"},
    sizes_from=("x", "R", "state_mask"),
    optional=_MASKS,
    row="s0",
    refuses=_masks_of_highway,
)
DEEP_TRANSITION = Signature(
    "deep transition",
    _RECURRENCE | {"W": "n m", "R": "L n n", "b": "L n", "S": "shortcuts n n", "state_mask": "1 B n"},
    sizes_from=("x", "R", "S"),
    optional=("S", *_MASKS),
    row="s0",
    refuses=_shortcuts,
)
LSTM = Signature(
    "LSTM",
    {
        "x": "T B m",
        "s0": "B 2*n",
        "W": "4*n m",
        "R": "4*n n",
        "b": "4*n",
        "state_mask": "1 B n",
        "candidate_mask": "B n",
    },
    sizes_from=("x", "R"),
    optional=_MASKS,
    row="s0",
)
GRU = Signature(
    "GRU",
    _RECURRENCE | {"W": "3*n m", "R": "3*n n", "b": "3*n", "q": "n", "state_mask": "1 B n", "candidate_mask": "B n"},
    sizes_from=("x", "R"),
    optional=_MASKS,
    row="s0",
)
LOOP = Signature(
    "loop",
    {"x": "T B m", "s0": "B k", "W": "g m", "b": "g", "state_mask": "1 B j"},
    sizes_from=("x", "s0", "W", "state_mask"),
    optional=_MASKS,
)
SOFTMAX = Signature(
    "softmax",
    {"y": "T B n", "U": "V n", "b": "V", "targets": "T B", "mask": "B n"},
    sizes_from=("y", "U"),
    optional=("mask",),
    whole=("targets",),
)
OUTPUT = Signature(
    "output and loss",
    {"y": "T B n", "W": "keys n", "b": "keys", "frames": "T B keys", "mask": "T B"},
    sizes_from=("y", "W"),
)


def validate_choice(what: str, name: str, offered: Collection[str]) -> None:
    """Raises InvalidInputError for a name that is not offered."""
    if name not in offered:
        raise InvalidInputError(f"unknown {what} {name!r}: expected {' or '.join(map(repr, offered))}")


def validate_weights(kernel: str, like: Tensor, weights: Collection[Tensor]) -> None:
    """Raises InvalidInputError unless weights of any shape are dense vectors or matrices of the type and on the device of `like`."""
    for t in weights:
        if not isinstance(t, Tensor) or t.layout is not torch.strided or t.dim() not in (1, 2):
            raise InvalidInputError(f"a weight of the {kernel} kernel is no dense vector or matrix")
        if (t.dtype, t.device) != (like.dtype, like.device):
            raise InvalidInputError(
                f"a weight of the {kernel} kernel is {t.dtype} on {t.device}: expected {like.dtype} on {like.device}, as x"
            )


def is_traced(*tensors: Tensor | None) -> bool:
    """Check if operations on the tensors are only recorded or simulated: then a compiled kernel has no memory to read.

    So under `make_fx`, `FakeTensorMode`, `torch.jit.trace`, on the meta device, and for tensor classes with their own operations.
    """
    if torch._C._len_torch_dispatch_stack() or torch._C._get_tracing_state() is not None or tensors[0].is_meta:
        return True
    kinds = {type(t) for t in tensors if t is not None} - {Tensor, nn.Parameter}
    return any(kind.__torch_dispatch__ is not Tensor.__torch_dispatch__ for kind in kinds)
