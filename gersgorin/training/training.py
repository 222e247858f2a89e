"""`Training`: model, data, loss and, if it is trained, optimiser, clipping and learning-rate
schedule; the best constant output.

    training = Training(model, x, y, loss_fn, torch.optim.Adam(model.parameters(), lr=1e-3))
    training.loss(model, *training.data.take(torch.arange(32)))    # the loss of 32 examples

Nothing that was given is changed: model, optimiser and scheduler are copied, and random states are
restored.

Legend: N examples, T frames, B sequences, K output units.
"""

import copy
import math
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Mapping
from contextlib import ExitStack, nullcontext
from functools import partial
from typing import Any, TypedDict

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from gersgorin._validate import (
    check_order,
    check_weights,
    random_numbers_kept,
    uncompiled,
    users_code,
    with_gradients,
)
from gersgorin.checking.causes.cause import Cause, PreventedError, prevented
from gersgorin.loading.find_cell import step_hint
from gersgorin.training.activation import Activation, last_activation, states_of
from gersgorin.training.losses import (
    Loss,
    NegativeLossError,
    least_constant,
    misfit,
    short_of_frames,
    target_loss,
)
from gersgorin.training.minibatches import (
    BATCH_SIZE,
    Batches,
    Examples,
    Inputs,
    Pair,
    find_batch_axis,
    inputs_of,
    numbers_like,
    sequence_of,
    unit_axes,
)
from gersgorin.training.optimizer import above_zero, optimizer_of, rates_of, scheduler_of, times
from rhn.errors import InvalidInputError
from rhn.training.ensemble import flushed
from rhn.training.state import LEFT
from rhn.utils.validation import check_seed
from rhn.utils.wording import in_short

Goal = tuple[torch.Size, Tensor]  # of the outputs for a minibatch, and its targets
MOST_STEPS = 10**9  # of a training
CYCLED = ("momentum", "betas")  # of a group, which a scheduler may change beside the learning rate
FREE_ROUNDS = 4  # of the search for an output whose loss is lower
# of a round, along the gradient divided by its largest entry
STEPS = [10.0**k for k in range(-6, 4)]
SLOW = 2.0  # times that subnormal numbers lengthen a step, at least, to be reported
BROADCAST = "Using a target size"  # beginning of torch's warning for shapes that differ
MOST_SHIFT = 1e4  # times the first loss
FLOORS, SETTLED = 16, 1e-2  # minibatches; slope of a least loss, relative to losses
NOTHING = 1e-5  # of the loss of a zero output: a constant output with less is right already


class TrainingOptions(TypedDict, total=False):
    """Further parts of a training, see `Training`."""

    learning_rate: float | None
    clip_norm: float | None
    scheduler: Any
    batch_size: int
    batch_axis: int | None
    predict: Callable[[Any], Tensor] | None


