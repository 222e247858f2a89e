"""A model with an output, probe sequences and a loss, made one thing: what can be asked of a network before, and while, it is trained.

    objective = Objective(model, sequences, loss)
    objective.mean_loss()                  in `loss.unit`, a float64 scalar with its graph
    objective.gradients()                  (loss, {name: dL/dW})
    objective.set_output(constant)         the output bias put at a constant output

The model is a copy in float64 and evaluation mode, so that nothing happens to the caller's; `refresh` reads the weights anew.

Which models: `PolyphonicModel` on frames, `LanguageModel` on ids, or any module that gives outputs (T, B, K), or (outputs, state), for
inputs (T, B, m) or ids (T, B). It must be a recurrence: with weights redrawn at an ordinary size (normal, standard deviation
1 / sqrt(columns), because at the weights as they are the effect may be below all numbers) its last output has to change with its first
input, and its first output must not change with its last input.

Legend: T predicted frames, B sequences, K outputs.
"""

import copy
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from gersgorin._validate import check_weights
from gersgorin.grad_mode import with_gradients
from gersgorin.losses import Loss, OutputLoss, best_constant, curvature, frame_costs, resolve_loss
from gersgorin.sequences import read_probe
from rhn.errors import USERS_FAULT, InvalidInputError
from rhn.models import LanguageModel, PolyphonicModel

ROUNDING = 1e-9  # of the outputs' size: two outputs that differ by less are the same
OWN_LOSS = {PolyphonicModel: "bernoulli", LanguageModel: "categorical"}


