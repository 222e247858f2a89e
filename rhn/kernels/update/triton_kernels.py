"""The update's two passes over the weights on a GPU: programs (block of BLOCK numbers, model). Legend in `reference.py`.

Proven under Triton's interpreter; not yet run on a GPU.
"""

import triton
import triton.language as tl

BLOCK = 4096


@triton.jit
def squares_kernel(W, G, Parts, N, blocks, decay, BLOCK: tl.constexpr):
    """Parts (K, blocks) float64: the sum of (g + decay w)^2 over each block of a model's N numbers."""
    block, model = tl.program_id(0), tl.program_id(1).to(tl.int64)
    place = block * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(G + model * N + place, mask=place < N, other=0.0)
    x += decay * tl.load(W + model * N + place, mask=place < N, other=0.0)
    wide = x.to(tl.float64)
    tl.store(Parts + model * blocks + block, tl.sum(wide * wide))


@triton.jit
def descend_kernel(W, G, Factors, N, decay, BLOCK: tl.constexpr):
    """w <- keep (w - rate (g + decay w)) with a model's Factors (rate, keep); nothing where they are 0 and 1."""
    block, model = tl.program_id(0), tl.program_id(1).to(tl.int64)
    place = block * BLOCK + tl.arange(0, BLOCK)
    rate, keep = tl.load(Factors + 2 * model), tl.load(Factors + 2 * model + 1)
    inside = place < tl.where(rate == 0, tl.where(keep == 1, 0, N), N)
    w = tl.load(W + model * N + place, mask=inside, other=0.0)
    g = tl.load(G + model * N + place, mask=inside, other=0.0)
    tl.store(W + model * N + place, keep * (w - rate * (g + decay * w)), mask=inside)
