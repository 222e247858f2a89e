"""The recurrent highway network (Zilly et al. 2017, equations 6-9) and the deep transition (Pascanu
et al. 2013) over time.

    z_l = 1{l=1} W x + R_l s_{l-1} + S_l y[t-1] + b_l        s_0 = y[t-1], y[t] = s_L
    s_l = f(z_l)                  deep transition, G = 1; L = 1 is the plain RNN
    s_l = h * t + s_{l-1} * c     highway, the blocks of z_l are those of H, T (, C):
                                  h = f(z_H), t = sigma(z_T), c = 1 - t, or G = 3 and c = sigma(z_C)

S (L', n, n) holds the matrices of shortcuts into the last L' <= L - 1 layers; a highway network has
none. With dropout masks, R_j s becomes R_j (s * m_j) in every block j and layer, S_l y becomes S_l
(y * m), and h * t becomes (h * m') * t; the carried s * c is never masked. The code has first the
equation as a loop, then the passes for K stacked models.

The input product is one call before the loop, and the weight gradients are one call after it.
Between them, a stage (time t, layer l) is one or two products and a few elementwise operations in
place. Buffers are (K, L, T, B, .), see `matmul.workspace`: S[:, l, t] is the state that enters
layer l at time t, and S[:, 0, t + 1] is y[t]. A holds the gates of a highway network. A deep
transition has no gates and one block, whose pre-activation is written into the place of its state.

The backward pass uses, for each stage, the local derivatives of s_l = h t + s c. Without gates s_l
= f(z), and ds/dz = f'(z). With gates:

    ds/dz_H = t f'(z_H)
    ds/dz_T = (h - s) t (1 - t)  coupled,  h t (1 - t)  uncoupled
    ds/dz_C = s c (1 - c)        uncoupled only
    ds/ds   = c + R' dz          and of a shortcut to the state before the step S' dz

With dropout masks, h is h * m' above, ds/dz_H is multiplied by m', and for products with R and S
see `rhn.kernels.matmul`.
"""

