"""The matrix products that every hand-derived recurrence shares, over K stacked models.

Which routine computes a product is decided by its shape, dtype and device, never by K, and no slice depends on another: a model's
numbers are the same bits alone or in a stack. Large float32 products on a CPU go to oneDNN with prepacked weights, slice by slice
(`rhn.kernels.onednn`); everything else is one batched product.
"""

import numpy as np
import torch
from torch import Tensor

from rhn.kernels import onednn

ALIGNMENT = 16  # numbers: MKL's small products give other bits where a result does not start on a boundary of 64 bytes


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
