"""`Case`: a training as the causes look at it, on copies of its model; each measure is taken once.

Legend: N examples of a minibatch, T frames, K output units.
"""

import copy
import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import default_collate

from gersgorin.training.activation import Activation, graph, operation
from gersgorin.training.losses import NegativeLossError, least_constant
from gersgorin.training.minibatches import Examples, Inputs, in_double, sequence_of, with_sequence
from gersgorin.training.training import Training
from rhn.errors import USERS_FAULT, InvalidInputError
from rhn.utils.wording import first_line

READERS = (nn.RNNBase, nn.RNNCellBase, nn.Linear)
OTHERS = (nn.Embedding, nn.modules.batchnorm._BatchNorm, nn.LayerNorm, nn.modules.conv._ConvNd)
ROUNDING = 100.0  # units of least precision of the largest output


@contextmanager
def noted(lacking: list[str], what: str) -> Iterator[None]:
    """Context manager: an error of a module, a loss or a dataset for what it was never given
    becomes a sentence.
    """
    try:
        yield
    except NegativeLossError:  # see `Training.with_positive_loss`
        raise
    except USERS_FAULT as error:
        lacking.append(f"{what}: {first_line(error)}")


class Case:
    """A training of some steps before its first one."""

    def __init__(self, loop: Training, steps: int):
        self.loop, self.steps = loop, steps
        self.model = copy.deepcopy(loop.model)
        self.x, self.y = loop.data.probe()
        self.first = sequence_of(self.x)
        self.axis = self._example_axis()
        self.count = self.first.shape[self.axis]
        with suppress(InvalidInputError):
            # which finds out through what constant outputs go
            loop.constant_output(loop.goals([(self.x, self.y)]))

    def _example_axis(self) -> int:
        """Axis of the examples in x; of a DataLoader that does not collate batches itself 0, else
        as the model states it.
        """
        data = self.loop.data
        if isinstance(data, Examples):
            return data.axis
        usual = (
            getattr(getattr(data, "loader", None), "collate_fn", default_collate) is default_collate
        )
        frames = self.loop.frame_axis
        return (
            0 if usual or frames is None or self.y.shape[:2] != self.first.shape[:2] else 1 - frames
        )

    @property
    def frames(self) -> int | None:
        """T; None if x has no frames."""
        has = self.first.dim() == 2 + self.first.is_floating_point()
        return self.first.shape[1 - self.axis] if has else None

    @property
    def of_frames(self) -> bool:
        """True if there is an output for each frame."""
        shape, x = self.output.shape, self.first
        return (
            self.frames is not None
            and shape[:2] == x.shape[:2]
            and (len(shape) >= x.dim() or self.ahead is not None)
        )

    @property
    def regression(self) -> bool:
        """True if the targets are numbers, not classes or probabilities of 0 and 1."""
        return self.y.is_floating_point() and not bool(((self.y == 0) | (self.y == 1)).all())

    @property
    def kind(self) -> str:
        """Of the optimiser: "SGD", whose steps are as large as the gradient, or "other"."""
        return "SGD" if isinstance(self.loop.optimizer, torch.optim.SGD) else "other"

    @property
    def output_axis(self) -> int | None:
        """Axis of the examples in the output; None: it has none."""
        shape, axes = self.output.shape, (self.axis, 0) if self.of_frames else (0, self.axis, 1)
        return next((a for a in axes if a < len(shape) and shape[a] == self.count), None)

    @property
    def target_axis(self) -> int:
        """Axis of the examples in y."""
        return self.axis if self.y.shape[:2] == self.first.shape[:2] else 0

    @cached_property
    def ahead(self) -> int | None:
        """1 if the targets are the next frames of the input, 0 if they are its frames; None:
        neither.
        """
        x, y = self.first.movedim(self.axis, 0), self.y.movedim(self.target_axis, 0)
        if not isinstance(self.x, Tensor) or self.frames is None or x.shape[:2] != y.shape[:2]:
            return None
        if x.dim() == y.dim() + 1:
            x = x.squeeze(-1) if y.is_floating_point() else x.argmax(-1)
        same = (
            k
            for k in (1, 0)
            if x.shape == y.shape and torch.equal(x[:, k:].to(y.dtype), y[:, : x.shape[1] - k])
        )
        return next(same, None)

    @cached_property
    def _forward(self) -> tuple[Tensor, list[tuple[nn.Module, Any, Any]]]:
        calls: list[tuple[nn.Module, Any, Any]] = []

        def keep(part: nn.Module, args: tuple, named: dict, made: Any) -> None:
            calls.append(
                (
                    part,
                    next(iter((*args, *named.values())), None),
                    made if isinstance(part, nn.RNNBase) else None,
                )
            )

        with ExitStack() as hooks:
            for part in self.model.modules():
                if isinstance(part, (*READERS, *OTHERS)):
                    hooks.enter_context(part.register_forward_hook(keep, with_kwargs=True))
            return self.loop.output(self.model, self.x), calls

    @property
    def output(self) -> Tensor:
        """Of the untrained model in training mode, with its graph."""
        return self._forward[0]

    @property
    def calls(self) -> list[tuple[nn.Module, Any, Any]]:
        """(Layer, its first input, what it returned if it is recurrent) of each call behind
        `output`, in the order of their ends.
        """
        return self._forward[1]

    @cached_property
    def gradients(self) -> dict[str, Tensor | None]:
        """Of the loss by parameter; None for one that the loss does not reach."""
        parameters = {name: p for name, p in self.model.named_parameters() if p.requires_grad}
        loss = self.loop.loss_fn(self.output, self.y)
        found = torch.autograd.grad(
            loss, list(parameters.values()), allow_unused=True, retain_graph=True
        )
        return dict(zip(parameters, found, strict=True))

    @cached_property
    def forgotten(self) -> set[str]:
        """Names of parameters that require a gradient, and that the optimiser does not move."""
        names = {id(p): name for name, p in self.loop.model.named_parameters()}
        groups = zip(self.loop.optimizer.param_groups, self.loop.rates, strict=True)
        return self.gradients.keys() - {
            names[id(p)] for group, rate in groups if rate for p in group["params"]
        }

    @property
    def gradient_norm(self) -> float:
        """Norm of all gradients."""
        return math.hypot(
            *(float(slope.norm()) for slope in self.gradients.values() if slope is not None)
        )

    @cached_property
    def loss_operations(self) -> set[str]:
        """Names of autograd for the operations of the loss."""
        z = self.output.detach().requires_grad_()
        return {operation(node) for node in graph(self.loop.loss_fn(z.clone(), self.y))}

    @cached_property
    def constant_loss(self) -> float:
        """The least loss of a constant output on the examples."""
        return self.loop.least_constant([(self.output.shape, self.y)])[2]

    def least_loss(self, activation: Activation | None) -> float:
        """The least loss on the examples of outputs that an activation can give, or of any, each of
        them free.
        """
        zeros = torch.zeros_like(self.output, memory_format=torch.contiguous_format)
        return least_constant(
            lambda z: self.loop.loss_fn(activation.of(z) if activation else z, self.y), zeros
        )[2]

    @cached_property
    def twin(self) -> tuple[nn.Module, Callable[[Any], Any]]:
        """(A copy in evaluation mode, in double precision if it runs so, what makes inputs fit
        it).
        """
        own = copy.deepcopy(self.loop.model).eval()
        double = copy.deepcopy(own).double()
        try:
            with torch.no_grad():
                self.loop.output(double, in_double(self.x))
        except USERS_FAULT:  # whatever a module raises in double precision
            return own, lambda x: x
        return double, in_double

    @torch.no_grad()
    def outputs_of(self, x: Inputs) -> Tensor:
        """The outputs of the twin."""
        model, fitting = self.twin
        return self.loop.output(model, fitting(x))

    @cached_property
    def before(self) -> Tensor:
        """The outputs of `outputs_of`."""
        return self.outputs_of(self.x)

    @property
    def spread(self) -> float:
        """Largest difference of the output of an example from their mean, relative to the largest
        output.
        """
        return (self._differences(self.before) / self.before.abs().max().clamp_min(1e-30)).item()

    @torch.no_grad()
    def changed_outputs(self, change: Callable[[str, Tensor], Tensor]) -> Tensor:
        """The outputs of the twin with other parameters: change(name, values)."""
        model, fitting = self.twin
        model = copy.deepcopy(model)
        for name, p in model.named_parameters():
            p.copy_(change(name, p))
        return self.loop.output(model, fitting(self.x))

    def gradients_of_twin(self) -> dict[str, Tensor | None]:
        """Of the loss by parameter, in evaluation mode."""
        model, fitting = self.twin
        parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
        loss = self._loss_of_twin(self.loop.output(model, fitting(self.x)))
        found = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
        return dict(zip(parameters, found, strict=True))

    def change_along(self, directions: dict[str, Tensor], step: float) -> float:
        """Change of the twin's loss for parameters that move along directions, by a central
        difference.
        """

        def loss(size: float) -> Tensor:
            moved = self.changed_outputs(
                lambda name, p: p + size * directions[name] if name in directions else p
            )
            return self._loss_of_twin(moved)

        return float((loss(step) - loss(-step)) / (2 * step))

    def _loss_of_twin(self, output: Tensor) -> Tensor:
        y = self.y.to(output.dtype) if self.y.is_floating_point() else self.y
        loop = self.loop.with_loss_in_double() if output.dtype == torch.float64 else self.loop
        try:
            return loop.loss_fn(output, y)
        except InvalidInputError as error:
            raise InvalidInputError("the loss takes no numbers of double precision") from error

    def opened(self, name: str) -> float:
        """How many times as far the outputs of the examples lie apart with zeros in place of a
        parameter.
        """
        without = self.changed_outputs(lambda other, p: p * (other != name))
        return (
            self._differences(without) / self._differences(self.before).clamp_min(1e-300)
        ).item()

    def _differences(self, outputs: Tensor) -> Tensor:
        outputs = outputs.movedim(self.output_axis or 0, 0)
        return (outputs - outputs.mean(0)).abs().max()

    @cached_property
    def noise(self) -> float:
        """Largest difference of the outputs between two calls in evaluation mode, relative to the
        largest output; 0 as a rule.
        """
        again = self.outputs_of(self.x)
        return ((again - self.before).abs().max() / self.before.abs().max().clamp_min(1e-30)).item()

    def reads(self, frame: int) -> Tensor:
        """True for each output, (N,) or (N, T), of the twin that reads a frame."""
        model, fitting = self.twin
        bad = self.loop.reads(model, fitting(self.first), frame, 1 - self.axis).movedim(
            self.output_axis or 0, 0
        )
        return (
            bad.flatten(2 if self.of_frames else 1).any(-1)
            if bad.dim() > 1 + self.of_frames
            else bad
        )

    @cached_property
    def reached(self) -> Tensor:
        """(T,) True for each lag that the gradient of the last output reaches: NaN in its place
        pass on, whatever the weights are.
        """
        model, fitting = self.twin
        # several of repeated embeddings
        output, leaves = self.loop.output_of_leaves(model, fitting(self.first))
        if not leaves:
            raise InvalidInputError("no embedding reads all of x")
        output = output.select(1 - self.axis, -1) if self.of_frames else output
        slopes = torch.autograd.grad(output.sum() * math.nan, leaves, materialize_grads=True)
        return (
            torch.stack(slopes).sum(0).movedim(1 - self.axis, 0).flatten(1).isnan().any(1).flip(0)
        )

    @cached_property
    def mixed(self) -> int:
        """Number of other examples whose outputs change with the first one, or else with the
        last.
        """
        if self.output_axis is None or self.count < 2 or self.noise:
            return 0
        rows = self.first.movedim(self.axis, 0).flatten(1).double()
        for k in (0, self.count - 1):
            # the one that differs most
            x, other = self.first.clone(), int((rows - rows[k]).abs().sum(1).argmax())
            x.select(self.axis, k).copy_(self.first.select(self.axis, other))
            after, size = self.outputs_of(with_sequence(self.x, x)), self.before.abs().max().item()
            # packed sequences are added up in another order
            rounding = size * torch.finfo(after.dtype).eps * ROUNDING
            same = torch.isclose(self.before, after, rtol=0.0, atol=rounding, equal_nan=True)
            changed = (~same).movedim(self.output_axis, 0).reshape(self.count, -1).any(1)
            if found := int(changed.sum() - changed[k].long()):
                return found
        return 0

    def training(
        self,
        loss_fn: Callable[[Tensor, Tensor], Tensor] | None = None,
        /,
        *,
        clears: bool = True,
        moves: bool = True,
    ) -> Iterator[tuple[nn.Module, Tensor, Tensor]]:
        """Train a copy as the loop does; yields (model with gradients, output, loss) before each
        step.

        loss_fn: another one. clears: set gradients to zero before each step. moves: take the steps.
        """
        loop, model = self.loop, copy.deepcopy(self.loop.model)
        optimizer = loop.copied(loop.model, dict(model.named_parameters()))
        for x, y in loop.data.stream(0):
            if clears:
                optimizer.zero_grad()
            output = loop.output(model, x)
            loss = (loss_fn or loop.loss_fn)(output, y)
            loss.backward()
            if loop.clip_norm is not None:
                nn.utils.clip_grad_norm_(model.parameters(), loop.clip_norm)
            yield model, output.detach(), loss.detach()
            if moves:
                optimizer.step()