class Objective:
    """A loss of a copy of a model on probe sequences.

    Args:
        model: see above.
        sequences: frames or ids, (x, targets), or a list of pieces; see `gersgorin.sequences`. What a user's own module reads are ids
            where its numbers are integers (not of 8 bits), and its targets, too, may be ids (the categorical loss, or one of the
            user's own).
        loss: None for the model's own; "bernoulli", "categorical", "squared"; or loss(outputs, targets) -> a number, (T, B) or
            (T, B, K), given the outputs as the model gives them. One that gives a number needs sequences of equal length.
        second_derivatives: run our cells by their equation, which has them, instead of by the hand-derived kernels.

    Raises:
        InvalidInputError: the model is none or no recurrence, its weights or the sequences are not finite, shapes do not fit, the
            targets never change, or the loss is not finite.
    """

    @with_gradients()
    def __init__(
        self, model: nn.Module, sequences: Any, loss: str | Loss | None = None, *, second_derivatives: bool = False
    ):
        if not isinstance(model, nn.Module):
            raise InvalidInputError(f"the model is a {type(model).__name__}: expected a torch module with an output")
        self._original, self.model = model, _prepared(model, second_derivatives)
        self.loss = resolve_loss(_own_loss(model) if loss is None else loss)
        ids, target_ids = _kinds(model, sequences, self.loss)
        inputs, targets, mask = read_probe(sequences, ids=ids, target_ids=target_ids)
        if isinstance(model, LanguageModel) and not 0 <= int(inputs.min()) <= int(inputs.max()) < model.vocabulary_size:
            raise InvalidInputError(
                f"the ids are {inputs.min()} to {inputs.max()}: expected 0 to {model.vocabulary_size - 1}"
            )
        device = next(self.model.parameters()).device
        # copies: the caller's may change, or be made in inference mode
        self.inputs, self.targets, self.mask = (t.to(device, copy=True) for t in (inputs, targets, mask))
        self._all_real = bool(mask.all())
        with torch.no_grad():
            outputs = self._run(self.inputs)
            self._check(outputs)
        _require_recurrence(self.model, self._run, self.inputs)
        self.output_size = outputs.shape[-1]
        self.output_bias = self._find_output_bias()

    @property
    def parameters(self) -> dict[str, nn.Parameter]:
        """What is trained, by name; the copy's own, so that their values may be changed."""
        return {name: p for name, p in self.model.named_parameters() if p.requires_grad}

    def refresh(self) -> None:
        """Take the weights that the caller's model has now; raises InvalidInputError where they are not finite."""
        _require_finite(self._original)
        self.model.load_state_dict(self._original.state_dict())

    def with_second_derivatives(self) -> "Objective":
        """A copy of this objective, with a copy of its network, whose gradients have derivatives themselves."""
        other = copy.copy(self)
        other.model = _prepared(self.model, second_derivatives=True)
        return other

    def outputs(self) -> Tensor:
        """What the model makes of the probe, (T, B, K)."""
        return self._run(self.inputs)

    def frame_losses(self, outputs: Tensor | None = None) -> Tensor:
        """The loss of every frame (T, B), 0 at padding; of these outputs, or of the model's."""
        costs = frame_costs(self.loss, self.outputs() if outputs is None else outputs, self.targets)
        return costs if self._all_real else costs.masked_fill(~self.mask, 0)

    def mean_loss(self, outputs: Tensor | None = None) -> Tensor:
        """The mean over all real frames, a scalar."""
        return self.frame_losses(outputs).sum() / self.mask.sum()

    @with_gradients()
    def gradients(self) -> tuple[float, dict[str, Tensor]]:
        """(Mean loss, its gradient in every trained parameter); zero in one that the loss does not depend on."""
        parameters = self.parameters
        loss = self.mean_loss()
        slopes = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True, materialize_grads=True)
        return loss.item(), dict(zip(parameters, slopes, strict=True))

    def best_constant(self) -> tuple[Tensor, float]:
        """(The constant output (K,) of the least mean loss on the probe, that loss): what a network can reach without its state."""
        output = best_constant(self.loss, self.targets, self.mask, self.output_size)
        with torch.no_grad():
            return output, self.mean_loss(output.expand(*self.mask.shape, -1)).item()

    def curvature_in_outputs(self, outputs: Tensor) -> Tensor:
        """The second derivative (K,) of the mean loss of these outputs in a constant added to each."""
        return curvature(self.loss, outputs, self.targets, self.mask)

    def set_output(self, output: Tensor) -> None:
        """Put the output bias of the copy at these values (K,); raises InvalidInputError for a model without one."""
        if self.output_bias is None:
            raise InvalidInputError(
                "the model has no output bias, a parameter that is added to every output: give it one"
            )
        with torch.no_grad():
            self.parameters[self.output_bias].copy_(output)

    def _run(self, inputs: Tensor) -> Tensor:
        """The model's outputs; raises InvalidInputError where it does not run."""
        try:
            with torch.backends.cudnn.flags(enabled=False):  # cuDNN's recurrences have no gradient in evaluation mode
                result = self.model(inputs)
        except USERS_FAULT as error:  # whatever a user's model raises
            raise InvalidInputError(f"the model does not run on inputs {tuple(inputs.shape)}: {error}") from error
        result = getattr(result, "logits", result)
        result = result[0] if isinstance(result, tuple) else result
        if not isinstance(result, Tensor) or result.dim() != 3 or result.shape[:2] != inputs.shape[:2]:
            got = tuple(result.shape) if isinstance(result, Tensor) else type(result).__name__
            expected = f"({inputs.shape[0]}, {inputs.shape[1]}, K), or (outputs, state)"
            raise InvalidInputError(
                f"the model gives {got} for inputs {tuple(inputs.shape)}: expected outputs {expected}"
            )
        return result

    def _check(self, outputs: Tensor) -> None:
        """Raise InvalidInputError where outputs and targets do not fit, or the loss is not finite."""
        K, targets = outputs.shape[-1], self.targets
        if self.loss.name == "categorical":
            if (targets < 0).any() or (targets >= K).any():
                raise InvalidInputError(
                    f"the targets are ids from {targets.min()} to {targets.max()}: expected 0 to {K - 1}"
                )
        elif self.loss.name in ("bernoulli", "squared") and targets.shape[-1] != K:
            raise InvalidInputError(
                f"the targets have {targets.shape[-1]} numbers a frame and the outputs {K}: expected as many"
            )
        if self.loss.name == "bernoulli" and ((targets < 0) | (targets > 1)).any():
            raise InvalidInputError(f"the targets reach from {targets.min():g} to {targets.max():g}: expected 0 to 1")
        costs = frame_costs(self.loss, outputs, targets)
        if not self._all_real and costs.stride() == (0, 0):
            raise InvalidInputError(
                f"the loss {self.loss.name} gives one number, which would count the padding of pieces of unequal lengths: "
                "expected (T, B), or pieces of equal length"
            )
        if not math.isfinite(loss := self.mean_loss(outputs).item()):
            raise InvalidInputError(
                f"the loss is {loss} on these sequences, expected a finite number: draw smaller weights"
            )

    def _find_output_bias(self) -> str | None:
        """The parameter that is added to every output: its gradient is the sum of the outputs' own, whatever that is."""
        likely = {name: p for name, p in self.parameters.items() if p.shape == (self.output_size,)}
        if not likely:
            return None
        outputs = self._run(self.inputs)
        slope = torch.randn(
            outputs.shape, generator=torch.Generator().manual_seed(0), dtype=outputs.dtype, device="cpu"
        ).to(outputs)
        found = torch.autograd.grad((outputs * slope).sum(), list(likely.values()), allow_unused=True)
        total = slope.sum((0, 1))
        return next(
            (name for name, g in zip(likely, found, strict=True) if g is not None and torch.allclose(g, total)), None
        )


