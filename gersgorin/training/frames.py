"""Trainings on next frames, or on targets of their own; sequences as inputs and targets; excerpts
of the chorales.

    training = FrameTraining(model, sequences, loss)
    training.mean_loss()                                # in `frame_loss.unit`, with its graph
    training.gradients()                                # (loss, {name: dL/dW})
    training.best_constant()                            # (the constant output of the least loss, that loss)
    x, y, loss = next_frames(model, sequences, loss)

Frames are numbers, (T, B, m), (T, m), (1, T, m) or a list of pieces (T_i, m); ids are whole
numbers, (T, B), (T,), (1, T) or a list of (T_i,). The targets of a sequence are its own next
frames: T frames give T - 1 predictions. A pair (x, targets) gives both. Pieces of unequal lengths
are filled with zeros at the end, their targets with `PADDING`, which never enters a loss; no real
frame comes after it.

Legend: T predicted frames, B sequences, K output units.
"""

import math
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gersgorin._validate import check_weights, copied, users_code, with_gradients
from gersgorin.loading.find_cell import model_label
from gersgorin.training.losses import (
    EXACT,
    PADDING,
    FrameLoss,
    Loss,
    frame_loss,
    least_constant,
    real_frames,
)
from gersgorin.training.minibatches import numbers_of
from gersgorin.training.training import Training, output_bias_of
from rhn.errors import InvalidInputError
from rhn.models import LanguageModel, PolyphonicModel
from rhn.utils.wording import counted

OWN_LOSS = {PolyphonicModel: "bernoulli", LanguageModel: "categorical"}
EXCERPT = 25  # frames of a chorale, at most: four times as fast as whole ones
UNBOUNDED = 1e6  # a constant output so far from zero is no best one


