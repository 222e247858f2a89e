"""The recurrent highway network over K stacked models in Triton: the launches, and the products around them.

The signatures are those of the fused version in `rhn.kernels.highway`. Triton is imported with the first call.
"""

import functools
from typing import NamedTuple

import torch

from rhn.kernels import dispatch
from rhn.kernels.autograd import stack_size
from rhn.kernels.dispatch import Implementation
from rhn.kernels.mixed_precision import GRADIENT_SCALE, require_operands, rescaled
from rhn.kernels.persistent import operands
from rhn.kernels.persistent.device import TOO_LARGE, compare, counters, launch, refusal, unsuited
from rhn.kernels.persistent.shapes import Work, fits, spread_on


def highway_forward(
    x,
    s0,
    W,
    R,
    b,
    state_mask,
    candidate_mask,
    *,
    coupled=True,
    activation="tanh",
    precision="mixed",
    keep=True,
):
    """(states (K, T, B, n), S (K, L, T + 1, B, n), gates A (K, L, T, B, G, n), operands SH (K, L, J', T + 1, R, KP), weights)."""
    from rhn.kernels.persistent.highway_kernels import highway_forward_kernel

    dtype, K = operands.DTYPES[precision], stack_size(x, s0, W, R, b, state_mask, candidate_mask)
    (T, B), (L, gn, n) = x.shape[1:3], R.shape[1:]
    G, J = gn // n, 0 if state_mask is None else state_mask.shape[1]
    plan = spread_on(x.device, Work("forward", K, n, G, B, dtype.itemsize))
    P = operands.padded_weights(R, plan.padded_units, dtype)
    XW = operands.input_product(x, W, K, dtype)
    S, A = x.new_empty(K, L, T + 1, B, n), x.new_empty(K, L, T, B, G, n, dtype=dtype)
    SH = x.new_empty(K, L, max(J, 1), T + 1, plan.padded_rows, plan.padded_units, dtype=dtype)
    S[:, 0, 0] = s0
    SH[:, 0, :, 0] = 0
    SH[:, 0, :, 0, :B, :n] = s0.unsqueeze(1) if state_mask is None else s0.unsqueeze(1) * state_mask
    b, SM, CM = (None if t is None else t.contiguous() for t in (b, state_mask, candidate_mask))
    launch(
        highway_forward_kernel,
        plan,
        K,
        (XW, b, P, S if SM is None else SM, S if CM is None else CM, S, A, SH, counters(x, K, plan)),
        (T, L, B, n, plan.blocks, plan.chunks, plan.groups),
        (*map(operands.model_stride, (b, P, SM)), B * n, operands.model_stride(CM)),
        G=G,
        J=J,
        CANDIDATE=CM is not None,
    )
    if precision == "mixed":
        require_operands(x, W, R, S)
    return S[:, 0, 1:].clone(), S, A, SH, operands.kept(P, K)


@rescaled
def highway_backward(grad, needs, inputs, residuals, *, coupled=True, activation="tanh", precision="mixed", keep=True):
    """Gradients of (x, s0, W, R, b), each with a leading axis of K."""
    from rhn.kernels.persistent.highway_kernels import highway_backward_kernel

    x, _, W, R, _, state_mask, candidate_mask = inputs
    *residuals, P = residuals
    S, A, SH = (t.contiguous() for t in residuals)
    (K, L, T, B, G, n), J = A.shape, 0 if state_mask is None else state_mask.shape[1]
    plan = spread_on(x.device, Work("backward", K, n, G, B, A.dtype.itemsize))
    P = operands.kept_or_padded(P, R, plan.padded_units, A.dtype)
    DZ = A.new_empty(K, L, T, plan.padded_rows, G, plan.padded_units)
    DS, DY = grad.new_zeros(K, B, n), grad.contiguous()
    SM, CM = (None if t is None else t.contiguous() for t in (state_mask, candidate_mask))
    launch(
        highway_backward_kernel,
        plan,
        K,
        (DY, P, S if SM is None else SM, S if CM is None else CM, S, A, DZ, DS, counters(x, K, plan)),
        (T, L, B, n, plan.blocks, plan.chunks, plan.groups),
        (operands.model_stride(P), operands.model_stride(SM), B * n, operands.model_stride(CM), GRADIENT_SCALE),
        G=G,
        J=J,
        CANDIDATE=CM is not None,
    )
    if precision == "mixed":
        operands.require_gradients(DZ, B, R, grad)
    dx, dW = operands.input_gradients(DZ[:, 0], x, W, needs[0])
    return dx, DS, dW, operands.weight_gradient(DZ, SH, n), operands.bias_gradient(DZ, n)


