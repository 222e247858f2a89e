"""The cells without gates: the plain RNN, the RNN that starts at the identity (IRNN), and deep
transitions with and without shortcuts.

    DT-RNN     s_1 = f(W x + R_1 y + b_1),  s_l = f(R_l s_{l-1} + b_l),  y' = s_L
    DT(S)-RNN  s_l = f(R_l s_{l-1} + S_l y + b_l) for every l >= 2 (`skip="all"`)
               or only for l = L (`skip="last"`)
    RNN        L = 1

Source: Pascanu et al. 2013.

Jacobian dy'/dy (Zilly et al. 2017, equations 2-3, as A[i, j] = dy'_i / dy_j), with
D_l = diag f'(z_l):

    P_1 = D_1 R_1,   P_l = D_l (R_l P_{l-1} + S_l),   A = P_L

Jacobians of the layers: D_l R_l without shortcuts. With shortcuts the state between layers is
joint, (s_l, y), so that the product of the layers' Jacobians is still A:

    [D_1 R_1; I],   [D_l R_l, D_l S_l; 0, I],   [D_L R_L, D_L S_L]

Input: dy'/dx = D_L R_L ... D_2 R_2 D_1 W, with or without shortcuts.

Norm bound: ||A|| <= p_L with p_1 = gamma ||R_1||, p_l = gamma (||R_l|| p_{l-1} + ||S_l||) and
gamma = max |f'| = 1.
"""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.linalg import matrix_norm

from rhn.cells.base import DeclaredCell, Shapes, choice
from rhn.cells.gates import CellMasks
from rhn.cells.layers import Layer, Part
from rhn.kernels.activations import ACTIVATIONS
from rhn.kernels.transition import TRANSITION
from rhn.utils.scale import (
    Scaled,
    any_out_of_range,
    bound_of,
    plus,
    scaled,
    scaled_matmul,
    unscaled,
)


