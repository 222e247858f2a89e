"""The recurrent highway network over time (Zilly et al. 2017, equations 6-9): the equation as a loop.

    h_l = f    (1{l=1} W_H x + R_Hl s_{l-1} + b_Hl)        f = tanh, or another of `rhn.kernels.activations`
    t_l = sigma(1{l=1} W_T x + R_Tl s_{l-1} + b_Tl)        c_l likewise, or c_l = 1 - t_l if the gates are coupled
    s_l = h_l * t_l + s_{l-1} * c_l                        s_0 = y[t-1], y[t] = s_L

With dropout masks, R_j s_{l-1} becomes R_j (s_{l-1} * m_j) in every block j and layer l, and h_l * t_l becomes (h_l * m') * t_l;
the carried s_{l-1} * c_l is never masked. The blocks of W, R and b are stacked in the order H, T (, C): G = 2 coupled, 3 uncoupled.
Shapes: see `rhn.kernels`; J = 1 or G.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from rhn.kernels.activations import ACTIVATIONS
from rhn.kernels.matmul import Mask, masked, masked_linear


def highway_layer(
    z: Tensor, s: Tensor, coupled: bool, candidate_mask: Mask = None, activation: str = "tanh"
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """One layer from its pre-activations z (..., G n) and input state s (..., n): (s_l, h, t, c), each (..., n), h as masked."""
    n = s.shape[-1]
    h, t = masked(ACTIVATIONS[activation].function(z[..., :n]), candidate_mask), torch.sigmoid(z[..., n : 2 * n])
    c = 1 - t if coupled else torch.sigmoid(z[..., 2 * n :])
    return h * t + s * c, h, t, c


def reference(
    x: Tensor,
    s0: Tensor,
    W: Tensor,
    R: Tensor,
    b: Tensor,
    state_mask: Mask = None,
    candidate_mask: Mask = None,
    *,
    coupled: bool = True,
    activation: str = "tanh",
) -> Tensor:
    """States y[1..T] (T, B, n) from x (T, B, m) and s0 (B, n), with masks m (J, B, n) of the state and m' (B, n) of h, or none."""
    s, states = s0, []
    for x_t in x:
        for layer in range(R.shape[0]):
            z = masked_linear(s, R[layer], b[layer], state_mask)
            if layer == 0:
                z = z + F.linear(x_t, W)
            s, *_ = highway_layer(z, s, coupled, candidate_mask, activation)
        states.append(s)
    return torch.stack(states)
