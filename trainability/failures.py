"""Facts about numbers that are not finite: with the initial weights, or in the step that failed.

    cause = not_finite(probe)            # in the first minibatch
    cause = not_finite_examples(probe)   # in all data at the first weights
    cause = failed_step(training, 478)   # in step 478, at which the loss was not finite

The cause names the examples if possible, then the line of code, otherwise the gradient.
"""

import torch
from torch import Tensor

from rhn.errors import USERS_FAULT
from rhn.utils.wording import capitalised, listed
from trainability.autograd import graph, operation
from trainability.cause import Cause
from trainability.data import WHOLE, Inputs, Pair, count_of, examples_axis, sequence_of
from trainability.losses import losses_of_examples
from trainability.not_finite import (
    SCALED_TARGETS,
    Failure,
    Overflow,
    examples_in_words,
    failure_of,
    shared_by,
)
from trainability.probe import Probe
from trainability.training import Training

NOT_FINITE = "not finite"
LOOK = (
    "Look for a log or root of 0 or of a number below 0, a division by 0, or an overflow of exp "
    "there."
)


def not_finite(probe: Probe) -> Cause | None:
    """Fact: the loss of the first minibatch, or its gradient, is NaN or infinite."""
    if probe.loss.isfinite():
        return not_finite_gradient(probe)
    part, bad = "loss", int((~probe.output.isfinite()).sum())
    failure = failure_of(probe.training, probe.x, probe.y)
    if bad:
        part = "network"
        if failure is not None and failure.part == "inputs":
            return not_finite_examples(probe)
        where = f"{bad} of {probe.output.numel()} outputs of the untrained network are"
        remedy = "If they overflow, draw smaller weights, or scale the inputs."
        if failure is not None:
            remedy = f"The first such number comes from {failure.operation}. {LOOK} {remedy}"
    elif any(operation(node) == "CtcLoss" for node in graph(probe.loss)):
        where = "the outputs are finite, but the CTC loss has fewer frames than labels, so it is"
        remedy = "Give the network more frames, or leave these examples out: zero_infinity=True."
    elif failure is not None and failure.overflow is not None:
        return too_large(probe, failure.overflow)
    else:
        where = "the outputs are finite: the loss is"
        remedy = "Look for a log or root of 0, or a division by 0, in the loss."
    return Cause(
        NOT_FINITE,
        part,
        f"The loss of the first minibatch is {probe.loss.item()}; {where} NaN or infinite.",
        remedy,
        sure=True,
    )


def too_large(probe: Probe, found: Overflow) -> Cause:
    """Return the cause for outputs or targets that are too large for the loss of the first
    minibatch.
    """
    return Cause(
        NOT_FINITE,
        "targets" if found.of_targets else "network",
        f"The loss of the first minibatch is {probe.loss.item()}: {found.words}.",
        SCALED_TARGETS if found.of_targets else "Draw smaller weights, or scale the inputs.",
        sure=True,
        evidence={"outputs": found.outputs, "targets": found.targets},
    )


def not_finite_gradient(probe: Probe) -> Cause | None:
    """Fact: the loss of the first minibatch is finite, but the gradient of some weights is not."""
    if not probe.loss.requires_grad:
        return None
    found = probe.gradients.items()
    names = [name for name, g in found if g is not None and not g.isfinite().all()]
    if not names:
        return None
    return Cause(
        NOT_FINITE,
        "network",
        f"The loss of the first minibatch is finite, but the gradient of {listed(names)} is not.",
        "Look for a root or a norm of 0, or a branch of torch.where that is not finite: it has a "
        "gradient too.",
        sure=True,
        evidence={"names": names},
    )


@torch.no_grad()
def not_finite_examples(probe: Probe) -> Cause | None:
    """Fact: with the initial weights, the outputs or the loss of some examples are not finite."""
    training = probe.training
    training.model.eval()
    numbers, every, total, failure = list[int](), list[Pair](), 0, None
    for number, (x, y) in training.data.every():
        found = failure_of(training, x, y)
        if found is not None:
            failure = failure or found
            numbers += [number + k for k in bad_rows(training, x, y, found)]
        every.append((x, y))
        total = number + count_of((x, y), probe.axis)
        if total >= WHOLE:
            break
    if failure is None:
        return None
    if not numbers:
        words = f"In a minibatch of the data {failure.words}"
        return Cause(NOT_FINITE, failure.part, f"{words}.", LOOK, sure=True)
    shared = common(every, probe.axis, numbers)
    words = f"The outputs of {examples_in_words(numbers, total)} are not finite"
    if failure.where == "loss":
        words = f"The losses of {examples_in_words(numbers, total)} are not finite"
    words += f": they {shared}" if shared else ""
    cause = f"The first such number comes from {failure.operation}"
    if failure.overflow is not None:
        cause = capitalised(failure.overflow.words)
    return Cause(
        NOT_FINITE,
        "inputs" if 2 * len(numbers) <= total else failure.part,
        f"{words}. {cause}.",
        "Change these examples, leave them out, or guard this operation.",
        sure=True,
        evidence={"examples": numbers, "total": total},
    )


def bad_rows(training: Training, x: Inputs, y: Tensor, failure: Failure) -> list[int]:
    """Return the examples of a minibatch whose outputs or losses are not finite."""
    if failure.where == "outputs":
        return [*failure.rows]
    if failure.where != "loss":
        return []
    output = training.output(x)
    try:
        axes = training.output_axes(output, x, y)
        losses = losses_of_examples(training.loss, output, y, axes)
    except USERS_FAULT:  # of a loss that needs several examples
        return []
    return (~losses.isfinite()).nonzero().flatten().tolist()


def common(every: list[Pair], axis: int, numbers: list[int]) -> str:
    """Return the property that some examples share and no others have; "" if not known."""
    rows = [sequence_of(x).movedim(axis, 0) for x, _ in every]
    if any(part.shape[1:] != rows[0].shape[1:] for part in rows):
        return ""
    axes = [examples_axis(y, sequence_of(x), axis) for x, y in every]
    if None in axes:
        return ""
    targets = [y.movedim(own or 0, 0) for own, (_, y) in zip(axes, every, strict=True)]
    flat = [y.reshape(len(y), -1) for y in targets]
    if any(y.shape[1:] != flat[0].shape[1:] for y in flat):
        return ""
    bad = torch.zeros(sum(map(len, rows)), dtype=torch.bool)
    bad[numbers] = True
    return shared_by(torch.cat(rows).cpu(), torch.cat(flat).cpu(), bad)


def failed_step(training: Training, step: int) -> Cause | None:
    """Return what was not finite in the step at which a training run failed; None if nothing was.

    training: the training run after that step, with its `failure`.
    """
    if training.failure is None:
        return None
    failure, x = training.failure
    words = f"In step {step:,} {failure.words}."
    evidence: dict[str, object] = {"step": step}
    numbers = [training.data.number_of(x, k) for k in failure.rows]
    if failure.part == "inputs" and None not in numbers:
        which = f"{listed([str(n) for n in numbers])} of the data"
        words = f"In step {step:,}, for the examples {which}, {failure.words}."
        evidence["examples"] = numbers
    remedy = "Lower the learning rate." if failure.where == "weights" else LOOK
    if failure.overflow is not None:
        remedy = failure.overflow.remedy
    return Cause(NOT_FINITE, failure.part, words, remedy, evidence=evidence)
