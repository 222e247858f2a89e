"""A model with inputs, and with targets and a loss at each frame: the subject of `credit`.

    problem = Supervised(model, frames[:-1], frames[1:])      # the targets are the next frames
    problem.losses()                                          # of every frame, (T, B)

Inputs and targets are numbers, (T, B, m), (T, m), (1, T, m) or a list of pieces (T_i, m); or ids,
whole numbers (T, B), (T,), (1, T) or a list of (T_i,). Pieces of unequal lengths are filled with
zeros at the end; the losses there are 0.

| loss        | cost of a frame                                  |
|-------------|--------------------------------------------------|
| bernoulli   | -sum over k of log P(target_k), P = sigmoid(z_k) |
| categorical | -log softmax(z)[target]                          |
| squared     | sum over k of (z_k - target_k)^2 / 2             |
| your own    | loss(outputs, targets), (T, B) or (T, B, K)      |

Legend: T frames, B sequences, m inputs, K outputs; outputs z (T, B, K); targets (T, B, K) or ids
(T, B).
"""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from gersgorin._validate import check_weights, copied, users_code
from gersgorin.loading.find_cell import model_label, step_hint
from gersgorin.loading.network import KEYS
from gersgorin.loading.open import check_network_options, label_of_source, model_of_options
from gersgorin.loading.sources import source_of_options
from gersgorin.losses import FRAME_COSTS, Loss, numbers_of, output_of
from rhn.errors import InvalidInputError
from rhn.models import LanguageModel, PolyphonicModel

OTHER_NAMES = {"mse": "squared", "cross-entropy": "categorical"}
UNITS = {
    "bernoulli": "nats a frame",
    "categorical": "nats a token",
    "squared": "squared error a frame (halved)",
}
"""Of the mean over frames."""


class Supervised:
    """A model, its data and its loss, in float64 and evaluation mode; `model` is a copy.

    Args:
        model: `PolyphonicModel` on frames, `LanguageModel` on ids, or any module with outputs (T,
            B, K), or (outputs, state), for inputs (T, B, m) or ids (T, B).
        x, targets: see above; a target for each frame. A user's own module reads ids if the loss
            is categorical or the user's own and x has whole numbers of more than 8 bits.
        loss: a name of the table, a function, or None for that of a model of ours.

    Raises:
        InvalidInputError: the model is none, its weights, the data or the loss are not finite, or
            shapes do not fit.
    """

    def __init__(self, model: nn.Module, x: Any, targets: Any, loss: str | Loss | None = None):
        if not isinstance(model, nn.Module):
            raise InvalidInputError(
                f"the model is a {type(model).__name__}: expected a torch module with an output"
            )
        check_weights(model)
        self._costs, self.loss_name, self.loss_unit = _resolved(model, loss)
        x_ids, target_ids = _are_ids(model, x, targets, self._costs)
        inputs, mask = _batch(x, "x", x_ids)
        wanted, same = _batch(targets, "targets", target_ids)
        if mask.shape != same.shape or (mask != same).any():
            raise InvalidInputError(
                f"x has {tuple(mask.shape)} and targets {tuple(same.shape)} frames and sequences: "
                "expected a target for every frame of x"
            )
        self.model = copied(model).double().eval()
        device = next(self.model.parameters(), torch.zeros(0)).device
        self.inputs, self.targets, self.mask = (t.to(device) for t in (inputs, wanted, mask))
        self.label = model_label(model)
        self._check()

    @property
    def parameters(self) -> dict[str, Tensor]:
        """The trained parameters of the copy by name."""
        return {name: p for name, p in self.model.named_parameters() if p.requires_grad}

    def outputs(self) -> Tensor:
        """The outputs of the model, (T, B, K)."""
        said = f"the model does not run on x of shape {tuple(self.inputs.shape)}"
        # cuDNN's recurrences have no gradient in evaluation mode
        with users_code(said, step_hint(self.model)), torch.backends.cudnn.flags(enabled=False):
            return output_of(self.model(self.inputs))

    def losses(self) -> Tensor:
        """The loss of every frame (T, B), 0 after the end of a sequence."""
        return self._losses_of(self.outputs())

    def _losses_of(self, outputs: Tensor) -> Tensor:
        frames, targets = outputs.shape[:-1], self.targets
        with users_code(
            f"the loss {self.loss_name} cannot take outputs {tuple(outputs.shape)} and targets "
            f"{tuple(targets.shape)}"
        ):
            costs = self._costs(outputs, targets)
        if not isinstance(costs, Tensor) or costs.dim() == 0:
            raise InvalidInputError(
                f"the loss {self.loss_name} is one number for all frames: expected one for each "
                "frame, (T, B)"
            )
        if costs.shape[:-1] == frames:
            costs = costs.sum(-1)
        if costs.shape != frames:
            raise InvalidInputError(
                f"the loss {self.loss_name} gives {tuple(costs.shape)}: expected (T, B) or (T, B, "
                f"K) for outputs {tuple(outputs.shape)}"
            )
        return costs.masked_fill(~self.mask, 0)

    @torch.no_grad()
    def _check(self) -> None:
        """Raise InvalidInputError if outputs and targets do not fit, or the loss is not finite."""
        outputs, frames = self.outputs(), self.mask.shape
        if outputs.dim() != 3 or outputs.shape[:2] != frames:
            raise InvalidInputError(
                f"the model gives {tuple(outputs.shape)} for inputs {tuple(self.inputs.shape)}: "
                f"expected outputs ({frames[0]}, {frames[1]}, K), or (outputs, state)"
            )
        bernoulli, squared = FRAME_COSTS["bernoulli"], FRAME_COSTS["squared"]
        if self._costs in (bernoulli, squared) and self.targets.shape != outputs.shape:
            raise InvalidInputError(
                f"the targets have {self.targets.shape[-1]} numbers a frame and the outputs "
                f"{outputs.shape[-1]}: expected as many; targets that are no next frames are "
                "given in Python, gersgorin.credit(model, x, targets, loss='squared')"
            )
        least, most = self.targets.min(), self.targets.max()
        if self._costs is bernoulli and (least < 0 or most > 1):
            raise InvalidInputError(
                f"the targets reach from {least:g} to {most:g}: expected 0 to 1"
            )
        loss = self._losses_of(outputs).sum()
        if not torch.isfinite(loss):
            raise InvalidInputError(
                f"the loss is {loss:g} on these sequences, expected a finite number: draw smaller "
                "weights"
            )


