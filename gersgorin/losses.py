"""What an output is judged by, frame by frame, and the best output that is the same for every frame.

| loss        | a frame costs                                    | the best constant output                  |
|-------------|--------------------------------------------------|-------------------------------------------|
| bernoulli   | -sum over k of log P(target_k), P = sigmoid(z_k) | log odds of each key's share of the frames |
| categorical | -log softmax(z)[target]                          | log of each symbol's share of the frames   |
| squared     | sum over k of (z_k - target_k)^2 / 2             | the mean target                           |
| your own    | loss(outputs, targets)                           | by minimising it over one output          |

In nats (the squared loss: of a Gaussian of variance 1, less its constant), but for your own; each says its `unit`. A key that never
sounds in the sequences would have log odds of minus infinity, as a symbol that never occurs: a key's share is kept within `CLIP` of 0
and 1, a symbol's above `CLIP` / K.

Legend: T frames, B sequences, K outputs; outputs z (T, B, K); targets (T, B, K), or (T, B) int64 of the categorical loss; mask (T, B)
bool, True at real frames.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from rhn.errors import USERS_FAULT, InvalidInputError

CLIP = 1e-4
UNBOUNDED = 1e6  # a constant output so far from zero is no best one
Loss = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class OutputLoss:
    """A loss by name, or a user's own; `frames(outputs, targets)` is its cost of every frame."""

    name: str
    frames: Callable[[Tensor, Tensor], Tensor]
    constant: Callable[[Tensor, int], Tensor] | None = None
    """From the targets of all real frames (F, K) or (F,), and K, the best constant output (K,); None: it is searched for."""
    slope: Callable[[Tensor], Tensor] | None = None
    """Second derivatives of a frame's cost in each of its outputs; None: they are taken by autograd."""
    unit: str = "nats a frame"
    """What follows the number where the mean loss is told."""


def resolve_loss(loss: str | Loss) -> OutputLoss:
    """The loss of a name, or a function (outputs, targets) -> a number, (T, B) or (T, B, K); raises InvalidInputError."""
    if isinstance(loss, str) and loss in LOSSES:
        return LOSSES[loss]
    if callable(loss):
        name = getattr(loss, "__name__", type(loss).__name__)
        return OutputLoss(name, loss, unit=f"by the loss {name}" if name.isidentifier() else "by your loss")
    raise InvalidInputError(
        f"unknown loss {loss!r}: expected {', '.join(map(repr, LOSSES))}, or a function loss(outputs, targets)"
    )


def frame_costs(loss: OutputLoss, outputs: Tensor, targets: Tensor) -> Tensor:
    """The cost of every frame (T, B); of a loss that gives one number for all, that number at every frame.

    Raises InvalidInputError where a user's loss fails or gives something else.
    """
    try:
        costs = loss.frames(outputs, targets)
    except USERS_FAULT as error:  # whatever a user's loss raises
        shapes = f"outputs {tuple(outputs.shape)} and targets {tuple(targets.shape)}"
        raise InvalidInputError(f"the loss {loss.name} cannot take {shapes}: {error}") from error
    frames = outputs.shape[:-1]
    if isinstance(costs, Tensor) and costs.dim() == 0:
        return costs.expand(frames)
    if isinstance(costs, Tensor) and costs.shape[:-1] == frames:
        costs = costs.sum(-1)
    if not isinstance(costs, Tensor) or costs.shape != frames:
        got = tuple(costs.shape) if isinstance(costs, Tensor) else type(costs).__name__
        raise InvalidInputError(
            f"the loss {loss.name} gives {got}: expected one number, (T, B) or (T, B, K) for outputs {tuple(outputs.shape)}"
        )
    return costs


def best_constant(loss: OutputLoss, targets: Tensor, mask: Tensor, outputs: int) -> Tensor:
    """The output (K,) that, the same at every real frame, has the least mean loss."""
    if loss.constant is not None:
        return loss.constant(targets[mask], outputs)
    return _search(loss, targets, mask, outputs)


def curvature(loss: OutputLoss, outputs: Tensor, targets: Tensor, mask: Tensor) -> Tensor:
    """The second derivative (K,) of the mean loss in a constant added to each output.

    Of a loss of the user's own it is the sum of each row of the matrix of second derivatives: the diagonal, where outputs are judged
    apart.
    """
    if loss.slope is not None:
        return loss.slope(outputs)[mask].mean(0)
    c = torch.zeros_like(outputs[0, 0], requires_grad=True)
    with torch.enable_grad():
        mean = frame_costs(loss, outputs + c, targets)[mask].mean()
        (first,) = torch.autograd.grad(mean, c, create_graph=True)
        second = torch.autograd.grad(first.sum(), c)[0] if first.requires_grad else torch.zeros_like(c)
    return second.clamp_min(0)


def _search(loss: OutputLoss, targets: Tensor, mask: Tensor, outputs: int) -> Tensor:
    """The best constant of a loss that has no formula here, by a quasi-Newton method from zero.

    Raises InvalidInputError where the loss has no gradient in the outputs, or none is found because it has no least value.
    """
    from scipy.optimize import minimize

    def value_and_slope(values: np.ndarray) -> tuple[float, np.ndarray]:
        z = torch.as_tensor(values, device=mask.device).requires_grad_()
        with torch.enable_grad():
            mean = frame_costs(loss, z.expand(*mask.shape, outputs), targets)[mask].mean()
        slope = torch.autograd.grad(mean, z, allow_unused=True)[0] if mean.requires_grad else None
        if slope is None:
            raise InvalidInputError(
                f"the loss {loss.name} does not depend on the outputs by a gradient: do not detach them"
            )
        return mean.item(), slope.cpu().numpy()

    found = minimize(value_and_slope, np.zeros(outputs), jac=True, method="L-BFGS-B")
    if not np.abs(found.x).max() < UNBOUNDED:
        raise InvalidInputError(
            f"the loss {loss.name} has no best constant output: from outputs of zero it falls to {found.fun:.3g} and is not "
            "done, expected one with a least value"
        )
    return torch.as_tensor(found.x, device=mask.device)


def _bernoulli(outputs: Tensor, targets: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(outputs, targets, reduction="none").sum(-1)


def _bernoulli_constant(targets: Tensor, outputs: int) -> Tensor:
    return targets.mean(0).clamp(CLIP, 1 - CLIP).logit()


def _categorical(outputs: Tensor, targets: Tensor) -> Tensor:
    return -outputs.log_softmax(-1).gather(-1, targets.unsqueeze(-1)).squeeze(-1)


def _categorical_constant(targets: Tensor, outputs: int) -> Tensor:
    counts = torch.bincount(targets, minlength=outputs).double()
    return (counts / counts.sum()).clamp_min(CLIP / outputs).log()


def _squared(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs - targets).square().sum(-1) / 2


def _variance(p: Tensor) -> Tensor:
    return p * (1 - p)


LOSSES: dict[str, OutputLoss] = {
    "bernoulli": OutputLoss("bernoulli", _bernoulli, _bernoulli_constant, lambda z: _variance(z.sigmoid())),
    "categorical": OutputLoss(
        "categorical", _categorical, _categorical_constant, lambda z: _variance(z.softmax(-1)), "nats a token"
    ),
    "squared": OutputLoss(
        "squared", _squared, lambda targets, outputs: targets.mean(0), torch.ones_like, "squared error a frame (halved)"
    ),
}
