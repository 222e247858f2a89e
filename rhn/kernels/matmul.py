"""The matrix products that all hand-derived recurrences share, over K stacked models, including
those for a state with a dropout mask.

Each product is one batched product of torch, in which no model's slice depends on another: a
model's numbers are the same bits alone or in a stack.

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

# in numbers: MKL's small products give other bits if a result does not start on a boundary of 64
# bytes
ALIGNMENT = 16
Mask = Tensor | None
"""A dropout mask with entries 0 or 1 / (1 - rate); None drops nothing."""


def workspace(like: Tensor, K: int, *sizes: int) -> Tensor:
    """Return an empty buffer (K, ..., B, c) whose memory order is (..., K, B, c), so that the rows
    of all models at one stage are contiguous.

    A batched product into memory with gaps between the models would fall back to one call for each
    model.
    """
    *stage, B, c = sizes
    return like.new_empty(*stage, K, B, c).movedim(len(stage), 0)


def stages(buffer: Tensor) -> list[tuple[Tensor, ...]]:
    """Return views [layer][time] -> (K, B, ...) of a buffer (K, L, T, B, ...). All views are
    created at once, because creating one view at each stage would cost as much as the work of the
    stage.
    """
    return [layer.unbind(1) for layer in buffer.unbind(1)]


def input_product(x: Tensor, W: Tensor, b: Tensor, K: int) -> Tensor:
    """Compute x W' + b for all time steps in one product: x (K or 1, T, B, m), W (K or 1, g, m), b
    (K or 1, g) -> (K, T, B, g).
    """
    rows, columns = (t.expand(K, -1, -1) for t in (x.flatten(1, 2), W.transpose(1, 2)))
    return torch.baddbmm(b.unsqueeze(1), rows, columns).unflatten(1, x.shape[1:3])


def input_gradient(dz: Tensor, W: Tensor, like: Tensor) -> Tensor:
    """Compute dz W for all time steps: dz (K, T B, g), W (K or 1, g, m) -> (K, T, B, m). T and B
    are those of `like` (., T, B, m).
    """
    return torch.bmm(dz, W.expand(len(dz), -1, -1)).unflatten(1, like.shape[1:3])


def weight_gradient(dz: Tensor, inputs: Tensor) -> Tensor:
    """Compute dz' inputs, summed over all N rows: (..., N, g), (..., N, k) -> (..., g, k). Leading
    axes broadcast.
    """
    # not torch.broadcast_shapes, which imports torch's compiler: half a second
    batch = np.broadcast_shapes(dz.shape[:-2], inputs.shape[:-2])
    dz, inputs = (t.expand(*batch, *t.shape[-2:]).flatten(0, -3) for t in (dz, inputs))
    return aligned_bmm(dz.transpose(1, 2), inputs).unflatten(0, batch).contiguous()


def aligned_bmm(a: Tensor, b: Tensor) -> Tensor:
    """Compute a batched product in which every result starts on a boundary of `ALIGNMENT`
    numbers.
    """
    (K, g, _), k = a.shape, b.shape[-1]
    slots = a.new_empty(K, g * k + -g * k % ALIGNMENT)[:, : g * k].unflatten(1, (g, k))
    return torch.bmm(a, b, out=slots)


def masked(t: Tensor, mask: Mask) -> Tensor:
    """Return t * mask, or t if the mask is None."""
    return t if mask is None else t * mask


def masked_linear(s: Tensor, R: Tensor, b: Tensor | None, mask: Mask) -> Tensor:
    """Compute R (s * m) + b of one model in plain operations: s (B, n), R (g, n), b (g,) or None,
    mask (J, B, n) or None -> (B, g).
    """
    if mask is None:
        return F.linear(s, R, b)
    pairs = zip(mask, R.chunk(len(mask)), strict=True)
    z = torch.cat([F.linear(s * m, block) for m, block in pairs], -1)
    return z if b is None else z + b


def state_weight_gradient(dz: Tensor, S: Tensor, mask: Mask) -> Tensor:
    """Compute dR (K, L, g, n) from all rows at once: dz (K, L, T B, g), states S (K, L or 1, T, B,
    n).
    """
    masks = _masks(mask)
    states = ((S if m is None else S * m[:, None, None]).flatten(2, 3) for m in masks)
    pairs = zip(dz.chunk(len(masks), -1), states, strict=True)
    return torch.cat([weight_gradient(*pair) for pair in pairs], -2)


class StateProducts:
    """The products of the layers' matrices R (K or 1, L, g, n) with states, and of their transposes
    with gradients.
    """

    def __init__(self, R: Tensor, K: int, B: int, mask: Mask):
        self.masks = _masks(mask)
        self.blocks = [R_j.expand(K, -1, -1, -1).unbind(1) for R_j in R.chunk(len(self.masks), 2)]
        self.room = None if mask is None else R.new_empty(K, B, R.shape[-1])

    def forward(self, out: Tensor, layer: int, s: Tensor, addend: Tensor) -> Tensor:
        """Write z = R s + addend (K, B, g) into `out`, from s (K, B, n). The addend (K, B or 1, g)
        may be `out` itself.
        """
        for R, m, out_j, addend_j in zip(
            self.blocks, self.masks, self._parts(out), self._parts(addend), strict=True
        ):
            given = s if m is None else torch.mul(s, m, out=self.room)
            torch.baddbmm(addend_j, given, R[layer].mT, out=out_j)
        return out

    def backward(self, out: Tensor, layer: int, dz: Tensor, carried: Tensor) -> Tensor:
        """Write ds = carried + R' dz (K, B, n) into `out`, from dz (K, B, g). `carried` (K, B, n)
        may be `out` itself.
        """
        for R, m, dz_j in zip(self.blocks, self.masks, self._parts(dz), strict=True):
            if m is None:
                return torch.baddbmm(carried, dz_j, R[layer], out=out)
            carried = torch.addcmul(carried, torch.bmm(dz_j, R[layer], out=self.room), m, out=out)
        return out

    def _parts(self, t: Tensor) -> Sequence[Tensor]:
        """Return the columns of each block. A single block is returned as it is, because a view
        would cost as much as a small product.
        """
        return (t,) if len(self.masks) == 1 else t.chunk(len(self.masks), -1)


def _masks(mask: Mask) -> tuple[Mask, ...]:
    """Return the masks (K or 1, B, n) of the blocks of rows."""
    return (None,) if mask is None else mask.unbind(1)