class FrameTraining(Training):
    """A training on next frames, or on a pair (x, targets), in float64 and evaluation mode, without
    an optimiser.

    Args:
        model: `PolyphonicModel` on frames, `LanguageModel` on ids, or any module with outputs (T,
            B, K), or (outputs, state), for inputs (T, B, m) or ids (T, B). It must be a recurrence:
            its last output has to read its first input, and its first output must not read its last
            one.
        sequences, loss: see `next_frames`.

    Raises:
        InvalidInputError: the model is none or no recurrence, its weights or the sequences are not
            finite, shapes do not fit, the targets never change, or the loss is not finite.
    """

    inputs: Tensor
    """(T, B, m) or ids (T, B)."""
    targets: Tensor
    """Likewise, with `PADDING` after the ends of sequences."""

    @with_gradients()
    def __init__(self, model: nn.Module, sequences: Any, loss: str | Loss | None = None):
        if not isinstance(model, nn.Module):
            raise InvalidInputError(
                f"the model is a {type(model).__name__}: expected a torch module with an output"
            )
        if next(model.parameters(), None) is None:
            raise InvalidInputError(
                f"{type(model).__name__} has no weights: expected a recurrence with an output"
            )
        check_weights(model)
        own = copied(model).double().eval()
        x, y, self.frame_loss = next_frames(own, sequences, loss)
        super().__init__(own, x, y, self.frame_loss, batch_size=x.shape[1], batch_axis=1)
        self._check_frames()
        self.label = model_label(model)

    @property
    def mask(self) -> Tensor:
        """(T, B) bool, False at padding."""
        return real_frames(self.targets)

    def outputs(self) -> Tensor:
        """The outputs of the model for all examples, (T, B, K)."""
        return self.output(self.model, self.inputs)

    def frame_losses(self) -> Tensor:
        """The loss of every frame (T, B), 0 at padding."""
        return self.frame_loss.of_frames(self.outputs(), self.targets)

    def mean_loss(self) -> Tensor:
        """The mean over all real frames, a scalar."""
        return self.loss(self.model, self.inputs, self.targets)

    @with_gradients()
    def gradients(self) -> tuple[float, dict[str, Tensor]]:
        """(Mean loss, its gradient in every trained parameter); zero in one that the loss does not
        depend on.
        """
        parameters, loss = self.parameters, self.mean_loss()
        slopes = torch.autograd.grad(
            loss, list(parameters.values()), allow_unused=True, materialize_grads=True
        )
        return loss.item(), dict(zip(parameters, slopes, strict=True))

    @with_gradients()
    def best_constant(self) -> tuple[Tensor, float]:
        """(The constant output (K,) of the least mean loss, that loss): what a network can reach
        without its state.

        By a quasi-Newton method if there is no formula. Raises InvalidInputError if a user's loss
        has no gradient in the outputs, or no least value.
        """
        loss, y = self.frame_loss, self.targets
        shape = torch.Size((*self.mask.shape, self.units.numel()))
        if loss.constant is not None:
            output = loss.constant(y[self.mask], shape[-1])
        else:
            if not self.constant_loss(self.units.clone().requires_grad_(), shape, y).requires_grad:
                raise InvalidInputError(
                    f"the loss {loss.name} has no gradient in the outputs: do not detach them"
                )
            output, _, least = least_constant(
                lambda z: self.constant_loss(z, shape, y), self.units.flatten(), EXACT
            )
            if not output.abs().max() < UNBOUNDED:
                raise InvalidInputError(
                    f"the loss {loss.name} has no best constant output: from outputs of zero "
                    f"it falls to {least:.3g} and "
                    "further; expected a loss with a minimum"
                )
        return output, self.constant_loss(output, shape, y).item()

    @cached_property
    def output_bias(self) -> str | None:
        """The parameter that is added to every output, see `output_bias_of`."""
        with with_gradients():
            return output_bias_of(self.parameters, self.outputs())

    def _check_frames(self) -> None:
        """Raise InvalidInputError where outputs and targets do not fit, the loss is not finite, or
        the model is no recurrence.
        """
        data: Any = self.data
        x, y = self.inputs, self.targets = data.x, data.y
        name = self.frame_loss.name
        with torch.no_grad():
            outputs = self.outputs()
        if outputs.dim() != 3 or outputs.shape[:2] != x.shape[:2]:
            expected = f"({x.shape[0]}, {x.shape[1]}, K), or (outputs, state)"
            raise InvalidInputError(
                f"the model gives {tuple(outputs.shape)} for inputs {tuple(x.shape)}: expected "
                f"outputs {expected}; a check with "
                "targets takes any"
            )
        self.units = outputs.new_zeros(1, 1, outputs.shape[-1])
        if name in ("bernoulli", "squared") and y.shape[-1] != outputs.shape[-1]:
            raise InvalidInputError(
                f"the targets have {y.shape[-1]} numbers a frame and the outputs "
                f"{outputs.shape[-1]}: expected as many; targets that "
                "are no next frames are given in Python, gersgorin.credit(model, x, targets, "
                "loss='squared')"
            )
        if name == "bernoulli" and (((real := y[self.mask]) < 0) | (real > 1)).any():
            raise InvalidInputError(
                f"the targets reach from {real.min():g} to {real.max():g}: expected 0 to 1"
            )
        if not math.isfinite(loss := self.loss_fn(outputs, y).item()):
            raise InvalidInputError(
                f"the loss is {loss} on these sequences, expected a finite number: draw "
                "smaller weights"
            )
        self._require_recurrence(x)

    @torch.no_grad()
    def _require_recurrence(self, inputs: Tensor) -> None:
        """Raise InvalidInputError unless the last output depends on the first input and the first
        output not on the last.

        Symbols that are not embedded are not looked at.
        """
        model, x = self.model, torch.cat([inputs, inputs])[:4]
        embeds = any(isinstance(part, nn.Embedding) for part in model.modules())
        if isinstance(model, PolyphonicModel | LanguageModel) or not (
            x.is_floating_point() or embeds
        ):
            return
        if not self.reads(model, x, 0, 0)[-1].any():
            batch_first = True in self._stated
            hint = (
                ": it is batch_first, expected a model of inputs (T, B, m)" if batch_first else ""
            )
            raise InvalidInputError(
                f"{type(model).__name__} is not a recurrence: its last output does not change "
                f"with its first input{hint}"
            )
        if self.reads(model, x, 3, 0)[0].any():
            raise InvalidInputError(
                f"{type(model).__name__} looks ahead: its first output changes with its last input"
            )


