"""Facts about targets: compared with wrong outputs, out of range, all equal, or later inputs.

Legend: B examples, T frames.
"""

import math

import torch
from torch import Tensor

from rhn.utils.wording import counted
from trainability.activation import is_free
from trainability.autograd import graph, operation
from trainability.cause import Cause
from trainability.losses import is_binary, is_normalised, takes_logits
from trainability.minima import free_loss
from trainability.probe import Probe
from trainability.reference import places_of_targets
from trainability.swaps import PAIRED, USUAL_LOSS
from trainability.training import same

ROUNDING = 1e-6  # relative change of a sum of numbers in single precision
WITH_LEAST = {"NllLoss", "NllLoss2D", "BinaryCrossEntropyWithLogits"}
"""Losses of torch that have a least value if they are used as intended."""


def unpaired_loss(probe: Probe) -> Cause | None:
    """Fact: the loss does not compare each output with the target of the same example."""
    moved = probe.moved_by_a_target
    if moved is None or not probe.is_unpaired:
        return None
    share = float(moved[0] / moved.sum())
    shape = tuple(probe.output.shape)
    return Cause(
        "unpaired loss",
        "loss",
        f"When the target of one example changes, only {share:.0%} of the change of the gradient "
        f"is at its own output: outputs have shape {shape}, y has {tuple(probe.y.shape)}.",
        f"Pass {probe.pairing} to the loss in place of y."
        if probe.pairing
        else "Bring outputs and targets into one order of axes, by transpose or permute before "
        "reshape or flatten.",
        sure=True,
        evidence={"share": share},
        repair=PAIRED if probe.pairing else "",
    )


def output_range(probe: Probe) -> Cause | None:
    """Fact: the last activation keeps the loss far above the least loss of unbounded outputs."""
    last = probe.last_activation
    if last is None:
        return None
    loss, z, y, targets = probe.training.loss, probe.output, probe.y, probe.targets
    constant = free_loss(loss, z, targets, last.of, constant=probe.axes)
    least = free_loss(loss, z, targets, last.of)
    free = free_loss(loss, z, targets[:1], same)  # whose search is long
    if not all(map(math.isfinite, (constant, least))) or free >= least - 0.1 * abs(constant):
        return None
    if least <= 0.1 * abs(constant):
        return None
    twice = last.kind in ("Softmax", "Sigmoid") and takes_logits(loss, z, y)
    scaled = last.is_chosen and y.is_floating_point() and not is_binary(y)
    return Cause(
        "softmax twice" if twice else "output range",
        "loss" if twice else "targets" if scaled else "network",
        f"The outputs are {last.words}, between {last.low:g} and {last.high:g}: over "
        f"{counted(len(targets) * probe.count, 'example')} the least loss in this range is "
        f"{least:.3g}, and the best constant output in this range has a loss of {constant:.3g}.",
        _for_another_axis(probe, last.words)
        or f"Remove {last.words} from the end of the model"
        + (": this loss expects logits." if twice else ", or scale the targets to its range."),
        sure=least >= constant * (1 - ROUNDING),
        evidence={"least": least, "constant": constant},
        repair=USUAL_LOSS if twice else "",
    )


def _for_another_axis(probe: Probe, last: str) -> str:
    """What to do about a softmax along the axis of the examples or frames; "" for another one."""
    wrong = probe.output_range.wrong_axis
    if wrong is None:
        return ""
    axis = "the examples" if wrong == probe.axes.batch else "the frames"
    right = f"Give {last} the axis of the classes, dim={probe.axes.units}"
    return f"{right}: along dim={wrong} it sums over {axis}."


