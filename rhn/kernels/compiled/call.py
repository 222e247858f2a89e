"""Calls into the compiled library: tensors over K stacked models as pointers, work shared by threads.

A compiled kernel keeps rows side by side, (..., units, rows), rows filled up to a multiple of 32: `lanes` copies a tensor into this
layout, `rows` returns a view in the usual one, (..., rows, units).

Threads share the items of a call: models; in the softmax also blocks of 32 rows, or tiles of words, of one model. An item is computed
in one fixed order, so that the bits do not depend on the number of threads. The rows of one recurrence are not shared: with two threads
its forward pass gained nothing (docs/speed.md).
"""

import ctypes
import functools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch
import torch.nn.functional as F
from torch import Tensor

from rhn.errors import InvalidInputError
from rhn.kernels.compiled.build import library, missing
from rhn.kernels.compiled.signatures import LANES, STRUCTS, pack

SMALL, LARGE = 64, 700


def limit(x: Tensor, *, units: int, layers: int = 1, unusual: str | None = None) -> str | None:
    """Why C does not compute a call with inputs (T, B, m); None if it does. `unusual`: a request that it has no code for.

    It needs float32 on a CPU and a machine with a compiler. Measured against the versions
    in Python, it wins with up to 64 units for any batch, with up to 700 in batches of full lanes, and in proportion in between; and
    unless the input is much the widest.
    """
    B, m = x.shape[-2:]
    if unusual:
        return f"it has no {unusual}"
    if x.dtype != torch.float32 or x.device.type != "cpu" or x.numel() == 0:
        return "it takes float32 on a CPU"
    if units > SMALL and units * padded(B) > LARGE * B:
        return f"{units} units in batches of {B} are too many for it"
    if m > max(128, 4 * layers * units):
        return f"{m} inputs are too many for it"
    return missing()


def call(name: str, K: int, *, items: int = 1, **arguments: Tensor | int | None) -> None:
    """Run a function of the library for K models; the arguments are those of its row in `signatures`.

    items: for each model; threads share the items of all models.
    Tensors are contiguous float32 on the CPU, (K, ...), or (1, ...) if the models share one that is only read. Raises
    InvalidInputError if operations are recorded: what is written here would be missing from the record.
    """
    if torch._C._get_dispatch_mode(torch._C._TorchDispatchModeKey.PROXY) is not None:
        raise InvalidInputError(
            f"the compiled kernel {name} cannot be recorded: trace the forward pass too, or build the cell with kernel='reference'"
        )
    tensors = {key: _settled(t) for key, t in arguments.items() if t is None or isinstance(t, Tensor)}
    struct = pack(name, K, {key: size for key, size in arguments.items() if key not in tensors}, tensors)
    if _call_all(name, K * items, struct):
        raise MemoryError(f"there is not enough memory for {name.removeprefix('rhn_')} of {K} models")


def _settled(t: Tensor | None) -> Tensor | None:
    """A tensor whose numbers are in its memory: gradients may be views that stand for their negative, or zeros without memory."""
    if t is None or not t._is_zerotensor():
        return t if t is None else t.resolve_neg()
    return torch.zeros(t.shape, dtype=t.dtype)


@functools.cache
def _function(loaded: ctypes.CDLL, name: str) -> Callable[..., int]:
    """A function of a library, with the types of its arguments."""
    function = getattr(loaded, name)
    function.argtypes = (ctypes.POINTER(STRUCTS[name]), ctypes.c_long, ctypes.c_long)
    return function


def _call_all(name: str, items: int, struct: ctypes.Structure) -> int:
    """Share the items of work among threads; 0 unless memory was short."""
    loaded = library()
    function, parts = _function(loaded, name), min(torch.get_num_threads(), items)
    bounds = [items * i // parts for i in range(parts + 1)]
    if parts <= 1:
        return function(struct, 0, items)
    mode = ctypes.c_ulong(loaded.rhn_float_mode())

    def run(part: int) -> int:
        loaded.rhn_set_float_mode(mode)
        return function(struct, *bounds[part : part + 2])

    others = [_pool(os.getpid()).submit(run, part) for part in range(1, parts)]
    return max(function(struct, *bounds[:2]), *(other.result() for other in others))


@functools.cache
def _pool(process: int) -> ThreadPoolExecutor:
    """The threads of this process; a fork has none of its parent's."""
    return ThreadPoolExecutor(max(1, (os.cpu_count() or 1) - 1), thread_name_prefix="rhn-kernels")


def padded(rows: int) -> int:
    """Rows filled up."""
    return -(-rows // LANES) * LANES


def lanes(t: Tensor) -> Tensor:
    """(..., B, n) -> (..., n, rows), contiguous, zeros in the rows that fill up; a view of t if t came from `rows`."""
    B = t.shape[-2]
    return F.pad(t.transpose(-1, -2), (0, padded(B) - B)).contiguous()


def rows(t: Tensor, B: int) -> Tensor:
    """(..., n, rows) -> (..., B, n), a view."""
    return t[..., :B].transpose(-1, -2)
