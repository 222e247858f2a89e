"""The independently recurrent network, whose units remember each for itself (Li et al. 2018,
equation 2).

    s' = f(W x + u * s + b)        f = relu or tanh; u (n,), one number a unit

Jacobian ds'/ds = diag(f'(z) * u), z = W x + u * s + b; to the input diag(f'(z)) W. Its eigenvalues
are its entries: along a sequence the gradient of unit i is the product of its own numbers, neither
mixed nor rotated.

Norm bound: ||A|| <= max |u_i|.

Start: u is uniform in [0, 1], whatever draws the other weights (section 4.1: in [0, 2^(1/T)] for
memory over T steps, T large).
"""

from typing import Literal

import torch
from torch import Tensor

from rhn.cells.base import scaled_rows
from rhn.cells.declared import LoopedCell, Shapes
from rhn.kernels.activations import ACTIVATIONS


class IndRNN(LoopedCell):
    """Independently recurrent network. Weights: weight_ih (n, m), weight_hh (n,), the u above, bias
    (n,).
    """

    nonlinearity: Literal["relu", "tanh"] = "relu"

    def shapes(self) -> Shapes:
        return super().shapes() | {"weight_hh": (self.hidden_size,)}

    def update(self, u: Tensor, s: Tensor, weight_hh: Tensor) -> Tensor:
        return ACTIVATIONS[self.nonlinearity].function(u + s * weight_hh)

    def _slope(self, x: Tensor, s: Tensor) -> Tensor:
        z = self.input_product(x) + s * self.weight_hh
        return ACTIVATIONS[self.nonlinearity].derivative(z)

    def jacobian(self, x: Tensor, s: Tensor) -> Tensor:
        return torch.diag_embed(self._slope(x, s) * self.weight_hh)

    def driven(self, x: Tensor, s: Tensor, M: Tensor) -> Tensor:
        return scaled_rows(self._slope(x, s), M)

    def norm_bound(self, state_bound: float = 1.0) -> Tensor:
        return self.weight_hh.abs().max()

    def _start(self, generator: torch.Generator | None) -> None:
        self.weight_hh.copy_(
            torch.rand(self.hidden_size, generator=generator, dtype=torch.float64, device="cpu")
        )
