"""The sLSTM: an LSTM whose input gate is an exponential, with a normaliser (Beck et al. 2024,
"xLSTM", equations 8-17; one head).

    i~, f~, z~, o~ = W x + R h + b       f = sigma(f~)     z = tanh(z~)     o = sigma(o~)
    c' = f c + exp(i~) z                 n' = f n + exp(i~)                 h' = o c' / n'

so that c' / n' is a mean of the z of all steps so far, weighted. As the sums may overflow, (c, n)
are kept as (c, n) exp(m):

    m' = max(log f + m, i~)      I = exp(i~ - m')      F = exp(log f + m - m')      c' = F c + I z      n' = F n + I

which changes no h. The state is cat(h, c, n, m), 4n. Where n = 0 there is no past, whatever c and
m: log f + m counts as minus infinity, and h' = o z; so a sequence begins in a state of zeros. Else
n > 0, and a state with n < 0 means nothing. (The paper also has exp(f~) as a forget gate, and
several heads.)

The step is smooth but for a kink in (c', n', m') where log f + m = i~: h' has none. A shift of m by
-d with (c, n) times exp(d) is the same state, so that Jacobians of the joint state hold one
direction a unit that no output ever sees: where log f + m > i~ it keeps its length, as an
eigenvalue 1.

In highway terms (`gates`) of the memory u = c / n: h = z, t = I / n', c = F n / n' = 1 - t, u' = h
t + u c. Weights: weight_ih (4n, m), weight_hh (4n, n), bias (4n,), blocks i, f, z, o.

Jacobian. With d = i~ - log f - m, which is where all change of I and F comes from, [.] 1 or 0 (1/2
each where d = 0), r = c' / n':

    dI = [d < 0] I dd      dF = -[d > 0] F dd      dd = di~ - (1 - f) df~ - dm      dm' = di~ - [d < 0] dd
    dc' = F dc + c dF + z dI + I dz      dn' = F dn + n dF + dI      dh' = r do + (o / n') (dc' - r dn')

No number bounds dh'/dc = o F / n' over all states, as n' may be near 0: the norm bound is infinite.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from rhn.cells.base import scaled_rows
from rhn.cells.declared import LoopedCell
from rhn.cells.layers import Gates
from rhn.kernels.activations import tanh_derivative
from rhn.kernels.loop import product


class _Step(NamedTuple):
    """All (..., n); `input` and `forget` are I and F above, `gap` is d, the last three
    pre-activations.
    """

    h: Tensor
    c: Tensor
    n: Tensor
    m: Tensor
    z: Tensor
    o: Tensor
    input: Tensor
    forget: Tensor
    gap: Tensor
    of_f: Tensor
    of_z: Tensor
    of_o: Tensor


class SLSTM(LoopedCell):
    """sLSTM; the state is cat(h, c, n, m), 4n. `forget_bias` sets the forget gates' bias at the
    start (None: as others).
    """

    blocks = 4
    forget_bias: float | None = None
    gate_bias = "forget_bias", 1
    gate_name = "normalised input gate"
    masks = ("state",)
    candidate = 2
    parts = 4
    carries = True

    def update(self, u: Tensor, s: Tensor, weight_hh: Tensor) -> Tensor:
        return torch.cat(_update(u, s, weight_hh)[:4], -1)

    def _step(self, x: Tensor, s: Tensor) -> _Step:
        return _update(self.input_product(x), s, self.weight_hh)

    def gates(self, x: Tensor, s: Tensor) -> Gates:
        step = self._step(x, s)
        t = step.input / step.n
        return Gates((step.z,), (t,), (1 - t,), (torch.cat(step[:4], -1),))

    def jacobian(self, x: Tensor, s: Tensor) -> Tensor:
        step = self._step(x, s)
        zero = torch.zeros_like(step.h)
        by_gap = self._by_gap(step, s)
        by_c, by_n, by_m = (
            (step.forget, zero, zero),
            (zero, step.forget, zero),
            (-by_gap[0], -by_gap[1], 1 - by_gap[2]),
        )
        columns = [
            torch.cat([torch.diag_embed(d) for d in (_output(step, *by), *by)], -2)
            for by in (by_c, by_n, by_m)
        ]
        return torch.cat((self.driven(x, s, self.weight_hh), *columns), -1)

    def _by_gap(self, step: _Step, s: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """dc'/dd, dn'/dd and the part of dm'/dd that d does not share with dm, each (..., n)."""
        _, c, n, _ = s.chunk(4, -1)
        rises = (torch.sign(step.gap) + 1) / 2
        return (
            (1 - rises) * step.input * step.z - rises * step.forget * c,
            (1 - rises) * step.input - rises * step.forget * n,
            rises,
        )

    def driven(self, x: Tensor, s: Tensor, M: Tensor) -> Tensor:
        step, (M_i, M_f, M_z, M_o) = self._step(x, s), M.chunk(4)
        c_by_gap, n_by_gap, rises = (d.unsqueeze(-1) for d in self._by_gap(step, s))
        kept = scaled_rows(torch.sigmoid(-step.of_f), M_f)
        gap = M_i - kept
        dc = c_by_gap * gap + scaled_rows(step.input * tanh_derivative(step.of_z), M_z)
        dn, dm = n_by_gap * gap, kept + rises * gap
        columns = _Step(*(t.unsqueeze(-1) for t in step))
        dh = _output(columns, dc, dn) + columns.h * torch.sigmoid(-columns.of_o) * M_o
        return torch.cat((dh, dc, dn, dm), -2)

    def norm_bound(self, state_bound: float = 1.0) -> Tensor:
        return self.weight_hh.new_tensor(math.inf)


def _update(u: Tensor, s: Tensor, R: Tensor) -> _Step:
    """The step from u = W x + b (..., 4n)."""
    h, c, n, m = s.chunk(4, -1)
    i, of_f, of_z, of_o = (u + product(h, R)).chunk(4, -1)
    kept, z, o = (
        torch.where(n == 0, -math.inf, F.logsigmoid(of_f) + m),
        torch.tanh(of_z),
        torch.sigmoid(of_o),
    )
    m = torch.maximum(kept, i)
    new, forget = torch.exp(i - m), torch.exp(kept - m)
    c, n = forget * c + new * z, forget * n + new
    return _Step(o * c / n, c, n, m, z, o, new, forget, i - kept, of_f, of_z, of_o)


def _output(step: _Step, dc: Tensor, dn: Tensor, dm: Tensor | None = None) -> Tensor:
    """dh' of changes of c' and n' at a fixed o; m' does not change it."""
    return step.o / step.n * (dc - step.c / step.n * dn)
