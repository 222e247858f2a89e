"""Calls into the compiled library: tensors over K stacked models as pointers, rows side by side, threads over the models.

A compiled kernel keeps rows side by side, (..., units, rows), rows filled up to a multiple of 32: `lanes` makes a tensor so,
`rows` shows one as the others have it, (..., rows, units).
"""

import ctypes
from concurrent.futures import ThreadPoolExecutor

import torch
import torch.nn.functional as F
from torch import Tensor

from rhn.kernels.compiled.build import library, missing

LANES = 32
SMALL, LARGE = 64, 700


def refusal(x: Tensor, units: int, layers: int = 1, unusual: str | None = None) -> str | None:
    """Why the compiled kernels do not take inputs like these, (T, B, m), for a recurrence of so many units and layers; None: they do.

    unusual: what else is asked for, see `unusual`. They want float32 on a CPU too, and a machine with a compiler. Measured against the
    kernels in Python, they win with up to 64 units whatever the batch, with up to 700 where no row is filled up, and else in between;
    and unless the input is much the widest.
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
    return missing() if library() is None else None


def unusual(*masks: Tensor | None, activation: str = "tanh", precision: str = "float32") -> str | None:
    """What a call asks for that the compiled kernels do not have, in words."""
    if any(mask is not None for mask in masks):
        return "dropout"
    if activation != "tanh":
        return f"activation {activation}"
    return None if precision == "float32" else f"precision {precision}"


class _Tensor(ctypes.Structure):
    _fields_ = (("data", ctypes.c_void_p), ("stride", ctypes.c_long))


def call(name: str, K: int, sizes: tuple[int, ...], tensors: list[Tensor | None], *extra: Tensor) -> None:
    """Run a kernel of the library for K models. Tensors are contiguous float32 on the CPU, (K, ...), or (1, ...) where the models
    share one; raises TypeError for others, whose memory would be read, or written to, as what it is not.
    """
    size = (ctypes.c_long * len(sizes))(*sizes)
    pointers = (_Tensor * len(tensors))(*map(_described, tensors))
    if _call_all(name, K, (size, pointers, *(ctypes.c_void_p(t.data_ptr()) for t in extra))):
        raise MemoryError(f"there is not enough memory for {name.removeprefix('rhn_')} of {K} models")


def _call_all(name: str, K: int, arguments: tuple) -> int:
    """Share the models among threads; 0 unless memory was short."""
    function, parts = getattr(library(), name), min(torch.get_num_threads(), K)
    bounds = [ctypes.c_long(K * i // parts) for i in range(parts + 1)]
    if parts == 1:
        return function(*arguments, *bounds)
    with ThreadPoolExecutor(parts) as pool:  # fresh ones, which inherit how this thread treats denormal numbers
        return max(pool.map(lambda i: function(*arguments, *bounds[i : i + 2]), range(parts)))


def _described(t: Tensor | None) -> _Tensor:
    if t is None:
        return _Tensor(None, 0)
    if t.dtype != torch.float32 or not t.is_cpu or not t.is_contiguous():
        how = "" if t.is_contiguous() else ", not contiguous"
        raise TypeError(
            f"a compiled kernel was given {t.dtype} on {t.device}{how}: expected contiguous float32 on the CPU"
        )
    return _Tensor(t.data_ptr(), t.stride(0) if t.shape[0] > 1 else 0)


def padded(rows: int) -> int:
    """Rows filled up."""
    return -(-rows // LANES) * LANES


def lanes(t: Tensor) -> Tensor:
    """(..., B, n) -> (..., n, rows), contiguous, zeros in the rows that fill up; t itself, seen so, where it came from `rows`."""
    B = t.shape[-2]
    return F.pad(t.transpose(-1, -2), (0, padded(B) - B)).contiguous()


def rows(t: Tensor, B: int) -> Tensor:
    """(..., n, rows) -> (..., B, n), a view."""
    return t[..., :B].transpose(-1, -2)
