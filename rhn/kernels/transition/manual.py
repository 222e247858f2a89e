"""The deep transition with a hand-derived backward, for K stacked models at once.

Y (K, L, T + 1, B, n) holds the states: Y[:, l, t] enters layer l at time t, so that Y[:, l + 1, t] (Y[:, 0, t + 1] for the last
layer) is what it gives. Each stage writes its pre-activation where its state will be and applies f in place. Backward, with
f' = 1 - s^2 (tanh) or [s > 0] (relu):  dz = f' ds,  ds_{l-1} = R_l' dz,  dy[t-1] += S_l' dz.
With a dropout mask both are multiplied by it, see `rhn.kernels.masked`.
"""

import torch
from torch import Tensor

from rhn.kernels import told, validation
from rhn.kernels.activations import ACTIVATIONS
from rhn.kernels.compiled.call import refusal, unusual
from rhn.kernels.compiled.recurrence import DEEP_TRANSITION as COMPILED
from rhn.kernels.ensemble import Kernel, recurrence, stack_size
from rhn.kernels.masked import state_gradients, state_products, state_weight_gradient
from rhn.kernels.mixed import GRADIENT_SCALE, require_gradients, require_operands, rescaled
from rhn.kernels.persistent.transition import PERSISTENT_TRANSITION, refuses
from rhn.kernels.products import input_gradient, input_product, stages, weight_gradient, workspace
from rhn.kernels.routes import Way, routed
from rhn.kernels.transition.reference import NONLINEARITIES, deep_transition_reference


def deep_transition(
    x: Tensor,
    s0: Tensor,
    W: Tensor,
    R: Tensor,
    b: Tensor,
    S: Tensor | None = None,
    state_mask: Tensor | None = None,
    *,
    nonlinearity: str = "tanh",
    precision: str = "float32",
) -> Tensor:
    """States y[1..T] (T, B, n); same arguments and values as `deep_transition_reference`. The mask has no gradient.

    `precision` as for the highway: with "mixed" the operands of every matrix product are float16.
    """
    x, s0, W, R, b, S, state_mask = tensors = validation.DEEP_TRANSITION.validate(x, s0, W, R, b, S, state_mask)
    validation.validate_choice("nonlinearity", nonlinearity, NONLINEARITIES)
    validation.validate_precision(precision, x)
    if validation.is_traced(*tensors):
        return deep_transition_reference(*tensors, nonlinearity=nonlinearity)
    if told.tell(told.COMPILED, refusal(x, *R.shape[:-4:-2], unusual(state_mask, precision=precision))) is None:
        return recurrence(COMPILED, x, s0, W, R, b, S, relu=nonlinearity == "relu", keep=torch.is_grad_enabled())
    return recurrence(DEEP_TRANSITION, *tensors, nonlinearity=nonlinearity, precision=precision)


def deep_transition_forward(x, s0, W, R, b, S, state_mask, *, nonlinearity: str, precision: str):
    """(states (K, T, B, n), Y (K, L, T + 1, B, n))."""
    K, (T, B), (L, n) = stack_size(x, s0, W, R, b, S, state_mask), x.shape[1:3], R.shape[1:3]
    first_skip = L - (0 if S is None else S.shape[1])
    apply_ = ACTIVATIONS[nonlinearity].in_place
    Y = workspace(R, K, L, T + 1, B, n)
    Y[:, 0, 0] = s0
    addends = [input_product(x, W, b[:, 0], K, precision).unbind(1)]
    addends += [[bias.unsqueeze(1)] * T for bias in b.expand(K, -1, -1).unbind(1)[1:]]
    recur = state_products(R, K, B, state_mask, precision)
    skip = None if S is None else state_products(S, K, B, state_mask, precision)
    Ys, outs = stages(Y), [given.unbind(1) for given in _given(Y)]
    for t in range(T):
        y = Ys[0][t]
        for layer in range(L):
            z = recur.into(outs[layer][t], layer, Ys[layer][t], addends[layer][t])
            if layer >= first_skip:
                skip.into(z, layer - first_skip, y, z)
            apply_(z)
    if precision == "mixed":
        require_operands(x, W, R, Y, S)
    return Y[:, 0, 1:].clone(), Y


@rescaled
def deep_transition_backward(grad, needs, inputs, residuals, *, nonlinearity: str, precision: str):
    """Gradients of (x, s0, W, R, b) and of S where there is one, each with a leading axis of K."""
    (x, _, W, R, _, S, state_mask), (Y,) = inputs, residuals
    K, L, (T, B), n = Y.shape[0], Y.shape[1], x.shape[1:3], R.shape[-1]
    first_skip = L - (0 if S is None else S.shape[1])
    D = workspace(Y, K, L, T, B, n)
    for out, s in zip(D.unbind(1), _given(Y), strict=True):
        out.copy_(ACTIVATIONS[nonlinearity].slope(s))
    back = state_gradients(R, K, B, state_mask, precision)
    skip = None if S is None else state_gradients(S, K, B, state_mask, precision)
    Ds, grads = stages(D), grad.unbind(1)
    dy = grad.new_zeros(K, B, n)
    for t in range(T - 1, -1, -1):
        ds, dy = dy + grads[t], torch.zeros_like(dy)
        for layer in range(L - 1, -1, -1):
            stage = Ds[layer][t].mul_(ds)
            if layer >= first_skip:
                skip.into(dy, layer - first_skip, stage, dy)
            ds = back.into(torch.empty_like(ds) if layer else dy, layer, stage, torch.zeros_like(dy) if layer else dy)
    dz = D.flatten(2, 3)
    if precision == "mixed":
        require_gradients(D.unsqueeze(2), GRADIENT_SCALE)
    return (
        input_gradient(dz[:, 0], W, x, precision) if needs[0] else None,
        dy,
        weight_gradient(dz[:, 0], x.flatten(1, 2), precision),
        state_weight_gradient(dz, Y[:, :, :T], state_mask, precision),
        dz.sum(2),
        None if S is None else state_weight_gradient(dz[:, first_skip:], Y[:, :1, :T], state_mask, precision),
    )


def _given(Y: Tensor) -> list[Tensor]:
    """What each layer gives at every step, as views (K, T, B, n) of the states Y."""
    return [*(Y[:, layer, :-1] for layer in range(1, Y.shape[1])), Y[:, 0, 1:]]


MANUAL = Kernel("deep transition", deep_transition_forward, deep_transition_backward)
DEEP_TRANSITION = routed(MANUAL, Way(PERSISTENT_TRANSITION, refuses))
