"""Causes in the data: scales, ids, one step, equal inputs, padding, one class, minibatches that are not shuffled."""

import math
from collections.abc import Iterator
from itertools import islice

import torch
from torch import Tensor, nn

from gersgorin.checking.activation import Activation
from gersgorin.checking.causes.case import Case
from gersgorin.checking.causes.cause import Cause
from gersgorin.checking.minibatches import Examples, same_for_all_seeds, sequence_of
from gersgorin.objective import least_constant

SATURATED = 4.0  # a pre-activation beyond which tanh and sigmoid hardly move
MOSTLY = 0.5  # share of saturated units from which on the inputs are too large
FAINT = 0.03  # mean size of a pre-activation below which the inputs are too small
IDS = 20  # least number of different whole numbers that are read as ids
FAR = 10.0  # times the spread of the targets that their mean is away from the outputs
TRIED = 20  # steps of the optimiser by which its speed is measured
ARRIVES = 3.0  # times the steps of the training, from which on the constant alone is out of reach
COMMON = 0.9  # share of a class that nearly always occurs
UNSORTED = 0.5  # of the constant's loss: what constants of single minibatches have, if these are not shuffled
ALIKE = 0.5  # of the constant's loss: the least loss that equal inputs allow, from which on it is a cause
MOST_BATCHES = 16


def one_step(case: Case) -> Iterator[Cause]:
    """Sequences of one step."""
    recurrent = any(isinstance(part, nn.RNNBase) for part in case.model.modules())
    if case.frames == 1 and recurrent:
        shape, other = tuple(case.first.shape), case.first.transpose(0, 1)
        yield Cause(
            "one step",
            f"Each sequence has one step: x has shape {shape}, {case.count} examples along axis {case.axis}. The network has nothing to remember.",
            "Put the steps on their own axis: x.unsqueeze(-1) for (examples, steps), or x.transpose(1, 2)."
            if other.shape[-1] > 1
            else "Join consecutive values to sequences.",
            {"shape": list(shape)},
        )


def raw_inputs(case: Case) -> Iterator[Cause]:
    """Inputs whose scale saturates the first layer, or does not move it; whole numbers that are ids."""
    layer, given = _first_layer(case)
    if layer is None or given is None:
        return
    weight, bias = (layer.weight_ih_l0, 0) if isinstance(layer, nn.RNNBase) else (getattr(layer, "weight_ih", getattr(layer, "weight", None)), 0)
    flat = given.flatten(0, -2).float()
    whole = bool((flat == flat.round()).all()) and bool((flat >= 0).all())
    with torch.no_grad():
        drive = flat @ weight.float().T + bias
        moving = drive - drive.mean(0)
    saturated, size = (drive.abs() > SATURATED).float().mean().item(), moving.square().mean().sqrt().item()
    numbers = {"mean": flat.mean().item(), "std": flat.std().item(), "least": flat.min().item(), "largest": flat.max().item(), "saturated": saturated}
    scale = f"from {numbers['least']:.4g} to {numbers['largest']:.4g}, mean {numbers['mean']:.3g}, standard deviation {numbers['std']:.2g}"
    different = len(flat[:, :1].unique())
    if whole and different >= IDS and flat.max() >= IDS and flat.shape[1] == 1:
        yield Cause(
            "ids as numbers",
            f"The inputs are whole numbers ({scale}, {different} different ones) that {type(layer).__name__} reads as sizes: id 40 is twice id 20.",
            f"If they are ids, begin with nn.Embedding({int(flat.max()) + 1}, 32), or one-hot vectors; if they are sizes, standardise them.",
            numbers,
        )
    elif saturated > MOSTLY or 0 < size < FAINT:
        words = f"{saturated:.0%} of the units of {type(layer).__name__} are saturated" if saturated > MOSTLY else (
            f"they move the units of {type(layer).__name__} by {size:.1g} only"
        )
        yield Cause(
            "input scale",
            f"The inputs are at a raw scale ({scale}): {words}.",
            "Standardise each feature: x = (x - x.mean((0, 1))) / x.std((0, 1)).",
            numbers | {"size": size},
        )


def _first_layer(case: Case) -> tuple[nn.Module | None, Tensor | None]:
    """The layer that reads numbers first, and what it reads; None if the network begins with an embedding or anything else."""
    seen: list[tuple[nn.Module, Tensor]] = []

    def keep(layer: nn.Module, given: tuple) -> None:
        if given and isinstance(given[0], Tensor):
            seen.append((layer, given[0].detach()))

    kinds = nn.RNNBase | nn.RNNCellBase | nn.Linear | nn.Embedding | nn.modules.batchnorm._BatchNorm | nn.LayerNorm
    hooks = [part.register_forward_pre_hook(keep) for part in case.model.modules() if isinstance(part, kinds)]
    try:
        case.loop.output(case.model, case.x)
    finally:
        for hook in hooks:
            hook.remove()
    if not seen or not isinstance(seen[0][0], nn.RNNBase | nn.RNNCellBase | nn.Linear) or seen[0][1].dim() < 2:
        return None, None
    return seen[0]


