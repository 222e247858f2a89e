/* The input of a recurrence, x (T, B, m), in one of two forms.

   A frame of music has four keys of 88: where at most a quarter of the entries is not zero they are listed, and W x is the sum of a few
   columns of W, dW a few columns too. Else rows stand side by side as everywhere. Also where W is not finite: 0 times it is NaN. */

typedef struct {
    long *first; /* entries first[r] to first[r + 1] belong to row r = t B + b */
    int *column;
    float *value;
    float *lanes; /* or (T, rows / 32, m, 32), and nothing of the above */
} Input;

static void free_input(Input *in)
{
    free(in->first), free(in->column), free(in->value), free(in->lanes);
    memset(in, 0, sizeof(Input));
}

/* Lists x (rows, m), of which `count` entries are not zero; 0 where memory is short. */
static int list_input(Input *in, const float *x, long rows, long m, long count)
{
    long place = 0;
    in->first = malloc((rows + 1) * sizeof(long));
    in->column = malloc((count + 1) * sizeof(int));
    in->value = malloc((count + 1) * sizeof(float));
    if (!in->first || !in->column || !in->value) return 0;
    for (long r = 0; r < rows; r++) {
        in->first[r] = place;
        for (long k = 0; k < m; k++)
            if (x[r * m + k] != 0.0f) in->column[place] = (int)k, in->value[place++] = x[r * m + k];
    }
    in->first[rows] = place;
    return 1;
}

/* Sets x (T, B, m) side by side; 0 where memory is short. */
static int spread_input(Input *in, const float *x, long T, long B, long m)
{
    long blocks = (B + LANES - 1) / LANES;
    in->lanes = calloc(T * blocks * m * LANES, sizeof(float));
    if (!in->lanes) return 0;
    for (long t = 0; t < T; t++)
        for (long b = 0; b < B; b++)
            for (long k = 0; k < m; k++)
                in->lanes[((t * blocks + b / LANES) * m + k) * LANES + b % LANES] = x[(t * B + b) * m + k];
    return 1;
}

static int all_finite(const float *x, long count)
{
    int finite = 1;
    for (long i = 0; i < count; i++) finite &= x[i] - x[i] == 0.0f;
    return finite;
}

/* ---- the inputs of the models: one form where they share them ---- */

typedef struct {
    const Tensor *x;
    long T, B, m, owner, count; /* owner: the model whose input is at hand, -1 none yet; count: how many entries are not zero */
    Input sparse, dense;
    int failed;
} Inputs;

static Inputs open_inputs(const Tensor *x, long T, long B, long m)
{
    return (Inputs){.x = x, .T = T, .B = B, .m = m, .owner = -1};
}

/* The input of a model with g x m weights W; NULL where memory is short. */
static const Input *input_of(Inputs *all, long model, const float *W, long g)
{
    long owner = all->x->stride ? model : 0, rows = all->T * all->B, m = all->m;
    const float *x = of(*all->x, model);
    if (all->owner != owner) {
        free_input(&all->sparse), free_input(&all->dense);
        all->owner = owner, all->count = 0;
        for (long i = 0; i < rows * m; i++) all->count += x[i] != 0.0f;
    }
    int few = 4 * all->count <= rows * m && m <= INT_MAX && all_finite(W, g * m);
    Input *in = few ? &all->sparse : &all->dense;
    if (in->first || in->lanes) return in;
    int whole = few ? list_input(in, x, rows, m, all->count) : spread_input(in, x, all->T, all->B, m);
    all->failed |= !whole;
    return whole ? in : NULL;
}

/* 1 where memory was short. */
static int close_inputs(Inputs *all)
{
    free_input(&all->sparse), free_input(&all->dense);
    return all->failed;
}

/* ---- products with W (g, m); Wt (m, width), b (width) and scratch (LANES, width) have rows filled up to `width` ---- */

typedef struct {
    const Input *in;
    long B, m, g, width;
    const float *W, *b;
    float *Wt, *scratch;
} InputWeights;

