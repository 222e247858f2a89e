"""Find where the first number that is not finite arises: example, operation, module or gradient.

    failure = failure_of(training, x, y)        # None if outputs and loss are finite
    failure.rows, failure.operation             # (3, 17), "div, line 24 of a.py: r = x / m"

Legend: B examples.
"""

import contextlib
import linecache
import math
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from gersgorin.validate import random_numbers_kept
from rhn.errors import USERS_FAULT
from rhn.utils.wording import counted, listed
from trainability.autograd import dense
from trainability.data import in_double

ROOT = Path(__file__).parents[1]
CALLERS = tuple(f"{ROOT / name}{os.sep}" for name in ("trainability", "gersgorin"))
"""Folders of the code that calls the user's model and loss."""
LIBRARIES = (str(Path(torch.__file__).parent), f"{ROOT / 'rhn'}{os.sep}", contextlib.__file__)
"""Code that the user's code calls."""
SCALED_TARGETS = (
    "Standardise each output in y: subtract its mean, divide by its standard deviation, and undo "
    "this after predicting."
)


class Trained(Protocol):
    """The parts of a `Training` that the functions of this module use."""

    model: nn.Module

    def output(self, x: Any) -> Tensor:
        """Return the outputs for inputs x."""

    def loss(self, output: Tensor, y: Tensor) -> Tensor:
        """Return the loss of outputs."""

    def loss_in_double(self) -> Any:
        """Return the loss function in double precision."""

    def output_axes(self, output: Tensor, x: Any, y: Tensor) -> Any:
        """Return the axes of the outputs for a minibatch."""


@dataclass(frozen=True)
class Overflow:
    """A loss that is finite in double precision, of numbers whose squares overflow the type of the
    outputs.
    """

    outputs: float
    """The largest size of an output."""
    targets: float
    """The largest size of a target."""
    loss: float
    """The loss in double precision."""
    kind: str
    """The type of the outputs, such as "float32"."""

    @property
    def of_targets(self) -> bool:
        """True if the targets are larger than the outputs."""
        return self.targets > self.outputs

    @property
    def words(self) -> str:
        """A clause with the largest number and the loss."""
        name, size = ("targets", self.targets) if self.of_targets else ("outputs", self.outputs)
        return (
            f"{name} are up to {size:.2g} in size, and the loss, which is {self.loss:.2g} in "
            f"double precision, is too large for {self.kind}"
        )

    @property
    def remedy(self) -> str:
        """What to do about the largest numbers."""
        return SCALED_TARGETS if self.of_targets else "Lower the learning rate, or clip gradients."


@dataclass(frozen=True)
class Failure:
    """The numbers in a step of a training run that were not finite."""

    where: str
    """The place of these numbers: "weights", "outputs", "loss" or "gradient"."""
    rows: tuple[int, ...] = ()
    """The examples of the minibatch whose outputs are not finite; empty for a loss."""
    count: int = 0
    """B, the number of examples."""
    operation: str = ""
    """The line of code, or the operation, that computed the first number that is not finite."""
    names: tuple[str, ...] = ()
    """Names of the weights that are not finite, or whose gradients are not."""
    overflow: Overflow | None = None
    """The numbers that are too large for the loss; None if the loss is not finite for another
    reason.
    """

    @property
    def part(self) -> str:
        """The part of the training run to which the failure belongs: "inputs" if only some examples
        fail.
        """
        if self.overflow is not None:
            return "targets" if self.overflow.of_targets else "optimizer"
        if self.where == "outputs" and self.rows and 2 * len(self.rows) <= self.count:
            return "inputs"
        return {"weights": "optimizer", "loss": "loss"}.get(self.where, "network")

    @property
    def words(self) -> str:
        """A clause without the examples, such as "the outputs are not finite: the first ..."."""
        if self.where == "weights":
            return (
                f"weights were already NaN or infinite after the step before ({listed(self.names)})"
            )
        if self.where == "gradient":
            return f"the loss is finite, but the gradient of {listed(self.names)} is not"
        begin = "outputs are not finite" if self.where == "outputs" else "the loss is not finite"
        if self.overflow is not None:
            return f"{begin}: {self.overflow.words}"
        return f"{begin}: the first such number comes from {self.operation}"


class _Trace(TorchFunctionMode):
    """Follow numbers that are not finite back to the operation that gave them."""

    def __init__(self, modules: list[str]):
        super().__init__()
        self.modules, self.origins = modules, dict[int, str]()
        self._kept: list[Tensor] = []  # so that no other tensor gets the same identity

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = [t for t in tree_leaves((args, kwargs or {})) if isinstance(t, Tensor)]
        known = next((self.origins[id(t)] for t in given if id(t) in self.origins), None)
        result = func(*args, **(kwargs or {}))
        name = getattr(func, "__name__", "")
        made = [t for t in tree_leaves(result) if isinstance(t, Tensor)]
        if name == "__setitem__" or (name.endswith("_") and not name.endswith("__")):
            made += given[:1]
        bad = [t for t in made if t.is_floating_point() and not t.isfinite().all()]
        for t in bad:
            known = known or described(name, self.modules)
            self.origins.setdefault(id(t), known)
            self._kept.append(t)
        return result


