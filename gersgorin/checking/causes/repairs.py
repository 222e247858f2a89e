"""Causes shown by a repair: a training stays, and the same training with one thing changed leaves.

The changes: standardised inputs or targets, logits in place of probabilities, no weight decay, no dropout, a norm for clipping. Each is
tried only if something speaks for it, and only while there is time.
"""

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from gersgorin.checking.causes.case import Case
from gersgorin.checking.causes.cause import Cause
from gersgorin.checking.trials import Constant, Trial, run_trials
from gersgorin.training.minibatches import Pair, sequence_of, with_parts
from gersgorin.training.training import Training
from rhn.errors import USERS_FAULT
from rhn.utils.wording import first_line

CLIP = 1.0  # norm of gradients
OUTWEIGHS = 1.0  # times the gradient of a weight: the pull of weight decay


@dataclass(frozen=True)
class Repair:
    """A change of a training, and the cause that it shows."""

    name: str
    changed: Callable[[Training], Training]
    cause: Cause


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

    def run(self, loop: Training, factors: Sequence[float], steps: int, *, to_the_end: bool = False) -> list[Trial]:
        """Trials until the first one leaves, or all to their ends; none without time."""
        if not factors or (seconds := self.seconds_left()) <= 0:
            return []
        constant = self.constant if loop is self.case.loop else None
        return run_trials(
            loop,
            factors,
            steps=steps,
            seconds=seconds,
            constant=constant,
            seed=self.seed,
            until_any=not to_the_end,
            after=math.inf if to_the_end else 1.0,
        )

    def leaves(self, loop: Training) -> Trial | None:
        """The trial of a repaired training if it leaves."""
        trials = self.run(loop, [1.0], self.case.steps)
        return trials[0] if trials and left(trials[0]) else None


def left(trial: Trial) -> bool:
    """True if a trial left, and did not diverge."""
    return trial.left < math.inf and trial.diverged == math.inf


def repaired(case: Case, likely: list[Cause], trials: Trials) -> tuple[list[Cause], list[Trial]]:
    """(The first cause whose repair makes a training leave, no trials of this training)."""
    for repair in _repairs(case, {cause.name: cause for cause in likely}):
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


def _repairs(case: Case, likely: dict[str, Cause]) -> Iterator[Repair]:
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
    if (cause := likely.get("explosion")) and case.loop.clip_norm is None:
        yield Repair("clipped gradients", _clipped, cause)


def _standardised(
    case: Case, *, inputs: bool = False, targets: bool = False, onto: tuple[float, float] = (0.0, 1.0)
) -> Callable[[Training], Training]:
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

    def change(loop: Training) -> Training:
        changed = copy.copy(loop)
        changed.data = loop.data.mapped(mapped)
        return changed

    return change


def _with_loss(loop: Training, loss: Callable[[Tensor, Tensor], Tensor]) -> Training:
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


def _without_decay(loop: Training) -> Training:
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


def _without_dropout(loop: Training) -> Training:
    changed = copy.copy(loop)
    changed.model = copy.deepcopy(loop.model)
    for part, _ in _dropped(changed.model):
        setattr(part, "dropout" if isinstance(part, nn.RNNBase) else "p", 0.0)
    changed.optimizer = loop.copied(loop.model, dict(changed.model.named_parameters()))
    return changed


def _clipped(loop: Training) -> Training:
    changed = copy.copy(loop)
    changed.clip_norm = CLIP
    return changed
