"""The deep transition with tanh backward, as one kernel: from the gradients of the states to those of the pre-activations.

Shapes and what was proven as in `transition_forward.py` and `blocks.py`, with the derivatives of `rhn.kernels.transition.manual`, and

    DY (K, T, B, n) gradients of the states   DS (K, B, n) zero at the start, the gradient of s0 at the end
    DK (K, B, n) zero at the start, what the shortcuts of a step give to y[t-1]   DZ (K, L, T, R, KP) as operands, times `scale`
"""

import triton
import triton.language as tl

from rhn.kernels.persistent.blocks import APART, columns_of, meet, place, product, rows_of


@triton.jit(do_not_specialize=["T"])  # windows have many lengths
def transition_backward_kernel(
    DY, P, PS, SM, S, DZ, DS, DK, Count,
    T, L, B, n, C, chunks, groups, first_skip, weight_model, skip_model, mask_model, scale,
    SKIP: tl.constexpr, MASK: tl.constexpr, ROWS: tl.constexpr, U: tl.constexpr,
    K0: tl.constexpr, K1: tl.constexpr, K2: tl.constexpr, AHEAD: tl.constexpr, ALONE: tl.constexpr,
):  # fmt: skip
    """One program: a block of a model's units back through all T steps and L layers, meeting the others after each layer."""
    KP: tl.constexpr = K0 + K1 + K2
    model, group, block = place(C, groups)
    R = groups * ROWS
    row = group * ROWS + tl.arange(0, ROWS)[:, None]
    DY += model * T * B * n
    P += model * weight_model
    PS += model * skip_model
    SM += model * mask_model
    S += model * L * (T + 1) * B * n
    DZ += model * L * T * R * KP
    DS += model * B * n
    DK += model * B * n
    Count += (model * groups + group) * APART
    for stage in range(T * L):
        t = T - 1 - stage // L
        layer = L - 1 - stage % L
        if layer + 1 < L:
            below, after = layer + 1, t
        else:
            below, after = 0, t + 1
        rows = DZ + ((layer * T + t) * R + row) * KP
        weights = P + layer * KP * KP
        if AHEAD:  # one chunk: its weights come while the others are awaited
            unit = block * U + tl.arange(0, U)[None, :]
            w = columns_of(weights + unit, KP, unit < KP, K0, K1, K2)
        for chunk in range(chunks):
            unit = (block * chunks + chunk) * U + tl.arange(0, U)[None, :]
            own = (row < B) & (unit < n)
            at = row * n + unit
            s = tl.load(S + (below * (T + 1) + after) * B * n + at, mask=own, other=0.0)
            last = own & (row < tl.where(layer == L - 1, B, 0))
            ds = tl.load(DS + at, mask=own, other=0.0) + tl.load(DY + t * B * n + at, mask=last, other=0.0)
            tl.store(rows + unit, (ds * (1 - s * s) * scale).to(DZ.dtype.element_ty), mask=unit < KP)
        meet(Count, C * (stage + 1), ALONE)
        dz = rows_of(rows, K0, K1, K2)
        for chunk in range(chunks):
            unit = (block * chunks + chunk) * U + tl.arange(0, U)[None, :]
            own = (row < B) & (unit < n)
            at = row * n + unit
            if not AHEAD:
                w = columns_of(weights + unit, KP, unit < KP, K0, K1, K2)
            zero = tl.zeros((ROWS, U), tl.float32)
            ds = product(dz, w, zero) / scale
            if MASK:
                ds *= tl.load(SM + at, mask=own, other=0.0)
            if SKIP:
                if layer >= first_skip:
                    skip = columns_of(PS + (layer - first_skip) * KP * KP + unit, KP, unit < KP, K0, K1, K2)
                    dy = product(dz, skip, zero) / scale
                    if MASK:
                        dy *= tl.load(SM + at, mask=own, other=0.0)
                    tl.store(DK + at, tl.load(DK + at, mask=own, other=0.0) + dy, mask=own)
                if layer == 0:  # which has no shortcut
                    ds += tl.load(DK + at, mask=own, other=0.0)
                    tl.store(DK + at, zero, mask=own)
            tl.store(DS + at, ds, mask=own)
        tl.debug_barrier()  # before other threads of this block read DS and DK
