"""A training as its owner writes it, its plain loop, and the data and errors that several cases
share.

    adam = torch.optim.Adam(model.parameters(), 1e-3)
    training = Training(model, x, y, nn.MSELoss(), adam, test=(x_new, y_new))
    losses = fit(training)    # the plain loop, of the model itself
    error(training)           # on fresh examples, relative to the best constant answer's

Legend: N examples, T frames, m inputs, K outputs or classes.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from evaluation.networks import output_of


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
    clip: float | None = None,
    how: dict[str, Any] | None = None,
    **rest: Any,
) -> Training:
    """A training on data (x, y) with examples along an axis; the last ones are the fresh ones,
    which error(model, x, y) gets too.

    kind: an optimiser, or the name of one on what requires a gradient; how: its further options;
    clip: the largest norm of the gradient.
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
    if clip is not None:
        rest["options"] = rest.get("options", {}) | {"clip_norm": clip}
    return Training(model, x, y, loss_fn, optimizer, (*test, *truth), **rest)


def loaded(
    model: nn.Module,
    data: Any,
    test: tuple[Any, Tensor],
    loss_fn: Callable[[Any, Tensor], Tensor],
    rate: float | torch.optim.Optimizer,
    how: dict[str, Any] | None = None,
    **rest: Any,
) -> Training:
    """A training on shuffled examples from a DataLoader. rate: that of Adam, or an optimiser; how:
    other arguments of the DataLoader.
    """
    adam = torch.optim.Adam(model.parameters(), rate) if isinstance(rate, float) else rate
    usual: Any = {"batch_size": 32, "shuffle": True, "drop_last": True}
    loader = DataLoader(data, **usual | (how or {}))
    return Training(model, loader, None, loss_fn, adam, test, **rest)


def threads(functions: dict[str, Any]) -> dict[int, Callable[..., Training]]:
    """The trainings t01, t02, ... of a module by number; data and weights of each are drawn from
    its number as a seed, or from another seed.
    """

    def seeded(number: int, repaired: bool, seed: int | None = None) -> Training:
        torch.manual_seed(number if seed is None else seed)
        return functions[f"t{number:02}"](repaired)

    return {n: partial(seeded, n) for n in range(1, 1000) if f"t{n:02}" in functions}


def sources(functions: dict[str, Any], first: int) -> dict[str, Callable[[], Training]]:
    """The trainings of a module by name; data and weights of the n-th one are drawn from the seed
    first + n.
    """
    only = {"return": Training}
    makes = [f for f in functions.values() if getattr(f, "__annotations__", {}) == only]

    def seeded(number: int) -> Training:
        torch.manual_seed(first + number)
        return makes[number]()

    return {make.__name__: partial(seeded, n) for n, make in enumerate(makes)}


def minibatches(x: Tensor, y: Tensor, size: int, axis: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the minibatches of one epoch, without a smaller one; axis: of the examples."""
    size = min(size, x.shape[axis])
    for rows in torch.randperm(x.shape[axis]).split(size):
        if len(rows) == size:
            of_y = axis if y.shape[:2] == x.shape[:2] else 0
            yield x.index_select(axis, rows), y.index_select(of_y, rows)


def batches(training: Training) -> Iterator[tuple[Any, Tensor]]:
    """Yield the minibatches of a training epoch by epoch, without end."""
    axis = training.options.get("batch_axis", 0)
    while True:
        if training.y is None:
            yield from training.x
        else:
            yield from minibatches(training.x, training.y, training.batch_size, axis)


def fit(training: Training, seed: int = 0) -> list[float]:
    """The losses of a plain loop over shuffled minibatches; it ends early if the loss is not
    finite.
    """
    if training.fit is not None:
        return training.fit(training)
    torch.manual_seed(seed)
    model, options, losses = training.model, training.options, list[float]()
    for x, y in batches(training):
        training.optimizer.zero_grad()
        loss = training.loss_fn(output_of(model, x), y)
        loss.backward()
        if options.get("clip_norm"):
            nn.utils.clip_grad_norm_(model.parameters(), options["clip_norm"])
        training.optimizer.step()
        if options.get("scheduler"):
            options["scheduler"].step()
        losses.append(loss.item())
        if len(losses) == training.steps or not math.isfinite(losses[-1]):
            break
    return losses


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


def mixed(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """The examples in a random order."""
    order = torch.randperm(len(x))
    return x[order], y[order]