static const float *spread_rows(const InputWeights *w, long t, long row)
{
    return w->in->lanes + (t * (padded_rows(w->B) / LANES) + row / LANES) * w->m * LANES;
}

/* out (N vectors) = W x + b for one row, entries begin to end of the list. */
INLINE void input_row(const int N, const Input *in, long begin, long end, const float *Wt, const float *b, long width, float *out)
{
    v sum[4];
#pragma GCC unroll 4
    for (int i = 0; i < N; i++) sum[i] = load(b + i * VL);
    for (long e = begin; e < end; e++) {
        const float *column = Wt + in->column[e] * width;
        v x = all(in->value[e]);
#pragma GCC unroll 4
        for (int i = 0; i < N; i++) sum[i] += x * load(column + i * VL);
    }
#pragma GCC unroll 4
    for (int i = 0; i < N; i++) store(out + i * VL, sum[i]);
}

/* z (g, 32) = W x + b for the rows of a step from `row` on; those that fill up have the input 0. */
static void input_product(const InputWeights *w, long t, long row, float *z)
{
    const Input *in = w->in;
    long width = w->width, count = w->B - row < LANES ? w->B - row : LANES;
    if (in->lanes) {
        product(w->g, w->m, w->W, w->m, spread_rows(w, t, row), LANES, z, LANES, w->b);
        return;
    }
    for (long lane = 0; lane < LANES; lane++) {
        float *out = w->scratch + lane * width;
        const long *first = in->first + t * w->B + row + lane;
        long begin = lane < count ? first[0] : 0, end = lane < count ? first[1] : 0, i = 0;
        for (; i + 4 * VL <= width; i += 4 * VL) input_row(4, in, begin, end, w->Wt + i, w->b + i, width, out + i);
        switch ((width - i) / VL) {
        case 3: input_row(3, in, begin, end, w->Wt + i, w->b + i, width, out + i); break;
        case 2: input_row(2, in, begin, end, w->Wt + i, w->b + i, width, out + i); break;
        case 1: input_row(1, in, begin, end, w->Wt + i, w->b + i, width, out + i); break;
        }
    }
    to_lanes(w->scratch, width, w->g, z, LANES);
}

/* Adds the gradients of some steps, start to stop, to dW (g, m), or, of listed inputs, to dWt (m, width): dz (g, 32), `step` apart. */
static void input_gradients(
    const InputWeights *w, long start, long stop, long row, const float *dz, long step, float *dWt, float *dW)
{
    const Input *in = w->in;
    long width = w->width, count = w->B - row < LANES ? w->B - row : LANES, between = padded_rows(w->B) * w->m;
    if (in->lanes) {
        outer(w->g, w->m, stop - start, dz, LANES, step, spread_rows(w, start, row), LANES, between, dW, w->m);
        return;
    }
    for (long t = start; t < stop; t++, dz += step) {
        from_lanes(dz, LANES, w->g, w->scratch, width);
        for (long lane = 0; lane < count; lane++) {
            long r = t * w->B + row + lane;
            for (long e = in->first[r]; e < in->first[r + 1]; e++) {
                float *out = dWt + in->column[e] * width, x = in->value[e];
                for (long i = 0; i < width; i += VL)
                    store(out + i, load(out + i) + x * load(w->scratch + lane * width + i));
            }
        }
    }
}

/* Of listed inputs: dW (g, m) from dWt (m, width); where the sum db of a row's gradients is not finite, zeros of x count as well. */
static void finish_input_gradients(const InputWeights *w, const float *dWt, const float *db, float *dW)
{
    for (long i = 0; i < w->g && !w->in->lanes; i++)
        for (long k = 0; k < w->m; k++) dW[i * w->m + k] = dWt[k * w->width + i] + 0.0f * db[i];
}

/* dx (m, rows) = W' dz of one step. */
static void input_derivative(const InputWeights *w, const float *dz, float *dx, long rows)
{
    for (long k = 0; k < w->m; k++) EACH_VECTOR(l) store(dx + k * rows + l, all(0));
    product_transposed(w->m, w->g, w->W, w->m, dz, LANES, dx, rows);
}