from collections.abc import Callable, Sequence

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
    """Compute one highway layer from its pre-activations z (..., G n) and input state s (..., n).
    Returns (s_l, h, t, c), each (..., n), with h after its mask.
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
    """Compute the states y[1..T] (T, B, n) from x (T, B, m) and s0 (B, n), with optional masks m
    (J, B, n), J = 1 or G, and m' (B, n).
    """
    g, n = R.shape[1:]
    s, states = s0, []
    skips: list = [] if S is None else [*S]
    skips = [None] * (len(R) - len(skips)) + skips
    layers = [*zip(R, b, skips, strict=True)]  # once: the gradient of R[layer] is as large as R
    activate = ACTIVATIONS[activation].function
    for x_t in x:
        y = s
        for layer, (R_l, b_l, S_l) in enumerate(layers):
            z = masked_linear(s, R_l, b_l, state_mask)
            if layer == 0:
                z = z + F.linear(x_t, W)
            if S_l is not None:
                z = z + masked_linear(y, S_l, None, state_mask)
            s = activate(z) if g == n else highway_layer(z, s, candidate_mask, activation)[0]
        states.append(s)
    return torch.stack(states)


class LayerProducts:
    """The matrix products of a stage. R (K or 1, L, G n, n) multiplies the state that enters a
    layer; the shortcuts S (K or 1, L', n, n) into the last layers multiply the state before the
    time step.
    """

    def __init__(self, R: Tensor, S: Tensor | None, K: int, B: int, mask: Mask):
        self.recurrent = StateProducts(R, K, B, mask)
        self.shortcuts = None if S is None else StateProducts(S, K, B, mask)
        self.first_shortcut = R.shape[1] - (0 if S is None else S.shape[1])

    def forward(self, z: Tensor, layer: int, s: Tensor, y: Tensor, addend: Tensor) -> None:
        """Write z = R s + S y + addend."""
        self.recurrent.forward(z, layer, s, addend)
        if self.shortcuts and layer >= self.first_shortcut:
            self.shortcuts.forward(z, layer - self.first_shortcut, y, z)

    def backward(self, ds: Tensor, layer: int, dz: Tensor, dy: Tensor) -> Tensor:
        """Add R' dz to ds and S' dz to dy, in place. Returns ds."""
        if self.shortcuts and layer >= self.first_shortcut:
            self.shortcuts.backward(dy, layer - self.first_shortcut, dz, dy)
        return self.recurrent.backward(ds, layer, dz, ds)


def forward(x, s0, W, R, b, S, state_mask, candidate_mask, *, activation: str, K: int, keep: bool):
    """Return (states (K, T, B, n), S (K, L, T + 1, B, n)), and for a highway network also its gates
    A (K, L, T, B, G n).
    """
    (T, B), (L, gn, n) = x.shape[1:3], R.shape[1:]
    products = LayerProducts(R, S, K, B, state_mask)
    S = workspace(R, K, L, T + 1, B, n)
    S[:, 0, 0] = s0
    addends = [input_product(x, W, b[:, 0], K).unbind(1)]
    addends += [(bias.unsqueeze(1),) * T for bias in b.expand(K, -1, -1).unbind(1)[1:]]
    activate = ACTIVATIONS[activation].in_place
    if gn == n:
        _transition_states(S, addends, products, activate)
        return S[:, 0, 1:].clone(), S
    A = workspace(R, K, L, T, B, gn)
    _highway_states(S, A, addends, products, activate, candidate_mask)
    return S[:, 0, 1:].clone(), S, A


def _transition_states(
    S: Tensor, addends: Sequence, products: LayerProducts, activate: Callable[[Tensor], Tensor]
) -> None:
    """Write the states of a deep transition into S. addends: W x + b for each layer and time
    step.
    """
    states, outs = stages(S), [out.unbind(1) for out in _outputs(S)]
    for t in range(len(addends[0])):
        for layer in range(len(addends)):
            z = outs[layer][t]
            products.forward(z, layer, states[layer][t], states[0][t], addends[layer][t])
            activate(z)


def _highway_states(
    S: Tensor,
    A: Tensor,
    addends: Sequence,
    products: LayerProducts,
    activate: Callable[[Tensor], Tensor],
    candidate_mask: Mask,
) -> None:
    """Write the states of a highway network into S, and its gates and the unmasked candidate into
    A.
    """
    n = S.shape[-1]
    coupled = A.shape[-1] == 2 * n
    states, outs = stages(S), [out.unbind(1) for out in _outputs(S)]
    # the candidate, all gates, the carry gate
    blocks = slice(n), slice(n, None), slice(2 * n, None)
    zs, (Hs, Ts, Cs) = stages(A), [stages(A[..., block]) for block in blocks]
    for t in range(len(addends[0])):
        for layer in range(len(addends)):
            s = states[layer][t]
            products.forward(zs[layer][t], layer, s, states[0][t], addends[layer][t])
            h = masked(activate(Hs[layer][t]), candidate_mask)
            gate = Ts[layer][t].sigmoid_()  # both T and C if they are uncoupled
            if coupled:
                torch.lerp(s, h, gate, out=outs[layer][t])
            else:
                torch.mul(h, gate[..., :n], out=outs[layer][t]).addcmul_(s, Cs[layer][t])


def backward(
    grad, needs, residuals, *, x, W, R, S, state_mask, candidate_mask, activation: str, **others
):
    """Return the gradients for x, s0, W, R, b and S by name, each with a leading axis of K."""
    products = LayerProducts(R, S, len(residuals[0]), x.shape[2], state_mask)
    S, *A = residuals
    if A:
        D, C = _highway_derivatives(S[:, :, :-1], A[0], candidate_mask, activation)
    else:
        D, C = _transition_derivatives(S, activation), None
    ds0 = _backward_stages(D, C, grad, products)
    dz, s, first = D.flatten(2, 3), S[:, :, :-1], products.first_shortcut
    dS = None
    if products.shortcuts is not None:
        dS = state_weight_gradient(dz[:, first:], s[:, :1], state_mask)
    return {
        "x": input_gradient(dz[:, 0], W, x) if needs["x"] else None,
        "s0": ds0,
        "W": weight_gradient(dz[:, 0], x.flatten(1, 2)),
        "R": state_weight_gradient(dz, s, state_mask),
        "b": dz.sum(2),
        "S": dS,
    }


def _backward_stages(D: Tensor, C: Tensor | None, grad: Tensor, products: LayerProducts) -> Tensor:
    """Turn D, which holds ds/dz of each stage, into the gradient for z, in place. Returns the
    gradient for s0.

    C: carry gates of a highway network, which are overwritten.
    """
    B, n = grad.shape[2:]
    Ds, Dg, grads = stages(D), stages(D.unflatten(-1, (-1, n))), grad.unbind(1)
    Cs = None if C is None else stages(C)
    ds = grad.new_zeros(len(D), B, n)
    for t in range(len(grads) - 1, -1, -1):
        ds, dy = ds + grads[t], torch.zeros_like(ds)
        for layer in range(len(Ds) - 1, -1, -1):
            Dg[layer][t].mul_(ds.unsqueeze(2))
            if Cs is not None:
                carried = Cs[layer][t].mul_(ds)
            else:
                carried = torch.zeros_like(ds) if layer else dy
            ds = products.backward(carried, layer, Ds[layer][t], dy)
    return ds


def _outputs(S: Tensor) -> list[Tensor]:
    """Return the output states of the layers as views (K, T, B, n) of S."""
    return [*(S[:, layer, :-1] for layer in range(1, S.shape[1])), S[:, 0, 1:]]


def _transition_derivatives(S: Tensor, activation: str) -> Tensor:
    """Compute ds/dz (K, L, T, B, n) for all stages of a deep transition from its states."""
    K, L, steps, B, n = S.shape
    D = workspace(S, K, L, steps - 1, B, n)
    for out, s in zip(D.unbind(1), _outputs(S), strict=True):
        out.copy_(ACTIVATIONS[activation].slope(s))
    return D


def _highway_derivatives(
    S: Tensor, A: Tensor, candidate_mask: Mask, activation: str
) -> tuple[Tensor, Tensor]:
    """Compute, elementwise, ds/dz (K, L, T, B, G n) for all stages of a highway network, and its
    carry gates (K, L, T, B, n), from the states S (K, L, T, B, n) that enter the layers and the
    gates A (K, L, T, B, G n).
    """
    n, D, C = S.shape[-1], workspace(S, *A.shape), workspace(S, *S.shape)
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
    return D, C


def limit(x: Tensor, R: Tensor, activation: str, **others) -> str | None:
    """Return the reason why C does not compute a call; None if it does."""
    if activation not in ("tanh", "relu") or (activation == "relu" and R.shape[1] > R.shape[2]):
        return f"it has no activation {activation}"
    return compiled.limit(x, units=R.shape[2], layers=len(R))
