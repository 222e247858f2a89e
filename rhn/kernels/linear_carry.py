"""A tanh recurrence that also carries its state linearly, with a hand-derived backward, for K stacked models at once.

    s' = C s + D h,  h = tanh(W x + R s + b)        s is p blocks of n numbers; R (n, p n)

C (p, p) and D (p,) are numbers: they mix the blocks, alike for all units. With p = 1, C = 1 - a and D = a it is a leaky network, with
C = 1 a step of a differential equation, with C = 0 and D = 1 the plain RNN; with p = 2 an oscillator's position and velocity.

Backward:  dz = (1 - h^2) D' ds',  ds = C' ds' + R' dz. With a dropout mask what enters R is multiplied by it, see
`rhn.kernels.dropout`.
"""

import torch
from torch import Tensor

from rhn.errors import InvalidInputError
from rhn.kernels import dispatch, validation
from rhn.kernels.autograd import batched_function, stack_size
from rhn.kernels.dispatch import Implementation, Operation
from rhn.kernels.dropout import masked_linear, state_gradients, state_products, state_weight_gradient
from rhn.kernels.matmul import input_gradient, input_product, weight_gradient, workspace

Numbers = tuple[float, ...]


def linear_carry(
    x: Tensor, s0: Tensor, W: Tensor, b: Tensor, R: Tensor, state_mask: Tensor | None = None, *, C: tuple, D: Numbers
) -> Tensor:
    """States s[1..T] (T, B, p n); same arguments and values as `linear_carry_reference`. The mask has no gradient."""
    tensors = _validated(x, s0, W, b, R, state_mask, C=C, D=D)
    if validation.is_traced(*tensors):
        return linear_carry_reference(*tensors, C=C, D=D)
    return batched_function(LINEAR_CARRY, *tensors, C=C, D=D)


def linear_carry_reference(
    x: Tensor, s0: Tensor, W: Tensor, b: Tensor, R: Tensor, state_mask: Tensor | None = None, *, C: tuple, D: Numbers
) -> Tensor:
    """States s[1..T] (T, B, p n) of one model, for x (T, B, m), s0 (B, p n), W (n, m), b (n,), R (n, p n) and a mask (1, B, n).

    C: p rows of p numbers. D: p numbers. A mask is for p = 1.
    """
    x, s, W, b, R, state_mask = _validated(x, s0, W, b, R, state_mask, C=C, D=D)
    states = []
    for x_t in x:
        h = torch.tanh(x_t @ W.T + masked_linear(s, R, b, state_mask))
        s = _mixed(C, s) + torch.cat([d * h for d in D], -1)
        states.append(s)
    return torch.stack(states)


def _validated(*tensors: Tensor | None, C: tuple, D: Numbers) -> list[Tensor | None]:
    p = len(D)
    if p == 0 or [len(row) for row in C] != [p] * p:
        raise InvalidInputError(f"C has rows of {[len(row) for row in C]} numbers, D has {p}: expected {p} rows of {p}")
    return validation.LINEAR_CARRY.validate(*tensors, p=p)


def linear_carry_forward(x, s0, W, b, R, state_mask, *, C: tuple, D: Numbers) -> tuple[Tensor, Tensor, Tensor]:
    """(states (K, T, B, p n), S (K, T + 1, B, p n) with s0, H (K, T, B, n))."""
    K, (T, B), (n, width) = stack_size(x, s0, W, b, R, state_mask), x.shape[1:3], R.shape[1:]
    u = input_product(x, W, b, K).unbind(1)
    S, H = workspace(R, K, T + 1, B, width), workspace(R, K, T, B, n)
    S[:, 0] = s0
    recur, states = state_products(R.unsqueeze(1), K, B, state_mask), S.unbind(1)
    for t, h in enumerate(H.unbind(1)):
        recur.into(h, 0, states[t], u[t]).tanh_()
        states[t + 1].copy_(_mixed(C, states[t]))
        for d, block in zip(D, states[t + 1].chunk(len(D), -1), strict=True):
            block.add_(h, alpha=d)
    return S[:, 1:].clone(), S, H


def linear_carry_backward(grad, needs, inputs, residuals, *, C: tuple, D: Numbers) -> tuple[Tensor | None, ...]:
    """Gradients of (x, s0, W, b, R), each with a leading axis of K."""
    (x, _, W, _, R, state_mask), (S, H) = inputs, residuals
    K, (T, B), R = len(grad), x.shape[1:3], R.unsqueeze(1)
    slopes = workspace(H, K, T, B, H.shape[-1]).copy_(1 - H * H)
    back, transposed = state_gradients(R, K, B, state_mask), tuple(zip(*C, strict=True))
    ds = grad.new_zeros(K, B, S.shape[-1])
    for dz, given in zip(reversed(slopes.unbind(1)), reversed(grad.unbind(1)), strict=True):
        ds = ds + given
        dz.mul_(_mixed((D,), ds))
        ds = back.into(torch.empty_like(ds), 0, dz, _mixed(transposed, ds))
    dz = slopes.flatten(1, 2)
    return (
        input_gradient(dz, W, x) if needs[0] else None,
        ds,
        weight_gradient(dz, x.flatten(1, 2)),
        dz.sum(1),
        state_weight_gradient(dz.unsqueeze(1), S[:, None, :T], state_mask).squeeze(1),
    )


def _mixed(rows: tuple[Numbers, ...], s: Tensor) -> Tensor:
    """A matrix of numbers (q, p) times the p blocks of s (..., p n): (..., q n)."""
    blocks = s.chunk(len(rows[0]), -1)
    mixed = [sum(c * block for c, block in zip(row[1:], blocks[1:], strict=True)) + row[0] * blocks[0] for row in rows]
    return mixed[0] if len(mixed) == 1 else torch.cat(mixed, -1)


LINEAR_CARRY = Operation("linear carry", Implementation(dispatch.FUSED, linear_carry_forward, linear_carry_backward))
