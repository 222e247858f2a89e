"""The recurrent highway network backward, as one kernel: from the gradients of the states to those of the pre-activations.

Shapes and what was proven as in `highway_forward.py` and `blocks.py`, with the derivatives of `rhn.kernels.highway.manual`, and

    DY (K, T, B, n) gradients of the states   DS (K, B, n) zero at the start, the gradient of s0 at the end
    DZ (K, L, T, R, G, KP) gradients of the pre-activations times `scale`, as operands
"""

import triton
import triton.language as tl

from rhn.kernels.persistent.blocks import APART, columns_of, meet, place, product, rows_of


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
