"""The deep transition over time (Pascanu et al. 2013): the reference, and the fused version for K models. L = 1 is the plain RNN.

    s_1 = f(W x + R_1 y[t-1] + b_1)
    s_l = f(R_l s_{l-1} + S_l y[t-1] + b_l)      l = 2..L; S_l only for the last layers that have a shortcut
    y[t] = s_L                                   f = tanh or relu

With a dropout mask m, every state that enters a matrix R_l or S_l is multiplied by m first.
S (L', n, n) holds the shortcut matrices of the last L' <= L - 1 layers, in order. Shapes: see `rhn.kernels`, with G = J = 1.

In the fused version Y (K, L, T + 1, B, n) holds the states: Y[:, l, t] enters layer l at time t, so that Y[:, l + 1, t] (Y[:, 0, t + 1]
for the last layer) is its output. Each stage writes its pre-activation where its state will be and applies f in place. Backward, with
f' = 1 - s^2 (tanh) or [s > 0] (relu):  dz = f' ds,  ds_{l-1} = R_l' dz,  dy[t-1] += S_l' dz.
With a dropout mask both are multiplied by it, see `rhn.kernels.matmul`.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from rhn.kernels import compiled
from rhn.kernels.activations import ACTIVATIONS
from rhn.kernels.function import stack_size
from rhn.kernels.matmul import (
    StateProducts,
    input_gradient,
    input_product,
    masked_linear,
    stages,
    state_weight_gradient,
    weight_gradient,
    workspace,
)

NONLINEARITIES = {name: ACTIVATIONS[name].function for name in ("tanh", "relu")}


def reference(
    x: Tensor,
    s0: Tensor,
    W: Tensor,
    R: Tensor,
    b: Tensor,
    S: Tensor | None = None,
    state_mask: Tensor | None = None,
    *,
    nonlinearity: str = "tanh",
) -> Tensor:
    """States y[1..T] (T, B, n) from x (T, B, m) and s0 (B, n), with a mask (1, B, n) of the state or none."""
    f, L = NONLINEARITIES[nonlinearity], R.shape[0]
    first_skip = L - (0 if S is None else S.shape[0])
    y, states = s0, []
    for x_t in x:
        s = f(F.linear(x_t, W) + masked_linear(y, R[0], b[0], state_mask))
        for layer in range(1, L):
            z = masked_linear(s, R[layer], b[layer], state_mask)
            if layer >= first_skip:
                z = z + masked_linear(y, S[layer - first_skip], None, state_mask)
            s = f(z)
        y = s
        states.append(y)
    return torch.stack(states)


def forward(x, s0, W, R, b, S, state_mask, *, nonlinearity: str, keep: bool):
    """(states (K, T, B, n), Y (K, L, T + 1, B, n))."""
    K, (T, B), (L, n) = stack_size(x, s0, W, R, b, S, state_mask), x.shape[1:3], R.shape[1:3]
    first_skip = L - (0 if S is None else S.shape[1])
    apply_ = ACTIVATIONS[nonlinearity].in_place
    Y = workspace(R, K, L, T + 1, B, n)
    Y[:, 0, 0] = s0
    addends = [input_product(x, W, b[:, 0], K).unbind(1)]
    addends += [[bias.unsqueeze(1)] * T for bias in b.expand(K, -1, -1).unbind(1)[1:]]
    recur = StateProducts(R, K, B, state_mask)
    skip = None if S is None else StateProducts(S, K, B, state_mask)
    Ys, outs = stages(Y), [given.unbind(1) for given in _given(Y)]
    for t in range(T):
        y = Ys[0][t]
        for layer in range(L):
            z = recur.forward(outs[layer][t], layer, Ys[layer][t], addends[layer][t])
            if layer >= first_skip:
                skip.forward(z, layer - first_skip, y, z)
            apply_(z)
    return Y[:, 0, 1:].clone(), Y


def backward(grad, needs, inputs, residuals, *, nonlinearity: str):
    """Gradients of (x, s0, W, R, b) and of S where there is one, each with a leading axis of K."""
    (x, _, W, R, _, S, state_mask), (Y,) = inputs, residuals
    K, L, (T, B), n = Y.shape[0], Y.shape[1], x.shape[1:3], R.shape[-1]
    first_skip = L - (0 if S is None else S.shape[1])
    D = workspace(Y, K, L, T, B, n)
    for out, s in zip(D.unbind(1), _given(Y), strict=True):
        out.copy_(ACTIVATIONS[nonlinearity].slope(s))
    back = StateProducts(R, K, B, state_mask)
    skip = None if S is None else StateProducts(S, K, B, state_mask)
    Ds, grads = stages(D), grad.unbind(1)
    dy = grad.new_zeros(K, B, n)
    for t in range(T - 1, -1, -1):
        ds, dy = dy + grads[t], torch.zeros_like(dy)
        for layer in range(L - 1, -1, -1):
            stage = Ds[layer][t].mul_(ds)
            if layer >= first_skip:
                skip.backward(dy, layer - first_skip, stage, dy)
            ds = back.backward(
                torch.empty_like(ds) if layer else dy, layer, stage, torch.zeros_like(dy) if layer else dy
            )
    dz = D.flatten(2, 3)
    return (
        input_gradient(dz[:, 0], W, x) if needs[0] else None,
        dy,
        weight_gradient(dz[:, 0], x.flatten(1, 2)),
        state_weight_gradient(dz, Y[:, :, :T], state_mask),
        dz.sum(2),
        None if S is None else state_weight_gradient(dz[:, first_skip:], Y[:, :1, :T], state_mask),
    )


def _given(Y: Tensor) -> list[Tensor]:
    """The outputs of each layer, views (K, T, B, n) of the states Y."""
    return [*(Y[:, layer, :-1] for layer in range(1, Y.shape[1])), Y[:, 0, 1:]]


def limit(x, s0, W, R, *rest, nonlinearity: str) -> str | None:
    """Why C does not compute a call; None if it does."""
    return compiled.limit(x, units=R.shape[2], layers=len(R))


IN_C = compiled.recurrence("x s0 W R b S state_mask")
