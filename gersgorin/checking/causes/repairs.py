"""Causes shown by a repair: a training stays, and the same training with one thing changed leaves.

The changes: standardised inputs or targets, logits in place of probabilities, no weight decay, no dropout, a norm for clipping, other
learning rates, more steps. Each is tried only if something speaks for it, and only while there is time.
"""

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import torch
from torch import Tensor, nn

from gersgorin.checking.causes.case import Case
from gersgorin.checking.causes.cause import Cause, listed
from gersgorin.checking.causes.data import USUAL
from gersgorin.checking.forecast import Forecast
from gersgorin.checking.loop import TrainingLoop, times
from gersgorin.checking.minibatches import Mapped, Pair, sequence_of, with_parts
from gersgorin.checking.trials import Constant, Trial, run_trials
from rhn.errors import USERS_FAULT
from rhn.utils.wording import first_line

SHORT, LEAST = 0.15, 100  # of the steps of a training, for one at another learning rate; least steps
BEST = 2  # of these that are followed to their end
LONGER = 4  # times the steps of the training, to see whether it needs more
FEW_STEPS, FEW_EPOCHS = 200, 2.0  # of a training that may need more
RATES = {"SGD": (1e-4, 10.0), "other": (1e-6, 1.0)}  # least and greatest learning rate that is tried
POOR, BETTER = 0.5, 0.7  # of the constant's loss: an end that is poor; of that end: one that is better
CLIP = 1.0
LATE = 0.8  # of the steps: a training that leaves later has no time to learn
OUTWEIGHS = 1.0  # times the gradient of a weight: the pull of weight decay
GROWN = 10.0  # times the first gradient, at least, to be said
MOST_REPEATED = 300  # steps that are repeated to see what grows


@dataclass(frozen=True)
class Repair:
    """A change of a training, and the cause that it shows."""

    name: str
    changed: Callable[[TrainingLoop], TrainingLoop]
    cause: Cause


class Trials:
    """Trials of changed trainings within some seconds."""

    def __init__(
        self,
        case: Case,
        constant: Constant,
        seconds_left: Callable[[], float],
        seed: int,
        progress: Callable[[str], None],
    ):
        self.case, self.constant, self.seconds_left, self.seed, self.progress = (
            case,
            constant,
            seconds_left,
            seed,
            progress,
        )
        self.lacking: list[str] = []

    def run(self, loop: TrainingLoop, factors: Sequence[float], steps: int, *, until_any: bool = True) -> list[Trial]:
        """Trials until the first one leaves, or all to their ends; none without time."""
        if (seconds := self.seconds_left()) <= 0:
            return []
        constant = self.constant if loop is self.case.loop else None
        return run_trials(
            loop,
            factors,
            steps=steps,
            seconds=seconds,
            constant=constant,
            seed=self.seed,
            until_any=until_any,
            after=1.0 if until_any else math.inf,
        )

    def leaves(self, loop: TrainingLoop) -> Trial | None:
        """The trial of a repaired training if it leaves."""
        trials = self.run(loop, [1.0], self.case.steps)
        return trials[0] if trials and _gone(trials[0]) else None


def _gone(trial: Trial) -> bool:
    return trial.left < math.inf and trial.diverged == math.inf


def repaired(case: Case, likely: list[Cause], found: Forecast, trials: Trials) -> tuple[list[Cause], list[Trial]]:
    """(The first cause whose repair makes a training leave, no trials of this training)."""
    for repair in _repairs(case, {cause.name: cause for cause in likely}, found.diverges_at):
        trials.progress(f"repaired: {repair.name}")
        trial, cause = None, repair.cause
        try:
            trial = trials.leaves(repair.changed(case.loop))
        except USERS_FAULT as error:  # of a module or a loss for what it was never given
            trials.lacking.append(f"{repair.name}: {first_line(error)}")
        if trial:
            sentence = f"{cause.sentence} Without it the training leaves after {trial.left:.0f} steps."
            return [replace(cause, sentence=sentence, sure=True, evidence=cause.evidence | {"left": trial.left})], []
    return [], []


