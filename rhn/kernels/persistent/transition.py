"""The deep transition with tanh over K stacked models by the persistent kernels: launches, and the products around them.

Same signature as `rhn.kernels.transition.manual`'s pair. Triton is imported with the first call.
"""

import itertools
from typing import NamedTuple

import torch

from rhn.kernels.ensemble import Kernel, stack_size
from rhn.kernels.mixed import GRADIENT_SCALE, require_operands, rescaled
from rhn.kernels.persistent import operands
from rhn.kernels.persistent.device import TOO_LARGE, compare, refusal, unsuited
from rhn.kernels.persistent.launch import counters, launch
from rhn.kernels.persistent.shapes import Work, fits, spread_on


def transition_forward(x, s0, W, R, b, S, state_mask, *, nonlinearity="tanh", precision="mixed"):
    """(states (K, T, B, n), Y (K, L, T + 1, B, n), operands SH (K, L, 1, T + 1, R, KP), weights of R and of S where there are any).

    Legend in `transition_forward.py`.
    """
    from rhn.kernels.persistent.transition_forward import transition_forward_kernel

    dtype, K = operands.DTYPES[precision], stack_size(x, s0, W, R, b, S, state_mask)
    (T, B), (L, n, _) = x.shape[1:3], R.shape[1:]
    plan = spread_on(x.device, Work("forward", K, n, 1, B, dtype.itemsize, S is not None))
    P, PS = (None if M is None else operands.padded_weights(M, plan.padded_units, dtype) for M in (R, S))
    XW = operands.input_product(x, W, K, dtype)
    Y = x.new_empty(K, L, T + 1, B, n)
    SH = x.new_empty(K, L, 1, T + 1, plan.padded_rows, plan.padded_units, dtype=dtype)
    Y[:, 0, 0] = s0
    SH[:, 0, 0, 0] = 0
    SH[:, 0, 0, 0, :B, :n] = s0 if state_mask is None else s0 * state_mask.squeeze(1)
    b, SM = (None if t is None else t.contiguous() for t in (b, state_mask))
    launch(
        transition_forward_kernel,
        plan,
        K,
        (XW, b, P, P if PS is None else PS, Y if SM is None else SM, Y, SH, counters(x, K, plan)),
        (T, L, B, n, plan.blocks, plan.chunks, plan.groups, L - (0 if S is None else S.shape[1])),
        tuple(map(operands.model_stride, (b, P, PS, SM))),
        SKIP=S is not None,
        MASK=SM is not None,
    )
    if precision == "mixed":
        require_operands(x, W, R, Y, S)
    return Y[:, 0, 1:].clone(), Y, SH, *(operands.kept(M, K) for M in (P, PS) if M is not None)


@rescaled
def transition_backward(grad, needs, inputs, residuals, *, nonlinearity="tanh", precision="mixed"):
    """Gradients of (x, s0, W, R, b) and of S where there is one, each with a leading axis of K."""
    from rhn.kernels.persistent.transition_backward import transition_backward_kernel

    x, _, W, R, _, S, state_mask = inputs
    Y, SH, *weights = residuals
    Y, SH = Y.contiguous(), SH.contiguous()
    (K, L, T, B, n), skips = (*Y.shape[:2], Y.shape[2] - 1, *Y.shape[3:]), 0 if S is None else S.shape[1]
    plan = spread_on(x.device, Work("backward", K, n, 1, B, SH.dtype.itemsize, S is not None))
    P, PS = (
        operands.kept_or_padded(M, given, plan.padded_units, SH.dtype) if given is not None else None
        for M, given in itertools.zip_longest(weights, (R, S))
    )
    DZ = SH.new_empty(K, L, T, plan.padded_rows, 1, plan.padded_units)
    DS, DK, DY = grad.new_zeros(K, B, n), grad.new_zeros(K, B, n), grad.contiguous()
    SM = None if state_mask is None else state_mask.contiguous()
    launch(
        transition_backward_kernel,
        plan,
        K,
        (DY, P, P if PS is None else PS, Y if SM is None else SM, Y, DZ, DS, DK, counters(x, K, plan)),
        (T, L, B, n, plan.blocks, plan.chunks, plan.groups, L - skips),
        (*map(operands.model_stride, (P, PS, SM)), GRADIENT_SCALE),
        SKIP=S is not None,
        MASK=SM is not None,
    )
    if precision == "mixed":
        operands.require_gradients(DZ, B, R, grad)
    dx, dW = operands.input_gradients(DZ[:, 0], x, W, needs[0])
    dR, db = operands.weight_gradient(DZ, SH, n), operands.bias_gradient(DZ, n)
    if S is None:
        return dx, DS, dW, dR, db, None
    y = SH[:, :1, :, :T].expand(K, skips, -1, -1, -1, -1)
    return dx, DS, dW, dR, db, operands.weight_gradient(DZ[:, L - skips :], y, n)


def refuses(x, s0, W, R, b, S, state_mask, *, nonlinearity: str, precision: str) -> str | None:
    """Why these kernels do not compute a call, None where they do: mixed or tf32, tanh, a GPU that they fit and that was checked."""
    if why := unsuited(precision, nonlinearity, x.device):
        return why
    K, operand = stack_size(x, s0, W, R, b, S, state_mask), operands.DTYPES[precision].itemsize
    n, B, L = R.shape[3], x.shape[2], R.shape[1]
    if not fits(x.device, Work("forward", K, n, 1, B, operand, S is not None), steps=x.shape[1], layers=L):
        return TOO_LARGE
    shape = Shape(K, n, B, min(3, L), S is not None, state_mask is not None)
    return refusal("transition", precision, x.device, check, shape)


class Shape(NamedTuple):
    """What decides which code a call runs, and on how many blocks."""

    models: int
    n: int
    batch: int
    layers: int
    skips: bool
    mask: bool


SHAPES = (Shape(2, 130, 20, 3, True, False), Shape(3, 300, 40, 2, False, True), Shape(150, 70, 33, 2, True, True))
"""With shortcuts and without, masks, one chunk of units and several, one group of rows and several."""


def check(device: torch.device, precision: str, *shapes: Shape) -> float:
    """The largest relative error of a few steps against the float32 kernel, with tiny weights too unless float16 loses them."""
    from rhn.kernels.transition.manual import MANUAL

    options, errors = {"nonlinearity": "tanh", "precision": precision}, []
    for shape in shapes or SHAPES:
        for size in (1.0, 1e-4) if precision == "tf32" else (1.0,):
            errors.append(compare(PERSISTENT_TRANSITION, MANUAL, _example(shape, size, device), **options))
    return max(errors)


def _example(shape: Shape, size: float, device: torch.device) -> list:
    """Tensors of three steps, the weights times `size`."""
    g, T, m = torch.Generator().manual_seed(0), 3, 9
    K, n, B, L, skips, mask = shape
    sizes = ((1, T, B, m), (K, B, n), (K, n, m), (K, L, n, n), (K, L, n), (K, L - 1, n, n))
    scales = (1.0, 0.5 * size, 0.3 * size, size * n**-0.5, 0.3 * size, size * n**-0.5)
    *tensors, S = ((torch.randn(s, generator=g) * f).to(device) for s, f in zip(sizes, scales, strict=True))
    state_mask = (2.0 * (torch.rand(1, 1, B, n, generator=g) < 0.5)).to(device)
    return [*tensors, S if skips and L > 1 else None, state_mask if mask else None]


PERSISTENT_TRANSITION = Kernel("persistent deep transition", transition_forward, transition_backward)
