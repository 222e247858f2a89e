/* The recurrences over time: the highway network, with coupled (G = 2) or uncoupled gates (G = 3), and the deep transition (G = 1).
   Equations and derivatives: rhn/kernels/transition.py. */

/* Calls a function with what the innermost loops must know when they are compiled. */
#define FOR_ITS_KIND(function, ...)                                      \
    do {                                                                 \
        if (G == 1 && relu) function(n, 1, 1, NULL, 0, __VA_ARGS__);     \
        else if (G == 1) function(n, 1, 0, NULL, 0, __VA_ARGS__);        \
        else if (G == 2 && !mask) function(n, 2, 0, NULL, 0, __VA_ARGS__); \
        else if (G == 2) function(n, 2, 0, mask, rows, __VA_ARGS__);     \
        else function(n, 3, 0, mask, rows, __VA_ARGS__);                 \
    } while (0)

/* Replaces the pre-activations a of a layer by its gates, and writes its state. mask: of the candidate h; the gates keep h without it. */
INLINE void gates_of(
    long n, int G, int relu, const float *mask, long ldm, const float *s, long lds, float *a, float *out, long ldo)
{
    for (long i = 0; i < n; i++)
        EACH_VECTOR(l) {
            float *h_i = a + i * LANES + l, *t_i = h_i + n * LANES, *c_i = t_i + n * LANES;
            v z = load(h_i), h = relu ? choose(z < 0.0f, all(0), z) : hyperbolic_tangent(z), state = h;
            store(h_i, h);
            if (G > 1) {
                v t = sigmoid(load(t_i));
                state = load(s + i * lds + l);
                store(t_i, t);
                if (mask) h *= load(mask + i * ldm + l);
                if (G == 2)
                    state += t * (h - state);
                else {
                    v c = sigmoid(load(c_i));
                    store(c_i, c);
                    state = h * t + state * c;
                }
            }
            store(out + i * ldo + l, state);
        }
}

int rhn_recurrence_forward(const struct rhn_recurrence_forward *args, long begin, long end)
{
    long T = args->T, B = args->B, m = args->m, n = args->n, L = args->L, G = args->G, rows = padded_rows(B), relu = args->relu;
    long g = G * n, width = PADDED(g), stage = g * LANES, keep = args->layers.data != NULL, first_skip = L - args->shortcuts;
    long J = args->J, masks = J ? J : 1, part = g / masks; /* rows of R that share a mask */
    Inputs inputs = open_inputs(&args->x, T, B, m);
    Memory memory;
    if (!reserve(&memory, (m + 1 + LANES) * width + stage + 4 * n * LANES + 160)) return 1;
    float *Wt = take(&memory, m * width), *b = take(&memory, width), *scratch = take(&memory, LANES * width);
    float *own = take(&memory, stage), *states = take(&memory, 2 * n * LANES), *masked = take(&memory, 2 * n * LANES);
    for (long k = begin; k < end; k++) {
        const float *W = of(args->W, k), *R = of(args->R, k), *S = of(args->S, k), *bias = of(args->b, k);
        const Input *in = input_of(&inputs, k, W, g);
        if (!in) break;
        InputWeights input = {in, B, m, g, width, W, b, Wt, scratch};
        transpose(g, m, W, Wt, width);
        memcpy(b, bias, g * sizeof(float));
        for (long row = 0; row < B; row += LANES) {
            const float *s = of(args->s0, k) + row, *before = NULL; /* the state before the step, as masked */
            const float *state_mask = at_row(args->state_mask, k, row), *mask = at_row(args->candidate_mask, k, row);
            float *a = keep ? of(args->layers, k) + row * T * L * g : own, *y = of(args->y, k) + row;
            long lds = rows, ld_before = J ? LANES : rows;
            for (long t = 0; t < T; t++, y += n * rows)
                for (long l = 0; l < L; l++, a += keep ? stage : 0) {
                    if (l == 0) input_product(&input, t, row, a);
                    for (long j = 0; j < masks; j++) {
                        float *room = masked + (l > 0) * n * LANES;
                        const float *from = masked_rows(n, s, lds, J ? state_mask + j * n * rows : NULL, rows, room);
                        product(part, n, R + (l * g + j * part) * n, n, from, J ? LANES : lds, a + j * part * LANES, LANES,
                                l ? bias + l * g + j * part : NULL);
                        if (l == 0) before = from;
                    }
                    if (l >= first_skip) product(n, n, S + (l - first_skip) * n * n, n, before, ld_before, a, LANES, NULL);
                    float *out = l + 1 < L ? states + l % 2 * n * LANES : y;
                    long ldo = l + 1 < L ? LANES : rows;
                    FOR_ITS_KIND(gates_of, s, lds, a, out, ldo);
                    s = out, lds = ldo;
                }
        }
    }
    int failed = close_inputs(&inputs);
    free(memory.block);
    return failed;
}