def _repairs(case: Case, likely: dict[str, Cause], diverges_at: float) -> Iterator[Repair]:
    """The changes that something speaks for."""
    last = case.loop.activation
    if (cause := likely.get("softmax twice")) and last is not None:
        logits = torch.log if last.kind == "Softmax" else torch.logit
        yield Repair(
            "logits",
            lambda loop: _with_loss(loop, lambda z, y: loop.loss_fn(logits(z.clamp(1e-7, 1 - 1e-7)), y)),
            cause,
        )
    if (cause := likely.get("output range")) and last is not None and case.y.is_floating_point():
        low, high = max(last.low, -1.0), min(last.high, 1.0)
        yield Repair(
            "targets in the range", _standardised(case, targets=True, onto=((low + high) / 2, (high - low) / 4)), cause
        )
    numbers = case.first.is_floating_point()
    scales = [likely[name] for name in ("input scale", "ids as numbers") if name in likely and numbers]
    far = likely.get("target scale")
    if far:
        yield Repair("standardised targets", _standardised(case, targets=True), far)
    for cause in scales:
        yield Repair("standardised inputs", _standardised(case, inputs=True), cause)
        if far:
            yield Repair("standardised inputs and targets", _standardised(case, inputs=True, targets=True), cause)
    if decay := _decay(case):
        yield Repair("no weight decay", _without_decay, decay)
    if any(_dropped(case.loop.model)):
        most = max(p for _, p in _dropped(case.loop.model))
        yield Repair(
            "no dropout",
            _without_dropout,
            Cause(
                "dropout",
                f"Dropout of up to {most:g} removes what has to pass exactly.",
                "Set dropout to 0, at least before and inside the recurrence.",
                {"p": most},
            ),
        )
    if diverges_at < math.inf and case.loop.clip_norm is None:
        yield Repair("clipped gradients", _clipped, explosion(case, diverges_at))


def _standardised(
    case: Case, *, inputs: bool = False, targets: bool = False, onto: tuple[float, float] = (0.0, 1.0)
) -> Callable[[TrainingLoop], TrainingLoop]:
    """A change of the data to mean 0 and standard deviation 1, of each feature and of all targets, of these onto others."""
    x, y = case.first, case.y
    axes = tuple(range(x.dim() - 1))
    centre, size = x.float().mean(axes), x.float().std(axes).clamp_min(1e-12)
    middle, spread = (y.mean(), y.std().clamp_min(1e-12)) if targets else (0.0, 1.0)

    def mapped(pair: Pair) -> Pair:
        whole, y = pair
        first = sequence_of(whole)
        parts = [*(whole.values() if isinstance(whole, dict) else whole if isinstance(whole, tuple) else [whole])]
        parts[0] = ((first - centre) / size).to(first.dtype) if inputs else first
        return with_parts(whole, parts), onto[0] + onto[1] * (y - middle) / spread if targets else y

    def change(loop: TrainingLoop) -> TrainingLoop:
        changed = copy.copy(loop)
        changed.data = Mapped(loop.data, mapped)
        return changed

    return change


def _with_loss(loop: TrainingLoop, loss: Callable[[Tensor, Tensor], Tensor]) -> TrainingLoop:
    changed = copy.copy(loop)
    changed.loss_fn = loss  # type: ignore[method-assign, assignment]
    return changed


