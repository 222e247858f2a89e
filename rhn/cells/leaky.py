"""The leaky integrator network, whose units are those of echo state networks (Jaeger et al. 2007,
equation 2, with the leak outside the tanh).

    s' = (1 - a) s + a tanh(W x + R s + b)        a in (0, 1], the leak; a = 1 is the plain RNN

Jacobian: ds'/ds = (1 - a) I + a diag(1 - h^2) R, h = tanh(W x + R s + b); ds'/dx = a diag(1 - h^2)
W.

Norm bound: ||A|| <= 1 - a + a ||R||.

Start: with `spectral_radius` the recurrent matrix is drawn by the initialisation scheme and then
scaled to that spectral radius, as in echo state networks. All weights are parameters: set
`weight_ih.requires_grad_(False)` and likewise for the other weights to train only the output layer.
"""

from collections.abc import Mapping
from types import MappingProxyType

import torch
from torch import Tensor

from rhn.cells.base import largest_singular_value, scaled_rows
from rhn.cells.declared import LoopedCell
from rhn.cells.init import Initialization
from rhn.kernels.activations import tanh_derivative
from rhn.kernels.loop import product
from rhn.utils.validation import LARGEST_FLOAT, Range


class LeakyRNN(LoopedCell):
    """Leaky tanh network, s' = (1 - leak) s + leak tanh(W x + R s + b). Weights: weight_ih (n, m),
    weight_hh (n, n), bias (n,).

    `spectral_radius`: the initial spectral radius of weight_hh. None: weight_hh keeps its initial
    scale.
    """

    leak: float = 0.3
    spectral_radius: float | None = None
    ranges = MappingProxyType(
        {"leak": Range(above=0, most=1), "spectral_radius": Range(least=0, most=LARGEST_FLOAT)}
    )
    masks = ("state",)
    candidate = 0

    @property
    def carries(self) -> bool:  # type: ignore[override]  # read-only here
        return self.leak < 1

    def update(self, u: Tensor, s: Tensor, R: Tensor) -> Tensor:
        return torch.lerp(s, torch.tanh(u + product(s, R)), self.leak)

    def driven(self, x: Tensor, s: Tensor, M: Tensor) -> Tensor:
        z = self.input_product(x) + product(s, self.weight_hh)
        return scaled_rows(self.leak * tanh_derivative(z), M)

    def jacobian(self, x: Tensor, s: Tensor) -> Tensor:
        kept = torch.eye(self.hidden_size, dtype=s.dtype, device=s.device) * (1 - self.leak)
        return kept + self.driven(x, s, self.weight_hh)

    def norm_bound(self, state_bound: float = 1.0) -> Tensor:
        return 1 - self.leak + self.leak * largest_singular_value(self.weight_hh)

    @classmethod
    def recurrent_start(cls, init: Initialization, options: Mapping) -> str:
        radius = options.get("spectral_radius")
        return "" if radius is None else f"recurrent matrix scaled to spectral radius {radius:g}"

    def _start(self, generator: torch.Generator | None) -> None:
        if self.spectral_radius is None:
            return
        R = self.weight_hh.double()
        radius = torch.linalg.eigvals(R).abs().max()
        if radius > 0:
            self.weight_hh.copy_(R * (self.spectral_radius / radius))
