"""The recurrent highway network (Zilly et al. 2017, equations 6-9) and the deep transition (Pascanu
et al. 2013) over time.

    z_l = 1{l=1} W x + R_l s_{l-1} + S_l y[t-1] + b_l        s_0 = y[t-1], y[t] = s_L
    s_l = f(z_l)                                             deep transition, G = 1; L = 1 is the plain RNN
    s_l = h * t + s_{l-1} * c                                highway, the blocks of z_l are those of H, T (, C):
                                                             h = f(z_H), t = sigma(z_T), c = 1 - t,
                                                             or G = 3 and c = sigma(z_C)

S (L', n, n) holds the matrices of shortcuts into the last L' <= L - 1 layers; a highway network has
none. With dropout masks, R_j s becomes R_j (s * m_j) in every block j and layer, S_l y becomes S_l
(y * m), and h * t becomes (h * m') * t; the carried s * c is never masked. First the equation as a
loop, then the passes for K stacked models.

The input product is one call before the loop and the weight gradients are one call after it;
between them a stage (time t, layer l) is a product or two and a few elementwise operations in
place. Buffers are (K, L, T, B, .), see `matmul.workspace`: S[:, l, t] is the state that enters
layer l at time t, and S[:, 0, t + 1] is y[t]. A holds the gates of a highway network. A deep
transition has one block, whose pre-activation is written where its state will be, and no gates.

Backward, for each stage, with the local derivatives of s_l = h t + s c, or of s_l = f(z) without
gates, where ds/dz = f'(z):

    ds/dz_H = t f'(z_H)          ds/dz_T = (h - s) t (1 - t)  coupled,  h t (1 - t)  uncoupled
    ds/ds   = c + R' dz          ds/dz_C = s c (1 - c)        uncoupled only;  of a shortcut to the state before the step: S' dz

With dropout masks, h is h * m' above, ds/dz_H is multiplied by m', and for products with R and S
see `rhn.kernels.matmul`.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from rhn.kernels import compiled
from rhn.kernels.activations import ACTIVATIONS
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
    z: Tensor, s: Tensor, candidate_mask: Mask = None, activation: str = "tanh"
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """One layer from its pre-activations z (..., G n) and input state s (..., n): (s_l, h, t, c),
    each (..., n), h as masked.
    """
    z_H, z_T, *z_C = z.split(s.shape[-1], -1)
    h, t = masked(ACTIVATIONS[activation].function(z_H), candidate_mask), torch.sigmoid(z_T)
    c = torch.sigmoid(z_C[0]) if z_C else 1 - t
    return h * t + s * c, h, t, c


def reference(
    x: Tensor,
    s0: Tensor,
    W: Tensor,
    R: Tensor,
    b: Tensor,
    S: Tensor | None = None,
    state_mask: Mask = None,
    candidate_mask: Mask = None,
    *,
    activation: str = "tanh",
) -> Tensor:
    """States y[1..T] (T, B, n) from x (T, B, m) and s0 (B, n), with masks m (J, B, n), J = 1 or G,
    and m' (B, n), or none.
    """
    g, n = R.shape[1:]
    s, states = s0, []
    skips: list = [] if S is None else [*S]
    skips = [None] * (len(R) - len(skips)) + skips
    layers = [*zip(R, b, skips, strict=True)]  # once: the gradient of R[layer] is as large as R
    for x_t in x:
        y = s
        for layer, (R_l, b_l, S_l) in enumerate(layers):
            z = masked_linear(s, R_l, b_l, state_mask)
            if layer == 0:
                z = z + F.linear(x_t, W)
            if S_l is not None:
                z = z + masked_linear(y, S_l, None, state_mask)
            s = (
                ACTIVATIONS[activation].function(z)
                if g == n
                else highway_layer(z, s, candidate_mask, activation)[0]
            )
        states.append(s)
    return torch.stack(states)


def forward(x, s0, W, R, b, S, state_mask, candidate_mask, *, activation: str, K: int, keep: bool):
    """(states (K, T, B, n), S (K, L, T + 1, B, n), and of a highway network its gates A (K, L, T,
    B, G n)).
    """
    skips, (T, B), (L, gn, n) = S, x.shape[1:3], R.shape[1:]
    activate, first_skip = ACTIVATIONS[activation].in_place, L - (0 if S is None else S.shape[1])
    S = workspace(R, K, L, T + 1, B, n)
    S[:, 0, 0] = s0
    addends = [input_product(x, W, b[:, 0], K).unbind(1)]
    addends += [(bias.unsqueeze(1),) * T for bias in b.expand(K, -1, -1).unbind(1)[1:]]
    recur = StateProducts(R, K, B, state_mask)
    skip = None if skips is None else StateProducts(skips, K, B, state_mask)
    A = None if gn == n else workspace(R, K, L, T, B, gn)
    Ss, outs = stages(S), [out.unbind(1) for out in _outputs(S)]
    zs = outs if A is None else stages(A)
    # the candidate, all gates, the carry gate
    blocks = slice(n), slice(n, None), slice(2 * n, None)
    Hs, Ts, Cs = [[] if A is None else stages(A[..., block]) for block in blocks]
    for t in range(T):
        for layer in range(L):
            s, z = Ss[layer][t], zs[layer][t]
            recur.forward(z, layer, s, addends[layer][t])
            if skip and layer >= first_skip:
                skip.forward(z, layer - first_skip, Ss[0][t], z)
            if A is None:
                activate(z)
                continue
            h = masked(activate(Hs[layer][t]), candidate_mask)
            gate = Ts[layer][t].sigmoid_()  # both T and C where they are uncoupled
            if gn == 2 * n:
                torch.lerp(s, h, gate, out=outs[layer][t])
            else:
                torch.mul(h, gate[..., :n], out=outs[layer][t]).addcmul_(s, Cs[layer][t])
    return (S[:, 0, 1:].clone(), S) if A is None else (S[:, 0, 1:].clone(), S, A)


def backward(
    grad, needs, residuals, *, x, W, R, S, state_mask, candidate_mask, activation: str, **others
):
    """Gradients of x, s0, W, R, b and S by name, each with a leading axis of K."""
    skips, (S, *A) = S, residuals
    (K, L), (T, B), (gn, n) = S.shape[:2], x.shape[1:3], R.shape[2:]
    first_skip = L - (0 if skips is None else skips.shape[1])
    D, C = workspace(S, K, L, T, B, gn), None
    if A:
        C = workspace(S, K, L, T, B, n)
        _local_derivatives(S[:, :, :T], A[0], candidate_mask, activation, out=(D, C))
    else:
        for out, s in zip(D.unbind(1), _outputs(S), strict=True):
            out.copy_(ACTIVATIONS[activation].slope(s))
    back = StateProducts(R, K, B, state_mask)
    skip = None if skips is None else StateProducts(skips, K, B, state_mask)
    Ds, Dg, grads = stages(D), stages(D.unflatten(-1, (gn // n, n))), grad.unbind(1)
    Cs = [] if C is None else stages(C)
    ds = grad.new_zeros(K, B, n)
    for t in range(T - 1, -1, -1):
        ds, skipped = ds + grads[t], torch.zeros_like(ds)
        for layer in range(L - 1, -1, -1):
            Dg[layer][t].mul_(ds.unsqueeze(2))
            if skip and layer >= first_skip:
                skip.backward(skipped, layer - first_skip, Ds[layer][t], skipped)
            if A:
                carried = Cs[layer][t].mul_(ds)
            else:
                carried = torch.zeros_like(ds) if layer else skipped
            ds = back.backward(carried, layer, Ds[layer][t], carried)
    dz, s = D.flatten(2, 3), S[:, :, :T]
    return {
        "x": input_gradient(dz[:, 0], W, x) if needs["x"] else None,
        "s0": ds,
        "W": weight_gradient(dz[:, 0], x.flatten(1, 2)),
        "R": state_weight_gradient(dz, s, state_mask),
        "b": dz.sum(2),
        "S": None
        if skips is None
        else state_weight_gradient(dz[:, first_skip:], s[:, :1], state_mask),
    }


def _outputs(S: Tensor) -> list[Tensor]:
    """The states that the layers give, views (K, T, B, n) of S."""
    return [*(S[:, layer, :-1] for layer in range(1, S.shape[1])), S[:, 0, 1:]]


def _local_derivatives(
    S: Tensor, A: Tensor, candidate_mask: Mask, activation: str, out: tuple[Tensor, Tensor]
) -> None:
    """Write ds_l/dz (..., G n), elementwise, and the carry gate c (..., n), from the states S (...,
    n) and the gates A (..., G n).
    """
    n, (D, C) = S.shape[-1], out
    h, t = A[..., :n], A[..., n : 2 * n]
    torch.mul(t, ACTIVATIONS[activation].slope(h), out=D[..., :n])
    if candidate_mask is not None:
        mask = candidate_mask[:, None, None]
        D[..., :n].mul_(mask)
        h = h * mask
    if A.shape[-1] == 2 * n:
        torch.sub(1, t, out=C)
        torch.mul(h - S, t * C, out=D[..., n:])
    else:
        C.copy_(A[..., 2 * n :])
        torch.mul(h, t * (1 - t), out=D[..., n : 2 * n])
        torch.mul(S, C * (1 - C), out=D[..., 2 * n :])


def limit(x: Tensor, R: Tensor, activation: str, **others) -> str | None:
    """Why C does not compute a call; None if it does."""
    if activation not in ("tanh", "relu") or (activation == "relu" and R.shape[1] > R.shape[2]):
        return f"it has no activation {activation}"
    return compiled.limit(x, units=R.shape[2], layers=len(R))
