/* The gradient's norm and a step down it, each in one pass over the weights; see rhn/kernels/fused_sgd.py. */

#define SUMS 32

/* The sum of (gradient + decay weight)^2 of each model. */
int rhn_squares(const struct rhn_squares *args, long begin, long end)
{
    long N = args->numbers;
    float decay = args->decay;
    for (long k = begin; k < end; k++) {
        const float *g = of(args->gradients, k), *w = of(args->weights, k);
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
        args->totals[k] = total;
    }
    return 0;
}

/* factors: of the gradient, of the weights afterwards (0, 1: leave this model as it is). */
int rhn_descend(const struct rhn_descend *args, long begin, long end)
{
    long N = args->numbers;
    float decay = args->decay;
    for (long k = begin; k < end; k++) {
        float *w = of(args->weights, k);
        const float *g = of(args->gradients, k), *factors = of(args->factors, k);
        float rate = factors[0], keep = factors[1];
        if (rate == 0 && keep == 1) continue;
        if (decay == 0 && keep == 1)
            for (long i = 0; i < N; i++) w[i] -= rate * g[i];
        else
            for (long i = 0; i < N; i++) w[i] = keep * (w[i] - rate * (g[i] + decay * w[i]));
    }
    return 0;
}
