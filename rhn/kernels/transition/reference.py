"""The deep transition as its equation says it (Pascanu et al. 2013), one step and one layer after another.

    s_1 = f(W x + R_1 y[t-1] + b_1)
    s_l = f(R_l s_{l-1} + S_l y[t-1] + b_l)      l = 2..L; S_l only for the last layers that have a shortcut
    y[t] = s_L                                   f = tanh or relu

S (L', n, n) holds the shortcut matrices of the last L' <= L - 1 layers, in order. Shapes: see `rhn.kernels`, with G = 1.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

NONLINEARITIES = {"tanh": torch.tanh, "relu": torch.relu}


def deep_transition_reference(
    x: Tensor, s0: Tensor, W: Tensor, R: Tensor, b: Tensor, S: Tensor | None = None, *, nonlinearity: str = "tanh"
) -> Tensor:
    """States y[1..T] (T, B, n) from x (T, B, m) and s0 (B, n)."""
    f, L = NONLINEARITIES[nonlinearity], R.shape[0]
    first_skip = L - (0 if S is None else S.shape[0])
    y, states = s0, []
    for x_t in x:
        s = f(F.linear(x_t, W) + F.linear(y, R[0], b[0]))
        for layer in range(1, L):
            z = F.linear(s, R[layer], b[layer])
            if layer >= first_skip:
                z = z + F.linear(y, S[layer - first_skip])
            s = f(z)
        y = s
        states.append(y)
    return torch.stack(states)
