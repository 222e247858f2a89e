"""`Training` holds all parts of a training run: model, data, loss, optimiser, schedule, and so on.

    training = Training(model, x, y, loss_fn, torch.optim.Adam(model.parameters(), 1e-3))
    other = training.copy()              # an independent copy, whose parts may be changed
    for x, y in islice(other.data.stream(0), 100):
        other.step(x, y)

What you pass is not changed: model, optimiser and scheduler are copied.
"""

import copy
import math
import time
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.data import DataLoader, default_collate

from gersgorin.data.inputs import call
from gersgorin.data.layout import Layout, check_batch_axis
from gersgorin.losses import Loss, output_of
from gersgorin.validate import (
    check_order,
    check_weights,
    random_numbers_kept,
    uncompiled,
    users_code,
)
from rhn.errors import InvalidInputError, RhnError
from rhn.utils.keywords import typed
from rhn.utils.validation import number, whole_number
from rhn.utils.wording import kind_of, listed
from trainability.autograd import graph
from trainability.axes import OutputAxes, axes_of_examples, check_layers_take_axis_0
from trainability.copies import attributes, copied, states_in
from trainability.data import (
    Batches,
    Data,
    Examples,
    Inputs,
    InputsChange,
    Pair,
    count_of,
    inputs_of,
    numbers_like,
    sequence_of,
    take,
)
from trainability.given_loss import misfit, reads, target_loss
from trainability.losses import one_hot, one_hot_axes, one_hot_axis
from trainability.not_finite import Failure, failure_of, gradient_failure
from trainability.optimizers import Schedule, optimizer_of, scaled_rate, scheduler_of
from trainability.starts import default_


def same(values: Any) -> Any:
    """Return values unchanged."""
    return values


NO_TIME = "no time was left"


class OutOfTime(BaseException):
    """The time limit for computing facts has passed. It is no Exception, so that no handler of
    errors of the user's code takes it for one.
    """


STEPS = 3000  # of a training run whose length is not given
BATCH_SIZE = 32  # of minibatches drawn from tensors


