"""`Objective`: a copy of a model with an output, probe sequences and a loss, with loss, gradients and the best constant output.

    objective = Objective(model, sequences, loss)
    objective.mean_loss()                  in `loss.unit`, a float64 scalar with its graph
    objective.gradients()                  (loss, {name: dL/dW})
    objective.best_constant()              (the constant output of the least loss, that loss)

**Losses**, one number for each frame:

| loss        | cost of a frame                                  | best constant output                       |
|-------------|--------------------------------------------------|--------------------------------------------|
| bernoulli   | -sum over k of log P(target_k), P = sigmoid(z_k) | log odds of each key's share of the frames |
| categorical | -log softmax(z)[target]                          | log of each symbol's share of the frames   |
| squared     | sum over k of (z_k - target_k)^2 / 2             | the mean target                            |
| your own    | loss(outputs, targets)                           | by minimising it over one output           |

All but your own are in nats (the squared loss: of a Gaussian of variance 1, less its constant). A key that never sounds in the
sequences, or a symbol that never occurs, would have log odds of minus infinity: the share of a key is kept within `CLIP` of 0 and 1,
that of a symbol above `CLIP` / K.

**Sequences**: frames are numbers, (T, B, m), (T, m) or a list of pieces (T_i, m); ids are whole numbers, (T, B), (T,) or a list of
(T_i,). The targets of a sequence are its own next frames: T frames give T - 1 predictions. A pair (x, targets) gives both. Pieces of
unequal lengths are padded with zeros at the end; padding never enters a loss, and no real frame comes after it.

**Models**: `PolyphonicModel` on frames, `LanguageModel` on ids, or any module with outputs (T, B, K), or (outputs, state), for inputs
(T, B, m) or ids (T, B). The model must be a recurrence: its last output has to read its first input, and its first output must not
read its last one. The copy is in float64 and evaluation mode.

Legend: T predicted frames, B sequences, K outputs; outputs z (T, B, K); targets (T, B, K), or (T, B) int64 for the categorical loss;
mask (T, B) bool, True at real frames.
"""

import contextlib
import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gersgorin._validate import check_weights, copied, finite_tensor, users_code, with_gradients
from gersgorin.loading.find import cell_title, recurrent_cells
from gersgorin.run import Label
from rhn.errors import InvalidInputError
from rhn.models import LanguageModel, PolyphonicModel
from rhn.plotting.provenance import words_of_built
from rhn.utils.wording import counted

CLIP = 1e-4
SEARCH_STEPS = 200  # for the best constant output
ENOUGH, EXACT = 1e-6, 1e-12  # accuracy of its loss, in a training and on a probe
UNBOUNDED = 1e6  # a constant output so far from zero is no best one
Loss = Callable[[Tensor, Tensor], Tensor]


def output_of(output: Any) -> Tensor:
    """The output of a module that returns it alone, as `logits`, or first in a tuple (output, state)."""
    output = getattr(output, "logits", output)
    while isinstance(output, tuple | list) and output:
        output = output[0]
    if not isinstance(output, Tensor):
        raise InvalidInputError(
            f"model(x) returned {type(output).__name__}, expected a tensor or a tuple that begins with one"
        )
    return output


def called(model: Callable[..., Any], x: Any, predict: Callable[[Any], Tensor] = output_of) -> Tensor:
    """The output of a model for an input, several in a tuple, or several by name. Raises InvalidInputError with what it raised.

    predict: takes the output from what the model returns.
    """
    in_order, by_name = ((), x) if isinstance(x, dict) else (x if isinstance(x, tuple) else (x,), {})
    shapes = ", ".join(str(tuple(value.shape)) for value in (*in_order, *by_name.values()))
    with users_code(f"the model does not run on x of shape {shapes}"):
        output = predict(model(*in_order, **by_name))
    if not isinstance(output, Tensor):
        raise InvalidInputError(f"predict returned a {type(output).__name__}, expected the prediction as a tensor")
    return output


