"""Causes shown by a repair: a training stays, and the same training with one thing changed leaves;
or it leaves, and the changed one is much better on held-out examples.

Each repair is tried only if something speaks for it, the most plausible first, while there is time:
in a short trial, and in a longer one if the short one has a lower loss than the training itself, or
explains more.
"""

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from gersgorin._validate import random_numbers_kept
from gersgorin.checking.causes.case import Case, noted
from gersgorin.checking.causes.cause import BELOW, CUT, Cause, digits, listed
from gersgorin.checking.causes.data import (
    SATURATED,
    STANDARD,
    TINY,
    codes,
    in_front,
    is_padding,
    onto,
    scale_of,
    scales,
    standardised,
)
from gersgorin.checking.causes.kept_out import STRONG, Watch
from gersgorin.checking.causes.pairing import frames_apart
from gersgorin.checking.causes.rates import (
    CLIP,
    FEW,
    LATE,
    LONGER,
    STILL,
    decades,
    rate_cause,
    rate_is_usual,
    scheduled_end,
    too_few,
    towards_usual,
)
from gersgorin.checking.clocks import signal
from gersgorin.checking.trials import LEFT, Constant, Trial, run_trials
from gersgorin.training.minibatches import Pair, sequence_of, with_sequence
from gersgorin.training.training import Training
from rhn.errors import InvalidInputError

SHORT, LONG = 0.05, 0.5  # of the steps of a training, for the first trial and the second one
LEAST = 64  # steps of a first trial
# of the training's own loss at the same step: a first trial that is followed by a second one
AHEAD = 0.98
EXPLAINS = 2.0  # times what the outputs of the training itself explain at the same step: likewise
# of the loss on held-out examples of a training that leaves: likewise; clearly better
BEGINS, BETTER = 0.9, 0.7
# of the steps: length of a trial at ten times the learning rate, of a training that leaves late
FIRST = 0.1
# times the size of a layer's own initial weights, from which on others may be too large or too
# small
ODD = 4.0
BINDS = 10.0  # times the clipping norm: a first gradient that clipping changes much
DECAYS = 0.1  # of the first gradient: weight decay that may matter
# of the constant's loss on held-out examples: with less a training does well, whatever is suspected
WEAK = 0.2
MUCH = 0.5  # of dropout
FADES = 0.9  # spectral radius of recurrent weights, below which states fade
DEEP = 3  # recurrent layers, from which on fewer are tried
# of the steps: a training that takes more of them to leave may do so by other scales or a higher
# rate
SLOW = 1 / 3
UNSCALED = 5.0  # mean or standard deviation; or the inverse of the larger one


@dataclass(frozen=True)
class Repair:
    """A change of a training, and the cause that it shows."""

    name: str
    cause: Cause | Callable[[Trial], Cause]
    """What it repairs, or a function of the trial that leaves."""
    attributes: dict[str, Any] = field(default_factory=dict)
    """Of the loop, which replace its own, see `Training.changed`."""
    change: Callable[[Pair], Pair] | None = None
    """Of inputs and targets."""
    factors: Sequence[float] = (1.0,)
    """On the learning rate, which are all tried."""
    mistake: bool = True
    """True if what is repaired is a mistake by itself, so that it is sure."""
    lengths: Sequence[int] = ()
    """Steps of the trials; empty: a short one and a longer one."""
    undo: Callable[[Tensor], Tensor] | None = None
    """Outputs in the unit of the given targets, if these are changed to another one: its loss is
    the given one of these.
    """
    strong: bool = False
    """True if its numbers speak for it: the second trial is as long as the training, and made
    although the first one is not ahead.
    """
    late: bool = False
    """True if it may help only late: of a training that leaves, it is compared over `LONG` of the
    steps.
    """

    @property
    def doing_well(self) -> float:
        """Loss on held-out examples, relative to the constant's, from which down a training that
        leaves needs no repair.
        """
        return WEAK if self.late else STRONG

    def applied(self, loop: Training) -> Training:
        """The repaired training."""
        data = {"data": loop.data.mapped(self.change)} if self.change else {}
        new = self.attributes | data
        return loop.changed(**new) if new else loop

    def shown(self, trial: Trial) -> Cause:
        """The cause, with the step at which the repaired training leaves, if this was seen."""
        if not isinstance(self.cause, Cause):
            return self.cause(trial)
        if trial.left == math.inf:
            return self.cause
        sentence = (
            f"{self.cause.sentence} With that changed the loss {BELOW} after "
            f"{trial.left:.0f} steps."
        )
        return replace(
            self.cause, sentence=sentence, evidence=self.cause.evidence | {"left": trial.left}
        )


