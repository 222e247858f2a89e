"""Device functions of the persistent kernels: the barrier of a model's blocks, the tiles of their products, tanh and sigmoid.

Proven under Triton's interpreter and compiled for sm_90; the barrier and the products are those of a prototype that ran on an H200,
this code has not yet run on a GPU.

A program stays for the whole recurrence. C programs share a model (or 32 of its batch rows), own its units, and meet after every
stage: what one wrote is then read by all. They must all be on the device at once, so they are launched cooperatively. One block alone
(C = 1) needs no meeting and may be run by the interpreter, which runs programs one after another.
"""

import triton
import triton.language as tl

APART = tl.constexpr(32)  # numbers from one counter to the next: one cache line each


@triton.jit
def meet(count, arrivals, ALONE: tl.constexpr):
    """Waits until all blocks have arrived so often: what they wrote before is visible to all threads of this block."""
    tl.debug_barrier()  # all threads of the block have written
    if not ALONE:
        tl.atomic_add(count, 1, sem="release", scope="gpu")
        poll: tl.constexpr = "ld.acquire.gpu.global.u32 $0, [$1];"
        at = count.to(tl.int64)
        while tl.inline_asm_elementwise(poll, "=r,l", [at], dtype=tl.int32, is_pure=False, pack=1) < arrivals:
            pass
        tl.debug_barrier()


@triton.jit
def rows_of(at, K0: tl.constexpr, K1: tl.constexpr, K2: tl.constexpr):
    """Three tiles (ROWS, K0), (ROWS, K1), (ROWS, K2) of the rows that begin at `at` (ROWS, 1).

    They come from the second-level cache: the first is a multiprocessor's own and does not see what others wrote.
    """
    a0 = tl.load(at + tl.arange(0, K0)[None, :], cache_modifier=".cg")
    a1 = tl.load(at + (K0 + tl.arange(0, K1))[None, :], cache_modifier=".cg")
    a2 = tl.load(at + (K0 + K1 + tl.arange(0, K2))[None, :], cache_modifier=".cg")
    return a0, a1, a2


@triton.jit
def columns_of(at, step, inside, K0: tl.constexpr, K1: tl.constexpr, K2: tl.constexpr):
    """Three tiles (K0, U), (K1, U), (K2, U) of the columns that begin at `at` (1, U), `step` numbers from a row to the next."""
    w0 = tl.load(at + tl.arange(0, K0)[:, None] * step, mask=inside, other=0.0)
    w1 = tl.load(at + (K0 + tl.arange(0, K1))[:, None] * step, mask=inside, other=0.0)
    w2 = tl.load(at + (K0 + K1 + tl.arange(0, K2))[:, None] * step, mask=inside, other=0.0)
    return w0, w1, w2


@triton.jit
def product(a, w, total):
    """total (ROWS, U) + rows times columns, both in three tiles."""
    total = tl.dot(a[0], w[0], total)
    total = tl.dot(a[1], w[1], total)
    return tl.dot(a[2], w[2], total)


@triton.jit
def place(C, groups):
    """(model, group of batch rows, block within them) of this program."""
    pid = tl.program_id(0)
    return (pid // (C * groups)).to(tl.int64), pid // C % groups, pid % C


# tanh and sigmoid with a relative error of a few roundings, subnormal numbers included; NaN stays NaN. `2 sigmoid(2 z) - 1` has an
# absolute error of 1e-7 and returns 0 for smaller states. Polynomials: Cephes (Moshier), as in `rhn/kernels/compiled/lanes.h`.


@triton.jit
def exp_negative(x):
    """exp(x) for x <= 0."""
    x = tl.where(x < -104.0, -104.0, x)
    shifted = x * 1.44269504088896341 + 12582912.0  # the nearest integer is in the last bits
    whole = shifted - 12582912.0
    r = x - whole * 0.693359375
    r = r - whole * -2.12194440e-4
    p = 1.9875691500e-4 * r + 1.3981999507e-3
    p = p * r + 8.3334519073e-3
    p = p * r + 4.1665795894e-2
    p = p * r + 1.6666665459e-1
    p = p * r + 5.0000001201e-1
    p = p * (r * r) + r + 1.0
    power = shifted.to(tl.int32, bitcast=True) - 0x4B400000  # from -150 to 0: in two factors, each a normal number
    half = power >> 1
    return p * power_of_two(half) * power_of_two(power - half)


@triton.jit
def power_of_two(exponent):
    """2^exponent for int32 exponents of normal numbers."""
    return ((exponent + 127) << 23).to(tl.float32, bitcast=True)


@triton.jit
def sigmoid(z):
    """1 / (1 + exp(-z)), relative error a few units in the last place."""
    e = exp_negative(-tl.abs(z))
    return tl.where(z < 0, e, 1.0) / (1.0 + e)


@triton.jit
def tanh(z):
    """Hyperbolic tangent, relative error a few units in the last place, also of tiny z."""
    size = tl.abs(z)
    near = tl.where(size < 0.625, z, 0.0)
    z2 = near * near
    p = -5.70498872745e-3 * z2 + 2.06390887954e-2
    p = p * z2 - 5.37397155531e-2
    p = p * z2 + 1.33314422036e-1
    p = p * z2 - 3.33332819422e-1
    small = p * z2 * near + near
    e = exp_negative(-2.0 * size)
    large = (1.0 - e) / (1.0 + e)
    return tl.where(size < 0.625, small, tl.where(z < 0, -large, large))
