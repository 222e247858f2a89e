"""The Triton code of `rhn.kernels.persistent`, and its launches.

Tiles, in a block's registers: (rows, units) of what it owns, (shares, rows, share) of what it reads,
(shares, share, units) of R; each warp multiplies its share of the sum. A program is (model, block).
"""

import triton
import triton.language as tl


@triton.jit
def tanh(x):
    """To the last bits of float32, also where x is tiny (as in Cephes' tanhf)."""
    z = x * x
    near = -5.70498872745e-3
    near = near * z + 2.06390887954e-2
    near = near * z - 5.37397155531e-2
    near = near * z + 1.33314422036e-1
    near = near * z - 3.33332819422e-1
    near = near * z * x + x
    size = tl.abs(x)
    far = 1 - 2 / (tl.exp(2 * size) + 1)
    return tl.where(size < 0.625, near, tl.where(x < 0, -far, far))


@triton.jit
def sigmoid(x):
    return 1 / (1 + tl.exp(-x))


@triton.jit
def arrive(counter, C: tl.constexpr):
    """Tell the other blocks of the model that everything before is written."""
    tl.debug_barrier()
    if C > 1:
        tl.atomic_add(counter, 1, sem="release", scope="gpu")


@triton.jit
def wait(counter, target, C: tl.constexpr):
    """Until all blocks of the model have arrived so often that the counter is at its target: the
    first thread reads it, the others wait for that one.
    """
    if C > 1:
        while (
            tl.inline_asm_elementwise(
                "{ .reg .pred first; .reg .u32 thread; mov.u32 thread, %tid.x;"
                " setp.eq.u32 first, thread, 0; mov.u32 $0, 0x7fffffff;"
                " @first ld.acquire.gpu.global.u32 $0, [$1]; }",
                "=r,l",
                [counter.to(tl.int64)],
                dtype=tl.int32,
                is_pure=False,
                pack=1,
            )
            < target
        ):
            pass
    tl.debug_barrier()


@triton.jit
def write(room, x, PLANE: tl.constexpr, PARTS: tl.constexpr):
    """Write x as a sum of bfloat16 numbers, a plane each."""
    for part in tl.static_range(PARTS):
        rounded = x.to(tl.bfloat16)
        tl.store(room + part * PLANE, rounded)
        x -= rounded.to(tl.float32)


@triton.jit
def weights(R, at, fits, plane, PARTS: tl.constexpr):
    """A tile of R, its parts."""
    w0 = tl.load(R + at, mask=fits, other=0.0)
    w1, w2 = w0, w0
    if PARTS > 1:
        w1 = tl.load(R + plane + at, mask=fits, other=0.0)
    if PARTS > 2:
        w2 = tl.load(R + 2 * plane + at, mask=fits, other=0.0)
    return w0, w1, w2


@triton.jit
def product(a0, a1, a2, w0, w1, w2, PARTS: tl.constexpr):
    """The sum over all shares, small terms first."""
    if PARTS == 3:
        z = tl.dot(a1, w1)
        z = tl.dot(a2, w0, z)
        z = tl.dot(a0, w2, z)
        z = tl.dot(a1, w0, z)
        z = tl.dot(a0, w1, z)
        z = tl.dot(a0, w0, z)
    elif PARTS == 2:
        z = tl.dot(a1, w0)
        z = tl.dot(a0, w1, z)
        z = tl.dot(a0, w0, z)
    else:
        z = tl.dot(a0, w0)
    return tl.sum(z, 0)


@triton.jit
def read(room, at, fits, PLANE: tl.constexpr, PARTS: tl.constexpr):
    """What all blocks wrote, its parts; not from the processor's own cache, which may be old."""
    a0 = tl.load(room + at, mask=fits, other=0.0, cache_modifier=".cg")
    a1, a2 = a0, a0
    if PARTS > 1:
        a1 = tl.load(room + PLANE + at, mask=fits, other=0.0, cache_modifier=".cg")
    if PARTS > 2:
        a2 = tl.load(room + 2 * PLANE + at, mask=fits, other=0.0, cache_modifier=".cg")
    return a0, a1, a2


