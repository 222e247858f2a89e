"""Base classes of cells of one layer, and of those that a function of W x + b, the state and the weights defines:

    s' = update(W x + b, s, *weights)

A subclass of `LoopedCell` defines `update`, and `recurrent_weights` if they are not only `weight_hh`; `rhn.kernels.loop` runs it. If
all its matrices multiply the state of n entries, gated or not, it may name "state" in its `masks`.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rhn import kernels
from rhn.cells.base import Cell, CellMasks, reset_derived
from rhn.cells.layers import GateBlocks, Layer, Part


class SingleLayerCell(Cell):
    """A cell of one layer. Weights: weight_ih (G n, m), weight_hh of the shape `recurrent_shape`, bias (G n,) if `biased`."""

    deep = False
    biased = True
    carries = False  # see `Layer`
    gate: GateBlocks | None = None
    gate_bias: tuple[str, int] | None = None  # the option with the first bias of a gate, or None, and the gate's block

    def __init__(self, input_size, hidden_size, depth=1, *, generator=None, device=None, dtype=None, **common):
        super().__init__(input_size, hidden_size, depth, **common)
        rows, where = self.blocks * self.hidden_size, {"device": device, "dtype": dtype}
        self.weight_ih = nn.Parameter(torch.empty(rows, self.input_size, **where))
        if self.recurrent_shape is not None:
            self.weight_hh = nn.Parameter(torch.empty(self.recurrent_shape, **where))
        if self.biased:
            self.bias = nn.Parameter(torch.empty(rows, **where))
        self._add_parameters(where)
        self.reset_parameters(generator)

    @property
    def recurrent_shape(self) -> tuple[int, ...] | None:
        """Shape of weight_hh, by default (G n, n); None for a cell without recurrent matrix."""
        return self.blocks * self.hidden_size, self.hidden_size

    def _add_parameters(self, where: dict) -> None:
        """Add parameters beyond these three; `where`: device and dtype."""

    def _set_gate_biases(self) -> None:
        option, block = self.gate_bias or (None, 0)
        if option is not None and getattr(self, option) is not None:
            self.bias.chunk(self.blocks)[block].fill_(getattr(self, option))

    def layers(self) -> tuple[Layer]:
        recurrent = None if self.recurrent_shape is None else Part("weight_hh")
        bias = Part("bias") if self.biased else None
        parts = {"input": Part("weight_ih"), "recurrent": recurrent, "bias": bias}
        return (Layer(**parts, gate=self.gate, carries=self.carries),)


class LoopedCell(SingleLayerCell):
    """A cell of one layer that is its `update`, repeated."""

    def __init_subclass__(cls, **keywords) -> None:
        super().__init_subclass__(**keywords)
        if "update" in cls.__dict__:
            reset_derived(cls, LoopedCell)

    def input_weights(self) -> tuple[Tensor, Tensor]:
        """W (G n, m) and b (G n,)."""
        return self.weight_ih, self.bias

    def recurrent_weights(self) -> tuple[Tensor, ...]:
        """The further arguments of `update`."""
        return (self.weight_hh,)

    def stacked_weights(self) -> tuple[Tensor, ...]:
        """The same for the kernel: weights that are computed have the same bits for one model and in an ensemble."""
        return self.recurrent_weights()

    def update(self, u: Tensor, s: Tensor, *weights: Tensor) -> Tensor:
        """The next state from u = W x + b (..., G n), s (..., state_size) and the recurrent weights.

        It must read no other parameter of the cell: the arguments may be those of K models, see `rhn.kernels.loop`.
        """
        raise NotImplementedError(f"{type(self).__name__} needs its equation: define update(u, s, *weights) -> s'")

    def step(self, x: Tensor, s: Tensor) -> Tensor:
        return self.update(F.linear(x, *self.input_weights()), s, *self.recurrent_weights())

    def states(self, x: Tensor, s0: Tensor, dropout: CellMasks | None = None) -> Tensor:
        self.check(x, s0)
        x, rest = self.mask_input(x, dropout)
        reference = self.kernel == "reference"
        weights = self.recurrent_weights() if reference else self.stacked_weights()
        arguments = x, s0, *self.input_weights(), *weights, rest.state
        return kernels.LOOP(*arguments, update=self.update, graph=[], reference=reference)

    @property
    def layer_jacobians(self) -> Callable[[Tensor, Tensor], list[Tensor]] | None:
        """The Jacobian of the step, which is the only layer (..., state_size, state_size), if the cell has its closed form."""
        jacobian = self.jacobian
        return None if jacobian is None else lambda x, s: [jacobian(x, s)]
