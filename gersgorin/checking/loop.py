"""A training loop as its owner writes it: model, data, loss, optimiser, clipping and learning-rate schedule.

    loop = TrainingLoop(model, x, y, loss_fn, torch.optim.Adam(model.parameters(), lr=1e-3))
    loop.loss(model, *loop.data.take(torch.arange(32)))    # the loss of 32 examples

Nothing that was given is changed: model, optimiser and scheduler are copied, and random states are restored.

Legend: N examples, K output units.
"""

import contextlib
import copy
import math
import random
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import count as count_from
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer

from gersgorin._validate import check_weights, uncompiled, users_code, with_gradients
from gersgorin.objective import called, least_constant, numbers_of, output_of
from rhn.errors import DataError, InvalidInputError
from rhn.training.ensemble import flushed
from rhn.training.state import LEFT
from rhn.utils.validation import check_seed

OPTIMIZERS = {
    "sgd": torch.optim.SGD,
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "rmsprop": torch.optim.RMSprop,
}
LOSSES = {
    "mse": lambda output, y: F.mse_loss(output, _as(y, output.shape).to(output.dtype)),
    "cross-entropy": lambda output, y: F.cross_entropy(
        output.flatten(0, -2), _as(y, output.shape[:-1]).flatten().long()
    ),
    "bernoulli": lambda output, y: F.binary_cross_entropy_with_logits(output, _as(y, output.shape).to(output.dtype)),
}
BATCH_SIZE = 32
MOST_STEPS = 10**9  # of a training
CYCLED = ("momentum", "betas")  # of a group, which a scheduler may change beside the learning rate
MOST_PASSES = 4  # through the examples, for minibatches with the same number of each
SAMPLE = 64  # batches of a DataLoader for the best constant output
SEVERAL, MOST_BATCHES = 32, 4_000  # of which they are drawn: those of an epoch, but not fewer or more
FREE_ROUNDS = 4  # of the search for an output whose loss is lower
STEPS = [10.0**k for k in range(-6, 4)]  # of a round, along the gradient divided by its largest entry
SLOW = 2.0  # times that subnormal numbers lengthen a step, at least, to be reported
BROADCAST = "Using a target size"  # beginning of torch's warning for shapes that differ
NOTHING = 1e-5  # of the loss of a zero output: a constant output with less is right already