def next_frames(
    model: nn.Module, sequences: Any, loss: str | Loss | None = None
) -> tuple[Tensor, Tensor, FrameLoss]:
    """(Inputs (T, B, m) or ids (T, B), targets likewise with `PADDING`, the loss of a frame) in the
    type of a model, on the CPU.

    Args:
        sequences: see above. What a user's own module reads are ids where its numbers are integers
            (not of 8 bits), and its targets, too, may be ids (the categorical loss, or one of the
            user's own).
        loss: None for the model's own; "bernoulli", "categorical", "squared"; or loss(outputs,
            targets) -> a number, (T, B) or (T, B, K). One that gives a number needs sequences of
            equal length.

    Raises:
        InvalidInputError: empty, too short, not numbers, NaN or infinite, shapes that do not fit
            each other, or targets that are the same at every frame: a constant output is then
            already right, and there is nothing to learn.
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
            raise InvalidInputError(
                f"{shapes} frames and sequences: expected a target for every frame of x"
            )
    else:
        if ids != target_ids:
            raise InvalidInputError(
                "inputs and targets are of different kinds: give them as a pair (x, targets)"
            )
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
    """(frames (T, B, m) or ids (T, B), mask (T, B)); pieces become one batch, as long as the
    longest.
    """
    one = not isinstance(given, list) or (ids and given and isinstance(given[0], int))
    pieces = [_sequences(piece, name, ids, least) for piece in ([given] if one else given)]
    with users_code(f"{name}: these pieces do not make a batch"):
        padded = torch.nn.utils.rnn.pad_sequence(pieces).flatten(1, 2)
    lengths = torch.tensor(
        [len(piece) for piece in pieces for _ in range(piece.shape[1])], device="cpu"
    )
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
            f"{name}: {values.dtype} of shape {tuple(values.shape)} given, expected {layout}, "
            f"at least {counted(least, 'frame')}"
        )
    return values.to(torch.int64 if ids else torch.float64)


def _own_loss(model: nn.Module) -> str:
    name = next((loss for kind, loss in OWN_LOSS.items() if isinstance(model, kind)), None)
    if name is None:
        raise InvalidInputError(
            f"{type(model).__name__} defines no loss: give loss='bernoulli', 'categorical', "
            "'squared' or a function"
        )
    return name


def _kinds(model: nn.Module, sequences: Any, loss: FrameLoss) -> tuple[bool, bool]:
    """(True for inputs that are ids, True for targets that are)."""
    if isinstance(model, PolyphonicModel | LanguageModel):
        ids = isinstance(model, LanguageModel)
        return ids, ids if loss.constant is None else loss.name == "categorical"
    x, targets = (
        sequences
        if isinstance(sequences, tuple) and len(sequences) == 2
        else (sequences, sequences)
    )
    may_be_ids = loss.name == "categorical" or loss.constant is None
    return may_be_ids and _whole(x), loss.name == "categorical" or (may_be_ids and _whole(targets))


def _whole(values: Any) -> bool:
    """True for ids: integers in a list, or in a list of lists, or an integer type of more than the
    8 bits of frames of 0 and 1.
    """
    for _ in range(2):
        values = values[0] if isinstance(values, list) and values else values
    return type(values) is int or str(getattr(values, "dtype", "")).endswith(
        ("int16", "int32", "int64")
    )
