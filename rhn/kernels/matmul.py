"""The matrix products that every hand-derived recurrence shares, over K stacked models; also of a state with a dropout mask.

Which routine computes a product is decided by its shape, dtype and device, never by K, and no slice depends on another: a model's
numbers are the same bits alone or in a stack. Large float32 products on a CPU go to oneDNN with prepacked weights, slice by slice
(`rhn.kernels.onednn`); everything else is one batched product.

With dropout (Gal and Ghahramani 2016), where one mask serves every time step and every layer:

    z_j = R_j (s * m_j) + addend_j        ds = carried + sum_j m_j * (R_j' dz_j)        dR_j = dz_j (s * m_j)'

Block j of R's rows has the mask m_j, j = 1..J. Masks (K or 1, J, B, n).
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from rhn.kernels import onednn

ALIGNMENT = 16  # numbers: MKL's small products give other bits where a result does not start on a boundary of 64 bytes
Mask = Tensor | None
"""Entries 0 or 1 / (1 - rate); None drops nothing."""


def workspace(like: Tensor, K: int, *sizes: int) -> Tensor:
    """An empty buffer (K, ..., B, c) whose memory runs as (..., K, B, c): all models' rows of one stage lie together.

    A batched product into memory with gaps between the models would fall back to one call for each of them.
    """
    *stage, B, c = sizes
    return like.new_empty(*stage, K, B, c).movedim(len(stage), 0)


def stages(buffer: Tensor) -> list[tuple[Tensor, ...]]:
    """Views [layer][time] -> (K, B, ...) of a (K, L, T, B, ...) buffer, made in bulk: a view a stage would cost as much as its work."""
    return [layer.unbind(1) for layer in buffer.unbind(1)]


def input_product(x: Tensor, W: Tensor, b: Tensor, K: int) -> Tensor:
    """x W' + b for all time steps in one product: x (K or 1, T, B, m), W (K or 1, g, m), b (K or 1, g) -> (K, T, B, g)."""
    return _linear(x.flatten(1, 2), W, b.unsqueeze(1), K).unflatten(1, x.shape[1:3])


def input_gradient(dz: Tensor, W: Tensor, like: Tensor) -> Tensor:
    """dz W for all time steps: dz (K, T B, g), W (K or 1, g, m) -> (K, T, B, m), T and B as in `like` (., T, B, m)."""
    return _linear(dz, W.transpose(1, 2), None, len(dz)).unflatten(1, like.shape[1:3])


def weight_gradient(dz: Tensor, inputs: Tensor) -> Tensor:
    """dz' inputs, summed over all rows N: (..., N, g), (..., N, k) -> (..., g, k); leading axes broadcast."""
    (N, g), k = dz.shape[-2:], inputs.shape[-1]
    batch = np.broadcast_shapes(dz.shape[:-2], inputs.shape[:-2])  # torch's own imports its compiler, half a second
    dz, inputs = (t.expand(*batch, *t.shape[-2:]).flatten(0, -3) for t in (dz, inputs))
    if not onednn.pays(dz, rows=N, inner=g, outer=k):
        slots = dz.new_empty(len(dz), g * k + -g * k % ALIGNMENT)[:, : g * k]
        out = torch.bmm(dz.transpose(1, 2), inputs, out=slots.unflatten(1, (g, k)))
    else:
        out = dz.new_empty(len(dz), g, k)
        for dz_k, inputs_k, out_k in zip(dz, inputs, out, strict=True):
            out_k.copy_(onednn.linear(dz_k.t().contiguous(), onednn.pack(inputs_k.t(), g)))
    return out.unflatten(0, batch).contiguous()


class Products:
    """(s * mask) M_l + addend for the layers' matrices M (K or 1, L, k, g) and rows s (K, B, k), for many time steps.

    mask (K or 1, B, k) or None.
    """

    def __init__(self, M: Tensor, K: int, B: int, mask: Tensor | None = None):
        k, g = M.shape[-2:]
        self.mask, self.packed = mask, None
        if mask is not None:
            self.rows = M.new_empty(K, B, k)
        self.layers = M.expand(K, *M.shape[1:]).unbind(1)
        if onednn.pays(M, rows=B, inner=k, outer=g):
            models = [[onednn.pack(m.t(), B) for m in layers] for layers in M]
            self.packed = [[models[i % len(models)][layer] for i in range(K)] for layer in range(M.shape[1])]

    def into(self, out: Tensor, layer: int, s: Tensor, addend: Tensor | None = None) -> Tensor:
        """Write (s * mask) M_l + addend to out (K, B, g); the addend (K, B or 1, g) may be out itself."""
        if self.mask is not None:
            s = torch.mul(s, self.mask, out=self.rows)
        if self.packed is None:
            M = self.layers[layer]
            return torch.bmm(s, M, out=out) if addend is None else torch.baddbmm(addend, s, M, out=out)
        addends = [None] * len(out) if addend is None else addend
        for out_k, s_k, addend_k, weight in zip(out, s, addends, self.packed[layer], strict=True):
            out_k.copy_(onednn.linear(s_k, weight) if addend is None else onednn.linear_add(s_k, addend_k, weight))
        return out


