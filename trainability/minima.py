"""Find the least loss over all outputs, or over outputs that are the same for all examples.

The search is L-BFGS, and Rprop beside it, which has a step length for each number. L-BFGS may stop
at a kink of the loss, such as that of a quantile loss, and where the numbers of an output differ by
many powers of ten, such as a mean and the logarithm of a deviation.
"""

import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial

import torch
from torch import Tensor

from gersgorin.losses import Loss
from gersgorin.validate import with_gradients
from rhn.errors import USERS_FAULT
from trainability.axes import OutputAxes
from trainability.data import noise_like
from trainability.losses import EQUAL, takes_logits, takes_softmax
from trainability.output_range import FREE, OutputRange

SETTLED = 1e-3  # of a loss below 0: if a second search gains more, it falls without end
LOSS_ROUNDING = 1e-6  # a loss that is so little below 0 may be 0
FIRST_STEP, RPROP_STEPS = 0.01, (1e-9, 1e30)  # of the size of a number: the first, and limits
PATIENCE = 30  # steps in a row of Rprop that do not lower the loss
SEARCH_STEPS, SHORT = 200, 20  # of L-BFGS or of Rprop, and of a search beside the end of another
BESIDE = 0.1, 1.0, 1.0, 1.0  # distances of further starts from the end of a search
FALLS = 0.01  # of the gap to the best constant output: a floor matters that changes more
FAR, FAR_SHARE = 2.0, 0.05  # of the largest outputs; of the gap that falls beyond them
APART = 1e-2  # squared distance of outputs from the targets, of their variance: other outputs


def least(
    loss: Callable[[Tensor], Tensor], start: Tensor, steps: int = SEARCH_STEPS
) -> tuple[float, Tensor]:
    """Return (the least loss that a search finds from a start, the last point of the search).

    The search is L-BFGS, and Rprop where that leaves the numbers at which the loss is finite. If
    the loss has no least value, it is -inf, and the point is not finite.
    """
    found = least_by_slopes(loss, start, steps)
    if found[1].isfinite().all():
        return found
    near = least_by_signs(loss, start)
    if not math.isfinite(near[0]):
        return -math.inf, torch.full_like(start, math.nan)
    found = least_by_slopes(loss, near[1], steps)
    return found if found[0] < near[0] and found[1].isfinite().all() else near


def least_by_slopes(
    loss: Callable[[Tensor], Tensor], start: Tensor, steps: int = SEARCH_STEPS
) -> tuple[float, Tensor]:
    """Return the least loss that L-BFGS finds from a start, and the last point of the search. The
    point is not finite if the search leaves the numbers that the loss takes.

    The search minimises the loss times the number of entries of z. Otherwise the gradient of a mean
    over many entries would be so small that the search stops. A slope that is NaN where the loss is
    finite counts as 0, such as that of a square root at 0.
    """
    z = start.detach().clone().requires_grad_()
    search = torch.optim.LBFGS([z], max_iter=steps, line_search_fn="strong_wolfe")
    found = [math.inf]

    def closure() -> Tensor:
        search.zero_grad()
        value = loss(z).reshape(())
        found.append(value.item())
        value = value * z.numel()
        value.backward()
        if z.grad is not None and math.isfinite(found[-1]):
            z.grad[z.grad.isnan()] = 0.0
        return value

    try:
        search.step(closure)
    except USERS_FAULT:
        return -math.inf, torch.full_like(start, math.nan)
    finite = [value for value in found if math.isfinite(value)]
    return (min(finite) if finite else math.nan), z.detach()


def least_by_signs(loss: Callable[[Tensor], Tensor], start: Tensor) -> tuple[float, Tensor]:
    """Return the least loss that Rprop finds from a start, and its place; -inf if the search leaves
    the numbers at which the loss is finite.

    Its steps have a length for each number: the numbers of an output may differ by many powers of
    ten, such as a mean and the logarithm of a deviation. It ends early if some steps in a row do
    not lower the loss.
    """
    size = start.detach().abs().clamp_min(1.0)
    moved = torch.zeros_like(start, requires_grad=True)
    search = torch.optim.Rprop([moved], FIRST_STEP, step_sizes=RPROP_STEPS)
    best, place, step, lowered = math.inf, start, 0, 0
    while step < SEARCH_STEPS and step - lowered <= PATIENCE:
        step += 1
        search.zero_grad()
        z = start.detach() + size * moved
        try:
            value = loss(z).reshape(())
            value.backward()
        except USERS_FAULT:
            return -math.inf, place
        if moved.grad is not None:
            moved.grad[moved.grad.isnan()] = 0.0
        if not math.isfinite(value.item()):
            return -math.inf, place
        if value.item() < best:
            best, place, lowered = value.item(), z.detach().clone(), step
        search.step()
    return best, place


