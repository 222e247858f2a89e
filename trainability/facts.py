"""Facts: numbers of a training run, beside those of every sound run.

    found, line, losses = facts(run, saved, steps=400, losses=())
    found[0].name, found[0].numbers, found[0].sound, found[0].starred

A fact is a row of `PROBES`: most are measured in evaluation mode on the minibatches of an epoch,
before training, the others while the run trains as it is, or afterwards.

Legend: B examples of a minibatch.
"""

import contextlib
import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils import get_total_norm

from rhn.utils.torch_private import tree_leaves, tree_map
from trainability.data import Minibatch
from trainability.not_finite import first_not_finite
from trainability.snapshot import Snapshot, restored
from trainability.time_steps import Numbers, Reads, by_example, fixed_output, steps_ahead
from trainability.training import (
    FAILS,
    TrainingRun,
    differs,
    entries_of,
    first_rate,
    train_run,
    weights_are_finite,
)

EPOCH = 64  # minibatches, at most
DRAWS = 8  # of random weights; both ends of a range are missed once in 128
GROWTH = 2.0  # ends that are linear in the weights grow tenfold, those of a range not at all

OTHERS = "other outputs that change with one example"
SECOND = "outputs that change at a second call"
WEIGHTS = "weight tensors unchanged: gradient, none, not in optimiser"
READ = "steps that the last output reads"
REACHED = "steps that its gradient reaches"
AHEAD = "k of 1 to 8 for which y at t is x at t + k"
NEXT = "outputs at t that change with x at t + 1 to t + k"
SPREAD = "spread of outputs over examples, before and after training"
RANGE = "range of outputs over random weights"
OF_Y = "range of y"
TO_ONE = "share of outputs of sum 1, loss unchanged by a constant"
PROPORTIONAL = "share of outputs of sum 1, loss proportional to them"
OWN = "share of the gradient at the own output"
TIMES = "loss, and loss at outputs x 100"
FINITE = "steps with NaN or infinity, the first, its examples"
LOOP = "loss of the last tenth, in your loop and in this one"
LEARNING_RATE = "learning rate, first and last"
FIRST_LOSS = "rows whose first loss is not that of none"


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


@dataclass(frozen=True)
class Untrained:
    """A training run before its training, in evaluation mode."""

    run: TrainingRun
    batches: Sequence[Minibatch]
    """Of one epoch."""

    @cached_property
    def ahead(self) -> Numbers:
        """How many steps ahead the targets are."""
        return measured_or_none(steps_ahead, self.run)

    @cached_property
    def reads(self) -> Reads:
        """What outputs read."""
        horizon = int(self.ahead[0]) if self.ahead else 1
        reads = Reads(self.run, self.batches, horizon)
        reads.measure()
        return reads


@dataclass(frozen=True)
class Trained:
    """A training run after its training."""

    run: TrainingRun
    watch: "Watch"
    losses: Sequence[float]
    """Of its steps."""
    users: Sequence[float]
    """Losses of the user's own loop."""
    before: Mapping[str, Numbers]
    """The facts that were measured before training."""


@dataclass(frozen=True, kw_only=True)
class Probe:
    """How a fact is measured."""

    name: str
    meaning: str
    """What a star says, as on the page."""
    before: Callable[[Untrained], Numbers] | None = None
    """Measures it before training."""
    after: Callable[[Trained], Numbers] | None = None
    """Measures it after training; the numbers of `before` are in `Trained.before`."""
    sound: tuple[float, ...] | None = None
    """The numbers of every sound run; None if sound runs differ."""
    sound_as: str = ""
    """The fact whose numbers are the sound ones."""
    sound_if: str = ""
    """The fact that must have numbers; without them sound runs differ."""


def facts(
    run: TrainingRun, saved: Snapshot, steps: int, losses: Sequence[float], seed: int = 0
) -> tuple[tuple[Fact, ...], str, list[float]]:
    """Measure all facts but that of rows, and train the run in place. Return (facts, the line of
    the user's code with the first number that is not finite, losses of the training).

    saved: the state of the run, from which it trains. losses: those of the user's own loop.
    """
    run.model.eval()
    untrained = Untrained(run, run.data.epoch(EPOCH))
    found = {
        probe.name: measured_or_none(probe.before, untrained) for probe in PROBES if probe.before
    }
    watch = Watch(run)
    saved.restore()
    trained = train_run(run, steps, seed, before=watch.before, after=watch.after)
    after = Trained(run, watch, trained, losses, found.copy())
    found |= {probe.name: measured_or_none(probe.after, after) for probe in PROBES if probe.after}
    measured = tuple(fact_of(name, found) for name in FACTS if name in found)
    return measured, watch.line, trained


def fact_of(name: str, found: Mapping[str, Numbers]) -> Fact:
    """Return a fact, beside the numbers of every sound run."""
    probe = PROBE_OF[name]
    sound = found[probe.sound_as] if probe.sound_as else probe.sound
    if probe.sound_if and found[probe.sound_if] is None:
        sound = None
    return Fact(name, found[name], sound)


