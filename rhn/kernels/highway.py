"""The recurrent highway network over time (Zilly et al. 2017, equations 6-9): the reference, and the fused version for K models.

    h_l = f    (1{l=1} W_H x + R_Hl s_{l-1} + b_Hl)        f = tanh, or another of `rhn.kernels.activations`
    t_l = sigma(1{l=1} W_T x + R_Tl s_{l-1} + b_Tl)        c_l likewise, or c_l = 1 - t_l if the gates are coupled
    s_l = h_l * t_l + s_{l-1} * c_l                        s_0 = y[t-1], y[t] = s_L

With dropout masks, R_j s_{l-1} becomes R_j (s_{l-1} * m_j) in every block j and layer l, and h_l * t_l becomes (h_l * m') * t_l;
the carried s_{l-1} * c_l is never masked. The blocks of W, R and b are stacked in the order H, T (, C): G = 2 coupled, 3 uncoupled.
Shapes: see `rhn.kernels`; J = 1 or G.

Backward, for each stage (time t, layer l), with the local derivatives of s_l = h t + s c:

    ds/dz_H = t f'(z_H)          ds/dz_T = (h - s) t (1 - t)  coupled,  h t (1 - t)  uncoupled
    ds/ds   = c + R' dz          ds/dz_C = s c (1 - c)        uncoupled only

With dropout masks, h is h * m' above, ds/dz_H is multiplied by m', and for products with R see `rhn.kernels.matmul`.

In the fused version the input product is one call before the loop and the weight gradients are one call after it; between them a stage
is one product and a few elementwise operations in place. Buffers are (K, L, T, B, .), see `matmul.workspace`:
S[:, l, t] is the state that enters layer l at time t, and S[:, 0, t + 1] is y[t].
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from rhn.kernels import compiled
from rhn.kernels.activations import ACTIVATIONS
from rhn.kernels.function import stack_size
from rhn.kernels.matmul import (
    Mask,
    StateProducts,
    input_gradient,
    input_product,
    masked,
    masked_linear,
    stages,
    state_weight_gradient,
    weight_gradient,
    workspace,
)


def highway_layer(
    z: Tensor, s: Tensor, coupled: bool, candidate_mask: Mask = None, activation: str = "tanh"
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """One layer from its pre-activations z (..., G n) and input state s (..., n): (s_l, h, t, c), each (..., n), h as masked."""
    n = s.shape[-1]
    h, t = masked(ACTIVATIONS[activation].function(z[..., :n]), candidate_mask), torch.sigmoid(z[..., n : 2 * n])
    c = 1 - t if coupled else torch.sigmoid(z[..., 2 * n :])
    return h * t + s * c, h, t, c


def reference(
    x: Tensor,
    s0: Tensor,
    W: Tensor,
    R: Tensor,
    b: Tensor,
    state_mask: Mask = None,
    candidate_mask: Mask = None,
    *,
    coupled: bool = True,
    activation: str = "tanh",
) -> Tensor:
    """States y[1..T] (T, B, n) from x (T, B, m) and s0 (B, n), with masks m (J, B, n) of the state and m' (B, n) of h, or none."""
    s, states = s0, []
    for x_t in x:
        for layer in range(R.shape[0]):
            z = masked_linear(s, R[layer], b[layer], state_mask)
            if layer == 0:
                z = z + F.linear(x_t, W)
            s, *_ = highway_layer(z, s, coupled, candidate_mask, activation)
        states.append(s)
    return torch.stack(states)


