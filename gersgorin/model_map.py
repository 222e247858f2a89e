"""`model_maps`: a model as a differentiable map from inputs x[t] to outputs o[t], or their losses.

    model(x)        any module or function; x gets an axis of the batch if its place is known
    a step, a Run   one step after the other; an output is what the step returns beside its state,
                    the hidden units of a cell, or else the state

Legend: T time steps; B sequences; m numbers of an input; S outputs (T, or 1 if there is one output
for each sequence); k numbers of an output; the leaf is the tensor of inputs that has gradients.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from gersgorin import checks
from gersgorin.autodiff import BLOCK, vjps
from gersgorin.double_precision import copied, module_runs
from gersgorin.kinds import batch_first_of, takes
from gersgorin.losses import Loss, frame_losses, name_of_loss
from gersgorin.run import Run, open_run
from gersgorin.step import name_of
from rhn.cells import Cell
from rhn.errors import USERS_FAULT, InvalidInputError
from rhn.models import LanguageModel
from rhn.models.networks import RecurrentModel
from rhn.utils.results import TIME_STEPS
from rhn.utils.threads import without_cudnn
from rhn.utils.torch_private import tree_leaves

OUTPUTS = "outputs"
ROWS = 256  # products at once, at most: with more, states of many numbers leave the caches
Read = Callable[..., tuple[Tensor, Tensor, int]]
"""(What is added to the leaf, number of steps) -> (the leaf, the output, number of outputs)."""


@dataclass(frozen=True)
class Axes:
    """The axes of x: T steps of B sequences."""

    T: int
    B: int
    batch: int | None
    """The axis of the sequences, 0 or 1; None for one sequence without such an axis."""
    one: bool = False
    """Whether each sequence has one output."""

    def frames(self, name: str, o: Tensor) -> Tensor:
        """Outputs, losses or targets as (T, B, k), or (1, B, k). Raises InvalidInputError."""
        return self._frames_of_one(name, o) if self.B == 1 else self._frames_of_all(name, o)

    def _frames_of_one(self, name: str, o: Tensor) -> Tensor:
        """The frames (T, 1, k) or (1, 1, k) of one sequence."""
        longer = [n for n in o.shape[:2] if n > 1]  # without the axis of the batch
        o = o.reshape([*longer, *o.shape[2:]])
        has_each_step = o.shape[:1] == (self.T,)
        if has_each_step and not self.one:
            return o.reshape(self.T, 1, -1)
        numbers = o.shape[-1] if o.dim() > 0 else 1
        self._check_frames(o.numel() == numbers, name, o)
        return o.reshape(1, 1, -1)

    def _frames_of_all(self, name: str, o: Tensor) -> Tensor:
        """The frames (T, B, k) or (1, B, k) of several sequences."""
        is_batch_first = self.batch == 0
        leading = (self.B, self.T) if is_batch_first else (self.T, self.B)
        has_each_step = o.shape[:2] == leading
        if has_each_step and not self.one:
            o = o.transpose(0, 1) if is_batch_first else o
            return o.reshape(self.T, self.B, -1)
        numbers = o.shape[-1] if o.dim() > 1 else 1
        has_sequences = self.B in o.shape[:2]
        self._check_frames(has_sequences and o.numel() == self.B * numbers, name, o)
        return o.reshape(1, self.B, -1)

    def _check_frames(self, fits: bool, name: str, o: Tensor) -> None:
        wanted = f"{self.T} steps, or one, of {self.B} sequences"
        checks.require(fits, name, checks.kind(o), wanted)

    def by_step(self, slopes: Tensor) -> Tensor:
        """Derivatives (j, ...) with the axes of x after j, as (j, T, B, m)."""
        slopes = slopes.transpose(1, 2) if self.batch == 0 else slopes
        return slopes.reshape(len(slopes), self.T, self.B, -1)


@dataclass(frozen=True, kw_only=True, eq=False)
class ModelMap:
    """The outputs of a model on one x, or their losses, and products with their derivatives.

    >>> (found,) = model_maps(nn.GRU(2, 4), torch.rand(9, 2))
    >>> found.outputs.shape, found.by_step(found.pull(torch.ones(3, 9, 1, 4))).shape
    (torch.Size([9, 1, 4]), torch.Size([3, 9, 1, 2]))
    """

    heading: dict[str, Any]
    """Fields of a result: network, data, unit, steps, and `returned`, the number of tensors."""
    leaf: Tensor
    outputs: Tensor
    """(S, B, k); losses (S, B, 1), or (1, 1, 1) for one loss of all sequences."""
    axes: Axes
    lengths: Tensor
    """The steps of each sequence, (B,)."""
    again: Callable[[Tensor], Tensor]
    """What is added to the leaf -> the outputs, without a graph."""

    @cached_property
    def longest(self) -> int:
        """The number of steps of the longest sequence."""
        return int(self.lengths.max())

    @cached_property
    def has(self) -> Tensor:
        """True for the steps that a sequence has, (longest, B). All sequences end at the last step
        if each has one output.
        """
        steps = torch.arange(self.longest, device=self.lengths.device)[:, None]
        ends = len(self.outputs) == 1
        return steps >= self.longest - self.lengths if ends else steps < self.lengths

    @property
    def at_once(self) -> int:
        """The number of products that are computed at once."""
        return max(1, min(ROWS, BLOCK // max(self.leaf.numel(), self.outputs.numel())))

    def pull(self, w: Tensor) -> Tensor:
        """w d outputs / d leaf for weights w (j, S, B, k): (j, *leaf.shape)."""
        with checks.users_code(f"{self.heading['network']} cannot be differentiated"):
            return vjps(self.outputs, [self.leaf], w.to(self.outputs))[0]

    def by_step(self, slopes: Tensor) -> Tensor:
        """Derivatives (j, *leaf.shape) as (j, longest, B, m); 0 if a sequence has no such step."""
        found = self.axes.by_step(slopes)
        if int(self.lengths.min()) == self.axes.T:
            return found
        if len(self.outputs) == 1:
            ends = (self.longest - self.lengths).tolist()
            found = torch.stack([found[:, :, b].roll(end, 1) for b, end in enumerate(ends)], 2)
        return torch.where(self.has[..., None], found[:, : self.longest], 0)

    def difference(self, v: Tensor) -> Tensor:
        """A central difference of the outputs along v, of the shape of the leaf: (S, B, k)."""
        h = torch.finfo(v.dtype).eps ** (1 / 3)
        return (self.again(h * v) - self.again(-h * v)) / (2 * h)


def model_maps(
    model: Any,
    x: Any = None,
    s0: Any = None,
    *,
    of: str | Loss = OUTPUTS,
    y: Any = None,
    lengths: Any = None,
    batch_first: bool | None = None,
    title: str | None = None,
    data: str | None = None,
    unit: str | None = None,
    **first: Any,
) -> Iterator[ModelMap]:
    """Yield a map for x, or for each x in a list. Arguments and errors as for `influence`; first:
    state_size and layer.

    >>> [each.longest for each in model_maps(torch.sin, [torch.ones(3, 1), torch.ones(4, 1)])]
    [3, 4]
    """
    model = model if isinstance(model, Run) else checks.a_network(model)
    loss = None if of == OUTPUTS else of
    checks.require((y is None) == (loss is None), "y", checks.kind(y), "targets if `of` is a loss")
    several = isinstance(x, list)
    checks.require(not several or lengths is None, "lengths", lengths, "None beside a list of x")
    xs, ys = (x, [None] * len(x) if y is None else y) if several else ([x], [y])
    good = len(xs) > 0 and isinstance(ys, list) and len(ys) == len(xs)
    checks.require(good, "y", checks.kind(y), "a list like x, of at least one")
    names: Any = {"title": title, "data": data, "unit": unit}
    has_state = any(given is not None for given in (s0, *first.values()))
    for x_i, y_i in zip(xs, ys, strict=True):
        if has_state or _is_step(model, x_i):
            run = open_run(model, x_i, s0, batch_first=batch_first, **first, **names)
            read, axes, heading = _along(run), Axes(len(run), 1, None), run.heading
        else:
            read = _Reader(model, x_i, batch_first)
            axes, heading = read.axes, read.heading(**names)
        yield _built(read, axes, heading, lengths, loss, y_i)


def _is_step(model: Any, x: Any) -> bool:
    """True for a run, and for a module that does not read a sequence by itself."""
    if isinstance(model, Run):
        return True
    has_several_arguments = isinstance(x, tuple | Mapping)
    if not isinstance(model, nn.Module) or has_several_arguments:
        return False
    has_forward = type(model).forward is not nn.Module.forward
    reads_steps = isinstance(model, nn.RNNCellBase)
    return reads_steps or not has_forward or not takes(model, None)


def _along(run: Run) -> Read:
    """Reads the inputs of a run step by step."""
    x = run.inputs
    checks.require(x.is_floating_point(), "x", checks.kind(x), "numbers (T, m) for a step")

    def read(shift: Any) -> tuple[Tensor, Tensor, int]:
        leaf, s, outputs = x.clone().requires_grad_(), run.states[:1], list[Tensor]()
        for t, x_t in enumerate((leaf + shift).split(1)):
            with checks.users_code(f"{run.step.name} fails at step {t}"):
                o, s = run.step.output(x_t, s)
            outputs.append(o)
        return leaf, torch.stack(outputs), 1

    return read


class _Reader:
    """Reads x with a model: a sequence, or arguments of which the first one is the sequence."""

    def __init__(self, model: Any, x: Any, batch_first: bool | None):
        self._name, self._model = name_of(model).replace("(x, s)", "(x)"), model
        self._is_module = isinstance(model, nn.Module)
        named = dict(x) if isinstance(x, Mapping) else {}
        given = named or dict(enumerate(x if type(x) is tuple else [x]))
        self._arguments = {name: checks.argument(value, model) for name, value in given.items()}
        self._first: Any = next(iter(given), None)
        x = self._arguments.get(self._first)
        wanted = "a sequence of numbers (T, m), or of ids (T,)"
        checks.require(_is_sequence(x), "x", checks.kind(x), wanted)
        parts = model.modules() if self._is_module else ()
        embeds = any(isinstance(part, nn.Embedding | LanguageModel) for part in parts)
        may_be_ids = x.dim() == 1 or not self._is_module or embeds
        self._ids = may_be_ids and not x.is_floating_point()
        self._x = x if self._ids or x.is_floating_point() else x.double()
        self.axes = self._axes(batch_first_of(model) if batch_first is None else batch_first)

    def _axes(self, batch_first: bool | None) -> Axes:
        axes_of_one = 1 if self._ids else 2
        known = batch_first is not None
        if known and self._x.dim() == axes_of_one and len(self._arguments) == 1:
            self._x = self._x.unsqueeze(0 if batch_first else 1)
        x = self._x
        several = x.dim() > axes_of_one
        wanted = "True for (B, T, ...), False for (T, B, ...)"
        checks.require(known or not several, f"batch_first of x {tuple(x.shape)}", None, wanted)
        axes = Axes(x.shape[0], 1, None)
        if several:
            batch, time = (0, 1) if batch_first else (1, 0)
            axes = Axes(x.shape[time], x.shape[batch], batch)
        said = f"number of time steps in x {tuple(x.shape)}"
        checks.require(axes.T > 1, said, axes.T, "at least 2")
        return axes

    def heading(self, title: str | None, data: str | None, unit: str | None) -> dict[str, Any]:
        """The fields of a result that name the model and x."""
        name, model = self._name, self._model
        has_one_cell = isinstance(model, RecurrentModel) and len(model.cells) == 1
        layer = model.cells[0] if has_one_cell else model
        if isinstance(layer, nn.RNNBase):
            name = f"{name_of(layer)}, depth {layer.num_layers}, {layer.hidden_size} units"
        elif isinstance(layer, Cell):
            depth = max(layer.stacked, layer.depth)
            name = f"{name_of(layer)}, depth {depth}, {layer.hidden_size} units"
        names = {"network": title or name, "data": data or "x", "unit": unit or TIME_STEPS}
        return {**names, "steps": self.axes.T}

    def __call__(self, shift: Any, steps: int | None = None) -> tuple[Tensor, Tensor, int]:
        model, runs = self._model, without_cudnn()
        if self._is_module:
            model, runs = _by_equations(copied(model)), module_runs()
        time = 1 if self.axes.batch == 0 else 0
        x = self._x.narrow(time, 0, steps or self.axes.T)
        embedded = _Embedded(x, shift)
        leaf = None if self._ids else x.clone().requires_grad_()
        given = self._arguments | {self._first: x if leaf is None else leaf + shift}
        named = {name: value for name, value in given.items() if isinstance(name, str)}
        said = f"{self._name} cannot read x {tuple(x.shape)}"
        with checks.users_code(said), runs, embedded if self._ids else nullcontext():
            found = outputs_in(model(**named) if named else model(*given.values()))
        leaf = embedded.leaf if leaf is None else leaf
        if leaf is None:
            raise InvalidInputError(
                f"x is {checks.kind(x)}: expected numbers, or ids of an embedding"
            )
        return leaf, found[0], len(found)


def _is_sequence(x: Any) -> bool:
    """True for real numbers (T, ..., m), and ids (T, ...)."""
    if not isinstance(x, Tensor) or x.is_complex():
        return False
    axes_of_a_row = 1 if x.is_floating_point() else 0
    return x.dim() > axes_of_a_row


class _Embedded(TorchFunctionMode):
    """Context: what an embedding returns first for the ids x is a leaf, plus a shift."""

    def __init__(self, x: Tensor, shift: Any):
        super().__init__()
        self._x, self._shift = x, shift
        self.leaf: Tensor | None = None

    def __torch_function__(self, func, types, args=(), kwargs=None):
        made, x = func(*args, **(kwargs or {})), self._x
        if self.leaf is not None or func not in (F.embedding, torch.embedding):
            return made
        tensors = [v for v in (*args, *(kwargs or {}).values()) if isinstance(v, Tensor)]
        ids = next(v for v in tensors if not v.is_floating_point())
        if torch.equal(ids.flatten(), x.flatten()):
            self.leaf = made.detach().reshape(*x.shape, -1).clone().requires_grad_()
            return (self.leaf + self._shift).reshape(made.shape)
        if x.dim() == 2 and torch.equal(ids, x.T):
            self.leaf = made.detach().transpose(0, 1).clone().requires_grad_()
            return (self.leaf + self._shift).transpose(0, 1)
        return made


def outputs_in(returned: Any) -> list[Tensor]:
    """Return the floating-point tensors that a model returns, alone or in tuples, lists and
    dictionaries; the first one counts as its output. Raises InvalidInputError without one.

    >>> outputs_in((None, {"y": torch.ones(2)}))
    [tensor([1., 1.])]
    """
    leaves = tree_leaves(dict(returned) if isinstance(returned, Mapping) else returned)
    found = [t for t in leaves if isinstance(t, Tensor) and t.is_floating_point()]
    checks.require(len(found) > 0, "output of the model", checks.kind(returned), "real numbers")
    return found


def _by_equations(module: nn.Module) -> nn.Module:
    """The copy of a module, whose cells of rhn run by operations that can be batched."""
    for part in module.modules():
        if isinstance(part, Cell) and type(part).forward is Cell.forward:
            part.kernel = "reference"
    return module


def _built(
    read: Read, axes: Axes, heading: dict[str, Any], lengths: Any, loss: str | Loss | None, y: Any
) -> ModelMap:
    """The map of a model that is read."""
    leaf, o, heading["returned"] = read(0.0)
    name = f"output of {heading['network']}"
    axes = replace(axes, one=_is_one(read, axes, name, o))
    z = axes.frames(name, o)
    checks.are_finite(name, z)
    checks.require(z.requires_grad, name, "no function of x", "one with a gradient")
    _check_apart(name, z, leaf, axes)
    y = None if y is None else checks.numbers("y", y).to(z.device)
    steps = _lengths(lengths, axes).to(z.device)

    def measured(o: Tensor) -> Tensor:
        return axes.frames(name, o) if loss is None else _losses(loss, axes, name, o, y)

    @torch.no_grad()
    def again(shift: Tensor) -> Tensor:
        return measured(read(shift)[1])

    return ModelMap(heading=heading, leaf=leaf, outputs=measured(o), axes=axes, lengths=steps,
                    again=again)  # fmt: skip


def _lengths(lengths: Any, axes: Axes) -> Tensor:
    """The steps of each sequence, (B,); None: all T."""
    if lengths is None:
        return torch.full((axes.B,), axes.T, device="cpu")
    wanted = f"{axes.B} whole numbers from 1 to {axes.T}"
    try:
        steps = torch.as_tensor(lengths, device="cpu")
    except (TypeError, ValueError, RuntimeError):
        steps = torch.empty(0, device="cpu")
    fits = steps.shape == (axes.B,) and steps.dtype == torch.long
    inside = fits and int(steps.min()) > 0 and int(steps.max()) <= axes.T
    checks.require(inside, "lengths", lengths, wanted)
    return steps


def _is_one(read: Read, axes: Axes, name: str, o: Tensor) -> bool:
    """True if each sequence has one output: as many numbers for a shorter x."""
    if o.numel() != axes.B * axes.T or o.shape[-1:] != (axes.T,):
        return len(axes.frames(name, o)) == 1
    try:
        with torch.no_grad():
            return read(0.0, axes.T - 1)[1].shape == o.shape
    except USERS_FAULT:
        return False


def _check_apart(name: str, z: Tensor, leaf: Tensor, axes: Axes) -> None:
    """Refuse outputs of the first or last sequence that depend on other sequences."""
    if axes.B == 1:
        return
    generator = torch.Generator("cpu").manual_seed(0)  # weights above 0: no derivatives cancel
    w = z.new_zeros(2, *z.shape)
    w[0, :, 0] = w[1, :, -1] = torch.rand(z.shape[2], generator=generator, device="cpu").to(z)
    first, last = axes.by_step(vjps(z, [leaf], w)[0])
    apart = not first[:, 1:].any() and not last[:, :-1].any()
    wanted = "one of its own sequence, with another batch_first"
    checks.require(apart, name, "a function of other sequences", wanted)


def _losses(loss: str | Loss, axes: Axes, name: str, o: Tensor, y: Tensor) -> Tensor:
    """The losses of outputs o as the model returns them, (S, B, 1) or (1, 1, 1)."""
    of = name_of_loss(loss)
    if isinstance(loss, str):
        return frame_losses(of, axes.frames(name, o), axes.frames("y", y))[..., None]
    y = y.to(o.dtype) if y.is_floating_point() else y
    with checks.users_code(f"{of} cannot read outputs {tuple(o.shape)} and y {tuple(y.shape)}"):
        losses = loss(o, y)
    good = isinstance(losses, Tensor) and losses.is_floating_point()
    checks.require(good, f"what {of} returns", checks.kind(losses), "real numbers")
    one = losses.dim() == 0
    found = losses.reshape(1, 1, 1) if one else axes.frames(f"what {of} returns", losses)
    return found.sum(2, keepdim=True)