/* From ds_l, the gradient of what a layer gives, its dz, and what the carry gate hands on, which takes the place of ds_l. */
INLINE void derivatives_of(
    long n, int G, int relu, const float *mask, long ldm, const float *s, const float *a, float *ds, float *dz, v *db)
{
    for (long i = 0; i < n; i++)
        EACH_VECTOR(l) {
            const float *h_i = a + i * LANES + l, *t_i = h_i + n * LANES;
            float *dh_i = dz + i * LANES + l, *dt_i = dh_i + n * LANES, *ds_i = ds + i * LANES + l;
            v h = load(h_i), d = load(ds_i), slope = 1.0f - h * h;
            if (relu) slope = choose(h > 0.0f, all(1), all(0));
            if (G == 1) {
                v dh = d * slope;
                store(dh_i, dh), store(ds_i, all(0)), db[i] += dh;
                continue;
            }
            v t = load(t_i), state = load(s + i * LANES + l), dt, dh = d * (t * slope);
            if (mask) {
                v m = load(mask + i * ldm + l);
                dh *= m, h *= m;
            }
            if (G == 2) {
                dt = d * ((h - state) * (t * (1.0f - t)));
                store(ds_i, d * (1.0f - t));
            } else {
                v c = load(t_i + n * LANES), dc = d * (state * (c * (1.0f - c)));
                dt = d * (h * (t * (1.0f - t)));
                store(dt_i + n * LANES, dc), db[i + 2 * n] += dc;
                store(ds_i, d * c);
            }
            store(dh_i, dh), store(dt_i, dt), db[i] += dh, db[i + n] += dt;
        }
}

/* The states that enter the layers, s (L, n, 32), once more from the gates of a step. */
INLINE void states_of(
    long n, int G, int relu, const float *mask, long ldm, long L, const float *a, const float *first, long ld, float *s)
{
    (void)relu;
    copy_rows(n, first, ld, s, LANES);
    for (long layer = 0; layer + 1 < L; layer++, a += G * n * LANES, s += n * LANES)
        for (long i = 0; i < n; i++)
            EACH_VECTOR(l) {
                const float *h_i = a + i * LANES + l, *t_i = h_i + n * LANES;
                v h = load(h_i), state = h;
                if (G > 1) {
                    v t = load(t_i);
                    state = load(s + i * LANES + l);
                    if (mask) h *= load(mask + i * ldm + l);
                    state = G == 2 ? state + t * (h - state) : h * t + state * load(t_i + n * LANES);
                }
                store(s + (n + i) * LANES + l, state);
            }
}

/* to (n, 32) += (Mt dz) * mask, with Mt (n, g); `back` has room for a product. */
static void add_product(long n, long g, const float *Mt, const float *dz, const float *mask, long ldm, float *back, float *to)
{
    if (mask) memset(back, 0, n * LANES * sizeof(float));
    product(n, g, Mt, g, dz, LANES, mask ? back : to, LANES, NULL);
    if (mask) add_masked_rows(n, back, mask, ldm, to);
}