@triton.jit
def forward(
    addend, s0, R, b, mask, S, A, room, counter, T, L, K, B, n, R_layers, R_plane, b_layers, mask_rows,
    C: tl.constexpr, ROWS: tl.constexpr, UNITS: tl.constexpr, SHARES: tl.constexpr,
    SHARE: tl.constexpr, WIDTH: tl.constexpr, MASKED: tl.constexpr, PARTS: tl.constexpr,
):  # fmt: skip
    model = tl.program_id(0) // C
    first_unit = (tl.program_id(0) % C) * UNITS
    row = tl.arange(0, ROWS)[:, None]
    unit = first_unit + tl.arange(0, UNITS)[None, :]
    own = (row < B) & (unit < n)
    share = tl.arange(0, SHARES)[:, None, None] * SHARE
    k = share + tl.arange(0, SHARE)[None, None, :]
    r = tl.arange(0, ROWS)[None, :, None]
    at_state, has_state = r * WIDTH + k, (r < B) & (k < WIDTH)
    k = share + tl.arange(0, SHARE)[None, :, None]
    j = tl.arange(0, 2 * UNITS)[None, None, :]  # both gates of a unit side by side
    at_weight = (j % 2) * WIDTH * WIDTH + (first_unit + j // 2) * WIDTH + k
    has_weight = (k < WIDTH) & (j >= 0)
    counter += model * 32
    PLANE: tl.constexpr = ROWS * WIDTH
    m = tl.full((ROWS, UNITS), 1.0, tl.float32)
    if MASKED:
        m = tl.load(mask + (model * mask_rows + row) * n + unit, mask=own, other=0.0)
    s = tl.load(s0 + model * B * n + row * n + unit, mask=own, other=0.0)
    for t in range(T):
        for layer in range(L):
            stage = t * L + layer
            state = ((layer * (T + 1) + t) * K + model).to(tl.int64) * B * n
            gate = ((layer * T + t) * K + model).to(tl.int64) * B * 2 * n + row * 2 * n + unit
            shared = room + ((stage % 2) * K + model) * PARTS * PLANE
            write(shared + row * WIDTH + unit, s * m, PLANE, PARTS)
            arrive(counter, C)
            tl.store(S + state + row * n + unit, s, mask=own)
            tile = R + (model * R_layers + layer).to(tl.int64) * 2 * WIDTH * WIDTH
            w0, w1, w2 = weights(tile, at_weight, has_weight, R_plane, PARTS)
            is_first, is_later = own & (layer == 0), own & (layer > 0)
            of_input = addend + ((model * T + t) * B + row).to(tl.int64) * 2 * n + unit
            bias = b + (model * b_layers + layer) * 2 * n + unit + row * 0
            z_h = tl.load(of_input, mask=is_first, other=0.0)
            z_t = tl.load(of_input + n, mask=is_first, other=0.0)
            z_h += tl.load(bias, mask=is_later, other=0.0)
            z_t += tl.load(bias + n, mask=is_later, other=0.0)
            wait(counter, C * (stage + 1), C)
            a0, a1, a2 = read(shared, at_state, has_state, PLANE, PARTS)
            z = product(a0, a1, a2, w0, w1, w2, PARTS)
            r_h, r_t = tl.split(tl.reshape(z, (ROWS, UNITS, 2)))
            h, g = tanh(z_h + r_h), sigmoid(z_t + r_t)
            tl.store(A + gate, h, mask=own)
            tl.store(A + gate + n, g, mask=own)
            s += g * (h - s)
    tl.store(S + (T * K + model).to(tl.int64) * B * n + row * n + unit, s, mask=own)


@triton.jit
def local(S, A, grad, at, own, T, L, K, B, n, model, row, unit):
    """State, candidate, gate of a stage, and the gradient of what it gives to the outside; zeros
    before the first stage.
    """
    t = at // L
    layer = at % L
    own = own & (at >= 0)
    state = ((layer * (T + 1) + t) * K + model).to(tl.int64) * B * n + row * n + unit
    gate = ((layer * T + t) * K + model).to(tl.int64) * B * 2 * n + row * 2 * n + unit
    given = ((model * T + t) * B + row).to(tl.int64) * n + unit
    return (
        tl.load(S + state, mask=own, other=0.0),
        tl.load(A + gate, mask=own, other=0.0),
        tl.load(A + gate + n, mask=own, other=0.0),
        tl.load(grad + given, mask=own & (layer == L - 1), other=0.0),
    )


@triton.jit
def backward(
    grad, R, mask, S, A, D, ds0, room, counter, T, L, K, B, n, R_layers, R_plane, mask_rows,
    C: tl.constexpr, ROWS: tl.constexpr, UNITS: tl.constexpr, SHARES: tl.constexpr,
    SHARE: tl.constexpr, WIDTH: tl.constexpr, MASKED: tl.constexpr, PARTS: tl.constexpr,
):  # fmt: skip
    model = tl.program_id(0) // C
    first_unit = (tl.program_id(0) % C) * UNITS
    row = tl.arange(0, ROWS)[:, None]
    unit = first_unit + tl.arange(0, UNITS)[None, :]
    own = (row < B) & (unit < n)
    share = tl.arange(0, SHARES)[:, None, None] * SHARE
    k = share + tl.arange(0, SHARE)[None, None, :]
    r = tl.arange(0, ROWS)[None, :, None]
    at_gradient, has_gradient = r * WIDTH + k, (r < B) & (k < WIDTH)
    k = share + tl.arange(0, SHARE)[None, :, None]
    at_weight = k * WIDTH + (first_unit + tl.arange(0, UNITS)[None, None, :])
    has_weight = (k < WIDTH) & (tl.arange(0, UNITS)[None, None, :] >= 0)
    counter += model * 32
    PLANE: tl.constexpr = ROWS * WIDTH
    m = tl.full((ROWS, UNITS), 1.0, tl.float32)
    if MASKED:
        m = tl.load(mask + (model * mask_rows + row) * n + unit, mask=own, other=0.0)
    ds = tl.zeros((ROWS, UNITS), tl.float32)
    last = T * L - 1
    s, h, g, given = local(S, A, grad, last, own, T, L, K, B, n, model, row, unit)
    for stage in range(T * L):
        at = last - stage
        t = at // L
        layer = at % L
        ds += given
        d_h = ds * g * (1 - h * h)
        d_t = ds * (h - s) * (g * (1 - g))
        shared = room + ((stage % 2) * K + model) * 2 * PARTS * PLANE
        write(shared + row * WIDTH + unit, d_h, PLANE, PARTS)
        write(shared + PARTS * PLANE + row * WIDTH + unit, d_t, PLANE, PARTS)
        arrive(counter, C)
        gate = ((layer * T + t) * K + model).to(tl.int64) * B * 2 * n + row * 2 * n + unit
        tl.store(D + gate, d_h, mask=own)
        tl.store(D + gate + n, d_t, mask=own)
        ds *= 1 - g
        s, h, g, given = local(S, A, grad, at - 1, own, T, L, K, B, n, model, row, unit)
        tile = R + (model * R_layers + layer).to(tl.int64) * 2 * WIDTH * WIDTH
        h0, h1, h2 = weights(tile, at_weight, has_weight, R_plane, PARTS)
        t0, t1, t2 = weights(tile + WIDTH * WIDTH, at_weight, has_weight, R_plane, PARTS)
        wait(counter, C * (stage + 1), C)
        a0, a1, a2 = read(shared, at_gradient, has_gradient, PLANE, PARTS)
        change = product(a0, a1, a2, h0, h1, h2, PARTS)
        a0, a1, a2 = read(shared + PARTS * PLANE, at_gradient, has_gradient, PLANE, PARTS)
        change += product(a0, a1, a2, t0, t1, t2, PARTS)
        ds += m * change
    tl.store(ds0 + model * B * n + row * n + unit, ds, mask=own)
