"""Facts: numbers of a training run, beside those of every sound run.

    found, line, losses = facts(run, saved, steps=400, losses=())
    found[0].name, found[0].numbers, found[0].sound, found[0].starred

Most are measured in evaluation mode on the minibatches of an epoch, before training. The rest are
measured while the run trains as it is.

Legend: B examples of a minibatch, T time steps, K outputs.
"""

import contextlib
import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import get_total_norm

from rhn.utils.threads import without_cudnn
from rhn.utils.torch_private import tree_leaves, tree_map
from trainability.data import Minibatch, example_axis
from trainability.not_finite import first_not_finite
from trainability.scores import CLASSES, main_output, slopes, with_main_output
from trainability.snapshot import Snapshot, restored, seed_all
from trainability.training import (
    FAILS,
    TrainingRun,
    differs,
    entries_of,
    train_run,
    weights_are_finite,
)

FACTS = (
    "other outputs that change with one example",
    "weight tensors unchanged: gradient, none, not in optimiser",
    "steps that the last output reads",
    "steps that its gradient reaches",
    "outputs that change with the next step",
    "spread of outputs over examples, before and after training",
    "range of outputs over random weights",
    "range of y",
    "share of outputs of sum 1, loss unchanged by a constant",
    "share of the gradient at the own output",
    "loss, and loss at outputs x 100",
    "steps with NaN or infinity, the first, its examples",
    "loss of the last tenth, in your loop and in this one",
    "learning rate, first and last",
    "rows whose first loss is not that of none",
)
"""The names of all facts, in their order."""
(
    OTHERS,
    WEIGHTS,
    READ,
    REACHED,
    NEXT,
    SPREAD,
    RANGE,
    OF_Y,
    TO_ONE,
    OWN,
    TIMES,
    FINITE,
    LOOP,
    LEARNING_RATE,
    FIRST_LOSS,
) = FACTS
EPOCH = 64  # minibatches, at most
DRAWS = 8  # of random weights; both ends of a range are missed once in 128
GROWTH = 2.0  # ends that are linear in the weights grow tenfold, those of a range not at all
Numbers = tuple[float, ...] | None


@dataclass(frozen=True)
class Fact:
    """A fixed name and the numbers of a training run."""

    name: str
    numbers: tuple[float, ...] | None
    """The numbers of this run; None if they could not be measured."""
    sound: tuple[float, ...] | None
    """The numbers of every sound run; None if sound runs differ."""

    @property
    def starred(self) -> bool:
        """True if the numbers differ from those of every sound run."""
        return None not in (self.numbers, self.sound) and self.numbers != self.sound


def facts(
    run: TrainingRun, saved: Snapshot, steps: int, losses: Sequence[float], seed: int = 0
) -> tuple[tuple[Fact, ...], str, list[float]]:
    """Measure all facts but that of rows, and train the run in place. Return (facts, the line of
    the user's code with the first number that is not finite, losses of the training).

    saved: the state of the run, from which it trains. losses: those of the user's own loop.
    """
    before, watch = measured_before(run), Watch(run)
    saved.restore()
    trained = train_run(run, steps, seed, before=watch.before, after=watch.after)
    spread = measured_or_none(spread_of_outputs, run)
    found: dict[str, Numbers] = {
        **before,
        WEIGHTS: watch.unchanged() if weights_are_finite(run) else None,
        SPREAD: (*(before[SPREAD] or (math.nan,)), *(spread or (math.nan,))),
        FINITE: (watch.bad_steps, *watch.first_bad),
        LOOP: last_tenths(losses, trained),
        LEARNING_RATE: (watch.rates[0], watch.rates[-1]),
    }
    sound = {OTHERS: (0,), WEIGHTS: (0, 0, 0), REACHED: found[READ], TO_ONE: (0.0,), FINITE: (0,)}
    measured = [Fact(name, found[name], sound.get(name)) for name in FACTS if name in found]
    return tuple(measured), watch.line, trained


def measured_or_none(measure: Callable[..., Numbers], *given: Any) -> Numbers:
    """Return the numbers of a probe; None if the model or its loss fails."""
    with contextlib.suppress(*FAILS):
        return measure(*given)
    return None


