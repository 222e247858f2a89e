"""Wrap a step f(x, s) as a module that reads whole sequences, for analyses of inputs and outputs.

Legend: T steps, B sequences, m inputs, N entries of a state, k numbers of an output.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from gersgorin.data.layout import Layout
from gersgorin.network.find import check_state, has_no_forward, is_stepwise
from gersgorin.run.cell import as_cell, cell_name, flat_step
from gersgorin.run.state import (
    Sizes,
    State,
    checked_sizes,
    first_state,
    flat_state,
    state_like,
    zero_state,
)
from gersgorin.validate import check_precision
from rhn.cells import from_torch


class AlongSequence(nn.Module):
    """A step as a module that reads sequences x (T, m), (T, B, m) or (B, T, m).

    The module returns the outputs in the layout of x. The outputs are what the step returns beside
    its state, or the hidden units of a cell of `rhn` or torch.nn. For any other step the outputs
    are the state, with its tensors side by side.

    f: a cell with `step`, or a function or module f(x, s), which needs a first state s0.
    """

    def __init__(self, f: Callable, s0: State | None, batch_axis: int | None):
        super().__init__()
        self.f, self.s0, self.batch_axis = f, s0, batch_axis

    def _get_name(self) -> str:
        return cell_name(self.f)

    def forward(self, x: Tensor) -> Tensor:
        """The outputs along x, in its layout."""
        layout = Layout.of(self.f, x, self.batch_axis)
        frames = layout.to_time_first(x)
        outputs = [self._along(frames[:, b]) for b in range(frames.shape[1])]
        return layout.back(torch.stack(outputs, 1))

    def _along(self, x: Tensor) -> Tensor:
        """The outputs (T, k) of one sequence (T, m)."""
        f, s0 = self.f, self.s0
        if s0 is not None and not hasattr(f, "step"):
            f = flat_step(f, s0)
        cell, outputs = as_cell(f), []
        s = cell.first_state(x.unsqueeze(1)) if s0 is None else flat_state(s0).to(x)
        s = s[0]
        cell.probe(x[0].detach(), s.detach())
        for x_t in x:
            before = s
            output, s = cell.output_and_state(x_t, before)
            outputs.append(output.flatten())
        # a first state of 0 may hide a random factor
        cell.probe(x[-1].detach(), before.detach())
        return torch.stack(outputs)


def reader_of(
    model: Callable,
    x: Tensor,
    s0: State | None = None,
    state_size: Sizes | None = None,
    batch_axis: int | None = None,
) -> nn.Module | None:
    """Return a step as a module that reads sequences like x; None for a model that reads sequences
    itself.

    s0, state_size: the first state, or the entries of a state that starts at zero. Raises
    InvalidInputError for a step without a first state.
    """
    if s0 is None and state_size is not None:
        like = state_like(model) if isinstance(model, nn.Module) else x
        s0 = zero_state(checked_sizes(state_size), like)
    s0 = None if s0 is None else check_state(s0)
    if isinstance(model, nn.RNNCellBase):
        cell = from_torch(model)
        del cell.batch_first  # which a cell of torch.nn does not say
        return AlongSequence(cell, s0, batch_axis)
    with_both = hasattr(model, "forward") and hasattr(model, "step") and not has_no_forward(model)
    reads_sequences = isinstance(model, nn.RNNBase) or with_both
    said = s0 is not None
    if (
        reads_sequences
        or not (said or isinstance(model, nn.Module))
        or not is_stepwise(model, said=said)
    ):
        return None
    s0 = first_state(model) if s0 is None else s0
    if not isinstance(model, nn.Module):  # a module is measured in float64
        check_precision(cell_name(model), x, *tree_leaves(s0))
    return AlongSequence(model, s0, batch_axis)
