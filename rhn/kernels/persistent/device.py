"""Whether the persistent kernels can be used on a device, and if not, why.

They are trusted only after a check on the device itself: a small case against the float32 kernel, once a process. The variable
RHN_PERSISTENT=0 turns them off.
"""

import importlib.util
import os
import warnings
from collections.abc import Callable

import torch

from rhn.kernels.ensemble import Kernel
from rhn.kernels.persistent.operands import DTYPES

SWITCH = "RHN_PERSISTENT"
OLDEST = (8, 0)  # compute capability: tensor cores that take float16 in tiles of 16 x 8 x 16
TOO_LARGE = "this network and batch do not fit this device's shared memory"
TOLERANCE = 1e-2  # of the largest entry; float16 operands make 2e-3 of it

_CHECKED: dict[tuple[str, str, torch.device], str | None] = {}


def missing(device: torch.device) -> str | None:
    """What the persistent kernels would need on this device, in words; None where there is all."""
    if os.environ.get(SWITCH) == "0":
        return f"turned off by {SWITCH}=0"
    if device.type != "cuda":
        return "it needs a CUDA device"
    if torch.version.hip is not None:
        return "it needs a GPU by NVIDIA"
    if importlib.util.find_spec("triton") is None:
        return "Triton is not installed"
    found = torch.cuda.get_device_capability(device)
    if found < OLDEST:
        return f"it needs compute capability {OLDEST[0]}.{OLDEST[1]} or newer, this is {found[0]}.{found[1]}"
    return None


def refusal(name: str, precision: str, device: torch.device, check: Callable[[torch.device, str], float]) -> str | None:
    """Why a kernel is not used on a device in a precision, in words; None where it is.

    check(device, precision) computes a small case there and returns its largest relative error; where it fails, a warning says so once.
    """
    reason, key = missing(device), (name, precision, device)
    if reason is not None or key in _CHECKED:
        return reason or _CHECKED[key]
    if device.type == "cuda" and torch.cuda.is_current_stream_capturing():
        return "it has not been checked, and a CUDA graph is being recorded"
    _CHECKED[key] = reason = _failure(check, device, precision)
    if reason is not None:
        warnings.warn(f"the persistent {name} kernel is not used in precision {precision}: {reason}", stacklevel=2)
    return reason


def unsuited(name: str, precision: str, activation: str, device: torch.device, check: Callable) -> str | None:
    """Why a kernel is not used for a precision and an activation on a device; otherwise as `refusal`."""
    if precision not in DTYPES:
        return missing(device) or "it needs precision mixed or tf32"
    if activation != "tanh":
        return f"the activation is {activation}, it has tanh alone"
    return refusal(name, precision, device, check)


def compare(kernel: Kernel, other: Kernel, tensors: list, **options) -> float:
    """The largest difference to the other kernel in float32, of states and gradients, relative to its largest entries."""
    results = []
    for one, own in ((kernel, options), (other, options | {"precision": "float32"})):
        states, *residuals = one.forward(*tensors, **own)
        grad = torch.linspace(-1, 1, states.numel(), device=states.device).view_as(states)
        results.append((states, *one.backward(grad, (True,) * len(tensors), tensors, residuals, **own)))
    pairs = zip(*results, strict=True)
    return max(((a - b).abs().max() / b.abs().max()).item() for a, b in pairs if b is not None)


def _failure(check: Callable[[torch.device, str], float], device: torch.device, precision: str) -> str | None:
    try:
        error = check(device, precision)
    except Exception as problem:  # whatever the compiler or the driver raises: the present path remains
        return f"its check on this device raised {type(problem).__name__}: {str(problem).partition(chr(10))[0]}"
    return None if error <= TOLERANCE else f"its check on this device is off by {error:.1e} of the largest entry"
