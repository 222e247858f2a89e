/* What the recurrences share: how they are called, the models' tensors, rows copied and added. */

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
