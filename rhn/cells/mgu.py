"""The minimal gated unit: one gate that resets and updates (Zhou et al. 2016, "Minimal gated unit
for recurrent neural networks").

    f = sigma(W_f x + R_f s + b_f)     g = tanh(W_g x + R_g (f s) + b_g)     s' = (1 - f) s + f g

In highway terms (`gates`): h = g, t = f, c = 1 - f. Weights: weight_ih (2n, m), weight_hh (2n, n),
bias (2n,), blocks f, g.

Jacobian:  diag(1 - f) + diag((g - s) f') R_f + diag(f g') R_g (diag(f) + diag(s f') R_f),   f' = f (1 - f), g' = 1 - g^2
Input:     diag((g - s) f') W_f + diag(f g') (W_g + R_g diag(s f') W_f)

Norm bound for states within beta, as [diag(1 - f), diag(f)] has norm at most 1 and f' <= 1/4:

    ||A|| <= sqrt(1 + ||R_g||^2) + (1 + beta + beta ||R_g||) ||R_f|| / 4
"""

import torch
from torch import Tensor

from rhn.cells.base import scaled_rows, spectral_norm
from rhn.cells.declared import LoopedCell
from rhn.cells.layers import GateBlocks, Gates
from rhn.kernels.activations import sigmoid_derivative, tanh_derivative
from rhn.kernels.loop import product


class MGU(LoopedCell):
    """Minimal gated unit; `forget_bias` sets the gates' bias at the start (None: as others). Below
    0 the state is kept longer.
    """

    blocks = 2
    forget_bias: float | None = None
    gate_bias = "forget_bias", 0
    gate = GateBlocks(0)
    gate_name = "forget gate"
    masks = ("state",)
    candidate = 1

    def update(self, u: Tensor, s: Tensor, weight_hh: Tensor) -> Tensor:
        return _update(u, s, weight_hh)[0]

    def gates(self, x: Tensor, s: Tensor) -> Gates:
        after, f, g = _update(self.input_product(x), s, self.weight_hh)
        return Gates((g,), (f,), (1 - f,), (after,))

    def jacobian(self, x: Tensor, s: Tensor) -> Tensor:
        z_f, _ = _pre_activations(self.input_product(x), s, self.weight_hh)
        R_f, R_g = self.weight_hh.chunk(2)
        R_g = R_g * torch.sigmoid(z_f).unsqueeze(-2)
        return self.driven(x, s, torch.cat((R_f.expand_as(R_g), R_g), -2)) + torch.diag_embed(
            torch.sigmoid(-z_f)
        )

    def driven(self, x: Tensor, s: Tensor, M: Tensor) -> Tensor:
        z_f, z_g = _pre_activations(self.input_product(x), s, self.weight_hh)
        (_, R_g), (M_f, M_g) = self.weight_hh.chunk(2), M.chunk(2, -2)
        slope = sigmoid_derivative(z_f)
        through = M_g + R_g @ scaled_rows(s * slope, M_f)
        by_f, by_g = (torch.tanh(z_g) - s) * slope, torch.sigmoid(z_f) * tanh_derivative(z_g)
        return scaled_rows(by_f, M_f) + scaled_rows(by_g, through)

    def norm_bound(self, state_bound: float = 1.0) -> Tensor:
        f, g = (spectral_norm(block) for block in self.weight_hh.chunk(2))
        return torch.sqrt(1 + g * g) + (1 + state_bound + state_bound * g) * f / 4


def _update(u: Tensor, s: Tensor, R: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(s', f, g), each (..., n), from u = W x + b (..., 2n)."""
    z_f, z_g = _pre_activations(u, s, R)
    f, g = torch.sigmoid(z_f), torch.tanh(z_g)
    return (1 - f) * s + f * g, f, g


def _pre_activations(u: Tensor, s: Tensor, R: Tensor) -> tuple[Tensor, Tensor]:
    """Pre-activations of f and g, each (..., n)."""
    (u_f, u_g), (R_f, R_g) = u.chunk(2, -1), R.chunk(2, -2)
    z_f = u_f + product(s, R_f)
    return z_f, u_g + product(torch.sigmoid(z_f) * s, R_g)