def measured_before(run: TrainingRun) -> dict[str, Numbers]:
    """Measure the facts of the untrained network."""
    run.model.eval()
    batches = run.data.epoch(EPOCH)
    reads = Reads(run, batches)
    read = measured_or_none(reads.measure)
    found = {
        OTHERS: measured_or_none(others_that_change, run, batches),
        READ: read,
        REACHED: measured_or_none(reads.reached) if read else None,
        NEXT: reads.next if read else None,
        SPREAD: measured_or_none(spread_of_outputs, run),
        OF_Y: tuple(float(end) for end in run.score.targets.aminmax()),
        OWN: measured_or_none(own_share, run, batches),
    }
    if run.predict is None:
        found[TO_ONE] = measured_or_none(sums_to_one, run, batches)
        found[TIMES] = measured_or_none(loss_of_larger, run, batches)
    found[RANGE] = measured_or_none(range_of_outputs, run, batches[0])
    return {TO_ONE: None, TIMES: None, **found}


def fixed_output(run: TrainingRun, x: Any) -> Tensor:
    """Return main outputs (B, ...) for x, with the same random numbers in each call."""
    seed_all(0)
    return by_example(run, run.output(x), x)


def by_example(run: TrainingRun, output: Any, x: Any) -> Tensor:
    """Return main outputs (B, ...), also if the model returned them as (B T, K)."""
    like = tree_leaves(x)[0]
    main, count = run.score.first(run.main(output), like), like.shape[run.score.axis]
    return main.reshape(count, -1, *main.shape[1:]) if len(main) != count else main


@torch.no_grad()
def others_that_change(run: TrainingRun, batches: Sequence[Minibatch]) -> Numbers:
    """The most outputs of other examples that change if one example is replaced."""
    most = 0
    for k, (x, _, rows) in enumerate(batches):
        count = len(rows)
        place = k % count
        other = with_replaced(run, x, place, (place + 1 + k % max(1, count - 1)) % count)
        outputs = [fixed_output(run, one) for one in (x, other)]
        changed = differs(*outputs).reshape(count, -1).any(1)
        changed[place] = False
        most = max(most, int(changed.sum()))
    return (most,)


def with_replaced(run: TrainingRun, x: Any, place: int, by: int) -> Any:
    """Return a minibatch x with one example replaced by another one of it."""
    like = tree_leaves(x)[0]
    order = torch.arange(like.shape[run.score.axis], device=like.device)
    order[place] = by
    return tree_map(lambda t: t.index_select(example_axis(t, like, run.score.axis), order), x)


class Reads:
    """Which time steps the last output reads, and which its gradient reaches."""

    def __init__(self, run: TrainingRun, batches: Sequence[Minibatch]):
        self.run, self.batches = run, batches
        first = tree_leaves(batches[0].x)[0]
        self.axis = 1 - run.score.axis
        self.count = first.shape[self.axis] if first.dim() > 1 else 0
        self.is_read = torch.zeros(self.count, dtype=torch.bool)
        self.next: Numbers = None

    def outputs(self, x: Any) -> tuple[Tensor, Tensor | None]:
        """Return (the last output of each example, outputs with time steps along axis 1 if the
        model has an output for each step).
        """
        output = fixed_output(self.run, x)
        if self.run.score.kind == CLASSES and self.run.score.classes == 1 and output.dim() > 2:
            output = output.movedim(1, -1)
        y = self.batches[0].y
        numbers = output.dim() == 2 and y.dim() == 2 and self.run.score.kind != CLASSES
        if (output.dim() > 2 or numbers) and output.shape[1] == self.count > 1:
            return output[:, -1], output
        return output, None

    def changed(self, batch: int, steps: Tensor) -> Any:
        """Return x of a minibatch with some time steps of each example replaced by those of another
        one, which the next minibatch has if this one has a single example.
        """
        x = self.batches[batch].x
        first = tree_leaves(x)[0]
        index: list[Any] = [slice(None)] * first.dim()
        index[self.axis] = steps
        if len(self.batches[batch].rows) > 1:
            others = first.roll(1, self.run.score.axis)
        else:
            others = tree_leaves(self.batches[(batch + 1) % len(self.batches)].x)[0]
        mixed = first.clone()
        mixed[tuple(index)] = others[tuple(index)]
        return tree_map(lambda t: mixed if t is first else t, x)

    @torch.no_grad()
    def measure(self) -> Numbers:
        """Return how many steps the last output reads in an epoch. A step that the first minibatch
        does not show to be read is tried in all others, together with the rest of them.
        """
        if not self.count:
            return None
        ahead, plain = 0, [self.outputs(batch.x) for batch in self.batches]
        for t in range(self.count):
            k = t % len(self.batches)
            last, every = self.outputs(self.changed(k, torch.tensor([t])))
            self.is_read[t] = not torch.equal(last, plain[k][0])
            if every is not None and t:
                ahead += not torch.equal(every[:, t - 1], plain[k][1][:, t - 1])  # type: ignore[index]
        for k, (last, _) in enumerate(plain):
            rest = (~self.is_read).nonzero()[:, 0]
            if len(rest) and not torch.equal(self.outputs(self.changed(k, rest))[0], last):
                for t in rest:
                    moved = self.outputs(self.changed(k, t[None]))[0]
                    self.is_read[t] = not torch.equal(moved, last)
        self.next = None if plain[0][1] is None else (ahead,)
        return (int(self.is_read.sum()),)

    def reached(self) -> Numbers:
        """Return how many of these steps have a gradient of the last output in an epoch."""
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
        if first.is_floating_point():
            source = first.detach().clone().requires_grad_()
            taken.append(source)
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
                    (last * weights.to(last)).sum().backward()
        finally:
            for hook in hooks:
                hook.remove()
        if not taken:
            return None
        return torch.stack([self.steps_of(t.grad) for t in taken]).any(0)

    def steps_of(self, grad: Tensor | None) -> Tensor:
        """Return the time steps at which a gradient is not 0, (T,)."""
        if grad is None:
            return torch.zeros(self.count, dtype=torch.bool)
        axis = next(
            (a for a in (self.axis, 1 - self.axis) if grad.shape[a] == self.count), self.axis
        )
        return (grad.movedim(axis, 0).reshape(self.count, -1) != 0).any(1).cpu()