def measured_or_none(measure: Callable[[Any], Numbers], given: Any) -> Numbers:
    """Return the numbers of a probe; None if the model or its loss fails."""
    with contextlib.suppress(*FAILS):
        return measure(given)
    return None


@torch.no_grad()
def others_that_change(run: TrainingRun, batches: Sequence[Minibatch]) -> Numbers:
    """The most outputs of other examples that change if one example is replaced."""
    most = 0
    for k, (x, _, rows) in enumerate(batches):
        count = len(rows)
        place = k % count
        other = with_replaced(x, place, (place + 1 + k % max(1, count - 1)) % count)
        outputs = [fixed_output(run, one) for one in (x, other)]
        changed = differs(*outputs).reshape(count, -1).any(1)
        changed[place] = False
        most = max(most, int(changed.sum()))
    return (most,)


@torch.no_grad()
def changed_at_a_second_call(run: TrainingRun, batches: Sequence[Minibatch]) -> Numbers:
    """The most examples of a minibatch whose outputs differ in two calls."""
    most = 0
    for x, _, rows in batches:
        first, second = (by_example(run.main(run.output(x)), len(rows)) for _ in range(2))
        changed = differs(first, second).reshape(len(rows), -1).any(1)
        most = max(most, int(changed.sum()))
    return (most,)


def with_replaced(x: Any, place: int, by: int) -> Any:
    """Return a minibatch x with one example replaced by another one of it."""
    first = tree_leaves(x)[0]
    order = torch.arange(len(first), device=first.device)
    order[place] = by
    return tree_map(lambda t: t.index_select(0, order), x)


@torch.no_grad()
def spread_of_outputs(run: TrainingRun) -> float:
    """The standard deviation of outputs over the examples of an epoch, on average over outputs."""
    run.model.eval()
    outputs = [
        by_example(run.main(run.output(x)), len(rows)) for x, _, rows in run.data.epoch(EPOCH)
    ]
    return float(torch.cat(outputs).double().std(0).mean())


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


def sums_to_one(run: TrainingRun, batches: Sequence[Minibatch]) -> Numbers:
    """The share of outputs that sum to 1; 0 if the loss changes when 1 is added to all outputs."""
    return share_of_probabilities(run, batches, change=lambda z: z + 1, times=1)


def sums_to_one_and_proportional(run: TrainingRun, batches: Sequence[Minibatch]) -> Numbers:
    """The share of outputs that sum to 1; 0 if the loss is not twice as large for twice the
    outputs, or targets are not whole numbers.
    """
    has_no_classes = run.predict is None and run.data.train.y.is_floating_point()
    if has_no_classes:
        return (0.0,)
    return share_of_probabilities(run, batches, change=lambda z: 2 * z, times=2)


@torch.no_grad()
def share_of_probabilities(
    run: TrainingRun, batches: Sequence[Minibatch], change: Callable[[Tensor], Tensor], times: int
) -> Numbers:
    """The share of outputs that sum to 1; 0 if the loss of changed outputs is not `times` as
    large.
    """
    if run.predict is not None:
        return None
    whole, count = 0.0, 0
    for x, y, _ in batches:
        output = run.output(x)
        main = run.main(output)
        if main.shape[-1] < 2:
            return (0.0,)
        losses = [run.users_loss.at(output, z, y) for z in (main, change(main))]
        if not losses[0].isfinite():
            continue
        axis = run.score.classes  # the last one for other targets
        sums = main.sum(axis)
        shares = (main >= 0).all(axis) & ~differs(sums, torch.ones_like(sums))
        same = not differs(times * losses[0][None], losses[1][None])
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
        main, place = run.main(output), k % len(rows)
        counted = run.score.counts(y) & run.score.counts(y[place])
        unlike = ((y != y[place]) & counted).reshape(len(rows), -1).any(1).nonzero()[:, 0]
        if not len(unlike):
            continue
        other, by = y.clone(), unlike[0]
        other[place] = torch.where(counted[by], y[by], y[place])
        pair = [by_example(run.users_loss.slopes(output, main, t), len(rows)) for t in (y, other)]
        change = (pair[1] - pair[0]).abs().reshape(len(rows), -1).double().sum(1)
        if change.sum() > 0:
            shares.append(float(change[place] / change.sum()))
    return (round(sum(shares) / len(shares), 4),) if shares else None


@torch.no_grad()
def loss_of_larger(run: TrainingRun, batches: Sequence[Minibatch]) -> Numbers:
    """The mean loss, and the mean loss if all outputs are multiplied by 100, over minibatches whose
    loss is finite.
    """
    if run.predict is not None:
        return None
    losses, larger = list[float](), list[float]()
    for x, y, _ in batches:
        output = run.output(x)
        loss = float(run.users_loss(output, y))
        if math.isfinite(loss):
            losses.append(loss)
            larger.append(float(run.users_loss.at(output, 100 * run.main(output), y)))
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
        x, y, _ = run.data.first_minibatch()
        loss = run.loss(run.output(x), y)
        known = [p for p in run.model.parameters() if p.requires_grad]
        tensors = {id(t): t for t in [*known, *leaves_of(loss)]}
        self.tensors = [*tensors.values()]
        self.old = [t.detach().clone() for t in self.tensors]
        self.reached = [False] * len(self.tensors)

    def before(self, step: int, x: Any, y: Tensor, rows: Tensor) -> None:
        """Keep the minibatch and the learning rate of a step."""
        self.batches.append(Minibatch(x, y, rows))
        self.rates.append(first_rate(self.run.optimizer))

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
        frozen = dead = missing = 0
        for t, old, reached in zip(self.tensors, self.old, self.reached, strict=True):
            if torch.equal(t, old):
                if id(t) not in held:
                    missing += 1
                elif reached:
                    frozen += 1
                else:
                    dead += 1
        return frozen, dead, missing


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


