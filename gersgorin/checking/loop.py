"""A training loop as its owner writes it: model, data, loss, optimiser, clipping and learning-rate schedule.

    loop = TrainingLoop(model, x, y, loss_fn, torch.optim.Adam(model.parameters(), lr=1e-3))
    loop.loss(model, *loop.data.take(torch.arange(32)))    # the loss of 32 examples

Nothing that was given is changed: models and optimisers are copied before the first step.

Legend: N examples; a unit of the data is an example of tensors, or a batch of a DataLoader.
"""

import copy
import math
import warnings
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer

from rhn.errors import USERS_FAULT, DataError, InvalidInputError
from rhn.utils.wording import first_line

OPTIMIZERS = {
    "sgd": torch.optim.SGD,
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "rmsprop": torch.optim.RMSprop,
}
LOSSES = {
    "mse": F.mse_loss,
    "cross-entropy": lambda output, y: F.cross_entropy(output.flatten(0, -2), y.flatten()),
    "bernoulli": lambda output, y: F.binary_cross_entropy_with_logits(output, y.to(output.dtype)),
}
BATCH_SIZE = 32
MOST_BYTES = 2**29  # kept of the batches of a DataLoader
MOST_BATCHES = 4_000  # of a DataLoader
SEARCH_STEPS = 200  # of the search for the best constant output
CONSTANT_BATCHES = 100  # minibatches for which it is searched


class TrainingLoop:
    """Everything that a training uses.

    Args:
        model: called as model(x); its output is a tensor, or a tuple that begins with one.
        x, y: inputs and targets, tensors of N examples each; or as x a DataLoader (any iterable of pairs of batches), and no y.
        loss_fn: loss_fn(output, y) -> a scalar; or "mse", "cross-entropy", "bernoulli".
        optimizer: of `torch.optim`, on parameters of the model; or "sgd", "adam", "adamw", "rmsprop".
        learning_rate: of an optimiser given by name.
        batch_size: of the minibatches drawn from tensors.
        batch_axis: axis of the examples in x and y, 0 with batch_first=True; None: found by changing one example.
        clip_norm: largest gradient norm, as in `torch.nn.utils.clip_grad_norm_`; None: no clipping.
        scheduler: a learning-rate scheduler of the optimiser that is stepped after each step; None: a constant learning rate.

    Raises:
        InvalidInputError or DataError: these parts do not make a training; the message says which.
    """

    def __init__(
        self,
        model: nn.Module,
        x: Any,
        y: Any = None,
        loss_fn: str | Callable[[Any, Tensor], Tensor] = "mse",
        optimizer: str | Optimizer = "adam",
        *,
        learning_rate: float | None = None,
        batch_size: int = BATCH_SIZE,
        batch_axis: int | None = None,
        clip_norm: float | None = None,
        scheduler: Any = None,
    ):
        self.model = model
        self.loss_fn = _loss(loss_fn)
        self.clip_norm = _positive("clip_norm", clip_norm)
        self.optimizer = _optimizer(model, optimizer, learning_rate)
        self.scheduler = _scheduler(scheduler, self.optimizer)
        with torch.random.fork_rng(devices=[]):
            self.data = Batches(x) if y is None else Examples(model, x, y, batch_size, batch_axis)
            self._try()

    @property
    def learning_rate(self) -> float:
        """Of the first group of parameters."""
        return float(self.optimizer.param_groups[0]["lr"])

    @property
    def optimizer_name(self) -> str:
        return type(self.optimizer).__name__

    def loss(self, model: Callable[[Tensor], Any], x: Tensor, y: Tensor) -> Tensor:
        """Loss of one minibatch, a scalar with its graph."""
        return self.loss_fn(output_of(model(x)), y)

    def copied(self, model: nn.Module, parameters: dict[str, Tensor], factor: float = 1.0) -> Optimizer:
        """A fresh optimiser on other tensors in the place of the model's parameters, its learning rates multiplied by a factor."""
        place = {id(p): parameters[name] for name, p in model.named_parameters() if name in parameters}
        fresh = copy.deepcopy(self.optimizer, place)
        fresh.__dict__.pop("step", None)  # a scheduler replaces it by a function bound to the original
        for hooks in (fresh._optimizer_step_pre_hooks, fresh._optimizer_step_post_hooks):
            hooks.clear()
        fresh.state.clear()
        for group in fresh.param_groups:
            group["lr"] = group["lr"] * factor
        return fresh

    def schedule(self, steps: int) -> list[list[float]] | None:
        """Learning rates of the groups before each step, relative to the first ones; None for constant ones."""
        if self.scheduler is None:
            return None
        scheduler = copy.deepcopy(self.scheduler)
        optimizer = scheduler.optimizer
        first = [float(group["lr"]) for group in optimizer.param_groups]
        rows = []
        with warnings.catch_warnings(action="ignore"):  # the scheduler is stepped without its optimiser
            for _ in range(steps):
                rows.append([float(group["lr"]) / lr for group, lr in zip(optimizer.param_groups, first, strict=True)])
                scheduler.step()
        return rows

    def best_constant(self) -> float:
        """Mean loss of the best constant output: what a network reaches that ignores its input."""
        batches = self.data.minibatches(CONSTANT_BATCHES)
        with torch.no_grad():
            shapes = [output_of(self.model(x)).shape for x, _ in batches]
        first = next(self.model.parameters())
        constant = torch.zeros(shapes[0][-1], dtype=first.dtype, device=first.device, requires_grad=True)

        def mean_loss() -> Tensor:
            losses = [self.loss_fn(constant.expand(shape), y) for shape, (_, y) in zip(shapes, batches, strict=True)]
            return torch.stack(losses).mean()

        def closure() -> Tensor:
            search.zero_grad()
            loss = mean_loss()
            loss.backward()
            return loss

        search = torch.optim.LBFGS([constant], max_iter=SEARCH_STEPS, line_search_fn="strong_wolfe")
        search.step(closure)
        with torch.no_grad():
            return mean_loss().item()

    def _try(self) -> None:
        """One forward and backward pass. Raises InvalidInputError with what the model or the loss raised."""
        x, y = self.data.minibatches(1)[0]
        output = _call(self.model, x)
        try:
            loss = self.loss_fn(output, y)
        except USERS_FAULT as error:
            raise InvalidInputError(
                f"loss_fn(output, y) raised {type(error).__name__} for an output of shape {tuple(output.shape)} and y of shape "
                f"{tuple(y.shape)}: {first_line(error)}"
            ) from error
        if not isinstance(loss, Tensor) or loss.numel() != 1:
            what = f"shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
            raise InvalidInputError(f"loss_fn(output, y) returned {what}, expected a scalar: take its mean")
        if not loss.requires_grad:
            raise InvalidInputError("the loss does not depend on any parameter of the model that requires a gradient")
        if not math.isfinite(loss.item()):
            raise InvalidInputError(f"the loss of the first minibatch is {loss.item()}, expected a finite number")


