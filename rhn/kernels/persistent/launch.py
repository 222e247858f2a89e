"""Launching a Triton kernel; of a persistent one all its blocks at once, or none."""

import torch
from torch import Tensor

from rhn.kernels.persistent.device import SWITCH
from rhn.kernels.persistent.shapes import Spread
from rhn.kernels.routes import LaunchError

APART = 32  # numbers from one counter to the next, as in `blocks.py`


def counters(like: Tensor, K: int, plan: Spread) -> Tensor:
    """How many blocks of each model and group have arrived: zeros."""
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
