"""Find, by L-BFGS, the least loss over all outputs, or over outputs that are the same for all
examples.
"""

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from gersgorin.losses import Loss
from gersgorin.validate import with_gradients
from rhn.errors import USERS_FAULT
from trainability.axes import OutputAxes
from trainability.losses import takes_only_shares

SETTLED = 1e-3  # of a loss below 0: if a second search gains more, it falls without end
SEARCH_STEPS = 200  # of L-BFGS, for the best constant output
EDGE = 1e-3  # of the start of a search between 0 and 1
LEAST_SHARE = 1e-7  # whose logarithm is finite, also that of 1 less it in single precision


def least(loss: Callable[[Tensor], Tensor], start: Tensor) -> tuple[float, Tensor]:
    """Return (the least loss that L-BFGS finds from a start, the last point of the search).

    If the loss has no least value, it is -inf, and the point is not finite. The search minimises
    the loss times the number of entries of z. Otherwise the gradient of a mean over many entries
    would be so small that the search stops.
    """
    z = start.detach().clone().requires_grad_()
    search = torch.optim.LBFGS([z], max_iter=SEARCH_STEPS, line_search_fn="strong_wolfe")
    found = [math.inf]

    def closure() -> Tensor:
        search.zero_grad()
        value = loss(z).reshape(())
        found.append(value.item())
        value = value * z.numel()
        value.backward()
        return value

    try:
        search.step(closure)
    except USERS_FAULT:  # an overflow of a loss without a least value
        return -math.inf, torch.full_like(start, math.nan)
    finite = [value for value in found if math.isfinite(value)]
    return (min(finite) if finite else math.nan), z.detach()


def free_numbers(
    loss_fn: Loss, output: Tensor, y: Tensor
) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """Return numbers without bounds, and the function that computes outputs from these numbers.

    The function is a sigmoid if the loss takes only outputs between 0 and 1.
    """

    def share(z: Tensor) -> Tensor:
        return z.sigmoid().clamp(LEAST_SHARE, 1 - LEAST_SHARE)

    output = output.detach()
    if takes_only_shares(loss_fn, output, y):
        return output.logit(EDGE), share
    return output, torch.clone


@with_gradients()
def settled_loss(loss_fn: Loss, output: Tensor, y: Tensor) -> float:
    """Return the least loss of free outputs; -inf if the loss is below 0 and falls further in a
    longer search.
    """
    start, final = free_numbers(loss_fn, output, y)

    def loss(z: Tensor) -> Tensor:
        return loss_fn(final(z), y)

    first, z = least(loss, start)
    further = least(loss, z)[0] if z.isfinite().all() else -math.inf
    falls = further < 0 and first - further > SETTLED * abs(first)
    return -math.inf if falls else min(first, further)


@with_gradients()
def free_loss(
    loss_fn: Loss,
    output: Tensor,
    targets: list[Tensor],
    final: Callable[[Tensor], Tensor],
    *,
    constant: OutputAxes | None = None,
) -> float:
    """Return the least mean loss of outputs final(z) over minibatches; -inf if there is none.

    Args:
        loss_fn, targets: the loss, and the targets of each minibatch.
        output: outputs of a minibatch, from which the shape is read.
        final: function that makes outputs from the free numbers z.
        constant: axes of the outputs, for a z that is constant over examples and frames and the
            same for all minibatches; None: z is free.
    """
    start = torch.zeros_like(output)

    def loss(z: Tensor, y: Tensor) -> Tensor:
        return loss_fn(final(z.expand(output.shape).clone()), y).reshape(())

    if constant is None:
        return sum(least(partial(loss, y=y), start)[0] for y in targets) / len(targets)
    start = constant.mean(start)
    return least(lambda z: torch.stack([loss(z, y) for y in targets]).mean(), start)[0]


def constant_output(
    loss_fn: Loss, output: Tensor, y: Tensor, targets: list[Tensor], axes: OutputAxes
) -> Tensor:
    """Return the constant output (1, ..., K) with the least loss for some targets. output, y: an
    output and its targets, from which the shapes are read.
    """
    numbers, final = free_numbers(loss_fn, output, y)
    start = axes.mean(numbers)

    def of_all(z: Tensor) -> Tensor:
        constants = axes.constants(final(z), output, y, targets)
        losses = [
            loss_fn(c.clone(), y).reshape(()) for c, y in zip(constants, targets, strict=True)
        ]
        return torch.stack(losses).mean()

    with torch.inference_mode(False), torch.enable_grad():
        value, found = least(of_all, start)
    return final(found if math.isfinite(value) and found.isfinite().all() else start)
