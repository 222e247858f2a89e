"""Causes in the data: scales, ids, one step, equal inputs, padding, one class, minibatches that are
not shuffled.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from gersgorin.checking.causes.case import READERS, Case
from gersgorin.checking.causes.cause import Cause, listed
from gersgorin.checking.causes.pairing import explained, shifted_targets
from gersgorin.training.losses import least_constant
from gersgorin.training.minibatches import (
    Batches,
    Examples,
    Pair,
    same_for_all_seeds,
    sequence_of,
    with_sequence,
)

SATURATED = 4.0  # a pre-activation beyond which tanh and sigmoid hardly move
MOSTLY = 0.5  # share of saturated units from which on the inputs are too large
STANDARDISE = "Standardise each feature: x = (x - x.mean((0, 1))) / x.std((0, 1))."
STANDARDISE_TARGETS = (
    "Standardise the targets, y = (y - y.mean()) / y.std(), and undo it after predicting."
)
IDS = 20  # least number of different whole numbers that are read as ids
# times the loss of a constant output, from which on the first loss shows targets far away
FAR = 4.0
TRIED = 20  # steps of the optimiser by which its speed is measured
# share of examples without a step that is not padding, from which on it is a value like others
EMPTY = 0.05
# share of padding behind the sequences, from which on an output after it may be lost
PADDED = 1 / 3
SAME = 3.0  # times the spread of x, at most, of numbers that are x
USUAL = {"SGD": (3e-3, 0.5), "other": (3e-4, 1e-2)}  # learning rates that are rarely the cause
FEWEST = 50  # steps of a training that may reach the constant
NEARER = 2.0  # times the way to standardised targets, at least, which these would shorten
ARRIVES = 3.0  # times the steps of the training, from which on the constant alone is out of reach
RIGHT = 1e-4  # of the first loss: that of a constant output that is right
COMMON = 0.9  # share of a class that nearly always occurs
RAW = 3.0  # root mean square of the largest feature, above which the inputs have no usual scale
ODD = 10.0  # times the median size of a feature, from which on a feature is named
# of the constant's loss by chance: what constants of single stretches have if the data are sorted
UNSORTED = 0.5
# of the difference between targets of any two examples: that between those of equal inputs
ALIKE = 0.6
FEW = 8  # examples
NEIGHBOURS = 512  # examples among which equal ones and codes are searched
# share of the values of a feature that may be a code for missing ones: least and most
CODES = 0.002, 0.5
# times the quartile distance of all other values, from the nearest of which a code lies
AWAY = 10.0
ALONE = 1e-3  # scatter of the scales of sequences that were scaled one by one
# of the median distance: nearly equal; least share of examples with such a neighbour
CLOSE, MANY = 0.02, 0.25
MOST_BATCHES, MOST_STRETCHES = 16, 512
TINY = 0.01  # standard deviation of inputs, outputs or targets, below which these may be too small
STANDARD = 0.0, 1.0  # mean and standard deviation


def one_step(case: Case) -> Iterator[Cause]:
    """Sequences of one step."""
    if case.frames == 1 and any(isinstance(part, nn.RNNBase) for part in case.model.modules()):
        shape = tuple(case.first.shape)
        yield Cause(
            "one step",
            f"Each sequence has one step: x has shape {shape}, with {case.count} examples. The "
            "network has nothing to remember.",
            "Give the steps an axis of their own: x.unsqueeze(-1) for x of shape (examples, "
            "steps), or windows of the series.",
            {"shape": list(shape)},
        )


def raw_inputs(case: Case) -> Iterator[Cause]:
    """Inputs whose scale saturates the first layer; whole numbers that are ids."""
    layer, x = _first_layer(case)
    if layer is None:
        return
    kind, flat = type(layer).__name__, x.flatten(0, -2).float()
    weight = next(
        p.detach().float()
        for name, p in layer.named_parameters()
        if name == "weight" or "ih" in name
    )
    saturated = ((flat @ weight.T).abs() > SATURATED).float().mean().item()
    least, largest, distinct = flat.min().item(), flat.max().item(), len(flat.unique())
    numbers = {
        "least": least,
        "largest": largest,
        "mean": flat.mean().item(),
        "std": flat.std().item(),
    }
    numbers |= {"saturated": saturated, "distinct": distinct}
    sizes = flat.square().mean(0).sqrt()
    scale = (
        f"from {least:.4g} to {largest:.4g}, mean {numbers['mean']:.3g}, standard "
        f"deviation {numbers['std']:.2g}"
    )
    if flat.shape[1] == 1 and least >= 0 and distinct >= IDS and torch.equal(flat, flat.round()):
        yield Cause(
            "ids as numbers",
            f"The inputs are whole numbers ({distinct} different ones {scale}), and {kind} "
            "reads them as sizes.",
            f"If they are ids, begin with nn.Embedding({largest + 1:.0f}, 32), or one-hot "
            "vectors; if sizes, standardise them.",
            numbers,
        )
    elif saturated > MOSTLY and sizes.max() > RAW:  # else the weights are large
        odd = [
            k for k in sizes.argsort(descending=True).tolist() if sizes[k] > ODD * sizes.median()
        ]
        which = listed([f"feature {k} (root mean square {sizes[k]:.3g})" for k in odd])
        yield Cause(
            "input scale",
            f"{kind} reads inputs at a raw scale ({scale}): {saturated:.0%} of its units are "
            "saturated." + f" By far the largest: {which}." * bool(odd),
            STANDARDISE,
            numbers,
        )


def missing_values(case: Case) -> Iterator[Cause]:
    """A code for missing values, which decides the scale of a feature."""
    if (found := codes(case)) is None:
        return
    away = (found.value - found.mean).abs() / found.std
    k = int(away.where(found.is_code, -math.inf).argmax())
    of_feature = {
        name: getattr(found, name)[k].item() for name in ("value", "share", "mean", "std")
    }
    yield Cause(
        "missing values",
        f"{found.share[k]:.1%} of the values of feature {k} are exactly {found.value[k]:.4g}, "
        f"{away[k]:,.0f} standard deviations from "
        f"the mean {found.mean[k]:.4g} of all others: it looks like a code for missing values.",
        "Fill missing values before scaling, by the last known value or by the mean of all "
        "others, and scale by the others.",
        {"feature": k} | of_feature,
    )


@dataclass(frozen=True)
class Codes:
    """Of each feature (m,): a value that may be a code for missing ones, and the scale of all
    others.
    """

    value: Tensor
    is_code: Tensor
    """True if the value occurs often, and lies far from all others."""
    share: Tensor
    """Of the value."""
    mean: Tensor
    """Of all others; without a code of all."""
    std: Tensor
    """Likewise; 1 if they are equal."""


def codes(case: Case) -> Codes | None:
    """The codes for missing values among some examples; None if no feature has one."""
    x = sequence_of(_some(case)[0])
    if not x.is_floating_point() or case.frames is None:
        return None
    flat = x[~is_padding(x, case.axis)].double()
    for value in (flat.amin(0), flat.amax(0)) if len(flat) else ():
        same = flat == value
        share, gap = same.double().mean(0), (flat - value).abs().masked_fill(same, math.inf).amin(0)
        ordered, last = (
            flat.masked_fill(same, math.inf).sort(0).values,
            ((~same).sum(0) - 1).clamp(min=0),
        )
        low, high = (ordered.gather(0, (last * k // 4)[None])[0] for k in (1, 3))
        is_code = (
            (share > CODES[0]) & (share < CODES[1]) & (high > low) & (gap > AWAY * (high - low))
        )
        if is_code.any():
            others = flat.masked_fill(same & is_code, math.nan)
            mean = others.nanmean(0)
            std = (others - mean).square().nanmean(0).sqrt()
            return Codes(value, is_code, share, mean, std.where(std > 0, 1.0))
    return None


def scale_of(parts: list[Tensor]) -> tuple[Tensor, Tensor]:
    """(Mean, standard deviation) of each feature (m,) of numbers (..., m), 1 if it has none."""
    flat = torch.cat([part.flatten(0, -2) for part in parts]).double()
    size = flat.std(0)
    return flat.mean(0), size.where(size > 0, 1.0)


def onto(x: Tensor, own: tuple[Any, Any], to: tuple[Any, Any]) -> Tensor:
    """Numbers (..., m) with another mean and standard deviation than their own."""
    return ((x - own[0]) / own[1] * to[1] + to[0]).to(x.dtype)


def scales(case: Case, ratio: float = 1 / TINY) -> dict[str, Cause]:
    """The causes by name, if targets or inputs have a mean above this, or a standard deviation this
    many times above or below 1.

    Inputs also for single features, whose standard deviation is below `TINY`.
    """
    found = {}
    for name, data, remedy in (
        ("target", case.y, STANDARDISE_TARGETS),
        ("input", case.first, STANDARDISE),
    ):
        if data.is_floating_point() and (case.regression or name == "input"):
            mean, std = data.mean().item(), data.std(correction=0).item()
            bits = bool(((data == 0) | (data == 1)).all())
            sizes = (
                data.flatten(0, -2).std(0)
                if name == "input" and data.dim() > 1
                else data.new_ones(1)
            )
            tiny = (sizes > 0) & (sizes < TINY)
            if not bits and (abs(mean) > ratio or 0 < std < 1 / ratio or std > ratio or tiny.any()):
                words = f"The {name}s have mean {mean:.3g} and standard deviation {std:.2g}"
                if tiny.any():
                    least = int(sizes.masked_fill(~tiny, math.inf).argmin())
                    words += (
                        f", {int(tiny.sum())} of {len(sizes)} features less than {TINY:g} "
                        f"(feature {least} {sizes[least]:.2g})"
                    )
                words += "."
                found[f"{name} scale"] = Cause(
                    f"{name} scale", words, remedy, {"mean": mean, "std": std}
                )
    return found


def standardised(
    case: Case, *, inputs: bool = False, targets: bool = False, to: tuple[float, float] = STANDARD
) -> Callable[[Pair], Pair]:
    """Data of mean 0 and standard deviation 1, of each feature and of all targets, of these other
    ones.
    """
    x, y = scale_of([case.first]), scale_of([case.y.reshape(-1, 1)])

    def mapped(pair: Pair) -> Pair:
        first = sequence_of(pair[0])
        moved = with_sequence(pair[0], onto(first, x, STANDARD) if inputs else first)
        return moved, onto(pair[1], y, to) if targets else pair[1]

    return mapped


def _some(case: Case) -> Pair:
    """Examples drawn at random, at most `NEIGHBOURS`; of a DataLoader one batch."""
    return (
        case.loop.data.probe(NEIGHBOURS)
        if isinstance(case.loop.data, Examples)
        else (case.x, case.y)
    )


def scaled_alone(case: Case) -> Iterator[Cause]:
    """Sequences that were scaled one by one."""
    if (
        case.frames is None
        or case.frames < FEW
        or not case.first.is_floating_point()
        or case.count < FEW
    ):
        return
    rows = case.first.movedim(case.axis, 0).double()
    rows = rows[:, :, (rows.amax(1) > rows.amin(1)).all(0)]
    if len(rows.unique()) < IDS:
        return
    ordered = rows.flatten(0, 1).sort(0).values
    ranges = ordered[len(ordered) * 3 // 4] - ordered[len(ordered) // 4]  # of each feature
    least = min(ranges[ranges > 0].tolist(), default=0.0)
    if shared := _shared(rows, ranges) or _shared(rows.flatten(1)[:, :, None], least):
        yield Cause(
            "scaled one by one",
            f"Each of {case.count} sequences has {' and '.join(shared)} by itself: what levels "
            "and sizes say of the targets is gone.",
            f"Do not scale single sequences, scale all of them together. {STANDARDISE}",
            {"sequences": case.count, "shared": shared},
        )


def _shared(rows: Tensor, ranges: Tensor | float) -> list[str]:
    """Statistics that all sequences (N, T, m) share in every feature, in words; a minimum or
    maximum only if a single frame has it.

    ranges: beside which differences are small, of each feature or of all.
    """
    size = rows.abs()
    extremes = {
        "minimum": (rows, rows.amin(1)),
        "maximum": (rows, rows.amax(1)),
        "largest magnitude": (size, size.amax(1)),
    }
    found = {"mean": rows.mean(1), "standard deviation": rows.std(1)}
    for name, (values, extreme) in extremes.items():
        if ((values == extreme[:, None]).sum(1) == 1).double().mean() > COMMON:
            found[name] = extreme
    equal = lambda v: bool(((v - v.mean(0)).abs().amax(0) <= ALONE * ranges).all())  # noqa: E731
    shared = {name: v.mean().item() for name, v in found.items() if equal(v)}
    shared.pop("largest magnitude" if "maximum" in shared else "", None)
    return [f"{name} {round(value, 3) + 0.0:g}" for name, value in shared.items()]


def _first_layer(case: Case) -> tuple[nn.Module | None, Tensor]:
    """(The layer that reads numbers first, its input); None if another kind of layer comes before
    it.
    """
    reading = ((part, x.detach()) for part, x, _ in case.calls if isinstance(x, Tensor))
    layer, x = next(reading, (None, case.first))
    # 1 unless something else has read them before
    ratio = (x.float().std() / case.first.float().std()).item()
    return (
        (layer, x)
        if isinstance(layer, READERS) and x.dim() > 1 and 1 / SAME < ratio < SAME
        else (None, x)
    )


def numbered_targets(case: Case) -> Iterator[Cause]:
    """Symbols as the targets of a regression."""
    x, y = (getattr(case.loop.data, name, getattr(case, name)) for name in ("x", "y"))
    if (
        sequence_of(x).is_floating_point()
        or not y.is_floating_point()
        or not torch.equal(y, y.round())
    ):
        return
    if (distinct := len(y.unique())) >= IDS and y.min() >= 0 and y.max() <= sequence_of(x).max():
        yield Cause(
            "ids as numbers",
            f"The inputs are symbols, and the targets whole numbers ({distinct} different ones "
            f"from {y.min():g} to {y.max():g}) that "
            "the loss treats as quantities.",
            "Give the output one unit for each symbol, and use nn.CrossEntropyLoss() with "
            "integer y.",
            {"distinct": distinct, "largest": y.max().item()},
        )


def far_targets(case: Case) -> Iterator[Cause]:
    """Targets so far from the outputs that the constant alone is out of reach at the speed of this
    optimiser.
    """
    y, last, loop = case.y, case.loop.activation, case.loop
    # which is another cause
    if not case.regression or (last is not None and not last.low <= y.mean() <= last.high):
        return
    if case.steps < FEWEST or loop.scheduler:
        return
    low, high = USUAL[case.kind]
    # than at the highest usual learning rate
    slower = loop.learning_rate / high if loop.learning_rate < low else 1.0
    start, goal, spread = (
        case.output.mean().item(),
        y.mean().item(),
        max(y.std(correction=0).item(), 1e-30),
    )
    if far := loop.first_loss >= FAR * case.constant_loss:
        speed, moved = _speed(
            output.mean().item() for _, output, _ in islice(case.training(), TRIED + 1)
        )
        way, standardised, words = abs(goal - moved), abs(moved), "to reach the mean"
    elif case.kind == "SGD":
        return
    else:  # no constant is far away: as fast as all weights together move the outputs
        rising = case.training(lambda output, y: -output.mean())
        speed, _ = _speed(output.mean().item() for _, output, _ in islice(rising, TRIED + 1))
        way = (y - y.median()).abs().median().item()
        standardised, words = (
            way / spread,
            "to cross the median distance of a target from their median",
        )
    needed = way / max(speed, 1e-30)
    if (
        needed * (1.0 if far else slower) > MOSTLY * case.steps
        and speed > 0
        and way > NEARER * standardised
    ):
        yield Cause(
            "target scale",
            f"The targets have mean {goal:.4g} and standard deviation {spread:.3g}, the "
            f"outputs mean {start:.2g}. This optimiser moves "
            f"the outputs by {speed:.2g} per step: it needs {needed:,.0f} steps {words}, and "
            f"has {case.steps:,}.",
            STANDARDISE_TARGETS,
            {"mean": goal, "std": spread, "output": start, "speed": speed, "needed_steps": needed},
            sure=needed * slower > ARRIVES * case.steps,
        )


def _speed(means: Iterable[float]) -> tuple[float, float]:
    """(Change of the mean output by a step of the optimiser, the last mean)."""
    *_, middle, last = [*means][:: TRIED // 2]
    return abs(last - middle) / (TRIED - TRIED // 2), last


def equal_targets(case: Case) -> Iterator[Cause]:
    """Targets that are all the same."""
    several = [y for _, y in case.loop.data.minibatches(MOST_BATCHES)]
    value = several[0].flatten()[0]
    same = case.count > 1 and all(bool((y == value).all()) for y in several)
    if same and case.constant_loss < RIGHT * abs(case.loop.first_loss):
        yield Cause(
            "equal targets",
            f"All targets of {len(several)} minibatches are {value:g}: a constant output is "
            "correct, and there is nothing to learn.",
            "Look for the operation that makes them equal: an index that is not used, a "
            "rounding, a wrong column.",
            {"target": float(value), "minibatches": len(several)},
            sure=True,
        )


def equal_inputs(case: Case) -> Iterator[Cause]:
    """Equal inputs, or nearly equal ones, with different targets."""
    loop, axis, (x, y) = case.loop, case.output_axis, _some(case)
    if (
        not isinstance(x, Tensor)
        or axis is None
        or case.frames == 1
        or (count := x.shape[case.axis]) < FEW
    ):
        return
    rows = x.movedim(case.axis, 0).flatten(1).double()
    spread = rows.std(0)
    scaled = ((rows - rows.mean(0)) / spread)[:, spread > 0]  # no feature hides the others
    distances = torch.cdist(
        scaled, scaled, compute_mode="donot_use_mm_for_euclid_dist"
    ).fill_diagonal_(math.inf)
    nearest, neighbours = distances.min(1)
    close = nearest <= CLOSE * distances[distances < math.inf].median()
    # beside which all other numbers are equal
    if (number := int(close.sum())) < MANY * count or codes(case):
        return
    pairs = torch.arange(count, device=close.device)[close], neighbours[close]
    both = torch.cat([y.index_select(case.target_axis, some) for some in pairs], case.target_axis)
    shape = list(case.output.shape)
    shape[axis] = number
    twice = lambda z: torch.cat([z, z], axis)  # noqa: E731
    equal = twice if loop.before is None else lambda z, last=loop.before: last.of(twice(z))
    zeros = torch.zeros(shape, device=both.device)
    least = least_constant(lambda z: loop.loss_fn(equal(z), both), zeros)[2]
    constant = loop.least_constant([(twice(zeros).shape, both)])[2]
    differ = 2 * least / constant  # 1 if the targets of a pair have nothing to do with each other
    # of which it is a consequence
    if differ > ALIKE and (shifted := [*shifted_targets(explained(case, []))]):
        yield from shifted
    elif differ > ALIKE:
        distinct = len(rows.unique(dim=0))
        words = (
            f"{distinct} are different"
            if distinct < count
            else f"{number} have a nearly equal neighbour"
        )
        yield Cause(
            "ambiguous inputs",
            f"Of {count} inputs {words}, but the targets of equal inputs differ as much as any "
            f"two targets ({differ:.2f} of the loss).",
            "Look for the operation that makes different inputs equal: truncation, unknown "
            "words, rounding, windows too short.",
            {"examples": count, "distinct": distinct, "close": number, "differ": differ},
            sure=differ > COMMON and int((nearest == 0).sum()) > COMMON * count,
        )


def padding(case: Case) -> Iterator[Cause]:
    """An output that is read after long padding."""
    T = case.frames
    if case.of_frames or T is None or T < FEW or not isinstance(case.x, Tensor):
        return
    behind = is_padding(case.first, case.axis).movedim(case.axis, 0)
    lengths = behind.float().sum(1)
    if (lengths == T).float().mean() > EMPTY:
        return
    # else a delay of the task
    varies = lengths.min() < lengths.max() or not case.first.select(1 - case.axis, -1).any()
    padded = behind[:, -1]
    if (
        padded.float().mean() > 0.5
        and lengths.mean() >= PADDED * T
        and varies
        and case.reads(T - 1)[padded].any()
    ):
        yield Cause(
            "padding",
            f"On average {lengths.mean():.0f} of {T} steps are padding, and the output is read "
            "after them.",
            "Read the output at the last real step: nn.utils.rnn.pack_padded_sequence(x, "
            "lengths, enforce_sorted=False), and h.",
            {"padding": lengths.mean().item(), "frames": T},
        )


def padded_outputs(case: Case) -> Iterator[Cause]:
    """One output for all shorter sequences, as that of pad_packed_sequence at the last step."""
    if case.of_frames or (T := case.frames or 0) < 3 or case.output_axis is None:
        return
    lengths = T - is_padding(case.first, case.axis).long().sum(1 - case.axis)
    shorter, outputs = (
        lengths < lengths.max(),
        case.before.movedim(case.output_axis, 0).reshape(case.count, -1),
    )
    number, empty = int(shorter.sum()), (lengths == 0).float().mean() > EMPTY
    if number > 1 and not empty and torch.equal((outputs == outputs[shorter][0]).all(1), shorter):
        yield Cause(
            "padding",
            f"{number} of {case.count} sequences are shorter than the longest, and all of them "
            "have exactly the same output.",
            "Read the output at the last real step: h[-1] of the layer, or "
            "out[torch.arange(len(out)), lengths - 1], not out[:, -1].",
            {"shorter": number, "examples": case.count},
        )


def padded_loss(case: Case) -> Iterator[Cause]:
    """A loss that reads mostly padding: equal frames at the ends or the beginnings of sequences,
    with equal targets.
    """
    if not case.of_frames or case.y.shape[:2] != case.first.shape[:2] or (case.frames or 0) < FEW:
        return
    padding = is_padding(case.first, case.axis)
    lengths, targets = padding.sum(1 - case.axis), case.y[padding]
    (slope,) = torch.autograd.grad(
        case.loop.loss_fn(case.output, case.y), case.output, retain_graph=True
    )
    read = slope.reshape(*slope.shape[:2], -1).any(-1)
    share = ((read & padding).sum() / read.sum()).item()
    if lengths.min() < lengths.max() and share > MOSTLY and bool((targets == targets[0]).all()):
        yield Cause(
            "padding",
            f"{share:.0%} of the outputs that the loss compares are at padding, whose targets "
            f"are all {targets.flatten()[0].item():g}.",
            "Leave them out of the loss: nn.CrossEntropyLoss(ignore_index=...), or "
            "loss_fn(output[real], y[real]).",
            {"share": share},
        )


def is_padding(x: Tensor, axis: int) -> Tensor:
    """True for each frame of the padding: the commonest first or last frame, as often as it is
    repeated there.
    """
    rows = x.movedim(axis, 0)
    frames, numbers = rows[:, [0, -1]].flatten(0, 1).unique(dim=0, return_counts=True)
    same = (rows == frames[numbers.argmax()]).reshape(*rows.shape[:2], -1).all(-1).long()
    return (same.cumprod(1) + same.flip(1).cumprod(1).flip(1)).bool().movedim(0, axis)


def in_front(x: Tensor, axis: int) -> Tensor:
    """Sequences with their padding before their first step."""
    rows, order = (
        x.movedim(axis, 0),
        (~is_padding(x, axis)).movedim(axis, 0).long().argsort(dim=1, stable=True),
    )
    return rows[torch.arange(len(rows), device=x.device)[:, None], order].movedim(0, axis)


def common_class(y: Tensor) -> tuple[float, float]:
    """(The commonest class, its share of the targets); NaN and 0 for other targets than classes, or
    0 and 1 of one unit.
    """
    one = y.dim() < 2 or y.shape[-1] == 1
    if y.is_floating_point() and not (one and bool(((y == 0) | (y == 1)).all())):
        return math.nan, 0.0
    value = y.flatten().mode()[0]
    return float(value), (y == value).float().mean().item()


def imbalance(case: Case) -> Iterator[Cause]:
    """One class nearly always."""
    value, share = common_class(getattr(case.loop.data, "y", case.y))
    if COMMON <= share < 1:
        yield Cause(
            "class imbalance",
            f"{share:.0%} of the targets are class {value:g}: a constant answer is correct in "
            f"{share:.0%} of all cases.",
            "Weight each class in the loss by 1 / its share, or sample the classes equally "
            "often; judge by balanced accuracy.",
            {"share": share, "class": value},
        )


def sorted_minibatches(case: Case) -> Iterator[Cause]:
    """Minibatches in one order, each of one class or one stretch of the data."""
    data, loop = case.loop.data, case.loop
    if not isinstance(data, Batches) or not same_for_all_seeds(data):
        return
    several = -(-FEW // case.count)  # minibatches that are together one stretch
    with closing(data.stream(0)) as stream:
        batches = list(islice(stream, int(min(data.epoch, MOST_STRETCHES * several))))
    goals = loop.goals(batches[: len(batches) // several * several])
    stretches = [goals[k : k + several] for k in range(0, len(goals), several)]
    chosen = stretches[:: max(1, len(stretches) // MOST_BATCHES)]
    every = [goal for stretch in chosen for goal in stretch]
    whole, mixed = (
        loop.least_constant(every)[2],
        [every[k :: len(chosen)] for k in range(len(chosen))],
    )
    own, chance = (
        sum(loop.least_constant(some)[2] for some in parts) / len(parts) / whole
        for parts in (chosen, mixed)
    )
    chance = 1.0 if several == 1 else chance
    if len(chosen) > 2 and own < UNSORTED * chance:
        yield Cause(
            "sorted data",
            "The minibatches come in a fixed order, and successive ones hold similar targets: "
            "a constant output for each stretch has "
            f"{own:.2f} times the loss of one constant for all. The network adapts to the "
            "current minibatch.",
            "Shuffle: DataLoader(..., shuffle=True).",
            {"ratio": own},
        )
