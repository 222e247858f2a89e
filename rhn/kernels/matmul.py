"""The matrix products that all hand-derived recurrences share, over K stacked models, including
those for a state with a dropout mask.

In each batched product of torch, no model's slice depends on another.

With dropout (Gal and Ghahramani 2016), where one mask serves every time step and every layer:

    z_j  = R_j (s * m_j) + addend_j
    ds   = carried + sum_j m_j * (R_j' dz_j)
    dR_j = dz_j (s * m_j)'

Block j of R's rows has the mask m_j, j = 1..J. Masks are (K or 1, J, B, n). Without masks (None)
all rows are one block.
"""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

# of float32: MKL's small products give other bits off a boundary of 64 bytes
ALIGNMENT = 16
Mask = Tensor | None
"""A dropout mask with entries 0 or 1 / (1 - rate); None drops nothing."""


def workspace(like: Tensor, K: int, *sizes: int) -> Tensor:
    """Return an empty buffer (K, ..., B, c), in which the rows of a stage have no gaps."""
    *stage, B, c = sizes
    return like.new_empty(*stage, K, B, c).movedim(len(stage), 0)


def stages(buffer: Tensor) -> list[tuple[Tensor, ...]]:
    """Return views [layer][time] of a buffer (K, L, T, B, ...); one at each stage is slower."""
    return [layer.unbind(1) for layer in buffer.unbind(1)]


def input_product(x: Tensor, W: Tensor, b: Tensor, K: int) -> Tensor:
    """Compute x W' + b for all time steps in one product: x (K or 1, T, B, m), W (K or 1, g, m), b
    (K or 1, g) -> (K, T, B, g).
    """
    rows, columns = (t.expand(K, -1, -1) for t in (x.flatten(1, 2), W.transpose(1, 2)))
    return torch.baddbmm(b.unsqueeze(1), rows, columns).unflatten(1, x.shape[1:3])


def input_gradient(dz: Tensor, W: Tensor, x: Tensor) -> Tensor:
    """Compute dz W for all time steps: dz (K, T B, g), W (K or 1, g, m) -> (K, T, B, m)."""
    return torch.bmm(dz, W.expand(len(dz), -1, -1)).unflatten(1, x.shape[1:3])


def weight_gradient(dz: Tensor, inputs: Tensor) -> Tensor:
    """Compute dz' inputs over all rows N: (..., N, g), (..., N, k) -> (..., g, k), broadcast."""
    # not torch.broadcast_shapes, which imports torch's compiler: half a second
    batch = np.broadcast_shapes(dz.shape[:-2], inputs.shape[:-2])
    dz, inputs = (t.expand(*batch, *t.shape[-2:]).flatten(0, -3) for t in (dz, inputs))
    (K, _, g), k = dz.shape, inputs.shape[-1]
    slots = dz.new_empty(K, g * k + -g * k % ALIGNMENT)[:, : g * k].unflatten(1, (g, k))
    return torch.bmm(dz.mT, inputs, out=slots).unflatten(0, batch).contiguous()


def masked(t: Tensor, mask: Mask) -> Tensor:
    """Return t * mask, or t if the mask is None."""
    return t if mask is None else t * mask


def masked_linear(s: Tensor, R: Tensor, b: Tensor | None, mask: Mask) -> Tensor:
    """Compute R (s * m) + b of one model: s (B, n), R (g, n), b (g,), mask (J, B, n) -> (B, g)."""
    if mask is None:
        return F.linear(s, R, b)
    pairs = zip(mask, R.chunk(len(mask)), strict=True)
    z = torch.cat([F.linear(s * m, block) for m, block in pairs], -1)
    return z if b is None else z + b


def state_weight_gradient(dz: Tensor, S: Tensor, mask: Mask) -> Tensor:
    """Compute dR (K, L, g, n): dz (K, L, T B, g), states S (K, L or 1, T, B, n)."""
    masks = (None,) if mask is None else mask.unbind(1)
    states = ((S if m is None else S * m[:, None, None]).flatten(2, 3) for m in masks)
    pairs = zip(dz.chunk(len(masks), -1), states, strict=True)
    return torch.cat([weight_gradient(*pair) for pair in pairs], -2)


class StateProduct:
    """The product of a layer's matrix R (K or 1, g, n) with states, and of R' with gradients."""

    def __init__(self, R: Tensor, K: int, B: int, mask: Mask):
        self.masks = (None,) if mask is None else mask.unbind(1)
        self.blocks = [R_j.expand(K, -1, -1) for R_j in R.chunk(len(self.masks), 1)]
        self.room = None if mask is None else R.new_empty(K, B, R.shape[-1])

    def forward(self, out: Tensor, s: Tensor, addend: Tensor) -> None:
        """Write z = R s + addend (K, B, g) into `out`; the addend (K, B or 1, g) may be `out`."""
        outs, addends = self._parts(out), self._parts(addend)
        for R, m, out_j, addend_j in zip(self.blocks, self.masks, outs, addends, strict=True):
            given = s if m is None else torch.mul(s, m, out=self.room)
            torch.baddbmm(addend_j, given, R.mT, out=out_j)

    def backward(self, ds: Tensor, dz: Tensor) -> None:
        """Add R' dz to ds (K, B, n) in place, from dz (K, B, g)."""
        for R, m, dz_j in zip(self.blocks, self.masks, self._parts(dz), strict=True):
            if m is None:
                torch.baddbmm(ds, dz_j, R, out=ds)
            else:
                ds.addcmul_(torch.bmm(dz_j, R, out=self.room), m)

    def _parts(self, t: Tensor) -> Sequence[Tensor]:
        """Return the columns of each block; a view of all would cost as much as a small product."""
        return (t,) if len(self.masks) == 1 else t.chunk(len(self.masks), -1)