def forward(x, s0, W, R, b, state_mask, candidate_mask, *, coupled: bool, activation: str, keep: bool):
    """(states (K, T, B, n), S (K, L, T + 1, B, n), gates A (K, L, T, B, G n))."""
    K = stack_size(x, s0, W, R, b, state_mask, candidate_mask)
    (T, B), (L, gn, n) = x.shape[1:3], R.shape[1:]
    S, A = workspace(R, K, L, T + 1, B, n), workspace(R, K, L, T, B, gn)
    S[:, 0, 0] = s0
    addends = [input_product(x, W, b[:, 0], K).unbind(1)]
    addends += [[bias.unsqueeze(1)] * T for bias in b.expand(K, -1, -1).unbind(1)[1:]]
    recur = StateProducts(R, K, B, state_mask)
    Ss, As = stages(S), stages(A)
    Hs, Ts = stages(A[..., :n]), stages(A[..., n:])
    Cs, activate = stages(A[..., 2 * n :]), ACTIVATIONS[activation].in_place
    for t in range(T):
        for layer in range(L):
            s = Ss[layer][t]
            out = Ss[layer + 1][t] if layer + 1 < L else Ss[0][t + 1]
            recur.forward(As[layer][t], layer, s, addends[layer][t])
            h = masked(activate(Hs[layer][t]), candidate_mask)
            gate = Ts[layer][t].sigmoid_()  # both T and C where they are uncoupled
            if coupled:
                torch.lerp(s, h, gate, out=out)
            else:
                torch.mul(h, gate[..., :n], out=out)
                out.addcmul_(s, Cs[layer][t])
    return S[:, 0, 1:].clone(), S, A


def backward(grad, needs, inputs, residuals, *, coupled: bool, activation: str):
    """Gradients of (x, s0, W, R, b), each with a leading axis of K."""
    (x, _, W, R, _, state_mask, candidate_mask), (S, A) = inputs, residuals
    (K, L, T, B, gn), n = A.shape, R.shape[-1]
    D, C = torch.empty_like(A), workspace(A, K, L, T, B, n)
    _local_derivatives(S[:, :, :T], A, candidate_mask, coupled, activation, out=(D, C))
    back = StateProducts(R, K, B, state_mask)
    Ds, Dg, Cs, grads = stages(D), stages(D.unflatten(-1, (gn // n, n))), stages(C), grad.unbind(1)
    ds = grad.new_zeros(K, B, n)
    for t in range(T - 1, -1, -1):
        ds = ds + grads[t]
        for layer in range(L - 1, -1, -1):
            Dg[layer][t].mul_(ds.unsqueeze(2))
            carried = Cs[layer][t].mul_(ds)
            ds = back.backward(carried, layer, Ds[layer][t], carried)
    dz = D.flatten(2, 3)
    return (
        input_gradient(dz[:, 0], W, x) if needs[0] else None,
        ds,
        weight_gradient(dz[:, 0], x.flatten(1, 2)),
        state_weight_gradient(dz, S[:, :, :T], state_mask),
        dz.sum(2),
    )


def _local_derivatives(S, A, candidate_mask, coupled: bool, activation: str, out: tuple[Tensor, Tensor]) -> None:
    """Write ds_l/dz (..., G n), elementwise, and the carry gate c (..., n), from the states S (..., n) and the gates A (..., G n)."""
    n, (D, C) = S.shape[-1], out
    h, t = A[..., :n], A[..., n : 2 * n]
    torch.mul(t, ACTIVATIONS[activation].slope(h), out=D[..., :n])
    if candidate_mask is not None:
        mask = candidate_mask[:, None, None]
        D[..., :n].mul_(mask)
        h = h * mask
    if coupled:
        torch.sub(1, t, out=C)
        torch.mul(h - S, t * C, out=D[..., n:])
    else:
        C.copy_(A[..., 2 * n :])
        torch.mul(h, t * (1 - t), out=D[..., n : 2 * n])
        torch.mul(S, C * (1 - C), out=D[..., 2 * n :])


def limit(x, s0, W, R, b, state_mask, candidate_mask, *, coupled: bool, activation: str) -> str | None:
    """Why C does not compute a call; None if it does."""
    if activation != "tanh":
        return f"it has no activation {activation}"
    return compiled.limit(x, units=R.shape[2], layers=len(R))


IN_C = compiled.recurrence("x s0 W R b state_mask candidate_mask")
