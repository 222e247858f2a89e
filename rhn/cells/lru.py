"""Linear recurrent unit: a diagonal complex recurrence inside the unit circle (Orvieto et al.
2023).

Source: "Resurrecting recurrent neural networks for long sequences", section 3.

    z' = lambda z + gamma (B x),    lambda = exp(-exp(nu) + i exp(theta)),    gamma = exp(gamma_log)

The state of n units is real: the real parts of p = ceil(n / 2) numbers z, then the imaginary parts
of the first q = n - p of them. With odd n the last number is real, and so is its lambda. The output
is the whole state: a linear map of it, as a network's output layer is, is the paper's Re(C z) with
C free. (The paper's D x and the blocks around the unit are not part of a cell.)

Weights: weight_ih (n, m), the rows of B: real parts, then imaginary ones; nu (p,), theta (q,),
gamma_log (p,). No bias.

At the start lambda is uniform on the ring r_min <= |lambda| <= r_max, its phase within max_phase,
and gamma = sqrt(1 - |lambda|^2), by which white noise as input gives every unit the variance of B
x. These three always start so; `init` draws weight_ih alone, by default as the paper does, with
variance 1 / (2 m).

Jacobian:    [diag(a), -diag(b); diag(b), diag(a)] with lambda = a + i b: constant, normal, of the eigenvalues lambda and conj(lambda)
Input:       diag(gamma, gamma) weight_ih
Norm bound:  max |lambda| < 1, which is the norm itself
"""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from rhn.cells.base import scaled_rows
from rhn.cells.declared import LoopedCell, Shapes
from rhn.utils.validation import require

LARGEST_NU = 10.0
"""From 6.7 on exp(-exp(nu)) is 0 in float64; a larger nu would have the gradient infinity times
0.
"""
LARGEST_THETA = 40.0
"""From 37 on a phase of exp(theta) has no fraction left in float64; from 89 on it is infinite in
float32.
"""


class LRU(LoopedCell):
    """Linear recurrent unit.

    Args:
        r_min, r_max: the ring that |lambda| starts in, 0 <= r_min < r_max < 1.
        max_phase: the largest phase at the start in radians, above 0 and at most 2 pi.
    """

    carries = True
    default_init = f"scaled:{0.5**0.5}"
    r_min: float = 0.0
    r_max: float = 0.99
    max_phase: float = 2 * math.pi

    def check_options(self) -> None:
        in_order = 0 <= self.r_min < self.r_max < 1
        require(self, "r_min", in_order, f"from 0 to below r_max, {self.r_max}, which is below 1")
        require(self, "max_phase", 0 < self.max_phase <= 2 * math.pi, "above 0 and at most 2 pi")

    def shapes(self) -> Shapes:
        q = self.hidden_size // 2
        p = self.hidden_size - q
        return {
            "weight_ih": (self.hidden_size, self.input_size),
            "nu": (p,),
            "theta": (q,),
            "gamma_log": (p,),
        }

    def _start(self, generator: torch.Generator | None) -> None:
        """The ring, see above."""
        draw = torch.rand(2, len(self.nu), dtype=torch.float64, generator=generator, device="cpu")
        modulus, phase = draw.clamp_(min=1e-12)
        # uniform on the ring's area
        squared = self.r_min**2 + (self.r_max**2 - self.r_min**2) * modulus
        self.nu.copy_(torch.log(-torch.log(squared) / 2))
        self.theta.copy_(torch.log(self.max_phase * phase)[: len(self.theta)])
        self.gamma_log.copy_(torch.log1p(-squared) / 2)

    def eigenvalues(self) -> tuple[Tensor, Tensor]:
        """Real parts a (p,) of lambda and imaginary parts b (q,)."""
        modulus, phase = self._modulus(), torch.exp(self.theta.clamp(max=LARGEST_THETA))
        odd = phase.new_zeros(len(modulus) - len(phase))
        return modulus * torch.cos(torch.cat((phase, odd))), modulus[: len(phase)] * torch.sin(
            phase
        )

    def input_weights(self) -> tuple[Tensor, Tensor]:
        """diag(gamma, gamma) weight_ih (n, m), and zeros (n,)."""
        gamma = torch.exp(self.gamma_log)
        driven = scaled_rows(torch.cat((gamma, gamma[: len(self.theta)])), self.weight_ih)
        return driven, self.weight_ih.new_zeros(self.hidden_size)

    def recurrent_weights(self) -> tuple[Tensor, Tensor]:
        """The n numbers by which an entry is multiplied, and those by which its partner is: 0 for a
        real number.
        """
        a, b = self.eigenvalues()
        return torch.cat((a, a[: len(b)])), torch.cat((-b, b.new_zeros(len(a) - len(b)), b))

    def update(self, u: Tensor, s: Tensor, scale: Tensor, turn: Tensor) -> Tensor:
        q = self.hidden_size // 2
        real, odd, imaginary = s.split((q, self.hidden_size - 2 * q, q), -1)
        partner = torch.cat((imaginary, odd, real), -1)
        return torch.addcmul(torch.addcmul(u, scale, s), turn, partner)

    def jacobian(self, x: Tensor, s: Tensor) -> Tensor:
        (a, b), (p, q) = self.eigenvalues(), (len(self.nu), len(self.theta))
        # (p, q): from the imaginary to the real parts, but for the sign
        B = F.pad(torch.diag(b), (0, 0, 0, p - q))
        A = torch.cat((torch.cat((torch.diag(a), -B), 1), torch.cat((B.mT, torch.diag(a[:q])), 1)))
        return A.expand(*np.broadcast_shapes(x.shape[:-1], s.shape[:-1]), -1, -1)

    def input_jacobian(self, x: Tensor, s: Tensor) -> Tensor:
        return self.input_weights()[0].expand(
            *np.broadcast_shapes(x.shape[:-1], s.shape[:-1]), -1, -1
        )

    def norm_bound(self, state_bound: float = 1.0) -> Tensor:
        return self._modulus().max()

    def _modulus(self) -> Tensor:
        """|lambda| (p,)."""
        return torch.exp(-torch.exp(self.nu.clamp(max=LARGEST_NU)))