@torch.no_grad()
def spread_of_outputs(run: TrainingRun) -> Numbers:
    """The standard deviation of outputs over the examples of an epoch, on average over outputs."""
    run.model.eval()
    outputs = [by_example(run, run.output(x), x) for x, _, _ in run.data.epoch(EPOCH)]
    return (float(torch.cat(outputs).double().std(0).mean()),)


@torch.no_grad()
def range_of_outputs(run: TrainingRun, batch: Minibatch) -> Numbers:
    """The smallest and largest output over random weights; infinite for an end that grows with the
    weights.
    """
    kept = [p.detach().clone() for p in run.model.parameters()]
    try:
        (low, high), (lower, higher) = ends_of_outputs(run, batch)
    finally:  # a model may fail for such weights
        for p, old in zip(run.model.parameters(), kept, strict=True):
            p.copy_(old)
    return (
        -math.inf if lower < 0 and lower < GROWTH * low else lower,
        math.inf if higher > 0 and higher > GROWTH * high else higher,
    )


def ends_of_outputs(run: TrainingRun, batch: Minibatch) -> list[list[float]]:
    """Return the smallest and largest output over random weights of size 10, and of size 100."""
    ends = []
    generator = torch.Generator().manual_seed(0)
    for size in (10.0, 100.0):
        found = []
        for _ in range(DRAWS):
            for p in run.model.parameters():
                p.copy_(size * torch.randn(p.shape, generator=generator))
            output = run.main(run.output(batch.x))
            found.append(output[~output.isnan()])
        ends.append([end.item() for end in torch.cat(found).aminmax()])
    return ends


@torch.no_grad()
def sums_to_one(run: TrainingRun, batches: Sequence[Minibatch]) -> Numbers:
    """The share of outputs that sum to 1; 0 if the loss changes when 1 is added to all outputs."""
    whole, count = 0.0, 0
    for x, y, _ in batches:
        output = run.output(x)
        main = main_output(output)
        if main.shape[-1] < 2:
            return (0.0,)
        losses = [run.loss_fn(with_main_output(output, z), y) for z in (main, main + 1)]
        if not losses[0].isfinite():
            continue
        axis = run.score.classes if run.score.kind == CLASSES else -1
        sums = main.sum(axis)
        shares = (main >= 0).all(axis) & ~differs(sums, torch.ones_like(sums))
        same = not differs(losses[0][None], losses[1][None]).any()
        whole, count = whole + float(shares.sum()) * same, count + sums.numel()
    return (whole / count,) if count else None