def _spread_before(of: Untrained) -> Numbers:
    if len(of.run.data.train) == 1:
        return None
    return (spread_of_outputs(of.run),)


def _spread_before_and_after(of: Trained) -> Numbers:
    if len(of.run.data.train) == 1:
        return None
    before = of.before[SPREAD] or (math.nan,)
    after = (math.nan,)
    with contextlib.suppress(*FAILS):
        after = (spread_of_outputs(of.run),)
    return *before, *after


PROBES = (
    Probe(
        name=OTHERS,
        before=lambda of: others_that_change(of.run, of.batches),
        sound=(0,),
        meaning="If one example of a minibatch is replaced, outputs of other examples change by "
        "more than rounding.",
    ),
    Probe(
        name=SECOND,
        before=lambda of: changed_at_a_second_call(of.run, of.batches),
        sound=(0,),
        meaning="The network returns other outputs for the same inputs at a second call in "
        "evaluation mode.",
    ),
    Probe(
        name=WEIGHTS,
        after=lambda of: of.watch.unchanged() if weights_are_finite(of.run) else None,
        sound=(0, 0, 0),
        meaning="Trainable tensors are the same bit for bit after all steps of `none`.",
    ),
    Probe(
        name=READ,
        before=lambda of: of.reads.read,
        meaning="The time steps of the first input for which a bit of the last output changes, "
        "if they are replaced.",
    ),
    Probe(
        name=REACHED,
        before=lambda of: of.reads.reached(),
        sound_as=READ,
        meaning="Some steps that the last output reads have no gradient of it other than 0.",
    ),
    Probe(
        name=AHEAD,
        before=lambda of: of.ahead,
        meaning="Each target of a step is the input of a later step.",
    ),
    Probe(
        name=NEXT,
        before=lambda of: of.reads.ahead,
        sound=(0,),
        sound_if=AHEAD,
        meaning="Outputs change if a later step of the input, up to the one that is their target, "
        "is replaced.",
    ),
    Probe(
        name=SPREAD,
        before=_spread_before,
        after=_spread_before_and_after,
        meaning="The standard deviation over the examples, on average over outputs.",
    ),
    Probe(
        name=RANGE,
        before=lambda of: range_of_outputs(of.run, of.batches[0]),
        meaning="The smallest and largest output in eight draws of very large random weights.",
    ),
    Probe(
        name=OF_Y,
        before=lambda of: tuple(float(end) for end in of.run.score.targets.aminmax()),
        meaning="The smallest and largest target of the training examples that your loss counts.",
    ),
    Probe(
        name=TO_ONE,
        before=lambda of: sums_to_one(of.run, of.batches),
        sound=(0.0,),
        meaning="Outputs are probabilities, and the loss stays the same when 1 is added to all "
        "of them.",
    ),
    Probe(
        name=PROPORTIONAL,
        before=lambda of: sums_to_one_and_proportional(of.run, of.batches),
        sound=(0.0,),
        meaning="Outputs are probabilities, and the loss is proportional to them.",
    ),
    Probe(
        name=OWN,
        before=lambda of: own_share(of.run, of.batches),
        meaning="The part of the change of the gradient that lies at the output of the example "
        "whose target is changed.",
    ),
    Probe(
        name=TIMES,
        before=lambda of: loss_of_larger(of.run, of.batches),
        meaning="The mean loss of the untrained network, and with its outputs multiplied by 100.",
    ),
    Probe(
        name=FINITE,
        after=lambda of: (of.watch.bad_steps, *of.watch.first_bad),
        sound=(0,),
        meaning="Optimiser steps of `none` have a loss or gradient that is not finite.",
    ),
    Probe(
        name=LOOP,
        after=lambda of: last_tenths(of.users, of.losses),
        meaning="The mean losses of your own loop and of this one over the last tenth of the "
        "steps.",
    ),
    Probe(
        name=LEARNING_RATE,
        after=lambda of: (of.watch.rates[0], of.watch.rates[-1]),
        meaning="Of the first parameter group, at the first and the last step.",
    ),
    Probe(
        name=FIRST_LOSS,  # counted when all rows have been trained
        sound=(0,),
        meaning="Rows that begin with the network, weights, data and loss of `none` have "
        "another first loss.",
    ),
)
"""All facts, in the order in which they are printed."""
PROBE_OF = {probe.name: probe for probe in PROBES}
FACTS = tuple(PROBE_OF)
"""The names of all facts, in their order."""