class Examples:
    """Tensors x and y of N examples each, from which minibatches are drawn."""

    def __init__(self, model: nn.Module, x: Any, y: Any, batch_size: int, axis: int | None):
        self.x, self.y = (torch.as_tensor(v).detach() for v in (x, y))
        if axis is None:
            axis = batch_axis(model, self.x)
        for name, value in (("x", self.x), ("y", self.y)):
            if value.dim() <= axis and not (name == "y" and value.dim() == 1):
                raise InvalidInputError(f"{name} has {value.dim()} axes, expected examples along axis {axis}")
        self.axis, self.y_axis = axis, min(axis, self.y.dim() - 1)
        self.count = self.x.shape[axis]
        if self.y.shape[self.y_axis] != self.count:  # one target a sequence, examples along the first axis
            self.y_axis = 0
        if self.y.shape[self.y_axis] != self.count or not self.count:
            raise InvalidInputError(
                f"x of shape {tuple(self.x.shape)} has {self.count} examples along axis {axis}, and y has shape "
                f"{tuple(self.y.shape)}: expected as many targets; batch_axis=0 or 1 says where the examples are"
            )
        self.per_step = min(batch_size, self.count)

    def take(self, units: Tensor) -> tuple[Tensor, Tensor]:
        """Inputs and targets of some examples (B,)."""
        return self.x.index_select(self.axis, units), self.y.index_select(self.y_axis, units)

    def minibatches(self, most: int) -> list[tuple[Tensor, Tensor]]:
        """The first minibatches, in order."""
        starts = range(0, self.count - self.per_step + 1, self.per_step)
        return [self.take(torch.arange(k, k + self.per_step)) for k in starts[:most]]


class Batches:
    """Pairs of batches from a DataLoader, one for each step; those of another shape than the first are left out."""

    per_step = 1

    def __init__(self, loader: Iterable):
        kept: list[tuple[Tensor, Tensor]] = []
        size = 0
        for pair in islice(iter(loader), MOST_BATCHES):
            if not isinstance(pair, tuple | list) or len(pair) != 2:
                raise InvalidInputError("the DataLoader gives no pairs: expected (x, y) of each batch")
            x, y = (torch.as_tensor(v).detach() for v in pair)
            if kept and (x.shape, y.shape) != (kept[0][0].shape, kept[0][1].shape):
                continue
            kept.append((x, y))
            size += x.nbytes + y.nbytes
            if size > MOST_BYTES:
                break
        if not kept:
            raise DataError("the DataLoader is empty: expected at least one batch")
        self.kept, self.count = kept, len(kept)

    def take(self, units: Tensor) -> tuple[Tensor, Tensor]:
        """Inputs and targets of one batch."""
        return self.kept[int(units)]

    def minibatches(self, most: int) -> list[tuple[Tensor, Tensor]]:
        """The first batches."""
        return self.kept[:most]


