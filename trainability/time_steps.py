"""Which time steps of the input the last output reads, which its gradient reaches, and which are
targets of earlier steps.

    ahead = steps_ahead(run)
    reads = Reads(run, batches, horizon=1)
    reads.measure()
    reads.read, reads.ahead, reads.reached()

Legend: N training examples, B examples of a minibatch, T time steps, M numbers of a step of x,
K outputs.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from rhn.utils.threads import without_cudnn
from rhn.utils.torch_private import tree_leaves, tree_map
from trainability.data import Minibatch
from trainability.scores import CLASSES, is_one_hot
from trainability.snapshot import seed_all
from trainability.training import TrainingRun

MOST_AHEAD = 8  # time steps
FEWEST_STEPS = 2  # that are compared: a reversed sequence has its last step at the first one

Numbers = tuple[float, ...] | None
"""The numbers of a fact; None if they could not be measured."""


def fixed_output(run: TrainingRun, x: Any) -> Tensor:
    """Return main outputs (B, ...) for x, with the same random numbers in each call."""
    seed_all(0)
    return by_example(run.main(run.output(x)), len(tree_leaves(x)[0]))


def by_example(main: Tensor, count: int) -> Tensor:
    """Return main outputs (B, ...) of so many examples, also if they are rows (B T, ...)."""
    return main.reshape(count, -1, *main.shape[1:]) if len(main) != count else main


class Reads:
    """Which time steps the last output reads, and which its gradient reaches."""

    def __init__(self, run: TrainingRun, batches: Sequence[Minibatch], horizon: int):
        self.run, self.batches, self.horizon = run, batches, horizon
        first = tree_leaves(batches[0].x)[0]
        self.count = first.shape[1] if first.dim() > 1 else 0
        self.is_read = torch.zeros(self.count, dtype=torch.bool)
        self.read: Numbers = None
        """How many steps the last output reads."""
        self.ahead: Numbers = None
        """How many outputs change with one of the next steps, as many as the horizon."""

    def outputs(self, x: Any) -> tuple[Tensor, Tensor | None]:
        """Return (the last output of each example, outputs with time steps along axis 1 if the
        model has an output for each step).
        """
        output = fixed_output(self.run, x)
        if self.run.score.kind == CLASSES and self.run.score.classes == 1 and output.dim() > 2:
            output = output.movedim(1, -1)
        y = self.batches[0].y
        if self.has_steps(output, y):
            return output[:, -1], output
        return output, None

    def has_steps(self, output: Tensor, y: Tensor) -> bool:
        """Return whether axis 1 of outputs has the time steps of x."""
        if self.count < 2 or output.dim() < 2 or output.shape[1] != self.count:
            return False
        if output.dim() > 2:
            return True
        return y.dim() == 2 and self.run.score.kind != CLASSES  # a number for each step

    def changed(self, batch: int, steps: Tensor) -> Any:
        """Return x of a minibatch with some time steps of each example replaced by those of another
        one, which the next minibatch has if this one has a single example.
        """
        x = self.batches[batch].x
        first = tree_leaves(x)[0]
        if len(self.batches[batch].rows) > 1:
            others = first.roll(1, 0)
        else:
            others = tree_leaves(self.batches[(batch + 1) % len(self.batches)].x)[0]
        mixed = first.clone()
        mixed[:, steps] = others[:, steps]
        return tree_map(lambda t: mixed if t is first else t, x)

    @torch.no_grad()
    def measure(self) -> None:
        """Find the steps that the last output reads in an epoch. A step that the first minibatch
        does not show to be read is tried in all others, together with the rest of them.
        """
        has_others = len(self.run.data.train) > 1
        if not self.count or not has_others:
            return
        plain = [self.outputs(batch.x) for batch in self.batches]
        sees_ahead = torch.zeros(self.count, dtype=torch.bool)
        for t in range(self.count):
            k = t % len(self.batches)
            last, every = self.outputs(self.changed(k, torch.tensor([t])))
            self.is_read[t] = not torch.equal(last, plain[k][0])
            if every is not None:
                before = slice(max(0, t - self.horizon), t)
                moved = every[:, before] != plain[k][1][:, before]  # type: ignore[index]
                sees_ahead[before] |= moved.transpose(0, 1).flatten(1).any(1).cpu()
        for k, (last, _) in enumerate(plain):
            rest = (~self.is_read).nonzero()[:, 0]
            if len(rest) and not torch.equal(self.outputs(self.changed(k, rest))[0], last):
                for t in rest:
                    other = self.outputs(self.changed(k, t[None]))[0]
                    self.is_read[t] = not torch.equal(other, last)
        self.ahead = None if plain[0][1] is None else (int(sees_ahead.sum()),)
        self.read = (int(self.is_read.sum()),)

    def reached(self) -> Numbers:
        """Return how many of these steps have a gradient of the last output in an epoch."""
        if self.read is None:
            return None
        found = torch.zeros(self.count, dtype=torch.bool)
        for batch in self.batches:
            if found[self.is_read].all():
                break
            slopes = self.gradients(batch.x)
            if slopes is None:
                return None
            found |= slopes
        return (int((found & self.is_read).sum()),)

    def gradients(self, x: Any) -> Tensor | None:
        """Return which steps have a gradient of the last output, (T,); None for inputs without
        one, such as ids that no `nn.Embedding` reads.
        """
        first, taken = tree_leaves(x)[0], list[Tensor]()
        has_gradient = first.is_floating_point()
        source = first.detach().clone().requires_grad_(has_gradient)
        x = tree_map(lambda t: source if t is first else t, x)

        def keep(_: nn.Module, given: Any, made: Tensor) -> None:
            if made.requires_grad and made.shape[:2].numel() == first.shape[:2].numel():
                made.retain_grad()
                taken.append(made)

        embeds = [m for m in self.run.model.modules() if isinstance(m, nn.Embedding)]
        hooks = [m.register_forward_hook(keep) for m in embeds]
        try:
            with without_cudnn(), torch.enable_grad():
                last = self.outputs(x)[0]
                weights = torch.rand(last.shape, generator=torch.Generator().manual_seed(0))
                if last.requires_grad:
                    last.backward(weights.to(last))
        finally:
            for hook in hooks:
                hook.remove()
        found = [self.steps_of(t.grad, self.axis_inside(t)) for t in taken]
        if has_gradient:
            found.append(self.steps_of(source.grad, 1))
        return torch.stack(found).any(0) if found else None

    def axis_inside(self, t: Tensor) -> int:
        """Return the axis of the time steps in a tensor inside the user's model."""
        users = 1 - self.run.layout.inputs[0].axis
        is_other = t.shape[users] != self.count and t.shape[1 - users] == self.count
        return 1 - users if is_other else users

    def steps_of(self, grad: Tensor | None, axis: int) -> Tensor:
        """Return the time steps, along an axis, at which a gradient is not 0, (T,)."""
        if grad is None:
            return torch.zeros(self.count, dtype=torch.bool)
        return (grad.movedim(axis, 0).reshape(self.count, -1) != 0).any(1).cpu()


