/* An output layer and the loss of its logits together; see rhn/kernels/losses.py.

   nll = sum over keys of max(z, 0) - x z + log(1 + exp(-|z|)), the logarithms of a frame as one, of the product of at most 126 factors
   below 2. The gradients come with the value: they are those of the sum over all frames, to be multiplied by the gradient of that. */

#define FACTORS 126

/* Replaces the logits z (keys, 32) by their gradients and adds to db; returns the frames' losses, weighted by `mask` (32). */
INLINE double bernoulli_frame(long keys, int gradients, float *z, const float *x, long ldx, const float *mask, v *db)
{
    double total = 0;
    EACH_VECTOR(l) {
        v nll = all(0), factors = all(1), weight = load(mask + l);
        for (long k = 0; k < keys; k++) {
            v logit = load(z + k * LANES + l), key = load(x + k * ldx + l);
            v e = exp_negative(-absolute(logit));
            nll += choose(logit < 0.0f, all(0), logit) - key * logit;
            factors *= 1.0f + e;
            if (k % FACTORS == FACTORS - 1) nll += log_above_one(factors), factors = all(1);
            if (gradients) {
                v large = 1.0f / (1.0f + e);
                v dz = (choose(logit < 0.0f, e * large, large) - key) * weight;
                store(z + k * LANES + l, dz);
                db[k] += dz;
            }
        }
        nll = (nll + log_above_one(factors)) * weight;
        for (int i = 0; i < VL; i++) total += nll[i];
    }
    return total;
}

int rhn_bernoulli(const struct rhn_bernoulli *args, long begin, long end)
{
    long T = args->T, n = args->n, keys = args->keys, rows = padded_rows(args->B);
    long gradients = args->dy.data != NULL, chunk = steps_at_once(T, 2 * keys * LANES);
    Memory memory;
    if (!reserve(&memory, chunk * keys * LANES + keys * n + keys * VL + 128)) return 1;
    float *Z = take(&memory, chunk * keys * LANES), *Wt = take(&memory, keys * n), *sums = take(&memory, keys * VL);
    for (long k = begin; k < end; k++) {
        const float *W = of(args->W, k), *b = of(args->b, k);
        double total = 0;
        if (gradients) {
            transpose(keys, n, W, Wt, keys);
            memset(of(args->dW, k), 0, keys * n * sizeof(float)), memset(sums, 0, keys * VL * sizeof(float));
        }
        for (long row = 0; row < rows; row += LANES)
            for (long start = 0; start < T; start += chunk) {
                long steps = T - start < chunk ? T - start : chunk;
                const float *y = of(args->y, k) + start * n * rows + row;
                for (long t = start; t < start + steps; t++) {
                    const float *y_t = y + (t - start) * n * rows, *x = of(args->frames, k) + t * keys * rows + row;
                    const float *mask = of(args->mask, k) + t * rows + row;
                    float *z = Z + (t - start) * keys * LANES;
                    product(keys, n, W, n, y_t, rows, z, LANES, b);
                    if (!gradients) {
                        total += bernoulli_frame(keys, 0, z, x, rows, mask, NULL);
                        continue;
                    }
                    total += bernoulli_frame(keys, 1, z, x, rows, mask, (v *)sums);
                    float *dy = of(args->dy, k) + t * n * rows + row;
                    for (long j = 0; j < n; j++) EACH_VECTOR(l) store(dy + j * rows + l, all(0));
                    product(n, keys, Wt, keys, z, LANES, dy, rows, NULL);
                }
                if (gradients) outer(keys, n, steps, Z, LANES, keys * LANES, y, rows, n * rows, of(args->dW, k), n);
            }
        ((double *)args->totals.data)[k] = total;
        if (gradients)
            for (long i = 0; i < keys; i++) of(args->db, k)[i] = sum_of(load(sums + i * VL));
    }
    free(memory.block);
    return 0;
}
