"""The recurrent highway network (Zilly et al. 2017, equations 6-9): L gated layers within one time
step. Only the first layer reads the input.

    h_l = tanh(1{l=1} W_H x + R_Hl s_{l-1} + b_Hl)      t_l, c_l likewise with a sigmoid
    s_l = h_l * t_l + s_{l-1} * c_l                     s_0 = y, y' = s_L

Coupled: c_l = 1 - t_l. Another function f may replace tanh (`activation`).

Jacobian (equations 10-15, as A[i, j] = dy'_i / dy_j): A = J_L ... J_1. With diagonal matrices that
multiply rows,

    J_l = diag(c) + diag(t f'(z_H)) R_H + diag(h t(1-t)) R_T + diag(s_{l-1} c(1-c)) R_C
    coupled: the last two become diag((h - s_{l-1}) t(1-t)) R_T

Input: dy'/dx = J_L ... J_2 B, where B is J_1 without diag(c), and with W instead of R_1.

Norm bound of one layer whose input state has entries within beta: |h| <= 1, f' <= gamma, gates in
(0, 1) and t(1-t) <= 1/4 give

    coupled    ||J|| <= sqrt(1 + (gamma ||R_H||)^2) + (1 + beta) ||R_T|| / 4
    uncoupled  ||J|| <= 1 + gamma ||R_H|| + ||R_T|| / 4 + beta ||R_C|| / 4

and the input state of the next layer is within max(beta, 1) if coupled, beta + 1 if uncoupled. The
square root of the coupled bound follows because [diag(1-t), diag(t)] has norm at most 1. gamma is 1
(tanh) or 1/4 (sigmoid). With relu or linear, h grows with the input, so that no number bounds all
inputs: the bound is infinite.
"""

import math
from collections.abc import Iterator
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.linalg import matrix_norm

from rhn.cells.base import DeclaredCell, Shapes, choice, optional
from rhn.cells.gates import CellMasks, Gates
from rhn.cells.layers import GateBlocks, Layer, Part
from rhn.kernels.activations import ACTIVATIONS, sigmoid_derivative
from rhn.kernels.transition import TRANSITION, highway_layer
from rhn.utils.scale import Scaled, bound_of, product, scaled_product


