"""LSTM and GRU as their equations say them, in torch.nn's conventions, one step after another.

LSTM, state cat(h, c) (.., 2n), blocks in the order i, f, g, o:

    i, f, o = sigma(W x + R h + b)    g = tanh(W x + R h + b)    c' = f c + i g    h' = o tanh(c')

GRU, blocks in the order r, z, n, with a bias q of its own inside the reset product:

    r, z = sigma(W x + R h + b)       n = tanh(W_n x + b_n + r (R_n h + q))        h' = (1 - z) n + z h

Here R (4n, n) or (3n, n) and b (4n,) or (3n,) have no depth axis.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def lstm_step(z: Tensor, c: Tensor) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor, Tensor, Tensor]]:
    """(h', c', (i, f, g, o)), each (..., n), from the pre-activations z (..., 4n) and the cell state c (..., n)."""
    i, f, g, o = z.chunk(4, -1)
    i, f, g, o = torch.sigmoid(i), torch.sigmoid(f), torch.tanh(g), torch.sigmoid(o)
    c = f * c + i * g
    return o * torch.tanh(c), c, (i, f, g, o)


def gru_step(u: Tensor, v: Tensor, h: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
    """(h', (r, z, n)), each (..., n), from u = W x + b (..., 3n), v = R h + (0, 0, q) (..., 3n) and the state h (..., n)."""
    (u_r, u_z, u_n), (v_r, v_z, v_n) = u.chunk(3, -1), v.chunk(3, -1)
    r, z = torch.sigmoid(u_r + v_r), torch.sigmoid(u_z + v_z)
    n = torch.tanh(u_n + r * v_n)
    return (1 - z) * n + z * h, (r, z, n)


def gru_recurrent_bias(q: Tensor) -> Tensor:
    """(0, 0, q): the candidate's inner bias q (n,) as the bias (3n,) of the recurrent product."""
    return F.pad(q, (2 * q.shape[-1], 0))


def lstm_reference(x: Tensor, s0: Tensor, W: Tensor, R: Tensor, b: Tensor) -> Tensor:
    """States cat(h, c) (T, B, 2n) from x (T, B, m) and s0 (B, 2n)."""
    (h, c), states = s0.chunk(2, -1), []
    for x_t in x:
        h, c, _ = lstm_step(F.linear(x_t, W, b) + F.linear(h, R), c)
        states.append(torch.cat((h, c), -1))
    return torch.stack(states)


def gru_reference(x: Tensor, s0: Tensor, W: Tensor, R: Tensor, b: Tensor, q: Tensor) -> Tensor:
    """States (T, B, n) from x (T, B, m) and s0 (B, n)."""
    h, states = s0, []
    for x_t in x:
        h, _ = gru_step(F.linear(x_t, W, b), F.linear(h, R, gru_recurrent_bias(q)), h)
        states.append(h)
    return torch.stack(states)
