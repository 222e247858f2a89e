"""A network unrolled in time, one step after another, so that what every step contributed to a gradient can be told apart.

A parameter of a recurrence is used at every step. With y[t] the state after step t and L[t] the loss of frame t (Zilly et al. 2017,
equation 1),

    dL/dtheta = sum over t2 of sum over t1 <= t2 of   (dL[t2]/dy[t1])  (dy[t1]/dtheta with y[t1 - 1] held fixed)

The left factor is an `adjoint`; the right one is the derivative of a single step, and all steps are taken in one batch. Several stacked
cells have such a sum each.

Legend: T frames, B sequences, N entries of a cell's state.
"""

import types

import torch
from torch import Tensor, nn

from gersgorin.objective import Objective
from rhn.cells import Cell, layer_from_torch, weights_of_torch
from rhn.errors import InvalidInputError

TORCHS = nn.RNNBase | nn.RNNCellBase


class Unrolled:
    """One run of an objective's model over its probe, step by step. It changes the objective's model, which is a copy of the user's.

    cells: by name, in the model's order, the lowest of a stack first; parameters: theirs that are trained, by name.

    Raises:
        InvalidInputError: no recurrent cell, one whose `step` does not run once a frame, or one number as the loss of all frames.
    """

    def __init__(self, objective: Objective):
        for name, module in [*objective.model.named_modules()]:
            if isinstance(module, TORCHS) and name:
                objective.model.set_submodule(name, _StandIn(module))
        cells = {k: m for k, m in objective.model.named_modules() if hasattr(m, "step") and hasattr(m, "state_size")}
        runs = {name: _watch(cell) for name, cell in cells.items()}
        losses = objective.frame_losses()
        running = _outermost([name for name, run in runs.items() if run.states])
        self.cells, self._runs = {name: cells[name] for name in running}, [runs[name] for name in running]
        self._check(objective, losses)
        self.losses = losses / objective.mask.sum()
        inside = {id(p) for cell in self.cells.values() for p in cell.parameters()}
        self.parameters = {name: p for name, p in objective.parameters.items() if id(p) in inside}
        if not self.parameters:
            raise InvalidInputError(
                "the recurrence has no trained parameter: expected some whose requires_grad is True"
            )
        self._outputs = [run.all_at_once() for run in self._runs]

    def adjoints(self) -> list[Tensor]:
        """For each cell the derivatives of every frame's loss in every state, [t2, t1, b] = dL[t2, b]/dy[t1, b], (T, T, B, N).

        L is the mean loss's part of that frame and sequence: all of them add up to the mean loss.
        """
        states = [y for run in self._runs for y in run.states]
        T = len(self.losses)
        one_by_one = torch.eye(T, dtype=self.losses.dtype, device=self.losses.device)
        found = torch.autograd.grad(
            self.losses.sum(1), states, one_by_one, is_grads_batched=True, retain_graph=True, allow_unused=True
        )
        found = [y.new_zeros(T, *y.shape) if g is None else g for g, y in zip(found, states, strict=True)]
        return [torch.stack(found[start : start + T], 1) for start in range(0, len(found), T)]

    def gradient(self, adjoints: list[Tensor]) -> Tensor:
        """What single steps add to the gradient, all parameters as one vector, for an adjoint (T, B, N) of each cell's states."""
        weights = [*self.parameters.values()]
        found = torch.autograd.grad(
            self._outputs, weights, adjoints, retain_graph=True, allow_unused=True, materialize_grads=True
        )
        return torch.cat([g.flatten() for g in found])

    def _check(self, objective: Objective, losses: Tensor) -> None:
        T, B = losses.shape
        if losses.stride() == (0, 0) and losses.numel() > 1:
            raise InvalidInputError(
                f"the loss {objective.loss.name} is one number for all frames: expected one for each frame, (T, B)"
            )
        if not self.cells:
            raise InvalidInputError(
                f"{type(objective.model).__name__} runs no cell of ours or of torch.nn, nor another with step(x, s) and state_size"
            )
        for name, run in zip(self.cells, self._runs, strict=True):
            if len(run.states) != T or any(y.shape[:-1] != (B,) for y in run.states):
                raise InvalidInputError(
                    f"{name or 'the model'} took {len(run.states)} steps of states {tuple(run.states[0].shape)} for {T} frames of "
                    f"{B} sequences: expected its forward to call step(x, s) once for each frame, all sequences together"
                )


class _Steps:
    """Stands in for a cell's `step` and remembers what it was given and what it made."""

    def __init__(self, step):
        self._step, self._given, self.states = step, [], []

    def __call__(self, x: Tensor, s: Tensor) -> Tensor:
        self._given.append((x.detach(), s.detach()))
        self.states.append(self._step(x, s))
        return self.states[-1]

    def all_at_once(self) -> Tensor:
        """The same states (T, B, N), but each step from a state before it that is held fixed."""
        return self._step(*map(torch.stack, zip(*self._given, strict=True)))


def _watch(cell: nn.Module) -> _Steps:
    """Make a cell run step by step, and watch it."""
    steps = cell.step = _Steps(cell.step)
    if isinstance(cell, Cell):
        cell.states = types.MethodType(Cell.states, cell)
    return steps


def _outermost(names: list[str]) -> list[str]:
    """Without modules inside others of these: they only do a part of the outer one's step.

    >>> _outermost(["cell", "cell.inner", "cells"])
    ['cell', 'cells']
    """
    return [
        name for name in names if not any(name.startswith(f"{outer}.".lstrip(".")) for outer in names if outer != name)
    ]


class _StandIn(nn.Module):
    """Our form of a torch.nn RNN, LSTM or GRU, a cell a layer, or of their *Cell form, called as torch's is, on torch's own parameters.

    So the gradient is in those of them that are trained, and in each of torch's two biases.
    """

    def __init__(self, theirs: nn.Module):
        super().__init__()
        self._single, layers = isinstance(theirs, nn.RNNCellBase), range(getattr(theirs, "num_layers", 1))
        self.cells = nn.ModuleList(layer_from_torch(theirs, k) for k in layers)
        for k, cell in enumerate(self.cells):
            cell.theirs, cell.batch_first = theirs, False
            for name, weight in weights_of_torch(theirs, k).items():
                shape = cell.get_parameter(name).shape
                delattr(cell, name)
                setattr(cell, name, weight.view(shape))
        self._pair, self._batch_first = cell.state_size != cell.hidden_size, getattr(theirs, "batch_first", False)

    def forward(self, x: Tensor, state=None):
        s = torch.cat(state, -1) if self._pair and state is not None else state
        if self._single:
            (cell,) = self.cells
            s = cell.step(x, x.new_zeros(*x.shape[:-1], cell.state_size) if s is None else s)
            return s.chunk(2, -1) if self._pair else s
        x, last = x.transpose(0, 1) if self._batch_first and x.dim() == 3 else x, []
        for k, cell in enumerate(self.cells):
            x, after = cell(x, None if s is None else s[k])
            last.append(after)
        s = torch.stack(last)
        outputs = x.transpose(0, 1) if self._batch_first and x.dim() == 3 else x
        return outputs, s.chunk(2, -1) if self._pair else s
