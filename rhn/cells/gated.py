"""LSTM and GRU in torch.nn's conventions (block order, reset product); equations in `rhn.kernels.gated`.

In highway terms (`gates`): LSTM h = g, t = i, c = f; GRU h = n, t = 1 - z, c = z.

LSTM Jacobian of the joint state (h, c), 2n x 2n. With k = diag(c f') R_f + diag(g i') R_i + diag(i g') R_g (= dc'/dh):

    dc'/dh = k        dh'/dh = diag(o tanh'(c')) k + diag(tanh(c') o') R_o
    dc'/dc = diag(f)  dh'/dc = diag(o tanh'(c') f)

    input: d(h', c')/dx is the left half, d(h', c')/dh, with W in place of R
    bound: ||k|| <= beta ||R_f|| / 4 + ||R_i|| / 4 + ||R_g|| =: a;  ||A|| <= sqrt(2 (1 + a^2)) + ||R_o|| / 4

GRU Jacobian: diag(z) + diag((h - n) z') R_z + diag((1-z) n') (diag(r) R_n + diag(v r') R_r), with v = R_n h + q.
dh'/dx has no diag(z) and no diag(r), and W in place of R. Norm bound: with
|v_i| <= max_i (beta sum_j |R_n,ij| + |q_i|) =: w and e = ||R_n|| + w ||R_r|| / 4:  ||A|| <= sqrt(1 + e^2) + (1 + beta) ||R_z|| / 4.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rhn import kernels
from rhn.cells.base import CellMasks, spectral_norm
from rhn.cells.layers import GateBlocks, Gates
from rhn.cells.looped import SingleLayerCell
from rhn.kernels.activations import sigmoid_derivative, tanh_derivative
from rhn.kernels.function import is_alone
from rhn.kernels.gated import gru_recurrent_bias, gru_step, lstm_step


class _Gated(SingleLayerCell):
    """Base of LSTM and GRU: weight_ih (G n, m), weight_hh (G n, n), bias (G n,)."""

    masks = ("state", "candidate")
    candidate = 2

    def _suits_torch(self, x: Tensor, s0: Tensor) -> bool:
        """Whether torch's own kernels compute a call: they are faster, but have no `vmap` rule and keep only the last state."""
        usual = self.kernel == "manual" and x.is_cpu and x.dtype in (torch.float32, torch.float64) and x.numel() > 0
        same = all(getattr(getattr(self, name), "__func__", None) in _OF_TORCH for name in ("step", "states"))
        return usual and same and is_alone(x, s0, *self.parameters()) and not torch.is_autocast_enabled("cpu")


class LSTM(_Gated):
    """Long short-term memory; the state is cat(h, c), 2n. `forget_bias` sets the forget gates' bias at the start (None: as others)."""

    blocks = 4
    parts = 2
    options = ("forget_bias",)
    gate_bias = "forget_bias", 1
    gate = GateBlocks(0, carry=1)
    gate_name = "input gate"

    def __init__(self, input_size, hidden_size, depth=1, *, forget_bias: float | None = None, **keywords):
        self.forget_bias = None if forget_bias is None else float(forget_bias)
        super().__init__(input_size, hidden_size, depth, **keywords)

    def _pre_activations(self, x: Tensor, h: Tensor) -> Tensor:
        """Pre-activations of the blocks i, f, g, o (..., 4n)."""
        return F.linear(x, self.weight_ih, self.bias) + F.linear(h, self.weight_hh)

    def _step(self, x: Tensor, s: Tensor):
        h, c = s.chunk(2, -1)
        return lstm_step(self._pre_activations(x, h), c)

    def step(self, x: Tensor, s: Tensor) -> Tensor:
        h, c, _ = self._step(x, s)
        return torch.cat((h, c), -1)

    def states(self, x: Tensor, s0: Tensor, dropout: CellMasks | None = None) -> Tensor:
        x, (_, state, candidate) = self.mask_input(x, dropout)
        arguments = x, s0, self.weight_ih, self.weight_hh, self.bias, state, candidate
        return kernels.LSTM(*arguments, reference=self.kernel == "reference")

    def _run(self, x: Tensor, s0: Tensor) -> tuple[Tensor, Tensor]:
        if not self._suits_torch(x, s0):
            return super()._run(x, s0)
        (x, s0, *weights, _, _), _ = kernels.LSTM.check(x, s0, self.weight_ih, self.weight_hh, self.bias)
        state = tuple(t.contiguous() for t in s0.unsqueeze(0).chunk(2, -1))
        outputs, *last = torch.lstm(
            x, state, [*weights, torch.zeros_like(self.bias)], True, 1, 0.0, self.training, False, False
        )
        return outputs, torch.cat(last, -1).squeeze(0)

    def gates(self, x: Tensor, s: Tensor) -> Gates:
        h, c, (i, f, g, _) = self._step(x, s)
        return Gates((g,), (i,), (f,), (torch.cat((h, c), -1),))

    def jacobian(self, x: Tensor, s: Tensor) -> Tensor:
        """d(h', c')/d(h, c) (..., 2n, 2n), see above."""
        _, c_new, (_, f, _, o) = self._step(x, s)
        by_c = torch.cat((torch.diag_embed(o * tanh_derivative(c_new) * f), torch.diag_embed(f)), -2)
        return torch.cat((self._driven(x, s, self.weight_hh), by_c), -1)

    def input_jacobian(self, x: Tensor, s: Tensor) -> Tensor:
        """d(h', c')/dx (..., 2n, m), see above."""
        return self._driven(x, s, self.weight_ih)

    def _driven(self, x: Tensor, s: Tensor, M: Tensor) -> Tensor:
        """The change (..., 2n, k) of (h', c') at fixed c by a change M (4n, k) of the pre-activations."""
        h, c = s.chunk(2, -1)
        z = self._pre_activations(x, h)
        (z_i, z_f, z_g, z_o), (M_i, M_f, M_g, M_o) = z.chunk(4, -1), M.chunk(4)
        _, c_new, (i, _, g, o) = lstm_step(z, c)
        slopes = (
            (c * sigmoid_derivative(z_f), M_f),
            (g * sigmoid_derivative(z_i), M_i),
            (i * tanh_derivative(z_g), M_g),
        )
        k = sum(slope.unsqueeze(-1) * block for slope, block in slopes)
        by_o = torch.tanh(c_new) * sigmoid_derivative(z_o)
        dh = (o * tanh_derivative(c_new)).unsqueeze(-1) * k + by_o.unsqueeze(-1) * M_o
        return torch.cat((dh, k), -2)

    def norm_bound(self, state_bound: float = 1.0) -> Tensor:
        """A bound on the Jacobian's 2-norm over all inputs and all states (h, c) with entries within state_bound, see above."""
        i, f, g, o = (spectral_norm(block) for block in self.weight_hh.chunk(4))
        a = state_bound * f / 4 + i / 4 + g
        return torch.sqrt(2 * (1 + a * a)) + o / 4