def own_share(run: TrainingRun, batches: Sequence[Minibatch]) -> Numbers:
    """The share of the change of the gradient that lies at the output of the example whose target
    changed, on average over minibatches.
    """
    if run.predict is not None:
        return None
    shares = []
    for k, (x, y, rows) in enumerate(batches):
        with torch.no_grad():
            output = run.output(x)
        main, like, place = main_output(output), tree_leaves(x)[0], k % len(rows)
        first = run.score.first(y, like)
        counted = run.score.counts(first) & run.score.counts(first[place])
        unlike = ((first != first[place]) & counted).reshape(len(rows), -1).any(1).nonzero()[:, 0]
        if not len(unlike):
            continue
        other, by = y.clone(), unlike[0]
        new = torch.where(counted[by], first[by], first[place])
        run.score.first(other, like)[place] = new
        pair = [by_example(run, slopes(run.loss_fn, output, main, t), x) for t in (y, other)]
        change = (pair[1] - pair[0]).abs().reshape(len(rows), -1).double().sum(1)
        if change.sum() > 0:
            shares.append(float(change[place] / change.sum()))
    return (round(sum(shares) / len(shares), 4),) if shares else None


@torch.no_grad()
def loss_of_larger(run: TrainingRun, batches: Sequence[Minibatch]) -> Numbers:
    """The mean loss, and the mean loss if all outputs are multiplied by 100, over minibatches whose
    loss is finite.
    """
    losses, larger = list[float](), list[float]()
    for x, y, _ in batches:
        output = run.output(x)
        loss = float(run.loss_fn(output, y))
        if math.isfinite(loss):
            times = with_main_output(output, 100 * main_output(output))
            losses.append(loss)
            larger.append(float(run.loss_fn(times, y)))
    return (mean_of(losses), mean_of(larger))


def last_tenths(mine: Sequence[float], plain: Sequence[float]) -> Numbers:
    """The mean loss of the last tenth of the steps that both loops have, without losses that are
    not finite.
    """
    count = min(len(mine), len(plain))
    if not count:
        return None
    rows = slice(count - max(1, count // 10), count)
    return tuple(mean_of([*filter(math.isfinite, losses[rows])]) for losses in (mine, plain))


def mean_of(losses: Sequence[float]) -> float:
    """Return the mean of losses; NaN for none."""
    return sum(losses) / len(losses) if losses else math.nan


class Watch:
    """What a training run shows at its steps: gradients, learning rates, the last minibatch."""

    def __init__(self, run: TrainingRun):
        self.run, self.rates = run, list[float]()
        self.batches: deque[Minibatch] = deque(maxlen=1)
        self.bad_steps, self.first_bad, self.line = 0, tuple[int, ...](), ""
        x, y, _ = next(run.data.minibatches(0))
        loss = run.loss(run.output(x), x, y)
        known = [p for p in run.model.parameters() if p.requires_grad]
        tensors = {id(t): t for t in [*known, *leaves_of(loss)]}
        self.tensors = [*tensors.values()]
        self.old = [t.detach().clone() for t in self.tensors]
        self.reached = [False] * len(self.tensors)

    def before(self, step: int, x: Any, y: Tensor, rows: Tensor) -> None:
        """Keep the minibatch and the learning rate of a step."""
        self.batches.append(Minibatch(x, y, rows))
        self.rates.append(float(self.run.optimizer.param_groups[0]["lr"]))

    def after(self, step: int, loss: float) -> bool:
        """Look at the loss and the gradients of a step; return whether a number is not finite."""
        grads = {k: entries_of(t.grad) for k, t in enumerate(self.tensors) if t.grad is not None}
        if step <= EPOCH:
            for k, grad in grads.items():
                self.reached[k] = self.reached[k] or bool((grad != 0).any())
        known = [grad for grad in grads.values() if grad.numel()]
        largest = float(get_total_norm(known, math.inf)) if known else 0.0
        bad = not math.isfinite(loss) or not math.isfinite(largest)
        if bad:
            self.bad_steps += 1
        if bad and not self.first_bad:
            run = self.run
            with restored(run.model, run.loss_fn, run.optimizer, run.scheduler):
                self.first_bad, self.line = first_not_finite(run, step, self.batches[-1])
        return bad

    def unchanged(self) -> Numbers:
        """Return the numbers of tensors that are as before training: with a gradient, without one,
        and not in the optimiser.
        """
        held = {id(p) for group in self.run.optimizer.param_groups for p in group["params"]}
        counts = [0, 0, 0]
        for t, old, reached in zip(self.tensors, self.old, self.reached, strict=True):
            if torch.equal(t, old):
                counts[2 if id(t) not in held else 0 if reached else 1] += 1
        return tuple(counts)


def leaves_of(loss: Tensor) -> list[Tensor]:
    """Return the trainable tensors from which a loss is computed."""
    found, todo, seen = list[Tensor](), [loss.grad_fn], set[Any]()
    while todo:
        node = todo.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            found.append(node.variable)
        todo += [after for after, _ in node.next_functions]
    return found
