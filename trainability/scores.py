"""The relative error, one score for all losses: 0 is perfect, 1 is the constant predictor.

    score = score_of(loss_fn, output, pairs, axes)   # how outputs are compared with targets
    score.errors(output, y)                          # (B,), one for each example
    found = score.in_pairs(outputs, targets)         # beside errors of the constant predictor
    found.relative                                   # mean error / that of the constant predictor
    found.below()                                    # clearly better than the constant predictor?

| targets                         | error of an example                | best constant      |
|---------------------------------|------------------------------------|--------------------|
| classes                         | share of wrong classes             | most frequent one  |
| 0 and 1, one output each        | share on the wrong side            | more frequent one  |
| several 0 and 1 per example     | squared error of the probability   | mean of each       |
| numbers, one output each        | mean squared error                 | mean of each       |
| all else (CTC, cosines, KL)     | loss - its least value             | found by L-BFGS    |

Numbers are scored by squared errors only if the loss is least at the targets and nowhere else. The
least loss and the best constant are those of outputs that the network can give, see
`output_range`.

One-hot targets are scored as classes if the loss takes a softmax, see `losses.one_hot_axis`. Time
steps after the end of a sequence, whose outputs do not change the loss, are not scored.

Legend: B examples, T frames, K output units.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from gersgorin.losses import Loss
from rhn.utils.wording import counted
from trainability.autograd import slope_at
from trainability.axes import OutputAxes
from trainability.data import noise_like
from trainability.losses import (
    EQUAL,
    compares_numbers,
    expects_logits,
    is_mean_of_examples,
    is_normalised,
    kind_of_loss,
    lie_in_0_to_1,
    log_probabilities,
    losses_of_examples,
    scored,
    takes_softmax,
)
from trainability.minima import (
    LOSS_ROUNDING,
    constant_falls_without_end,
    constant_output,
    determines_outputs,
    falls_at_the_edge,
    falls_far_out,
    is_finite_at,
    loss_of_constant,
    searched_range,
    settled_loss,
)
from trainability.output_range import FREE, OutputRange
from trainability.splits import TOO_FEW
from trainability.training import NO_TIME, OutOfTime

OTHER_LOSS = (
    "The cross entropy takes outputs as logits or probabilities of classes: your loss is another "
    "one."
)
DOUBLE_SOFTMAX = (
    "The cross entropy takes outputs that sum to 1 as probabilities: your loss takes them as "
    "logits, and applies a softmax to them."
)
NO_LOWER = (
    "one constant output already has the least loss that was found; see if all targets are equal "
    "that your loss counts, such as with an inverted mask"
)
NO_LEAST = "no least value of the loss was found"
AT_EDGE = "the least loss lies at extreme outputs"
NO_BEST = "even a constant output takes your loss below any number"
NO_SEARCH = "no time was left to search for the least value of the loss; give more seconds"
DEVIATIONS = 2.0  # standard errors by which errors differ
DEAD = 0.9  # of the constant predictor's error: what lies above it does not learn
BELOW = 1e-3  # of the loss of the constant: more below the least one is no rounding
MOST_NATS = 700.0  # whose exponential is finite
BLOCKS = 40  # parts of the frames of a few long sequences
FEW, MINIBATCHES = 512, 16  # examples, and minibatches, to which a constant output is fitted
TINY = 1e-12  # of a variance or a share: the constant is right


@dataclass(frozen=True)
class PairedErrors:
    """Errors of held-out examples beside those of the constant predictor, pair by pair.

    >>> found = PairedErrors(torch.full((40,), 0.5), torch.ones(40))
    >>> found.relative, found.below(), found.above(0.4), found.count
    (0.5, True, True, 40)
    """

    errors: Tensor
    """(E,) errors of the network, one for each example."""
    constant: Tensor
    """(E,) errors of the constant predictor on the same examples."""
    endless: bool = False
    """True if the loss has no least value; errors are then the loss minus the loss of the constant
    predictor.
    """
    closest: Tensor | None = None
    """(E,) errors of the constant that is best for these examples, which no network sees; None: not
    known.
    """

    @property
    def count(self) -> int:
        """E, the number of examples."""
        return len(self.errors)

    @property
    def relative(self) -> float:
        """Mean error divided by that of the constant predictor.

        The value is infinite if the mean error is not finite, or lies below its supposed least
        value. For a loss without a least value it is exp(loss - loss of the constant predictor): 1
        for the constant predictor, and 0 for a loss that falls without end.
        """
        value = float(self.errors.mean()) / self.size
        if self.endless:
            value = math.exp(min(value - float(self.constant.mean()), MOST_NATS))
        if not math.isfinite(value) or self.is_too_low:
            return math.inf
        return max(value, 0.0)

    @property
    def is_too_low(self) -> bool:
        """True if the mean error lies below its supposed least value."""
        return not self.endless and float(self.errors.mean()) < -BELOW * self.size

    @property
    def size(self) -> float:
        """Mean error of the constant predictor; 1 if the loss has no least value."""
        return 1.0 if self.endless else max(float(self.constant.mean()), TINY)

    def difference(self, level: float = 1.0) -> tuple[float, float]:
        """Return (mean, standard error) of errors minus `level` times those of the constant
        predictor.

        Both are divided by the mean error of the constant predictor.
        """
        d = (self.errors - level * self.constant) / self.size
        if not d.isfinite().all():
            return math.inf, 0.0
        return float(d.mean()), float(d.std()) / math.sqrt(len(d)) if len(d) > 1 else math.inf

    def below(self) -> bool:
        """True if the errors lie below those of the constant predictor by two standard errors. If
        they are above nine tenths of them, they must also lie below those of the best constant for
        these examples, because two constants may differ by so little.
        """
        known = [self]
        if self.closest is not None and self.relative > DEAD:
            known += [replace(self, constant=self.closest)]
        found = [paired.difference() for paired in known]
        return all(mean + DEVIATIONS * deviation < 0 for mean, deviation in found)

    def above(self, level: float) -> bool:
        """True if the errors lie above `level` times those of the constant predictor by two
        standard errors. For a loss without a least value, see `relative`.
        """
        mean, deviation = self.difference(1.0 if self.endless else level)
        least = math.log(level) if self.endless else 0.0
        return mean - DEVIATIONS * deviation > least


def once_below(measured: list[PairedErrors]) -> bool:
    """True if the errors of a run were below those of the constant predictor at some step, see
    `PairedErrors.below`.

    The step at which they are most clearly below is chosen on every other example, and judged on
    the others.
    """

    def bound(paired: PairedErrors, half: int) -> float:
        some = slice(half, None, 2)
        part = replace(paired, errors=paired.errors[some], constant=paired.constant[some])
        mean, deviation = part.difference()
        return mean + DEVIATIONS * deviation

    errors = measured[0].errors.clone()
    for half in (0, 1):
        best = min(measured, key=lambda paired: bound(paired, 1 - half))
        errors[half::2] = best.errors[half::2]
    return replace(measured[0], errors=errors).below()


@dataclass
class Score:
    """A measure of the error of outputs, comparable across losses, units and outputs. `score_of`
    creates it.
    """

    kind: str
    """Kind of comparison with the targets: "classes", "signs" (0 or 1), "bits" (several 0 or 1 per
    example), "numbers", "entropy" (cross entropy) or "loss".
    """
    axes: OutputAxes
    """Which axes of outputs and targets hold the examples, frames, classes and units."""
    loss_fn: Loss
    """The loss of the training run. It shows which targets are left out, and is the error of the
    kind "loss".
    """
    constant: Tensor | None = None
    """The best constant: a class, or a number for each unit; for "loss" an output; for "entropy"
    logarithms of the shares of the classes.
    """
    closest: Tensor | None = None
    """The constant with the least error on the held-out examples; None: not known."""
    fitted_to: tuple[Tensor, ...] = ()
    """The targets to which the constant is fitted, for the kind "loss"."""
    logits: bool = False
    """True if outputs of signs and bits are logits. The threshold of logits is 0, otherwise 0.5."""
    may_be_shares: bool = False
    """True if all outputs of the user's network lie between 0 and 1, whatever its weights. If so,
    outputs that all lie between 0 and 1 are probabilities, even if the loss takes logits.
    """
    weights: Tensor | None = None
    """(K,) weights of the classes; None: all are weighted equally."""
    least: float = 0.0
    """The least loss of outputs `within` a range, for the kind "loss"; -inf if the loss has no
    least value. 0 for all other kinds.
    """
    level: float = 0.0
    """The number that is subtracted from a loss: `least`, or the loss of the constant predictor if
    the loss has no least value.
    """
    of_best_constant: float = math.nan
    """The loss of the constant predictor on the held-out examples, for the kind "loss"."""
    by_example: bool = True
    """Whether the errors are those of examples. False for a score by a loss that is no mean over
    examples: the errors are those of minibatches.
    """
    blocks: int = 1
    """Number of parts into which the frames of an example are split, if there are few long
    sequences. Each part counts as an example.
    """
    name: str = "error"
    """Name in sentences; for a score by a loss "loss", or "cross entropy" if the training run has
    another loss.
    """
    measures: str = "your loss"
    """The loss in words, in sentences about a score by the loss."""
    note: str = ""
    """A sentence on how the loss of the training run differs from the cross entropy; "" if it does
    not, or only in weights of targets or smoothed labels.
    """
    void: str = ""
    """The reason why relative errors of this score do not lie between 0 and 1; "" if they do."""
    within: OutputRange = FREE
    """The range of outputs in which the best constant and the least loss were searched."""

    @property
    def refused(self) -> str:
        """The reason why relative errors are not compared; "" if they are."""
        return "" if self.least == -math.inf else self.void

    @property
    def meaning(self) -> str:
        """What a relative error of this score compares, in words; "" unless it is that of the loss
        of the training run.
        """
        if self.kind != "loss":
            return ""
        if self.refused:
            return self.refused
        gap = abs(self.of_best_constant - self.least) if math.isfinite(self.least) else 0.0
        least, best = (
            0.0 if abs(value) <= EQUAL * gap else value
            for value in (self.least, self.of_best_constant)
        )
        constant = f"that of the best constant output, {best:.3g}"
        if least == -math.inf:
            return f"exp of {self.measures} less {constant}; {self.void}"
        return f"{self.measures}, from its least value {least:.3g} to {constant}"

    def errors(self, output: Tensor, y: Tensor) -> Tensor:
        """Return the errors (B,) of the examples that have a target.

        The shape is (1,) for a loss that is no mean over examples, and (B x blocks,) for a few long
        sequences.
        """
        output = output.detach()
        if self.kind == "loss":
            return self._losses(output, y) - self.level
        counts = self._counts(y, output)
        if self.kind == "entropy":
            return self._means(-self._logs(output, y), counts)
        return self._means(self._wrong(self.answers(output, y), y), counts)

    def of_constant(self, output: Tensor, y: Tensor) -> Tensor:
        """Return the errors of the constant predictor, for the same examples as `errors`."""
        if self.constant is None:  # the loss is not finite at any
            return torch.full_like(self.errors(output, y), math.nan)
        if self.kind == "loss":
            return self._losses(self.constant.expand(output.shape), y) - self.level
        constant, counts = self.constant.to(y.device), self._counts(y, output)
        if self.kind == "entropy":
            return self._means(-constant[y.long().clamp(0, len(constant) - 1)], counts)
        return self._means(self._wrong(constant.expand(y.shape), y), counts)

    def in_pairs(self, outputs: list[Tensor], targets: list[Tensor]) -> PairedErrors:
        """Return the errors of outputs for minibatches, beside those of the constant predictor."""
        pairs = list(zip(outputs, targets, strict=True))
        are_shares = self.may_be_shares and all(map(lie_in_0_to_1, outputs))
        read = replace(self, logits=self.logits and not are_shares)
        errors = torch.cat([read.errors(z, y) for z, y in pairs])
        constant = torch.cat([self.of_constant(z, y) for z, y in pairs])
        closest = None
        if self.closest is not None and self.constant is not None:
            other = replace(self, constant=self.closest)
            closest = torch.cat([other.of_constant(z, y) for z, y in pairs])
        paired = PairedErrors(errors, constant, self.least == -math.inf, closest)
        if paired.is_too_low:
            self.void = "the loss falls below what was found as its least value"
        return paired

    def _losses(self, output: Tensor, y: Tensor) -> Tensor:
        """The losses (B,) of the examples; (1,) of the minibatch if its loss is no mean over
        examples.
        """
        with torch.no_grad():
            if self.by_example:
                return losses_of_examples(self.loss_fn, output, y, self.axes)
            return self.loss_fn(output.clone(), y).reshape(1).double()

    def _logs(self, output: Tensor, y: Tensor) -> Tensor:
        """Logarithms of the probabilities of the classes y, in the shape of y."""
        logs = log_probabilities(self.axes.classes_last(output)).double()
        return logs.gather(-1, y.long().clamp_min(0).unsqueeze(-1)).squeeze(-1)

    def answers(self, output: Tensor, y: Tensor) -> Tensor:
        """Return the classes, signs or numbers that the outputs stand for, in the shape of y."""
        output = output.detach()
        if self.kind == "classes":
            return output.argmax(self.axes.classes)
        z = output.reshape(y.shape).double()
        if self.kind == "bits":
            return z.sigmoid() if self.logits else z.clamp(0, 1)
        if self.kind == "signs":
            return (z > (0.0 if self.logits else 0.5)).double()
        return z

    def _counts(self, y: Tensor, output: Tensor) -> Tensor:
        """True for each target that is scored, in the shape of y."""
        if self.kind == "numbers":
            counts = torch.ones_like(y, dtype=torch.bool)
        else:
            counts = scored(self.loss_fn, output, y, self.axes)
        return counts if self.kind in ("numbers", "bits") else counts & (y >= 0)

    def _wrong(self, answers: Tensor, y: Tensor) -> Tensor:
        """The error of each answer, for each target."""
        if self.kind in ("numbers", "bits"):
            return (answers - y.double()).square()
        wrong = (answers != y).double()
        return wrong if self.weights is None else wrong * self.weights[y.long().clamp_min(0)]

    def _means(self, values: Tensor, counts: Tensor) -> Tensor:
        """(B,) mean over the targets of each example that count, without examples that have
        none.
        """
        if values.dim() < 2:
            return values[counts]
        both = [values.masked_fill(~counts, 0), counts]
        totals, numbers = (
            torch.cat([part.flatten(1).sum(1) for part in rows.tensor_split(self.blocks, 1)])
            for rows in (v.movedim(self.axes.targets, 0) for v in both)
        )
        return (totals / numbers)[numbers > 0]

    def few(self, outputs: list[Tensor], targets: list[Tensor]) -> str:
        """Return how few targets the constant predictor gets wrong, such as "5 positives".

        The relative error is a number of errors divided by this number. "" if it is large enough,
        or if errors are no shares of targets.
        """
        if self.kind not in ("classes", "signs") or self.constant is None:
            return ""
        constant, pairs = self.constant, zip(outputs, targets, strict=True)
        wrong = [((constant.to(y.device) != y) & self._counts(y, z)).sum() for z, y in pairs]
        if (number := int(sum(wrong))) >= TOO_FEW:
            return ""
        if self.kind == "classes" or len(constant.unique()) > 1:
            return counted(number, "target of a rarer class", "targets of rarer classes")
        return counted(number, "negative" if constant.flatten()[0] else "positive")

    def balanced(self, targets: list[Tensor]) -> "Score | None":
        """Return the score with all classes weighted equally; None unless one class has more than
        half of the targets.
        """
        if self.kind not in ("classes", "signs"):
            return None
        known = torch.cat([y.flatten() for y in targets]).long()
        shares = torch.bincount(known[known >= 0]).double()
        shares = shares / shares.sum()
        if len(shares) < 2 or shares.max() <= 0.5:
            return None
        weights = torch.where(shares > 0, 1 / (shares * (shares > 0).sum()), 0.0)
        return replace(self, weights=weights)


def scores_of(
    loss_fn: Loss,
    output: Tensor,
    pairs: list,
    axes: OutputAxes,
    trained: list[Tensor] | None = None,
    *,
    in_time: bool = False,
    within: OutputRange = FREE,
    every: list[Tensor] | None = None,
    measures: str = "your loss",
    until: float = math.inf,
) -> dict[str, Score]:
    """Return the scores of a training run by name: "error", "balanced" and "loss".

    "error" is that of `score_of`. "balanced" weights all classes equally, and exists if one class
    has more than half of the targets. "loss" is the cross entropy for classes, so that it is the
    same for all versions of a training run. For other targets it is the loss of the training run,
    and exists if that differs from the error.

    Args:
        loss_fn: the loss of the training run.
        output: outputs for the first of the pairs.
        pairs: held-out minibatches (x, y).
        axes: which axes of outputs and targets hold the examples, frames, classes and units.
        trained: training targets, to which the constant predictor is fitted unless it is a class;
            None: the targets of the pairs.
        in_time: whether the pairs are a few long sequences.
        within: the range of the outputs of the user's network.
        every: all targets of the training run, whose values decide what they are; None: those of
            the pairs, and `trained`.
        measures: the loss in words.
        until: deadline of searches for a least loss, on the clock of `time.monotonic`. If it
            passes, the errors of this score are not compared.
    """
    given: dict[str, Any] = {"within": within, "measures": measures, "until": until}
    first = score_of(loss_fn, output, pairs, axes, trained, in_time=in_time, every=every, **given)
    targets = [y for _, y in pairs]
    scores = {"error": first}
    if balanced := first.balanced(targets):
        scores["balanced"] = balanced
    if first.kind == "classes":
        scores["loss"] = _entropy(first, output, targets, trained or targets)
    elif first.kind != "loss" and not _is_error(first, output, targets[0], within):
        scores["loss"] = loss_score(loss_fn, output, pairs, axes, trained, **given)
    return scores


def loss_score(
    loss_fn: Loss,
    output: Tensor,
    pairs: list,
    axes: OutputAxes,
    trained: list[Tensor] | None = None,
    within: OutputRange = FREE,
    measures: str = "your loss",
    until: float = math.inf,
) -> Score:
    """Return the score by the loss itself, even if outputs have another score.

    trained, within, measures, until: see `scores_of`.
    """
    targets = [y for _, y in pairs]
    score = Score("loss", axes, loss_fn, name="loss", within=within, measures=measures)
    return _by_loss(score, output, targets, trained or targets, until)


def _entropy(first: Score, output: Tensor, targets: list[Tensor], trained: list[Tensor]) -> Score:
    """The cross entropy, relative to that of a predictor that always gives the shares of the
    classes.
    """
    K = output.shape[first.axes.classes or -1]
    other = replace(first, kind="entropy", name="loss", weights=None)
    other.constant, other.closest = (_logs_of_shares(some, K) for some in (trained, targets))
    if not _is_loss(other, output, targets[0]):
        other.name = "cross entropy"
        other.note = _note_on_entropy(other, output, targets[0])
    return other


def _logs_of_shares(targets: list[Tensor], K: int) -> Tensor:
    """(K,) logarithms of the shares of K classes, each counted half a time more."""
    known = torch.cat([y.flatten() for y in targets])
    counts = torch.bincount(known[known >= 0].long(), minlength=K).double() + 0.5
    return (counts / counts.sum()).log()


@torch.no_grad()
def _is_loss(entropy: Score, output: Tensor, y: Tensor) -> bool:
    """True if the loss is a cross entropy times a factor, at the given outputs and at
    similar ones.
    """
    ratios = list[float]()
    for z in (output, *(_classes_beside(output, entropy.axes, seed) for seed in (0, 1))):
        mean = -entropy._logs(z, y)[entropy._counts(y, z)].mean()
        ratios.append(float(entropy.loss_fn(z.clone(), y) / mean))
    return all(math.isclose(ratio, ratios[0], rel_tol=1e-3) for ratio in ratios)


def _note_on_entropy(entropy: Score, output: Tensor, y: Tensor) -> str:
    """How the loss differs from the cross entropy; see `Score.note`."""
    axis = -1 if entropy.axes.classes is None else entropy.axes.classes
    if is_normalised(output, axis) and takes_softmax(entropy.loss_fn, output, y, axis):
        return DOUBLE_SOFTMAX
    return "" if _is_entropy_of_shares(entropy.loss_fn, output, y, axis) else OTHER_LOSS


def _is_entropy_of_shares(loss_fn: Loss, output: Tensor, y: Tensor, axis: int) -> bool:
    """True if a loss is a cross entropy with weights of the targets, or with smoothed labels.

    Then its gradient in the logits of a target is a weight times (probabilities - shares of the
    labels). From one output to another it changes as the probabilities do, times this weight.
    """
    final: Callable[[Tensor], Tensor]
    if is_normalised(output, axis):
        z, final = output.clamp_min(TINY).log(), partial(torch.softmax, dim=axis)
    elif is_normalised(output.exp(), axis):
        z, final = output, partial(torch.log_softmax, dim=axis)
    else:
        z, final = output, torch.clone
    logits = [z + noise_like(z, seed) for seed in (0, 1)]
    slopes = [slope_at(lambda z, y: loss_fn(final(z), y), each, y) for each in logits]
    change, moved = slopes[1] - slopes[0], logits[1].softmax(axis) - logits[0].softmax(axis)
    weights = (change * moved).sum(axis, keepdim=True) / moved.square().sum(axis, keepdim=True)
    rest = (change - weights * moved).abs().max()
    return bool((weights >= 0).all()) and float(rest) <= EQUAL * float(change.abs().max())


def _classes_beside(output: Tensor, axes: OutputAxes, seed: int) -> Tensor:
    """Similar outputs: probabilities of classes, their logarithms, or logits, as the given ones."""
    axis = -1 if axes.classes is None else axes.classes
    noise = noise_like(output, seed)
    if is_normalised(output, axis):
        return (output.clamp_min(TINY).log() + noise).softmax(axis)
    if is_normalised(output.exp(), axis):
        return (output + noise).log_softmax(axis)
    return output + noise


def _is_error(score: Score, output: Tensor, y: Tensor, within: OutputRange) -> bool:
    """True if the loss of each example is its error times a factor."""
    whole = is_mean_of_examples(score.loss_fn, output, y, score.axes, within)
    if not whole or score.kind == "signs":
        return False
    other = within.beside(output, noise_like(output))
    errors = score.errors(other, y)
    losses = losses_of_examples(score.loss_fn, other, y, score.axes)
    alike = errors.shape == losses.shape
    return alike and torch.allclose(losses / losses.mean(), errors / errors.mean(), rtol=1e-3)


def score_of(
    loss_fn: Loss,
    output: Tensor,
    pairs: list,
    axes: OutputAxes,
    trained: list[Tensor] | None = None,
    *,
    in_time: bool = False,
    within: OutputRange = FREE,
    every: list[Tensor] | None = None,
    measures: str = "your loss",
    until: float = math.inf,
) -> Score:
    """Return how errors of outputs are measured, for outputs like those of the first pair (x, y).

    trained, in_time, within, every, measures, until: see `scores_of`.
    """
    targets = [y for _, y in pairs]
    kind = kind_of_score(loss_fn, output, targets[0], axes, every or [*targets, *(trained or [])])
    score = Score(kind, axes, loss_fn, within=within, measures=measures)
    if score.kind == "loss":
        return _by_loss(score, output, targets, trained or targets, until)
    # of classes no answer that ignores its input may be better, by which class is rarer by chance
    known = targets if kind in ("classes", "signs") else trained or targets
    score.constant, score.closest = (best_constant(kind, some, axes) for some in (known, targets))
    if score.kind in ("signs", "bits"):
        score.logits = expects_logits(loss_fn, output, targets[0])
        score.may_be_shares = within.is_share
    if in_time:
        score.blocks = max(1, BLOCKS // max(1, sum(y.shape[axes.targets] for y in targets)))
    return score


def kind_of_score(
    loss_fn: Loss, output: Tensor, y: Tensor, axes: OutputAxes, every: list[Tensor]
) -> str:
    """Return the kind of the score for outputs and their targets y. every: see `scores_of`."""
    kind = kind_of_loss(output, y, axes, every)
    if kind != "numbers":
        return kind
    alike = compares_numbers(loss_fn, output, y) and determines_outputs(loss_fn, output, y)
    return kind if alike else "loss"


def best_constant(kind: str, targets: list[Tensor], axes: OutputAxes) -> Tensor:
    """Return the most frequent class, the more frequent sign of each output, or the mean of each
    output.
    """
    if kind == "classes":
        known = torch.cat([y.flatten() for y in targets])
        return known[known >= 0].mode().values
    mean = torch.cat([axes.columns(y).double() for y in targets]).mean(0)
    return (mean > 0.5).double() if kind == "signs" else mean


def _by_loss(
    score: Score, output: Tensor, targets: list[Tensor], trained: list[Tensor], until: float
) -> Score:
    """The score by the loss, between the least loss of the outputs in a range and that of the best
    constant output.
    """
    loss_fn, axes, like = score.loss_fn, score.axes, targets[0]
    score.by_example = is_mean_of_examples(loss_fn, output, like, axes, score.within)

    def searched(score: Score) -> Score:
        loss_fn = score.loss_fn
        score.within = searched_range(loss_fn, output, like, score.within)
        few = _few(trained, like, axes, FEW if score.by_example else like.shape[axes.targets])
        score.constant = constant_output(loss_fn, output, like, few, axes, score.within)
        score.fitted_to = tuple(few)
        return _with_least(score, output, targets)

    return _in_time(searched, score, until)


def _in_time(search: Callable[[Score], Score], score: Score, until: float) -> Score:
    """The score that a search returns, or a void score if the search does not end before a
    deadline.
    """

    def loss(output: Tensor, y: Tensor) -> Tensor:
        if time.monotonic() > until:
            raise OutOfTime(NO_TIME)
        return score.loss_fn(output, y)

    try:
        return replace(search(replace(score, loss_fn=loss)), loss_fn=score.loss_fn)
    except OutOfTime:
        return replace(score, constant=None, void=NO_SEARCH)


def _with_least(score: Score, output: Tensor, targets: list[Tensor]) -> Score:
    """The score with the least loss for some targets, and the loss of its constant output."""
    loss_fn, axes, like = score.loss_fn, score.axes, targets[0]
    losses = _measure_constant(score, output, like, targets)
    if score.constant is None:
        return score
    fitted = [*score.fitted_to]
    if constant_falls_without_end(
        loss_fn, score.constant, output, like, fitted, axes, score.within
    ):
        score.constant, score.void = None, NO_BEST
        return score
    alike = _alike(targets, like, axes) or targets[:1]
    pairs = _pairs(axes, score.constant, output, like, alike)
    best = sum(
        len(each) * settled_loss(loss_fn, z, y, score.within)
        for each, (z, y) in zip(losses, pairs, strict=True)
    )
    least = best / sum(map(len, losses))  # each counts as often as in the mean of the constant
    endless = falls_at_the_edge(loss_fn, output, like, score.within, score.of_best_constant)
    if score.within.is_free and -math.inf < least < -LOSS_ROUNDING:
        endless = falls_far_out(loss_fn, output, like, score.of_best_constant)
    if endless or not math.isfinite(least):
        score.least, score.level = -math.inf, score.of_best_constant
        score.void = AT_EDGE if math.isfinite(least) else NO_LEAST
    elif score.of_best_constant - least <= LOSS_ROUNDING * _size_of_changes(score, output, like):
        score.constant, score.void = None, NO_LOWER
    else:
        score.least = score.level = least
    return score


def _measure_constant(
    score: Score, output: Tensor, like: Tensor, targets: list[Tensor]
) -> list[Tensor]:
    """Set the loss of the constant output for some targets, and the constant that is closest to
    them; return the losses of each minibatch.

    The score is void if a loss is not finite. output, like: an output and its targets.
    """
    loss_fn, axes, constant = score.loss_fn, score.axes, score.constant
    assert constant is not None
    alike = _alike(targets, like, axes) or targets[:1]
    pairs = _pairs(axes, constant, output, like, alike)
    if not all(is_finite_at(loss_fn, z, y) for z, y in pairs):
        score.constant, score.void = None, "your loss is not finite for any constant output found"
        return []
    losses = [score._losses(z, y) for z, y in pairs]
    score.of_best_constant = float(torch.cat(losses).mean())
    joined = [torch.cat(alike, axes.targets)] if score.by_example else alike
    score.closest = constant_output(loss_fn, output, like, joined, axes, score.within, constant)
    return losses


def _pairs(
    axes: OutputAxes, constant: Tensor, output: Tensor, like: Tensor, targets: list[Tensor]
) -> list[tuple[Tensor, Tensor]]:
    """A constant output for each of some targets, and these targets."""
    return list(zip(axes.constants(constant, output, like, targets), targets, strict=True))


def _size_of_changes(score: Score, output: Tensor, y: Tensor) -> float:
    """How far a loss changes, against which a gap may be rounding: from the constant output to
    outputs one unit beside it, or to those of the network, whichever is nearer. At least the size
    of the loss.
    """
    assert score.constant is not None
    constant = score.constant.expand(output.shape)
    near = score.within.beside(constant, noise_like(constant))
    of_near, of_output, of_constant = (
        float(score._losses(z, y).mean()) for z in (near, output, constant)
    )
    changes = (abs(loss - of_constant) for loss in (of_near, of_output) if math.isfinite(loss))
    return max(abs(of_constant), min(changes, default=0.0))


@torch.no_grad()
def take_lower_constant(score: Score, outputs: list[Tensor], targets: list[Tensor]) -> bool:
    """Take a constant output made from the outputs of a network, if its loss is lower than that of
    the constant predictor; True if one is taken.

    The mean output is tried, and those of some examples. targets: held-out targets.
    """
    z, y, axes, fitted = outputs[0], targets[0], score.axes, [*score.fitted_to]
    if score.constant is None or not fitted or not z.isfinite().all():
        return False
    within, known = score.within, score.constant.to(z)
    every = [*fitted, *(_alike(targets, y, axes) or targets[:1])]
    tried = [within.outputs(within.numbers(c)) for c in (known, *axes.some_constants(z))]
    losses = [
        float(loss_of_constant(score.loss_fn, c, z, y, fitted, axes))
        if all(is_finite_at(score.loss_fn, *pair) for pair in _pairs(axes, c, z, y, every))
        else math.inf
        for c in tried
    ]
    least = min(losses)
    if not least < losses[0] - LOSS_ROUNDING * abs(losses[0]):
        return False
    start = tried[losses.index(least)]
    score.constant = constant_output(score.loss_fn, z, y, fitted, axes, within, start)
    _measure_constant(score, z, y, targets)
    return True


def score_for(
    score: Score, output: Tensor, targets: list[Tensor], until: float = math.inf
) -> Score:
    """Return the same score for other targets, such as those of the training: a score by the loss
    has another least value there. until: see `scores_of`.
    """
    if score.kind != "loss" or score.constant is None:
        return score
    search = partial(_with_least, output=output, targets=targets)
    return _in_time(search, replace(score, void=""), until)


def _few(trained: list[Tensor], like: Tensor, axes: OutputAxes, size: int) -> list[Tensor]:
    """Some targets that are trained on, in minibatches of `size` examples, of the same shape as
    `like` except for the number of examples. Without such minibatches, smaller ones are returned.
    """
    several = max(1, FEW // size)
    some = [
        part
        for y in _alike(trained, like, axes)[:MINIBATCHES]
        for part in y.split(size, axes.targets)[:several]
    ]
    # a rest of one example may leave the loss without a counted target
    whole = [y for y in some if y.shape[axes.targets] == size]
    return (whole or some)[: max(MINIBATCHES, several)] or [like]


def _alike(targets: list[Tensor], like: Tensor, axes: OutputAxes) -> list[Tensor]:
    """The targets whose examples have the same shape as those of `like`."""
    some = [y for y in targets if y.dim() == like.dim() and y.dim()]
    return [y for y in some if axes.shape_of_one(y) == axes.shape_of_one(like)]