def steps_ahead(run: TrainingRun) -> Numbers:
    """Return the smallest k of 1 to 8 for which y at t is x at t + k in all training examples; None
    without one, or if y at t is x at t.
    """
    x, y = tree_leaves(run.data.train.x)[0], run.data.train.y
    if y.dim() < 2 or x.shape[:2] != y.shape[:2]:
        return None
    steps = y.shape[1]
    counted = run.score.counts(y).reshape(*y.shape[:2], -1).all(-1)
    x, y = numbers_of_steps(x), numbers_of_steps(y)
    for k in range(min(MOST_AHEAD, steps - FEWEST_STEPS) + 1):
        rows = counted[:, : steps - k]
        if are_targets(x[:, k:][rows], y[:, : steps - k][rows]):
            return (k,) if k else None
    return None


def numbers_of_steps(t: Tensor) -> Tensor:
    """Return the numbers of each step, (N, T, M); the class, (N, T, 1), for one-hot steps."""
    t = t.flatten(2) if t.dim() > 2 else t[..., None]
    return t.argmax(-1, keepdim=True) if t.shape[-1] > 1 and is_one_hot(t) else t


def are_targets(x: Tensor, y: Tensor) -> bool:
    """Return whether targets (n, K) that differ are x (n, M), or its column if K is 1."""
    has_same_columns = x.shape[1] == y.shape[1]
    if not has_same_columns and y.shape[1] > 1:
        return False
    is_same = (x == y).all(0)
    varies = bool((y != y[:1]).any())
    return varies and bool(is_same.all() if has_same_columns else is_same.any())
