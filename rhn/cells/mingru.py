"""The minGRU, a GRU whose gates and candidate see the input alone (Feng et al. 2024, "Were RNNs all
we needed?", section 3.1).

    z = sigma(W_z x + b_z)     g = W_g x + b_g     s' = (1 - z) s + z g

Linear in the state, so that the steps of a sequence could be taken all at once (the paper's
parallel scan). The paper's form in logarithms, whose candidate is positive, is another cell. In
highway terms (`gates`): h = g, t = z, c = 1 - z. Weights: weight_ih (2n, m), bias (2n,), blocks z,
g; no recurrent matrix.

Jacobian:    diag(1 - z), with every eigenvalue in (0, 1): no state but the inputs decide how long a unit remembers
Input:       diag((g - s) z (1 - z)) W_z + diag(z) W_g
Norm bound:  1, which gates that shut come near
"""

import numpy as np
import torch
from torch import Tensor

from rhn.cells.base import scaled_rows
from rhn.cells.declared import LoopedCell, Shapes
from rhn.cells.layers import GateBlocks, Gates
from rhn.kernels.activations import sigmoid_derivative


class MinGRU(LoopedCell):
    """Minimal GRU; `update_bias` sets the bias of z at the start (None: as others). Below 0 the
    state is kept longer.
    """

    blocks = 2
    update_bias: float | None = None
    gate_bias = "update_bias", 0
    gate = GateBlocks(0)
    gate_name = "update gate"

    def shapes(self) -> Shapes:
        rows = 2 * self.hidden_size
        return {"weight_ih": (rows, self.input_size), "bias": (rows,)}

    def recurrent_weights(self) -> tuple[()]:
        return ()

    def update(self, u: Tensor, s: Tensor) -> Tensor:
        z, g = u.chunk(2, -1)
        return torch.lerp(s, g, torch.sigmoid(z))

    def gates(self, x: Tensor, s: Tensor) -> Gates:
        u_z, g = self.input_product(x).chunk(2, -1)
        z = torch.sigmoid(u_z)
        return Gates((g,), (z,), (1 - z,), (self.step(x, s),))

    def jacobian(self, x: Tensor, s: Tensor) -> Tensor:
        u_z, _ = self.input_product(x).chunk(2, -1)
        return torch.diag_embed(torch.sigmoid(-u_z)).expand(
            *np.broadcast_shapes(u_z.shape, s.shape), -1
        )

    def driven(self, x: Tensor, s: Tensor, M: Tensor) -> Tensor:
        (u_z, g), (W_z, W_g) = self.input_product(x).chunk(2, -1), M.chunk(2)
        return scaled_rows((g - s) * sigmoid_derivative(u_z), W_z) + scaled_rows(
            torch.sigmoid(u_z), W_g
        )

    def norm_bound(self, state_bound: float = 1.0) -> Tensor:
        return self.bias.new_ones(())