@dataclass(frozen=True)
class OutputLoss:
    """A loss by name, or a user's own."""

    name: str
    frames: Loss
    """Cost of every frame, from outputs and targets."""
    constant: Callable[[Tensor, int], Tensor] | None = None
    """Best constant output (K,), from the targets of all real frames (F, K) or (F,), and K; None: search for it."""
    unit: str = "nats a frame"
    """Of the mean loss."""

    def costs(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The cost of every frame (T, B); of a loss that gives one number for all, that number at every frame.

        Raises InvalidInputError if a user's loss fails or gives something else.
        """
        with users_code(
            f"the loss {self.name} cannot take outputs {tuple(outputs.shape)} and targets {tuple(targets.shape)}"
        ):
            costs = self.frames(outputs, targets)
        frames = outputs.shape[:-1]
        if isinstance(costs, Tensor) and costs.dim() == 0:
            return costs.expand(frames)
        if isinstance(costs, Tensor) and costs.shape[:-1] == frames:
            costs = costs.sum(-1)
        if not isinstance(costs, Tensor) or costs.shape != frames:
            got = tuple(costs.shape) if isinstance(costs, Tensor) else type(costs).__name__
            raise InvalidInputError(
                f"the loss {self.name} gives {got}: expected one number, (T, B) or (T, B, K) for outputs {tuple(outputs.shape)}"
            )
        return costs

    def best_constant(self, targets: Tensor, mask: Tensor, K: int) -> Tensor:
        """The output (K,) that, the same at every real frame, has the least mean loss; by a quasi-Newton method if there is no formula.

        Raises InvalidInputError if a user's loss has no gradient in the outputs, or no least value.
        """
        if self.constant is not None:
            return self.constant(targets[mask], K)

        def mean_loss(z: Tensor) -> Tensor:
            loss = self.costs(z.expand(*mask.shape, K), targets)[mask].mean()
            if not loss.requires_grad:
                raise InvalidInputError(
                    f"the loss {self.name} does not depend on the outputs by a gradient: do not detach them"
                )
            return loss

        found, _, least = least_constant(mean_loss, torch.zeros(K, dtype=torch.float64, device=mask.device), EXACT)
        if not found.abs().max() < UNBOUNDED:
            raise InvalidInputError(
                f"the loss {self.name} has no best constant output: from outputs of zero it falls to {least:.3g} and is not "
                "done, expected one with a least value"
            )
        return found


@with_gradients()
def least_constant(
    mean_loss: Callable[[Tensor], Tensor], zeros: Tensor, enough: float = ENOUGH
) -> tuple[Tensor, float, float]:
    """(The constant output of the least mean loss, the loss of zeros, the least loss), by a quasi-Newton method.

    enough: the search ends with a smaller change, relative to the loss of zeros.
    """
    output = zeros.clone().requires_grad_()

    def closure() -> Tensor:
        search.zero_grad()
        loss = mean_loss(output)
        loss.backward()
        return loss

    zero = mean_loss(output).item()
    search = torch.optim.LBFGS(
        [output], max_iter=SEARCH_STEPS, tolerance_change=enough * abs(zero), line_search_fn="strong_wolfe"
    )
    with contextlib.suppress(RuntimeError):  # an overflow, if the loss has no least value
        search.step(closure)
    return output.detach(), zero, mean_loss(output).item()


def resolve_loss(loss: str | Loss) -> OutputLoss:
    """The loss of a name, or a function (outputs, targets) -> a number, (T, B) or (T, B, K); raises InvalidInputError."""
    if isinstance(loss, str) and loss in LOSSES:
        return LOSSES[loss]
    if callable(loss):
        name = getattr(loss, "__name__", type(loss).__name__)
        return OutputLoss(name, loss, unit=f"by the loss {name}" if name.isidentifier() else "by your loss")
    raise InvalidInputError(
        f"unknown loss {loss!r}: expected {', '.join(map(repr, LOSSES))}, or a function loss(outputs, targets)"
    )


def _log_shares(ids: Tensor, K: int) -> Tensor:
    counts = torch.bincount(ids, minlength=K).double()
    return (counts / counts.sum()).clamp_min(CLIP / K).log()


LOSSES: dict[str, OutputLoss] = {
    "bernoulli": OutputLoss(
        "bernoulli",
        lambda z, targets: F.binary_cross_entropy_with_logits(z, targets, reduction="none").sum(-1),
        lambda targets, K: targets.mean(0).clamp(CLIP, 1 - CLIP).logit(),
    ),
    "categorical": OutputLoss(
        "categorical",
        lambda z, ids: -z.log_softmax(-1).gather(-1, ids.unsqueeze(-1)).squeeze(-1),
        _log_shares,
        unit="nats a token",
    ),
    "squared": OutputLoss(
        "squared",
        lambda z, targets: (z - targets).square().sum(-1) / 2,
        lambda targets, K: targets.mean(0),
        unit="squared error a frame (halved)",
    ),
}


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
        inputs, mask = _read(sequences[0], "x", ids)
        targets, same = _read(sequences[1], "targets", target_ids)
        if mask.shape != same.shape or (mask != same).any():
            shapes = f"x has {tuple(mask.shape)} and targets {tuple(same.shape)}"
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
    if (
        values.dim() != axes
        or len(values) < least
        or (ids and (values.is_floating_point() or values.dtype == torch.bool))
    ):
        layout = "whole numbers (T,) or (T, B)" if ids else "frames (T, m) or (T, B, m)"
        raise InvalidInputError(
            f"{name}: {values.dtype} of shape {tuple(values.shape)} given, expected {layout}, at least {counted(least, 'frame')}"
        )
    return values.to(torch.int64 if ids else torch.float64)


def numbers_of(name: str, given: Any) -> Tensor:
    """Finite real numbers of a user as a tensor without a graph. Raises InvalidInputError."""
    if not isinstance(given, Tensor):
        with users_code(f"{name}: no array of numbers"):
            given = np.asarray(given)
    return finite_tensor(name, given).detach()


PADDING = float(torch.finfo(torch.float32).min), -100  # in place of targets after the end of a sequence: numbers, ids


def next_frames(model: nn.Module, sequences: Any, loss: str | Loss | None) -> tuple[Tensor, Tensor, OutputLoss]:
    """(Inputs, targets with `PADDING` after the ends, loss) of what a user gave for a model. Raises InvalidInputError."""
    resolved = resolve_loss(_own_loss(model) if loss is None else loss)
    ids, target_ids = _kinds(model, sequences, resolved)
    inputs, targets, mask = read_probe(sequences, ids=ids, target_ids=target_ids)
    targets[~mask] = PADDING[target_ids]
    return inputs, targets, resolved


def frame_loss(loss: OutputLoss) -> Loss:
    """The mean of a loss over the frames that are no padding."""

    def mean(outputs: Tensor, targets: Tensor) -> Tensor:
        padding = targets == PADDING[not targets.is_floating_point()]
        real = ~(padding[..., 0] if targets.dim() == outputs.dim() else padding)
        return loss.costs(outputs, targets.masked_fill(padding, 0))[real].mean()

    return mean


OWN_LOSS = {PolyphonicModel: "bernoulli", LanguageModel: "categorical"}


class BatchObjective:
    """The mean loss of a copy of a model, in float64 and evaluation mode, on one batch in any layout.

    Args:
        model, inputs: a copy of the model is called with these, see `called`.
        loss: loss(outputs) -> a scalar.
        constant: the best constant output (K,) and its loss.
        predict: see `called`.
    """

    def __init__(
        self,
        model: nn.Module,
        inputs: Any,
        loss: Callable[[Tensor], Tensor],
        constant: tuple[Tensor, float],
        predict: Callable[[Any], Tensor] = output_of,
    ):
        self.model, self.inputs, self._loss, self._constant = _prepared(model), inputs, loss, constant
        self._predict = predict
        outputs = self.outputs()
        self.mask = torch.ones(outputs.shape[:-1], dtype=torch.bool, device=outputs.device)
        self.output_bias = output_bias_of(self.parameters, outputs)

    @property
    def parameters(self) -> dict[str, Tensor]:
        """The trained parameters of the copy by name; their values may be changed."""
        return {name: p for name, p in self.model.named_parameters() if p.requires_grad}

    def outputs(self) -> Tensor:
        """The outputs of the model, (..., K)."""
        with torch.backends.cudnn.flags(enabled=False):  # cuDNN's recurrences have no gradient in evaluation mode
            return called(self.model, self.inputs, self._predict)

    def mean_loss(self) -> Tensor:
        """The mean loss of the model's outputs, a scalar."""
        return self._loss(self.outputs())

    @with_gradients()
    def gradients(self) -> tuple[float, dict[str, Tensor]]:
        """(Mean loss, its gradient in every trained parameter); zero in one that the loss does not depend on."""
        parameters = self.parameters
        loss = self.mean_loss()
        slopes = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True, materialize_grads=True)
        return loss.item(), dict(zip(parameters, slopes, strict=True))

    def best_constant(self) -> tuple[Tensor, float]:
        """(The constant output (K,) of the least mean loss, that loss): what a network can reach without its state."""
        return self._constant


