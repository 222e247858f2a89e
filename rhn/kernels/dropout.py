"""The products of a state with a dropout mask (Gal and Ghahramani 2016), forward and backward.

    z_j = R_j (s * m_j) + addend_j        ds = carried + sum_j m_j * (R_j' dz_j)        dR_j = dz_j (s * m_j)'

Block j of R's rows has the mask m_j, j = 1..J; one mask serves every time step and every layer. Masks (K or 1, J, B, n).
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from rhn.kernels.matmul import Products, weight_gradient

Mask = Tensor | None
"""Entries 0 or 1 / (1 - rate); None drops nothing."""


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
