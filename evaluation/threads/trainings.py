"""A training as its owner writes it, its plain loop, and the data and errors that several cases
share.

    adam = torch.optim.Adam(model.parameters(), 1e-3)
    training = Training(model, x, y, nn.MSELoss(), adam, test=(x_new, y_new))
    losses = fit(training)    # the plain loop, of the model itself
    error(training)           # on fresh examples, relative to the best constant answer's

Legend: N examples, T frames, m inputs, K outputs or classes.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from evaluation.networks import minibatches, output_of, train


@dataclass
class Training:
    """Arguments of a plain loop, and of a tool that is judged."""

    model: nn.Module
    x: Any
    """Tensors (N, ...), examples along axis 0 as in a TensorDataset; or a DataLoader of (x, y)."""
    y: Tensor | None
    loss_fn: Callable[[Any, Tensor], Tensor]
    optimizer: torch.optim.Optimizer
    test: tuple[Tensor, Tensor]
    """Fresh examples (x, y)."""
    steps: int = 600
    batch_size: int = 32
    options: dict[str, Any] = field(default_factory=dict)
    """Further arguments of the loop: clip_norm, scheduler (of every step), batch_axis."""
    fit: "Callable[[Training], list[float]] | None" = None
    """Its owner's own loop, if the error is in it; None: `fit`."""
    error: Callable[[nn.Module], float] | None = None
    """What its owner complains about, lower is better; None: `error`."""


def case(
    model: nn.Module,
    data: tuple[Tensor, Tensor],
    loss_fn: Callable[[Any, Tensor], Tensor],
    rate: float = 1e-3,
    kind: str | torch.optim.Optimizer = "Adam",
    *,
    fresh: int = 400,
    error: Callable[[nn.Module, Tensor, Tensor], Any] | None = None,
    axis: int = 0,
    how: dict[str, Any] | None = None,
    **rest: Any,
) -> Training:
    """A training on data (x, y) with examples along an axis; the last ones are the fresh ones,
    which error(model, x, y) gets too.

    kind: an optimiser, or the name of one on what requires a gradient; how: its further options.
    """
    axes = axis, axis * (data[1].dim() == 3)
    (x, *test), (y, *truth) = (
        v.split([v.shape[a] - fresh, fresh], a) for v, a in zip(data, axes, strict=True)
    )
    optimizer: Any = kind
    if isinstance(kind, str):
        trained = [p for p in model.parameters() if p.requires_grad]
        optimizer = getattr(torch.optim, kind)(trained, rate, **how or {})
    if error is not None:
        rest["error"] = lambda model: float(error(model, *test, *truth))
    if axis:
        rest["options"] = rest.get("options", {}) | {"batch_axis": axis}
    return Training(model, x, y, loss_fn, optimizer, (*test, *truth), **rest)


def threads(functions: dict[str, Any]) -> dict[int, Callable[..., Training]]:
    """The trainings t01, t02, ... of a module by number; data and weights of each are drawn from
    its number as a seed, or from another seed.
    """

    def seeded(number: int, repaired: bool, seed: int | None = None) -> Training:
        torch.manual_seed(number if seed is None else seed)
        return functions[f"t{number:02}"](repaired)

    return {n: partial(seeded, n) for n in range(1, 1000) if f"t{n:02}" in functions}


def fit(training: Training, seed: int = 0) -> list[float]:
    """The losses of a plain loop over shuffled minibatches; it ends early if the loss is not
    finite.
    """
    if training.fit is not None:
        return training.fit(training)
    torch.manual_seed(seed)
    model, options, epoch = training.model, training.options, lambda: training.x  # a DataLoader
    if training.y is not None:
        epoch = partial(
            minibatches, training.x, training.y, training.batch_size, options.get("batch_axis", 0)
        )
    how = {name: options.get(name) for name in ("clip_norm", "scheduler")}
    loop = train(model, epoch, training.loss_fn, training.optimizer, **how)
    return [loss for loss, *_ in islice(loop, training.steps)]


@torch.no_grad()
def error(training: Training) -> float:
    """Of fresh examples: squared error, or share of wrong classes, divided by that of the best
    constant answer; inf if not finite.
    """
    model = training.model.eval()
    if training.error is not None:
        return training.error(model)
    x, y = training.test
    output = output_of(model, x)
    if y.is_floating_point():
        value = squared(output, y, y.mean() if y.dim() == 1 else y.flatten(0, -2).mean(0))
    else:
        last = output.dim() == y.dim() + 1 and output.shape[:-1] == y.shape
        value = share(output.argmax(-1 if last else 1), y)
    return value if math.isfinite(value) else math.inf


def squared(output: Tensor, y: Tensor, guess: Tensor) -> float:
    """Squared error of outputs, divided by that of a guess."""
    return ((output.reshape(y.shape) - y).square().sum() / (guess - y).square().sum()).item()


def share(guess: Tensor, y: Tensor) -> float:
    """Share of wrong classes, divided by that of the best constant answer."""
    return ((guess != y).float().mean() / (y != y.flatten().mode()[0]).float().mean()).item()


def wrong(model: nn.Module, x: Tensor, y: Tensor, threshold: float = 0.0) -> Tensor:
    """Share of outputs (..., K) on the wrong side of a threshold, relative to the best constant's
    of each unit.
    """
    share = y.flatten(0, -2).mean(0)
    return ((model(x) > threshold) != (y > 0.5)).float().mean() / torch.minimum(
        share, 1 - share
    ).mean()


def wrong_half(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """The same of probabilities, with a threshold of one half."""
    return wrong(model, x, y, 0.5)


def zipf(words: int, *shape: int) -> Tensor:
    """Ids below `words`, the r-th with probability proportional to 1 / r."""
    return torch.multinomial(1 / torch.arange(1.0, words + 1), math.prod(shape), True).view(shape)


def windows(series: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """x (N, length, m) and the next value y (N, m) of a series (L, m)."""
    cut = series.unfold(0, length + 1, 1).transpose(1, 2)
    return cut[:, :-1].contiguous(), cut[:, -1].contiguous()
