/* The recurrent highway network over time; see rhn/kernels/highway.py for the equations and the derivatives. */

/* mask: of the candidate h, or NULL; the gates keep h without it. */
INLINE void highway_gates(
    long n, int coupled, const float *s, long lds, float *a, const float *mask, long ldm, float *out, long ldo)
{
    for (long i = 0; i < n; i++)
        EACH_VECTOR(l) {
            float *h_i = a + i * LANES + l, *t_i = h_i + n * LANES, *c_i = t_i + n * LANES;
            v h = hyperbolic_tangent(load(h_i)), t = sigmoid(load(t_i)), state = load(s + i * lds + l);
            store(h_i, h), store(t_i, t);
            if (mask) h *= load(mask + i * ldm + l);
            if (coupled)
                state += t * (h - state);
            else {
                v c = sigmoid(load(c_i));
                store(c_i, c);
                state = h * t + state * c;
            }
            store(out + i * ldo + l, state);
        }
}

int rhn_highway_forward(const struct rhn_highway_forward *args, long begin, long end)
{
    long T = args->T, B = args->B, m = args->m, n = args->n, L = args->L, rows = padded_rows(B);
    long g = args->G * n, coupled = args->G == 2, width = PADDED(g), stage = g * LANES, keep = args->layers.data != NULL;
    Inputs inputs = open_inputs(&args->x, T, B, m);
    Memory memory;
    if (!reserve(&memory, (m + 1 + LANES) * width + stage + 3 * n * LANES + 160)) return 1;
    float *Wt = take(&memory, m * width), *b = take(&memory, width), *scratch = take(&memory, LANES * width);
    float *own = take(&memory, stage), *states = take(&memory, 2 * n * LANES), *masked = take(&memory, n * LANES);
    long J = args->J, masks = J ? J : 1, part = g / masks; /* rows of R that share a mask */
    for (long k = begin; k < end; k++) {
        const float *W = of(args->W, k), *R = of(args->R, k), *bias = of(args->b, k);
        const Input *in = input_of(&inputs, k, W, g);
        if (!in) break;
        InputWeights input = {in, B, m, g, width, W, b, Wt, scratch};
        transpose(g, m, W, Wt, width);
        memcpy(b, bias, g * sizeof(float));
        for (long row = 0; row < B; row += LANES) {
            const float *s = of(args->s0, k) + row;
            const float *state_mask = at_row(args->state_mask, k, row), *mask = at_row(args->candidate_mask, k, row);
            float *a = keep ? of(args->layers, k) + row * T * L * g : own, *y = of(args->y, k) + row;
            long lds = rows;
            for (long t = 0; t < T; t++, y += n * rows)
                for (long l = 0; l < L; l++, a += keep ? stage : 0) {
                    if (l == 0) input_product(&input, t, row, a);
                    for (long j = 0; j < masks; j++) {
                        const float *from = masked_rows(n, s, lds, J ? state_mask + j * n * rows : NULL, rows, masked);
                        product(part, n, R + (l * g + j * part) * n, n, from, J ? LANES : lds, a + j * part * LANES, LANES,
                                l ? bias + l * g + j * part : NULL);
                    }
                    float *out = l + 1 < L ? states + l % 2 * n * LANES : y;
                    long ldo = l + 1 < L ? LANES : rows;
                    if (coupled && !mask)
                        highway_gates(n, 1, s, lds, a, NULL, 0, out, ldo);
                    else if (coupled)
                        highway_gates(n, 1, s, lds, a, mask, rows, out, ldo);
                    else
                        highway_gates(n, 0, s, lds, a, mask, rows, out, ldo);
                    s = out, lds = ldo;
                }
        }
    }
    int failed = close_inputs(&inputs);
    free(memory.block);
    return failed;
}

/* From ds_l, the gradient of what a layer gives, its dz, and what the carry gate hands on, which takes the place of ds_l. */
INLINE void highway_derivatives(
    long n, int coupled, const float *s, const float *a, const float *mask, long ldm, float *ds, float *dz, v *db)
{
    for (long i = 0; i < n; i++)
        EACH_VECTOR(l) {
            const float *h_i = a + i * LANES + l, *t_i = h_i + n * LANES;
            float *dh_i = dz + i * LANES + l, *dt_i = dh_i + n * LANES;
            v h = load(h_i), t = load(t_i), d = load(ds + i * LANES + l), state = load(s + i * LANES + l), dt;
            v dh = d * (t * (1.0f - h * h));
            if (mask) {
                v m = load(mask + i * ldm + l);
                dh *= m, h *= m;
            }
            if (coupled) {
                dt = d * ((h - state) * (t * (1.0f - t)));
                store(ds + i * LANES + l, d * (1.0f - t));
            } else {
                v c = load(t_i + n * LANES), dc = d * (state * (c * (1.0f - c)));
                dt = d * (h * (t * (1.0f - t)));
                store(dt_i + n * LANES, dc), db[i + 2 * n] += dc;
                store(ds + i * LANES + l, d * c);
            }
            store(dh_i, dh), store(dt_i, dt), db[i] += dh, db[i + n] += dt;
        }
}