def _prepared(model: nn.Module, second_derivatives: bool) -> nn.Module:
    """A copy in float64 and evaluation mode."""
    _require_finite(model)
    try:
        copied = copy.deepcopy(model)
    except (
        Exception
    ) as error:  # what torch or a user's module says to being copied, as of one that keeps a tensor with a graph
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise InvalidInputError(f"{type(model).__name__} cannot be copied to be looked at: {reason}") from error
    for module in copied.modules():
        if getattr(module, "precision", "float32") != "float32":
            module.precision = "float32"
        if second_derivatives and hasattr(module, "kernel"):
            module.kernel = "reference"
    return copied.double().eval()


def _require_finite(model: nn.Module) -> None:
    if next(model.parameters(), None) is None:
        raise InvalidInputError(f"{type(model).__name__} has no weights: expected a recurrence with an output")
    check_weights(model)


def _own_loss(model: nn.Module) -> str:
    name = next((loss for kind, loss in OWN_LOSS.items() if isinstance(model, kind)), None)
    if name is None:
        raise InvalidInputError(
            f"{type(model).__name__} has no loss of its own: give loss='bernoulli', 'categorical', 'squared' or a function"
        )
    return name


def _kinds(model: nn.Module, sequences: Any, loss: OutputLoss) -> tuple[bool, bool]:
    """Whether inputs, and targets, are ids."""
    if isinstance(model, PolyphonicModel | LanguageModel):
        ids = isinstance(model, LanguageModel)
        return ids, ids if loss.constant is None else loss.name == "categorical"
    x, targets = sequences if isinstance(sequences, tuple) and len(sequences) == 2 else (sequences, sequences)
    may_be_ids = loss.name == "categorical" or loss.constant is None
    return may_be_ids and _whole(x), loss.name == "categorical" or (may_be_ids and _whole(targets))


def _whole(values: Any) -> bool:
    """Whether these are ids: integers in a list, or in a list of lists, or an integer type; of 8 bits they are frames of 0 and 1."""
    for _ in range(2):
        values = values[0] if isinstance(values, list) and values else values
    return type(values) is int or str(getattr(values, "dtype", "")).endswith(("int16", "int32", "int64"))


def _require_recurrence(model: nn.Module, run: Callable[[Tensor], Tensor], inputs: Tensor) -> None:
    """Raise InvalidInputError unless the last output depends on the first input and the first output not on the last."""
    if isinstance(model, PolyphonicModel | LanguageModel):
        return
    generator = torch.Generator().manual_seed(0)
    x = torch.cat([inputs, inputs])[:4] if len(inputs) < 4 else inputs[:4]
    if x.is_floating_point():  # of ordinary size: units that large inputs saturate would show nothing
        x = torch.rand(x.shape, generator=generator, dtype=x.dtype, device="cpu").to(x.device)
    first, last = x.clone(), x.clone()
    for changed, place in ((first, 0), (last, -1)):
        other = torch.rand(x[place].shape, generator=generator, dtype=torch.float64, device="cpu").to(x.device)
        changed[place] = other if x.is_floating_point() else (x[place] == 0).long()
    before = copy.deepcopy(model.state_dict())
    try:
        with torch.no_grad():
            for p in model.parameters():
                draw = torch.randn(p.shape, generator=generator, dtype=torch.float64, device="cpu")
                p.copy_(draw / math.sqrt(p.shape[-1] if p.dim() > 1 else 1))
            plain, changed_first, changed_last = run(x), run(first), run(last)
    finally:
        model.load_state_dict(before)
    rounding = ROUNDING * plain.abs().max()
    if not (plain[-1] - changed_first[-1]).abs().max() > rounding:
        batch_first = any(getattr(module, "batch_first", False) for module in model.modules())
        hint = ": it is batch_first, expected a model of inputs (T, B, m)" if batch_first else ""
        raise InvalidInputError(
            f"{type(model).__name__} is no recurrence: with weights of ordinary size its last output does not change with its "
            f"first input{hint}"
        )
    if (plain[0] - changed_last[0]).abs().max() > rounding:
        raise InvalidInputError(f"{type(model).__name__} looks ahead: its first output changes with its last input")
