/* The input of a recurrence, x (T, B, m), as the list of its entries that are not zero.

   A frame of music has four keys of 88, so that W x is the sum of a few columns of W, and dW a few columns too. Dense inputs take the
   same way at half the speed of a dense product. Where W or a gradient is not finite, 0 times it is NaN and has to be in the result. */

typedef struct {
    long *first; /* entries first[r] to first[r + 1] belong to row r = t B + b */
    int *column;
    float *value;
    int every; /* zeros are listed too */
} Input;

static void free_input(Input *in)
{
    free(in->first), free(in->column), free(in->value);
}

/* Lists x (rows, m); 0 where memory is short. */
static int list_input(Input *in, const float *x, long rows, long m, int every)
{
    long count = every ? rows * m : 0;
    if (!every)
        for (long i = 0; i < rows * m; i++) count += x[i] != 0.0f;
    in->every = every;
    in->first = malloc((rows + 1) * sizeof(long));
    in->column = malloc((count + 1) * sizeof(int));
    in->value = malloc((count + 1) * sizeof(float));
    if (!in->first || !in->column || !in->value) {
        free_input(in);
        return 0;
    }
    long place = 0;
    for (long r = 0; r < rows; r++) {
        in->first[r] = place;
        for (long k = 0; k < m; k++)
            if (every || x[r * m + k] != 0.0f) {
                in->column[place] = (int)k;
                in->value[place++] = x[r * m + k];
            }
    }
    in->first[rows] = place;
    return 1;
}

static int all_finite(const float *x, long count)
{
    float zero = 0;
    for (long i = 0; i < count; i++) zero += 0.0f * x[i];
    return zero == 0.0f;
}

/* z (g, lanes) = W x + b for `count` rows from row r on, the other lanes W 0 + b: Wt (m, width), b (width), scratch (LANES, width). */
static void input_product(
    const Input *in, long r, long count, const float *Wt, const float *b, long g, long width, float *scratch, float *z, long ldz)
{
    for (long lane = 0; lane < LANES; lane++) {
        float *out = scratch + lane * width;
        long begin = lane < count ? in->first[r + lane] : 0, end = lane < count ? in->first[r + lane + 1] : 0;
        for (long i = 0; i < width; i += VL) {
            v sum = load(b + i);
            for (long e = begin; e < end; e++) sum += in->value[e] * load(Wt + in->column[e] * width + i);
            store(out + i, sum);
        }
    }
    to_lanes(scratch, width, g, z, ldz);
}

/* dWt (m, width) += x' dz for those rows: dz (g, lanes). */
static void input_weights(
    const Input *in, long r, long count, const float *dz, long ldz, long g, long width, float *scratch, float *dWt)
{
    from_lanes(dz, ldz, g, scratch, width);
    for (long lane = 0; lane < count; lane++)
        for (long e = in->first[r + lane]; e < in->first[r + lane + 1]; e++) {
            float *out = dWt + in->column[e] * width, x = in->value[e];
            for (long i = 0; i < width; i += VL) store(out + i, load(out + i) + x * load(scratch + lane * width + i));
        }
}

/* dW (g, m) from dWt (m, width); where the sum db of a row's gradients is not finite, zeros of x count as well. */
static void finish_input_weights(const float *dWt, const float *db, long g, long m, long width, float *dW)
{
    for (long i = 0; i < g; i++)
        for (long k = 0; k < m; k++) dW[i * m + k] = dWt[k * width + i] + 0.0f * db[i];
}
