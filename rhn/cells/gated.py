"""LSTM and GRU in torch.nn's conventions (block order, reset product). `rhn.kernels.gated` has the
equations.

In the terms of highway networks (`gates`), the LSTM has h = g, t = i, c = f; the GRU has h = n, t =
1 - z, c = z.

The LSTM's Jacobian of the joint state (h, c), 2n x 2n:

    dc'/dh = k        dh'/dh = diag(o tanh'(c')) k + diag(tanh(c') o') R_o
    dc'/dc = diag(f)  dh'/dc = diag(o tanh'(c') f)

    k = diag(c f') R_f + diag(g i') R_i + diag(i g') R_g

    input: d(h', c')/dx is the left half, d(h', c')/dh, with W instead of R
    bound: ||A|| <= sqrt(2 (1 + a^2)) + ||R_o|| / 4
           ||k|| <= beta ||R_f|| / 4 + ||R_i|| / 4 + ||R_g|| =: a

The GRU's Jacobian, with v = R_n h + q:

    dh'/dh = diag(z) + diag((h - n) z') R_z + diag((1-z) n') (diag(r) R_n + diag(v r') R_r)

    input: dh'/dx is dh'/dh without diag(z) and diag(r), with W instead of R
    bound: ||A|| <= sqrt(1 + e^2) + (1 + beta) ||R_z|| / 4
           |v_i| <= max_i (beta sum_j |R_n,ij| + |q_i|) =: w,  e = ||R_n|| + w ||R_r|| / 4
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.linalg import matrix_norm

from rhn import kernels
from rhn.cells.base import DeclaredCell, Shapes, optional
from rhn.cells.gates import CellMasks, Gates
from rhn.cells.layers import GateBlocks, Layer, Part
from rhn.kernels.activations import sigmoid_derivative, tanh_derivative
from rhn.kernels.gated import gru_recurrent_bias, gru_step, lstm_step
from rhn.kernels.kernel import is_alone


class _Gated(DeclaredCell):
    """The base class of LSTM and GRU: weight_ih (G n, m), weight_hh (G n, n), bias (G n,)."""

    deep = False
    masks = ("state", "candidate")
    candidate = 2
    gate: GateBlocks
    gate_bias: str  # the option with the initial bias of block 1
    _driven: Callable[..., Tensor]
    recurrence = kernels.LSTM

    def shapes(self) -> Shapes:
        rows = self.blocks * self.hidden_size
        R = rows, self.hidden_size
        return {"weight_ih": (rows, self.input_size), "weight_hh": R, "bias": (rows,)}

    def layers(self) -> tuple[Layer, ...]:
        W, R, b = map(Part, ("weight_ih", "weight_hh", "bias"))
        return (Layer(input=W, recurrent=R, bias=b, gate=self.gate),)

    def _start(self, generator: torch.Generator | None) -> None:
        bias = getattr(self, self.gate_bias)
        if bias is not None:
            self.bias.chunk(self.blocks)[1].fill_(bias)

    def step(self, x: Tensor, s: Tensor) -> Tensor:
        return self.gates(x, s).states[-1]

    def states(self, x: Tensor, s0: Tensor, dropout: CellMasks | None = None) -> Tensor:
        _, *masks = dropout or CellMasks()
        weights = [getattr(self, name) for name in self.shapes()]
        return self.recurrence(x, s0, *weights, *masks, reference=self.kernel == "reference")

    def _run(self, x: Tensor, s0: Tensor, *dropout: CellMasks) -> tuple[Tensor, Tensor]:
        if dropout or not self._suits_torch(x, s0):
            return super()._run(x, s0, *dropout)
        W, R, b, *q = weights = [getattr(self, name) for name in self.shapes()]
        self.recurrence.check(x, s0, *weights)
        state = [part.contiguous() for part in s0.unsqueeze(0).chunk(self.parts, -1)]
        weights = [W, R, b, gru_recurrent_bias(*q) if q else torch.zeros_like(b)]
        options = True, 1, 0.0, self.training, False, False
        if self.parts == 2:
            outputs, *last = torch.lstm(x, state, weights, *options)
        else:
            outputs, *last = torch.gru(x, state[0], weights, *options)
        return outputs, torch.cat(last, -1).squeeze(0)

    def _suits_torch(self, x: Tensor, s0: Tensor) -> bool:
        """Return True if torch's own, faster kernels can compute a call; they have no vmap rule."""
        numbers = x.is_cpu and x.dtype in (torch.float32, torch.float64) and x.numel() > 0
        own = getattr(self.states, "__func__", None) is _Gated.states
        plain = self.kernel == "manual" and not torch.is_autocast_enabled("cpu")
        return numbers and own and plain and is_alone(x, s0, *self.parameters())

    def input_jacobian(self, x: Tensor, s: Tensor) -> Tensor:
        return self._driven(x, s, self.weight_ih)


