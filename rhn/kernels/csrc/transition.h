/* The deep transition over time; see rhn/kernels/transition.py for the equations. */

INLINE void activate(long n, int relu, float *z, float *copy, long ldc)
{
    for (long i = 0; i < n; i++)
        EACH_VECTOR(l) {
            v x = load(z + i * LANES + l);
            x = relu ? choose(x < 0.0f, all(0), x) : hyperbolic_tangent(x);
            store(z + i * LANES + l, x);
            if (copy) store(copy + i * ldc + l, x);
        }
}

int rhn_transition_forward(const struct rhn_transition_forward *args, long begin, long end)
{
    long T = args->T, B = args->B, m = args->m, n = args->n, L = args->L, rows = padded_rows(B);
    long width = PADDED(n), stage = n * LANES, keep = args->layers.data != NULL, first_skip = L - args->shortcuts;
    Inputs inputs = open_inputs(&args->x, T, B, m);
    Memory memory;
    if (!reserve(&memory, (m + 1 + LANES) * width + 4 * stage + 160)) return 1;
    float *Wt = take(&memory, m * width), *b = take(&memory, width), *scratch = take(&memory, LANES * width);
    float *own = take(&memory, 2 * stage), *masked = take(&memory, stage), *masked_before = take(&memory, stage);
    for (long k = begin; k < end; k++) {
        const float *W = of(args->W, k), *R = of(args->R, k), *bias = of(args->b, k);
        const Input *in = input_of(&inputs, k, W, n);
        if (!in) break;
        InputWeights input = {in, B, m, n, width, W, b, Wt, scratch};
        transpose(n, m, W, Wt, width);
        memcpy(b, bias, n * sizeof(float));
        for (long row = 0; row < B; row += LANES) {
            const float *before = of(args->s0, k) + row, *mask = at_row(args->state_mask, k, row);
            float *kept = keep ? of(args->layers, k) + row * T * L * n : NULL, *y = of(args->y, k) + row;
            for (long t = 0; t < T; t++, before = y, y += n * rows) {
                const float *y_before = masked_rows(n, before, rows, mask, rows, masked_before), *s = y_before;
                long ld_before = mask ? LANES : rows, lds = ld_before;
                for (long l = 0; l < L; l++) {
                    float *z = keep ? kept + (t * L + l) * stage : own + l % 2 * stage;
                    if (l == 0) input_product(&input, t, row, z);
                    product(n, n, R + l * n * n, n, s, lds, z, LANES, l ? bias + l * n : NULL);
                    if (l >= first_skip)
                        product(n, n, of(args->S, k) + (l - first_skip) * n * n, n, y_before, ld_before, z, LANES, NULL);
                    float *copy = l + 1 < L ? NULL : y;
                    if (args->relu) activate(n, 1, z, copy, rows);
                    else activate(n, 0, z, copy, rows);
                    s = masked_rows(n, z, LANES, mask, rows, masked), lds = LANES;
                }
            }
        }
    }
    int failed = close_inputs(&inputs);
    free(memory.block);
    return failed;
}

/* dz = f' ds, with f' from what the layer gives. */
INLINE void transition_derivatives(long n, int relu, const float *out, const float *ds, float *dz, v *db)
{
    for (long i = 0; i < n; i++)
        EACH_VECTOR(l) {
            v s = load(out + i * LANES + l), d = load(ds + i * LANES + l);
            v slope = 1.0f - s * s, dh = d * (relu ? choose(s > 0.0f, all(1), all(0)) : slope);
            store(dz + i * LANES + l, dh), db[i] += dh;
        }
}

/* to (n, 32) += (Mt dz) * mask; `back` has room for a product. */
static void add_product(long n, const float *Mt, const float *dz, const float *mask, long ldm, float *back, float *to)
{
    if (!mask) {
        product(n, n, Mt, n, dz, LANES, to, LANES, NULL);
        return;
    }
    memset(back, 0, n * LANES * sizeof(float));
    product(n, n, Mt, n, dz, LANES, back, LANES, NULL);
    add_masked_rows(n, back, mask, ldm, to);
}

