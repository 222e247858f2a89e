"""The deep transition with tanh forward, as one kernel. See `blocks.py` for how programs share the work and what was proven.

Shapes, contiguous (legend in `highway_forward.py`, G = 1; L' layers have a shortcut, the last ones):

    XW (K, T, B, n)   b (K or 1, L, n)   P (K or 1, L, KP, KP), PS (K or 1, L', KP, KP) the weights R and S   SM (K or 1, B, n) the mask
    S (K, L, T + 1, B, n) states   SH (K, L, T + 1, R, KP) masked states, as operands; both at [:, l, t] enter layer l at time t
"""

import triton
import triton.language as tl

from rhn.kernels.persistent.blocks import APART, columns_of, meet, place, product, rows_of, tanh


@triton.jit(do_not_specialize=["T"])  # windows have many lengths
def transition_forward_kernel(
    XW, Bias, P, PS, SM, S, SH, Count,
    T, L, B, n, C, chunks, groups, first_skip, bias_model, weight_model, skip_model, mask_model,
    SKIP: tl.constexpr, MASK: tl.constexpr, ROWS: tl.constexpr, U: tl.constexpr,
    K0: tl.constexpr, K1: tl.constexpr, K2: tl.constexpr, AHEAD: tl.constexpr, ALONE: tl.constexpr,
):  # fmt: skip
    """One program: a block of a model's units through all T steps and L layers, meeting the model's other blocks after each layer."""
    KP: tl.constexpr = K0 + K1 + K2
    model, group, block = place(C, groups)
    R = groups * ROWS
    row = group * ROWS + tl.arange(0, ROWS)[:, None]
    XW += model * T * B * n
    Bias += model * bias_model
    P += model * weight_model
    PS += model * skip_model
    SM += model * mask_model
    S += model * L * (T + 1) * B * n
    SH += model * L * (T + 1) * R * KP
    Count += (model * groups + group) * APART
    for stage in range(T * L):
        t = stage // L
        layer = stage % L
        weights = P + layer * KP * KP
        if AHEAD:  # one chunk: its weights come while the others are awaited
            unit = block * U + tl.arange(0, U)[None, :]
            w = columns_of(weights + unit * KP, 1, unit < KP, K0, K1, K2)
        if stage > 0:
            meet(Count, C * stage, ALONE)
        a = rows_of(SH + ((layer * (T + 1) + t) * R + row) * KP, K0, K1, K2)
        if layer + 1 < L:
            below, after = layer + 1, t
        else:
            below, after = 0, t + 1
        for chunk in range(chunks):
            unit = (block * chunks + chunk) * U + tl.arange(0, U)[None, :]
            own = (row < B) & (unit < n)
            if not AHEAD:
                w = columns_of(weights + unit * KP, 1, unit < KP, K0, K1, K2)
            first = own & (row < tl.where(layer == 0, B, 0))
            z = tl.load(Bias + layer * n + unit, mask=unit < n, other=0.0)
            z = z + tl.load(XW + (t * B + row) * n + unit, mask=first, other=0.0)
            z = product(a, w, z)
            if SKIP:  # noqa: SIM102 (decided when the kernel is compiled)
                if layer >= first_skip:
                    y = rows_of(SH + (t * R + row) * KP, K0, K1, K2)
                    skip = PS + (layer - first_skip) * KP * KP + unit * KP
                    z = product(y, columns_of(skip, 1, unit < KP, K0, K1, K2), z)
            s = tanh(z)
            tl.store(S + ((below * (T + 1) + after) * B + row) * n + unit, s, mask=own)
            if MASK:
                s *= tl.load(SM + row * n + unit, mask=own, other=0.0)
            give = SH + ((below * (T + 1) + after) * R + row) * KP + unit
            tl.store(give, s.to(SH.dtype.element_ty), mask=unit < KP)
