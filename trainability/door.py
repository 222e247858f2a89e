"""The door: what a user gives is checked once, and comes back as a run that can be restored.

    with opened_run(model, x, y, loss_fn, optimizer, steps=400) as own:
        own.run, own.saved              # the `TrainingRun`, and the `Snapshot` of its state

Errors of the user's own code are one sentence: what was tried, and the first line of the error.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any, TypedDict, get_type_hints

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.utils.data import DataLoader

from rhn.errors import InvalidInputError, UsersCodeError
from rhn.utils.torch_private import tree_leaves, tree_map
from rhn.utils.validation import in_short, number, whole_number
from trainability.changes import Known
from trainability.data import LEAST, Data, read_examples
from trainability.layout import AxisOrder, Layout, with_outputs
from trainability.races import Race, race_of
from trainability.scores import main_output, score_of
from trainability.snapshot import Snapshot, restored, seed_all
from trainability.training import FAILS, TrainingRun, differs, model_output, raised_by


class TrainingOptions(TypedDict, total=False):
    """The keywords of `check`, `cure` and `assert_learns` beside the steps."""

    batch_size: int
    clip_norm: float | None
    scheduler: Any
    predict: Callable[[Any], Tensor] | None
    batch_axis: int
    shuffle: bool
    validation: tuple[Any, Tensor] | None
    seed: int


@dataclass(frozen=True)
class Opened:
    """A training run that has been checked."""

    run: TrainingRun
    saved: Snapshot
    steps: int
    seed: int

    def race(self, known: Known, steps: int) -> Race:
        """Return a race of its rows."""
        self.saved.restore()
        return race_of(self.run, self.saved, known, steps, self.seed)


@contextmanager
def opened_run(
    model: Any,
    x: Any,
    y: Any,
    loss_fn: Any,
    optimizer: Any,
    *,
    steps: int = 1000,
    batch_size: int = 32,
    clip_norm: float | None = None,
    scheduler: Any = None,
    predict: Any = None,
    batch_axis: int = 0,
    shuffle: bool = True,
    validation: Any = None,
    seed: int = 0,
) -> Iterator[Opened]:
    """Context manager: check all arguments, and yield the run; at the end everything is restored.
    Raises InvalidInputError.
    """
    check_parts(
        model,
        loss_fn,
        optimizer,
        steps=steps,
        batch_size=batch_size,
        clip_norm=clip_norm,
        batch_axis=batch_axis,
        predict=predict,
    )
    seed = whole_number("seed", seed, 0)
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    loader = x if isinstance(x, DataLoader) else None
    with restored(model, loss_fn, optimizer, scheduler, predict, loader) as saved:
        data = read_examples(
            x,
            y,
            batch_size=batch_size,
            axis=batch_axis,
            shuffle=shuffle,
            validation=validation,
            seed=seed,
            device=device,
        )
        try_step(model, loss_fn, optimizer, scheduler, data)
        saved.restore()
        refuse_kept_state(model, data)
        saved.restore()
        data = replace(data, layout=layout_with_outputs(model, data, predict))
        saved.restore()
        score = score_of(lambda x: users_output(model, data, x), data, loss_fn, predict)
        saved.restore()
        run = TrainingRun(
            model=model,
            loss_fn=loss_fn,
            optimizer=optimizer,
            scheduler=scheduler,
            data=data,
            score=score,
            clip_norm=clip_norm,
            predict=predict,
            shuffle=data.shuffle,
            last=score.last,
        )
        yield Opened(run, saved, steps, seed)


def check_parts(
    model: Any,
    loss_fn: Any,
    optimizer: Any,
    *,
    steps: Any,
    batch_size: Any,
    clip_norm: Any,
    batch_axis: Any,
    predict: Any,
) -> None:
    """Raise InvalidInputError unless the parts of a training run are of the right kind."""
    for name, part, kind, expected in (
        ("model", model, nn.Module, "a module of torch"),
        ("loss_fn", loss_fn, Callable, "a function loss_fn(output, y) that returns one number"),
        ("optimizer", optimizer, torch.optim.Optimizer, "one optimizer of torch.optim"),
        ("predict", predict, Callable | None, "a function of the output of the model"),
    ):
        if not isinstance(part, kind):  # type: ignore[arg-type]
            raise InvalidInputError(f"{name} is {in_short(part)}: expected {expected}")
    if any(is_lazy(t) for t in (*model.parameters(), *model.buffers())):
        raise InvalidInputError("model has weights without a size: expected it after a first call")
    if any(weight.is_meta for weight in model.parameters()):
        raise InvalidInputError("device of model is meta: expected weights with numbers")
    if isinstance(optimizer, torch.optim.LBFGS):
        raise InvalidInputError("optimizer is LBFGS: expected one that steps without a closure")
    whole_number("steps", steps)
    whole_number("batch_size", batch_size)
    whole_number("batch_axis", batch_axis, 0, 1)
    if clip_norm is not None:
        number("clip_norm", clip_norm, above=0)


def try_step(model: nn.Module, loss_fn: Any, optimizer: Any, scheduler: Any, data: Data) -> None:
    """Raise UsersCodeError unless the model, its loss, the optimiser and the scheduler step."""
    x, y, _ = data.first_minibatch()
    x, y = data.layout.to_model(x), data.layout.to_loss(y)
    shapes = [tuple(leaf.shape) for leaf in tree_leaves(x)]
    tried = f"model(x) for x of shapes {shapes}"
    try:
        output = model_output(model, x)
        tried = "loss_fn(output, y)"
        loss = loss_fn(output, y)
        if not isinstance(loss, Tensor) or loss.numel() != 1:
            raise UsersCodeError(f"loss_fn returned {in_short(loss)}: expected one number")
        tried = "loss.backward()"
        loss.backward()
        tried = "optimizer.step()"
        optimizer.step()
        if scheduler is not None:
            tried = "scheduler.step()"
            scheduler.step()
    except UsersCodeError:
        raise
    except Exception as error:
        raise raised_by(tried, error) from error


@torch.no_grad()
def refuse_kept_state(model: nn.Module, data: Data) -> None:
    """Raise InvalidInputError if two calls of the model with the same x differ."""
    x, _, _ = data.first_minibatch()
    model.eval()
    outputs = list[list[Tensor]]()
    for _ in range(2):
        seed_all(0)
        output = users_output(model, data, x)
        outputs.append([t.clone() for t in tree_leaves(output) if isinstance(t, Tensor)])
    if any(bool(differs(one, other).any()) for one, other in zip(*outputs, strict=True)):
        raise InvalidInputError(
            "two calls of the model with the same x differ: expected no state that is kept between "
            "minibatches"
        )


def users_output(model: nn.Module, data: Data, x: Any) -> Any:
    """Return what the model returns for x with examples along axis 0."""
    return model_output(model, data.layout.to_model(x))


@torch.no_grad()
def layout_with_outputs(model: nn.Module, data: Data, predict: Any) -> Layout:
    """Return the layout of the data, with the orders of axes in outputs of the model."""
    if data.layout.inputs[0] is AxisOrder.EXAMPLES_FIRST:
        return data.layout
    model.eval()
    x, _, rows = data.first_minibatch()
    fewer = None
    if len(rows) > 1:
        with suppress(*FAILS):  # a model may need a number of examples
            fewer = main_and_predicted(model, data, tree_map(lambda t: t[:-1], x), predict)
    return with_outputs(data.layout, x, main_and_predicted(model, data, x, predict), fewer)


def main_and_predicted(model: nn.Module, data: Data, x: Any, predict: Any) -> tuple[Tensor, Tensor]:
    """Return the main output of the model for x, and what is compared with y."""
    output = users_output(model, data, x)
    predicted = (predict or main_output)(output)
    return output if isinstance(output, Tensor) else predicted, predicted


def refuse_few(data: Data) -> None:
    """Raise InvalidInputError if errors are on the training examples."""
    if not data.has_held_out:
        raise InvalidInputError(
            f"x has {data.count} examples, {data.distinct} of them distinct: expected at least "
            f"{LEAST} that can be held out and as many others, or validation=(x, y)"
        )


def refuse_unknown(function: str, how: Mapping[str, Any]) -> None:
    """Raise InvalidInputError unless all are keywords of a training run."""
    known = get_type_hints(TrainingOptions)
    for name in how:
        if name not in known:
            expected = ", ".join(known)
            raise InvalidInputError(f"{function} has no argument {name}: expected {expected}")
