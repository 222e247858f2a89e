"""The initialisation `memory`: half of the units sense, the others remember.

Half of the units sense: they compute random features of the present input, without recurrence. The
other half remember: they read no input, and rotate in planes. The sensing units write so little to
the remembering units that tanh stays nearly linear; later layers are the identity. With ReLU one
unit of each plane remains, which each time step multiplies by the cosine of the plane's angle.
Sources: Henaff, Szlam and LeCun 2016 (rotations); Bacciu, Carta and Sperduti 2019 (linear memory);
Mikolov et al. 2014 (SCRN); S4D and LRU (spread angles); Le et al. 2015.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

WRITTEN = 0.4  # norm of what T steps write into a remembering unit: tanh is nearly linear there


def for_steps(init: str | None, steps: int) -> str | None:
    """Return an initialisation; `memory` without a number of time steps gets this one.

    >>> for_steps("memory", 50), for_steps("gaussian:0.1", 50)
    ('memory:50', 'gaussian:0.1')
    """
    return f"memory:{steps}" if init == "memory" else init


@torch.no_grad()
def remember(
    module: nn.Module, layers: Sequence, steps: float, generator: torch.Generator | None
) -> bool:
    """Change the weights of a tanh or ReLU cell without gates in place, for sequences of `steps`
    time steps. Return False for any other module, which stays as it is.

    >>> from rhn.cells.layers import Layer, Part
    >>> rnn = nn.RNN(3, 8)
    >>> layer = Layer(input=Part("weight_ih_l0"), recurrent=Part("weight_hh_l0"))
    >>> remember(rnn, [layer], 100, None), rnn.weight_ih_l0[4:].any().item()
    (True, False)
    """
    n: Any = getattr(module, "hidden_size", None)
    is_plain = n is not None and getattr(module, "nonlinearity", "") in ("tanh", "relu")
    parts = [layer.recurrent for layer in layers if layer.recurrent and not layer.gate]
    if not is_plain or not parts or len(parts) < len(layers):
        return False
    R, *deeper = (module.get_parameter(part.parameter)[part.index] for part in parts)
    if n < 4 or R.dim() < 2:  # a number for each unit
        return False
    half, steps = n - n // 4 * 2, max(2.0, steps)
    std = float(f"{WRITTEN / math.sqrt(steps * half):.4g}")
    if W := layers[0].input:
        module.get_parameter(W.parameter)[W.index][half:] = 0
    R[:half] = 0
    draw = torch.empty(n - half, half, dtype=torch.float64, device="cpu")
    R[half:, :half] = draw.normal_(0.0, std, generator=generator).to(R)
    # rotations by angles from pi to pi / steps, evenly spaced in their logarithm
    shares = torch.linspace(0, 1, n // 4, dtype=torch.float64, device="cpu")
    angles = torch.pi / steps**shares
    c, s = angles.cos().diag(), angles.sin().diag()
    R[half:, half:] = torch.vstack([torch.hstack([c, -s]), torch.hstack([s, c])]).to(R)
    for matrix in deeper:
        matrix.copy_(torch.eye(n, device=matrix.device))
    for layer in layers[1:]:
        if S := layer.skip:
            module.get_parameter(S.parameter)[S.index].zero_()
    return True
