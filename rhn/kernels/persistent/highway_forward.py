"""The recurrent highway network forward, as one kernel. See `blocks.py` for how programs share the work and what was proven.

Shapes, contiguous (legend in `rhn.kernels`; R = groups * ROWS padded batch rows, KP >= n padded units, J' = max(J, 1)):

    XW (K, T, B, G, n)   b (K or 1, L, G, n)   P (K or 1, L, G, KP, KP) the weights   SM (K or 1, J, B, n), CM (K or 1, B, n) masks
    S (K, L, T + 1, B, n) states   A (K, L, T, B, G, n) gates, h unmasked   SH (K, L, J', T + 1, R, KP) masked states, as operands

P and SH are float16 (float32: the products are TF32 on a GPU, exact in the interpreter), A is of their type, all else is float32.
S[:, l, t] and SH[:, l, :, t] are what enters layer l at time t; the caller has filled them for l = t = 0.
"""

import triton
import triton.language as tl

from rhn.kernels.persistent.blocks import APART, columns_of, meet, place, product, rows_of, sigmoid, tanh


@triton.jit(do_not_specialize=["T"])  # windows have many lengths
def highway_forward_kernel(
    XW, Bias, P, SM, CM, S, A, SH, Count,
    T, L, B, n, C, chunks, groups, bias_model, weight_model, state_mask_model, state_mask_gate, candidate_model,
    G: tl.constexpr, J: tl.constexpr, CANDIDATE: tl.constexpr, ROWS: tl.constexpr, U: tl.constexpr,
    K0: tl.constexpr, K1: tl.constexpr, K2: tl.constexpr, AHEAD: tl.constexpr, ALONE: tl.constexpr,
):  # fmt: skip
    """One program: a block of a model's units through all T steps and L layers, meeting the model's other blocks after each layer."""
    KP: tl.constexpr = K0 + K1 + K2
    JS: tl.constexpr = J if J > 0 else 1
    model, group, block = place(C, groups)
    R = groups * ROWS
    row = group * ROWS + tl.arange(0, ROWS)[:, None]
    XW += model * T * B * G * n
    Bias += model * bias_model
    P += model * weight_model
    SM += model * state_mask_model
    CM += model * candidate_model
    S += model * L * (T + 1) * B * n
    A += model * L * T * B * G * n
    SH += model * L * JS * (T + 1) * R * KP
    Count += (model * groups + group) * APART
    for stage in range(T * L):
        t = stage // L
        layer = stage % L
        weights = P + layer * G * KP * KP
        if AHEAD:  # one chunk: its weights come while the others are awaited
            unit = block * U + tl.arange(0, U)[None, :]
            wh = columns_of(weights + unit * KP, 1, unit < KP, K0, K1, K2)
            wt = columns_of(weights + (KP + unit) * KP, 1, unit < KP, K0, K1, K2)
            if G == 3:
                wc = columns_of(weights + (2 * KP + unit) * KP, 1, unit < KP, K0, K1, K2)
        if stage > 0:
            meet(Count, C * stage, ALONE)
        operand = SH + ((layer * JS * (T + 1) + t) * R + row) * KP
        if J <= 1:
            a = rows_of(operand, K0, K1, K2)
        if layer + 1 < L:
            below, after = layer + 1, t
        else:
            below, after = 0, t + 1
        for chunk in range(chunks):
            unit = (block * chunks + chunk) * U + tl.arange(0, U)[None, :]
            own = (row < B) & (unit < n)
            if not AHEAD:
                wh = columns_of(weights + unit * KP, 1, unit < KP, K0, K1, K2)
                wt = columns_of(weights + (KP + unit) * KP, 1, unit < KP, K0, K1, K2)
                if G == 3:
                    wc = columns_of(weights + (2 * KP + unit) * KP, 1, unit < KP, K0, K1, K2)
            bias = Bias + layer * G * n + unit
            x = XW + (t * B + row) * G * n + unit
            first = own & (row < tl.where(layer == 0, B, 0))
            zh = tl.load(bias, mask=unit < n, other=0.0) + tl.load(x, mask=first, other=0.0)
            zt = tl.load(bias + n, mask=unit < n, other=0.0) + tl.load(x + n, mask=first, other=0.0)
            s = tl.load(S + ((layer * (T + 1) + t) * B + row) * n + unit, mask=own, other=0.0)
            if J <= 1:
                zh = product(a, wh, zh)
                zt = product(a, wt, zt)
            else:
                zh = product(rows_of(operand, K0, K1, K2), wh, zh)
                zt = product(rows_of(operand + (T + 1) * R * KP, K0, K1, K2), wt, zt)
            h = tanh(zh)
            gate = sigmoid(zt)
            gates = A + ((layer * T + t) * B + row) * G * n + unit
            tl.store(gates, h.to(A.dtype.element_ty), mask=own)
            tl.store(gates + n, gate.to(A.dtype.element_ty), mask=own)
            if CANDIDATE:
                h *= tl.load(CM + row * n + unit, mask=own, other=0.0)
            if G == 2:
                s += gate * (h - s)
            else:
                zc = tl.load(bias + 2 * n, mask=unit < n, other=0.0) + tl.load(x + 2 * n, mask=first, other=0.0)
                if J <= 1:
                    zc = product(a, wc, zc)
                else:
                    zc = product(rows_of(operand + 2 * (T + 1) * R * KP, K0, K1, K2), wc, zc)
                carry = sigmoid(zc)
                tl.store(gates + 2 * n, carry.to(A.dtype.element_ty), mask=own)
                s = h * gate + s * carry
            tl.store(S + ((below * (T + 1) + after) * B + row) * n + unit, s, mask=own)
            for j in tl.static_range(JS):
                masked = s
                if J > 0:
                    masked = s * tl.load(SM + j * state_mask_gate + row * n + unit, mask=own, other=0.0)
                give = SH + (((below * JS + j) * (T + 1) + after) * R + row) * KP + unit
                tl.store(give, masked.to(SH.dtype.element_ty), mask=unit < KP)