class RHN(DeclaredCell):
    """Recurrent highway network. Weights: weight_ih (G n, m), weight_hh (L, G n, n), bias (L, G n).
    The weights stack the blocks H, T (, C): G = 2 if coupled, 3 if uncoupled.

    Args:
        coupled: whether c = 1 - t (as in all experiments of the paper).
        transform_bias: initial bias of the transform gates; the initial bias of uncoupled carry
            gates is its negative. None: drawn like all other biases.
        activation: the function f of the candidate (an option of the official Brainstorm layer).
        gate_constant: a constant, no parameter, that is added to the transform gates'
            pre-activations (-4 in the official Torch7 code).
    """

    options = ("coupled", "transform_bias", "activation", "gate_constant")
    masks = ("state", "candidate")
    candidate = 0
    separate_masks = True

    def __init__(
        self,
        *sizes: int,
        coupled: bool = True,
        transform_bias: float | None = -2.0,
        activation: str = "tanh",
        gate_constant: float = 0.0,
        **others,
    ):
        self.coupled = choice("coupled", coupled, True, False)
        self.transform_bias = optional("transform_bias", transform_bias)
        self.activation = choice("activation", activation, *ACTIVATIONS)
        self.gate_constant = optional("gate_constant", gate_constant) or 0.0
        self.blocks = 2 if self.coupled else 3
        self.carry_name = "" if self.coupled else "carry gate"
        super().__init__(*sizes, **others)

    def shapes(self) -> Shapes:
        n, L = self.hidden_size, self.depth
        rows = self.blocks * n
        return {"weight_ih": (rows, self.input_size), "weight_hh": (L, rows, n), "bias": (L, rows)}

    def biases(self) -> Tensor:
        """Return the biases (L, G n) with the gate constant in the block T."""
        if not self.gate_constant:
            return self.bias
        n, rows = self.hidden_size, self.bias.shape[-1]
        return self.bias + F.pad(self.bias.new_full((n,), self.gate_constant), (n, rows - 2 * n))

    def _pre_activations(self, layer: int, x: Tensor, s: Tensor) -> Tensor:
        """Compute z_l (..., G n)."""
        z = F.linear(s, self.weight_hh[layer], self.biases()[layer])
        return z + F.linear(x, self.weight_ih) if layer == 0 else z

    def gates(self, x: Tensor, s: Tensor) -> Gates:
        layers = []
        for layer in range(self.depth):
            z = self._pre_activations(layer, x, s)
            s, h, t, c = highway_layer(z, s, activation=self.activation)
            layers.append((h, t, c, s))
        return Gates(*zip(*layers, strict=True))

    def run_layer(self, layer: int, x: Tensor, s: Tensor, y: Tensor) -> Tensor:
        z = self._pre_activations(layer, x, s)
        return highway_layer(z, s, activation=self.activation)[0]

    def layers(self) -> tuple[Layer, ...]:
        carry = None if self.coupled else 2
        gate = GateBlocks(1, carry=carry, constant=self.gate_constant)
        layers = []
        for k in range(self.depth):
            W = Part("weight_ih") if k == 0 else None
            R, b = Part("weight_hh", k), Part("bias", k)
            layers.append(Layer(input=W, recurrent=R, bias=b, gate=gate))
        return tuple(layers)

    def step(self, x: Tensor, s: Tensor) -> Tensor:
        return self.gates(x, s).states[-1]

    def states(self, x: Tensor, s0: Tensor, dropout: CellMasks | None = None) -> Tensor:
        separate, state, candidate = dropout or (None,) * 3
        W = self.weight_ih
        if separate is not None:  # all W_j (x * m_j) in one product
            x = torch.cat([x * mask for mask in separate], -1)
            W = torch.block_diag(*W.chunk(self.blocks))
        options = {"state_mask": state, "candidate_mask": candidate, "activation": self.activation}
        weights = W, self.weight_hh, self.biases()
        return TRANSITION(x, s0, *weights, **options, reference=self.kernel == "reference")

    def jacobian(self, x: Tensor, s: Tensor) -> Tensor:
        return product(partial(self._factors, x, s))

    def scaled_jacobian(self, x: Tensor, s: Tensor) -> Scaled:
        """Return the Jacobian as (M, e), which stands for M 2^e and cannot overflow."""
        return scaled_product(self._factors(x, s))

    def layer_jacobians(self, x: Tensor, s: Tensor) -> list[Tensor]:
        return [*self._factors(x, s)]

    def input_jacobian(self, x: Tensor, s: Tensor) -> Tensor:
        return product(partial(self._factors, x, s, by_input=True))

    def scaled_input_jacobian(self, x: Tensor, s: Tensor) -> Scaled:
        """Return the Jacobian dy'/dx as (M, e), which stands for M 2^e."""
        return scaled_product(self._factors(x, s, by_input=True))

    def _factors(self, x: Tensor, s: Tensor, by_input: bool = False) -> Iterator[Tensor]:
        """Yield J_1..J_L, or B, J_2..J_L if `by_input` is True."""
        n = self.hidden_size
        for layer in range(self.depth):
            z = self._pre_activations(layer, x, s)
            from_input = by_input and layer == 0
            J = self._driven(z, s, self.weight_ih if from_input else self.weight_hh[layer])
            if not from_input:
                carry = -z[..., n:] if self.coupled else z[..., 2 * n :]
                J.diagonal(dim1=-2, dim2=-1).add_(torch.sigmoid(carry))
            yield J
            s = highway_layer(z, s, activation=self.activation)[0]

    def _driven(self, z: Tensor, s: Tensor, M: Tensor) -> Tensor:
        """Compute the change (..., n, k) of a layer's output by a change M (G n, k) of z."""
        f, (z_H, z_T, *z_C) = ACTIVATIONS[self.activation], z.split(self.hidden_size, -1)
        M_H, M_T, *M_C = M.split(self.hidden_size)
        h = f.function(z_H)
        by_T = (h - s if self.coupled else h) * sigmoid_derivative(z_T)
        change = by_T[..., None] * M_T
        if not self.coupled:
            change = change + (s * sigmoid_derivative(z_C[0]))[..., None] * M_C[0]
        return change.addcmul_((torch.sigmoid(z_T) * f.derivative(z_H)).unsqueeze(-1), M_H)

    def norm_bound(self, state_bound: float = 1.0) -> Tensor:
        return bound_of(*self.scaled_norm_bound(state_bound))

    def scaled_norm_bound(self, state_bound: float = 1.0) -> Scaled:
        """Return the bound as (M, e), which stands for M 2^e, with M (1, 1)."""
        if math.isinf(ACTIVATIONS[self.activation].bound):
            return self.bias.new_full((1, 1), math.inf), self.bias.new_zeros((), dtype=torch.long)
        beta, bounds = float(state_bound), []
        for R in self.weight_hh:
            H, T, *C = (matrix_norm(block, 2) for block in R.split(self.hidden_size))
            H = ACTIVATIONS[self.activation].steepest * H
            if self.coupled:
                bounds.append(torch.sqrt(1 + H * H) + (1 + beta) * T / 4)
                beta = max(beta, 1.0)
            else:
                bounds.append(1 + H + T / 4 + beta * C[0] / 4)
                beta += 1
        return scaled_product(bound.reshape(1, 1) for bound in bounds)

    def _start(self, generator: torch.Generator | None) -> None:
        n = self.hidden_size
        if self.transform_bias is not None:
            self.bias[:, n : 2 * n] = self.transform_bias
            self.bias[:, 2 * n :] = -self.transform_bias