class TrainingLoop:
    """Everything that a training uses; `model`, `optimizer` and `scheduler` are copies that belong together.

    Args:
        model: called as model(x); its output is a tensor, or a tuple that begins with one.
        x, y: inputs and targets, tensors of N examples each; or as x a DataLoader (any iterable of pairs of batches), and no y.
        loss_fn: loss_fn(output, y) -> a scalar; or "mse", "cross-entropy", "bernoulli", which read y (N,) as (N, 1) for outputs
            (N, 1).
        optimizer: of `torch.optim`, on parameters of the model; or "sgd", "adam", "adamw", "rmsprop".
        learning_rate: of an optimiser given by name.
        batch_size: of the minibatches drawn from tensors.
        batch_axis: axis of the examples in x and y, 0 with batch_first=True; None: found by changing one example.
        clip_norm: largest gradient norm, as in `torch.nn.utils.clip_grad_norm_`; None: no clipping.
        scheduler: a learning-rate scheduler of the optimiser that is stepped after each step; None: a constant learning rate.
        loading_seconds: most time for reading batches of a DataLoader.

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
        loading_seconds: float = math.inf,
    ):
        if not isinstance(model, nn.Module):
            raise InvalidInputError(f"the model is a {type(model).__name__}, expected a torch.nn.Module")
        model = uncompiled(model)
        if any(isinstance(p, nn.parameter.UninitializedParameter) for p in model.parameters()):
            raise InvalidInputError(f"{type(model).__name__} has weights of no size yet: run it once before")
        check_weights(model)
        self.loss_fn = _loss(loss_fn)
        self.clip_norm = None if clip_norm is None else above_zero("clip_norm", clip_norm)
        optimizer = _optimizer(model, optimizer, learning_rate, scheduler is not None)
        self.rates = _rates(optimizer, scheduler is not None)
        self.model, self.optimizer, self.scheduler = _copied(model, optimizer, _scheduler(scheduler, optimizer))
        self._ahead = copy.deepcopy(self.scheduler, {id(p): p for p in self.model.parameters()})
        self._scheduled: list[list[dict[str, Any]]] = []
        with random_numbers_kept(model), with_gradients():
            like = next(self.model.parameters())
            given = (
                Batches(x, like, loading_seconds) if y is None else Examples(self.model, x, y, batch_size, batch_axis)
            )
            self.data: Batches | Examples = given
            self._shapes: dict[torch.Size, torch.Size] = {}
            self.units = unit_axes(self.model, *self.data.minibatches(1)[0])
            self._try(model)

    @property
    def learning_rate(self) -> float:
        """Of the first group of parameters that moves; the one that a scheduler multiplies."""
        return next(filter(None, self.rates))

    @property
    def optimizer_name(self) -> str:
        return type(self.optimizer).__name__

    @property
    def frame_axis(self) -> int | None:
        """Axis of the steps of a sequence in x; None if x has none, or the layout of a DataLoader is not known."""
        stated = {m.batch_first for m in self.model.modules() if isinstance(getattr(m, "batch_first", None), bool)}
        axis = getattr(self.data, "axis", None if len(stated) != 1 else 1 - stated.pop())
        return None if axis is None or self.data.probe()[0].dim() < 2 else 1 - axis

    @property
    def is_plain_sgd(self) -> bool:
        """True for SGD with one learning rate, without decay, clipping and schedule: the gradient flow in steps."""
        groups = self.optimizer.param_groups
        plain = isinstance(self.optimizer, torch.optim.SGD) and len(groups) == 1 and not groups[0]["weight_decay"]
        return plain and self.scheduler is None and self.clip_norm is None

    def loss(self, model: Callable[[Tensor], Any], x: Tensor, y: Tensor) -> Tensor:
        """Loss of one minibatch, a scalar with its graph."""
        return self.loss_fn(output_of(model(x)), y)

    def copied(self, model: nn.Module, parameters: dict[str, Tensor], factor: float = 1.0) -> Optimizer:
        """A fresh optimiser on other tensors in the place of the model's parameters, its learning rates multiplied by a factor."""
        place = {id(p): parameters[name] for name, p in model.named_parameters() if name in parameters}
        fresh = copy.deepcopy(self.optimizer, place)
        for group, rate in zip(fresh.param_groups, self.rates, strict=True):
            group["lr"] = rate * factor
        return fresh

    def schedule(self, steps: int) -> list[list[dict[str, Any]]]:
        """What the scheduler sets in each group before each of so many steps; learning rates are relative to those of the trials.

        Raises InvalidInputError if the scheduler fails.
        """
        optimizer, rows = self._ahead.optimizer, self._scheduled
        with warnings.catch_warnings(action="ignore"):  # the scheduler is stepped without its optimiser
            while len(rows) < steps:
                if rows:
                    with users_code(f"the scheduler fails at step {len(rows)}"):
                        self._ahead.step()
                rows.append([])
                for group, rate in zip(optimizer.param_groups, self.rates, strict=True):
                    cycled = {name: group[name] for name in CYCLED if name in group}
                    rows[-1].append({"lr": float(group["lr"]) / (rate or 1.0)} | cycled)
        return rows[:steps]

    @with_gradients()
    def constant_output(self, batches: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, float]:
        """(The constant output of the least mean loss on some minibatches, that loss), reached without the input.

        The constant has one number for each output unit, and length 1 along the axes of examples and frames.

        Raises InvalidInputError if that output is right already, no output is 2 % better, or the loss has no least value above 0.
        """
        constant, zero, loss = self._least_constant(batches)
        if not loss > NOTHING * abs(zero):
            raise InvalidInputError(
                f"the loss of the best constant output is {loss:.3g}, expected a number above 0: the targets are all the same, or the "
                "loss can fall below 0"
            )
        x, y = batches[0]
        output, _, own = self._least_constant(batches[:1])
        output = output.expand(self.output_shape(x))
        for _ in range(FREE_ROUNDS):
            output = output.detach().clone().requires_grad_()
            (slope,) = torch.autograd.grad(self.constant_loss(output, x, y), output)
            others = [output.detach() - step * slope / slope.abs().max() for step in STEPS]
            least, output = min(((self.constant_loss(o, x, y).item(), o) for o in others), key=lambda pair: pair[0])
            if least <= LEFT * own:
                return constant, loss
        raise InvalidInputError(
            f"no output has a loss below {LEFT:g} of the best constant output's ({least:.6g} on a minibatch): subtract from it "
            "what does not depend on the output, and give y the shape that it needs without broadcasting"
        )

    def _least_constant(self, batches: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, float, float]:
        """(The constant output of the least mean loss, the loss of zeros, the least loss)."""
        mean_loss = lambda output: torch.stack([self.constant_loss(output, x, y) for x, y in batches]).mean()  # noqa: E731
        return least_constant(mean_loss, self.units)

    def constant_loss(self, constant: Tensor, x: Tensor, y: Tensor) -> Tensor:
        """Loss of a constant output on one minibatch."""
        return self.loss_fn(constant.expand(self.output_shape(x)), y).reshape(())

    @torch.no_grad()
    def output_shape(self, x: Tensor) -> torch.Size:
        """Of the output for inputs of this shape."""
        if x.shape not in self._shapes:
            with random_numbers_kept(self.model):
                self._shapes[x.shape] = called(copy.deepcopy(self.model), x).shape  # normalisations count their calls
        return self._shapes[x.shape]

    def _try(self, given: nn.Module) -> None:
        """Take steps with a copy, with and without subnormal numbers. Raises InvalidInputError with what the parts of the loop raised.

        given: the original model, which the loss of a copy must not use.
        """
        x, y = self.data.minibatches(1)[0]
        model = copy.deepcopy(self.model)
        output = called(model, x)
        shapes = tuple(output.shape), tuple(y.shape)
        hint = f"give y the shape {shapes[0]}" * (output.numel() == y.numel() and shapes[0] != shapes[1])
        said = f"loss_fn(output, y) fails for an output {shapes[0]} and y {shapes[1]}"
        with users_code(said, hint), warnings.catch_warnings():
            warnings.filterwarnings("error", BROADCAST)
            loss = self.loss_fn(output, y)
        if not isinstance(loss, Tensor) or loss.numel() != 1 or not loss.is_floating_point():
            what = f"{loss.dtype} of shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
            raise InvalidInputError(f"loss_fn(output, y) returned {what}, expected a real scalar: take its mean")
        if not loss.requires_grad:
            raise InvalidInputError("the loss does not depend on any parameter of the model that requires a gradient")
        self.first_loss = loss.item()
        if not math.isfinite(self.first_loss):
            raise InvalidInputError(f"the loss of the first minibatch is {self.first_loss}, expected a finite number")
        originals = [p for p in given.parameters() if p.requires_grad]
        if any(g is not None for g in torch.autograd.grad(loss, originals, allow_unused=True, retain_graph=True)):
            raise InvalidInputError(
                "the loss reads the parameters of the model beside its output, which a copy of it does not have: use weight_decay of "
                "the optimiser instead of a penalty"
            )
        self._time_steps(model, x, y)

    def _time_steps(self, model: nn.Module, x: Tensor, y: Tensor) -> None:
        """Measure the seconds of a step, and how many times as long it takes with subnormal numbers as the caller has set them."""
        optimizer = self.copied(self.model, dict(model.named_parameters()))
        seconds: dict[bool, list[float]] = {False: [], True: []}
        for flush in (True, True, False, True, False):  # the first one is slow for other reasons
            with flushed() if flush else contextlib.nullcontext():
                start = time.thread_time(), time.perf_counter()
                with users_code(f"{type(optimizer).__name__} takes no step without a closure"):
                    optimizer.zero_grad()
                    self.loss(model, x, y).backward()
                    optimizer.step()
                seconds[flush].append(time.thread_time() - start[0])
            if flush:
                self.step_seconds = time.perf_counter() - start[1]
            elif (ratio := min(seconds[False]) / max(min(seconds[True]), 1e-9)) < SLOW:
                break
        self.slowed = ratio if ratio >= SLOW else None