class Training:
    """Everything that a training uses; `model`, `optimizer` and `scheduler` are copies that belong
    together.

    Args:
        model: any module, called as model(x), or as model(*x) or model(**x) for several inputs.
        x, y: inputs and targets, tensors of all examples, or a tuple or dictionary of such inputs,
            the sequence first; or as x a DataLoader, read in its own order, and no y. Its batches
            are (x, y), (x, further inputs, y), ((x, further inputs), y), or dictionaries with
            targets named y, target, targets, label or labels.
        loss_fn: loss_fn(output, y) -> a scalar; or "mse", "cross-entropy", "bernoulli", which read
            y (N,) as (N, 1) for outputs (N, 1).
        optimizer: of `torch.optim`, on parameters of the model; or "sgd", "adam", "adamw",
            "rmsprop" with a learning_rate. None: no step can be taken.
        learning_rate: of an optimiser given by name.
        batch_size: of the minibatches drawn from tensors.
        batch_axis: axis of the examples in x and y, 0 with batch_first=True; None: found by
            changing one example.
        clip_norm: largest gradient norm, as in `torch.nn.utils.clip_grad_norm_`; None: no clipping.
        scheduler: a learning-rate scheduler of the optimiser that is stepped after each step; None:
            a constant learning rate.
        loading_seconds: most time for reading batches of a DataLoader.
        predict: takes the prediction, a tensor, from what the model returns; None: that, its
            `logits`, or the first entry of a tuple.

    Raises:
        InvalidInputError or DataError: these parts do not make a training; the message says which.
    """

    shift: float = 0.0
    """Added to the loss, so that it does not fall below 0; see `with_positive_loss`."""

    def __init__(
        self,
        model: nn.Module,
        x: Any,
        y: Any = None,
        loss_fn: str | Loss = "mse",
        optimizer: str | Optimizer | None = None,
        *,
        learning_rate: float | None = None,
        batch_size: int = BATCH_SIZE,
        batch_axis: int | None = None,
        clip_norm: float | None = None,
        scheduler: Any = None,
        loading_seconds: float = math.inf,
        predict: Callable[[Any], Tensor] | None = None,
    ):
        check_order(
            "the order (model, x, y, loss_fn, optimizer)",
            model=model,
            x=x,
            y=y,
            loss_fn=loss_fn,
            optimizer=optimizer,
        )
        if not isinstance(model, nn.Module):
            raise InvalidInputError(f"the model is {in_short(model)}, expected a torch.nn.Module")
        self.compiled, model = model is not uncompiled(model), uncompiled(model)
        if any(isinstance(p, nn.parameter.UninitializedParameter) for p in model.parameters()):
            raise InvalidInputError(
                f"{type(model).__name__} has weights of no size yet: run it once before"
            )
        check_weights(model)
        self.predict = predict or output_of
        self.clip_norm = None if clip_norm is None else above_zero("clip_norm", clip_norm)
        if optimizer is not None:
            optimizer = optimizer_of(model, optimizer, learning_rate, scheduler is not None)
        self.rates = [] if optimizer is None else rates_of(optimizer, scheduler is not None)
        parts = model, optimizer, scheduler_of(scheduler, optimizer), target_loss(loss_fn)
        self.model, self.optimizer, self.scheduler, self._loss = _copied(*parts)
        self._ahead = copy.deepcopy(self.scheduler, {id(p): p for p in self.model.parameters()})
        self._scheduled: list[list[dict[str, Any]]] = []
        with random_numbers_kept(model), with_gradients():
            like = next(self.model.parameters())
            self.data: Batches | Examples = (
                Batches(x, like, loading_seconds)
                if y is None
                else self._examples(x, y, like, batch_size, batch_axis)
            )
            self._shapes: dict[torch.Size | None, torch.Size] = {}
            self.before: Activation | None = None  # through which constant outputs go
            self.middle: Tensor | None = None  # the mean output of a minibatch before training
            if optimizer is not None:
                self.units = unit_axes(
                    partial(self.output, copy.deepcopy(self.model)), *self.data.minibatches(1)[0]
                )
                self._try(model)

    def _examples(
        self, x: Any, y: Any, like: Tensor, batch_size: int, axis: int | None
    ) -> Examples:
        x, y = inputs_of(x, like), numbers_like("y", y, like)
        if axis is None:
            model = copy.deepcopy(self.model).eval()  # batch normalisation would mix the examples
            axis = find_batch_axis(partial(self.output, model), x, y, self._stated)
        return Examples(x, y, batch_size, axis)

    @property
    def _stated(self) -> set[bool]:
        """The layouts that parts of the model state."""
        known = (getattr(part, "batch_first", None) for part in self.model.modules())
        return {stated for stated in known if isinstance(stated, bool)}

    @property
    def parameters(self) -> dict[str, Tensor]:
        """The trained parameters of the copy by name; their values may be changed."""
        return {name: p for name, p in self.model.named_parameters() if p.requires_grad}

    @property
    def learning_rate(self) -> float:
        """Of the first group of parameters that moves; the one that a scheduler multiplies."""
        return next(filter(None, self.rates))

    @property
    def frame_axis(self) -> int | None:
        """Axis of the steps of a sequence in x; None if x has none, or the layout of a DataLoader
        is not known.
        """
        stated = self._stated
        axis = getattr(self.data, "axis", None if len(stated) != 1 else 1 - stated.pop())
        return None if axis is None or sequence_of(self.data.probe()[0]).dim() < 2 else 1 - axis

    def output(self, model: Callable[..., Any], x: Inputs) -> Tensor:
        """The prediction of a model, called as model(x), model(*x) or model(**x). Raises
        InvalidInputError with what it raised.
        """
        in_order, by_name = (
            ((), x) if isinstance(x, dict) else (x if isinstance(x, tuple) else (x,), {})
        )
        shapes = ", ".join(str(tuple(value.shape)) for value in (*in_order, *by_name.values()))
        # cuDNN's recurrences have no gradient in evaluation mode
        training = getattr(model, "training", True)
        with (
            users_code(
                f"the model does not run on x of shape {shapes}",
                step_hint(model) if isinstance(x, Tensor) else "",
            ),
            nullcontext() if training else torch.backends.cudnn.flags(enabled=False),
        ):
            output = self.predict(model(*in_order, **by_name))
        if not isinstance(output, Tensor):
            raise InvalidInputError(
                f"predict returned a {type(output).__name__}, expected the prediction as a tensor"
            )
        return output

    def changed_output(
        self, model: nn.Module, x: Tensor, change: Callable[[Tensor], Tensor]
    ) -> Tensor:
        """The prediction for changed numbers x; of symbols what embeddings make of them is
        changed.
        """
        if x.is_floating_point():
            return self.output(model, change(x))
        fits = lambda made: made.shape[: x.dim()] == x.shape  # noqa: E731
        with ExitStack() as hooks:
            for part in model.modules():
                if isinstance(part, nn.Embedding):
                    hook = lambda part, given, made: change(made) if fits(made) else made  # noqa: E731
                    hooks.enter_context(part.register_forward_hook(hook))
            return self.output(model, x)

    @torch.no_grad()
    def reads(self, model: nn.Module, x: Tensor, frame: int, axis: int) -> Tensor:
        """True for each number of the prediction that reads a frame: NaN in its place pass on,
        whatever the weights are.
        """
        where = torch.tensor(frame, device=x.device)
        return self.changed_output(
            model, x, lambda made: made.index_fill(axis, where, math.nan)
        ).isnan()

    def output_of_leaves(self, model: nn.Module, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """(The prediction, x as leaves of its graph); of symbols the leaves are what embeddings
        make of them.
        """
        leaves: list[Tensor] = []

        def leaf(x: Tensor) -> Tensor:
            leaves.append(x.detach().requires_grad_())
            return leaves[-1].clone()  # which the model may change in place

        return self.changed_output(model, x, leaf), leaves

    def loss_fn(self, output: Tensor, y: Tensor) -> Tensor:
        """The loss of an output. Raises InvalidInputError with what it raised, and the fault of
        output or targets.
        """
        said = (
            f"loss_fn(output, y) fails for an output {tuple(output.shape)} and y {tuple(y.shape)}"
        )
        with users_code(said, lambda: misfit(self._loss, output, y)):
            loss = self._loss(output, y)
        return loss + self.shift if self.shift else loss

    def loss(self, model: Callable[..., Any], x: Inputs, y: Tensor) -> Tensor:
        """Loss of one minibatch, a scalar with its graph."""
        return self.loss_fn(self.output(model, x), y)

    def step(
        self, model: nn.Module, optimizer: Optimizer, x: Inputs, y: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Take a step of a copy on a minibatch; returns (output without its graph, loss) before
        it.
        """
        optimizer.zero_grad()
        given = self.output(model, x)
        # which may change the output in place
        output, loss = given.detach().clone(), self.loss_fn(given, y)
        loss.backward()
        if self.clip_norm is not None:
            nn.utils.clip_grad_norm_(model.parameters(), self.clip_norm)
        with users_code(f"{type(optimizer).__name__} takes no step without a closure"):
            optimizer.step()
        return output, loss

    def copied(
        self, model: nn.Module, parameters: dict[str, Tensor], factor: float = 1.0
    ) -> Optimizer:
        """A fresh optimiser on other tensors in the place of the model's parameters, its learning
        rates multiplied by a factor.
        """
        place = {
            id(p): parameters[name] for name, p in model.named_parameters() if name in parameters
        }
        fresh = copy.deepcopy(self.optimizer, place)
        for group, rate in zip(fresh.param_groups, self.rates, strict=True):
            group["lr"] = times(rate, factor)
            group.pop("initial_lr", None)  # which a new scheduler would take
        return fresh

    def changed(self, **parts: Any) -> "Training":
        """The same training with other parts, by the names of its attributes; another model has a
        fresh optimiser.
        """
        other = copy.copy(self)
        if "model" in parts:
            other.optimizer = self.copied(self.model, dict(parts["model"].named_parameters()))
        vars(other).update(parts)
        return other

    def with_loss_in_double(self) -> "Training":
        """The same training with the buffers of its loss in double precision, such as weights of
        classes.
        """
        loss = self._loss
        return (
            self.changed(_loss=copy.deepcopy(loss).double())
            if isinstance(loss, nn.Module)
            else self
        )

    def with_positive_loss(self, act: Callable[["Training"], Any]) -> Any:
        """act(this training); again with a number added to its loss, as long as that raises
        NegativeLossError.

        So shares of it can be taken; no gradient changes. Raises PreventedError for a loss that
        falls without end.
        """
        loop, size = self, max(abs(self.first_loss), 1e-30)
        while True:
            try:
                return act(loop)
            except NegativeLossError as error:
                floor = self._floor() if loop is self else -math.inf
                far = max(abs(error.loss), abs(error.constant), NOTHING * size)
                size, more = (
                    max(size, far) if loop is self else size,
                    (2 if loop is self else 4) * far,
                )
                known = math.isfinite(floor) and -floor > loop.shift
                shift = -floor if known else loop.shift + more
                if shift > MOST_SHIFT * size and not known:
                    raise without_end(self.first_loss, error.loss - loop.shift) from error
                loop = self.changed(shift=shift, first_loss=self.first_loss + shift)

    @with_gradients()
    def _floor(self) -> float:
        """The least mean loss, on some minibatches, of outputs that are free for each example; -inf
        if there is none.
        """
        found = []
        for shape, y in self.goals(self.data.minibatches(FLOORS)):
            mean_loss = lambda z, shape=shape, y=y: self.constant_loss(z, shape, y)  # noqa: E731
            free, _, least = least_constant(mean_loss, self.units.new_zeros(shape))
            (slope,) = torch.autograd.grad(mean_loss(free.requires_grad_()), free)
            if not abs(float((slope * free.detach()).sum())) < SETTLED * (
                abs(self.first_loss) + abs(least)
            ):
                return -math.inf
            found.append(least)
        return sum(found) / len(found)

    def scheduled(self, step: int) -> list[dict[str, Any]]:
        """The settings of the scheduler in each group before a step, from 0; learning rates are
        relative to those of the trials.

        Raises InvalidInputError if the scheduler fails.
        """
        optimizer, rows = self._ahead.optimizer, self._scheduled
        # the scheduler is stepped without its optimiser
        with warnings.catch_warnings(action="ignore"):
            while len(rows) <= step:
                if rows:
                    with users_code(f"the scheduler fails at step {len(rows)}"):
                        self._ahead.step()
                rows.append([])
                for group, rate in zip(optimizer.param_groups, self.rates, strict=True):
                    cycled = {name: group[name] for name in CYCLED if name in group}
                    rows[-1].append({"lr": float(group["lr"]) / (rate or 1.0)} | cycled)
        return rows[step]

    @with_gradients()
    def constant_output(self, goals: list[Goal]) -> tuple[Tensor, float]:
        """(The constant output of the least mean loss on some minibatches, that loss), reached
        without the input.

        The constant has one number for each output unit, and length 1 along the axes of examples
        and frames. goals: see `goals`. If the loss takes only what the last activation gives, such
        as probabilities, it is the constant before that activation.

        Raises InvalidInputError if that output is right already, no output is 2 % better, or the
        loss has no least value above 0.
        """
        try:
            return self._constant_output(goals)
        except InvalidInputError:
            if self.activation is None or self.before is not None:
                raise
            self.before = self.activation
            return self._constant_output(goals)

    def _constant_output(self, goals: list[Goal]) -> tuple[Tensor, float]:
        constant, zero, loss = self.least_constant(goals)
        if not math.isfinite(zero):  # of some examples
            losses = (
                self.constant_loss(self.units.clone().requires_grad_(), *goal) for goal in goals
            )
            if short := next(filter(None, map(short_of_frames, losses)), None):
                raise prevented("too few frames", *short)
        if math.isfinite(zero) and not math.isfinite(loss):
            raise without_end(zero, loss)
        if loss < -NOTHING * abs(zero):
            raise NegativeLossError(loss, loss)
        if not loss > NOTHING * abs(zero):
            raise InvalidInputError(
                f"the loss of the best constant output is {loss:.3g} (of zeros: {zero:.3g}), "
                "expected a number well above 0: the "
                "targets are all the same, or the loss has no least value"
            )
        shape, y = goals[0]
        output, _, own = self.least_constant(goals[:1])
        output = output.expand(shape)
        for _ in range(FREE_ROUNDS):
            output = output.detach().clone().requires_grad_()
            (slope,) = torch.autograd.grad(self.constant_loss(output, shape, y), output)
            others = [
                output.detach() - step * slope / slope.abs().max().clamp_min(1e-30)
                for step in STEPS
            ]
            heights = [self.constant_loss(o, shape, y).nan_to_num(math.inf).item() for o in others]
            least, output = min(zip(heights, others, strict=True), key=lambda pair: pair[0])
            if least <= LEFT * own:
                return constant, loss
        raise InvalidInputError(
            f"no output has a loss below {LEFT:g} of the best constant output's ({least:.6g} "
            "on a minibatch): subtract "
            "the part that does not depend on the output, and give y a shape that needs no "
            "broadcasting"
        )

    def least_constant(self, goals: list[Goal]) -> tuple[Tensor, float, float]:
        """(The constant output of the least mean loss, the loss of zeros, the least loss)."""
        mean_loss = lambda output: torch.stack(
            [self.constant_loss(output, *goal) for goal in goals]
        ).mean()  # noqa: E731
        found = least_constant(mean_loss, self.units)
        if math.isfinite(found[1]) or self.middle is None:
            return found
        return least_constant(mean_loss, self.middle)  # of a loss that takes some outputs only

    def constant_loss(self, constant: Tensor, shape: torch.Size, y: Tensor) -> Tensor:
        """Loss of a constant output on a minibatch whose outputs have this shape."""
        output = constant.expand(shape).clone()
        output = output if self.before is None else self.before.of(output)
        return self.loss_fn(output, y).reshape(())

    @torch.no_grad()
    def goals(self, batches: list[Pair]) -> list[Goal]:
        """The shape of the model's output for each minibatch, which for a single input depends on
        its shape alone, and the targets.
        """
        found, model = [], copy.deepcopy(self.model)  # normalisations count their calls
        with random_numbers_kept(self.model):
            for x, y in batches:
                shape = x.shape if isinstance(x, Tensor) else None
                if shape is None or shape not in self._shapes:
                    self._shapes[shape] = self.output(model, x).shape
                found.append((self._shapes[shape], y))
        return found

    def _try(self, given: nn.Module) -> None:
        """Take steps with a copy, with and without subnormal numbers. Raises InvalidInputError with
        what the parts of the loop raised.

        given: the original model, which the loss of a copy must not use.
        """
        x, y = self.data.minibatches(1)[0]
        model = copy.deepcopy(self.model)
        with warnings.catch_warnings(record=True) as heard, states_of(model) as states:
            warnings.simplefilter("always")
            output = self.output(model, x)
            loss = self.loss_fn(output, y)
        if any(BROADCAST in str(warning.message) for warning in heard):
            raise prevented(
                "unpaired loss",
                "The loss compares each output with each target: outputs have shape "
                f"{tuple(output.shape)}, y has {tuple(y.shape)}.",
                f"Give y the shape {tuple(output.shape)}: y = y.unsqueeze(-1), or squeeze "
                "the output.",
            )
        if not isinstance(loss, Tensor) or loss.numel() != 1 or not loss.is_floating_point():
            what = (
                f"{loss.dtype} of shape {tuple(loss.shape)}"
                if isinstance(loss, Tensor)
                else type(loss).__name__
            )
            raise InvalidInputError(
                f"loss_fn(output, y) returned {what}, expected a real scalar: take its mean"
            )
        reads = loss.requires_grad and output.requires_grad
        if (
            not reads
            or torch.autograd.grad(loss, output, allow_unused=True, retain_graph=True)[0] is None
        ):
            raise prevented("no gradient", *_cut(model, output))
        self.first_loss, self.activation = loss.item(), last_activation(output, states)
        self.middle = output.detach().mean(
            [a for a, n in enumerate(self.units.shape) if n == 1], keepdim=True
        )
        if not math.isfinite(self.first_loss):
            bad = int((~torch.isfinite(output)).sum())
            if not bad and (short := short_of_frames(loss)):
                raise prevented("too few frames", *short)
            where = (
                f"{bad} of {output.numel()} outputs of the untrained network are"
                if bad
                else "the outputs are finite: the loss is"
            )
            raise prevented(
                "not finite",
                f"The loss of the first minibatch is {self.first_loss}; {where} NaN or infinite.",
                "Draw smaller weights, or scale the inputs."
                if bad
                else "Look for a log or root of 0, or a division by 0, in the loss.",
            )
        originals = [p for p in (*given.parameters(), *self.model.parameters()) if p.requires_grad]
        if any(
            g is not None
            for g in torch.autograd.grad(loss, originals, allow_unused=True, retain_graph=True)
        ):
            raise InvalidInputError(
                "the loss reads the parameters of the model beside its output, which a copy of "
                "it does not have: of a penalty use "
                "weight_decay of the optimiser; a loss with trained weights, such as a CRF, is "
                "not taken"
            )
        self._time_steps(model, x, y)

    def _time_steps(self, model: nn.Module, x: Inputs, y: Tensor) -> None:
        """Measure the seconds of a step, and how many times as long it takes with subnormal numbers
        as the caller has set them.
        """
        optimizer = self.copied(self.model, dict(model.named_parameters()))
        seconds: dict[bool, list[float]] = {False: [], True: []}
        for flush in (True, True, False, True, False):  # the first one is slow for other reasons
            with flushed() if flush else nullcontext():
                start = time.thread_time(), time.perf_counter()
                self.step(model, optimizer, x, y)
                seconds[flush].append(time.thread_time() - start[0])
            if flush:
                self.step_seconds = time.perf_counter() - start[1]
            elif (ratio := min(seconds[False]) / max(min(seconds[True]), 1e-9)) < SLOW:
                break
        self.slowed = ratio if ratio >= SLOW else None


def output_of(output: Any) -> Tensor:
    """The output of a module that returns it alone, as `logits`, or first in a tuple (output,
    state).
    """
    output = getattr(output, "logits", output)
    while isinstance(output, tuple | list) and output:
        output = output[0]
    if not isinstance(output, Tensor):
        raise InvalidInputError(
            f"model(x) returned {type(output).__name__}, expected a tensor or a tuple that "
            "begins with one"
        )
    return output


def output_bias_of(parameters: Mapping[str, Tensor], outputs: Tensor) -> str | None:
    """The parameter that is added to every output (..., K): its gradient is the sum of the outputs'
    own, whatever that is.
    """
    likely = {name: p for name, p in parameters.items() if p.shape == outputs.shape[-1:]}
    if not likely or outputs.dim() < 2 or not outputs.requires_grad:
        return None
    slope = torch.randn(
        outputs.shape, generator=torch.Generator().manual_seed(0), dtype=outputs.dtype, device="cpu"
    ).to(outputs)
    found = torch.autograd.grad((outputs * slope).sum(), list(likely.values()), allow_unused=True)
    total = slope.flatten(0, -2).sum(0)
    tolerance = (1e-5, 1e-8) if outputs.dtype == torch.float64 else (1e-3, 1e-4)
    agrees = (g is not None and torch.allclose(g, total, *tolerance) for g in found)
    return next((name for name, same in zip(likely, agrees, strict=True) if same), None)


def without_end(first: float, last: float) -> PreventedError:
    """The error of a loss that falls without end."""
    return PreventedError(
        Cause(
            "no least loss",
            "The loss has no least value: large outputs take it "
            + (
                f"from {first:.3g} to {last:.3g} and beyond."
                if math.isfinite(last)
                else "below any number."
            ),
            "Check the order of its arguments (output, target), that it gets log-probabilities "
            "or probabilities if it expects these, "
            "and that no output can go to 0 that it divides by.",
            {"first": first, "last": last},
        )
    )


def _cut(model: nn.Module, output: Tensor) -> tuple[str, str]:
    """(Where the graph of a loss without a gradient ends, what to do)."""
    if output.requires_grad:
        return (
            "The loss has no gradient in the outputs: no weight moves.",
            "Compute it from the outputs by operations of torch, without argmax, round, "
            ".detach(), .item() or .numpy().",
        )
    if not any(p.requires_grad for p in model.parameters()):
        return (
            "No parameter of the model requires a gradient: no weight moves.",
            "Remove requires_grad_(False).",
        )
    return (
        "The outputs have no gradient in any weight of the model: no weight moves.",
        "Remove torch.no_grad(), .detach(), .data, argmax or round from its forward.",
    )


def _copied(model: nn.Module, optimizer: Optimizer | None, *others: Any) -> tuple[Any, ...]:
    """Copies of a model, of its optimiser with an empty state, on the copy's parameters, and of a
    scheduler and a loss on these.
    """
    with (
        users_code(f"{type(model).__name__}, its optimiser or its loss cannot be copied"),
        torch.inference_mode(False),
    ):
        empty: dict = {} if optimizer is None else {id(optimizer.state): defaultdict(dict)}
        return copy.deepcopy((model, optimizer, *others), empty)


def check_limits(steps: Any, seconds: Any, seed: Any) -> None:
    """Raise InvalidInputError unless these are a length of a training, a time limit and a seed."""
    above_zero("seconds", seconds)
    check_seed(seed)
    if isinstance(steps, bool) or not isinstance(steps, int) or not 1 <= steps <= MOST_STEPS:
        raise InvalidInputError(
            f"steps is {in_short(steps)}, expected a whole number of at least 1"
        )