int rhn_transition_backward(const struct rhn_transition_backward *args, long begin, long end)
{
    long T = args->T, B = args->B, m = args->m, n = args->n, L = args->L, rows = padded_rows(B);
    long width = PADDED(n), stage = n * LANES, skips = args->shortcuts, first_skip = L - skips, square = n * n;
    long masks = args->state_mask.data != NULL;
    long chunk = steps_at_once(T, ((1 + masks) * L + 1) * stage);
    Inputs inputs = open_inputs(&args->x, T, B, m);
    Memory memory;
    if (!reserve(&memory, (m + LANES) * width + L * n * VL + (L + skips) * square
                 + (3 + chunk * ((1 + masks) * L + 1)) * stage + 256)) return 1;
    float *dWt = take(&memory, m * width), *scratch = take(&memory, LANES * width), *sums = take(&memory, L * n * VL);
    float *Rt = take(&memory, (L + skips) * square), *St = Rt + L * square;
    float *dy = take(&memory, stage), *ds = take(&memory, stage), *D = take(&memory, chunk * L * stage);
    float *Y = take(&memory, chunk * stage), *M = take(&memory, chunk * masks * L * stage); /* masked outputs of layers */
    float *back = take(&memory, stage);
    for (long k = begin; k < end; k++) {
        const float *R = of(args->R, k), *states = of(args->layers, k);
        float *dR = of(args->dR, k), *db = of(args->db, k), *dS = skips ? of(args->dS, k) : NULL;
        const Input *in = input_of(&inputs, k, of(args->W, k), n);
        if (!in) break;
        InputWeights input = {in, B, m, n, width, of(args->W, k), NULL, NULL, scratch};
        memset(dWt, 0, m * width * sizeof(float)), memset(sums, 0, L * n * VL * sizeof(float));
        memset(of(args->dW, k), 0, n * m * sizeof(float));
        memset(dR, 0, L * square * sizeof(float));
        if (skips) memset(dS, 0, skips * square * sizeof(float));
        for (long l = 0; l < L; l++) transpose(n, n, R + l * square, Rt + l * square, n);
        for (long l = 0; l < skips; l++) transpose(n, n, of(args->S, k) + l * square, St + l * square, n);
        for (long row = 0; row < B; row += LANES) {
            const float *kept = states + row * T * L * n, *mask = at_row(args->state_mask, k, row);
            memset(dy, 0, stage * sizeof(float));
            for (long stop = T; stop > 0; stop -= chunk) {
                long start = stop > chunk ? stop - chunk : 0;
                for (long t = stop - 1; t >= start; t--) {
                    float *d = D + (t - start) * L * stage;
                    memcpy(ds, dy, stage * sizeof(float)), memset(dy, 0, stage * sizeof(float));
                    add_rows(n, of(args->dy, k) + t * n * rows + row, rows, ds);
                    for (long l = L - 1; l >= 0; l--) {
                        float *dz = d + l * stage, *below = l ? ds : dy;
                        v *db_l = (v *)(sums + l * n * VL);
                        if (args->relu) transition_derivatives(n, 1, kept + (t * L + l) * stage, ds, dz, db_l);
                        else transition_derivatives(n, 0, kept + (t * L + l) * stage, ds, dz, db_l);
                        if (l >= first_skip)
                            add_product(n, St + (l - first_skip) * square, dz, mask, rows, back, dy);
                        if (l) memset(ds, 0, stage * sizeof(float));
                        add_product(n, Rt + l * square, dz, mask, rows, back, below);
                    }
                    const float *before = t ? of(args->y, k) + (t - 1) * n * rows + row : of(args->s0, k) + row;
                    float *y = Y + (t - start) * stage;
                    if (masked_rows(n, before, rows, mask, rows, y) != y) put_rows_together(n, before, rows, y);
                    for (long l = 0; l < L && mask; l++)
                        masked_rows(n, kept + (t * L + l) * stage, LANES, mask, rows, M + ((t - start) * L + l) * stage);
                    if (args->dx.data) input_derivative(&input, d, of(args->dx, k) + t * m * rows + row, rows);
                }
                input_gradients(&input, start, stop, row, D, L * stage, dWt, of(args->dW, k));
                for (long l = 0; l < L; l++) {
                    const float *s = !l ? Y : mask ? M + (l - 1) * stage : kept + (start * L + l - 1) * stage;
                    const float *dz = D + l * stage;
                    outer(n, n, stop - start, dz, LANES, L * stage, s, LANES, l ? L * stage : stage, dR + l * square, n);
                    if (l >= first_skip)
                        outer(n, n, stop - start, dz, LANES, L * stage, Y, LANES, stage, dS + (l - first_skip) * square, n);
                }
            }
            put_rows(n, dy, of(args->ds0, k) + row, rows);
        }
        for (long i = 0; i < L * n; i++) db[i] = sum_of(load(sums + i * VL));
        finish_input_gradients(&input, dWt, db, of(args->dW, k));
    }
    int failed = close_inputs(&inputs);
    free(memory.block);
    return failed;
}
