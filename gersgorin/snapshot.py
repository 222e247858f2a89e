"""What is measured at one moment of a training: of a cell on a probe, and of a module's gradients.

Legend: T steps, B sequences, P positions, N state entries, L layers, K weights (a layer's apart).
"""

import numpy as np
import torch
from torch import Tensor, nn

from gersgorin.discs import gersgorin_discs
from gersgorin.dynamics import finite_time_exponent
from gersgorin.own_loop import OwnLoop
from gersgorin.run import run_of
from gersgorin.spectrum import eigenvalues, one_thread
from rhn.cells import Cell
from rhn.errors import InvalidInputError

EXPONENT_STEPS = 32  # of the probe, at most, that are multiplied


def positions_of(x: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """(Steps, sequences) of at most `count` positions of x (T, B, m): spread over the steps, from sequence to sequence in turn.

    >>> positions_of(torch.zeros(9, 2, 1), 3)
    (tensor([0, 4, 8]), tensor([0, 1, 0]))
    """
    T, B = x.shape[:2]
    steps = torch.linspace(0, T - 1, min(count, T), dtype=torch.float64, device="cpu").round().long()
    return steps, torch.arange(len(steps), device="cpu") % B


@torch.no_grad()
@one_thread()
def snapshot(cell: nn.Module | OwnLoop, x: Tensor, positions: int) -> dict[str, np.ndarray]:
    """Spectra, discs, gains and gates of single steps, and the exponent of the product of the first ones, as `Recording` names them.

    x: (T, B, m), in the cell's dtype. Raises InvalidInputError where states or Jacobians are not finite.
    """
    run = run_of(cell, x)
    if not torch.isfinite(run.states).all():
        raise InvalidInputError(
            "a state is NaN or infinite along the probe: the weights are too large to run, or the cell's step computes something "
            "that is not finite"
        )
    where = positions_of(x, positions)
    A = run.jacobians(where)
    values, discs, middle = eigenvalues(A, workers=1), gersgorin_discs(A), len(A) // 2
    gates = [t.mean(-1) for t in run.gates(where).t]
    found = {
        "radius": values[:, 0].abs(),
        "bulk": discs.centers.mean(-1),
        "reach": discs.norm,
        "input_gain": torch.linalg.matrix_norm(run.input_jacobians(where), 2),
        "state_gain": run.state_gains(where),
        "gate": torch.stack(gates, -1) if gates else A.new_empty(len(A), 0),
        "exponent": finite_time_exponent(run.jacobians((slice(EXPONENT_STEPS), 0))),
        "eigenvalues": values[middle],
        "centers": discs.centers[middle],
        "radii": discs.radii[middle],
    }
    return {name: t.cpu().numpy() for name, t in found.items()}


def weights_of(module: nn.Module) -> dict[str, tuple[nn.Parameter, int | None]]:
    """The parameters of a module by name, those that a cell of ours stacks over its layers one by one.

    "cells.0.weight_hh[1]" is (weight_hh, 1), the second layer's part; others are (parameter, None).
    """
    stacked = set()
    for prefix, part in module.named_modules():
        for layer in part.layers() if isinstance(part, Cell) else ():
            parts = filter(None, (layer.input, layer.recurrent, layer.skip, layer.bias))
            stacked |= {".".join(filter(None, (prefix, p.parameter))) for p in parts if isinstance(p.index, int)}
    found = {}
    for name, parameter in module.named_parameters():
        if name in stacked:
            found |= {f"{name}[{k}]": (parameter, k) for k in range(len(parameter))}
        else:
            found[name] = parameter, None
    return found


@torch.no_grad()
def has_gradients(module: nn.Module) -> bool:
    """Whether a gradient other than zero stands in a parameter's `.grad`; of a module without trained parameters True."""
    trained = [p for p in module.parameters() if p.requires_grad]
    return not trained or any((p.grad.to_dense() != 0).any().item() for p in trained if p.grad is not None)


@torch.no_grad()
def gradient_norms(module: nn.Module) -> tuple[np.ndarray, np.ndarray]:
    """(||dL/dW||, ||dL/dW|| / ||W||) of every weight of `weights_of`, (K,) each: NaN without a gradient, or where W is zero."""
    weights, norms = [], []
    for parameter, index in weights_of(module).values():
        gradient = parameter.grad
        if gradient is not None and gradient.is_sparse:
            gradient = gradient.to_dense()
        weight = parameter if index is None else parameter[index]
        gradient = gradient if gradient is None or index is None else gradient[index]
        weights.append(_norm(weight))
        norms.append(torch.full_like(weights[-1], torch.nan) if gradient is None else _norm(gradient))
    if not weights:
        return np.empty(0), np.empty(0)
    size, slope = torch.stack(weights).cpu().numpy(), torch.stack(norms).cpu().numpy()
    return slope, np.divide(slope, size, out=np.full_like(slope, np.nan), where=size > 0)


def _norm(t: Tensor) -> Tensor:
    return torch.linalg.vector_norm(t, dtype=torch.float64)  # squares of tiny gradients vanish in single precision
