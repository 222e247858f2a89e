"""The recurrent highway network with a hand-derived backward, for K stacked models at once.

Per stage (time t, layer l), with the local derivatives of s_l = h t + s c:

    ds/dz_H = t f'(z_H)          ds/dz_T = (h - s) t (1 - t)  coupled,  h t (1 - t)  uncoupled
    ds/ds   = c + R' dz          ds/dz_C = s c (1 - c)        uncoupled only

With dropout masks (`reference.py`), h is h * m' above, ds/dz_H is multiplied by m', and for products with R see `rhn.kernels.masked`.

The input product is one call before the loop and the weight gradients are one call after it; between them a stage is one product
and a few elementwise operations in place. Buffers are (K, L, T, B, .), see `products.workspace`:
S[:, l, t] is the state that enters layer l at time t, and S[:, 0, t + 1] is y[t].
"""

import torch
from torch import Tensor

from rhn.kernels import told, validation
from rhn.kernels.activations import ACTIVATIONS
from rhn.kernels.compiled.call import refusal, unusual
from rhn.kernels.compiled.recurrence import HIGHWAY as COMPILED
from rhn.kernels.ensemble import Kernel, recurrence, stack_size
from rhn.kernels.highway.reference import highway_reference
from rhn.kernels.masked import Mask, masked, state_gradients, state_products, state_weight_gradient
from rhn.kernels.mixed import GRADIENT_SCALE, require_gradients, require_operands, rescaled
from rhn.kernels.persistent.highway import PERSISTENT_HIGHWAY, refuses
from rhn.kernels.products import input_gradient, input_product, stages, weight_gradient, workspace
from rhn.kernels.routes import Way, routed

BLOCK = 1 << 17  # states for which local derivatives are computed at once: their temporaries stay in the cache


def highway(
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
    precision: str = "float32",
) -> Tensor:
    """States y[1..T] (T, B, n); same arguments and values as `highway_reference`. Masks have no gradient.

    With precision "mixed" (float32 tensors) the operands of every matrix product are float16, see `rhn.kernels.mixed`; on a GPU that
    fits one persistent kernel a pass computes it, see `rhn.kernels.persistent`.
    """
    tensors = validation.HIGHWAY.validate(x, s0, W, R, b, state_mask, candidate_mask, G=2 if coupled else 3)
    validation.validate_choice("activation", activation, ACTIVATIONS)
    validation.validate_precision(precision, x)
    if validation.is_traced(*tensors):
        return highway_reference(*tensors, coupled=coupled, activation=activation)
    more = unusual(state_mask, candidate_mask, activation=activation, precision=precision)
    if told.tell(told.COMPILED, refusal(x, *R.shape[:-4:-2], more)) is None:
        return recurrence(COMPILED, *tensors[:5], coupled=coupled, keep=torch.is_grad_enabled())
    return recurrence(HIGHWAY, *tensors, coupled=coupled, activation=activation, precision=precision)


def highway_forward(x, s0, W, R, b, state_mask, candidate_mask, *, coupled: bool, activation: str, precision: str):
    """(states (K, T, B, n), S (K, L, T + 1, B, n), gates A (K, L, T, B, G n))."""
    K = stack_size(x, s0, W, R, b, state_mask, candidate_mask)
    (T, B), (L, gn, n) = x.shape[1:3], R.shape[1:]
    S, A = workspace(R, K, L, T + 1, B, n), workspace(R, K, L, T, B, gn)
    S[:, 0, 0] = s0
    addends = [input_product(x, W, b[:, 0], K, precision).unbind(1)]
    addends += [[bias.unsqueeze(1)] * T for bias in b.expand(K, -1, -1).unbind(1)[1:]]
    recur = state_products(R, K, B, state_mask, precision)
    Ss, As = stages(S), stages(A)
    Hs, Ts = stages(A[..., :n]), stages(A[..., n:])
    Cs, activate = stages(A[..., 2 * n :]), ACTIVATIONS[activation].in_place
    for t in range(T):
        for layer in range(L):
            s = Ss[layer][t]
            out = Ss[layer + 1][t] if layer + 1 < L else Ss[0][t + 1]
            recur.into(As[layer][t], layer, s, addends[layer][t])
            h = masked(activate(Hs[layer][t]), candidate_mask)
            gate = Ts[layer][t].sigmoid_()  # both T and C where they are uncoupled
            if coupled:
                torch.lerp(s, h, gate, out=out)
            else:
                torch.mul(h, gate[..., :n], out=out)
                out.addcmul_(s, Cs[layer][t])
    if precision == "mixed":
        require_operands(x, W, R, S)
    return S[:, 0, 1:].clone(), S, A


@rescaled
def highway_backward(grad, needs, inputs, residuals, *, coupled: bool, activation: str, precision: str):
    """Gradients of (x, s0, W, R, b), each with a leading axis of K."""
    (x, _, W, R, _, state_mask, candidate_mask), (S, A) = inputs, residuals
    (K, L, T, B, gn), n = A.shape, R.shape[-1]
    block = min(T, max(1, BLOCK // max(1, K * L * B * n)))
    D, C = torch.empty_like(A), workspace(A, K, L, block, B, n)
    back = state_gradients(R, K, B, state_mask, precision)
    Ds, Dg, Cs, grads = stages(D), stages(D.unflatten(-1, (gn // n, n))), stages(C), grad.unbind(1)
    ds, start = grad.new_zeros(K, B, n), T
    for t in range(T - 1, -1, -1):
        ds = ds + grads[t]  # before C is refilled: the last stage left ds in it
        if t < start:
            now = slice(max(0, start - block), start)
            start = now.start
            out = D[:, :, now], C[:, :, : now.stop - start]
            _local_derivatives(S[:, :, now], A[:, :, now], candidate_mask, coupled, activation, out=out)
        for layer in range(L - 1, -1, -1):
            Dg[layer][t].mul_(ds.unsqueeze(2))
            carried = Cs[layer][t - start].mul_(ds)
            ds = back.into(carried, layer, Ds[layer][t], carried)
    dz = D.flatten(2, 3)
    if precision == "mixed":
        require_gradients(D.unflatten(-1, (gn // n, n)).movedim(4, 2), GRADIENT_SCALE)
    return (
        input_gradient(dz[:, 0], W, x, precision) if needs[0] else None,
        ds,
        weight_gradient(dz[:, 0], x.flatten(1, 2), precision),
        state_weight_gradient(dz, S[:, :, :T], state_mask, precision),
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


MANUAL = Kernel("highway", highway_forward, highway_backward)
HIGHWAY = routed(MANUAL, Way(PERSISTENT_HIGHWAY, refuses))