class Objective(BatchObjective):
    """A loss of a copy of a model on probe sequences.

    Args:
        model: see above.
        sequences: frames or ids, (x, targets), or a list of pieces; see `gersgorin.objective`. What a user's own module reads are ids
            where its numbers are integers (not of 8 bits), and its targets, too, may be ids (the categorical loss, or one of the
            user's own).
        loss: None for the model's own; "bernoulli", "categorical", "squared"; or loss(outputs, targets) -> a number, (T, B) or
            (T, B, K), given the outputs as the model gives them. One that gives a number needs sequences of equal length.
    Raises:
        InvalidInputError: the model is none or no recurrence, its weights or the sequences are not finite, shapes do not fit, the
            targets never change, or the loss is not finite.
    """

    @with_gradients()
    def __init__(self, model: nn.Module, sequences: Any, loss: str | Loss | None = None):
        if not isinstance(model, nn.Module):
            raise InvalidInputError(f"the model is a {type(model).__name__}: expected a torch module with an output")
        self.model = _prepared(model)
        self.loss = resolve_loss(_own_loss(model) if loss is None else loss)
        ids, target_ids = _kinds(model, sequences, self.loss)
        inputs, targets, mask = read_probe(sequences, ids=ids, target_ids=target_ids)
        device = next(self.model.parameters()).device
        # copies: the caller's may change, or be made in inference mode
        self.inputs, self.targets, self.mask = (t.to(device, copy=True) for t in (inputs, targets, mask))
        self._all_real = bool(mask.all())
        with torch.no_grad():
            outputs = self._run(self.inputs)
            self._check(outputs)
        _require_recurrence(self.model, self._run, self.inputs)
        self.output_size = outputs.shape[-1]
        self.output_bias = output_bias_of(self.parameters, self._run(self.inputs))
        self.label = label_of(model)

    def outputs(self) -> Tensor:
        """The outputs of the model on the probe, (T, B, K)."""
        return self._run(self.inputs)

    def frame_losses(self, outputs: Tensor | None = None) -> Tensor:
        """The loss of every frame (T, B), 0 at padding; of these outputs, or of the model's."""
        costs = self.loss.costs(self.outputs() if outputs is None else outputs, self.targets)
        return costs if self._all_real else costs.masked_fill(~self.mask, 0)

    def mean_loss(self, outputs: Tensor | None = None) -> Tensor:
        """The mean over all real frames, a scalar."""
        return self.frame_losses(outputs).sum() / self.mask.sum()

    def best_constant(self) -> tuple[Tensor, float]:
        """(The constant output (K,) of the least mean loss on the probe, that loss): what a network can reach without its state."""
        output = self.loss.best_constant(self.targets, self.mask, self.output_size)
        with torch.no_grad():
            return output, self.mean_loss(output.expand(*self.mask.shape, -1)).item()

    def _run(self, inputs: Tensor) -> Tensor:
        """The model's outputs; raises InvalidInputError where it does not run."""
        with torch.backends.cudnn.flags(enabled=False):  # cuDNN's recurrences have no gradient in evaluation mode
            result = called(self.model, inputs)
        if result.dim() != 3 or result.shape[:2] != inputs.shape[:2]:
            expected = f"({inputs.shape[0]}, {inputs.shape[1]}, K), or (outputs, state)"
            raise InvalidInputError(
                f"the model gives {tuple(result.shape)} for inputs {tuple(inputs.shape)}: expected outputs {expected}; a check with "
                "targets takes any"
            )
        return result

    def _check(self, outputs: Tensor) -> None:
        """Raise InvalidInputError where outputs and targets do not fit, or the loss is not finite."""
        K, targets = outputs.shape[-1], self.targets
        if self.loss.name in ("bernoulli", "squared") and targets.shape[-1] != K:
            raise InvalidInputError(
                f"the targets have {targets.shape[-1]} numbers a frame and the outputs {K}: expected as many"
            )
        if self.loss.name == "bernoulli" and ((targets < 0) | (targets > 1)).any():
            raise InvalidInputError(f"the targets reach from {targets.min():g} to {targets.max():g}: expected 0 to 1")
        costs = self.loss.costs(outputs, targets)
        if not self._all_real and costs.stride() == (0, 0):
            raise InvalidInputError(
                f"the loss {self.loss.name} gives one number, which would count the padding of pieces of unequal lengths: "
                "expected (T, B), or pieces of equal length"
            )
        if not math.isfinite(loss := self.mean_loss(outputs).item()):
            raise InvalidInputError(
                f"the loss is {loss} on these sequences, expected a finite number: draw smaller weights"
            )