class Examples:
    """Tensors x and y of N examples each, from which minibatches are drawn."""

    cut: int | None = None

    def __init__(self, model: nn.Module, x: Any, y: Any, batch_size: int, axis: int | None):
        if not isinstance(batch_size, int) or isinstance(batch_size, bool) or batch_size < 1:
            raise InvalidInputError(f"batch_size is {batch_size!r}, expected a whole number of at least 1")
        if axis not in (None, 0, 1):
            raise InvalidInputError(f"batch_axis is {axis!r}, expected 0 (batch_first=True), 1 or None")
        like = next(model.parameters())
        self.x, self.y = _numbers("x", x, like), _numbers("y", y, like)
        if axis is None:
            axis = batch_axis(model, self.x, self.y)
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

    @property
    def epoch(self) -> float:
        """Steps of one pass through the data."""
        return self.count / self.per_step

    def take(self, units: Tensor) -> tuple[Tensor, Tensor]:
        """Inputs and targets of some examples (B,)."""
        units = units.to(self.x.device)
        return self.x.index_select(self.axis, units), self.y.index_select(self.y_axis, units)

    def stream(self, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield minibatches: a permutation of the examples for each epoch."""
        g = torch.Generator().manual_seed(seed)
        while True:
            order = torch.randperm(self.count, generator=g)
            for some in order[: self.count // self.per_step * self.per_step].split(self.per_step):
                yield self.take(some)

    def probe(self) -> tuple[Tensor, Tensor]:
        """Examples drawn at random, as many as a usual minibatch has."""
        return self.take(_drawn(self.count, 1)[:BATCH_SIZE])

    def minibatches(self, most: int) -> list[tuple[Tensor, Tensor]]:
        """Minibatches drawn at random, at most so many; together they hold each example as often as any other, or nearly so."""
        passes = min(self.per_step // math.gcd(self.count, self.per_step), MOST_PASSES)  # both end together
        number = min(most, self.count * passes // self.per_step)
        order = _drawn(self.count, -(-number * self.per_step // self.count))
        return [self.take(some) for some in order.split(self.per_step)[:number]]

    def everything(self) -> tuple[Tensor, Tensor]:
        """All examples, in their own order."""
        return self.take(torch.arange(self.count))


class Batches:
    """Pairs of batches from a DataLoader, in its own order; each run of trials reads it anew."""

    def __init__(self, loader: Any, like: Tensor, seconds: float):
        if isinstance(loader, Tensor | np.ndarray) or not isinstance(loader, Iterable):
            raise InvalidInputError("y is missing: expected targets beside x, or as x a DataLoader of pairs (x, y)")
        self.loader, self.like = _Kept(loader) if isinstance(loader, Iterator) else loader, like
        self.epoch = math.inf
        with contextlib.suppress(TypeError):  # of data without a length
            self.epoch = len(loader)  # type: ignore[arg-type]
        self.kept, self.cut = self._sample(time.monotonic() + seconds)

    def _sample(self, end: float) -> tuple[list[tuple[Tensor, Tensor]], int | None]:
        """(Batches drawn at random from at least one epoch, the number that was read if there was no time for an epoch)."""
        draw, kept = random.Random(0), []
        for count, pair in enumerate(self.stream(0), 1):
            if count <= SAMPLE:
                kept.append(pair)
            elif (k := draw.randrange(count)) < SAMPLE:
                kept[k] = pair
            if count >= SEVERAL and count % self.epoch == 0:
                return kept, None
            most = MOST_BATCHES if self.epoch < math.inf else SAMPLE
            if count >= most or time.monotonic() > end:
                return kept, None if count >= self.epoch else count
        raise AssertionError("a stream has no end")

    def stream(self, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the batches of one epoch after another, in the order that the loader draws from a seed; it sets torch's own."""
        batches = getattr(self.loader, "batch_sampler", None)
        places = (self.loader, getattr(self.loader, "sampler", None), batches, getattr(batches, "sampler", None))
        generators = {g for place in places if isinstance(g := getattr(place, "generator", None), torch.Generator)}
        states = [(g, g.get_state()) for g in generators]
        for g in (torch, *generators):
            g.manual_seed(seed)
        try:
            for epoch in count_from(0):
                number = 0
                for pair in _read(self.loader):
                    number += 1
                    if not isinstance(pair, tuple | list) or len(pair) != 2:
                        raise InvalidInputError("the DataLoader gives no pairs: expected (x, y) of each batch")
                    yield _numbers("x", pair[0], self.like), _numbers("y", pair[1], self.like)
                if not number:
                    advice = (
                        " in its second epoch: give a list of its batches" if epoch else ": expected at least one batch"
                    )
                    raise DataError(f"the DataLoader is empty{advice}")
                self.epoch = number
        finally:
            for g, state in states:
                g.set_state(state)

    def probe(self) -> tuple[Tensor, Tensor]:
        """A batch drawn at random."""
        return self.minibatches(1)[0]

    def minibatches(self, most: int) -> list[tuple[Tensor, Tensor]]:
        """Batches drawn at random, at most so many."""
        return [self.kept[k] for k in _drawn(len(self.kept), 1)[:most].tolist()]


def _drawn(count: int, times: int) -> Tensor:
    """All numbers below `count` in random order, so many times; the same at each call."""
    g = torch.Generator().manual_seed(0)
    return torch.cat([torch.randperm(count, generator=g) for _ in range(times)])


class _Kept:
    """The batches of an iterator, kept so that they can be read again."""

    def __init__(self, batches: Iterator[Any]):
        self.batches, self.kept = batches, []

    def __iter__(self) -> Iterator[Any]:
        yield from self.kept
        for batch in self.batches:
            self.kept.append(batch)
            yield batch


@contextmanager
def random_numbers_kept(model: nn.Module) -> Iterator[None]:
    """Restore the random states of torch, on the devices of a model too, of NumPy and of Python."""
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 - the state of a user's code
    try:
        with torch.random.fork_rng(devices=list({p.device for p in model.parameters() if p.is_cuda})):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002


def _read(loader: Iterable) -> Iterator[Any]:
    """The batches of a loader. Raises InvalidInputError with what it raised."""
    with users_code("the DataLoader fails"):
        batches = iter(loader)
    while True:
        with users_code("the DataLoader fails"):
            batch = next(batches, _read)
        if batch is _read:
            return
        yield batch


def _copied(model: nn.Module, optimizer: Optimizer, scheduler: Any) -> tuple[nn.Module, Optimizer, Any]:
    """Copies of a model, of its optimiser with an empty state, on the copy's parameters, and of the scheduler on that optimiser."""
    with users_code(f"{type(model).__name__} or its optimiser cannot be copied"), torch.inference_mode(False):
        return copy.deepcopy((model, optimizer, scheduler), {id(optimizer.state): defaultdict(dict)})


def _numbers(name: str, given: Any, like: Tensor) -> Tensor:
    """Finite numbers as a tensor on the device of a parameter; those that are not a tensor yet in its type, if they are no integers."""
    values = numbers_of(name, given)
    keeps_type = isinstance(given, Tensor) or not values.is_floating_point()
    return values.to(like.device, None if keeps_type else like.dtype)


@torch.no_grad()
def batch_axis(model: nn.Module, x: Tensor, y: Tensor | None = None) -> int:
    """Axis of the examples, 0 or 1: along it the output of one does not change with its neighbours.

    If this leaves both or none, `batch_first` of the model's parts decides, then the number of targets. Raises InvalidInputError if it
    is not clear.
    """
    looked_at = copy.deepcopy(model).eval()  # batch normalisation would mix the examples
    axes = [axis for axis in range(min(2, x.dim())) if x.shape[axis] > 2 and _independent(looked_at, x, axis)]
    if len(axes) != 1:  # few examples, or weights so small that no frame changes the next one
        stated = {m.batch_first for m in model.modules() if isinstance(getattr(m, "batch_first", None), bool)}
        axes = [0 if stated.pop() else 1] if len(stated) == 1 else axes
    if len(axes) != 1 and y is not None:
        axes = [axis for axis in range(min(2, x.dim())) if x.shape[axis] == y.shape[0]]
    if len(axes) == 1:
        return axes[0]
    raise InvalidInputError(
        f"the axis of the examples in x of shape {tuple(x.shape)} is not clear: add batch_axis=0 for (examples, frames, numbers), or "
        "batch_axis=1 for (frames, examples, numbers)"
    )


def _independent(model: nn.Module, x: Tensor, axis: int) -> bool:
    """True if the middle one of three slices of x along an axis gives the same output beside two other slices."""
    few = x.narrow(axis, 0, 3)
    changed = few.clone()
    for k in (0, 2):
        piece = changed.select(axis, k)
        piece.copy_(piece + 1 if piece.is_floating_point() else piece.flatten().roll(1).reshape(piece.shape))
    try:
        before, after = called(model, few), called(model, changed)
    except InvalidInputError:  # such as a model that takes one number of frames only
        return False
    where = [a for a in (axis, 0) if a < before.dim() and before.shape[a] == 3]
    return bool(where) and torch.equal(before.select(where[0], 1), after.select(where[0], 1))


def unit_axes(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Zeros in the shape of an output, with length 1 along the axes of examples and frames: those that are as long as x is.

    They are found by calls with other lengths of x. If the model takes only one, torch's layouts decide: the targets are classes
    without the axis of units, or have the units last. Raises InvalidInputError if neither does.
    """
    model = copy.deepcopy(model)
    with torch.no_grad(), random_numbers_kept(model):
        zeros = torch.zeros_like(called(model, x))
        shape, units, fixed, follows = zeros.shape, list(zeros.shape), [], [1] * zeros.dim()
        for axis, length in enumerate(x.shape):
            for other in (torch.cat([x, x], axis), x.narrow(axis, 0, max(1, length // 2))):
                with contextlib.suppress(InvalidInputError):
                    changed = called(model, other).shape
                    if len(changed) == len(shape):
                        follows = [f * length if a != b else f for f, a, b in zip(follows, shape, changed, strict=True)]
                        break
            else:
                fixed.append(length)
    units = [1 if f > 1 else n for f, n in zip(follows, shape, strict=True)]
    mixed = any(1 < f < n for f, n in zip(follows, shape, strict=True))  # an axis of frames and units
    if mixed or (len(fixed) > x.is_floating_point() and any(n > 1 and n in fixed for n in units)):
        axes = [a for a, n in enumerate(units) if n > 1]
        classes = [a for a in axes if shape[:a] + shape[a + 1 :] == y.shape]
        last = [len(shape) - 1] * (shape == y.shape and len(shape) > 2)
        if mixed or len(classes or last) != 1:
            raise InvalidInputError(
                f"the axes of examples, frames and units in outputs of shape {tuple(shape)} are not clear: return (..., units), with "
                "an axis of length 1 for one unit"
            )
        units = [n if a in (classes or last) else 1 for a, n in enumerate(units)]
    return zeros.new_zeros(units)


def _as(y: Tensor, shape: torch.Size) -> Tensor:
    """Targets of a named loss in a shape that differs only in axes of length 1. Raises InvalidInputError for another one."""
    if [n for n in y.shape if n != 1] != [n for n in shape if n != 1]:
        raise InvalidInputError(
            f"in a minibatch, the loss needs y of shape {tuple(shape)}, and y has {tuple(y.shape)}: give one target for each output"
        )
    return y.reshape(shape)


def _loss(loss_fn: Any) -> Callable[[Any, Tensor], Tensor]:
    if isinstance(loss_fn, type) and issubclass(loss_fn, nn.Module):
        raise InvalidInputError(f"loss_fn is the class {loss_fn.__name__}: did you mean nn.{loss_fn.__name__}()?")
    if callable(loss_fn):
        return loss_fn
    if loss_fn not in LOSSES:
        raise InvalidInputError(
            f"loss_fn is {loss_fn!r}, expected a function (output, y) or one of {', '.join(LOSSES)}"
        )
    return LOSSES[loss_fn]


def above_zero(name: str, value: Any) -> float:
    """A finite number above 0. Raises InvalidInputError."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise InvalidInputError(f"{name} is {value!r}, expected a number above 0")
    return value


def check_limits(steps: Any, seconds: Any, seed: Any) -> None:
    """Raise InvalidInputError unless these are a length of a training, a time limit and a seed."""
    above_zero("seconds", seconds)
    check_seed(seed)
    if isinstance(steps, bool) or not isinstance(steps, int) or not 1 <= steps <= MOST_STEPS:
        raise InvalidInputError(f"steps is {steps!r}, expected a whole number of at least 1")


def _rates(optimizer: Optimizer, scheduled: bool) -> list[float]:
    """Learning rates of the groups; with a scheduler those that it multiplies, because a warm-up may begin at 0."""
    return [float((scheduled and group.get("initial_lr")) or group.get("lr", 0)) for group in optimizer.param_groups]


def _optimizer(model: nn.Module, optimizer: Any, learning_rate: float | None, scheduled: bool) -> Optimizer:
    """The optimiser, made from its name if only this is given."""
    if next(model.parameters(), None) is None:
        raise InvalidInputError(f"{type(model).__name__} has no parameters: there is nothing to train")
    if isinstance(optimizer, str):
        if optimizer.lower() not in OPTIMIZERS:
            raise InvalidInputError(
                f"optimizer is {optimizer!r}, expected one of {', '.join(OPTIMIZERS)}, or an instance"
            )
        if learning_rate is None:
            kind = OPTIMIZERS[optimizer.lower()].__name__
            raise InvalidInputError(f"{kind} by its name has no learning rate: add learning_rate=1e-3, or a better one")
        return OPTIMIZERS[optimizer.lower()](model.parameters(), lr=above_zero("learning_rate", learning_rate))
    if not isinstance(optimizer, Optimizer):
        raise InvalidInputError(
            f"optimizer is {optimizer!r:.60}, expected a name, or an instance as torch.optim.Adam(model.parameters(), lr=1e-3)"
        )
    if learning_rate is not None:
        raise InvalidInputError("learning_rate is for an optimiser given by its name; an instance has its own")
    parameters = list(model.named_parameters())
    hooked = [name for name, p in parameters if p._backward_hooks or getattr(p, "_post_accumulate_grad_hooks", None)]
    replaced = [
        f for f in map(vars(optimizer).get, ("step", "zero_grad")) if f and not hasattr(f, "_wrapped_by_lr_sched")
    ]
    if hooked or replaced or optimizer._optimizer_step_pre_hooks or optimizer._optimizer_step_post_hooks:
        raise InvalidInputError(
            f"{hooked[0] if hooked else type(optimizer).__name__} has a hook or a replaced method, which the copies that are "
            "trained do not have: expected none; clip gradients by clip_norm, and freeze parameters by requires_grad_(False)"
        )
    own = {id(p) for p in model.parameters()}
    others = sum(id(p) not in own for group in optimizer.param_groups for p in group["params"])
    if others:
        raise InvalidInputError(
            f"{others} of the optimiser's parameters are not the model's: expected an optimiser on model.parameters(), made after "
            "the model was moved or converted"
        )
    rates = _rates(optimizer, scheduled)
    if not any(rates) or any(not 0 <= rate < math.inf for rate in rates):
        raise InvalidInputError(
            f"the learning rates of the optimiser are {rates}, expected finite numbers, one above 0"
        )
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
