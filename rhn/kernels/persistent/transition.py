"""The deep transition with tanh over K stacked models by the persistent kernels: launches, and the products around them.

Same signature as `rhn.kernels.transition.manual`'s pair. Triton is imported with the first call.
"""

import itertools

import torch

from rhn.kernels.ensemble import Kernel, stack_size
from rhn.kernels.mixed import GRADIENT_SCALE, require_operands, rescaled
from rhn.kernels.persistent import operands
from rhn.kernels.persistent.device import TOO_LARGE, compare, unsuited
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
    if why := unsuited("transition", precision, nonlinearity, x.device, check):
        return why
    K, operand = stack_size(x, s0, W, R, b, S, state_mask), operands.DTYPES[precision].itemsize
    work = Work("forward", K, R.shape[3], 1, x.shape[2], operand, S is not None)
    return None if fits(x.device, work, steps=x.shape[1], layers=R.shape[1]) else TOO_LARGE


def check(device: torch.device, precision: str, n: int = 130) -> float:
    """The largest relative error of a small case on a device, many blocks a model, against the float32 kernel."""
    from rhn.kernels.transition.manual import MANUAL

    K, T, B, L = 2, 5, 20, 3
    g = torch.Generator().manual_seed(0)
    shapes = ((1, T, B, 9), (K, B, n), (K, n, 9), (K, L, n, n), (K, L, n), (K, L - 1, n, n))
    scales = (1.0, 0.5, 0.3, n**-0.5, 0.3, n**-0.5)
    tensors = [(torch.randn(s, generator=g) * f).to(device) for s, f in zip(shapes, scales, strict=True)]
    return compare(PERSISTENT_TRANSITION, MANUAL, [*tensors, None], nonlinearity="tanh", precision=precision)


PERSISTENT_TRANSITION = Kernel("persistent deep transition", transition_forward, transition_backward)
