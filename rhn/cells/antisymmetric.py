"""The antisymmetric network: small steps of a differential equation that neither grows nor decays
(Chang et al. 2019).

    s' = s + eps tanh((M - gamma I) s + V x + b)        M' = -M; eps the step size, gamma the diffusion

    gated: s' = s + eps sigma((M - gamma I) s + V_z x + b_z) * tanh((M - gamma I) s + V_h x + b_h)

The eigenvalues of M - gamma I lie on the line Re = -gamma. Where the slope of tanh is 1, those of
the step's Jacobian are 1 - eps gamma + i eps mu, with those of M at i mu: near the unit circle for
small steps.

Jacobian ds'/ds = I + eps diag(k) (M - gamma I), k = 1 - h^2, or z (1 - h^2) + h z (1 - z) if gated;
to the input eps diag(1 - h^2) V, or eps (diag(h z (1 - z)) V_z + diag(z (1 - h^2)) V_h).

Norm bound: 0 <= |k_i| <= 1 either way, and M - gamma I is normal: ||A|| <= 1 + eps sqrt(||M||^2 +
gamma^2).
"""

import math

import torch
from torch import Tensor

from rhn.cells.base import scaled_rows, spectral_norm
from rhn.cells.init import BY_FAN_IN
from rhn.cells.skew import SkewCell, skew
from rhn.kernels.activations import sigmoid_derivative, tanh_derivative
from rhn.kernels.loop import product
from rhn.utils.validation import require


class AntisymmetricRNN(SkewCell):
    """Antisymmetric network. Weights: weight_ih (n, m), weight_hh (n (n - 1) / 2,), M below its
    diagonal, bias (n,).

    `gated`: weight_ih (2 n, m) and bias (2 n,), V_z above V_h. `step_size` and `diffusion` are eps
    and gamma above.
    """

    step_size: float = 0.1
    diffusion: float = 0.01
    gated: bool = False
    carries = True

    def check_options(self) -> None:
        require(self, "step_size", self.step_size > 0, "a number above 0")
        require(self, "diffusion", self.diffusion >= 0, "a number of at least 0")

    @property
    def blocks(self) -> int:  # type: ignore[override]  # read-only here
        """G: the candidate, preceded by its gate if the cell is gated."""
        return 2 if self.gated else 1

    def recurrent_matrix(self) -> Tensor:
        """M - gamma I (n, n)."""
        M = skew(self.weight_hh, self.hidden_size)
        return M - self.diffusion * torch.eye(len(M), dtype=M.dtype, device=M.device)

    def recurrent_weights(self) -> tuple[Tensor]:
        return (self.recurrent_matrix(),)

    def _pre_activations(self, u: Tensor, s: Tensor, B: Tensor) -> list[Tensor]:
        """Pre-activations of the gate, if the cell is gated, and of h, each (..., n)."""
        v = product(s, B)
        return [block + v for block in u.chunk(self.blocks, -1)]

    def update(self, u: Tensor, s: Tensor, B: Tensor) -> Tensor:
        *gate, h = self._pre_activations(u, s, B)
        h = torch.tanh(h)
        return s + self.step_size * (torch.sigmoid(gate[0]) * h if gate else h)

    def _slopes(self, x: Tensor, s: Tensor) -> tuple[Tensor, ...]:
        """eps times the derivatives of z * h by the pre-activations (..., n): first those of the
        gate, if the cell is gated.
        """
        *gate, h = self._pre_activations(self.input_product(x), s, self.recurrent_matrix())
        slopes = [tanh_derivative(h)]
        if gate:
            slopes = [
                torch.tanh(h) * sigmoid_derivative(gate[0]),
                torch.sigmoid(gate[0]) * slopes[0],
            ]
        return tuple(self.step_size * k for k in slopes)

    def jacobian(self, x: Tensor, s: Tensor) -> Tensor:
        I = torch.eye(self.hidden_size, dtype=s.dtype, device=s.device)
        return I + scaled_rows(torch.stack(self._slopes(x, s)).sum(0), self.recurrent_matrix())

    def driven(self, x: Tensor, s: Tensor, M: Tensor) -> Tensor:
        blocks = zip(self._slopes(x, s), M.chunk(self.blocks), strict=True)
        return torch.stack([scaled_rows(*block) for block in blocks]).sum(0)

    def norm_bound(self, state_bound: float = 1.0) -> Tensor:
        M = skew(self.weight_hh, self.hidden_size)
        return 1 + self.step_size * torch.hypot(spectral_norm(M), M.new_tensor(self.diffusion))

    def _start(self, generator: torch.Generator | None) -> None:
        """Redraw M for schemes that scale by fan-in: each of its entries is multiplied with one of
        n state entries.
        """
        if self.init.scheme in BY_FAN_IN:
            draw = torch.randn(
                self.weight_hh.shape, generator=generator, dtype=torch.float64, device="cpu"
            )
            self.weight_hh.copy_(draw * self.init.scale / math.sqrt(self.hidden_size))
