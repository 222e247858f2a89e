"""The linear recurrences as their equations say them, one step after another.

Gated, W (2n, m) and b (2n,) in the order z, g:

    z, g = sigma(W_z x + b_z), W_g x + b_g        s' = (1 - z) s + z g

Turned: the state holds the real parts of p = n - q complex numbers, then the imaginary parts of the first q = n // 2 of them, so that
with odd n one number is real. Each is multiplied by lambda = a + i b, a (p,) and b (q,); W (n, m):

    re' = a re - b im + W_re x        im' = b re + a im + W_im x
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from rhn.kernels.validation import GATED_SCAN, TURNED_SCAN


def gated_step(u: Tensor, s: Tensor) -> Tensor:
    """s' (..., n) from u = W x + b (..., 2n) and s (..., n)."""
    z, g = u.chunk(2, -1)
    z = torch.sigmoid(z)
    return (1 - z) * s + z * g


def turned_step(u: Tensor, s: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """s' (..., n) from u = W x (..., n) and s (..., n)."""
    p, q = len(a), len(b)
    real, imaginary = s[..., :p], s[..., p:]
    return torch.cat((a * real - F.pad(b * imaginary, (0, p - q)), b * real[..., :q] + a[:q] * imaginary), -1) + u


def gated_scan_reference(x: Tensor, s0: Tensor, W: Tensor, b: Tensor) -> Tensor:
    """States (T, B, n) from x (T, B, m) and s0 (B, n)."""
    x, s, W, b = GATED_SCAN.validate(x, s0, W, b)
    states = []
    for x_t in x:
        s = gated_step(F.linear(x_t, W, b), s)
        states.append(s)
    return torch.stack(states)


def turned_scan_reference(x: Tensor, s0: Tensor, W: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """States (T, B, n) from x (T, B, m) and s0 (B, n)."""
    x, s, W, a, b = TURNED_SCAN.validate(x, s0, W, a, b)
    states = []
    for x_t in x:
        s = turned_step(F.linear(x_t, W), s, a, b)
        states.append(s)
    return torch.stack(states)
