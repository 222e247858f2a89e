"""The compiled highway network and deep transition as kernels, see `rhn.kernels.ensemble`: `*.h` beside this file.

`keep` says whether what the backward pass needs is kept; without it a forward pass needs next to no memory.
"""

from torch import Tensor

from rhn.kernels.compiled.call import LANES, call, lanes, padded, rows
from rhn.kernels.ensemble import Kernel, stack_size


def highway_forward(x, s0, W, R, b, *, coupled: bool, keep: bool):
    """(states (K, T, B, n), the same side by side, gates); the last two where they are kept."""
    return _forward("rhn_highway_forward", (x, s0, W, R, b), R.shape[2], (int(coupled), 0), keep)


def highway_backward(grad, needs, inputs, residuals, *, coupled: bool, keep: bool):
    """Gradients of (x, s0, W, R, b), each with a leading axis of K."""
    return _backward("rhn_highway_backward", grad, needs, inputs, residuals, (int(coupled), 0))


def transition_forward(x, s0, W, R, b, S, *, relu: bool, keep: bool):
    """(states (K, T, B, n), the same side by side, what every layer gives); the last two where they are kept."""
    skips = 0 if S is None else S.shape[1]
    return _forward("rhn_transition_forward", (x, s0, W, R, b, S), R.shape[2], (int(relu), skips), keep)


def transition_backward(grad, needs, inputs, residuals, *, relu: bool, keep: bool):
    """Gradients of (x, s0, W, R, b) and of S where there is one, each with a leading axis of K."""
    S = inputs[5]
    skips = 0 if S is None else S.shape[1]
    return _backward("rhn_transition_backward", grad, needs, inputs, residuals, (int(relu), skips))


def _forward(name: str, tensors: tuple[Tensor | None, ...], stage: int, flags: tuple[int, int], keep: bool):
    x, s0, *weights = tensors
    K, (T, B), (L, _, n) = stack_size(*tensors), x.shape[1:3], weights[1].shape[1:]
    y = x.new_empty(K, T, n, padded(B))
    kept = x.new_empty(K, padded(B) // LANES, T, L, stage, LANES) if keep else None
    inputs = [x.contiguous(), lanes(s0), *(None if t is None else t.contiguous() for t in weights)]
    call(name, K, (T, B, x.shape[-1], n, L, *flags), [*inputs, y, kept])
    states = rows(y, B)
    return (states.clone(), y, kept) if keep else (states,)


def _backward(name: str, grad: Tensor, needs, tensors, residuals, flags: tuple[int, int]):
    (x, s0, W, R, b, *S), (y, kept) = tensors, residuals
    K, (T, B, m), (L, _, n) = len(y), x.shape[1:], R.shape[1:]
    dx = x.new_empty(K, T, m, padded(B)) if needs[0] else None
    ds0 = x.new_empty(K, n, padded(B))
    weights = [None if t is None else t.contiguous() for t in (W, R, b, *S)]
    gradients = [None if t is None else t.new_empty(K, *t.shape[1:]) for t in weights]
    inputs = [x.contiguous(), lanes(s0), *weights, y.contiguous(), kept.contiguous(), lanes(grad)]
    call(name, K, (T, B, m, n, L, *flags), [*inputs, dx, ds0, *gradients])
    return None if dx is None else rows(dx, B).contiguous(), rows(ds0, B).contiguous(), *gradients


HIGHWAY = Kernel("highway", highway_forward, highway_backward)
DEEP_TRANSITION = Kernel("deep transition", transition_forward, transition_backward)