def no_least_loss(probe: Probe) -> Cause | None:
    """Fact: the loss falls without end for large outputs, since the loss is meant for other outputs
    or targets.
    """
    if probe.last_activation is not None:
        return None
    z, loss = probe.output.detach(), probe.training.loss
    axis = probe.axes.classes
    if z.numel() == probe.y.numel():
        right = probe.y.reshape(z.shape).to(z.dtype) * 2 - float(is_binary(probe.y))
    elif axis is not None:
        right = torch.zeros_like(z).scatter_(axis, probe.y.clamp_min(0).unsqueeze(axis), 1.0)
    else:
        return None
    with torch.no_grad():
        losses = [loss(size * right, probe.y).item() for size in (1e2, 1e4)]
    if not (losses[1] < 0 and losses[1] < 10 * losses[0] < 0) or are_log_probabilities(z, axis):
        return None
    nodes = {operation(node) for node in graph(probe.loss)}
    free = is_free(probe.output)
    numbers = (
        f"of size 100 take it to {losses[0]:.3g}, and outputs of size 10,000 to {losses[1]:.3g}"
    )
    return Cause(
        "no least loss",
        "loss",
        f"The loss has no least value: outputs {numbers}."
        if free
        else f"The loss alone has no least value: any outputs {numbers}; the range of your "
        "network's outputs is not known.",
        "Targets of a binary loss lie between 0 and 1: leave out other ones, such as -1 for a "
        "missing target."
        if axis is None
        else "Use nn.CrossEntropyLoss() on outputs without a softmax in place of NLLLoss.",
        sure=free and bool(nodes & WITH_LEAST),
    )


def are_log_probabilities(z: Tensor, axis: int | None) -> bool:
    """True if exp of the outputs sums to 1 over the classes, so that the outputs are bounded."""
    return axis is not None and is_normalised(z.exp(), axis)


def equal_targets(probe: Probe) -> Cause | None:
    """Fact: all targets of the training run are equal."""
    targets = probe.training.data.targets
    first = targets[0].flatten()[:1]
    if sum(len(y) for y in targets if y.dim()) < 2 or not all((y == first).all() for y in targets):
        return None
    return Cause(
        "equal targets",
        "targets",
        f"All targets are {first.item():.4g}: a constant output is perfect, unless your loss does "
        "not read them.",
        "Look where the targets are computed.",
    )


def looks_ahead(probe: Probe) -> Cause | None:
    """Fact: the target of a frame is an input of this frame or of a later one, and the output for
    the frame reads it there.

    If several inputs hold the target in a later frame, outputs must read it in each of them: a
    decoder whose outputs do not read ahead may have a source that is read as a whole.
    """
    places = places_of_targets(probe.x, probe.y, probe.layout)
    later = [(leaf, shift) for leaf, shift in places if shift]
    if later and all(probe.reads_frame(leaf, shift) for leaf, shift in later):
        return later_input(probe, *later[0])
    if probe.y.is_floating_point():
        return None
    for leaf, shift in places:
        if not shift and probe.reads_frame(leaf, 0) and not probe.looks_ahead(leaf):
            return own_input(probe, leaf)
    return None


def later_input(probe: Probe, leaf: int, shift: int) -> Cause:
    """Return the cause for targets that stand in a later frame of an input, where outputs read
    them.
    """
    many = len(probe.leaves) > 1
    name = f"input {leaf + 1}" if many else "the input"
    remedy = f"Let an output read {name} up to its own frame only."
    if not many and any(getattr(p, "bidirectional", False) for p in probe.training.model.modules()):
        remedy = "Set bidirectional=False."
    words = f"The target of a frame is {name}, {counted(shift, 'frame')} later"
    words += ", and the output for the frame reads it."
    return Cause("looks ahead", "network", words, remedy)


def own_input(probe: Probe, leaf: int) -> Cause:
    """Return the cause for targets that stand in the same frame of an input, where outputs read
    them.
    """
    many = len(probe.leaves) > 1
    name = f"input {leaf + 1}" if many else "the input"
    return Cause(
        "looks ahead",
        "inputs" if many else "targets",
        f"The target of a frame is {name} of this frame, and the output for the frame reads it.",
        f"Shift {name} by one frame: a start token, then the targets without the last one."
        if many
        else "Shift the targets: x[:, :-1] and y = x[:, 1:].",
    )
