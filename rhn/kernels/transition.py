"""The recurrent highway network (Zilly et al. 2017, equations 6-9) and the deep transition (Pascanu
et al. 2013) over time.

    z_l = 1{l=1} W x + R_l s_{l-1} + S_l y[t-1] + b_l        s_0 = y[t-1], y[t] = s_L
    s_l = f(z_l)                  deep transition, G = 1; L = 1 is the plain RNN
    s_l = h * t + s_{l-1} * c     highway, the blocks of z_l are those of H, T (, C):
                                  h = f(z_H), t = sigma(z_T), c = 1 - t, or G = 3 and c = sigma(z_C)

S (L', n, n) holds the matrices of shortcuts into the last L' <= L - 1 layers; a highway network has
none. With dropout masks, R_j s becomes R_j (s * m_j) in every block j and layer, S_l y becomes S_l
(y * m), and h * t becomes (h * m') * t; the carried s * c is never masked.

Buffers are (K, L, T, B, .): S[:, l, t] is the state that enters layer l at time t, and S[:, 0, t +
1] is y[t]. A holds the gates of a highway network. A deep transition has none; its pre-activation
is written into the place of its state.

The backward pass uses the local derivatives of each stage, ds/dz = f'(z) without gates, and with
gates (h is h * m' here, and ds/dz_H is multiplied by m')

    ds/dz_H = t f'(z_H)
    ds/dz_T = (h - s) t (1 - t)  coupled,  h t (1 - t)  uncoupled
    ds/dz_C = s c (1 - c)        uncoupled only
    ds/ds   = c + R' dz          and of a shortcut to the state before the step S' dz
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from rhn.kernels import compiled, matmul
from rhn.kernels.activations import ACTIVATIONS
from rhn.kernels.kernel import Kernel
from rhn.kernels.matmul import Mask, masked, masked_linear, stages, workspace


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


def reference(x, s0, W, R, b, S, state_mask, candidate_mask, activation: str) -> Tensor:
    """Compute the states y[1..T] (T, B, n) from x (T, B, m) and s0 (B, n)."""
    g, n = R.shape[1:]
    s, states = s0, []
    last = () if S is None else (*S,)
    skips = [None] * (len(R) - len(last)) + [*last]
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


def _products(R: Tensor, S: Tensor | None, K: int, B: int, mask: Mask) -> list[tuple]:
    """Return the products of each layer: with R, and with S or None, from the state y[t-1]."""
    recurrent = [matmul.StateProduct(R_l, K, B, mask) for R_l in R.unbind(1)]
    last = [] if S is None else [matmul.StateProduct(S_l, K, B, mask) for S_l in S.unbind(1)]
    first: list = [None] * (len(recurrent) - len(last))
    return [*zip(recurrent, first + last, strict=True)]


def forward(x, s0, W, R, b, S, state_mask, candidate_mask, *, activation: str, K: int, keep: bool):
    """Return (states (K, T, B, n), S (K, L, T + 1, B, n), A (K, L, T, B, G n) of gates)."""
    (T, B), (L, gn, n) = x.shape[1:3], R.shape[1:]
    products = _products(R, S, K, B, state_mask)
    addends = _addends(x, W, b, K)
    entering = workspace(R, K, L, T + 1, B, n)
    entering[:, 0, 0] = s0
    if gn == n:
        _deep_forward(entering, products, addends, activation)
        return entering[:, 0, 1:].clone(), entering
    A = workspace(R, K, L, T, B, gn)
    _highway_forward(entering, A, products, addends, candidate_mask, activation)
    return entering[:, 0, 1:].clone(), entering, A


def _addends(x: Tensor, W: Tensor, b: Tensor, K: int) -> list[tuple[Tensor, ...]]:
    """Return the addends of the products with the state: [layer][time]."""
    first = matmul.input_product(x, W, b[:, 0], K).unbind(1)
    later = b.expand(K, -1, -1).unbind(1)[1:]
    return [first, *((bias.unsqueeze(1),) * len(first) for bias in later)]


def _deep_forward(S: Tensor, products: list[tuple], addends: list, activation: str) -> None:
    """Write the states of a deep transition: z is written into the place of its state."""
    activate = ACTIVATIONS[activation].in_place
    states, outs = stages(S), [out.unbind(1) for out in _outputs(S)]
    for t in range(S.shape[2] - 1):
        y = states[0][t]
        for layer, product in enumerate(products):
            z = outs[layer][t]
            _pre_activate(z, product, states[layer][t], y, addends[layer][t])
            activate(z)


def _highway_forward(
    S: Tensor,
    A: Tensor,
    products: list[tuple],
    addends: list,
    candidate_mask: Mask,
    activation: str,
) -> None:
    """Write the states, the candidates before their mask, and the gates of a highway network."""
    n, activate = S.shape[-1], ACTIVATIONS[activation].in_place
    states, outs = stages(S), [out.unbind(1) for out in _outputs(S)]
    zs, candidates = stages(A), stages(A[..., :n])
    gates, carries = stages(A[..., n:]), stages(A[..., 2 * n :])
    for t in range(S.shape[2] - 1):
        y = states[0][t]
        for layer, product in enumerate(products):
            s = states[layer][t]
            _pre_activate(zs[layer][t], product, s, y, addends[layer][t])
            h = masked(activate(candidates[layer][t]), candidate_mask)
            _mix(h, s, gates[layer][t].sigmoid_(), carries[layer][t], outs[layer][t])


def _pre_activate(z: Tensor, product: tuple, s: Tensor, y: Tensor, addend: Tensor) -> None:
    """Write R s + S y + addend into z."""
    recurrent, shortcut = product
    recurrent.forward(z, s, addend)
    if shortcut is not None:
        shortcut.forward(z, y, z)


def _mix(h: Tensor, s: Tensor, gates: Tensor, c: Tensor, out: Tensor) -> None:
    """Write h t + s c. gates: t, and c too if they are uncoupled."""
    if gates.shape == s.shape:
        torch.lerp(s, h, gates, out=out)
    else:
        torch.mul(h, gates[..., : s.shape[-1]], out=out).addcmul_(s, c)


def backward(
    grad, needs, residuals, *, x, W, R, S, state_mask, candidate_mask, activation: str, **others
):
    """Return the gradients for x, s0, W, R, b and S by name, each with a leading axis of K."""
    entering, *gates = residuals
    products = _products(R, S, len(entering), x.shape[2], state_mask)
    s = entering[:, :, :-1]
    if gates:
        (A,) = gates
        D, C = _gate_derivatives(s, A, candidate_mask, activation)
    else:
        D, C = workspace(s, *s.shape), None
        for out, h in zip(D.unbind(1), _outputs(entering), strict=True):
            out.copy_(ACTIVATIONS[activation].slope(h))
    ds0 = _backward_stages(D, C, grad, products)
    dz = D.flatten(2, 3)
    found = {
        "x": matmul.input_gradient(dz[:, 0], W, x) if needs["x"] else None,
        "s0": ds0,
        "W": matmul.weight_gradient(dz[:, 0], x.flatten(1, 2)),
        "R": matmul.state_weight_gradient(dz, s, state_mask),
        "b": dz.sum(2),
    }
    if S is not None:
        last = dz[:, -S.shape[1] :]
        found["S"] = matmul.state_weight_gradient(last, s[:, :1], state_mask)
    return found


def _backward_stages(D: Tensor, C: Tensor | None, grad: Tensor, products: list[tuple]) -> Tensor:
    """Multiply ds/dz (D) by ds in place. Returns the gradient for s0. C is overwritten."""
    B, n = grad.shape[2:]
    Ds, Dg, grads = stages(D), stages(D.unflatten(-1, (-1, n))), grad.unbind(1)
    Cs = None if C is None else stages(C)
    ds = grad.new_zeros(len(D), B, n)
    for t in range(len(grads) - 1, -1, -1):
        ds, dy = ds + grads[t], torch.zeros_like(ds)
        for layer in range(len(Ds) - 1, -1, -1):
            Dg[layer][t].mul_(ds.unsqueeze(2))
            recurrent, shortcut = products[layer]
            if shortcut is not None:
                shortcut.backward(dy, Ds[layer][t])
            if Cs is not None:
                ds = Cs[layer][t].mul_(ds)
            else:
                ds = torch.zeros_like(ds) if layer else dy
            recurrent.backward(ds, Ds[layer][t])
    return ds


def _outputs(S: Tensor) -> list[Tensor]:
    """Return the output states of the layers as views (K, T, B, n) of S."""
    return [*(S[:, layer, :-1] for layer in range(1, S.shape[1])), S[:, 0, 1:]]


def _gate_derivatives(S: Tensor, A: Tensor, m: Mask, activation: str) -> tuple[Tensor, Tensor]:
    """Compute ds/dz (K, L, T, B, G n) and the carry gates (K, L, T, B, n) of a highway network."""
    n, D, C = S.shape[-1], workspace(S, *A.shape), workspace(S, *S.shape)
    h, t = A[..., :n], A[..., n : 2 * n]
    torch.mul(t, ACTIVATIONS[activation].slope(h), out=D[..., :n])
    if m is not None:
        D[..., :n].mul_(m[:, None, None])
        h = h * m[:, None, None]
    if A.shape[-1] == 2 * n:
        torch.sub(1, t, out=C)
        torch.mul(h - S, t * C, out=D[..., n:])
    else:
        C.copy_(A[..., 2 * n :])
        torch.mul(h, t * (1 - t), out=D[..., n : 2 * n])
        torch.mul(S, C * (1 - C), out=D[..., 2 * n :])
    return D, C


def supports(x: Tensor, R: Tensor, activation: str, **others) -> bool:
    """Return True if C computes a call."""
    if activation not in ("tanh", "relu") or (activation == "relu" and R.shape[1] > R.shape[2]):
        return False
    return compiled.supports(x, units=R.shape[2], layers=len(R))


TRANSITION = Kernel(
    name="deep transition",
    arguments={"x": "T B m", "s0": "B n", "W": "G*n m", "R": "L G*n n", "b": "L G*n"}
    | {"S?": "shortcuts n n", "state_mask?": "J B n", "candidate_mask?": "B n"},
    options={"activation": "tanh"},
    reference=reference,
    fused=(forward, backward),
    compiled=(compiled.forward, compiled.backward),
    supports=supports,
)