class Training:
    """All parts of a training run: model, data, loss, optimiser, schedule, clipping, and length.

    Model, optimiser and scheduler are copied, so yours stay unchanged. To change a part, take a
    `copy()`, and change the part there.

    Args:
        model: any module. It is called as model(x), or for several inputs as model(*x) or
            model(**x). A module that takes the whole dictionary gets it as model(x).
        x, y: inputs and targets of all examples, as tensors. Several inputs are a tuple or a
            dictionary, the sequence first. y is one tensor. Other numbers that the loss needs, such
            as the lengths of CTC, are further columns of y. x can also be a DataLoader or a list of
            batches; y is then left out. A batch is (x, y), (x, further inputs, y), or a dictionary
            whose targets are named y, target, targets, label or labels.
        loss_fn: a function loss_fn(output, y) that returns a scalar; or "mse", "cross-entropy" or
            "bernoulli". If the loss takes a softmax of outputs, `data` stores one-hot targets as
            class numbers; the loss still gets one-hot targets.
        optimizer: an instance of an optimiser of `torch.optim`, made from the model's parameters;
            or "sgd", "adam", "adamw" or "rmsprop".
        learning_rate: learning rate of an optimiser given by name; None: torch's default.
        steps: number of optimiser steps.
        batch_size: size of the minibatches that are drawn from tensors.
        batch_axis: axis of the examples in x and y: 0 for (B, T, ...), 1 for (T, B, ...). None: 1
            if only axis 1 of x has as many entries as there are targets, otherwise 0. The axis is
            required if both axes fit and the model's layers take (T, B, ...). It is not required if
            a DataLoader stacks the examples.
        clip_norm: norm at which gradients are clipped; None: no clipping.
        scheduler: a learning-rate scheduler of the optimiser, stepped after each optimiser step.
        predict: function that returns the prediction, a tensor, given the output of the model.
            None: the prediction is the output itself, its `logits`, or the first entry of a tuple.
        loading_seconds: time limit, in seconds, for reading batches of a DataLoader.

    Raises:
        InvalidInputError or DataError: a part is invalid or does not fit the others.

    >>> model = nn.Sequential(nn.Flatten(), nn.Linear(6, 1))
    >>> sgd = torch.optim.SGD(model.parameters(), 0.1)
    >>> training = Training(model, torch.rand(50, 3, 2), torch.rand(50, 1), "mse", sgd)
    >>> training.steps, len(training.data.held_out)
    (3000, 0)
    """

    @typed
    def __init__(
        self,
        model: nn.Module,
        x: Any,
        y: Any = None,
        loss_fn: str | Loss = "mse",
        optimizer: str | Optimizer = "adam",
        *,
        learning_rate: float | None = None,
        steps: int = STEPS,
        batch_size: int = BATCH_SIZE,
        batch_axis: int | None = None,
        clip_norm: float | None = None,
        scheduler: Any = None,
        predict: Callable[[Any], Tensor] | None = None,
        loading_seconds: float = 10.0,
    ):
        check_order(
            "model, x, y, loss_fn, optimizer",
            model=model,
            x=x,
            y=y,
            loss_fn=loss_fn,
            optimizer=optimizer,
        )
        check_model(model)
        steps = whole_number("steps", steps)
        batch_size = whole_number("batch_size", batch_size)
        if clip_norm is not None:
            clip_norm = number("clip_norm", clip_norm, above=0)
        model = uncompiled(model)
        self.steps, self.clip_norm = steps, clip_norm
        self.predict = predict or output_of
        self._loss = target_loss(loss_fn)
        given = optimizer_of(model, optimizer, learning_rate)
        self._original = model
        self._given = [
            *model.parameters(),
            *(p for group in given.param_groups for p in group["params"]),
        ]
        self.model, self.optimizer, self.scheduler = copied(
            model, given, scheduler_of(scheduler, given)
        )
        self.failure: tuple[Failure, Inputs] | None = None
        self.one_hot: int | None = None
        """Class axis of the one-hot targets that the loss takes; `data` stores class numbers
        instead. None: the loss takes the targets of `data` unchanged.
        """
        self.change_inputs: InputsChange = same
        self.change_targets: InputsChange = same
        self.restore_outputs: InputsChange = same
        self.until = math.inf
        """Deadline on the clock of `time.monotonic`; after it, `output` and `loss` raise
        OutOfTime.
        """
        self.is_mean: bool | None = None
        """Whether the loss of a minibatch is the mean of the losses of its examples; None: not
        known yet.
        """
        self.draws = 5
        """Seed of the new weights that a swap (the replacement of a part) draws."""
        self.either_axis = False
        """True if either of the first two axes of x may hold the examples, and batch_axis was not
        given.
        """
        self._is_loaded = y is None  # from minibatches of a DataLoader
        stacked = stacks_examples(x)
        like = next(self.model.parameters())
        check_batch_axis(batch_axis)

        def possible_axes(x: Inputs, y: Tensor) -> list[int]:
            return axes_of_examples(x, y) if batch_axis is None else [batch_axis]

        def axis_of(x: Inputs, y: Tensor) -> int:
            axes = possible_axes(x, y)
            self.either_axis = len(axes) > 1 and not stacked
            if self.either_axis:
                check_layers_take_axis_0(self.model, x, y)
            return axes[0]

        if y is None:
            self.data: Data = Batches(
                x, like, loading_seconds, axis_of, self._fits, self._find_classes
            )
        else:
            x, y = inputs_of(x, like), numbers_like("y", y, like)
            axis = possible_axes(x, y)[0]
            first = torch.arange(min(batch_size, count_of((x, y), axis)))
            ((x, y),) = self._find_classes([(x, y)], lambda pair: take(pair, first, axis))
            self.data = Examples(x, y, batch_size, axis_of(x, y), self._fits)

    @property
    def layout(self) -> Layout:
        """The axes of x that hold the examples and the time steps."""
        return self.data.layout

    def output_axes(self, output: Tensor, x: Inputs, y: Tensor) -> OutputAxes:
        """Return the axes of the outputs that hold examples, frames and classes."""
        known = [each for each in self.data.targets if each.numel() and not y.is_floating_point()]
        largest = max((int(each.max()) for each in known), default=0)
        return OutputAxes.of(output, y, self.loss, sequence_of(x), self.layout, largest)

    def copy(self) -> "Training":
        """Return an independent copy, which shares only the data."""
        other = copy.copy(self)
        other.failure = None
        other.model, other.optimizer, other.scheduler = copied(
            self.model, self.optimizer, self.scheduler
        )
        return other

    def _fits(self, x: Inputs) -> bool:
        """True if the model runs on inputs x, whose size may differ from that of the data."""
        return self._tried(x) is not None

    @torch.no_grad()
    def _tried(self, x: Inputs) -> Tensor | None:
        """The output of a copy of the model in evaluation mode; None if the model fails on x."""
        other = copy.copy(self)
        other.model = copied(self.model, self.optimizer, None)[0].eval()
        try:
            with random_numbers_kept(other.model):
                return other.output(x)
        except RhnError:
            return None

    def _find_classes(self, every: list[Pair], part: Callable[[Pair], Pair] = same) -> list[Pair]:
        """Return all pairs, with one-hot targets replaced by class numbers; see `one_hot_axis`.

        part: selects the examples of the first pair on which the model is run.
        """
        axes = one_hot_axes([y for _, y in every])
        if axes:
            x, y = part(every[0])
            output = self._tried(x)
            self.one_hot = None if output is None else one_hot_axis(output, y, axes, self._loss)
        return self.with_classes(every)

    def with_classes(self, pairs: list[Pair]) -> list[Pair]:
        """Return the pairs, with one-hot targets replaced by class numbers if the loss takes
        one-hot targets.
        """
        axis = self.one_hot
        return pairs if axis is None else [(x, y.argmax(axis)) for x, y in pairs]

    def _as_given(self, y: Tensor, output: Tensor) -> Tensor:
        """Return targets in the form that the loss takes: one-hot if the user's are."""
        return y if self.one_hot is None else one_hot(y, output, self.one_hot)

    @property
    def axis(self) -> int:
        """The axis of the examples in x."""
        return self.data.axis

    @property
    def learning_rate(self) -> float:
        """The largest learning rate of the optimiser's parameter groups; with a schedule, the
        largest initial_lr.
        """
        return max(self.rates())

    def rates(self, factor: float = 1.0) -> list[float]:
        """Return the learning rates of the parameter groups times a factor; with a schedule, their
        initial_lr times the factor.
        """
        groups = self.optimizer.param_groups
        return [scaled_rate(float(g.get("initial_lr") or g.get("lr", 0.0)), factor) for g in groups]

    def output(self, x: Inputs) -> Tensor:
        """Return the prediction of the model for inputs, as a tensor.

        The inputs are copied first, since forward may change them in place. Raises
        InvalidInputError with the model's own error if the model fails, and OutOfTime after
        `until`.
        """
        self._check_time()
        x = self.change_inputs(tree_map(Tensor.clone, x))
        shapes = ", ".join(str(tuple(leaf.shape)) for leaf in tree_leaves(x))
        hint = partial(self._why_not, x)
        with users_code(f"the model does not run on x of shape {shapes}", hint):
            output = self.predict(call(self.model, x))
        if not isinstance(output, Tensor):
            raise InvalidInputError(
                f"predict returned {kind_of(output)}, expected the prediction as a tensor"
            )
        if not output.numel():
            raise InvalidInputError(
                f"the output for x of shape {shapes} has shape {tuple(output.shape)}: no numbers"
            )
        return output

    def _check_time(self) -> None:
        """Raise OutOfTime after `until`."""
        if time.monotonic() > self.until:
            raise OutOfTime(NO_TIME)

    def _why_not(self, x: Inputs) -> str:
        """A hint about the states that a model keeps, or about the entries of a minibatch that are
        its inputs; "" if there are neither.
        """
        if kept := self._keeps():
            return kept
        if not self._is_loaded or not isinstance(x, tuple):
            return ""
        return (
            f"the last of the {len(x) + 1} entries of a minibatch is taken as y, and the others as "
            "inputs of the model"
        )

    def _keeps(self) -> str:
        """A hint about states that the model keeps from call to call, which do not fit inputs of
        another size; "" if it keeps none.
        """
        before = states_in(self._original)
        kept = {k: v for k, v in states_in(self.model).items() if before.get(k) != v}
        if not kept:
            return ""
        words = listed([f"{name} of shape {shape}" for name, shape in kept.items()])
        return (
            f"it keeps a state from call to call, {words}: set it to None at the beginning of "
            "forward, or pass it as an input"
        )

    def loss(self, output: Tensor, y: Tensor) -> Tensor:
        """Return the loss of an output, a scalar tensor.

        Raises InvalidInputError with the loss function's own error if this function fails, and
        OutOfTime after `until`.
        """
        self._check_time()
        y = self._as_given(y, output)
        said = f"the loss fails for outputs {tuple(output.shape)} and y {tuple(y.shape)}, {y.dtype}"
        version = None if y.is_inference() else y._version
        with users_code(said, lambda: misfit(self._loss, output, y) or self._never_run()):
            loss = self._loss(output, y)
        if version is not None and y._version != version:
            raise InvalidInputError(
                "the loss changes its targets in place, so later losses are of other ones: let it "
                "begin with y = y.clone()"
            )
        if not isinstance(loss, Tensor) or loss.numel() != 1:
            got = f"a tensor {tuple(loss.shape)}" if isinstance(loss, Tensor) else kind_of(loss)
            raise InvalidInputError(f"loss_fn(output, y) returned {got}, expected a scalar tensor")
        return loss.reshape(())

    def check_loss(self, loss: Tensor, stored: list[str]) -> None:
        """Raise InvalidInputError if a loss reads the user's own model or optimiser.

        Copies of both are trained, so the loss would not see the weights that are trained. A loss
        is also refused if it may read attributes that forward changes.

        Args:
            loss: the loss of the model's output.
            stored: attributes of the model that forward changes.
        """
        objects, names = reads(self._loss)
        objects_read, modules = {*map(id, objects)}, self._original.named_modules()
        reached = tuple(
            f".{path}.".replace("..", ".") for path, part in modules if id(part) in objects_read
        )
        weights = dict(self._original.named_parameters())
        there = attributes(self._original) | weights
        read = [
            name
            for name in (*stored, *weights)
            if id(there.get(name, self)) in objects_read
            or (f".{name}".startswith(reached) and name.split(".")[-1] in names)
        ]
        if read:
            raise InvalidInputError(
                f"the loss reads {listed(read)} of your model, and copies of it are trained here: "
                "return what the loss needs as part of the output; a penalty is weight_decay"
            )
        given = {id(p) for p in self._given}
        if any(id(getattr(node, "variable", None)) in given for node in graph(loss)):
            raise InvalidInputError(
                "the loss reads weights that your optimiser has, or what forward has stored on "
                "your model, and copies are trained here: give a loss of output and y only, a "
                "penalty as weight_decay, weights of the loss as part of the model, or return "
                "what it needs as part of the output"
            )

    def _never_run(self) -> str:
        """The reason why a loss that reads the user's model may fail: that model is never run. ""
        if the loss does not read it.
        """
        read = {*map(id, reads(self._loss)[0])}
        if read.isdisjoint(map(id, self._original.modules())):
            return ""
        return (
            "copies of your model are trained here, and it is never run itself: return what the "
            "loss needs as part of the output"
        )

    def with_loss(self, loss_fn: Loss) -> "Training":
        """Return a copy with another loss."""
        other = self.copy()
        other._loss, other.one_hot, other.is_mean = loss_fn, None, None
        return other

    def with_model(self, model: nn.Module, predict: Callable | None = None) -> "Training":
        """Return a copy with another network, and an optimiser of the same class, settings and
        schedule.

        If the user's optimiser has several parameter groups, the settings are those of the group
        with the largest learning rate.

        predict: function that returns the prediction, given the output of the new network; None:
        the user's function.
        """
        other = self.copy()
        other.predict = predict or self.predict
        rates = self.rates()
        largest = rates.index(max(rates))
        theirs, scheduler = other.optimizer, other.scheduler
        other.model = model
        other.optimizer = type(theirs)(model.parameters(), lr=self.learning_rate)
        for group in other.optimizer.param_groups:
            named = theirs.param_groups[largest].items()
            group.update({name: value for name, value in named if name != "params"})
        if scheduler is not None:
            other.scheduler = Schedule(scheduler, theirs, other.optimizer, [largest])
        return other

    def with_default_weights(self) -> "Training":
        """Return a copy with new weights, as torch.nn draws them; see `starts.default_`."""
        other = self.copy()
        default_(other.model, seed=self.draws)
        return other

    def with_rates(self, factor: float) -> "Training":
        """Return a copy with all learning rates multiplied by a factor, including those that a
        schedule sets.
        """
        other = self.copy()
        if other.scheduler is not None:
            like, groups = other.optimizer, range(len(other.optimizer.param_groups))
            other.scheduler = Schedule(other.scheduler, like, like, [*groups], factor)
            other.scheduler.set_rates()
            return other
        for group in other.optimizer.param_groups:
            group["lr"] = scaled_rate(group["lr"], factor)
        return other

    def with_adam(self, rate: float) -> "Training":
        """Return a copy that trains the same weights by Adam, with gradients clipped at norm 1 and
        no schedule. Sparse gradients of embeddings, which Adam does not take, become dense.
        """
        other = self.copy()
        for part in other.model.modules():
            if isinstance(part, nn.Embedding | nn.EmbeddingBag):
                part.sparse = False
        weights = [p for group in other.optimizer.param_groups for p in group["params"]]
        other.optimizer = torch.optim.Adam(weights, rate)
        other.scheduler, other.clip_norm = None, 1.0
        return other

    def loss_in_double(self) -> Loss:
        """Return the loss function with its buffers, such as class weights, in double precision."""
        loss = self._loss
        loss = copy.deepcopy(loss).double() if isinstance(loss, nn.Module) else loss
        return lambda output, y: loss(output, self._as_given(y, output))

    def step(self, x: Inputs, y: Tensor) -> float:
        """Take one optimiser step on a minibatch; return the loss before the step."""
        y = self.change_targets(y)

        def closure() -> Tensor:
            self.optimizer.zero_grad()
            loss = self.loss(self.output(x), y)
            if not loss.isfinite():
                self._fail(failure_of(self, x, y), x)
            loss.backward()
            self._fail(gradient_failure(self.model), x)
            if self.clip_norm is not None:
                nn.utils.clip_grad_norm_(self.model.parameters(), self.clip_norm)
            return loss

        with users_code(f"a step of {type(self.optimizer).__name__} fails"):
            loss = float(self.optimizer.step(closure).detach())
        if self.scheduler is not None:
            said = f"a step of {type(self.scheduler).__name__} fails"
            with users_code(said), warnings.catch_warnings():  # a copy of an optimiser counts none
                warnings.simplefilter("ignore")
                self.scheduler.step()
        return loss

    def _fail(self, failure: Failure | None, x: Inputs) -> None:
        """Store a failure and its inputs, unless an earlier one is stored."""
        if failure is not None and self.failure is None:
            self.failure = failure, x

    @torch.no_grad()
    def answers(self, inputs: list[Inputs], *, by_minibatch: bool = False) -> list[Tensor]:
        """Return the outputs for each of the inputs in evaluation mode, on the scale of the user's
        targets.

        by_minibatch: layers with running averages use the statistics of each minibatch instead, as
        in training mode. Their averages change.
        """
        training = self.model.training
        self.model.eval()
        for layer in averaging_layers(self.model) if by_minibatch else ():
            layer.train()
        try:
            return [self.restore_outputs(self.output(x)) for x in inputs]
        finally:
            self.model.train(training)


