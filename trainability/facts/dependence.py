"""Facts about what outputs depend on: other examples, inputs, frames, or nothing.

Legend: B examples, T frames.
"""

import torch
from torch import nn

from rhn.utils.wording import counted, listed
from trainability.cause import Cause
from trainability.minibatch import rows_of
from trainability.probe import EXAMPLES, Probe
from trainability.swaps import (
    OTHER_AXIS,
    batch_first_of,
    default_weights,
    inputs_standardised,
    other_axis,
)

MASK = (
    "Look for a mask that is inverted: src_key_padding_mask and key_padding_mask are True at "
    "padding."
)
ONE_UNIT = "Remove the softmax and use nn.BCEWithLogitsLoss(), or give each class a unit."


def mixed_examples(probe: Probe) -> Cause | None:
    """Fact: the output of an example depends on other examples."""
    if not probe.mixed:
        return None
    shape = tuple(probe.first.shape)
    words = f"Changing one example changes the outputs of {probe.mixed} of {probe.count - 1} others"
    remedy = (
        "Swap axes by transpose or permute, not by view or reshape; apply no softmax over the "
        "examples; undo the order of examples that were sorted for packing. Do nothing if outputs "
        "depend on the minibatch on purpose, such as by its mean."
    )
    wrong = layers_taking_examples_for_time(probe)
    if wrong:
        kind = f"nn.{type(wrong[0]).__name__}"
        words += f": {kind} treats axis {probe.axis} of x, whose shape is {shape}, as time, but "
        words += f"axis {probe.axis} holds the examples"
        first = bool(batch_first_of(wrong[0]))
        remedy = f"Write {kind}(..., batch_first={not first})."
        if first is (probe.axis == 0):
            remedy = f"{remedy[:-1]}, or leave out the transposes around it."
    if probe.training.either_axis:
        remedy = f"{remedy} Or, if x is (time, examples, features), give batch_axis=1."
    return Cause(
        "mixed examples",
        "network",
        f"{words}.",
        remedy,
        evidence={"changed": probe.mixed},
        repair=OTHER_AXIS if wrong else "",
    )


def layers_taking_examples_for_time(probe: Probe) -> list[nn.Module]:
    """Return the layers for which the other value of batch_first stops the mixing of examples."""
    model, other = probe.training.model, other_axis(probe.training)
    pairs = zip(model.modules(), other.model.modules(), strict=True) if other else ()
    return [own for own, new in pairs if batch_first_of(own) is not batch_first_of(new)]


def unread_steps(probe: Probe) -> Cause | None:
    """Fact: no output depends on some frames, or the output for each frame depends on that frame
    only.
    """
    T = probe.frames
    if T is None or T < 3 or probe.mixed or probe.axes.batch is None or not probe.follows(0):
        return None
    if gives_equal_outputs(probe):
        return None
    lost = [] if probe.only_own_frame else probe.unread(0, probe.layout.time)
    read = sorted(set(range(T)) - set(lost))
    padded = probe.padding is not None
    if probe.only_own_frame or (len(read) == 1 and not padded):
        which = f"frame {read[0] + 1} of {T}" if lost else "its own frame"
        words, remedy = words_of_one_frame(probe, which)
    elif lost and not is_padding(probe, lost):
        frames = listed([str(t + 1) for t in lost])
        words = f"No output depends on {counted(len(lost), 'frame')} of {T} ({frames})."
        remedy = "Look for a slice, or for a mask or a reset that zeroes the state in a sequence."
    else:
        return None
    if padded:
        words, remedy = apart_from_padding(words), f"{MASK} {remedy}"
    return Cause("unread steps", "network", words, remedy, evidence={"frames": T - len(read) or T})


def words_of_one_frame(probe: Probe, which: str) -> tuple[str, str]:
    """Return (the fact that an output depends only on one frame, what to do about it)."""
    words = f"An output depends only on {which}: nothing can be learned from the others."
    if probe.training.either_axis:
        shape = tuple(probe.first.shape)
        words += f" Axis {probe.axis} of x, whose shape is {shape}, is taken as the examples."
    return words, (
        "Pass the state from step to step. For an nn.RNN, LSTM or GRU, read the last output: "
        "out[:, -1] with batch_first=True, out[-1] without."
    )


def apart_from_padding(words: str) -> str:
    """Return a sentence about a sequence, for all of it but its padding."""
    return f"Apart from padding, {words[0].lower()}{words[1:]}"


def is_padding(probe: Probe, lost: list[int]) -> bool:
    """True if only the last frames are not read, and there are further inputs, such as lengths."""
    T = probe.frames or 0
    return len(probe.leaves) > 1 and lost == list(range(T - len(lost), T))


def detached_state(probe: Probe) -> Cause | None:
    """Fact: small changes of earlier frames change the last output, but no gradient reaches these
    frames.
    """
    reached, T = probe.gradient_frames, probe.frames
    if reached is None or T is None or T < 3 or not reached.any():
        return None
    some = range(min(probe.count, EXAMPLES))
    if not any((probe.moving_frames(example) & ~reached).any() for example in some):
        return None
    read, gradient = int(probe.read_frames.sum()), int(reached.sum())
    return Cause(
        "detached state",
        "network",
        f"The last output changes with {read} of {T} frames, but its gradient reaches only "
        f"{gradient}.",
        "Remove .detach(), .data and torch.no_grad() between the steps of a sequence, unless they "
        "truncate backpropagation on purpose.",
        evidence={"depends": read, "reached": gradient},
    )


def equal_outputs(probe: Probe) -> Cause | None:
    """Fact: the outputs of all examples are equal although their inputs differ."""
    rows = rows_of(probe.first, probe.axis)
    if probe.count < 2 or (rows == rows[0]).all() or not gives_equal_outputs(probe):
        return None
    last, values = probe.last_activation, probe.before.flatten()
    value = f" ({values[0]:.3g})" if (values == values[0]).all() else ""
    words = f"The outputs of {probe.count} examples are equal{value}"
    if last is not None and "oftmax" in last.kind and probe.output.shape[-1] == 1:
        return Cause(
            "constant output",
            "network",
            f"{words}: a softmax over one unit is always 1.",
            ONE_UNIT,
            sure=True,
        )
    part, without = part_of_equal_outputs(probe)
    remedy = f"They differ with {without}." if without else "See which input they depend on."
    zeros = [n for n, p in probe.training.model.named_parameters() if p.dim() > 1 and not p.any()]
    if zeros:
        remedy = f"These weights are all 0: {listed(zeros)}. Leave the layers their own weights."
    return Cause("constant output", part, f"{words}.", remedy)


def gives_equal_outputs(probe: Probe) -> bool:
    """True if the outputs of all examples of a minibatch are equal."""
    if probe.axes.batch is None:
        return False
    outputs = rows_of(probe.before, probe.axes.batch)
    return torch.equal(outputs, outputs[:1].expand_as(outputs))


def part_of_equal_outputs(probe: Probe) -> tuple[str, str]:
    """Return (the part whose replacement makes the outputs differ, the replacement in words);
    ("network", "") if there is none.
    """
    for part, words, swap in (
        ("inputs", "standardised inputs", inputs_standardised),
        ("initial weights", "the initial weights of torch", default_weights),
    ):
        other = swap(probe.training)
        if other is not None and not gives_equal_outputs(Probe(other)):
            return part, words
    return "network", ""