class DTRNN(DeclaredCell):
    """Deep-transition RNN: L layers within a time step. Weights: weight_ih (n, m), weight_hh (L, n,
    n), bias (L, n).
    """

    options: tuple[str, ...] = ("nonlinearity",)
    masks = ("state",)
    candidate = 0
    learning_rate = 0.05  # found by trial: tanh cells diverge at 0.2
    _shortcuts = 0  # the number of last layers with a shortcut from y[t-1]

    def __init__(self, *sizes: int, nonlinearity: str = "tanh", **others):
        self.nonlinearity = choice("nonlinearity", nonlinearity, "tanh", "relu")
        super().__init__(*sizes, **others)

    def shapes(self) -> Shapes:
        n, L = self.hidden_size, self.depth
        skip = {"weight_skip": (self._shortcuts, n, n)} if self._shortcuts else {}
        return {"weight_ih": (n, self.input_size), "weight_hh": (L, n, n), **skip, "bias": (L, n)}

    def _derivatives(self, x: Tensor, y: Tensor) -> list[Tensor]:
        """Return the diagonals of D_1..D_L as columns (..., n, 1)."""
        s, derivatives = y, []
        for layer in range(self.depth):
            z = self._pre_activations(layer, x, s, y)
            derivatives.append(ACTIVATIONS[self.nonlinearity].derivative(z).unsqueeze(-1))
            s = ACTIVATIONS[self.nonlinearity].function(z)
        return derivatives

    def run_layer(self, layer: int, x: Tensor, s: Tensor, y: Tensor) -> Tensor:
        return ACTIVATIONS[self.nonlinearity].function(self._pre_activations(layer, x, s, y))

    def _pre_activations(self, layer: int, x: Tensor, s: Tensor, y: Tensor) -> Tensor:
        """Compute z_l (..., n)."""
        z = F.linear(s, self.weight_hh[layer], self.bias[layer])
        if layer == 0:
            z = F.linear(x, self.weight_ih) + z
        if layer >= self.depth - self._shortcuts:
            z = z + F.linear(y, self.weight_skip[layer - self.depth])
        return z

    def layers(self) -> tuple[Layer, ...]:
        first_skip = self.depth - self._shortcuts
        return tuple(
            Layer(
                input=None if layer else Part("weight_ih"),
                recurrent=Part("weight_hh", layer),
                skip=Part("weight_skip", layer - first_skip) if layer >= first_skip else None,
                bias=Part("bias", layer),
            )
            for layer in range(self.depth)
        )

    def step(self, x: Tensor, s: Tensor) -> Tensor:
        y = s
        for layer in range(self.depth):
            s = self.run_layer(layer, x, s, y)
        return s

    def states(self, x: Tensor, s0: Tensor, dropout: CellMasks | None = None) -> Tensor:
        skip = (self.weight_skip,) if self._shortcuts else ()
        weights = (self.weight_ih, self.weight_hh, self.bias, *skip)
        state_mask = None if dropout is None else dropout.state
        options = {"state_mask": state_mask, "activation": self.nonlinearity}
        return TRANSITION(x, s0, *weights, **options, reference=self.kernel == "reference")

    def jacobian(self, x: Tensor, s: Tensor) -> Tensor:
        return self._through(self.weight_hh[0], x, s, self._shortcuts)

    def scaled_jacobian(self, x: Tensor, s: Tensor) -> Scaled:
        """Return the Jacobian as (M, e), which stands for M 2^e and cannot overflow."""
        return self._scaled_through(self.weight_hh[0], x, s, self._shortcuts)

    def _through(self, first: Tensor, x: Tensor, s: Tensor, shortcuts: int = 0) -> Tensor:
        """Compute D_L R_L ... R_2 D_1 P for the first factor P, with the last shortcuts."""
        D = self._derivatives(x, s)
        P = D[0] * first
        for layer in range(1, self.depth):
            P = self.weight_hh[layer] @ P
            if layer >= self.depth - shortcuts:
                P = P + self.weight_skip[layer - self.depth]
            P = D[layer] * P
            if any_out_of_range(P):
                return unscaled(*self._scaled_through(first, x, s, shortcuts))
        return P

    def _scaled_through(self, P: Tensor, x: Tensor, s: Tensor, shortcuts: int = 0) -> Scaled:
        """Compute the same product as M 2^e."""
        D = self._derivatives(x, s)
        P, exponent = D[0] * P, torch.zeros((), dtype=torch.long, device=P.device)
        for layer in range(1, self.depth):
            P, exponent = scaled_matmul(self.weight_hh[layer], P, exponent)
            if layer >= self.depth - shortcuts:
                P, exponent = plus(P, exponent, self.weight_skip[layer - self.depth])
            P, exponent = scaled(P, exponent)
            P = D[layer] * P
        return P, exponent.expand(P.shape[:-2])

    def layer_jacobians(self, x: Tensor, s: Tensor) -> list[Tensor]:
        """Return the Jacobian of each layer, of n rows, or 2n if y is part of the joint state."""
        L, n, D = self.depth, self.hidden_size, self._derivatives(x, s)
        J = [d * R for d, R in zip(D, self.weight_hh, strict=True)]
        if self._shortcuts:
            I = torch.eye(n, dtype=s.dtype, device=s.device).expand_as(J[0])
            S = [torch.zeros_like(self.weight_hh[0])] * (L - self._shortcuts) + [*self.weight_skip]
            J[1:] = [torch.cat((J[layer], D[layer] * S[layer]), -1) for layer in range(1, L)]
            J[:-1] = [torch.cat((top, F.pad(I, (top.shape[-1] - n, 0))), -2) for top in J[:-1]]
        return J

    def input_jacobian(self, x: Tensor, s: Tensor) -> Tensor:
        return self._through(self.weight_ih, x, s)

    def scaled_input_jacobian(self, x: Tensor, s: Tensor) -> Scaled:
        """Return the Jacobian dy'/dx as (M, e), which stands for M 2^e."""
        return self._scaled_through(self.weight_ih, x, s)

    def norm_bound(self, state_bound: float = 1.0) -> Tensor:
        return bound_of(*self.scaled_norm_bound(state_bound))

    def scaled_norm_bound(self, state_bound: float = 1.0) -> Scaled:
        """Return the bound as (M, e), which stands for M 2^e, with M (1, 1)."""
        sigma = matrix_norm(self.weight_hh, 2)[:, None, None]
        bound, exponent = sigma[0], torch.zeros((), dtype=torch.long, device=sigma.device)
        for layer in range(1, self.depth):
            bound, exponent = scaled_matmul(sigma[layer], bound, exponent)
            if layer >= self.depth - self._shortcuts:
                skip = matrix_norm(self.weight_skip[layer - self.depth], 2)
                bound, exponent = plus(bound, exponent, skip.reshape(1, 1))
        return bound, exponent


class DTSRNN(DTRNN):
    """Deep-transition RNN with shortcuts from the state before the time step to later layers. The
    additional weight is weight_skip (L - 1, n, n), or (1, n, n) with skip="last".
    """

    options = (*DTRNN.options, "skip")

    def __init__(self, *sizes: int, skip: str = "all", **others):
        self.skip = choice("skip", skip, "all", "last")
        super().__init__(*sizes, **others)

    @property
    def _shortcuts(self) -> int:  # type: ignore[override]  # read-only here
        return self.depth - 1 if self.skip == "all" else min(1, self.depth - 1)


class RNN(DTRNN):
    """The plain RNN, y' = f(W x + R y + b): weight_ih (n, m), weight_hh (1, n, n), bias (1, n)."""

    deep = False


class IRNN(RNN):
    """A ReLU RNN whose initial recurrent matrix is the identity plus noise (Le et al. 2015). With
    `nonlinearity="tanh"`, tanh replaces ReLU.

    `init` draws the noise and all other weights.
    """

    starts_at_identity = True
    default_init = "identity"

    def __init__(self, *sizes: int, nonlinearity: str = "relu", **others):
        super().__init__(*sizes, nonlinearity=nonlinearity, **others)
