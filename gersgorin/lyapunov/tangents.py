"""What the steps of a run do to small changes of the state: the maps Q -> A[t] Q, one after another, no Jacobian kept.

A[t] = ds[t+1]/ds[t]. The run goes on in blocks of steps, as many as fit a fixed number of entries. Within one,

    a cell with closed forms        all layers' Jacobians of the block at once; Q goes through the layers one by one
    anything else, small states     the Jacobians of the block by autograd, batched over its steps
    anything else                   no Jacobian at all: one forward-mode product A[t] q for each of the k columns

Legend: T steps; m inputs; N entries of a state; Q (N, k), a frame of k directions.
"""

import functools
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.func import jvp, vmap

from gersgorin.jacobian import layer_jacobians, temporal_jacobian, trajectory
from gersgorin.stepping import Step, transformed
from rhn.errors import InvalidInputError

BLOCK = 1 << 21  # entries of Jacobians, or of states, held at once
LONGEST = 4096  # steps of a block, however small they are: autograd holds several times as much
SMALL = 100  # entries of a state up to which Jacobians by autograd, of many steps at once, are cheaper than products step by step

Tangent = Callable[[Tensor], Tensor]


def tangent_maps(cell: nn.Module | Step, x: Tensor, s: Tensor) -> Iterator[Tangent]:
    """The map Q (N, k) -> A[t] Q for t = 0..T-1, of a run from s (N,) over x (T, m).

    Raises:
        InvalidInputError: a step that returns no state of N entries, or a state that is NaN or infinite.
    """
    N, layers = len(s), getattr(cell, "depth", 1)
    ours = hasattr(cell, "jacobian")
    by_columns = N > SMALL and not ours
    size = min(LONGEST, max(1, BLOCK // (N if by_columns else N * N * layers)))
    for start in range(0, len(x), size):
        now = x[start : start + size]
        states = trajectory(cell, now.unsqueeze(1), s.unsqueeze(0)).squeeze(1)
        finite = torch.isfinite(states).all(-1)
        if not finite.all():
            raise InvalidInputError(
                f"the state is NaN or infinite after step {start + int(finite.int().argmin())} of {len(x)}: "
                "expected a run that stays finite; use smaller weights, or another initial state"
            )
        before, s = states[:-1], states[-1]
        if by_columns:
            step = getattr(cell, "step", cell)
            yield from (functools.partial(_forward_mode, step, x_t, s_t) for x_t, s_t in zip(now, before, strict=True))
            continue
        if hasattr(cell, "layer_jacobians"):
            factors = layer_jacobians(cell, now, before)
        else:
            factors = [temporal_jacobian(cell, now, before, method=None if ours else "jacfwd")]
        yield from (functools.partial(_through, layer_factors) for layer_factors in zip(*factors, strict=True))


def _through(factors: tuple[Tensor, ...], Q: Tensor) -> Tensor:
    """J_L ... J_1 Q."""
    return functools.reduce(lambda Q, J: J @ Q, factors, Q)


def _forward_mode(step: Step, x: Tensor, s: Tensor, Q: Tensor) -> Tensor:
    """ds'/ds Q without the Jacobian."""
    with transformed(step):
        return vmap(lambda q: jvp(lambda s: step(x, s), (s,), (q,))[1], in_dims=1, out_dims=1)(Q)