def _decay(case: Case) -> Cause | None:
    """Weight decay that outweighs the gradient, or shrinks the weights within the training."""
    loop, ratios = case.loop, {}
    names = {id(p): name for name, p in loop.model.named_parameters()}
    for group, rate in zip(loop.optimizer.param_groups, loop.rates, strict=True):
        if not (decay := group.get("weight_decay", 0)):
            continue
        for p in group["params"]:
            slope = case.gradients.get(names[id(p)])
            if p.dim() > 1 and slope is not None:
                decoupled = type(loop.optimizer).__name__ == "AdamW" or group.get("decoupled_weight_decay")
                pull = (
                    rate * decay * case.steps
                    if decoupled
                    else decay * float(p.detach().norm()) / max(float(slope.norm()), 1e-30)
                )
                ratios[names[id(p)]] = pull
    if not ratios or max(ratios.values()) < OUTWEIGHS:
        return None
    worst = max(ratios, key=lambda name: ratios[name])
    return Cause(
        "weight decay",
        f"Weight decay pulls {worst} to 0 with {ratios[worst]:.2g} times the force of the gradient.",
        "Set weight_decay to 0, or 1e-4 and less.",
        {"ratios": ratios},
    )


def _without_decay(loop: TrainingLoop) -> TrainingLoop:
    changed = copy.copy(loop)
    changed.optimizer = loop.copied(loop.model, dict(loop.model.named_parameters()))
    for group in changed.optimizer.param_groups:
        group["weight_decay"] = 0.0
    return changed


def _dropped(model: nn.Module) -> Iterator[tuple[nn.Module, float]]:
    """The layers with dropout and its probability."""
    for part in model.modules():
        p = (
            part.dropout
            if isinstance(part, nn.RNNBase) and part.num_layers > 1
            else part.p
            if isinstance(part, nn.modules.dropout._DropoutNd)
            else 0
        )
        if p:
            yield part, p


def _without_dropout(loop: TrainingLoop) -> TrainingLoop:
    changed = copy.copy(loop)
    changed.model = copy.deepcopy(loop.model)
    for part, _ in _dropped(changed.model):
        setattr(part, "dropout" if isinstance(part, nn.RNNBase) else "p", 0.0)
    changed.optimizer = loop.copied(loop.model, dict(changed.model.named_parameters()))
    return changed


def _clipped(loop: TrainingLoop) -> TrainingLoop:
    changed = copy.copy(loop)
    changed.clip_norm = CLIP
    return changed


def explosion(case: Case, at: float) -> Cause:
    """Where a training explodes: whose gradient grows in the steps before."""
    first: dict[str, float] = {}
    last, broken = first, list[str]()
    for model, _, _ in islice(case.training(), int(min(at, MOST_REPEATED))):
        norms = {name: float(p.grad.norm()) for name, p in model.named_parameters() if p.grad is not None}
        broken = [name for name, norm in norms.items() if not math.isfinite(norm)]
        if broken:
            break
        first, last = first or norms, norms
    growth = {name: norm / max(first[name], 1e-30) for name, norm in last.items()}
    worst = max(growth, key=lambda name: growth[name], default="")
    where = f"the gradients of {listed(broken)} are not finite" if broken else "the gradients are finite until then"
    if worst and growth[worst] > GROWN:
        where = f"the gradient of {worst} has grown {growth[worst]:.2g} times, to {last[worst]:.2g}"
    return Cause(
        "explosion",
        f"The loss explodes at step {at:,.0f}: {where}.",
        f"Clip the gradients: torch.nn.utils.clip_grad_norm_(model.parameters(), {CLIP}) before optimizer.step().",
        {"step": at, "growth": growth},
    )


def rate_is_usual(case: Case) -> bool:
    """True if the learning rate is in the range that is rarely the cause."""
    low, high = USUAL[_kind(case)]
    return low <= case.loop.learning_rate <= high


def _kind(case: Case) -> str:
    return "SGD" if isinstance(case.loop.optimizer, torch.optim.SGD) else "other"


def rate_or_length(case: Case, found: Forecast, trials: Trials) -> tuple[list[Cause], list[Trial]]:
    """(A learning rate or a length with which the training leaves, the trials at other rates)."""
    own, tried = found.trials[0], list[Trial]()
    few = case.steps <= FEW_STEPS or case.steps < FEW_EPOCHS * case.loop.data.epoch or _falls(own)
    questions = [_longer, _other_rates] if rate_is_usual(case) and few else [_other_rates] + [_longer] * few
    for question in questions:
        cause, more = question(case, found, trials)
        tried += more
        if cause is not None:
            return [cause], tried
    return [], tried