/* The states that enter the layers, s (L, n, 32), once more from the gates of a step. */
INLINE void highway_states(
    long n, long L, int coupled, const float *a, const float *first, long ld, const float *mask, long ldm, float *s)
{
    for (long i = 0; i < n; i++)
        EACH_VECTOR(l) store(s + i * LANES + l, load(first + i * ld + l));
    for (long layer = 0; layer + 1 < L; layer++, a += (coupled ? 2 : 3) * n * LANES, s += n * LANES)
        for (long i = 0; i < n; i++)
            EACH_VECTOR(l) {
                const float *h_i = a + i * LANES + l;
                v state = load(s + i * LANES + l), h = load(h_i), t = load(h_i + n * LANES);
                if (mask) h *= load(mask + i * ldm + l);
                store(s + (n + i) * LANES + l, coupled ? state + t * (h - state) : h * t + state * load(h_i + 2 * n * LANES));
            }
}

int rhn_highway_backward(const struct rhn_highway_backward *args, long begin, long end)
{
    long T = args->T, B = args->B, m = args->m, n = args->n, L = args->L, rows = padded_rows(B);
    long g = args->G * n, coupled = args->G == 2, width = PADDED(g), stage = g * LANES, layer_states = n * LANES;
    long J = args->J, masks = J ? J : 1, part = g / masks; /* rows of R that share a mask */
    long chunk = steps_at_once(T, L * (stage + (1 + J) * layer_states));
    Inputs inputs = open_inputs(&args->x, T, B, m);
    Memory memory;
    if (!reserve(&memory, (m + LANES) * width + L * g * (VL + n) + 2 * layer_states
                 + chunk * L * (stage + (1 + J) * layer_states) + 192)) return 1;
    float *dWt = take(&memory, m * width), *scratch = take(&memory, LANES * width), *sums = take(&memory, L * g * VL);
    float *Rt = take(&memory, L * g * n), *ds = take(&memory, layer_states);
    float *D = take(&memory, chunk * L * stage), *S = take(&memory, chunk * L * layer_states);
    float *M = take(&memory, chunk * L * J * layer_states), *back = take(&memory, layer_states); /* masked states */
    for (long k = begin; k < end; k++) {
        const float *R = of(args->R, k);
        float *dR = of(args->dR, k), *db = of(args->db, k);
        const Input *in = input_of(&inputs, k, of(args->W, k), g);
        if (!in) break;
        InputWeights input = {in, B, m, g, width, of(args->W, k), NULL, NULL, scratch};
        memset(dWt, 0, m * width * sizeof(float)), memset(sums, 0, L * g * VL * sizeof(float));
        memset(of(args->dW, k), 0, g * m * sizeof(float));
        memset(dR, 0, L * g * n * sizeof(float));
        for (long l = 0; l < L * masks; l++) transpose(part, n, R + l * part * n, Rt + l * part * n, part);
        for (long row = 0; row < B; row += LANES) {
            const float *state_mask = at_row(args->state_mask, k, row), *mask = at_row(args->candidate_mask, k, row);
            memset(ds, 0, layer_states * sizeof(float));
            for (long stop = T; stop > 0; stop -= chunk) {
                long start = stop > chunk ? stop - chunk : 0;
                for (long t = stop - 1; t >= start; t--) {
                    const float *a = of(args->layers, k) + (row * T + t * LANES) * L * g, *dy = of(args->dy, k) + t * n * rows + row;
                    const float *before = t ? of(args->y, k) + (t - 1) * n * rows + row : of(args->s0, k) + row;
                    float *s = S + (t - start) * L * layer_states, *d = D + (t - start) * L * stage;
                    add_rows(n, dy, rows, ds);
                    if (coupled && !mask) highway_states(n, L, 1, a, before, rows, NULL, 0, s);
                    else if (coupled) highway_states(n, L, 1, a, before, rows, mask, rows, s);
                    else highway_states(n, L, 0, a, before, rows, mask, rows, s);
                    for (long i = 0; i < L * J; i++)
                        masked_rows(n, s + i / J * layer_states, LANES, state_mask + i % J * n * rows, rows,
                                    M + ((t - start) * L * J + i) * layer_states);
                    for (long l = L - 1; l >= 0; l--) {
                        float *dz = d + l * stage;
                        v *db_l = (v *)(sums + l * g * VL);
                        const float *s_l = s + l * layer_states, *a_l = a + l * stage;
                        if (coupled && !mask) highway_derivatives(n, 1, s_l, a_l, NULL, 0, ds, dz, db_l);
                        else if (coupled) highway_derivatives(n, 1, s_l, a_l, mask, rows, ds, dz, db_l);
                        else highway_derivatives(n, 0, s_l, a_l, mask, rows, ds, dz, db_l);
                        if (!J) product(n, g, Rt + l * g * n, g, dz, LANES, ds, LANES, NULL);
                        for (long j = 0; j < J; j++) {
                            memset(back, 0, layer_states * sizeof(float));
                            product(n, part, Rt + (l * g + j * part) * n, part, dz + j * part * LANES, LANES, back, LANES, NULL);
                            add_masked_rows(n, back, state_mask + j * n * rows, rows, ds);
                        }
                    }
                    if (args->dx.data) input_derivative(&input, d, of(args->dx, k) + t * m * rows + row, rows);
                }
                input_gradients(&input, start, stop, row, D, L * stage, dWt, of(args->dW, k));
                for (long i = 0; i < L * masks; i++)
                    outer(part, n, stop - start, D + i * part * LANES, LANES, L * stage, (J ? M : S) + i * layer_states, LANES,
                          L * masks * layer_states, dR + i * part * n, n);
            }
            put_rows(n, ds, of(args->ds0, k) + row, rows);
        }
        for (long i = 0; i < L * g; i++) db[i] = sum_of(load(sums + i * VL));
        finish_input_gradients(&input, dWt, db, of(args->dW, k));
    }
    int failed = close_inputs(&inputs);
    free(memory.block);
    return failed;
}