@with_gradients()
def settled_loss(loss_fn: Loss, output: Tensor, y: Tensor, within: OutputRange = FREE) -> float:
    """Return the least loss of outputs in a range, searched from the given outputs, from the
    targets, and from outputs that are equal for equal targets.

    The result is -inf if the loss is below 0 and falls further in a longer search, or if it is
    finite at no start.
    """

    def loss(z: Tensor) -> Tensor:
        return loss_fn(within.outputs(z), y)

    starts = [output, *targets_as_outputs(y, output), *classes_as_outputs(y, output)]
    found = [least_from(loss, within.numbers(start)) for start in starts]
    first, z = lower_of(lower_beside(loss, min(found, key=_value), BESIDE[:1]), loss)
    further = lower_of(least_from(loss, z), loss)[0] if z.isfinite().all() else -math.inf
    if _falls_without_end(first, further) or not math.isfinite(first):
        return -math.inf
    return min(first, further)


def _falls_without_end(first: float, further: float) -> bool:
    """True if a search that goes on from the end of another gets clearly lower, below 0."""
    return further < -LOSS_ROUNDING and first - further > SETTLED * abs(first)


def least_from(
    loss: Callable[[Tensor], Tensor], start: Tensor, steps: int = SEARCH_STEPS
) -> tuple[float, Tensor]:
    """Return `least`, or the loss at the start and the start if no search gets lower from there.

    NaN if the loss fails or is not finite at the start.
    """
    try:
        at_start = loss(start).item()
    except USERS_FAULT:  # of a loss that takes outputs of some range only
        at_start = math.nan
    if not math.isfinite(at_start):
        return math.nan, start
    found = least(loss, start, steps)
    return found if found[0] < at_start else (at_start, start)


def lower_of(found: tuple[float, Tensor], loss: Callable[[Tensor], Tensor]) -> tuple[float, Tensor]:
    """Return the result of a search, or a lower one of Rprop from its end."""
    if not found[1].isfinite().all():
        return found
    by_signs = least_by_signs(loss, found[1])
    return by_signs if math.isfinite(by_signs[0]) and by_signs[0] < _value(found) else found


def _value(found: tuple[float, Tensor]) -> float:
    """The loss that a search found; infinite if there is none."""
    return math.inf if math.isnan(found[0]) else found[0]


def lower_from(loss: Callable[[Tensor], Tensor], start: Tensor) -> tuple[float, Tensor]:
    """Return (the least loss of several searches from a start and beside their ends, its place)."""
    return lower_beside(loss, least_from(loss, start))


def lower_beside(
    loss: Callable[[Tensor], Tensor],
    found: tuple[float, Tensor],
    distances: Sequence[float] = BESIDE,
) -> tuple[float, Tensor]:
    """Return the result of a search, or a lower one that starts beside its end.

    The search may have ended at a saddle, such as equal components of a mixture, or at a local
    minimum. A saddle is left from any place beside it, so one distance is enough for many outputs
    of their own.
    """
    for seed, size in enumerate(distances):
        near = least_from(loss, found[1] + size * noise_like(found[1], seed), SHORT)
        if near[0] < _value(found) - LOSS_ROUNDING * abs(near[0]):
            found = min(near, least_from(loss, near[1]), key=_value)
    return found


def searched_range(loss_fn: Loss, output: Tensor, y: Tensor, within: OutputRange) -> OutputRange:
    """Return the range in which the least loss and the best constant output are searched: `within`,
    the range of the network, or all numbers.

    All numbers are searched if the loss itself applies a sigmoid or softmax to outputs, or if the
    targets lie outside of the range and the loss is lower there, so that the range is a fault. They
    are also searched if outputs may be negative without being logarithms of probabilities, such as
    those of tanh, and the loss has a least value among all numbers.
    """
    if within.is_free or applies_softmax(loss_fn, output, y, within):
        return FREE
    if within.shares:
        return within
    if within.is_positive:
        least = settled_loss(loss_fn, output, y, within)
        outside = [z for z in targets_as_outputs(y, output) if not within.holds(z)]
        lower = any(
            is_finite_at(loss_fn, z, y)
            and float(loss_fn(z.clone(), y)) < least - EQUAL * abs(least)
            for z in outside
        )
        return FREE if lower else within
    takes = all(
        is_finite_at(loss_fn, output + size * noise_like(output), y) for size in (1.0, -1.0, 10.0)
    )
    return FREE if takes and math.isfinite(settled_loss(loss_fn, output, y)) else within