def supervised_of_options(options, *, device: str) -> Supervised:
    """The model with an output that a command's options name, and the next frames of their data as
    its targets. Raises RhnError.
    """
    check_network_options(options)
    if options.layer is not None:
        raise InvalidInputError(
            "--layer names one recurrent cell, and the whole network is analysed here: leave it out"
        )
    source = source_of_options(options, options)
    frames = source.frames()
    _, model, loss, made = model_of_options(options, source.input_size or KEYS)
    found = Supervised(model.to(device), frames[:-1], frames[1:], loss)
    label = label_of_source(source, title=found.label.title, made=made or found.label.made)
    found.label = replace(label, sequence=source.label, data=source.about)
    return found


def _resolved(model: nn.Module, loss: str | Loss | None) -> tuple[Loss, str, str]:
    """(A function of outputs and targets, its name, the unit of its mean)."""
    if loss is None and isinstance(model, PolyphonicModel):
        loss = "bernoulli"
    elif loss is None and isinstance(model, LanguageModel):
        loss = "categorical"
    names = ", ".join(map(repr, FRAME_COSTS))
    if loss is None:
        raise InvalidInputError(
            f"{type(model).__name__} defines no loss: give loss={names} or a function"
        )
    if isinstance(loss, str):
        loss = OTHER_NAMES.get(loss, loss)
        if loss in FRAME_COSTS:
            return FRAME_COSTS[loss], loss, UNITS[loss]
    elif callable(loss):
        name = getattr(loss, "__name__", type(loss).__name__)
        return loss, name, f"by the loss {name}" if name.isidentifier() else "by your loss"
    raise InvalidInputError(
        f"unknown loss {loss!r}: expected {names}, or a function loss(outputs, targets)"
    )


def _are_ids(model: nn.Module, x: Any, targets: Any, costs: Loss) -> tuple[bool, bool]:
    """(True for inputs that are ids, True for targets that are)."""
    categorical, own = costs is FRAME_COSTS["categorical"], costs not in FRAME_COSTS.values()
    if isinstance(model, PolyphonicModel):
        return False, categorical
    if isinstance(model, LanguageModel):
        return True, categorical or own
    return (categorical or own) and _whole(x), categorical or (own and _whole(targets))


def _whole(values: Any) -> bool:
    """True for ids: integers in a list, or in a list of lists, or an integer type of more than the
    8 bits of frames of 0 and 1.
    """
    for _ in range(2):
        values = values[0] if isinstance(values, list) and values else values
    wide = ("int16", "int32", "int64")
    return type(values) is int or str(getattr(values, "dtype", "")).endswith(wide)


def _batch(given: Any, name: str, ids: bool) -> tuple[Tensor, Tensor]:
    """(Numbers (T, B, m) or ids (T, B), mask (T, B)); pieces become one batch, as long as the
    longest.
    """
    one = not isinstance(given, list) or (ids and given and isinstance(given[0], int))
    pieces = [_sequences(piece, name, ids) for piece in ([given] if one else given)]
    with users_code(f"{name}: these pieces do not make a batch"):
        padded = nn.utils.rnn.pad_sequence(pieces).flatten(1, 2)
    lengths = [len(piece) for piece in pieces for _ in range(piece.shape[1])]
    steps = torch.arange(len(padded), device="cpu").unsqueeze(1)
    return padded, steps < torch.tensor(lengths, device="cpu")


def _sequences(given: Any, name: str, ids: bool) -> Tensor:
    """Finite numbers: ids (T, B), int64, or frames (T, B, m), float64."""
    values, axes = numbers_of(name, given).cpu(), 2 if ids else 3
    values = values.unsqueeze(1) if values.dim() == axes - 1 else values
    if values.dim() == axes and len(values) == 1:  # one sequence, batch first
        values = values.transpose(0, 1)
    whole = not values.is_floating_point() and values.dtype != torch.bool
    if values.dim() != axes or (ids and not whole):
        layout = "whole numbers (T,) or (T, B)" if ids else "frames (T, m) or (T, B, m)"
        raise InvalidInputError(
            f"{name}: {values.dtype} of shape {tuple(values.shape)} given, expected {layout}"
        )
    return values.to(torch.int64 if ids else torch.float64)
