"""Launch the persistent kernels, and decide whether a device can use them.

They are used only after a check on the device itself against the fused version in float32: a few steps of every shape and variant
before its first call, once a process. The variable RHN_PERSISTENT=0 turns them off.
"""

import importlib.util
import os
import warnings
from collections.abc import Callable

import torch
from torch import Tensor

from rhn.kernels.dispatch import Implementation, LaunchError
from rhn.kernels.persistent.shapes import Spread

SWITCH = "RHN_PERSISTENT"
APART = 32  # numbers from one counter to the next, as in `blocks.py`
OLDEST = (8, 0)  # compute capability: tensor cores that take float16 in tiles of 16 x 8 x 16
TOO_LARGE = "this network and batch do not fit this device's shared memory"
TOLERANCE = 2e-2  # of the largest entry of a step, layer or gate; float16 operands make up to 6e-3 of it

_CHECKED: dict[tuple, str | None] = {}


def missing(device: torch.device) -> str | None:
    """The requirement of the persistent kernels that a device lacks, in words; None if it lacks none."""
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


def refusal(name: str, precision: str, device: torch.device, check: Callable[..., float], *variant) -> str | None:
    """Why a kernel is not used on a device in a precision, in words; None where it is.

    check(device, precision, *variant) computes that variant there, or without one several small cases, and returns the largest relative
    error. The first failure of each variant is a warning.
    """
    reason, key = missing(device), (name, precision, device, *variant)
    if reason is not None or key in _CHECKED:
        return reason or _CHECKED[key]
    if device.type == "cuda" and torch.cuda.is_current_stream_capturing():
        return "it has not been checked, and a CUDA graph is being recorded"
    _CHECKED[key] = reason = _failure(check, device, precision, *variant)
    if reason is not None:
        warnings.warn(f"the persistent {name} kernel is not used in precision {precision}: {reason}", stacklevel=2)
    return reason


def unsuited(precision: str, activation: str, device: torch.device) -> str | None:
    """Why no persistent kernel computes a precision and an activation on a device, in words."""
    if reason := missing(device):
        return reason
    if precision != "mixed":
        return "it is for precision mixed"
    return None if activation == "tanh" else f"it has no activation {activation}"


def compare(kernel: Implementation, other: Implementation, tensors: list, **options) -> float:
    """The largest difference to the other kernel in float32, of states and of every gradient; infinite if one is not a number.

    Tensors begin with (x, s0, W, R, b). Differences are relative to the largest entry of a time step (states, x), a model (s0), or a
    layer and gate (weights), so that no part can be lost beside a larger one.
    """
    results = []
    for one, own in ((kernel, options), (other, options | {"precision": "float32"})):
        states, *residuals = one.forward(*tensors, **own)
        grad = torch.linspace(-1, 1, states.numel(), device=states.device).view_as(states)
        results.append((states, *one.backward(grad, (True,) * len(tensors), tensors, residuals, **own)))
    n, errors = tensors[1].shape[-1], []
    for place, (a, b) in enumerate(zip(*results, strict=True)):
        if b is not None:
            errors.append(relative_error(*(_parts(place, t, n) for t in (a, b))))
    return max(errors)


def relative_error(found: Tensor, exact: Tensor) -> float:
    """The largest difference between two (parts, numbers), relative to the part's largest exact number; infinite where not finite."""
    differences, largest = (found - exact).abs().amax(1), exact.abs().amax(1)
    errors = torch.where(differences == 0, 0, differences / largest)
    return errors.nan_to_num(nan=torch.inf).max().item()


def _parts(place: int, t: Tensor, n: int) -> Tensor:
    """(parts, numbers) of the states (place 0) or the gradient of a tensor: x, s0, W, R, b and more weights."""
    if place > 2:
        gates = 1 if place == 3 else 2
        return t.unflatten(gates, (-1, n)).flatten(0, gates).flatten(1)
    return t.flatten(1) if place == 2 else t.flatten(0, 1).flatten(1)


def _failure(check: Callable[..., float], device: torch.device, precision: str, *variant) -> str | None:
    try:
        error = check(device, precision, *variant)
    except Exception as problem:  # whatever the compiler or the driver raises: the present path remains
        return f"its check on this device raised {type(problem).__name__}: {str(problem).partition(chr(10))[0]}"
    return None if error <= TOLERANCE else f"its check on this device is off by {error:.1e} of the largest entry"


def counters(like: Tensor, K: int, plan: Spread) -> Tensor:
    """Counters of arrived blocks for each model and group: zeros."""
    return like.new_zeros(K * plan.groups, APART, dtype=torch.int32)


def launch(kernel, plan: Spread, K: int, tensors: tuple, sizes: tuple, strides: tuple, **constants) -> None:
    """Run a kernel over K models; blocks that wait for each other are launched cooperatively: all are there, or the launch fails."""
    rows, (K0, K1, K2) = plan.rows, plan.tiles
    alone = plan.blocks == 1
    constants |= {"ROWS": rows, "U": plan.units, "K0": K0, "K1": K1, "K2": K2, "AHEAD": plan.ahead, "ALONE": alone}
    grid = (K * plan.groups * plan.blocks,)
    fixed = {"num_warps": plan.warps, "num_stages": 1, "launch_cooperative_grid": not alone}
    start(kernel, grid, *tensors, *sizes, *strides, **constants, **fixed)


def start(kernel, grid: tuple[int, ...], *arguments, **options) -> None:
    """Run a Triton kernel. Raises LaunchError if it is not compiled or does not start."""
    try:
        kernel[grid](*arguments, **options)
    except Exception as problem:  # the compiler's or the driver's, which differ between versions
        why = str(problem).partition("\n")[0]
        raise LaunchError(f"a launch failed ({why}); {SWITCH}=0 in the environment does without Triton") from problem