class LSTM(_Gated):
    """Long short-term memory. The state is cat(h, c). `forget_bias` is the initial bias of the
    forget gates (None: drawn like all other biases).
    """

    blocks = 4
    parts = 2
    gate_bias = "forget_bias"
    options: tuple[str, ...] = (gate_bias,)
    gate = GateBlocks(0, carry=1)
    gate_name, carry_name = "input gate", "forget gate"

    def __init__(self, *sizes: int, forget_bias: float | None = None, **others):
        self.forget_bias = optional("forget_bias", forget_bias)
        super().__init__(*sizes, **others)

    def _pre_activations(self, x: Tensor, h: Tensor) -> Tensor:
        """Compute the pre-activations of the blocks i, f, g, o (..., 4n)."""
        return F.linear(x, self.weight_ih, self.bias) + F.linear(h, self.weight_hh)

    def _step(self, x: Tensor, s: Tensor):
        h, c = s.chunk(2, -1)
        return lstm_step(self._pre_activations(x, h), c)

    def gates(self, x: Tensor, s: Tensor) -> Gates:
        h, c, (i, f, g, _) = self._step(x, s)
        return Gates((g,), (i,), (f,), (torch.cat((h, c), -1),))

    def jacobian(self, x: Tensor, s: Tensor) -> Tensor:
        _, c_new, (_, f, _, o) = self._step(x, s)
        dh = torch.diag_embed(o * tanh_derivative(c_new) * f)
        by_c = torch.cat((dh, torch.diag_embed(f)), -2)
        return torch.cat((self._driven(x, s, self.weight_hh), by_c), -1)

    def _driven(self, x: Tensor, s: Tensor, M: Tensor) -> Tensor:
        """Compute the change (..., 2n, k) of s' by a change M (4n, k) of the pre-activations."""
        h, c = s.chunk(2, -1)
        z = self._pre_activations(x, h)
        (z_i, z_f, z_g, z_o), (M_i, M_f, M_g, M_o) = z.chunk(4, -1), M.chunk(4)
        _, c_new, (i, _, g, o) = lstm_step(z, c)
        by_f, by_i = c * sigmoid_derivative(z_f), g * sigmoid_derivative(z_i)
        by_g = i * tanh_derivative(z_g)
        k = by_f[..., None] * M_f + by_i[..., None] * M_i + by_g[..., None] * M_g
        by_o = torch.tanh(c_new) * sigmoid_derivative(z_o)
        dh = (o * tanh_derivative(c_new))[..., None] * k + by_o[..., None] * M_o
        return torch.cat((dh, k), -2)

    def norm_bound(self, state_bound: float = 1.0) -> Tensor:
        i, f, g, o = (matrix_norm(block, 2) for block in self.weight_hh.chunk(4))
        a = state_bound * f / 4 + i / 4 + g
        return torch.sqrt(2 * (1 + a * a)) + o / 4


class GRU(_Gated):
    """Gated recurrent unit. The weight bias_hn (n,) is the bias q inside the reset product.
    `update_bias` is the initial bias of the update gate z (None: drawn like all other biases).
    """

    blocks = 3
    gate_bias = "update_bias"
    options: tuple[str, ...] = (gate_bias,)
    gate = GateBlocks(1, opens=False)
    gate_name = "1 - update gate"
    recurrence = kernels.GRU

    def __init__(self, *sizes: int, update_bias: float | None = None, **others):
        self.update_bias = optional("update_bias", update_bias)
        super().__init__(*sizes, **others)

    def shapes(self) -> Shapes:
        return super().shapes() | {"bias_hn": (self.hidden_size,)}

    def _products(self, x: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        """Compute W x + b and R h + (0, 0, q), each (..., 3n)."""
        recurrent = F.linear(s, self.weight_hh, gru_recurrent_bias(self.bias_hn))
        return F.linear(x, self.weight_ih, self.bias), recurrent

    def gates(self, x: Tensor, s: Tensor) -> Gates:
        h, (_, z, n) = gru_step(*self._products(x, s), s)
        return Gates((n,), (1 - z,), (z,), (h,))

    def jacobian(self, x: Tensor, s: Tensor) -> Tensor:
        _, (r, z, _) = gru_step(*self._products(x, s), s)
        return self._driven(x, s, self.weight_hh, r) + torch.diag_embed(z)

    def _driven(self, x: Tensor, s: Tensor, M: Tensor, reset: Tensor | int = 1) -> Tensor:
        """As for the LSTM, with the block n of M (3n, k) multiplied by `reset`."""
        (u_r, u_z, u_n), (v_r, v_z, v) = (each.chunk(3, -1) for each in self._products(x, s))
        z_r, z_z, (M_r, M_z, M_n) = u_r + v_r, u_z + v_z, M.chunk(3)
        z_n = u_n + torch.sigmoid(z_r) * v
        slope = torch.sigmoid(-z_z) * tanh_derivative(z_n)
        by_z = (s - torch.tanh(z_n)) * sigmoid_derivative(z_z)
        by_r = slope * v * sigmoid_derivative(z_r)
        return by_z[..., None] * M_z + (slope * reset)[..., None] * M_n + by_r[..., None] * M_r

    def norm_bound(self, state_bound: float = 1.0) -> Tensor:
        R_r, R_z, R_n = self.weight_hh.chunk(3)
        w = (state_bound * R_n.abs().sum(-1) + self.bias_hn.abs()).max()
        e = matrix_norm(R_n, 2) + w * matrix_norm(R_r, 2) / 4
        return torch.sqrt(1 + e * e) + (1 + state_bound) * matrix_norm(R_z, 2) / 4
