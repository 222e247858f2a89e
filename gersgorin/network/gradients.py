"""The weights of a module by name, separately for each layer, and the norms of their gradients.

Legend: K weights.
"""

import numpy as np
import torch
from torch import Tensor, nn

from gersgorin.run.state import real_view
from rhn.cells import Cell


@torch.no_grad()
def weights_of(module: nn.Module) -> dict[str, tuple[Tensor, Tensor | None]]:
    """Pairs (weight, its gradient) by name. If a cell of `rhn` stacks the weights of its layers in
    one tensor, each layer has its own name, such as "cells.0.weight_hh[1]".
    """
    stacks = {p for cell in module.modules() if isinstance(cell, Cell) for p in stacked(cell)}
    found: dict[str, tuple[Tensor, Tensor | None]] = {}
    for name, weight in module.named_parameters():
        gradient = None if weight.grad is None else weight.grad.to_dense()
        if weight not in stacks:
            found[name] = weight, gradient
            continue
        for k, layer in enumerate(weight):
            found[f"{name}[{k}]"] = layer, None if gradient is None else gradient[k]
    return found


def stacked(cell: Cell) -> list[Tensor]:
    """The parameters of a cell of `rhn` that have an axis of layers."""
    axes = {name: 2 if "bias" in name else 3 for name, _ in cell.named_parameters()}
    return [p for name, p in cell.named_parameters() if p.dim() == axes[name]]


@torch.no_grad()
def has_gradients(module: nn.Module) -> bool:
    """True if any parameter has a nonzero `.grad`, or if the module has no parameters to train."""
    trained = [p for p in module.parameters() if p.requires_grad]
    return not trained or any(
        (p.grad.to_dense() != 0).any().item() for p in trained if p.grad is not None
    )


@torch.no_grad()
def gradient_norms(module: nn.Module) -> tuple[np.ndarray, np.ndarray]:
    """Return the norms ||dL/dW|| and the ratios ||dL/dW|| / ||W|| for all weights of `weights_of`,
    (K,) each; NaN without a gradient. The ratio is NaN also if W is zero.
    """
    pairs, known = weights_of(module).values(), has_gradients(module)
    size = np.array([_norm(weight) for weight, _ in pairs])
    slope = np.array(
        [_norm(gradient) if known and gradient is not None else np.nan for _, gradient in pairs]
    )
    return slope, np.divide(slope, size, out=np.full_like(slope, np.nan), where=size > 0)


def _norm(t: Tensor) -> float:
    # squares of tiny gradients vanish in single precision
    return torch.linalg.vector_norm(real_view(t), dtype=torch.float64).item()
