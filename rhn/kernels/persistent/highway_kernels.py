"""Triton kernels of the recurrent highway network over time, forward and backward.

See `blocks.py` for how programs share the work and for the proofs.

Shapes, contiguous (legend in `rhn.kernels`; R = groups * ROWS padded batch rows, KP >= n padded units, J' = max(J, 1)):

    XW (K, T, B, G, n)   b (K or 1, L, G, n)   P (K or 1, L, G, KP, KP) the weights   SM (K or 1, J, B, n), CM (K or 1, B, n) masks
    S (K, L, T + 1, B, n) states   A (K, L, T, B, G, n) gates, h unmasked   SH (K, L, J', T + 1, R, KP) masked states, as operands

P and SH are float16 (float32: the products are TF32 on a GPU, exact in the interpreter), A is of their type, all else is float32.
S[:, l, t] and SH[:, l, :, t] are what enters layer l at time t; the caller has filled them for l = t = 0.

Backward, from the gradients of the states to those of the pre-activations, with the derivatives of `rhn.kernels.highway`:

    DY (K, T, B, n) gradients of the states   DS (K, B, n) zero at the start, the gradient of s0 at the end
    DZ (K, L, T, R, G, KP) gradients of the pre-activations times `scale`, as operands
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


@triton.jit(do_not_specialize=["T"])  # windows have many lengths
def highway_backward_kernel(
    DY, P, SM, CM, S, A, DZ, DS, Count,
    T, L, B, n, C, chunks, groups, weight_model, state_mask_model, state_mask_gate, candidate_model, scale,
    G: tl.constexpr, J: tl.constexpr, CANDIDATE: tl.constexpr, ROWS: tl.constexpr, U: tl.constexpr,
    K0: tl.constexpr, K1: tl.constexpr, K2: tl.constexpr, AHEAD: tl.constexpr, ALONE: tl.constexpr,
):  # fmt: skip
    """One program: a block of a model's units back through all T steps and L layers, meeting the others after each layer."""
    KP: tl.constexpr = K0 + K1 + K2
    model, group, block = place(C, groups)
    R = groups * ROWS
    row = group * ROWS + tl.arange(0, ROWS)[:, None]
    DY += model * T * B * n
    P += model * weight_model
    SM += model * state_mask_model
    CM += model * candidate_model
    S += model * L * (T + 1) * B * n
    A += model * L * T * B * G * n
    DZ += model * L * T * R * G * KP
    DS += model * B * n
    Count += (model * groups + group) * APART
    for stage in range(T * L):
        t = T - 1 - stage // L
        layer = L - 1 - stage % L
        rows = DZ + ((layer * T + t) * R + row) * G * KP
        weights = P + layer * G * KP * KP
        if AHEAD:  # one chunk: its weights come while the others are awaited
            unit = block * U + tl.arange(0, U)[None, :]
            wh = columns_of(weights + unit, KP, unit < KP, K0, K1, K2)
            wt = columns_of(weights + KP * KP + unit, KP, unit < KP, K0, K1, K2)
            if G == 3:
                wc = columns_of(weights + 2 * KP * KP + unit, KP, unit < KP, K0, K1, K2)
        for chunk in range(chunks):
            unit = (block * chunks + chunk) * U + tl.arange(0, U)[None, :]
            own = (row < B) & (unit < n)
            at = row * n + unit
            s = tl.load(S + (layer * (T + 1) + t) * B * n + at, mask=own, other=0.0)
            gates = A + ((layer * T + t) * B + row) * G * n + unit
            h = tl.load(gates, mask=own, other=0.0).to(tl.float32)
            gate = tl.load(gates + n, mask=own, other=0.0).to(tl.float32)
            ds = tl.load(DS + at, mask=own, other=0.0)
            last = own & (row < tl.where(layer == L - 1, B, 0))
            ds += tl.load(DY + t * B * n + at, mask=last, other=0.0)
            slope = 1 - h * h
            if CANDIDATE:
                m = tl.load(CM + at, mask=own, other=0.0)
                slope *= m
                h *= m
            if G == 2:
                carry = 1 - gate
                give = ds * (h - s) * gate * carry
            else:
                carry = tl.load(gates + 2 * n, mask=own, other=0.0).to(tl.float32)
                give = ds * s * carry * (1 - carry)
                tl.store(rows + 2 * KP + unit, (give * scale).to(DZ.dtype.element_ty), mask=unit < KP)
                give = ds * h * gate * (1 - gate)
            tl.store(rows + KP + unit, (give * scale).to(DZ.dtype.element_ty), mask=unit < KP)
            tl.store(rows + unit, (ds * gate * slope * scale).to(DZ.dtype.element_ty), mask=unit < KP)
            tl.store(DS + at, ds * carry, mask=own)
        meet(Count, C * (stage + 1), ALONE)
        dzh = rows_of(rows, K0, K1, K2)
        dzt = rows_of(rows + KP, K0, K1, K2)
        if G == 3:
            dzc = rows_of(rows + 2 * KP, K0, K1, K2)
        for chunk in range(chunks):
            unit = (block * chunks + chunk) * U + tl.arange(0, U)[None, :]
            own = (row < B) & (unit < n)
            at = row * n + unit
            if not AHEAD:
                wh = columns_of(weights + unit, KP, unit < KP, K0, K1, K2)
                wt = columns_of(weights + KP * KP + unit, KP, unit < KP, K0, K1, K2)
                if G == 3:
                    wc = columns_of(weights + 2 * KP * KP + unit, KP, unit < KP, K0, K1, K2)
            zero = tl.zeros((ROWS, U), tl.float32)
            if J <= 1:
                total = product(dzt, wt, product(dzh, wh, zero))
                if G == 3:
                    total = product(dzc, wc, total)
                if J == 1:
                    total *= tl.load(SM + at, mask=own, other=0.0)
            else:
                total = product(dzh, wh, zero) * tl.load(SM + at, mask=own, other=0.0)
                total += product(dzt, wt, zero) * tl.load(SM + state_mask_gate + at, mask=own, other=0.0)
                if G == 3:
                    total += product(dzc, wc, zero) * tl.load(SM + 2 * state_mask_gate + at, mask=own, other=0.0)
            tl.store(DS + at, tl.load(DS + at, mask=own, other=0.0) + total / scale, mask=own)
        tl.debug_barrier()  # before other threads of this block read DS
