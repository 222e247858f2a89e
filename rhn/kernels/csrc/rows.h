/* What the recurrences share: the models' tensors, rows copied and added. */

/* A tensor of one model; NULL where it is absent. */
INLINE float *of(Tensor tensor, long model) { return tensor.data ? tensor.data + model * tensor.stride : NULL; }
/* The same from a batch row on. */
INLINE float *at_row(Tensor tensor, long model, long row) { return tensor.data ? of(tensor, model) + row : NULL; }
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

INLINE void copy_rows(long n, const float *from, long ldf, float *to, long ldt)
{
    for (long i = 0; i < n; i++)
        EACH_VECTOR(l) store(to + i * ldt + l, load(from + i * ldf + l));
}

/* to = from * mask; `from` and `mask` have rows ldf and ldm apart. Returns `to`, or `from` itself without a mask. */
INLINE const float *masked_rows(long n, const float *from, long ldf, const float *mask, long ldm, float *to)
{
    if (!mask) return from;
    for (long i = 0; i < n; i++)
        EACH_VECTOR(l) store(to + i * LANES + l, load(from + i * ldf + l) * load(mask + i * ldm + l));
    return to;
}

/* to += from * mask. */
INLINE void add_masked_rows(long n, const float *from, const float *mask, long ldm, float *to)
{
    for (long i = 0; i < n; i++)
        EACH_VECTOR(l)
            store(to + i * LANES + l, load(to + i * LANES + l) + load(from + i * LANES + l) * load(mask + i * ldm + l));
}