@dataclass
class Trials:
    """Trials of changed trainings within some seconds."""

    case: Case
    constant: Constant
    seconds_left: Callable[[], float]
    seed: int
    progress: Callable[[str], None]
    lacking: list[str] = field(default_factory=list)
    """Trials that failed, in words."""

    def run(
        self, loop: Training, factors: Sequence[float], steps: int, **options: Any
    ) -> list[Trial]:
        """Trials until the first one leaves; none without time."""
        options = {
            "until_any": True,
            "constant": self.constant if loop is self.case.loop else None,
        } | options
        seconds, found = self.seconds_left(), list[Trial]()
        if factors and seconds > 0:
            found = run_trials(
                loop, factors, steps=steps, seconds=seconds, seed=self.seed, **options
            )
        if (factors and seconds <= 0) or any(trial.cut for trial in found):
            self.lacking[:] = dict.fromkeys([*self.lacking, CUT])
        return found

    def end(
        self, loop: Training, factor: float, steps: int, constant: Constant
    ) -> nn.Module | None:
        """The model after some steps at a factor on the learning rate; None without time, or if its
        loss is not finite.
        """
        ends: list[nn.Module] = []
        read = lambda model, trial: bool(ends.append(model))  # type: ignore[func-returns-value]  # noqa: E731
        self.run(
            loop,
            [factor],
            steps,
            until_any=False,
            after=math.inf,
            interval=steps,
            read=read,
            constant=constant,
        )
        return ends[0] if ends else None

    def leaving(self, repair: Repair, own: Trial) -> tuple[Trial | None, list[Trial]]:
        """(The trial of a repaired training that leaves, or None, all of them). own: of the
        training itself.
        """
        self.progress(f"repaired: {repair.name}")
        loop, steps, factors, tried = (
            repair.applied(self.case.loop),
            self.case.steps,
            repair.factors,
            list[Trial](),
        )
        last = steps if repair.strong else int(LONG * steps)
        for length in repair.lengths or (min(steps, max(LEAST, int(SHORT * steps))), last):
            tried += self.run(loop, factors, length)
            if (best := _lowest(tried)) is None or best.confirmed:
                return best, tried
            if best.steps >= LONG * steps or not (repair.strong or _is_ahead(best, own)):
                break
            factors = [best.factor]
        return None, tried


