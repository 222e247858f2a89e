/* The gradient's norm and a step down it, each in one pass over the weights; see rhn/kernels/update. */

#define SUMS 32

/* Sizes: steps N. data: gradients and, unless NULL, weights (N); numbers (1): decay. sums: of (gradient + decay weight)^2, as doubles. */
int rhn_squares(const Sizes *size, const Tensor *data, double *totals, long begin, long end)
{
    long N = size->steps;
    float decay = *of(data, 2, 0);
    for (long k = begin; k < end; k++) {
        const float *g = of(data, 0, k), *w = data[1].data ? of(data, 1, k) : NULL;
        double sums[SUMS] = {0}, total = 0;
        for (long start = 0; start < N; start += SUMS) {
            long count = N - start < SUMS ? N - start : SUMS;
            if (count == SUMS && w)
                for (int i = 0; i < SUMS; i++) {
                    double x = g[start + i] + decay * w[start + i];
                    sums[i] += x * x;
                }
            else if (count == SUMS)
                for (int i = 0; i < SUMS; i++) sums[i] += (double)g[start + i] * g[start + i];
            else
                for (int i = 0; i < count; i++) {
                    double x = g[start + i] + (w ? decay * w[start + i] : 0.0f);
                    sums[i] += x * x;
                }
        }
        for (int i = 0; i < SUMS; i++) total += sums[i];
        totals[k] = total;
    }
    return 0;
}

/* Sizes: steps N. data: weights (N), which change, gradients (N), factors (2): of the gradient, of the weights afterwards (0, 1:
   leave this model as it is); numbers (1): decay. */
int rhn_descend(const Sizes *size, const Tensor *data, long begin, long end)
{
    long N = size->steps;
    float decay = *of(data, 3, 0);
    for (long k = begin; k < end; k++) {
        float *w = of(data, 0, k);
        const float *g = of(data, 1, k), *factors = of(data, 2, k);
        float rate = factors[0], keep = factors[1];
        if (rate == 0 && keep == 1) continue;
        if (decay == 0 && keep == 1)
            for (long i = 0; i < N; i++) w[i] -= rate * g[i];
        else
            for (long i = 0; i < N; i++) w[i] = keep * (w[i] - rate * (g[i] + decay * w[i]));
    }
    return 0;
}
