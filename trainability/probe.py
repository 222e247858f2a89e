"""One minibatch of a training before its first step, and what its outputs depend on.

    probe = Probe(training)
    probe.reads_frames           # (T, ...) True where an output depends on frame t
    probe.mixed                  # number of other examples that change with one

A NaN in the place of a number passes on to everything that depends on it, whatever the weights
are: the mask of NaN in the outputs is an exact statement about the wiring. An id is followed by
another id in its place.

Legend: B examples, T frames, m numbers of a frame.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from rhn.errors import RhnError
from trainability.data import Inputs
from trainability.losses import operation
from trainability.training import Training, attributes, state_of

INF = math.inf
RANGES = {  # operations of autograd: in words, least and greatest value
    "Sigmoid": ("a sigmoid", 0.0, 1.0),
    "Softmax": ("a softmax", 0.0, 1.0),
    "LogSoftmax": ("a log_softmax", -INF, 0.0),
    "Tanh": ("tanh", -1.0, 1.0),
    "Relu": ("ReLU", 0.0, INF),
    "Softplus": ("softplus", 0.0, INF),
    "Exp": ("exp", 0.0, INF),
}
SHAPING = {  # operations that move, copy or average values
    "Alias",
    "AsStrided",
    "Cat",
    "Clone",
    "Expand",
    "Gather",
    "Index",
    "IndexSelect",
    "Mean",
    "Permute",
    "Select",
    "ReshapeAlias",
    "Slice",
    "Split",
    "SplitWithSizes",
    "Squeeze",
    "Stack",
    "T",
    "ToCopy",
    "Transpose",
    "Unbind",
    "Unsqueeze",
    "UnsafeSplit",
    "UnsafeView",
    "View",
}
States = list[tuple[Any, "Activation"]]


@dataclass(frozen=True)
class Activation:
    """The last operation on the outputs of a network, and its range."""

    kind: str
    """ "Softmax"; of the states of a recurrent layer its class, "LSTM"."""
    words: str
    """ "a softmax"."""
    low: float
    high: float
    axis: int = -1
    """Of a softmax."""

    def of(self, free: Tensor) -> Tensor:
        """Outputs that this activation can give, from numbers of any size."""
        if self.kind in ("Softmax", "LogSoftmax"):
            return (
                F.softmax(free, self.axis)
                if self.kind == "Softmax"
                else F.log_softmax(free, self.axis)
            )
        if math.isinf(self.low) or math.isinf(self.high):
            return self.low + F.softplus(free) if self.high == INF else self.high - F.softplus(free)
        return self.low + (self.high - self.low) * torch.sigmoid(free)


@contextmanager
def states_of(model: nn.Module) -> Iterator[States]:
    """Context manager: the states that recurrent layers of torch.nn return inside, as nodes of
    autograd.
    """
    found: States = []

    def keep(layer: nn.Module, given: tuple, made: Any) -> None:
        if not getattr(layer, "proj_size", 0):
            found.extend(
                (hidden.grad_fn, range_of_states(layer)) for hidden in _hidden(layer, made)
            )

    with ExitStack() as hooks:
        for part in model.modules():
            if isinstance(part, nn.RNNBase | nn.RNNCellBase):
                hooks.enter_context(part.register_forward_hook(keep))
        yield found


def _hidden(layer: nn.Module, made: Any) -> list[Tensor]:
    """The hidden states among what a recurrent layer returns: of all frames, and the last."""
    pair = isinstance(made, tuple) and not isinstance(layer, nn.LSTMCell)
    states = [
        state[0] if isinstance(state, tuple) else state for state in (made if pair else [made])
    ]
    return [state for state in states if isinstance(state, Tensor)]


def range_of_states(layer: nn.Module) -> Activation:
    """The range of the states of a recurrent layer."""
    name = type(layer).__name__
    low, high = (0.0, INF) if getattr(layer, "nonlinearity", "") == "relu" else (-1.0, 1.0)
    return Activation(name, f"the states of nn.{name}", low, high)


def last_activation(output: Tensor, states: States) -> Activation | None:
    """The activation that bounds an output; None if none does, or if it is not known."""
    known, node = dict(states), output.grad_fn
    while node is not None and node not in known and operation(node) not in RANGES:
        node = node.next_functions[0][0] if operation(node) in SHAPING else None
    if node is None:
        return None
    if node in known:
        return known[node]
    name = operation(node)
    axis = getattr(node, "_saved_dim", -1) if node is output.grad_fn else -1
    words, low, high = RANGES[name]
    if name == "Exp" and _sign(node.next_functions[0][0]) < 0:
        words, high = "exp(-distance)", 1.0
    return Activation(name, words, low, high, axis if axis < output.dim() else -1)


def _sign(node: Any) -> int:
    """1 or -1 if a node gives no negative or no positive numbers; 0 if that is not known."""
    name = operation(node) if node is not None else ""
    if name in ("Neg", "Sum") or name in SHAPING:
        return _sign(node.next_functions[0][0]) * (-1 if name == "Neg" else 1)
    return int(name in ("Abs", "Relu", "LinalgVectorNorm", "Norm", "Sigmoid", "Softplus"))


MOVED = 1e-3  # standard deviation of what is added to weights
FEATURES = 256  # numbers of a frame that are followed one by one, at most


def differ(states: list[Any], others: list[Any]) -> bool:
    """True unless these are the same objects, or equal whole numbers."""
    pairs = zip(states, others, strict=False)
    same = all(a is b or (isinstance(a, int) and isinstance(b, int) and a == b) for a, b in pairs)
    return len(states) != len(others) or not same


class Probe:
    """A training with one of its minibatches; nothing here changes it."""

    def __init__(self, training: Training):
        self.training = training.copy()
        self.x, self.y = training.data.sample(training_batch(training))
        self.leaves: list[Tensor] = tree_leaves(self.x)
        self.axis = training.axis
        self.first = self.leaves[0]
        self.count = self.first.shape[self.axis] if self.first.dim() > self.axis else 1

    # ---- outputs and gradients ---------------------------------------------------------------

    @property
    def output(self) -> Tensor:
        """Of the untrained model in training mode, with its graph."""
        return self._forward[0]

    @property
    def last_activation(self) -> Activation | None:
        """The last operation on the outputs, if it bounds them."""
        return self._forward[1]

    @cached_property
    def _forward(self) -> tuple[Tensor, Activation | None, list[str]]:
        model = self.training.model.train()
        before = {name: state_of(value) for name, value in attributes(model).items()}
        with states_of(model) as states:
            output = self.training.output(self.x)
        after = {name: state_of(value) for name, value in attributes(model).items()}
        stored = [name for name, state in after.items() if differ(state, before.get(name, []))]
        return output, last_activation(output, states), stored

    @cached_property
    def loss(self) -> Tensor:
        """Of `output`, with its graph."""
        loss = self.training.loss(self.output, self.y)
        self.training.check_loss(loss, self._forward[2])
        return loss

    @cached_property
    def gradients(self) -> dict[str, Tensor | None]:
        """Of the loss by parameter; None for one that the loss does not reach."""
        trained = {n: p for n, p in self.training.model.named_parameters() if p.requires_grad}
        found = torch.autograd.grad(
            self.loss, list(trained.values()), allow_unused=True, retain_graph=True
        )
        return dict(zip(trained, found, strict=True))

    @torch.no_grad()
    def evaluated(self, x: Inputs) -> Tensor:
        """The outputs of the model in evaluation mode."""
        self.training.model.eval()
        return self.training.output(x)

    @cached_property
    def in_double(self) -> Training | None:
        """The training in evaluation mode and double precision, away from the kinks of ReLU.

        None if the model or the loss takes no such numbers, or is not repeatable.
        """
        other = self.training.copy()
        other.model.eval().double()
        generator = torch.Generator().manual_seed(0)
        try:
            other = other.with_loss(self.training.loss_in_double())
            with torch.no_grad():
                for p in other.model.parameters():
                    noise = torch.randn(p.shape, generator=generator, dtype=torch.float64)
                    p.add_(MOVED * noise.to(p.device))
                x, y = tree_map(
                    lambda v: v.double() if v.is_floating_point() else v, (self.x, self.y)
                )
                once, twice = (other.loss(other.output(x), y) for _ in range(2))
        except RhnError:
            return None
        return other if torch.equal(once, twice) else None

    @cached_property
    def before(self) -> Tensor:
        """The outputs in evaluation mode."""
        return self.evaluated(self.x)

    @cached_property
    def noise(self) -> float:
        """Largest difference of the outputs between two calls in evaluation mode."""
        return (self.evaluated(self.x) - self.before).abs().max().item()

    # ---- axes --------------------------------------------------------------------------------

    @property
    def frames(self) -> int | None:
        """T; None if the sequence has no frames."""
        has = self.first.dim() == 2 + self.first.is_floating_point()
        return self.first.shape[1 - self.axis] if has else None

    @property
    def output_axis(self) -> int | None:
        """Axis of the examples in the output; None: it has none."""
        shape = self.before.shape
        order = (self.axis, 0) if self.of_frames else (0, self.axis, 1)
        return next((a for a in order if a < len(shape) and shape[a] == self.count), None)

    @property
    def of_frames(self) -> bool:
        """True if there is an output for each frame."""
        shape = self.before.shape
        return (
            self.frames is not None
            and len(shape) >= 2
            and shape[:2] == self.first.shape[:2]
            and (self.y.dim() >= 2 and self.y.shape[:2] == shape[:2])
        )

    # ---- dependence by NaN -------------------------------------------------------------------

    def follows(self, leaf: int) -> bool:
        """True if the outputs can be followed back to an input: numbers, or two ids or more."""
        x = self.leaves[leaf]
        numbers = x.is_floating_point() and not self._is_cast(x)
        return numbers or bool((x != x.flatten()[0]).any() and not self.noise)

    def _is_cast(self, x: Tensor) -> bool:
        """True for whole numbers that the network may turn into ids."""
        has_ids = any(isinstance(part, nn.Embedding) for part in self.training.model.modules())
        return has_ids and torch.equal(x, x.round())

    def mask(self, leaf: int, where: Callable[[Tensor], Tensor], x: Inputs | None = None) -> Tensor:
        """True for each number of the outputs that depends on some numbers of an input.

        where: takes the input and returns True for the numbers in question. x: other inputs than
            those of the minibatch. Numbers become NaN; ids become other ids, and outputs that
            differ by more than rounding depend on them.
        """
        x = self.x if x is None else x
        given = tree_leaves(x)[leaf]
        marks = where(given)
        places = iter(range(len(self.leaves)))
        if given.is_floating_point() and not self._is_cast(given):
            spoiled = given.masked_fill(marks, math.nan)
            changed = tree_map(lambda v: spoiled if next(places) == leaf else v, x)
            return self.evaluated(changed).isnan()
        other = torch.where(marks, next_ids(given), given)
        changed = tree_map(lambda v: other if next(places) == leaf else v, x)
        before, after = self.evaluated(x), self.evaluated(changed)
        rounding = 100 * torch.finfo(before.dtype).eps * before.abs().max()
        return (after - before).abs() > rounding

    @cached_property
    def mixed(self) -> int:
        """Number of other examples whose outputs depend on one of them."""
        if self.output_axis is None or self.count < 2 or not self.follows(0):
            return 0
        found = 0
        for k in (0, self.count - 1):
            bad = self.mask(0, partial(one_slice, axis=self.axis, k=k))
            rows = bad.movedim(self.output_axis, 0).flatten(1).any(1)
            found = max(found, int(rows.sum() - rows[k].long()))
        return found

    def copies(
        self, number: int, leaf: int, where: Callable[[Tensor, int], Tensor], example: int = 0
    ) -> Tensor:
        """Masks (number, ...) of the outputs of copies of one example, one for each k.

        where(values of one example, k): True for the numbers of copy k in question. Minibatches
        keep their size, for models that expect it.
        """
        rows = []
        index = torch.full((self.count,), example, device=self.first.device)
        x = tree_map(lambda v: v.index_select(self._axis_of(v), index.to(v.device)), self.x)
        for start in range(0, number, self.count):

            def spoiled(values: Tensor, start: int = start) -> Tensor:
                values = values.movedim(self.axis, 0)
                marks = torch.zeros(values.shape, dtype=torch.bool, device=values.device)
                for k in range(min(self.count, number - start)):
                    marks[k] = where(values[k], start + k)
                return marks.movedim(0, self.axis)

            bad = self.mask(leaf, spoiled, x)
            rows.append(bad.movedim(self.output_axis or 0, 0)[: number - start])
        return torch.cat(rows)

    def _axis_of(self, value: Tensor) -> int:
        """The axis of the examples in one of the inputs."""
        if value.dim() > self.axis and value.shape[self.axis] == self.count:
            return self.axis
        return 0

    @cached_property
    def reads_frames(self) -> Tensor | None:
        """(T, ...) True where an output of an example depends on its frame t; None: not known."""
        T = self.frames
        if T is None or self.output_axis is None or self.mixed or not self.follows(0):
            return None
        return self.frames_read_by(0)

    def frames_read_by(self, example: int) -> Tensor:
        """The same of one example of the minibatch, which may be padded."""
        return self.copies(self.frames or 0, 0, lambda values, t: one_slice(values, 0, t), example)

    @cached_property
    def reads_features(self) -> Tensor | None:
        """(m,) True where an output of an example depends on number j of a frame."""
        m = self.first.shape[-1]
        numbers = self.first.is_floating_point() and self.first.dim() >= 2
        if not numbers or m > FEATURES or self.output_axis is None or self.mixed:
            return None
        last = self.first.dim() - 2
        bad = self.copies(m, 0, lambda values, j: one_slice(values, last, j))
        return bad.flatten(1).any(1)

    @cached_property
    def gradient_frames(self) -> Tensor | None:
        """(T,) True for each frame that the gradient of the last output reaches."""
        if self.reads_frames is None:
            return None
        leaves: list[Tensor] = []

        def leaf(values: Tensor) -> Tensor:
            leaves.append(values.detach().requires_grad_())
            return leaves[-1].clone()

        output = self.with_leaves(leaf)
        if self.of_frames:
            output = output.select(1 - self.axis, -1)
        if not leaves:
            return None
        slopes = torch.autograd.grad(output.sum() * math.nan, leaves, materialize_grads=True)
        reached = torch.stack(
            [s.movedim(1 - self.axis, 0).flatten(1).isnan().any(1) for s in slopes]
        )
        return reached.any(0)

    def with_leaves(self, leaf: Callable[[Tensor], Tensor]) -> Tensor:
        """Outputs whose sequence, or what embeddings make of it, is a leaf of the graph."""
        self.training.model.eval()
        with ExitStack() as hooks, torch.backends.cudnn.flags(enabled=False):
            if self.first.is_floating_point() and not self._is_cast(self.first):
                places = iter(range(len(self.leaves)))
                x = tree_map(lambda v: leaf(v) if next(places) == 0 else v, self.x)
                return self.training.output(x)
            for part in self.training.model.modules():
                if isinstance(part, nn.Embedding):

                    def replace(part: nn.Module, ids: tuple, made: Tensor) -> Tensor:
                        whole = ids[0].shape == self.first.shape
                        return leaf(made) if whole else made

                    hooks.enter_context(part.register_forward_hook(replace))
            return self.training.output(self.x)

    @torch.no_grad()
    def uses(self, name: str) -> bool:
        """True if an output depends on a parameter."""
        parameter = dict(self.training.model.named_parameters())[name]
        kept = parameter.detach().clone()
        try:
            parameter.fill_(math.nan)
            return bool(self.evaluated(self.x).isnan().any())
        finally:
            parameter.copy_(kept)


def next_ids(ids: Tensor) -> Tensor:
    """Other ids, each the next larger one that occurs; the least one after the largest.

    >>> next_ids(torch.tensor([3, 7, 9, 3]))
    tensor([7, 9, 3, 7])
    """
    known = ids.unique()
    places = torch.searchsorted(known, ids.contiguous())
    return known[(places + 1) % len(known)]


def one_slice(values: Tensor, axis: int, k: int) -> Tensor:
    """True at index k of an axis."""
    marks = torch.zeros(values.shape, dtype=torch.bool, device=values.device)
    marks.select(axis, k).fill_(True)
    return marks


def training_batch(training: Training) -> int:
    """The number of examples of a minibatch."""
    return getattr(training.data, "batch_size", 32)
