"""Read sequences as inputs and targets: the next frames, or targets of their own; excerpts of the chorales.

    x, y, loss = next_frames(model, sequences, loss)

Frames are numbers, (T, B, m), (T, m), (1, T, m) or a list of pieces (T_i, m); ids are whole numbers, (T, B), (T,), (1, T) or a list
of (T_i,). The targets of a sequence are its own next frames: T frames give T - 1 predictions. A pair (x, targets) gives both. Pieces
of unequal lengths are filled with zeros at the end, their targets with `PADDING`, which never enters a loss; no real frame comes
after it.

Legend: T predicted frames, B sequences.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gersgorin._validate import users_code
from gersgorin.training.losses import PADDING, FrameLoss, Loss, frame_loss
from gersgorin.training.minibatches import numbers_of
from rhn.errors import InvalidInputError
from rhn.models import LanguageModel, PolyphonicModel
from rhn.utils.wording import counted

OWN_LOSS = {PolyphonicModel: "bernoulli", LanguageModel: "categorical"}
EXCERPT = 25  # frames of a chorale, at most: four times as fast as whole ones


def next_frames(model: nn.Module, sequences: Any, loss: str | Loss | None = None) -> tuple[Tensor, Tensor, FrameLoss]:
    """(Inputs (T, B, m) or ids (T, B), targets likewise with `PADDING`, the loss of a frame) in the type of a model, on the CPU.

    Args:
        sequences: see above. What a user's own module reads are ids where its numbers are integers (not of 8 bits), and its targets,
            too, may be ids (the categorical loss, or one of the user's own).
        loss: None for the model's own; "bernoulli", "categorical", "squared"; or loss(outputs, targets) -> a number, (T, B) or
            (T, B, K). One that gives a number needs sequences of equal length.

    Raises:
        InvalidInputError: empty, too short, not numbers, NaN or infinite, shapes that do not fit each other, or targets that are the
            same at every frame: a constant output is then already right, and there is nothing to learn.
    """
    resolved = frame_loss(_own_loss(model) if loss is None else loss)
    ids, target_ids = _kinds(model, sequences, resolved)
    if isinstance(sequences, tuple):
        if len(sequences) != 2:
            raise InvalidInputError(
                f"a tuple of {len(sequences)} was given: expected (x, targets), or a list of pieces"
            )
        x, mask = _read(sequences[0], "x", ids)
        y, same = _read(sequences[1], "targets", target_ids)
        if mask.shape != same.shape or (mask != same).any():
            shapes = f"x has {tuple(mask.shape)} and targets {tuple(same.shape)}"
            raise InvalidInputError(f"{shapes} frames and sequences: expected a target for every frame of x")
    else:
        if ids != target_ids:
            raise InvalidInputError("inputs and targets are of different kinds: give them as a pair (x, targets)")
        frames, mask = _read(sequences, "the sequences", ids, least=2)
        x, y, mask = frames[:-1], frames[1:].clone(), mask[1:]
    real = y[mask]
    if (real == real[:1]).all():
        raise InvalidInputError(
            "the targets are the same at every frame: expected sequences in which something changes"
        )
    y[~mask] = PADDING[target_ids]
    like = next(model.parameters(), torch.zeros(0))
    x, y = (t.to(like.dtype) if t.is_floating_point() else t for t in (x, y))
    return x, y, resolved


def chorale_frames(model: nn.Module, corpus=None) -> tuple[Tensor, Tensor, FrameLoss]:
    """`next_frames` of an excerpt of each training chorale, from different frames on."""
    from rhn.data import chorales

    pieces = [np.asarray(piece) for piece in (corpus or chorales()).train]
    starts = [5 * k % max(1, len(piece) - EXCERPT + 1) for k, piece in enumerate(pieces)]
    cut = [piece[start : start + EXCERPT] for start, piece in zip(starts, pieces, strict=True)]
    return next_frames(model, cut, "bernoulli")


def _read(given: Any, name: str, ids: bool, least: int = 1) -> tuple[Tensor, Tensor]:
    """(frames (T, B, m) or ids (T, B), mask (T, B)); pieces become one batch, as long as the longest."""
    one = not isinstance(given, list) or (ids and given and isinstance(given[0], int))
    pieces = [_sequences(piece, name, ids, least) for piece in ([given] if one else given)]
    with users_code(f"{name}: these pieces do not make a batch"):
        padded = torch.nn.utils.rnn.pad_sequence(pieces).flatten(1, 2)
    lengths = torch.tensor([len(piece) for piece in pieces for _ in range(piece.shape[1])], device="cpu")
    return padded, torch.arange(len(padded), device="cpu").unsqueeze(1) < lengths


def _sequences(given: Any, name: str, ids: bool, least: int) -> Tensor:
    """Finite numbers: ids (T, B), int64, or frames (T, B, m), float64."""
    values, axes = numbers_of(name, given).cpu(), 2 if ids else 3
    values = values.unsqueeze(1) if values.dim() == axes - 1 else values
    if values.dim() == axes and len(values) == 1:  # one sequence, batch first
        values = values.transpose(0, 1)
    whole = not values.is_floating_point() and values.dtype != torch.bool
    if values.dim() != axes or len(values) < least or (ids and not whole):
        layout = "whole numbers (T,) or (T, B)" if ids else "frames (T, m) or (T, B, m)"
        raise InvalidInputError(
            f"{name}: {values.dtype} of shape {tuple(values.shape)} given, expected {layout}, at least {counted(least, 'frame')}"
        )
    return values.to(torch.int64 if ids else torch.float64)


def _own_loss(model: nn.Module) -> str:
    name = next((loss for kind, loss in OWN_LOSS.items() if isinstance(model, kind)), None)
    if name is None:
        raise InvalidInputError(
            f"{type(model).__name__} defines no loss: give loss='bernoulli', 'categorical', 'squared' or a function"
        )
    return name


def _kinds(model: nn.Module, sequences: Any, loss: FrameLoss) -> tuple[bool, bool]:
    """(True for inputs that are ids, True for targets that are)."""
    if isinstance(model, PolyphonicModel | LanguageModel):
        ids = isinstance(model, LanguageModel)
        return ids, ids if loss.constant is None else loss.name == "categorical"
    x, targets = sequences if isinstance(sequences, tuple) and len(sequences) == 2 else (sequences, sequences)
    may_be_ids = loss.name == "categorical" or loss.constant is None
    return may_be_ids and _whole(x), loss.name == "categorical" or (may_be_ids and _whole(targets))


def _whole(values: Any) -> bool:
    """True for ids: integers in a list, or in a list of lists, or an integer type of more than the 8 bits of frames of 0 and 1."""
    for _ in range(2):
        values = values[0] if isinstance(values, list) and values else values
    return type(values) is int or str(getattr(values, "dtype", "")).endswith(("int16", "int32", "int64"))
