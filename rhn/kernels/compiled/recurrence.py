"""The highway network and the deep transition in C, see `highway.h` and `transition.h`; signatures as in `rhn.kernels.autograd`.

`keep`: whether to keep what the backward pass needs; without it a forward pass needs next to no memory.
"""

from torch import Tensor

from rhn.kernels.autograd import stack_size
from rhn.kernels.compiled.call import LANES, call, lanes, limit, padded, rows


def limit_of_highway(x, s0, W, R, b, state_mask, candidate_mask, *, coupled, activation) -> str | None:
    """Why the C version does not compute a call; None if it does."""
    unusual = None if activation == "tanh" else f"activation {activation}"
    return limit(x, units=R.shape[2], layers=len(R), unusual=unusual)


def limit_of_transition(x, s0, W, R, b, S, state_mask, *, nonlinearity) -> str | None:
    """Why the C version does not compute a call; None if it does."""
    return limit(x, units=R.shape[2], layers=len(R))


def highway_forward(x, s0, W, R, b, state_mask, candidate_mask, *, coupled: bool, activation: str, keep: bool):
    """(states (K, T, B, n), the same side by side, gates); the last two only with `keep`."""
    y, gates = _outputs(stack_size(x, s0, W, R, b, state_mask, candidate_mask), x, R, keep)
    inputs, sizes = _contiguous(x=x, W=W, R=R, b=b), _sizes(x, R) | _gates(R, state_mask)
    masks = _masks(state_mask=state_mask, candidate_mask=candidate_mask)
    call("rhn_highway_forward", len(y), **sizes, **inputs, **masks, s0=lanes(s0), y=y, gates=gates)
    return _kept(y, gates, x.shape[2])


def highway_backward(grad, needs, inputs, residuals, **options):
    """Gradients of (x, s0, W, R, b), each with a leading axis of K."""
    (x, s0, W, R, b, state_mask, candidate_mask), (y, gates) = inputs, residuals
    inputs, sizes = _contiguous(x=x, W=W, R=R, y=y, gates=gates), _sizes(x, R) | _gates(R, state_mask)
    masks = _masks(state_mask=state_mask, candidate_mask=candidate_mask)
    results = _gradients(len(y), x, needs[0], s0, W=W, R=R, b=b)
    call("rhn_highway_backward", len(y), **sizes, **inputs, **masks, s0=lanes(s0), dy=lanes(grad), **results)
    return _as_usual(x.shape[2], **results)


def transition_forward(x, s0, W, R, b, S, state_mask, *, nonlinearity: str, keep: bool):
    """(states (K, T, B, n), the same side by side, the outputs of all layers); the last two only with `keep`."""
    y, outputs = _outputs(stack_size(x, s0, W, R, b, S, state_mask), x, R, keep)
    inputs, sizes = _contiguous(x=x, W=W, R=R, b=b, S=S), _sizes(x, R) | _forms(nonlinearity, S)
    masks = _masks(state_mask=state_mask)
    call("rhn_transition_forward", len(y), **sizes, **inputs, **masks, s0=lanes(s0), y=y, outputs=outputs)
    return _kept(y, outputs, x.shape[2])


def transition_backward(grad, needs, inputs, residuals, *, nonlinearity: str):
    """Gradients of (x, s0, W, R, b) and of S if there is one, each with a leading axis of K."""
    (x, s0, W, R, b, S, state_mask), (y, outputs) = inputs, residuals
    inputs, sizes = _contiguous(x=x, W=W, R=R, S=S, y=y, outputs=outputs), _sizes(x, R) | _forms(nonlinearity, S)
    results, masks = _gradients(len(y), x, needs[0], s0, W=W, R=R, b=b, S=S), _masks(state_mask=state_mask)
    call("rhn_transition_backward", len(y), **sizes, **inputs, **masks, s0=lanes(s0), dy=lanes(grad), **results)
    return _as_usual(x.shape[2], **results)


def _sizes(x: Tensor, R: Tensor) -> dict[str, int]:
    (T, B, m), (L, _, n) = x.shape[1:], R.shape[1:]
    return {"T": T, "B": B, "m": m, "n": n, "L": L}


def _gates(R: Tensor, state_mask: Tensor | None) -> dict[str, int]:
    return {"G": R.shape[2] // R.shape[3], "J": 0 if state_mask is None else state_mask.shape[1]}


def _masks(**masks: Tensor | None) -> dict[str, Tensor | None]:
    """Masks (K or 1, J, B, n) or (K or 1, B, n) with their rows side by side: (K or 1, J n, rows)."""
    given = {name: None if mask is None else lanes(mask) for name, mask in masks.items()}
    return {name: mask.flatten(1, -2) if mask is not None else None for name, mask in given.items()}


def _forms(nonlinearity: str, S: Tensor | None) -> dict[str, int]:
    return {"relu": int(nonlinearity == "relu"), "shortcuts": 0 if S is None else S.shape[1]}


def _contiguous(**tensors: Tensor | None) -> dict[str, Tensor | None]:
    return {name: None if t is None else t.contiguous() for name, t in tensors.items()}


def _outputs(K: int, x: Tensor, R: Tensor, keep: bool) -> tuple[Tensor, Tensor | None]:
    """Room for the states side by side, and for what all layers give where it is kept."""
    (T, B), (L, g, n) = x.shape[1:3], R.shape[1:]
    filled = padded(B)
    return x.new_empty(K, T, n, filled), x.new_empty(K, filled // LANES, T, L, g, LANES) if keep else None


def _kept(y: Tensor, kept: Tensor | None, B: int) -> tuple[Tensor, ...]:
    return (rows(y, B),) if kept is None else (rows(y, B).clone(), y, kept)


def _gradients(K: int, x: Tensor, of_x: bool, s0: Tensor, **weights: Tensor | None) -> dict[str, Tensor | None]:
    """Empty tensors for the gradients of x (if needed), s0 and the weights."""
    (T, B, m), n = x.shape[1:], s0.shape[-1]
    states = {"dx": x.new_empty(K, T, m, padded(B)) if of_x else None, "ds0": x.new_empty(K, n, padded(B))}
    return states | {f"d{name}": None if t is None else t.new_empty(K, *t.shape[1:]) for name, t in weights.items()}


def _as_usual(B: int, dx: Tensor | None, ds0: Tensor, **weights: Tensor | None) -> tuple[Tensor | None, ...]:
    """The gradients in the layout that others have, in the order of the arguments."""
    return None if dx is None else rows(dx, B).contiguous(), rows(ds0, B).contiguous(), *weights.values()