def output_bias_of(parameters: Mapping[str, Tensor], outputs: Tensor) -> str | None:
    """The parameter that is added to every output (..., K): its gradient is the sum of the outputs' own, whatever that is."""
    likely = {name: p for name, p in parameters.items() if p.shape == outputs.shape[-1:]}
    if not likely or outputs.dim() < 2 or not outputs.requires_grad:
        return None
    slope = torch.randn(
        outputs.shape, generator=torch.Generator().manual_seed(0), dtype=outputs.dtype, device="cpu"
    ).to(outputs)
    found = torch.autograd.grad((outputs * slope).sum(), list(likely.values()), allow_unused=True)
    total = slope.flatten(0, -2).sum(0)
    tolerance = (1e-5, 1e-8) if outputs.dtype == torch.float64 else (1e-3, 1e-4)
    agrees = (g is not None and torch.allclose(g, total, *tolerance) for g in found)
    return next((name for name, same in zip(likely, agrees, strict=True) if same), None)


def label_of(model: nn.Module) -> Label:
    """The title of a model in figures, "2 x lstm, 8 units", and the initialisation of its cells."""
    cells = recurrent_cells(model)
    return Label(
        title=" + ".join(f"{n} x {name}" if n > 1 else name for name, n in Counter(map(cell_title, cells)).items()),
        made=" + ".join(dict.fromkeys(filter(None, map(words_of_built, cells)))),
    )


