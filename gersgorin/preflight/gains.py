"""What a network does to signals before it is trained: gains within a step, growth over many, saturation. A check's second opinion.

    input gain of layer l     ||ds_l/dx||, how far the input gets within a step: the first to vanish in a deep transition
    state gain of layer l     ||ds_l/ds_{l-1}||, with the state before the step held fixed where a layer also sees that
    exponent                  log ||dy[T]/dy[0]|| / T along each sequence, what many steps do together
    saturation                the share of outputs beyond 0.99, and of gates below 0.01 or above 0.99: there, slopes vanish

All in float64, along sequences that the network reads from a zero state. Norms are 2-norms, averaged over a few positions.

Legend: T steps, B sequences, m inputs of a cell, N its state_size, L its depth.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from gersgorin.dynamics import finite_time_exponent
from gersgorin.jacobian import input_jacobian, layer_jacobians, temporal_jacobian, trajectory
from gersgorin.objective import Objective
from gersgorin.spectrum import one_thread
from rhn.cells import from_torch

POSITIONS = 3  # where gains are measured
STATES_HELD = 1 << 22  # numbers of Jacobians that exponents are made of
PRODUCTS = 2e11  # multiplications that exponents may cost
SHORTEST = 10  # steps of an exponent, whatever they cost
NEAR_ONE, NEAR_ZERO = 0.99, 0.01


@dataclass(frozen=True)
class Gains:
    """What one cell of a network does; arrays are NumPy's float64."""

    cell: str
    """Its name within the network: "cells.0"."""
    input_gain: np.ndarray
    """(L,); empty where a deep cell does not say what one of its layers does."""
    state_gain: np.ndarray
    """(L,); likewise."""
    exponents: np.ndarray
    """(sequences,), a step; -inf where every perturbation dies."""
    exponent_steps: int
    """T of the exponents."""
    saturated_outputs: float
    """Share of outputs of the cell beyond +-0.99."""
    saturated_gates: float | None
    """Share of gates outside 0.01 to 0.99; None where it has none."""


@torch.no_grad()
@one_thread()
def measure_gains(objective: Objective) -> list[Gains]:
    """The gains of every cell of a network on its probe; a cell needs `step(x, s)` and `state_size`, or to be torch.nn's."""
    return [_gains(*found) for found in _cells(objective)]


def layer_gains(cell: nn.Module, x: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
    """(Input gain, state gain) of each layer, (..., L) each, for x (..., m) and s (..., N).

    Raises InvalidInputError for a cell of several layers that does not say what each of them does.
    """
    N, deep = s.shape[-1], getattr(cell, "depth", 1) > 1
    layers = [J[..., :N, :N] for J in layer_jacobians(cell, x, s)]  # where s is handed on beside s_l: s_l alone
    first = (lambda x, s: cell.run_layer(0, x, s, s)) if deep else cell
    inputs = list(itertools.accumulate(layers[1:], lambda B, J: J @ B, initial=input_jacobian(first, x, s)))
    return tuple(torch.stack([torch.linalg.matrix_norm(J, 2) for J in matrices], -1) for matrices in (inputs, layers))


def _cells(objective: Objective) -> Iterator[tuple[str, nn.Module, Tensor]]:
    """(Name, cell in our form, the inputs (T, B, m) that it sees) of each recurrence that the network is made of."""
    seen: dict[str, list[Tensor]] = {}
    modules = {name: module for name, module in objective.model.named_modules() if _is_cell(module)}
    hooks = [
        module.register_forward_pre_hook(lambda _, args, name=name: seen.setdefault(name, []).append(args[0]))
        for name, module in modules.items()
    ]
    try:
        objective.outputs()
    finally:
        for hook in hooks:
            hook.remove()
    for name, inputs in seen.items():
        module = modules[name]
        x = torch.stack(inputs) if inputs[0].dim() == 2 else inputs[0]  # a cell of one step sees (B, m), T times
        x = x.transpose(0, 1) if getattr(module, "batch_first", False) and x.dim() == 3 else x
        yield name or type(module).__name__, module if hasattr(module, "step") else from_torch(module), x


def _is_cell(module: nn.Module) -> bool:
    if isinstance(module, nn.RNNBase):
        return module.num_layers == 1 and not module.bidirectional and not module.proj_size
    return isinstance(module, nn.RNNCellBase) or (hasattr(module, "step") and hasattr(module, "state_size"))


def _gains(name: str, cell: nn.Module, x: Tensor) -> Gains:
    states = trajectory(cell, x)
    s, n = states[:-1], getattr(cell, "hidden_size", states.shape[-1])
    steps, sequences = _affordable(cell, x)
    A = (temporal_jacobian(cell, x[:steps, b], s[:steps, b]) for b in range(sequences))
    exponents = [finite_time_exponent(each).item() for each in A]
    outputs = states[1:, ..., :n].abs()
    return Gains(
        cell=name,
        **_layer_gains(cell, x, s),
        exponents=np.array(exponents),
        exponent_steps=steps,
        saturated_outputs=(outputs > NEAR_ONE).double().mean().item(),
        saturated_gates=_saturated_gates(cell, x, s),
    )


def _layer_gains(cell: nn.Module, x: Tensor, s: Tensor) -> dict[str, np.ndarray]:
    depth = getattr(cell, "depth", 1)
    if depth > 1 and not getattr(cell, "runs_layers", hasattr(cell, "run_layer")):
        return {"input_gain": np.empty(0), "state_gain": np.empty(0)}
    T, B = x.shape[:2]
    places = np.unique(np.linspace(min(1, T * B - 1), T * B - 1, POSITIONS).astype(int))
    at = torch.as_tensor(places, device=x.device)
    inputs, states = layer_gains(cell, x.reshape(T * B, -1)[at], s.reshape(T * B, -1)[at])
    return {"input_gain": inputs.mean(0).cpu().numpy(), "state_gain": states.mean(0).cpu().numpy()}


def _affordable(cell: nn.Module, x: Tensor) -> tuple[int, int]:
    """(Steps, sequences) of the exponents, so that a large network takes seconds and not minutes."""
    (T, B), N = x.shape[:2], cell.state_size
    most = max(1, int(min(STATES_HELD / N**2, PRODUCTS / (N**3 * (getattr(cell, "depth", 1) + 1)))))
    steps = min(T, max(SHORTEST, most // B))
    return steps, max(1, min(B, most // steps))


def _saturated_gates(cell: nn.Module, x: Tensor, s: Tensor) -> float | None:
    gates = cell.gates(x, s) if hasattr(cell, "gates") else ()
    if not len(gates):
        return None
    both = torch.stack([*gates.t, *gates.c])
    return ((both < NEAR_ZERO) | (both > NEAR_ONE)).double().mean().item()