def output_of(output: Any) -> Tensor:
    """The output of a module that returns it alone, or first in a tuple (output, state)."""
    while isinstance(output, tuple | list) and output:
        output = output[0]
    if not isinstance(output, Tensor):
        raise InvalidInputError(f"model(x) returned {type(output).__name__}, expected a tensor or a tuple that begins with one")
    return output


@torch.no_grad()
def batch_axis(model: nn.Module, x: Tensor) -> int:
    """Axis of the examples, 0 or 1: along it the output of one does not change with its neighbours.

    Raises InvalidInputError if it is not clear.
    """
    training = model.training
    model.eval()  # batch normalisation would mix the examples
    try:
        axes = [axis for axis in range(min(2, x.dim())) if x.shape[axis] > 2 and _independent(model, x, axis)]
    finally:
        model.train(training)
    if len(axes) == 2:  # weights so small that no frame changes the next one
        stated = {m.batch_first for m in model.modules() if isinstance(getattr(m, "batch_first", None), bool)}
        axes = [0 if stated.pop() else 1] if len(stated) == 1 else axes
    if len(axes) == 1:
        return axes[0]
    raise InvalidInputError(
        f"the axis of the examples in x of shape {tuple(x.shape)} is not clear: add batch_axis=0 (batch_first=True) or batch_axis=1"
    )


def _independent(model: nn.Module, x: Tensor, axis: int) -> bool:
    """True if the middle one of three slices of x along an axis gives the same output beside two other slices."""
    few = x.narrow(axis, 0, 3)
    changed = few.clone()
    for k in (0, 2):
        piece = changed.select(axis, k)
        piece.copy_(piece + 1 if piece.is_floating_point() else piece.flatten().roll(1).reshape(piece.shape))
    before, after = _call(model, few), _call(model, changed)
    where = [a for a in (axis, 0) if a < before.dim() and before.shape[a] == 3]
    return bool(where) and torch.equal(before.select(where[0], 1), after.select(where[0], 1))


def _call(model: nn.Module, x: Tensor) -> Tensor:
    """The output of a model. Raises InvalidInputError with what it raised."""
    try:
        output = model(x)
    except USERS_FAULT as error:
        raise InvalidInputError(
            f"model(x) raised {type(error).__name__} for x of shape {tuple(x.shape)}: {first_line(error)}"
        ) from error
    return output_of(output)


def _loss(loss_fn: Any) -> Callable[[Any, Tensor], Tensor]:
    if callable(loss_fn):
        return loss_fn
    if loss_fn not in LOSSES:
        raise InvalidInputError(f"loss_fn is {loss_fn!r}, expected a function (output, y) or one of {', '.join(LOSSES)}")
    return LOSSES[loss_fn]


def _positive(name: str, value: float | None) -> float | None:
    if value is not None and not (isinstance(value, int | float) and 0 < value < math.inf):
        raise InvalidInputError(f"{name} is {value!r}, expected a number above 0")
    return value


def _optimizer(model: nn.Module, optimizer: Any, learning_rate: float | None) -> Optimizer:
    """The optimiser, made from its name if only this is given."""
    if isinstance(optimizer, str):
        if optimizer.lower() not in OPTIMIZERS:
            raise InvalidInputError(f"optimizer is {optimizer!r}, expected one of {', '.join(OPTIMIZERS)}, or an instance")
        if _positive("learning_rate", learning_rate) is None:
            raise InvalidInputError(f"optimizer is {optimizer!r} without a learning_rate: expected a number above 0")
        return OPTIMIZERS[optimizer.lower()](model.parameters(), lr=learning_rate)
    if not isinstance(optimizer, Optimizer):
        raise InvalidInputError(f"optimizer is {type(optimizer).__name__}, expected a torch.optim.Optimizer or a name")
    if learning_rate is not None:
        raise InvalidInputError("learning_rate is for an optimiser given by its name; an instance has its own")
    if isinstance(optimizer, torch.optim.LBFGS):
        raise InvalidInputError("LBFGS evaluates the loss several times a step, which a check does not follow: use another optimiser")
    own = {id(p) for p in model.parameters()}
    others = sum(id(p) not in own for group in optimizer.param_groups for p in group["params"])
    if others:
        raise InvalidInputError(
            f"{others} of the optimiser's parameters are not the model's: expected an optimiser on model.parameters(), made after "
            "the model was moved or converted"
        )
    if any(group.get("lr", 0) <= 0 for group in optimizer.param_groups):
        raise InvalidInputError("a learning rate of the optimiser is not above 0")
    return optimizer


def _scheduler(scheduler: Any, optimizer: Optimizer) -> Any:
    if scheduler is None:
        return None
    if not isinstance(scheduler, torch.optim.lr_scheduler.LRScheduler) or isinstance(
        scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau
    ):
        raise InvalidInputError(
            f"scheduler is {type(scheduler).__name__}, expected one of torch.optim.lr_scheduler that does not depend on the loss"
        )
    if scheduler.optimizer is not optimizer:
        raise InvalidInputError("the scheduler belongs to another optimiser")
    return scheduler