def _prepared(model: nn.Module) -> nn.Module:
    """A copy in float64 and evaluation mode."""
    if next(model.parameters(), None) is None:
        raise InvalidInputError(f"{type(model).__name__} has no weights: expected a recurrence with an output")
    check_weights(model)
    return copied(model).double().eval()


def _own_loss(model: nn.Module) -> str:
    name = next((loss for kind, loss in OWN_LOSS.items() if isinstance(model, kind)), None)
    if name is None:
        raise InvalidInputError(
            f"{type(model).__name__} defines no loss: give loss='bernoulli', 'categorical', 'squared' or a function"
        )
    return name


def _kinds(model: nn.Module, sequences: Any, loss: OutputLoss) -> tuple[bool, bool]:
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


@torch.no_grad()
def _require_recurrence(model: nn.Module, run: Callable[[Tensor], Tensor], inputs: Tensor) -> None:
    """Raise InvalidInputError unless the last output depends on the first input and the first output not on the last.

    What reads a NaN is NaN, whatever the weights are. Symbols become NaN where they are embedded; elsewhere they are not looked at.
    """
    embeddings = [part for part in model.modules() if isinstance(part, nn.Embedding)]
    if isinstance(model, PolyphonicModel | LanguageModel) or not (inputs.is_floating_point() or embeddings):
        return
    x = torch.cat([inputs, inputs])[:4]

    def reads(output: int, frame: int) -> bool:
        def spoil(module: nn.Module, given: tuple, made: Tensor) -> Tensor:
            return made.index_fill(0, torch.tensor(frame % 4, device=x.device), math.nan) if len(made) == 4 else made

        hooks = [part.register_forward_hook(spoil) for part in embeddings * (not x.is_floating_point())]
        try:
            return bool(run(spoil(model, (), x) if x.is_floating_point() else x)[output].isnan().any())
        finally:
            for hook in hooks:
                hook.remove()

    if not reads(-1, 0):
        batch_first = any(getattr(module, "batch_first", False) for module in model.modules())
        hint = ": it is batch_first, expected a model of inputs (T, B, m)" if batch_first else ""
        raise InvalidInputError(
            f"{type(model).__name__} is no recurrence: its last output does not change with its first input{hint}"
        )
    if reads(0, -1):
        raise InvalidInputError(f"{type(model).__name__} looks ahead: its first output changes with its last input")
