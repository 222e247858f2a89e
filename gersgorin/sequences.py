"""What a user gives as sequences, as one batch: inputs, targets, and a mask of what is real.

Frames are numbers, (T, B, m), (T, m) or a list of pieces (T_i, m); ids are whole numbers, (T, B), (T,) or a list of (T_i,).
Alone, a sequence's targets are its own next frames: T frames give T - 1 predictions. A pair (x, targets) says both. Pieces of unequal
lengths are padded with zeros at the end, nothing is cut; padding never enters a loss, and no real frame comes after it.
"""

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from gersgorin._validate import real_tensor
from rhn.errors import InvalidInputError


class Probe(NamedTuple):
    """inputs (T, B, m) float64 or (T, B) int64; targets likewise, a frame each; mask (T, B) bool, False at padding."""

    inputs: Tensor
    targets: Tensor
    mask: Tensor


def read_probe(sequences: Any, *, ids: bool, target_ids: bool) -> Probe:
    """The probe of what a user gave, on the CPU.

    Args:
        sequences: see above; a pair is a tuple, several pieces are a list.
        ids, target_ids: whether inputs, and targets, are ids and not frames.

    Raises:
        InvalidInputError: empty, too short, not numbers, NaN or infinite, shapes that do not fit each other, or targets that are the
            same at every frame: a constant output is then already right, and there is nothing to learn.
    """
    if isinstance(sequences, tuple):
        if len(sequences) != 2:
            raise InvalidInputError(
                f"a tuple of {len(sequences)} was given: expected (x, targets), or a list of pieces"
            )
        (inputs, mask), (targets, mask_of_targets) = (
            _read(sequences[0], "x", ids),
            _read(sequences[1], "targets", target_ids),
        )
        if mask.shape != mask_of_targets.shape or (mask != mask_of_targets).any():
            shapes = f"x has {tuple(mask.shape)} and targets {tuple(mask_of_targets.shape)}"
            raise InvalidInputError(f"{shapes} frames and sequences: expected a target for every frame of x")
    else:
        if ids != target_ids:
            raise InvalidInputError("inputs and targets are of different kinds: give them as a pair (x, targets)")
        frames, mask = _read(sequences, "the sequences", ids, least=2)
        inputs, targets, mask = frames[:-1], frames[1:], mask[1:]
    real = targets[mask]
    if (real == real[:1]).all():
        raise InvalidInputError(
            "the targets are the same at every frame: expected sequences in which something changes"
        )
    return Probe(inputs, targets, mask)


def _read(given: Any, name: str, ids: bool, least: int = 1) -> tuple[Tensor, Tensor]:
    """(frames (T, B, m) or ids (T, B), mask (T, B))."""
    layout = "(T,) or (T, B)" if ids else "(T, m) or (T, B, m)"
    if isinstance(given, list) and not (ids and given and isinstance(given[0], int)):
        return _pad(
            [
                _numbers(piece, name, ids, (1,) if ids else (2,), layout[: layout.index(" or")], least)
                for piece in given
            ],
            name,
        )
    values = _numbers(given, name, ids, (1, 2) if ids else (2, 3), layout, least)
    values = values.unsqueeze(1) if values.dim() == (1 if ids else 2) else values
    return values, torch.ones(values.shape[:2], dtype=torch.bool, device="cpu")


def _pad(pieces: list[Tensor], name: str) -> tuple[Tensor, Tensor]:
    """Pieces as one batch, as long as the longest."""
    if not pieces:
        raise InvalidInputError(f"{name}: an empty list was given, expected at least one piece")
    if len({piece.shape[1:] for piece in pieces}) > 1:
        raise InvalidInputError(
            f"{name}: the pieces have frames of {sorted({p.shape[-1] for p in pieces})} numbers, expected equally many"
        )
    padded = torch.nn.utils.rnn.pad_sequence(pieces)
    lengths = torch.tensor([len(piece) for piece in pieces], device="cpu")
    return padded, torch.arange(len(padded), device="cpu").unsqueeze(1) < lengths


def _numbers(given: Any, name: str, ids: bool, dims: tuple[int, ...], layout: str, least: int) -> Tensor:
    """Finite numbers as a tensor of one of these numbers of dimensions: int64 for ids, float64 for frames."""
    try:
        values = (
            real_tensor(name, given).detach().cpu() if isinstance(given, Tensor) else torch.from_numpy(np.array(given))
        )
    except (TypeError, ValueError, RuntimeError):
        raise InvalidInputError(
            f"{name}: {type(given).__name__} given, expected an array of numbers {layout}"
        ) from None
    if values.is_complex() or (ids and (values.is_floating_point() or values.dtype == torch.bool)):
        raise InvalidInputError(f"{name}: {values.dtype} given, expected {'whole' if ids else 'real'} numbers {layout}")
    if values.dim() not in dims:
        raise InvalidInputError(f"{name} has shape {tuple(values.shape)}: expected {layout}")
    if values.numel() == 0 or len(values) < least:
        needed = "at least 2 frames, each the target of the one before" if least == 2 else "at least one frame"
        raise InvalidInputError(f"{name} has shape {tuple(values.shape)}: expected {needed}")
    if not ids and (bad := int((~torch.isfinite(values)).sum())):
        raise InvalidInputError(f"{name}: {bad} of {values.numel()} numbers are NaN or infinite, expected finite ones")
    return values.to(torch.int64 if ids else torch.float64)
