"""A fact about the gradient: in its direction, the loss does not change as autograd says."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import BackwardCFunction

from gersgorin.validate import in_precision
from rhn.errors import RhnError
from trainability.autograd import dense, graph, slope_at
from trainability.cause import Cause
from trainability.data import Inputs, in_double
from trainability.differences import NUDGES, WRONG, derivative
from trainability.probe import Probe
from trainability.training import Training

MOVED = 1e-3  # standard deviation of what is added to weights
JUMPS, SMOOTH = (3e-2, 1e-2), 0.1  # long steps; the share by which derivatives may differ
OWN_BACKWARD = (
    "Compare your autograd.Function with torch.autograd.gradcheck, unless its gradient differs on "
    "purpose, such as gradient reversal."
)
CUT_IN_FORWARD = (
    "Look for .detach(), .data or torch.no_grad() in forward, unless a path is cut on purpose, "
    "such as in truncated backpropagation."
)
CUT_IN_LOSS = (
    "Look for .detach(), .data or torch.no_grad() in the loss, unless a path is cut on purpose, "
    "such as for a weight or a baseline; and see which outputs each loss of torch takes."
)
PARTIAL = "partial gradient"


def wrong_gradient(probe: Probe) -> Cause | None:
    """Fact: in the direction of the gradient of a weight, the change of the loss differs from the
    change that autograd predicts.

    The change is known only if finite differences have converged, see `known_derivative`. If the
    network or the loss uses an autograd.Function of the user, the cause is "wrong gradient";
    otherwise a path is left out of the gradient, as by .detach().
    """
    training = in_double_precision(probe)
    if training is None:
        return None
    x, y = in_double(probe.x), in_double(probe.y)
    names = {n: p for n, p in training.model.named_parameters() if p.requires_grad}
    output = training.output(x)
    loss = training.loss(output, y)
    slopes = torch.autograd.grad(
        loss, list(names.values()), materialize_grads=True, retain_graph=True
    )
    for (name, p), slope in zip(names.items(), map(dense, slopes), strict=True):
        size = float(slope.norm())
        if size < 1e-6 * abs(loss.item()):
            continue
        moved = x, y, p, slope / size
        near = known_derivative(partial(change_of_loss, training, *moved), size, loss.item())
        if near is not None and abs(near - size) > WRONG * size:
            errors = slope_at(training.loss, output, y)
            of_outputs = training.with_loss(partial(weighted_sum, errors))
            of_outputs.model = training.model  # whose weights are moved
            by_outputs = change_of_loss(of_outputs, *moved, NUDGES[0])
            nodes = graph(output), graph(training.loss(output.detach().requires_grad_(), y))
            return cause_of(name, near, size, by_outputs, nodes)
    return None


def weighted_sum(errors: Tensor, output: Tensor, y: Tensor) -> Tensor:
    """Return the sum of outputs with fixed weights, as a loss of outputs."""
    return (output * errors).sum()


def cause_of(
    name: str,
    near: float,
    size: float,
    by_outputs: float,
    nodes: tuple[list[Any], list[Any]],
) -> Cause:
    """Return the cause for a wrong gradient of a weight, in the network or in the loss.

    Args:
        name: the weight.
        near, size: change of the loss in the direction of the gradient, and that by autograd.
        by_outputs: the change by the gradient of the loss in the outputs, times the change of the
            outputs. It equals `near` if this gradient is right, and `size` if that of the network
            is right.
        nodes: the operations of autograd in the network, and in the loss.
    """
    evidence = {"name": name, "change": near, "gradient": size}
    along = "in the direction of this gradient the loss changes by"
    measured = f"{along} {near:.3g} per unit, but autograd says {size:.3g}"
    in_network, in_loss = (any(isinstance(n, BackwardCFunction) for n in part) for part in nodes)
    if abs(by_outputs - size) >= abs(near - by_outputs):
        part, own, remedy = "network", in_network, CUT_IN_FORWARD
        words = f"The gradient of {name} leaves out a path: {measured}."
    else:
        part, own, remedy = "loss", in_loss, CUT_IN_LOSS
        words = f"The gradient of the loss in the outputs is not its slope. For {name}, {measured}."
    if own:
        words = f"The gradient of {name} is not that of the loss: {measured}."
        return Cause("wrong gradient", part, words, OWN_BACKWARD, evidence=evidence)
    return Cause(PARTIAL, part, words, remedy, evidence=evidence)


def in_double_precision(probe: Probe) -> Training | None:
    """Return the training run in evaluation mode and double precision, away from the kinks of ReLU.

    None if the model or the loss does not take double precision, or its results are not repeatable.
    """
    other = probe.training.copy()
    in_precision(other.model.eval(), torch.float64)
    generator = torch.Generator().manual_seed(0)
    x, y = in_double(probe.x), in_double(probe.y)
    try:
        other = other.with_loss(probe.training.loss_in_double())
        with torch.no_grad():
            for p in other.model.parameters():
                noise = torch.randn(p.shape, generator=generator, dtype=torch.float64)
                p.add_(MOVED * noise.to(p.device))
            once, twice = (other.loss(other.output(x), y) for _ in range(2))
    except RhnError:
        return None
    return other if torch.equal(once, twice) else None


def known_derivative(change: Callable[[float], float], size: float, loss: float) -> float | None:
    """Return the derivative of the loss, if it is the same for steps of any length; else None.

    Derivatives over short steps must lie closer to each other than to the derivative that autograd
    predicts. A derivative that changes at long steps shows thresholds along the way. The gradient
    may then be an estimate on purpose.

    Args:
        change: function that returns the derivative over a step of some length.
        size: the derivative that autograd predicts.
        loss: the loss.
    """
    found = derivative(change, loss)
    if found is None:
        return None
    near, apart = found
    if apart > SMOOTH * abs(near - size):
        return None
    jumps = any(abs(change(step) - near) > SMOOTH * size for step in JUMPS)
    return None if jumps else near


@torch.no_grad()
def change_of_loss(
    training: Training, x: Inputs, y: Tensor, p: Tensor, along: Tensor, step: float
) -> float:
    """Return the change of the loss per unit of change of a parameter, by a central difference."""
    kept, losses = p.detach().clone(), []
    for sign in (1, -1):
        p.copy_(kept + sign * step * along)
        losses.append(training.loss(training.output(x), y).item())
    p.copy_(kept)
    return (losses[0] - losses[1]) / (2 * step)