def averaging_layers(model: nn.Module) -> list[nn.Module]:
    """Return the modules with buffers of floats, such as the running averages of nn.BatchNorm1d."""
    kept = ((layer, layer.buffers(recurse=False)) for layer in model.modules())
    return [layer for layer, values in kept if any(v.is_floating_point() for v in values)]


def as_training(
    model: nn.Module | Training,
    x: Any,
    y: Any,
    loss_fn: Any,
    optimizer: Any,
    *,
    steps: int | None,
    loading_seconds: float,
    **parts: Any,
) -> Training:
    """Return a copy of a `Training`, or make a `Training` from its parts.

    Raises InvalidInputError if a `Training` is given together with parts, or if the parts do not
    fit together.
    """
    if not isinstance(model, Training):
        length = STEPS if steps is None else steps
        return Training(
            model,
            x,
            y,
            loss_fn,
            optimizer,
            steps=length,
            loading_seconds=loading_seconds,
            **parts,
        )
    if x is not None or y is not None or parts:
        raise InvalidInputError(
            "a Training has its own data and options: give only it, steps and seconds"
        )
    training = model.copy()
    training.steps = training.steps if steps is None else whole_number("steps", steps)
    return training


def name_of(model: nn.Module | Training) -> str:
    """Return the class name of a network."""
    return type(uncompiled(model.model if isinstance(model, Training) else model)).__name__


def check_model(model: Any) -> None:
    """Raise InvalidInputError unless the model is a module with finite weights of known sizes."""
    if not isinstance(model, nn.Module):
        raise InvalidInputError(f"the model is {kind_of(model)}, expected a torch.nn.Module")
    if any(isinstance(p, nn.parameter.UninitializedParameter) for p in model.parameters()):
        raise InvalidInputError(
            f"{type(model).__name__} has weights of no size yet: run it once before"
        )
    if isinstance(model, torch.jit.ScriptModule):
        raise InvalidInputError(
            "a scripted module cannot be copied: give it as it was before torch.jit.script"
        )
    if any(p.is_meta for p in model.parameters()):
        raise InvalidInputError(
            f"{type(model).__name__} has weights on the meta device, without numbers: "
            "build it on a device"
        )
    if next(model.parameters(), None) is None:
        raise InvalidInputError(f"{type(model).__name__} has no parameters: nothing can be trained")
    check_weights(uncompiled(model))


def stacks_examples(batches: Any) -> bool:
    """True for a DataLoader that stacks examples along axis 0, which is the default."""
    return isinstance(batches, DataLoader) and batches.collate_fn is default_collate
