"""Signal propagation in an untrained network: gains within a step, growth over many steps, saturation.

    input gain of layer l     ||ds_l/dx|| within a step: the first to vanish in a deep transition
    state gain of layer l     ||ds_l/ds_{l-1}||, with the state before the step held fixed if a layer also reads it
    exponent                  log ||dy[T]/dy[0]|| / T along each sequence
    saturation                the share of outputs beyond 0.99, and of gates below 0.01 or above 0.99, where slopes vanish

All in float64, along sequences from a zero state. Norms are 2-norms, averaged over a few positions.

Legend: T steps, B sequences, m inputs of a cell, N its state_size, L its depth.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from gersgorin.cell import Step, as_cell, input_jacobian, partial_jacobians, temporal_jacobian, trajectory
from gersgorin.linalg.products import finite_time_exponent
from gersgorin.linalg.spectrum import one_thread
from gersgorin.loading.find import recurrent_cells, seen_by
from gersgorin.loading.loop import passes_its_state_on, watched_calls
from gersgorin.objective import Objective
from rhn.cells import Cell
from rhn.errors import InvalidInputError
from rhn.utils.result import Result

POSITIONS = 3  # steps of the gains
STATES_HELD = 1 << 22  # most numbers of Jacobians for exponents
PRODUCTS = 2e11  # most multiplications for exponents
SHORTEST = 10  # fewest steps of an exponent, at any cost
NEAR_ONE, NEAR_ZERO = 0.99, 0.01


@dataclass(frozen=True)
class Gains(Result):
    """Gains, exponents and saturation of one cell; arrays are float64."""

    cell: str
    """Name within the network: "cells.0"."""
    input_gain: np.ndarray
    """(L,); empty for a deep cell without `run_layer`."""
    state_gain: np.ndarray
    """(L,); likewise."""
    exponents: np.ndarray
    """(sequences,), per step; -inf if every perturbation vanishes."""
    exponent_steps: int
    """T of the exponents."""
    saturated_outputs: float
    """Share of outputs of the cell beyond +-0.99."""
    saturated_gates: float | None
    """Share of gates outside 0.01 to 0.99; None for a cell without gates."""
    own_loop: bool = False
    """True if the network changes the cell's state between two calls: the numbers are those of the cell without that loop."""


@torch.no_grad()
@one_thread()
def measure_gains(objective: Objective) -> list[Gains]:
    """Gains of every cell of a network on its probe: cells of torch.nn, or with `step(x, s)` and `state_size`."""
    return [_gains(*found) for found in _cells(objective)]


def layer_gains(cell: nn.Module, x: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
    """(Input gain, state gain) of each layer, (..., L) each, for x (..., m) and s (..., N).

    Raises InvalidInputError for a cell of several layers without `run_layer` and `layer_jacobians`.
    """
    layers = partial_jacobians(as_cell(cell).layer_jacobians(x, s), s.shape[-1])
    if len(layers) > 1:
        first = (_by_rows if isinstance(cell, Cell) else input_jacobian)(lambda x, s: cell.run_layer(0, x, s, s), x, s)
    else:
        first = input_jacobian(cell, x, s)
    inputs = itertools.accumulate(layers[1:], lambda B, J: J @ B, initial=first)
    return tuple(torch.stack([torch.linalg.matrix_norm(J, 2) for J in matrices], -1) for matrices in (inputs, layers))


@torch.enable_grad()
def _by_rows(step: Step, x: Tensor, s: Tensor) -> Tensor:
    """`input_jacobian` of a step that takes batches, with a copy of x for every row; torch.func would import torch's compiler, half a
    second."""
    N = s.shape[-1]
    copies = x.unsqueeze(-2).repeat_interleave(N, -2).requires_grad_()
    rows = step(copies, s.unsqueeze(-2).expand(*s.shape[:-1], N, N))
    return torch.autograd.grad(rows.diagonal(dim1=-2, dim2=-1).sum(), copies)[0]


def _cells(objective: Objective) -> Iterator[tuple[str, nn.Module, Tensor, bool]]:
    """Yield (name, cell in our form, its inputs (T, B, m), whether the module changes its states) of each recurrent cell."""
    model = objective.model
    names = {module: name for name, module in model.named_modules()}
    for cell in recurrent_cells(model):
        if isinstance(cell, nn.RNNBase) and (cell.bidirectional or cell.proj_size):
            continue
        try:
            x = seen_by(cell, model, objective.inputs)
        except InvalidInputError:  # a cell that the network does not call
            continue
        calls = watched_calls(cell, model, objective.inputs)
        yield names[cell] or type(cell).__name__, as_cell(cell).module, x, not passes_its_state_on(calls)


def _gains(name: str, cell: nn.Module, x: Tensor, own_loop: bool) -> Gains:
    states = trajectory(cell, x)
    s = states[:-1]
    steps, sequences = affordable(cell, x)
    A = (temporal_jacobian(cell, x[:steps, b], s[:steps, b]) for b in range(sequences))
    exponents = [finite_time_exponent(each).item() for each in A]
    n = getattr(cell, "hidden_size", states.shape[-1])
    outputs = (cell.outputs_of(states[1:]) if isinstance(cell, Cell) else states[1:, ..., :n]).abs()
    return Gains(
        cell=name,
        **_layer_gains(cell, x, s),
        exponents=np.array(exponents),
        exponent_steps=steps,
        saturated_outputs=(outputs > NEAR_ONE).double().mean().item(),
        saturated_gates=_saturated_gates(cell, x, s),
        own_loop=own_loop,
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


def affordable(cell: nn.Module, x: Tensor) -> tuple[int, int]:
    """(Steps, sequences) of the exponents; limited so that a large network takes seconds."""
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
