"""Gradient flossing: push the Lyapunov exponents of a recurrence to 0 before a training (R. Engelken, arXiv 2312.17306).

    floss(model, x[:, :2])      # in place, the recurrent weights only

Gradients over T frames grow or vanish as exp(exponent T). Flossing descends the mean of the squared exponents, by gradients through
the states, their Jacobians and the QR decompositions of `gersgorin.lyapunov`.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from gersgorin.analyses.lyapunov import exponents_with_gradients
from gersgorin.loading.find import recurrent_cells, seen_by
from rhn.cells import Cell
from rhn.cells.convert import layer_from_torch, weights_of_torch
from rhn.errors import InvalidInputError

STEPS, LEARNING_RATE = 10, 0.03  # of Adam
MOST_UNITS, MOST_FRAMES, MOST_EXPONENTS = 128, 20, 16


def can_floss(model: nn.Module) -> bool:
    """True if the model has recurrent cells, small enough and of one direction, with trained recurrent weights."""
    try:
        return bool(_cells(model))
    except InvalidInputError:
        return False


def floss(
    model: nn.Module,
    x: Tensor,
    *,
    steps: int = STEPS,
    learning_rate: float = LEARNING_RATE,
    count: int | None = None,
    seed: int = 0,
) -> list[float]:
    """Change the recurrent weights in place, a few steps of Adam on the mean of the squared exponents.

    Args:
        model: with cells of ours or of torch.nn, called as model(x).
        x: a few sequences, in the layout of the model.
        count: number of leading exponents, of each cell; None: half of its state, at most 16.
        seed: of the first directions.

    Returns:
        The losses before each step and after the last.

    Raises:
        InvalidInputError: no such cells, or an exponent is not finite.
    """
    cells = _cells(model)
    if not cells:
        raise InvalidInputError(f"{type(model).__name__} has no recurrent cell with trained recurrent weights to floss")
    weights = [q for _, _, trained in cells for q in trained]
    before = [q.detach().clone() for q in weights]
    optimizer, losses = torch.optim.Adam(weights, lr=learning_rate), []
    with torch.enable_grad(), _evaluating(model):
        for step in range(steps + 1):
            loss = _loss(model, cells, x, count, seed)
            if not torch.isfinite(loss):
                for q, old in zip(weights, before, strict=True):
                    q.data.copy_(old)
                raise InvalidInputError(
                    "an exponent is not finite: the recurrence forgets its state at once, or explodes"
                )
            losses.append(loss.item())
            if step < steps:
                gradients = torch.autograd.grad(loss, weights, allow_unused=True)
                for q, gradient in zip(weights, gradients, strict=True):
                    q.grad = gradient
                optimizer.step()
    for q in weights:
        q.grad = None
    return losses


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode, in which one sequence is enough for a normalisation and nothing is random."""
    modes = {part: part.training for part in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for part, mode in modes.items():
            part.training = mode


def _cells(model: nn.Module) -> list[tuple[nn.Module, int, list[nn.Parameter]]]:
    """(Module, layer, its trained recurrent weights) of each layer that can be flossed."""
    found = []
    for cell in recurrent_cells(model):
        ours = isinstance(cell, Cell)
        if not ours and (getattr(cell, "bidirectional", False) or getattr(cell, "proj_size", 0)):
            continue
        if getattr(cell, "state_size", getattr(cell, "hidden_size", 0)) > MOST_UNITS:
            continue
        for layer in range(getattr(cell, "num_layers", 1)):
            end = f"_l{layer}" if isinstance(cell, nn.RNNBase) else ""
            weight = dict(cell.named_parameters()).get(f"weight_hh{end}")
            if weight is not None and weight.requires_grad:
                found.append((cell, layer, [weight]))
    return found


def _loss(model: nn.Module, cells: list, x: Tensor, count: int | None, seed: int) -> Tensor:
    """Mean over cells, sequences and exponents of the squared exponents."""
    losses = []
    for cell, layer, _ in cells:
        with torch.no_grad():
            inputs = seen_by(cell, model, x)[:MOST_FRAMES]
        inputs = inputs.unsqueeze(1) if inputs.dim() == 2 else inputs
        if not isinstance(cell, Cell):
            for below in range(layer):
                lower = layer_on_weights(cell, below)
                inputs = lower.outputs_of(lower.states(inputs, inputs.new_zeros(inputs.shape[1], lower.state_size)))
            cell = layer_on_weights(cell, layer)
        k = count or min(MOST_EXPONENTS, max(1, cell.state_size // 2))
        losses += [
            exponents_with_gradients(cell, inputs[:, b], k, seed=seed).square().mean() for b in range(inputs.shape[1])
        ]
    return torch.stack(losses).mean()


def layer_on_weights(module: nn.Module, layer: int) -> Cell:
    """Our form of a layer of torch.nn whose weights are functions of the module's own."""
    cell = layer_from_torch(module, layer)
    for name, weight in weights_of_torch(module, layer).items():
        shape = cell.get_parameter(name).shape
        delattr(cell, name)
        setattr(cell, name, weight.reshape(shape))
    return cell
