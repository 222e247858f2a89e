"""The arguments of the compiled functions, read from `arguments.h`: ctypes structs, and the shape that every tensor must have.

A declaration there says all that a call needs:

    Tensor gates; /* blocks T L G*n 32, written or NULL */      struct field, shape, what may be done with it
"""

import ctypes
import functools
import math
import re
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from rhn.kernels.validation import Dimension, parse_shape, size_of

LANES = 32
HEADER = Path(__file__).with_name("arguments.h")


class _Tensor(ctypes.Structure):
    _fields_ = (("data", ctypes.c_void_p), ("stride", ctypes.c_long))


_TYPES = {"long": ctypes.c_long, "Tensor": _Tensor, "double *": ctypes.c_void_p}


@dataclass(frozen=True)
class Argument:
    """One tensor of a function: its shape without the axis of the models, whether it is written to and whether it may be absent."""

    shape: tuple[Dimension, ...]
    written: bool
    optional: bool


@dataclass(frozen=True)
class Function:
    """A compiled function: its struct, and its tensors by name."""

    name: str
    struct: type[ctypes.Structure]
    tensors: dict[str, Argument]

    def pack(self, K: int, numbers: dict[str, int], tensors: dict[str, Tensor | None]) -> ctypes.Structure:
        """The struct for K models. Raises TypeError or ValueError for a tensor that is not as declared."""
        sizes = numbers | {"K": K}
        if "B" in numbers:
            blocks = -(-numbers["B"] // LANES)
            sizes |= {"blocks": blocks, "rows": blocks * LANES}
        given = {name: self._described(name, t, K, sizes) for name, t in tensors.items()}
        if missing := [name for name, _ in self.struct._fields_ if name not in given and name not in numbers]:
            raise TypeError(f"{self.name} was given no {', '.join(missing)}")
        return self.struct(**numbers, **given)

    def _described(self, name: str, t: Tensor | None, K: int, sizes: dict[str, int]) -> _Tensor | int:
        argument = self.tensors.get(name)
        if argument is None:  # the totals
            if t.dtype != torch.float64 or t.shape != (K,) or not _is_plain(t):
                raise TypeError(
                    f"{name} of {self.name} is {t.dtype} of shape {tuple(t.shape)}: expected float64 ({K},)"
                )
            return t.data_ptr()
        if t is None:
            if not argument.optional:
                raise TypeError(f"{name} of {self.name} is missing")
            return _Tensor(None, 0)
        if t.dtype != torch.float32 or not _is_plain(t):
            how = "" if t.is_contiguous() else ", not contiguous"
            raise TypeError(
                f"{name} of {self.name} is {t.dtype} on {t.device}{how}: expected contiguous float32 on the CPU"
            )
        wanted = [size_of(dimension, sizes) for dimension in argument.shape]
        if [*t.shape[1:]] != wanted or (t.shape[0] != K and (argument.written or t.shape[0] != 1)):
            raise ValueError(f"{name} of {self.name} has shape {tuple(t.shape)}: expected {(K, *wanted)}")
        return _Tensor(t.data_ptr(), math.prod(wanted) if t.shape[0] > 1 else 0)


def _is_plain(t: Tensor) -> bool:
    """Check that the memory of a tensor holds its values: on the CPU, contiguous, and no negated view."""
    return t.is_cpu and t.is_contiguous() and not t.is_neg() and (t.data_ptr() != 0 or t.numel() == 0)


@functools.cache
def functions() -> dict[str, Function]:
    """All functions of the library, by name."""
    structs = re.findall(r"^struct (\w+) \{\n(.*?)^\};", HEADER.read_text(), re.DOTALL | re.MULTILINE)
    return {name: _function(name, body) for name, body in structs}


def _function(name: str, body: str) -> Function:
    fields, tensors = [], {}
    for line in body.splitlines():
        kind, names, comment = re.fullmatch(r"    (long |Tensor |double \*)([\w, ]+);(?: /\* (.*) \*/)?", line).groups()
        kind = kind.strip()
        fields += [(field, _TYPES[kind]) for field in names.split(", ")]
        if kind == "Tensor":
            shape, _, usage = comment.partition(",")
            tensors[names] = Argument(parse_shape(shape), "written" in usage, "NULL" in usage)
    return Function(name, type(name, (ctypes.Structure,), {"_fields_": fields}), tensors)