def applies_softmax(loss_fn: Loss, output: Tensor, y: Tensor, within: OutputRange) -> bool:
    """True if a loss applies a sigmoid or a softmax to outputs of some range."""
    if takes_logits(loss_fn, output, y):
        return True
    axis = within.units
    if axis is None or not within.shares or within.shares[0].end < output.shape[axis]:
        return False
    return takes_softmax(loss_fn, output, y, axis)


@with_gradients()
def falls_at_the_edge(
    loss_fn: Loss, output: Tensor, y: Tensor, within: OutputRange, constant: float
) -> bool:
    """True if the least loss lies where outputs are hardly above 0, and falls further the closer
    the outputs may come to 0. An example is the loss of a density with a standard deviation for
    each target.

    constant: the loss of the best constant output.
    """
    if not within.has_floor:
        return False
    wide, wider = (settled_loss(loss_fn, output, y, within.above(size)) for size in (1.0, 0.1))
    return not wide - wider <= FALLS * (constant - wide)


def falls_far_out(loss_fn: Loss, output: Tensor, y: Tensor, constant: float) -> bool:
    """True if a loss of any numbers falls further for outputs far beyond those of the network and
    the targets. An example is the loss of a density whose spread is a softplus with a floor.

    constant: the loss of the best constant output.
    """
    known = [output, *targets_as_outputs(y, output)]
    size = FAR * max(1.0, *(float(z.detach().abs().max()) for z in known))

    def least_within(size: float) -> float:
        def loss(z: Tensor, y: Tensor) -> Tensor:
            return loss_fn(size * torch.tanh(z / size), y)

        return settled_loss(loss, output, y)

    wide = least_within(size)
    return wide - least_within(2 * size) > FAR_SHARE * (constant - wide)


def is_finite_at(loss_fn: Loss, output: Tensor, y: Tensor) -> bool:
    """True if a loss raises nothing and is finite at some outputs."""
    try:
        with torch.no_grad():
            return bool(torch.as_tensor(loss_fn(output.clone(), y)).isfinite().all())
    except USERS_FAULT:
        return False


@with_gradients()
def determines_outputs(loss_fn: Loss, output: Tensor, y: Tensor) -> bool:
    """True if a loss that is least at the targets is least there alone.

    False for a loss that does not change with the scale or the shift of outputs, such as a cosine
    or a correlation, or with their order. The targets are compared with targets times 2, with
    shifted ones, with each example times a factor of its own, and with the end of a search for the
    least loss from the given outputs.
    """
    right = y.reshape(output.shape).to(output)
    spread = float(right.double().std(correction=0)) or 1.0
    of_each = right.new_empty(right.shape[:1] + (1,) * (right.dim() - 1))
    factors = 1 + noise_like(of_each).abs()
    others = [2 * right, right + spread, -right, right * factors]
    try:
        with torch.no_grad():
            beside = right + spread * noise_like(right)  # outputs may have exploded
            ours, *starts = (float(loss_fn(z.clone(), y)) for z in (right, output, beside))
            most = ours + EQUAL * min(abs(start - ours) for start in starts)
            found = [(float(loss_fn(z.clone(), y)), z) for z in others]
        found.append(least_from(lambda z: loss_fn(z.clone(), y), output.detach().clone()))
    except USERS_FAULT:  # of a loss that takes outputs of some range only
        return True
    return not any(
        value <= most and float((z - right).square().mean()) > APART * spread**2
        for value, z in found
    )


def targets_as_outputs(y: Tensor, output: Tensor) -> list[Tensor]:
    """Return the targets, if they are numbers, in the shape of the outputs, repeated for several
    outputs of a target; nothing if the shapes do not fit.
    """
    if not y.is_floating_point():
        return []
    if y.numel() == output.numel():
        return [y.reshape(output.shape).to(output)]
    for each in (y, y.unsqueeze(-1)):
        with suppress(RuntimeError):
            return [each.expand(output.shape).to(output).contiguous()]
    return []


