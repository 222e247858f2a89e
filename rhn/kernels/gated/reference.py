"""LSTM and GRU as their equations say them, in torch.nn's conventions, one step after another.

LSTM, state cat(h, c) (.., 2n), blocks in the order i, f, g, o:

    i, f, o = sigma(W x + R h + b)    g = tanh(W x + R h + b)    c' = f c + i g    h' = o tanh(c')

GRU, blocks in the order r, z, n, with a bias q of its own inside the reset product:

    r, z = sigma(W x + R h + b)       n = tanh(W_n x + b_n + r (R_n h + q))        h' = (1 - z) n + z h

With dropout masks, R h becomes R (h * m) and the candidates g and n become g * m' and n * m'; c and the carried h are never masked.
Here R (4n, n) or (3n, n) and b (4n,) or (3n,) have no depth axis; m (1, B, n) and m' (B, n).
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from rhn.kernels.masked import Mask, masked, masked_linear
from rhn.kernels.validation import GRU, LSTM


def lstm_step(z: Tensor, c: Tensor, candidate_mask: Mask = None) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
    """(h', c', (i, f, g, o)), each (..., n), from the pre-activations z (..., 4n) and the cell state c (..., n)."""
    i, f, g, o = z.chunk(4, -1)
    i, f, g, o = torch.sigmoid(i), torch.sigmoid(f), masked(torch.tanh(g), candidate_mask), torch.sigmoid(o)
    c = f * c + i * g
    return o * torch.tanh(c), c, (i, f, g, o)


def gru_step(u: Tensor, v: Tensor, h: Tensor, candidate_mask: Mask = None) -> tuple[Tensor, tuple[Tensor, ...]]:
    """(h', (r, z, n)), each (..., n), from u = W x + b (..., 3n), v = R h + (0, 0, q) (..., 3n) and the state h (..., n)."""
    (u_r, u_z, u_n), (v_r, v_z, v_n) = u.chunk(3, -1), v.chunk(3, -1)
    r, z = torch.sigmoid(u_r + v_r), torch.sigmoid(u_z + v_z)
    n = masked(torch.tanh(u_n + r * v_n), candidate_mask)
    return (1 - z) * n + z * h, (r, z, n)


def gru_recurrent_bias(q: Tensor) -> Tensor:
    """(0, 0, q): the candidate's inner bias q (n,) as the bias (3n,) of the recurrent product."""
    return F.pad(q, (2 * q.shape[-1], 0))


def lstm_reference(
    x: Tensor, s0: Tensor, W: Tensor, R: Tensor, b: Tensor, state_mask: Mask = None, candidate_mask: Mask = None
) -> Tensor:
    """States cat(h, c) (T, B, 2n) from x (T, B, m) and s0 (B, 2n), with masks of h and g or none."""
    x, s0, W, R, b, state_mask, candidate_mask = LSTM.validate(x, s0, W, R, b, state_mask, candidate_mask)
    (h, c), states = s0.chunk(2, -1), []
    for x_t in x:
        h, c, _ = lstm_step(F.linear(x_t, W, b) + masked_linear(h, R, None, state_mask), c, candidate_mask)
        states.append(torch.cat((h, c), -1))
    return torch.stack(states)


def gru_reference(
    x: Tensor,
    s0: Tensor,
    W: Tensor,
    R: Tensor,
    b: Tensor,
    q: Tensor,
    state_mask: Mask = None,
    candidate_mask: Mask = None,
) -> Tensor:
    """States (T, B, n) from x (T, B, m) and s0 (B, n), with masks of h and n or none."""
    x, h, W, R, b, q, state_mask, candidate_mask = GRU.validate(x, s0, W, R, b, q, state_mask, candidate_mask)
    states = []
    for x_t in x:
        v = masked_linear(h, R, gru_recurrent_bias(q), state_mask)
        h, _ = gru_step(F.linear(x_t, W, b), v, h, candidate_mask)
        states.append(h)
    return torch.stack(states)