int rhn_recurrence_backward(const struct rhn_recurrence_backward *args, long begin, long end)
{
    long T = args->T, B = args->B, m = args->m, n = args->n, L = args->L, G = args->G, rows = padded_rows(B), relu = args->relu;
    long g = G * n, width = PADDED(g), stage = g * LANES, layer_states = n * LANES, skips = args->shortcuts, square = n * n;
    long J = args->J, masks = J ? J : 1, part = g / masks; /* rows of R that share a mask */
    long chunk = steps_at_once(T, G == 1 ? ((1 + J) * L + 1) * stage : L * (stage + (1 + J) * layer_states));
    Inputs inputs = open_inputs(&args->x, T, B, m);
    Memory memory;
    if (!reserve(&memory, (m + LANES) * width + L * g * (VL + n) + skips * square + 3 * layer_states
                 + chunk * L * (stage + (1 + J) * layer_states) + 224)) return 1;
    float *dWt = take(&memory, m * width), *scratch = take(&memory, LANES * width), *sums = take(&memory, L * g * VL);
    float *Rt = take(&memory, L * g * n), *St = take(&memory, skips * square);
    float *ds = take(&memory, layer_states), *skipped = take(&memory, layer_states), *back = take(&memory, layer_states);
    float *D = take(&memory, chunk * L * stage), *S = take(&memory, chunk * L * layer_states);
    float *M = take(&memory, chunk * L * J * layer_states), *entering = J ? M : S; /* M: masked states */
    for (long k = begin; k < end; k++) {
        const float *R = of(args->R, k);
        float *dR = of(args->dR, k), *db = of(args->db, k), *dS = of(args->dS, k);
        const Input *in = input_of(&inputs, k, of(args->W, k), g);
        if (!in) break;
        InputWeights input = {in, B, m, g, width, of(args->W, k), NULL, NULL, scratch};
        memset(dWt, 0, m * width * sizeof(float)), memset(sums, 0, L * g * VL * sizeof(float));
        memset(of(args->dW, k), 0, g * m * sizeof(float));
        memset(dR, 0, L * g * n * sizeof(float));
        if (skips) memset(dS, 0, skips * square * sizeof(float));
        for (long l = 0; l < L * masks; l++) transpose(part, n, R + l * part * n, Rt + l * part * n, part);
        for (long l = 0; l < skips; l++) transpose(n, n, of(args->S, k) + l * square, St + l * square, n);
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
                    FOR_ITS_KIND(states_of, L, a, before, rows, s);
                    for (long i = 0; i < L * J; i++)
                        masked_rows(n, s + i / J * layer_states, LANES, state_mask + i % J * n * rows, rows,
                                    M + ((t - start) * L * J + i) * layer_states);
                    if (skips) memset(skipped, 0, layer_states * sizeof(float));
                    for (long l = L - 1; l >= 0; l--) {
                        float *dz = d + l * stage;
                        FOR_ITS_KIND(derivatives_of, s + l * layer_states, a + l * stage, ds, dz, (v *)(sums + l * g * VL));
                        if (l >= L - skips) add_product(n, n, St + (l - L + skips) * square, dz, state_mask, rows, back, skipped);
                        if (l == 0 && skips) memcpy(ds, skipped, layer_states * sizeof(float));
                        for (long j = 0; j < masks; j++)
                            add_product(n, part, Rt + (l * g + j * part) * n, dz + j * part * LANES,
                                        J ? state_mask + j * n * rows : NULL, rows, back, ds);
                    }
                    if (args->dx.data) input_derivative(&input, d, of(args->dx, k) + t * m * rows + row, rows);
                }
                input_gradients(&input, start, stop, row, D, L * stage, dWt, of(args->dW, k));
                for (long i = 0; i < L * masks; i++)
                    outer(part, n, stop - start, D + i * part * LANES, LANES, L * stage, entering + i * layer_states, LANES,
                          L * masks * layer_states, dR + i * part * n, n);
                for (long l = 0; l < skips; l++)
                    outer(n, n, stop - start, D + (L - skips + l) * stage, LANES, L * stage, entering, LANES,
                          L * masks * layer_states, dS + l * square, n);
            }
            copy_rows(n, ds, LANES, of(args->ds0, k) + row, rows);
        }
        for (long i = 0; i < L * g; i++) db[i] = sum_of(load(sums + i * VL));
        finish_input_gradients(&input, dWt, db, of(args->dW, k));
    }
    int failed = close_inputs(&inputs);
    free(memory.block);
    return failed;
}