class GRU(_Gated):
    """Gated recurrent unit; adds bias_hn (n,), the bias q inside the reset product. `update_bias` sets that of z at the start."""

    blocks = 3
    options = ("update_bias",)
    gate_bias = "update_bias", 1
    gate = GateBlocks(1, opens=False)
    gate_name = "1 - update gate"

    def __init__(self, input_size, hidden_size, depth=1, *, update_bias: float | None = None, **keywords):
        self.update_bias = None if update_bias is None else float(update_bias)
        super().__init__(input_size, hidden_size, depth, **keywords)

    def _add_parameters(self, where: dict) -> None:
        self.bias_hn = nn.Parameter(torch.empty(self.hidden_size, **where))

    def _products(self, x: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        """W x + b and R h + (0, 0, q), each (..., 3n)."""
        return F.linear(x, self.weight_ih, self.bias), F.linear(s, self.weight_hh, gru_recurrent_bias(self.bias_hn))

    def step(self, x: Tensor, s: Tensor) -> Tensor:
        return gru_step(*self._products(x, s), s)[0]

    def states(self, x: Tensor, s0: Tensor, dropout: CellMasks | None = None) -> Tensor:
        x, (_, state, candidate) = self.mask_input(x, dropout)
        arguments = x, s0, self.weight_ih, self.weight_hh, self.bias, self.bias_hn, state, candidate
        return kernels.GRU(*arguments, reference=self.kernel == "reference")

    def _run(self, x: Tensor, s0: Tensor) -> tuple[Tensor, Tensor]:
        if not self._suits_torch(x, s0):
            return super()._run(x, s0)
        given = x, s0, self.weight_ih, self.weight_hh, self.bias, self.bias_hn
        (x, s0, *weights, q, _, _), _ = kernels.GRU.check(*given)
        state = s0.unsqueeze(0).contiguous()
        outputs, last = torch.gru(
            x, state, [*weights, gru_recurrent_bias(q)], True, 1, 0.0, self.training, False, False
        )
        return outputs, last.squeeze(0)

    def gates(self, x: Tensor, s: Tensor) -> Gates:
        h, (_, z, n) = gru_step(*self._products(x, s), s)
        return Gates((n,), (1 - z,), (z,), (h,))

    def jacobian(self, x: Tensor, s: Tensor) -> Tensor:
        """dh'/dh (..., n, n), see above."""
        _, (r, z, _) = gru_step(*self._products(x, s), s)
        return self._driven(x, s, self.weight_hh, r) + torch.diag_embed(z)

    def input_jacobian(self, x: Tensor, s: Tensor) -> Tensor:
        """dh'/dx (..., n, m), see above."""
        return self._driven(x, s, self.weight_ih, 1)

    def _driven(self, x: Tensor, s: Tensor, M: Tensor, reset: Tensor | int) -> Tensor:
        """The change (..., n, k) of h' by a change M (3n, k) of the pre-activations, its block n multiplied by `reset`."""
        (u_r, u_z, u_n), (v_r, v_z, v) = (each.chunk(3, -1) for each in self._products(x, s))
        z_r, z_z, (M_r, M_z, M_n) = u_r + v_r, u_z + v_z, M.chunk(3)
        z_n = u_n + torch.sigmoid(z_r) * v
        slope = torch.sigmoid(-z_z) * tanh_derivative(z_n)
        change = ((s - torch.tanh(z_n)) * sigmoid_derivative(z_z)).unsqueeze(-1) * M_z
        by_r = slope * v * sigmoid_derivative(z_r)
        return change + (slope * reset).unsqueeze(-1) * M_n + by_r.unsqueeze(-1) * M_r

    def norm_bound(self, state_bound: float = 1.0) -> Tensor:
        """A bound on ||dh'/dh||_2 over all inputs and all states with entries within state_bound, see above."""
        R_r, R_z, R_n = self.weight_hh.chunk(3)
        w = (state_bound * R_n.abs().sum(-1) + self.bias_hn.abs()).max()
        e = spectral_norm(R_n) + w * spectral_norm(R_r) / 4
        return torch.sqrt(1 + e * e) + (1 + state_bound) * spectral_norm(R_z) / 4


_OF_TORCH = (LSTM.step, LSTM.states, GRU.step, GRU.states)
"""Methods that torch's kernels compute, if no subclass or object has its own."""