def _linear(rows: Tensor, M: Tensor, addend: Tensor | None, K: int) -> Tensor:
    """rows M' + addend: rows (K or 1, N, k), M (K or 1, g, k), addend (K or 1, 1, g) -> (K, N, g)."""
    N, (g, k) = rows.shape[1], M.shape[1:]
    if onednn.pays(M, rows=N, inner=k, outer=g):
        weights = [onednn.pack(m, N) for m in M]
        every = [(t.expand(K, *t.shape[1:]) if t is not None else [None] * K) for t in (rows, addend)]
        models = zip(*every, weights * (K // len(weights)), strict=True)
        products = [onednn.linear(r, w) if a is None else onednn.linear_add(r, a, w) for r, a, w in models]
        return torch.stack(products) if K > 1 else products[0].unsqueeze(0)
    rows, columns = rows.expand(K, -1, -1), M.transpose(1, 2).expand(K, -1, -1)
    return torch.bmm(rows, columns) if addend is None else torch.baddbmm(addend, rows, columns)


def masked(t: Tensor, mask: Mask) -> Tensor:
    """t * mask, or t."""
    return t if mask is None else t * mask


def masked_linear(s: Tensor, R: Tensor, b: Tensor | None, mask: Mask) -> Tensor:
    """R (s * m) + b of one model in plain operations: s (B, n), R (g, n), b (g,) or None, mask (J, B, n) or None -> (B, g)."""
    if mask is None:
        return F.linear(s, R, b)
    z = torch.cat([F.linear(s * m, block) for m, block in zip(mask, R.chunk(len(mask)), strict=True)], -1)
    return z if b is None else z + b


def state_products(R: Tensor, K: int, B: int, mask: Mask):
    """`into(out, layer, s, addend)` writes z (K, B, g) for the layers' matrices R (K or 1, L, g, n)."""
    M = R.transpose(2, 3)
    if mask is None or mask.shape[1] == 1:
        return Products(M, K, B, None if mask is None else mask.squeeze(1))
    return _Apart(M, K, B, mask)


def state_gradients(R: Tensor, K: int, B: int, mask: Mask):
    """`into(out, layer, dz, carried)` writes ds (K, B, n) for the layers' matrices R (K or 1, L, g, n)."""
    if mask is None:
        return Products(R, K, B)
    return _MaskedGradients(R, K, B, mask)


def state_weight_gradient(dz: Tensor, S: Tensor, mask: Mask) -> Tensor:
    """dR (K, L, g, n) of all rows at once: dz (K, L, T B, g), states S (K, L or 1, T, B, n)."""
    if mask is None:
        return weight_gradient(dz, S.flatten(2, 3))
    masks = mask[:, :, None, None].unbind(1)
    blocks = zip(dz.chunk(len(masks), -1), masks, strict=True)
    return torch.cat([weight_gradient(block, (S * m).flatten(2, 3)) for block, m in blocks], -2)


class _Apart:
    """One product for each mask: mask j belongs to block j of the columns of M (K or 1, L, n, g)."""

    def __init__(self, M: Tensor, K: int, B: int, mask: Tensor):
        masks = mask.unbind(1)
        blocks = M.chunk(len(masks), -1)
        self.blocks = [Products(M_j, K, B, m) for M_j, m in zip(blocks, masks, strict=True)]

    def into(self, out: Tensor, layer: int, s: Tensor, addend: Tensor) -> Tensor:
        parts = (t.chunk(len(self.blocks), -1) for t in (out, addend))
        for block, out_j, addend_j in zip(self.blocks, *parts, strict=True):
            block.into(out_j, layer, s, addend_j)
        return out


class _MaskedGradients:
    def __init__(self, R: Tensor, K: int, B: int, mask: Tensor):
        self.masks = mask.unbind(1)
        blocks = R.chunk(len(self.masks), -2)
        self.blocks = [Products(R_j, K, B) for R_j in blocks]
        self.product = R.new_empty(K, B, R.shape[-1])

    def into(self, out: Tensor, layer: int, dz: Tensor, carried: Tensor) -> Tensor:
        for block, m, dz_j in zip(self.blocks, self.masks, dz.chunk(len(self.masks), -1), strict=True):
            carried = torch.addcmul(carried, block.into(self.product, layer, dz_j), m, out=out)
        return out