def _is_ahead(trial: Trial, own: Trial) -> bool:
    """True if a trial has a lower loss than the training itself at the same step, or if its outputs
    explain more of it.
    """
    steps = min(trial.steps, own.steps)
    same = own.ratios[steps - 1]
    if not math.isfinite(same) or trial.ratios[-1] < AHEAD * same:
        return True
    if steps < 3:  # a signal has two steps at least
        return False
    late, theirs = (signal(each, steps // 2, steps) for each in (trial, own))
    return late.moves and late.gain > EXPLAINS * theirs.gain


def _lowest(trials: Sequence[Trial]) -> Trial | None:
    """The trial whose loss is the lowest at its end; None without one that did not diverge."""
    every = [trial for trial in trials if trial.steps and trial.diverged == math.inf]
    return min(every, key=lambda trial: trial.ratios[-1], default=None)


def repaired(
    case: Case, likely: list[Cause], trials: Trials, own: Trial, *, rates: bool
) -> tuple[list[Cause], list[Trial]]:
    """(The first cause whose repair makes a training leave, the trials of this training at other
    learning rates).

    likely: causes found before. own: the trial of the training itself. rates: try other learning
    rates.
    """
    tried: list[Trial] = []
    for repair in _repairs(case, {cause.name: cause for cause in likely}, rates):
        trial: Trial | None = None
        with noted(trials.lacking, repair.name):
            trial, more = trials.leaving(repair, own)
            tried += more * (repair.applied(case.loop) is case.loop and not repair.lengths)
        if trial is not None:
            return [replace(repair.shown(trial), sure=repair.mistake)], tried
    return [], tried


def improved(
    case: Case, risks: list[Cause], trials: Trials, own: Trial, watch: Watch
) -> Iterator[Cause]:
    """The causes of a training that leaves whose repair makes it clearly better on held-out
    examples.

    A training that has less than `STRONG` of the constant's loss there does well. risks: that
    healthy trainings may have. own: the training itself, whose model `watch` holds.
    """
    likely, factor, found = {cause.name: cause for cause in risks}, towards_usual(case), False
    if (
        factor == 1
        and case.loop.scheduler is None
        and own.steps > SLOW * case.steps
        and own.ratios[-1] > STRONG
    ):
        with noted(trials.lacking, "ten times the learning rate"):
            faster = _lowest(
                trials.run(case.loop, [10.0], int(FIRST * case.steps), until_any=False)
            )
            factor = 10.0 if faster and faster.ratios[-1] < own.ratios[-1] else 1.0
    other_rate = Repair(
        "another learning rate", lambda trial: rate_cause(case, trial), factors=[factor]
    )
    repairs = [
        *_missing(case, likely),
        *_schedule(case),
        *_padding(case, likely),
        *_both_ends(case, likely),
    ]
    repairs += [
        *_clipping(case, BINDS),
        *_decay(case, DECAYS),
        *_frozen(case, likely),
        *_dropout(case),
    ]
    few = case.steps <= FEW and case.loop.scheduler is None
    repairs += [
        *_longer(case) * few,
        *_default_weights(case),
        *_normalised(case),
        *(_unscaled(case) if own.left > SLOW * case.steps else ()),
        *[other_rate] * (factor != 1),
    ]
    for repair in repairs:
        if found and repair is other_rate:  # which several causes have as their consequence
            return
        before = after = math.nan
        with noted(trials.lacking, repair.name):
            before, after, taken = _held_out(case, repair, trials, own.steps, watch)
        if before > repair.doing_well and after < BETTER * before:
            found = True
            cause = repair.shown(Trial(repair.factors[0]))
            yield replace(
                cause,
                sentence=f"{cause.sentence} After {taken:,} steps the loss on held-out "
                f"examples is {digits(before, 2)} times that of "
                f"the best constant output, with that changed {digits(after, 2)} times.",
                evidence=cause.evidence | {"loss": before, "better": after, "steps": taken},
            )


def _held_out(
    case: Case, repair: Repair, trials: Trials, steps: int, watch: Watch
) -> tuple[float, float, int]:
    """(Loss on held-out examples relative to the constant's, that of the repaired training, steps
    of both); NaN without time.

    Both losses are the repaired one, in evaluation mode, unless targets get another unit. If the
    repair is `late` both have `LONG` of the steps at once; else only if a first, shorter trial is
    ahead, or if the training itself has learned nothing of this loss.
    """
    trials.progress(f"repaired: {repair.name}")
    loop, long, (factor,) = repair.applied(case.loop), int(LONG * case.steps), repair.factors
    constant, changed = (
        Constant(loop),
        [repair.change(pair) if repair.change else pair for pair in watch.kept],
    )
    given = [(x, y) for (x, _), (_, y) in zip(watch.kept, changed, strict=True)]
    if repair.undo:
        given = changed = watch.kept
    judge, best = (case.loop, trials.constant) if repair.undo else (loop, constant)
    lowest = sum(best.losses(changed))

    @torch.no_grad()
    def loss(
        model: nn.Module | None, pairs: list[Pair], undo: Callable[[Tensor], Tensor] | None = None
    ) -> float:
        if model is None:
            return math.nan
        outputs = ((judge.output(model.eval(), x), y) for x, y in pairs)
        return sum(judge.loss_fn(undo(z) if undo else z, y).item() for z, y in outputs) / lowest

    def after_steps(steps: int) -> float:
        return loss(trials.end(loop, factor, steps, constant), changed, repair.undo)

    if not (before := loss(copy.deepcopy(watch.model), given)) > repair.doing_well:
        return before, math.nan, steps
    if repair.lengths:
        before = loss(trials.end(loop, factor, case.steps, constant), given)
        return (
            before,
            after_steps(repair.lengths[0]) if before > repair.doing_well else math.nan,
            case.steps,
        )
    at_once = repair.late and steps < LATE * long
    after = math.nan if at_once else after_steps(steps)
    if at_once or (steps < LATE * long and (after < BEGINS * before or before > LEFT)):
        before, steps = loss(trials.end(case.loop, 1.0, long, trials.constant), given), long
        after = after_steps(long)
    return before, after, steps


def _repairs(case: Case, likely: dict[str, Cause], rates: bool) -> Iterator[Repair]:
    """The changes that something speaks for: of data and outputs, of the training, of its learning
    rate.
    """
    yield from _repairs_of_data(case, likely)
    usual, others = rate_is_usual(case), decades(case) if rates else []
    at_others = Repair(
        "other learning rates",
        lambda trial: rate_cause(case, trial),
        factors=others,
        mistake=not usual,
    )
    if others and not usual:
        yield at_others
    yield from _repairs_of_training(case, likely)
    if rates and case.steps <= FEW and case.loop.scheduler is None:
        longer = LONGER * case.steps
        yield Repair(
            "more steps",
            lambda trial: too_few(case.steps, trial.left),
            mistake=False,
            lengths=[longer],
        )
    if others and usual and "explosion" not in likely:  # which smaller rates delay
        yield at_others


def _repairs_of_data(case: Case, likely: dict[str, Cause]) -> Iterator[Repair]:
    loop, last = case.loop, case.loop.activation
    numbers, regression = case.first.is_floating_point(), case.regression
    if (cause := likely.get("softmax twice")) and last is not None:
        logits = torch.log if last.kind == "Softmax" else torch.logit
        loss = lambda z, y: loop.loss_fn(logits(z.clamp(1e-7, 1 - 1e-7)), y)  # noqa: E731
        yield Repair("logits", cause, {"loss_fn": loss})
    if (cause := likely.get("output range")) and last is not None and regression:
        low, high = max(last.low, -1.0), min(last.high, 1.0)
        inside = standardised(case, targets=True, to=((low + high) / 2, (high - low) / 4))
        yield Repair("targets in the range", cause, change=inside)
    yield from _mixed(case, likely)
    yield from _missing(case, likely)
    yield from _padding(case, likely)
    far_scales = scales(case) | likely
    far = far_scales.get("target scale") if regression else None
    if far:
        yield Repair("standardised targets", far, change=standardised(case, targets=True))
    for cause in [
        far_scales[name] for name in ("input scale", "ids as numbers") if name in far_scales
    ] * numbers:
        yield Repair("standardised inputs", cause, change=standardised(case, inputs=True))
        if far:
            both = standardised(case, inputs=True, targets=True)
            yield Repair("standardised inputs and targets", cause, change=both)
    own = case.output.detach().std().item()
    if not regression and 0 < own < TINY:
        cause = Cause(
            "output scale",
            f"The outputs have a standard deviation of {own:.1g}, but the loss expects logits, "
            "which differ by about 1.",
            "Do not divide the outputs; look for a small factor after the last layer.",
            {"std": own},
        )
        yield Repair("larger outputs", cause, {"loss_fn": lambda z, y: loop.loss_fn(z / own, y)})


def _repairs_of_training(case: Case, likely: dict[str, Cause]) -> Iterator[Repair]:
    loop = case.loop
    yield from _default_weights(case)  # from far ones another change shows little
    yield from _schedule(case, stays=True)
    yield from _clipping(case)
    yield from _decay(case)
    yield from _dropout(case)
    yield from _both_ends(case, likely)
    yield from _frozen(case, likely)
    yield from _orthogonal(case)
    yield from _one_layer(case)
    yield from _normalised(case)
    if "explosion" in likely and loop.clip_norm is None:
        yield Repair("clipped gradients", likely["explosion"], {"clip_norm": CLIP})


def _clipping(case: Case, least: float = 0.0) -> Iterator[Repair]:
    """No clipping, if the norm of the first gradient is at least `least` times that to which it is
    clipped.
    """
    norm, clip_norm = case.gradient_norm, case.loop.clip_norm
    if clip_norm is None or norm < least * clip_norm:
        return
    words = f"The gradient has a norm of {norm:.2g} at first, and is clipped to {clip_norm:g}."
    cause = Cause(
        "clip_norm too small",
        words,
        f"Set it to {norm:.1g} or more, or average the loss in place of a sum.",
        {"norm": norm, "clip_norm": clip_norm},
    )
    yield Repair("no clipping", cause, {"clip_norm": None}, late=True)


def _decay(case: Case, least: float = 0.0) -> Iterator[Repair]:
    """No weight decay, if its part of the first gradient is at least `least` of the rest."""
    loop = case.loop
    decay = max(group.get("weight_decay", 0) for group in loop.optimizer.param_groups)
    share = decay * math.hypot(
        *(float(p.detach().norm()) for p in case.model.parameters() if p.requires_grad)
    )
    share /= max(case.gradient_norm, 1e-30)
    # which decouples it
    if not decay or share < least or (least and isinstance(loop.optimizer, torch.optim.AdamW)):
        return
    words = (
        f"Weight decay of {decay:g} pulls on the weights with {share:.2g} times the size "
        "of the first gradient."
    )
    coupled = not isinstance(loop.optimizer, torch.optim.AdamW)
    remedy = (
        "Set "
        f"weight_decay=0{', or use AdamW, which decays weights apart from their gradients' * coupled}."
    )
    optimizer = loop.copied(loop.model, dict(loop.model.named_parameters()))
    for group in optimizer.param_groups:
        group["weight_decay"] = 0.0
    cause = Cause("weight decay", words, remedy, {"weight_decay": decay})
    yield Repair("no weight decay", cause, {"optimizer": optimizer}, strong=share > 1, late=True)


def _schedule(case: Case, stays: bool = False) -> Iterator[Repair]:
    """A constant learning rate, if the scheduler ends the training too early. stays: also if it
    does not.
    """
    if case.loop.scheduler is None or not ((end := scheduled_end(case)) < case.steps or stays):
        return
    name, words = (
        type(case.loop.scheduler).__name__,
        "sets learning rates at which the loss does not fall",
    )
    if end < case.steps:
        words = (
            f"sets learning rates below 1/{1 / STILL:,.0f} of its highest one from step "
            f"{end:,} of {case.steps:,} on"
        )
    cause = Cause(
        "schedule",
        f"{name} {words}.",
        "Leave it out, or let the rate fall over the whole training.",
        {"end": end},
    )
    yield Repair("a constant learning rate", cause, {"scheduler": None}, late=True)


def _mixed(case: Case, likely: dict[str, Cause]) -> Iterator[Repair]:
    """Inputs whose axes are exchanged where they were reshaped."""
    if cause := likely.get("reshaped inputs"):
        moved = lambda pair: (with_sequence(pair[0], frames_apart(sequence_of(pair[0]))), pair[1])  # noqa: E731
        yield Repair("exchanged axes", cause, change=moved)


def _missing(case: Case, likely: dict[str, Cause]) -> Iterator[Repair]:
    """Inputs of mean 0 and standard deviation 1 of each feature, with 0 for each code of a missing
    value.
    """
    if (cause := likely.get("missing values")) is None or (found := codes(case)) is None:
        return

    def filled(pair: Pair) -> Pair:
        x = sequence_of(pair[0])
        values = ((x - found.mean) / found.std).masked_fill((x == found.value) & found.is_code, 0.0)
        return with_sequence(pair[0], values.to(x.dtype)), pair[1]

    yield Repair("missing values filled", cause, change=filled, late=True)


def _padding(case: Case, likely: dict[str, Cause]) -> Iterator[Repair]:
    """Padding out of the loss, or in front of the sequences."""
    if (cause := likely.get("padding")) is None:
        return
    if case.of_frames:

        def marked(pair: Pair) -> Pair:
            real = ~is_padding(sequence_of(pair[0]), case.axis)
            real = real.reshape(*real.shape, *[1] * (pair[1].dim() - 2)).expand(pair[1].shape)
            return pair[0], torch.stack([pair[1], real.to(pair[1])], -1)

        def loss(z: Tensor, both: Tensor) -> Tensor:
            """Of the real frames, as one long sequence."""
            y, real = (
                both[..., 0],
                both[..., 1].flatten(2).any(-1) if both.dim() > 3 else both[..., 1].bool(),
            )
            return case.loop.loss_fn(*(part[real].unsqueeze(case.axis) for part in (z, y)))

        yield Repair("padding out of the loss", cause, {"loss_fn": loss}, marked, late=True)
    else:
        front = lambda pair: (
            with_sequence(pair[0], in_front(sequence_of(pair[0]), case.axis)),
            pair[1],
        )  # noqa: E731
        yield Repair("padding in front", cause, change=front, late=True)


def _frozen(case: Case, likely: dict[str, Cause]) -> Iterator[Repair]:
    """All weights trained, if some are frozen or not held by the optimiser."""
    held = {id(p) for group in case.loop.optimizer.param_groups for p in group["params"]}
    model = copy.deepcopy(case.loop.model).requires_grad_()
    both = zip(case.loop.model.parameters(), model.parameters(), strict=True)
    others = [new for own, new in both if id(own) not in held]
    if (cause := likely.get("untrained weights")) and (
        others or len(case.gradients) < len([*model.parameters()])
    ):
        optimizer = case.loop.copied(case.loop.model, dict(model.named_parameters()))
        moving = next(
            group
            for group, rate in zip(optimizer.param_groups, case.loop.rates, strict=True)
            if rate
        )
        moving["params"] += others
        late = bool(case.forgotten)  # else frozen on purpose
        yield Repair(
            "all weights trained", cause, {"model": model, "optimizer": optimizer}, late=late
        )


def _both_ends(case: Case, likely: dict[str, Cause]) -> Iterator[Repair]:
    """The backward half of a bidirectional layer as it is at the first step, at all steps."""
    cause = likely.get("unread steps")
    if cause is None or "layer" not in cause.evidence:
        return

    def from_first(layer: nn.Module, given: Any, made: tuple) -> tuple:
        forward, backward = made[0].chunk(2, -1)
        first = backward.narrow(int(layer.batch_first), 0, 1).expand_as(backward)  # type: ignore[arg-type]
        return torch.cat([forward, first], -1), *made[1:]

    model = copy.deepcopy(case.loop.model)
    model.get_submodule(cause.evidence["layer"]).register_forward_hook(from_first)
    yield Repair("the backward half at the first step", cause, {"model": model}, late=True)


def _dropout(case: Case) -> Iterator[Repair]:
    """No dropout, if there is some: outputs that differ from call to call in training mode only."""
    with torch.no_grad():
        drawn = not case.noise and bool((case.loop.output(case.model, case.x) != case.output).any())
    if not drawn:
        return
    model = copy.deepcopy(case.loop.model)
    for part in model.modules():  # cuDNN trains recurrent layers in training mode only
        part.training &= isinstance(part, nn.RNNBase | nn.modules.batchnorm._BatchNorm)
        if isinstance(part, nn.RNNBase):
            part.dropout = 0.0
    layers = [
        part
        for part in case.model.modules()
        if isinstance(part, nn.RNNBase | nn.modules.dropout._DropoutNd)
    ]
    most = max(
        (float(getattr(part, "dropout", 0.0) or getattr(part, "p", 0.0)) for part in layers),
        default=0.0,
    )
    words = f"Dropout of up to {most:g}" if most else "Dropout"
    cause = Cause(
        "dropout",
        f"{words} removes information that has to be kept exactly.",
        "Set dropout to 0, at least before and inside the recurrence.",
        {"p": most},
    )
    yield Repair("no dropout", cause, {"model": model}, late=most >= MUCH)


def _default_weights(case: Case) -> Iterator[Repair]:
    """The initial weights that layers of torch.nn give themselves, if those of the model are far
    larger or smaller.

    Matrices of a user's own module, whose inputs may be rows or columns, are drawn as those of
    torch.nn would be, uniform up to 1 / sqrt(inputs), if they are larger or smaller with both.
    """
    model, sizes = copy.deepcopy(case.loop.model), {}
    with random_numbers_kept(model):
        torch.manual_seed(0)
        for part in model.modules():
            reset = getattr(part, "reset_parameters", None)
            if reset and type(part).__module__.startswith("torch.nn."):
                reset()
            for p in [] if reset else part.parameters(recurse=False):
                # no gains or shifts, which begin as ones or zeros
                if p.dim() == 2 and p.max() > p.min():
                    size = math.sqrt(3) * p.detach().double().square().mean().sqrt().item()
                    a = min(max(size, max(p.shape) ** -0.5), min(p.shape) ** -0.5)
                    nn.init.uniform_(p, -a, a)
    for (name, given), default in zip(
        case.loop.model.named_parameters(), model.parameters(), strict=True
    ):
        own, usual = (
            math.sqrt(p.detach().double().square().mean().item()) for p in (given, default)
        )
        shut = given.dim() == 1 and given.abs().max() > SATURATED  # a gate, by its bias
        if usual and not 1 / ODD < own / usual < ODD and (given.dim() > 1 or shut):
            sizes[name] = own, usual
    if sizes:
        far = lambda name: -abs(math.log(max(sizes[name][0], 1e-30) / sizes[name][1]))  # noqa: E731
        name, *_ = names = sorted(sizes, key=far)
        own, usual = sizes[name]
        cause = Cause(
            "initial weights",
            f"The initial weights of {listed(names)} are far from those that layers of "
            f"torch.nn give themselves: {name} has a "
            f"size of {own:.2g} (root mean square), with those {usual:.2g}.",
            "Leave the layers' own initial weights, or call reset_parameters() of each layer "
            "after everything that changes them; for "
            "your own parameters nn.init.uniform_(p, -a, a), a = 1 / sqrt(units).",
            {"name": name, "size": own, "usual": usual, "all": names},
        )
        yield Repair("default initial weights", cause, {"model": model}, late=True)


def _orthogonal(case: Case) -> Iterator[Repair]:
    """Orthogonal recurrent weights of layers without gates, if with their own a state fades at
    every step.
    """
    model, radii = copy.deepcopy(case.loop.model), dict[str, float]()
    with random_numbers_kept(model):
        torch.manual_seed(0)
        for name, p in model.named_parameters():
            layer, _, key = name.rpartition(".")
            if key.startswith("weight_hh") and type(model.get_submodule(layer)) in (
                nn.RNN,
                nn.RNNCell,
            ):
                radii[name] = torch.linalg.eigvals(p.detach().double()).abs().max().item()
                nn.init.orthogonal_(p)
    if radii and max(radii.values()) < FADES:
        name, radius = min(radii.items(), key=lambda item: item[1])
        words = (
            f"{name} has a spectral radius of {radius:.2g}: states and gradients fade at "
            "every step."
        )
        remedy = " ".join(f"nn.init.orthogonal_(model.{name})" for name in radii)
        cause = Cause("initial weights", words, remedy, {"name": name, "radius": radius})
        yield Repair(
            "orthogonal recurrent weights", cause, {"model": model}, mistake=radius < 1 / ODD
        )


def _longer(case: Case) -> list[Repair]:
    """More steps."""
    words, more = f"The training has only {case.steps:,} steps.", 4 * case.steps
    cause = Cause(
        "too few steps",
        words,
        f"Train for {more:,} steps or more.",
        {"given": case.steps, "tried": more},
    )
    return [Repair(f"{more:,} steps", cause, lengths=[more])]


def _one_layer(case: Case) -> Iterator[Repair]:
    """The first layer of a deep stack, in place of all of them."""
    model, found = copy.deepcopy(case.loop.model), dict[str, int]()
    for name, part in case.loop.model.named_modules():
        if (
            type(part) in (nn.LSTM, nn.GRU, nn.RNN)
            and part.num_layers >= DEEP
            and not part.proj_size
        ):
            how = {key: getattr(part, key) for key in ("bias", "batch_first", "bidirectional")}
            how |= {"nonlinearity": part.nonlinearity} if isinstance(part, nn.RNN) else {}
            layer = type(part)(part.input_size, part.hidden_size, **how).to(next(part.parameters()))
            layer.load_state_dict(
                {
                    key: value
                    for key, value in part.state_dict().items()
                    if key in layer.state_dict()
                }
            )
            if name:
                model.set_submodule(name, layer)
            else:
                model = layer
            found[name or type(part).__name__] = part.num_layers
    if found and _runs(case, model):
        name, layers = next(iter(found.items()))
        words = f"{name} has {layers} recurrent layers, one above the other."
        remedy = "Use one or two layers, or shortcuts and normalisation between them."
        cause = Cause("too many layers", words, remedy, {"name": name, "layers": layers})
        yield Repair("one layer", cause, {"model": model}, mistake=False)


@torch.no_grad()
def _runs(case: Case, model: nn.Module) -> bool:
    """False for a changed model that its own code does not fit, such as a first state for more
    layers.
    """
    try:
        return case.loop.output(copy.deepcopy(model), case.x).shape == case.output.shape
    except InvalidInputError:
        return False


def _normalised(case: Case) -> Iterator[Repair]:
    """No layer normalisation of the inputs, which takes level and size from each frame."""
    layers = [
        part
        for part, x, _ in case.calls
        if isinstance(part, nn.LayerNorm) and x.shape == case.first.shape
    ]
    names = [name for name, part in case.model.named_modules() if part in layers[:1]]
    if names and torch.equal(next(x for part, x, _ in case.calls if part in layers), case.first):
        model = copy.deepcopy(case.loop.model)
        model.set_submodule(names[0], nn.Identity())
        words = (
            f"{names[0]} normalises each frame of the inputs by itself: what its level and "
            "size say of the targets is gone."
        )
        remedy = (
            "Normalise all frames together, x = (x - x.mean((0, 1))) / x.std((0, 1)), or "
            "normalise later layers only."
        )
        cause = Cause("scaled one by one", words, remedy, {"name": names[0]})
        if _runs(case, model):
            yield Repair("no normalisation of inputs", cause, {"model": model}, late=True)


def _unscaled(case: Case) -> Iterator[Repair]:
    """Standardised targets, and inputs, if they are far from that."""
    for name, cause in scales(case, UNSCALED).items():
        change = standardised(case, targets=name == "target scale", inputs=name == "input scale")
        middle, size = scale_of([case.y.reshape(-1, 1)])
        undo = (
            (lambda z, a=middle, b=size: onto(z, STANDARD, (a, b)))
            if name == "target scale"
            else None
        )
        yield Repair(f"another {name}", cause, change=change, undo=undo, late=True)
