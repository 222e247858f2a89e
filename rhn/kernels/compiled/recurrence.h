/* What the recurrences share: how they are called, the models' tensors, the list of the inputs. */

typedef struct {
    long steps, batch, inputs, units, layers;
    long coupled; /* highway: whether c = 1 - t; transition: whether f is relu */
    long skips; /* transition: how many of the last layers have a shortcut */
} Sizes;

typedef struct {
    float *data;
    long stride; /* numbers from one model to the next; 0: they share it */
} Tensor;

INLINE float *of(const Tensor *data, int which, long model) { return data[which].data + model * data[which].stride; }
INLINE long padded_rows(long batch) { return (batch + LANES - 1) / LANES * LANES; }

/* Steps whose gradients are kept before they go into the weights': as many as stay near, and not so few that sums are cut short. */
static long steps_at_once(long T, long numbers)
{
    long chunk = CHUNK_BYTES / (long)sizeof(float) / numbers;
    chunk = chunk < 8 ? 8 : chunk;
    return chunk < T ? chunk : T;
}

INLINE void add_rows(long n, const float *from, long ldf, float *to)
{
    for (long i = 0; i < n; i++)
        EACH_VECTOR(l) store(to + i * LANES + l, load(to + i * LANES + l) + load(from + i * ldf + l));
}

INLINE void put_rows(long n, const float *from, float *to, long ldt)
{
    for (long i = 0; i < n; i++)
        EACH_VECTOR(l) store(to + i * ldt + l, load(from + i * LANES + l));
}

/* ---- the inputs of the models: one list where they share them ---- */

typedef struct {
    const Tensor *x;
    long rows, m, listed; /* listed: whose list it is, -1 none yet */
    Input sparse, dense;
    int failed;
} Inputs;

static void open_inputs(Inputs *all, const Tensor *x, long rows, long m)
{
    memset(all, 0, sizeof(Inputs));
    all->x = x, all->rows = rows, all->m = m, all->listed = -1;
}

/* The list for a model; NULL where memory is short. */
static const Input *input_of(Inputs *all, long model, const float *W, long weights)
{
    long owner = all->x->stride ? model : 0;
    if (all->listed != owner) {
        free_input(&all->sparse), free_input(&all->dense);
        memset(&all->sparse, 0, sizeof(Input)), memset(&all->dense, 0, sizeof(Input));
        all->listed = owner;
    }
    Input *in = all_finite(W, weights) ? &all->sparse : &all->dense;
    if (!in->first && !list_input(in, all->x->data + owner * all->x->stride, all->rows, all->m, in == &all->dense)) {
        memset(in, 0, sizeof(Input));
        all->failed = 1;
        return NULL;
    }
    return in;
}

/* 1 where memory was short. */
static int close_inputs(Inputs *all)
{
    free_input(&all->sparse), free_input(&all->dense);
    return all->failed;
}

/* dx (m, rows) = W' dz of one step. */
static void input_gradient(long g, long m, const float *W, const float *dz, float *dx, long rows)
{
    for (long k = 0; k < m; k++)
        for (long l = 0; l < LANES; l += VL) {
            v sum = all(0);
            for (long i = 0; i < g; i++) sum += W[i * m + k] * load(dz + i * LANES + l);
            store(dx + k * rows + l, sum);
        }
}
