"""Find padding that the loss counts: a network may learn only to tell padding from the rest.

    words = note_on_padding(training, race)    # a sentence; "" if there is nothing to report

Padding is recognised by the data: from some frame on, the input keeps one value to the end of the
sequence, and all targets of these frames have one class. If this holds for several values, padding
is the value with the most frames.

Legend: B examples, T frames.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from gersgorin.losses import Loss
from trainability.axes import OutputAxes
from trainability.data import Pair, sequence_of
from trainability.race import Race
from trainability.scores import scores_of
from trainability.sentences import shown
from trainability.training import Training

LEFT_OUT = -1  # class of a target that is not scored


def note_on_padding(training: Training, race: Race) -> str:
    """Return a sentence if targets of padding count, and the error on all other targets is not
    clearly below the constant predictor's; else "".
    """
    if race.scores["error"].kind != "classes" or training.data.in_time:
        return ""
    trained = training.data.trained
    found = padding_in([*trained, *race.pairs], training.layout.time)
    if found is None:
        return ""
    masks, (value, label) = found
    known, held_out = (
        [y.masked_fill(mask | (y < 0), LEFT_OUT) for (_, y), mask in zip(pairs, parts, strict=True)]
        for pairs, parts in ((trained, masks[: len(trained)]), (race.pairs, masks[len(trained) :]))
    )
    outputs = training.answers([x for x, _ in race.pairs])
    pairs = [(x, y) for (x, _), y in zip(race.pairs, held_out, strict=True)]
    axes = race.scores["error"].axes
    scores = scores_of(_loss_without(axes), outputs[0], pairs, axes, known)
    errors = {name: scores[name].in_pairs(outputs, held_out) for name in ("error", "loss")}
    if any(paired.below() for paired in errors.values()):
        return ""
    share = sum(int(m.sum()) for m in masks) / sum(
        int((y >= 0).sum()) for _, y in [*trained, *race.pairs]
    )
    return (
        f"{100 * share:.0f} % of the targets are class {label} where the input {value} to the end "
        f"of a sequence, as padding does. On all other targets the relative error is "
        f"{shown(errors['error'].relative)}, loss {shown(errors['loss'].relative)}: not clearly "
        "better than the constant predictor. If it is padding, let the loss leave it out "
        "(ignore_index=)."
    )


def padding_in(pairs: list[Pair], time: int) -> tuple[list[Tensor], tuple[str, int]] | None:
    """Return None if there is no padding. Otherwise return a mask that is True for each target of
    padding, and a pair: words for the input there, and the class of these targets.
    """
    firsts = [sequence_of(x) for x, _ in pairs]
    if any(y.dim() != 2 or y.shape != x.shape[:2] for x, (_, y) in zip(firsts, pairs, strict=True)):
        return None
    ends = [ends_alike(x, time) for x in firsts]
    last = [
        x.select(time, -1).reshape(end.shape[1 - time], -1)
        for x, end in zip(firsts, ends, strict=True)
    ]
    values, which = torch.cat(last).unique(dim=0, return_inverse=True)
    lengths = torch.cat([end.sum(time) for end in ends])
    frames = torch.bincount(which, weights=(lengths * (lengths > 1)).double())
    value = values[frames.argmax()]
    masks = [end & (v == value).all(1).unsqueeze(time) for v, end in zip(last, ends, strict=True)]
    classes = torch.cat([y[mask] for (_, y), mask in zip(pairs, masks, strict=True)]).unique()
    if len(classes) != 1 or classes[0] < 0 or classes.is_floating_point():
        return None
    words = f"stays {value.item():.4g}" if value.numel() == 1 else "stays the same"
    return masks, (words, int(classes))


def ends_alike(x: Tensor, time: int) -> Tensor:
    """Return True for each frame after which the input does not change any more, in the shape of
    the first two axes of x.

    >>> ends_alike(torch.tensor([[3, 5, 0, 0], [0, 5, 5, 3]]), 1).long().tolist()
    [[0, 0, 1, 1], [0, 0, 0, 1]]
    """
    same = x == x.select(time, -1).unsqueeze(time)
    same = same.flatten(2).all(2) if same.dim() > 2 else same
    return same.flip(time).long().cumprod(time).flip(time) > 0


def _loss_without(axes: OutputAxes) -> Loss:
    """The cross entropy of the targets that are not marked as `LEFT_OUT`."""

    def loss_fn(z: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(
            axes.classes_last(z).flatten(0, -2), y.flatten(), ignore_index=LEFT_OUT
        )

    return loss_fn
