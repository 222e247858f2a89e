"""A fact about the gradient: in its direction, the loss does not change as autograd says."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.autograd.function import BackwardCFunction

from gersgorin.validate import in_precision
from rhn.errors import RhnError
from trainability.autograd import dense, graph
from trainability.data import Inputs, in_double
from trainability.diagnosis import Cause
from trainability.minibatch import BEYOND_ROUNDING, WRONG
from trainability.probe import Probe
from trainability.training import Training

MOVED = 1e-3  # standard deviation of what is added to weights
NUDGES = 1e-5, 1e-6, 1e-8  # of a weight, over which a derivative must not depend on the step
AGREE = 1e-3  # relative difference of derivatives over steps of these lengths
JUMPS, SMOOTH = (3e-2, 1e-2), 0.1  # longer ones; the share by which derivatives may differ
OWN_BACKWARD = (
    "Compare your autograd.Function with torch.autograd.gradcheck, unless its gradient differs on "
    "purpose, such as gradient reversal."
)
CUT_ON_PURPOSE = (
    "Look for .detach(), .data or torch.no_grad() in forward, unless a path is cut on purpose, "
    "such as in truncated backpropagation."
)
PARTIAL = "partial gradient"


def wrong_gradient(probe: Probe) -> Cause | None:
    """Fact: in the direction of the gradient of a weight, the change of the loss differs from the
    change that autograd predicts.

    The change is known only if finite differences have converged, see `derivative`. If the model
    uses an autograd.Function of the user, the cause is "wrong gradient"; otherwise a path is left
    out of the gradient, as by .detach().
    """
    training = in_double_precision(probe)
    if training is None:
        return None
    x, y = in_double(probe.x), in_double(probe.y)
    names = {n: p for n, p in training.model.named_parameters() if p.requires_grad}
    loss = training.loss(training.output(x), y)
    slopes = torch.autograd.grad(loss, list(names.values()), materialize_grads=True)
    for (name, p), slope in zip(names.items(), map(dense, slopes), strict=True):
        size = float(slope.norm())
        if size < 1e-6 * abs(loss.item()):
            continue
        change = partial(change_of_loss, training, x, y, p, slope / size)
        near = derivative(change, size, loss.item())
        if near is not None and abs(near - size) > WRONG * size:
            measured = (
                f"in the direction of this gradient the loss changes by {near:.3g} per unit, "
                f"autograd says {size:.3g}"
            )
            evidence = {"name": name, "change": near, "gradient": size}
            if any(isinstance(node, BackwardCFunction) for node in graph(loss)):
                words = f"The gradient of {name} is not that of the loss: {measured}."
                remedy = OWN_BACKWARD
                return Cause("wrong gradient", "network", words, remedy, evidence=evidence)
            words = f"The gradient of {name} leaves out a path: {measured}."
            return Cause(PARTIAL, "network", words, CUT_ON_PURPOSE, evidence=evidence)
    return None


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


def derivative(change: Callable[[float], float], size: float, loss: float) -> float | None:
    """Return the derivative of the loss, if it is the same for steps of any length; else None.

    The longest step is a thousand times the shortest. Derivatives over all steps must agree, up to
    rounding, and they must lie closer together than to the derivative that autograd predicts. If a
    gradient explodes, the loss bends within every step that double precision allows, and the
    derivatives do not agree. A derivative that changes at long steps shows thresholds along the
    way. The gradient may then be an estimate on purpose.

    Args:
        change: function that returns the derivative over a step of some length.
        size: the derivative that autograd predicts.
        loss: the loss, whose rounding is divided by the step.
    """
    near = [change(step) for step in NUDGES]
    apart = max(near) - min(near)
    rounding = BEYOND_ROUNDING * torch.finfo(torch.float64).eps * abs(loss) / min(NUDGES)
    if apart > AGREE * abs(near[-1]) + rounding or apart > SMOOTH * abs(near[-1] - size):
        return None
    jumps = any(abs(change(step) - near[-1]) > SMOOTH * size for step in JUMPS)
    return None if jumps else near[-1]


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