def better_rate(case: Case, found: Forecast, trials: Trials) -> Iterator[Cause]:
    """A training that leaves at an unusual learning rate, and ends much lower at a more usual one."""
    rate, kind = case.loop.learning_rate, _kind(case)
    if case.loop.scheduler is not None:
        return
    factor, word = (0.1, "high") if rate > USUAL[kind][1] else (10.0, "low")
    trials.progress("a more usual learning rate")
    ends = [
        float(t.ratios[-1])
        for t in trials.run(case.loop, [1.0, factor], case.steps, until_any=False)
        if t.steps == case.steps
    ]
    if len(ends) == 2 and ends[0] > POOR and ends[1] < BETTER * ends[0]:
        better = times(rate, factor)
        yield Cause(
            f"learning rate too {word}",
            f"At the learning rate {rate:.4g} the training ends at {ends[0]:.2g} of a constant output's loss, at {better:.4g} at "
            f"{ends[1]:.2g}.",
            f"Set lr={better:g}.",
            {"learning_rate": better, "end": ends[0], "better": ends[1]},
        )


def _falls(trial: Trial) -> bool:
    """True if the loss fell by 1 % in the last third of a trial."""
    ratios = trial.ratios
    return len(ratios) > 3 and bool(ratios[-1] < 0.99 * ratios[-(len(ratios) // 3)])


def _longer(case: Case, found: Forecast, trials: Trials) -> tuple[Cause | None, list[Trial]]:
    if case.loop.scheduler is not None:
        return None, []
    trials.progress("more steps")
    longer = trials.run(case.loop, [1.0], LONGER * case.steps)
    if not longer or not case.steps < longer[0].left < math.inf or longer[0].diverged < math.inf:
        return None, []
    return too_few(case.steps, longer[0].left), []


def too_few(steps: int, left: float) -> Cause:
    """The cause of a training that is too short."""
    return Cause(
        "too few steps",
        f"The training has {steps:,} steps, and leaves the loss of a constant output after {left:,.0f}.",
        f"Train for {LONGER * left:,.0f} steps or more.",
        {"steps": steps, "left": left},
        sure=left > steps,
    )


def _other_rates(case: Case, found: Forecast, trials: Trials) -> tuple[Cause | None, list[Trial]]:
    rate, limits = case.loop.learning_rate, RATES[_kind(case)]
    factors = [10.0**k for k in range(-7, 8) if k and limits[0] * 0.999 <= rate * 10.0**k <= limits[1] * 1.001]
    if not factors or case.loop.scheduler is not None:
        return None, []
    trials.progress("learning rates of all decades")
    length = max(LEAST, int(SHORT * case.steps))
    tried = trials.run(case.loop, factors, length)
    if not any(map(_gone, tried)) and length < case.steps:
        lowest = sorted((t for t in tried if t.diverged == math.inf and t.steps), key=lambda trial: trial.ratios[-1])
        tried += trials.run(case.loop, [trial.factor for trial in lowest[:BEST]], case.steps)
    gone = [trial for trial in (*found.trials[1:], *tried) if _gone(trial) and trial.confirmed]
    if not gone:
        return None, tried
    best = min(gone, key=lambda trial: trial.ratios[-1])
    better = times(rate, best.factor)
    word = "low" if best.factor > 1 else "high"
    return (
        Cause(
            f"learning rate too {word}",
            f"The learning rate {rate:.4g} is too {word}: at {better:.4g} the training leaves after {best.left:,.0f} steps.",
            f"Set lr={better:g}.",
            {"learning_rate": better, "left": best.left},
            sure=True,
        ),
        tried,
    )