def described(operation: str, modules: list[str]) -> str:
    """Return the line of the user's code that runs now, with its place, and the operation and
    module. The line is left out if torch runs, called by no code of the user's.
    """
    frame: Any = sys._getframe(2)  # the caller of the operation
    while frame is not None and frame.f_code.co_filename.startswith(LIBRARIES):
        frame = frame.f_back
    if frame is not None and frame.f_code.co_filename.startswith(CALLERS):
        frame = None
    inside = f" in self.{modules[-1]}" if modules and modules[-1] else ""
    name = operation.strip("_")
    if frame is None:
        return f"{name}{inside}"
    line = linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip()
    place = f"line {frame.f_lineno} of {Path(frame.f_code.co_filename).name}"
    return f"{name}{inside}, {place}: {line}" if line else f"{name}{inside}, {place}"


@contextmanager
def _traced(model: nn.Module) -> Iterator[_Trace]:
    modules: list[str] = []
    trace = _Trace(modules)

    def leave(*_: Any) -> None:
        modules.pop()

    with ExitStack() as hooks:
        for name, part in model.named_modules():

            def enter(*_: Any, name: str = name) -> None:
                modules.append(name)

            hooks.enter_context(part.register_forward_pre_hook(enter))
            hooks.enter_context(part.register_forward_hook(leave))
        with trace:
            yield trace


@torch.no_grad()
def failure_of(training: Trained, x: Any, y: Tensor) -> Failure | None:
    """Return what is not finite in the outputs or the loss of a minibatch; None if all is
    finite.
    """
    model = training.model
    names = tuple(name for name, p in model.named_parameters() if not p.isfinite().all())
    if names:
        return Failure("weights", names=names)
    with random_numbers_kept(model), _traced(model) as trace:
        output = training.output(x)
        loss = training.loss(output, y) if output.isfinite().all() else output
    operation = trace.origins.get(id(loss), next(iter(trace.origins.values()), "the loss"))
    if not output.isfinite().all():
        axis = training.output_axes(output, x, y).batch
        if axis is None:
            return Failure("outputs", operation=operation)
        by_row = output.movedim(axis, 0)
        bad = ~by_row.reshape(len(by_row), -1).isfinite().all(1)
        rows = tuple(bad.nonzero().flatten().tolist())
        return Failure("outputs", rows, len(bad), operation)
    if loss.isfinite().all():
        return None
    return Failure("loss", operation=operation, overflow=overflow_of(training, output, y))


def overflow_of(training: Trained, output: Tensor, y: Tensor) -> Overflow | None:
    """Return the overflow of a loss that is not finite; None if the loss is not finite in double
    precision either, or the squares of its numbers are no reason.
    """
    try:
        loss = float(training.loss_in_double()(output.double(), in_double(y)))
    except USERS_FAULT:  # of a loss that does not take double precision
        return None
    outputs, targets = float(output.abs().max()), float(y.abs().max())
    if not y.is_floating_point():
        targets = 0.0
    squares = output.numel() * (outputs + targets) ** 2
    if not math.isfinite(loss) or squares < torch.finfo(output.dtype).max:
        return None
    return Overflow(outputs, targets, loss, str(output.dtype).removeprefix("torch."))


def gradient_failure(model: nn.Module) -> Failure | None:
    """Return the failure with the weights whose gradient is not finite; None if all are finite."""
    grads = {n: dense(p.grad) for n, p in model.named_parameters() if p.grad is not None}
    if not grads or nn.utils.get_total_norm(grads.values()).isfinite():
        return None
    names = tuple(name for name, grad in grads.items() if not grad.isfinite().all())
    return Failure("gradient", names=names) if names else None


def shared_by(rows: Tensor, y: Tensor, bad: Tensor) -> str:
    """Return the property that some examples (B, ...) share and no others have; "" if not known.

    >>> rows = torch.tensor([[0.0, 2.0], [1.0, 0.0], [0.0, 3.0]])
    >>> shared_by(rows, torch.ones(3), torch.tensor([True, False, True]))
    'begin with 0'
    """
    flat, targets = rows.reshape(len(rows), -1).double(), y.reshape(len(y), -1).double()
    first = rows[:, 0].reshape(len(rows), -1) if rows.dim() > 1 else flat
    kinds = {
        "begin with 0": (first == 0).all(1),
        "are constant": (flat == flat[:, :1]).all(1),
        "contain a 0": (flat == 0).any(1),
        "contain a number below 0": (flat < 0).any(1),
        "have a target of 0": (targets == 0).any(1),
        "have a target below 0": (targets < 0).any(1),
    }
    if not bad.any() or bad.all():
        return ""
    for words, values in (("hold a number", flat), ("have a target", targets)):
        largest = float(values[~bad].abs().max())
        kinds[f"{words} above {largest:.3g}, which all others do not"] = (
            values.abs().amax(1) > largest
        )
    return next((words for words, has in kinds.items() if torch.equal(has, bad)), "")


def examples_in_words(numbers: list[int], total: int) -> str:
    """Return a number of examples in words: "3 of 600 examples (14, 201, 388)"."""
    return f"{len(numbers):,} of {counted(total, 'example')} ({listed([str(n) for n in numbers])})"
