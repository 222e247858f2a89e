"""The coupled oscillatory network: every unit a driven, damped oscillator (Rusch and Mishra 2021,
equation 3).

    z' = z + dt (tanh(R_y y + R_z z + W x + b) - gamma y - epsilon z)        velocities
    y' = y + dt z'                                                          positions, the outputs

Implicit in the position, explicit in the damping, as the authors' code. The state is (y, z), 2n.
gamma is the frequencies' square, epsilon the damping; the defaults are the authors' for sequential
MNIST.

Jacobian of the joint state, with D = diag(1 - h^2), h the tanh above:

    dz'/dy = dt (D R_y - gamma I)        dz'/dz = (1 - dt epsilon) I + dt D R_z
    dy'/dy = I + dt dz'/dy               dy'/dz = dt dz'/dz

    input: dz'/dx = dt D W, dy'/dx = dt dz'/dx
    bound: ||A|| <= ||[[1 - dt^2 gamma, dt (1 - dt epsilon)], [-dt gamma, 1 - dt epsilon]]|| + dt
        sqrt(1 + dt^2) ||[R_y, R_z]||

Energy: as |tanh| < 1, gamma |y|^2 + |z|^2 grows by at most n dt / (2 epsilon - dt (gamma +
epsilon^2)) a step, where that is positive.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from rhn.cells.base import spectral_norm
from rhn.cells.declared import LoopedCell, Shapes
from rhn.kernels.activations import tanh_derivative
from rhn.kernels.loop import product
from rhn.utils.validation import require


class CoRNN(LoopedCell):
    """Coupled oscillators; the state is cat(y, z), 2n. Weights: weight_ih (n, m), weight_hh (n, 2n)
    for (y, z), bias (n,).
    """

    dt: float = 0.042
    gamma: float = 2.7
    epsilon: float = 4.7
    carries = True
    parts = 2

    def check_options(self) -> None:
        require(self, "dt", self.dt > 0, "a number above 0")
        for name in ("gamma", "epsilon"):
            require(self, name, getattr(self, name) >= 0, "a number of at least 0")

    def shapes(self) -> Shapes:
        return super().shapes() | {"weight_hh": (self.hidden_size, 2 * self.hidden_size)}

    def update(self, u: Tensor, s: Tensor, R: Tensor) -> Tensor:
        y, z = s.chunk(2, -1)
        force = torch.sub(torch.tanh(u + product(s, R)), y, alpha=self.gamma)
        z = torch.add((1 - self.dt * self.epsilon) * z, force, alpha=self.dt)
        return torch.cat((torch.add(y, z, alpha=self.dt), z), -1)

    def _drive(self, x: Tensor, s: Tensor) -> Tensor:
        """dt (1 - h^2) (..., n, 1)."""
        z = self.input_product(x) + F.linear(s, self.weight_hh)
        return (self.dt * tanh_derivative(z)).unsqueeze(-1)

    def jacobian(self, x: Tensor, s: Tensor) -> Tensor:
        I = torch.eye(self.hidden_size, dtype=s.dtype, device=s.device)
        by_y, by_z = (self._drive(x, s) * self.weight_hh).chunk(2, -1)
        velocity = torch.cat(
            (by_y - self.dt * self.gamma * I, by_z + (1 - self.dt * self.epsilon) * I), -1
        )
        return torch.cat((F.pad(I, (0, self.hidden_size)) + self.dt * velocity, velocity), -2)

    def driven(self, x: Tensor, s: Tensor, M: Tensor) -> Tensor:
        velocity = self._drive(x, s) * M
        return torch.cat((self.dt * velocity, velocity), -2)

    def norm_bound(self, state_bound: float = 1.0) -> Tensor:
        dt, kept = self.dt, 1 - self.dt * self.epsilon
        undriven = [[1 - dt * dt * self.gamma, dt * kept], [-dt * self.gamma, kept]]
        norms = spectral_norm(self.weight_hh.new_tensor(undriven)), spectral_norm(self.weight_hh)
        return norms[0] + dt * math.sqrt(1 + dt * dt) * norms[1]