def far_targets(case: Case) -> Iterator[Cause]:
    """Targets so far from the outputs that the constant alone is out of reach at the speed of this optimiser."""
    y = case.y
    if not y.is_floating_point() or case.loop.scheduler or case.loop.first_loss < FAR * case.constant_loss:
        return
    moved = [output.mean().item() for _, output, _ in islice(case.training(), TRIED + 1)]
    start, goal = moved[0], y.mean().item()
    speed = abs(moved[-1] - moved[TRIED // 2]) / (TRIED - TRIED // 2)
    needed = abs(goal - moved[-1]) / max(speed, 1e-30)
    distance = abs(goal - start) / max(y.std().item(), 1e-30)
    if needed > MOSTLY * case.steps and math.isfinite(needed):
        many = f"{needed:,.0f} steps" if needed < 1e9 else "more than a billion steps"
        yield Cause(
            "target scale",
            f"The targets ({y.min():.4g} to {y.max():.4g}, mean {goal:.4g}) are {distance:.3g} standard deviations away from the outputs "
            f"({start:.3g}). This optimiser moves the outputs by {speed:.2g} a step: it takes {many} to reach the mean, of "
            f"{case.steps:,}.",
            "Standardise the targets, y = (y - y.mean()) / y.std(), or set the bias of the output layer to their mean.",
            {"mean": goal, "output": start, "speed": speed, "needed_steps": needed},
            sure=needed > ARRIVES * case.steps,
        )


def equal_inputs(case: Case) -> Iterator[Cause]:
    """Equal inputs with different targets."""
    if not isinstance(case.x, Tensor) or case.count < 8 or case.output_axis is None:
        return
    rows = case.first.movedim(case.axis, 0).flatten(1)
    _, groups = rows.unique(dim=0, return_inverse=True)
    distinct = int(groups.max()) + 1
    if distinct == case.count:
        return
    shape, axis = case.output.shape, case.output_axis
    zeros = torch.zeros_like(case.output.movedim(axis, 0)[:distinct], memory_format=torch.contiguous_format)
    within: Activation | None = case.loop.before
    free = lambda z: z[groups].movedim(0, axis)  # noqa: E731
    least = least_constant(lambda z: case.loop.loss_fn(within.of(free(z)) if within else free(z), case.y), zeros)[2]
    if least > ALIKE * case.constant_loss and len(shape) > 0:
        equal = "all are equal" if distinct == 1 else f"there are {distinct} different ones"
        yield Cause(
            "ambiguous inputs",
            f"Of {case.count} examples {equal}, with different targets: the least loss that they allow is {least / case.constant_loss:.2f} of the best constant "
            "output's.",
            "Look for the step of the preparation in which the inputs lose their differences: truncation, unknown words, rounding, padding.",
            {"examples": case.count, "distinct": distinct, "least_loss": least, "constant_loss": case.constant_loss},
            sure=least > COMMON * case.constant_loss,
        )


def padding(case: Case) -> Iterator[Cause]:
    """An output that is read after long padding."""
    if case.of_frames or case.frames is None or case.frames < 8 or not isinstance(case.x, Tensor):
        return
    x = case.first.movedim((case.axis, 1 - case.axis), (0, 1)).flatten(2) if case.first.dim() > 2 else case.first.movedim(case.axis, 0).unsqueeze(-1)
    real = (x != x[:, -1:]).any(-1)
    ends = torch.where(real.any(1), real.shape[1] - real.flip(1).float().argmax(1), 0).float()
    pad = x[:, -1].unique(dim=0)
    mean = real.shape[1] - ends.mean().item()
    if len(pad) == 1 and mean >= MOSTLY * case.frames and ends.std() > 0:
        yield Cause(
            "padding",
            f"On average the last {mean:.0f} of {case.frames} steps are padding, and the output is read after it.",
            "Read the output of the last real step: nn.utils.rnn.pack_padded_sequence(x, lengths, enforce_sorted=False), and the state h.",
            {"padding": mean, "frames": case.frames},
        )


def imbalance(case: Case) -> Iterator[Cause]:
    """One class nearly always."""
    y = case.y.flatten()
    classes = not case.y.is_floating_point() or bool(((case.y == 0) | (case.y == 1)).all() and case.y.shape[-1] == 1)
    if classes and len(y) > 1:
        value, share = y.mode()[0], (y == y.mode()[0]).float().mean().item()
        if share >= COMMON:
            yield Cause(
                "class imbalance",
                f"{share:.0%} of the targets are class {value:g}: a constant answer is right in {share:.0%} of all cases.",
                "Weight the classes in the loss, weight=1 / share of each, or draw them equally often; judge by balanced accuracy.",
                {"share": share, "class": float(value)},
            )


def sorted_minibatches(case: Case) -> Iterator[Cause]:
    """Minibatches in one order, each of one class or one stretch of the data."""
    data, loop = case.loop.data, case.loop
    if isinstance(data, Examples) or not same_for_all_seeds(data):
        return
    batches = data.minibatches(MOST_BATCHES)
    goals = loop.goals(batches)
    if len(goals) < 2:
        return
    whole = least_constant(lambda z: torch.stack([loop.constant_loss(z, *goal) for goal in goals]).mean(), loop.units)[2]
    single = [least_constant(lambda z, goal=goal: loop.constant_loss(z, *goal), loop.units)[2] for goal in goals]
    ratio = sum(single) / len(single) / whole
    if ratio < UNSORTED and len(sequence_of(batches[0][0])) > 1:
        yield Cause(
            "sorted data",
            "The minibatches come in one order, and each holds one kind of targets: constants of single minibatches have "
            f"{ratio:.2f} of the loss of one constant for all. The network follows the present minibatch.",
            "Shuffle: DataLoader(..., shuffle=True).",
            {"ratio": ratio},
        )
