"""Orthogonal network: its recurrent matrix is a rotation, the exponential of an antisymmetric
matrix.

Source: Lezcano-Casado and Martinez-Rubio (2019); Helfrich et al. (2018) use the Cayley transform.

    s' = f(W x + Q s)        Q = exp(M), M' = -M
    f(z)_i = sign(z_i) relu(|z_i| + b_i)        modrelu; b = 0 is the identity
    f(z)_i = tanh(z_i + b_i)                    tanh

Jacobian: ds'/ds = diag(k) Q with k = f'(z) in [0, 1]; ds'/dx = diag(k) W.

Norm bound: ||A|| <= 1, A = ds'/ds. If no modrelu unit is cut to zero, ||A v|| = ||v|| for every v:
no gradient grows or vanishes.

Start: Q is uniform over the rotations (Haar) under any initialisation scheme except `identity:STD`,
under which Q is the identity plus noise.
"""

from collections.abc import Mapping
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from rhn.cells.base import scaled_rows
from rhn.cells.declared import LoopedCell, Shapes
from rhn.cells.init import Initialization
from rhn.cells.layers import Layer, Part
from rhn.cells.rotation import random_rotation, rotation, stacked_rotation
from rhn.kernels.activations import tanh_derivative
from rhn.kernels.loop import product


class OrthogonalRNN(LoopedCell):
    """Orthogonal network, whose recurrent matrix is a rotation Q = exp(M) with M' = -M. Weights:
    weight_ih (n, m); weight_hh (n (n - 1) / 2,), the entries of M below its diagonal, row by row;
    bias (n,).
    """

    nonlinearity: Literal["modrelu", "tanh"] = "modrelu"

    def shapes(self) -> Shapes:
        return super().shapes() | {"weight_hh": (self.hidden_size * (self.hidden_size - 1) // 2,)}

    def layers(self) -> tuple[Layer, ...]:
        """Describe the layer without weight_hh, which no analysis can read as a matrix."""
        return (Layer(input=Part("weight_ih"), bias=Part("bias")),)

    def recurrent_matrix(self) -> Tensor:
        """Return Q (n, n)."""
        return rotation(self.weight_hh, self.hidden_size)

    def input_weights(self) -> tuple[Tensor, Tensor]:
        return self.weight_ih, self.bias if self.nonlinearity == "tanh" else torch.zeros_like(
            self.bias
        )

    def recurrent_weights(self) -> tuple[Tensor, ...]:
        return self._with_bias(self.recurrent_matrix())

    def stacked_weights(self) -> tuple[Tensor, ...]:
        return self._with_bias(stacked_rotation(self.weight_hh, self.hidden_size))

    def _with_bias(self, Q: Tensor) -> tuple[Tensor, ...]:
        """Return Q, and the bias if W x + b does not contain it."""
        return (Q,) if self.nonlinearity == "tanh" else (Q, self.bias)

    def update(self, u: Tensor, s: Tensor, Q: Tensor, bias: Tensor | None = None) -> Tensor:
        z = u + product(s, Q)
        return torch.tanh(z) if bias is None else z.sign() * torch.relu(z.abs() + bias)

    def driven(self, x: Tensor, s: Tensor, M: Tensor) -> Tensor:
        z = F.linear(x, self.weight_ih) + F.linear(s, self.recurrent_matrix())
        if self.nonlinearity == "tanh":
            slope = tanh_derivative(z + self.bias)
        else:
            slope = (z.abs() + self.bias > 0).to(z.dtype)
        return scaled_rows(slope, M)

    def jacobian(self, x: Tensor, s: Tensor) -> Tensor:
        return self.driven(x, s, self.recurrent_matrix())

    def norm_bound(self, state_bound: float = 1.0) -> Tensor:
        return self.bias.new_ones(())

    @classmethod
    def recurrent_start(cls, init: Initialization, options: Mapping) -> str:
        return "" if init.scheme == "identity" else "recurrent matrix a random rotation"

    def _start(self, generator: torch.Generator | None) -> None:
        if self.init.scheme != "identity":
            self.weight_hh.copy_(random_rotation(self.hidden_size, generator))
