"""The deep transition over time (Pascanu et al. 2013): the equation as a loop. L = 1 is the plain RNN.

    s_1 = f(W x + R_1 y[t-1] + b_1)
    s_l = f(R_l s_{l-1} + S_l y[t-1] + b_l)      l = 2..L; S_l only for the last layers that have a shortcut
    y[t] = s_L                                   f = tanh or relu

With a dropout mask m, every state that enters a matrix R_l or S_l is multiplied by m first.
S (L', n, n) holds the shortcut matrices of the last L' <= L - 1 layers, in order. Shapes: see `rhn.kernels`, with G = J = 1.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from rhn.kernels.activations import ACTIVATIONS
from rhn.kernels.matmul import masked_linear

NONLINEARITIES = {name: ACTIVATIONS[name].function for name in ("tanh", "relu")}


def reference(
    x: Tensor,
    s0: Tensor,
    W: Tensor,
    R: Tensor,
    b: Tensor,
    S: Tensor | None = None,
    state_mask: Tensor | None = None,
    *,
    activation: str = "tanh",
) -> Tensor:
    """States y[1..T] (T, B, n) from x (T, B, m) and s0 (B, n), with a mask (1, B, n) of the state or none."""
    f, L = NONLINEARITIES[activation], R.shape[0]
    first_skip = L - (0 if S is None else S.shape[0])
    y, states = s0, []
    for x_t in x:
        s = f(F.linear(x_t, W) + masked_linear(y, R[0], b[0], state_mask))
        for layer in range(1, L):
            z = masked_linear(s, R[layer], b[layer], state_mask)
            if layer >= first_skip:
                z = z + masked_linear(y, S[layer - first_skip], None, state_mask)
            s = f(z)
        y = s
        states.append(y)
    return torch.stack(states)