def classes_as_outputs(y: Tensor, output: Tensor) -> list[Tensor]:
    """Return an output for each class, the same for all targets of this class, if the targets are
    whole numbers with several outputs each; nothing if the shapes do not fit.

    A loss that reads only which targets are equal may be least there. A search from other outputs
    ends where outputs of one class lie on both sides of those of another.
    """
    if y.is_floating_point() or output.shape[:-1] != y.shape:
        return []
    known, places = y.unique(return_inverse=True)
    K = output.shape[-1]
    each = torch.eye(len(known), K) if len(known) <= K else noise_like(torch.empty(len(known), K))
    return [each.to(output)[places]]


@with_gradients()
def free_loss(
    loss_fn: Loss,
    output: Tensor,
    targets: list[Tensor],
    final: Callable[[Tensor], Tensor],
    *,
    constant: OutputAxes | None = None,
) -> float:
    """Return the least mean loss of outputs final(z) over minibatches; -inf if there is none.

    Args:
        loss_fn, targets: the loss, and the targets of each minibatch.
        output: outputs of a minibatch, from which the shape is read.
        final: function that makes outputs from the free numbers z.
        constant: axes of the outputs, for a z that is constant over examples and frames and the
            same for all minibatches; None: z is free.
    """
    start = torch.zeros_like(output)

    def loss(z: Tensor, y: Tensor) -> Tensor:
        return loss_fn(final(z.expand(output.shape).clone()), y).reshape(())

    if constant is None:
        found = [(partial(loss, y=y), least_from(partial(loss, y=y), start)) for y in targets]
        return sum(lower_beside(*each, BESIDE[:1])[0] for each in found) / len(found)
    start = constant.mean(start)
    return lower_from(lambda z: torch.stack([loss(z, y) for y in targets]).mean(), start)[0]


@with_gradients()
def constant_output(
    loss_fn: Loss,
    output: Tensor,
    y: Tensor,
    targets: list[Tensor],
    axes: OutputAxes,
    within: OutputRange = FREE,
    start: Tensor | None = None,
) -> Tensor:
    """Return the constant output (1, ..., K) in a range with the least loss for some targets.
    output, y: an output and its targets, from which the shapes are read. start: a constant output
    beside which a short search starts; None: the search starts at the mean of the output.
    """

    def of_all(z: Tensor) -> Tensor:
        return loss_of_constant(loss_fn, within.outputs(z), output, y, targets, axes)

    if start is None:
        first = axes.mean(within.numbers(output))
        # from 0 too: outputs that the loss normalises have no slope towards it
        ends = lower_from(of_all, first), least_from(of_all, torch.zeros_like(first))
        value, found = min(ends, key=_value)
        far = least_by_signs(of_all, first)
        if math.isfinite(far[0]) and not far[0] >= value:
            value, found = lower_from(of_all, far[1])
    else:
        first = within.numbers(start)
        value, found = least_from(of_all, first, SHORT)
    return within.outputs(found if math.isfinite(value) and found.isfinite().all() else first)


@with_gradients()
def constant_falls_without_end(
    loss_fn: Loss,
    constant: Tensor,
    output: Tensor,
    y: Tensor,
    targets: list[Tensor],
    axes: OutputAxes,
    within: OutputRange,
) -> bool:
    """True if a search that goes on from the constant output with the least loss gets clearly
    lower: no constant output is the best one. The arguments are those of `loss_of_constant`, and
    the range of the outputs.
    """

    def of_all(z: Tensor) -> Tensor:
        return loss_of_constant(loss_fn, within.outputs(z), output, y, targets, axes)

    numbers = within.numbers(constant)
    further = least_by_signs(of_all, numbers)[0]
    if further == -math.inf:  # it left the numbers that the loss takes
        further = least_from(of_all, numbers)[0]
    return _falls_without_end(of_all(numbers).item(), further)


def loss_of_constant(
    loss_fn: Loss,
    constant: Tensor,
    output: Tensor,
    y: Tensor,
    targets: list[Tensor],
    axes: OutputAxes,
) -> Tensor:
    """Return the mean loss of a constant output over minibatches of targets. output, y: see
    `constant_output`.
    """
    constants = axes.constants(constant, output, y, targets)
    losses = [loss_fn(c.clone(), y).reshape(()) for c, y in zip(constants, targets, strict=True)]
    return torch.stack(losses).mean()