def supports(
    fused: Implementation, x, s0, W, R, b, state_mask, candidate_mask, *, coupled, activation, precision, keep
) -> str | None:
    """Why these kernels do not compute a call; None if they do: mixed, tanh, and a GPU that they fit and that passed the check."""
    if why := unsuited(precision, activation, x.device):
        return why
    K, n, G = stack_size(x, s0, W, R, b, state_mask, candidate_mask), R.shape[3], R.shape[2] // R.shape[3]
    work = Work("forward", K, n, G, x.shape[2], operands.DTYPES[precision].itemsize)
    if not fits(x.device, work, steps=x.shape[1], layers=R.shape[1]):
        return TOO_LARGE
    masks = 0 if state_mask is None else state_mask.shape[1]
    shape = Shape(K, n, x.shape[2], min(2, R.shape[1]), coupled, masks, candidate_mask is not None)
    return refusal("highway", precision, x.device, functools.partial(check, fused), shape)


class Shape(NamedTuple):
    """The sizes and options that select the code of a call and its number of blocks."""

    models: int
    n: int
    batch: int
    layers: int
    coupled: bool
    state_masks: int
    candidate_mask: bool


SHAPES = (
    Shape(2, 130, 20, 2, True, 0, False),
    Shape(3, 300, 40, 2, False, 3, True),
    Shape(150, 70, 33, 1, True, 1, False),
)
"""Both networks, masks, one chunk of units and several, one group of rows and several."""


def check(fused: Implementation, device: torch.device, precision: str, *shapes: Shape) -> float:
    """The largest relative error of a few steps against the fused version in float32."""
    errors = []
    for shape in shapes or SHAPES:
        options = {"coupled": shape.coupled, "activation": "tanh", "precision": precision}
        errors.append(compare(implementation(fused), fused, example(shape, device), **options))
    return max(errors)


def example(shape: Shape, device: torch.device, size: float = 1.0) -> list:
    """Tensors of three steps, the weights times `size`."""
    g, T, m = torch.Generator().manual_seed(0), 3, 9
    K, n, B, L, coupled, J, candidate = shape
    rows = (2 if coupled else 3) * n
    sizes = ((1, T, B, m), (K, B, n), (K, rows, m), (K, L, rows, n), (K, L, rows))
    scales = (1.0, 0.5 * size, 0.3 * size, size * n**-0.5, 0.3 * size)
    tensors = [(torch.randn(s, generator=g) * f).to(device) for s, f in zip(sizes, scales, strict=True)]
    masks = [2.0 * (torch.rand(s, generator=g) < 0.5) for s in ((1, J, B, n), (1, B, n))]
    return [*tensors, masks[0].to(device) if J else None, masks[1].to(device) if candidate else None]


def implementation(fused: Implementation) -> Implementation:
    """The kernels in Triton, checked on each device against the fused version."""
    available = functools.partial(refusal, "highway", "mixed", check=functools.partial(check, fused))
    return Implementation(
        dispatch.TRITON,
        highway_forward,
        highway_backward,
        functools.partial(supports, fused),
        available=lambda device: available(device=device),
        device_type="cuda",
    )
