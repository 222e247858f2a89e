/* What the compiled recurrences share: vectors, exp and its relatives, and products of a weight matrix with rows side by side.

   A state is kept as [unit][row], 32 batch rows side by side ("lanes"): for every unit a few vectors, and every operation is the same
   for all rows. So a product takes one weight at a time, multiplied with the lanes of one unit. What is computed for a model depends on
   its own numbers alone, in one fixed order. */

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#if defined(__AVX512F__)
#define VL 16 /* numbers in a vector */
enum { UNITS = 8, TALL = 4, WIDE = 4 }; /* rows of a matrix, rows and columns of a gradient: their sums stay in registers */
#elif defined(__AVX__)
#define VL 8
enum { UNITS = 6, TALL = 5, WIDE = 2 };
#else
#define VL 4
enum { UNITS = 4, TALL = 5, WIDE = 2 };
#endif
#define LANES 32

#define INLINE static inline __attribute__((always_inline))

typedef float v __attribute__((vector_size(4 * VL), aligned(4), may_alias));
typedef int vi __attribute__((vector_size(4 * VL), aligned(4), may_alias));

INLINE v load(const float *p) { return *(const v *)p; }
INLINE void store(float *p, v x) { *(v *)p = x; }
INLINE v all(float x) { return x - (v){0}; }
INLINE v choose(vi where, v a, v b) { return (v)((where & (vi)a) | (~where & (vi)b)); }
INLINE v absolute(v x) { return (v)((vi)x & 0x7fffffff); }

#define EACH_VECTOR(l) for (long l = 0; l < LANES; l += VL)

/* ---- exp, log, sigmoid and tanh, within 2 roundings; NaN stays NaN. Polynomials: Cephes (Moshier) ---- */

/* exp(x) for x <= 0; below -87 what exp(-87) is. */
INLINE v exp_negative(v x)
{
    x = choose(x < -87.0f, all(-87.0f), x);
    v shifted = x * 1.44269504088896341f + 12582912.0f; /* the nearest whole number is in its last bits */
    v whole = shifted - 12582912.0f;
    v r = x - whole * 0.693359375f;
    r = r - whole * -2.12194440e-4f;
    v p = 1.9875691500e-4f * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * (r * r) + r + 1.0f;
    return p * (v)(((vi)shifted << 23) + 0x3f800000);
}

/* log(x) for normal x >= 1. */
INLINE v log_above_one(v x)
{
    vi bits = (vi)x - 0x3f3504f3; /* mantissas from sqrt(1/2) to sqrt(2) */
    v exponent = __builtin_convertvector(bits >> 23, v);
    v f = (v)((vi)x - (bits & (int)0xff800000)) - 1.0f;
    v f2 = f * f;
    v p = 7.0376836292e-2f * f - 1.1514610310e-1f;
    p = p * f + 1.1676998740e-1f;
    p = p * f - 1.2420140846e-1f;
    p = p * f + 1.4249322787e-1f;
    p = p * f - 1.6668057665e-1f;
    p = p * f + 2.0000714765e-1f;
    p = p * f - 2.4999993993e-1f;
    p = p * f + 3.3333331174e-1f;
    v y = p * f * f2 + exponent * -2.12194440e-4f - 0.5f * f2;
    v result = f + y + exponent * 0.693359375f;
    return choose((x < __builtin_inff()) & (x >= 1.0f), result, x + x); /* inf and NaN as they are */
}

INLINE v sigmoid(v x)
{
    v e = exp_negative(-absolute(x)), large = 1.0f / (1.0f + e);
    return choose(x < 0.0f, e * large, large);
}

INLINE v hyperbolic_tangent(v x)
{
    v size = absolute(x), x2 = x * x;
    v p = -5.70498872745e-3f * x2 + 2.06390887954e-2f;
    p = p * x2 - 5.37397155531e-2f;
    p = p * x2 + 1.33314422036e-1f;
    p = p * x2 - 3.33332819422e-1f;
    v small = p * x2 * x + x; /* keeps the relative precision of tiny states */
    v e = exp_negative(-2.0f * size), large = (1.0f - e) / (1.0f + e);
    large = (v)((vi)large | ((vi)x & (int)0x80000000));
    return choose(size < 0.625f, small, large);
}

/* ---- products ---- */

/* out[u] (+)= sum_j M[u][j] s[j] for U rows: M (U, J), s (J, lanes), out (U, lanes), consecutive rows ldm, lds and ldo apart, columns
   of M ldj apart. The sums start from the numbers bias[u], or, where it is NULL, from what `out` holds. */
INLINE void product_block(const int U, long J, const float *M, long ldm, long ldj, const float *s, long lds, float *out, long ldo,
                          const float *bias)
{
    for (long l = 0; l < LANES; l += 2 * VL) {
        v sum[8][2];
#pragma GCC unroll 8
        for (int u = 0; u < U; u++) {
            sum[u][0] = bias ? all(bias[u]) : load(out + u * ldo + l);
            sum[u][1] = bias ? all(bias[u]) : load(out + u * ldo + l + VL);
        }
        for (long j = 0; j < J; j++) {
            v s0 = load(s + j * lds + l), s1 = load(s + j * lds + l + VL);
#pragma GCC unroll 8
            for (int u = 0; u < U; u++) {
                v m = all(M[u * ldm + j * ldj]);
                sum[u][0] += m * s0;
                sum[u][1] += m * s1;
            }
        }
#pragma GCC unroll 8
        for (int u = 0; u < U; u++) {
            store(out + u * ldo + l, sum[u][0]);
            store(out + u * ldo + l + VL, sum[u][1]);
        }
    }
}

/* As above for any number of rows. */
INLINE void product_of_rows(long rows, long J, const float *M, long ldm, long ldj, const float *s, long lds, float *out, long ldo,
                            const float *bias)
{
    long i = 0;
    for (; i + UNITS <= rows; i += UNITS)
        product_block(UNITS, J, M + i * ldm, ldm, ldj, s, lds, out + i * ldo, ldo, bias ? bias + i : NULL);
    M += i * ldm, out += i * ldo;
    if (bias) bias += i;
#define REST(U) case U: product_block(U, J, M, ldm, ldj, s, lds, out, ldo, bias); break;
    switch (rows - i) { REST(1) REST(2) REST(3) REST(4) REST(5) REST(6) REST(7) }
#undef REST
}

static void product(
    long rows, long J, const float *M, long ldm, const float *s, long lds, float *out, long ldo, const float *bias)
{
    product_of_rows(rows, J, M, ldm, 1, s, lds, out, ldo, bias);
}

/* out[u] += sum_j M[j][u] s[j], M (J, rows). */
static void product_transposed(long rows, long J, const float *M, long ldm, const float *s, long lds, float *out, long ldo)
{
    product_of_rows(rows, J, M, 1, ldm, s, lds, out, ldo, NULL);
}

/* Two vectors of blocks of 2 q numbers each: the first halves of all blocks, a's and b's in turn, and the second halves. */
#define INDEX(q, l, half) ((l) / (q) % 2 * VL + (l) / (q) / 2 * 2 * (q) + (l) % (q) + (half))
#define FOUR(q, l, half) INDEX(q, l, half), INDEX(q, l + 1, half), INDEX(q, l + 2, half), INDEX(q, l + 3, half)
#if VL == 16
#define INDICES(q, half) FOUR(q, 0, half), FOUR(q, 4, half), FOUR(q, 8, half), FOUR(q, 12, half)
#elif VL == 8
#define INDICES(q, half) FOUR(q, 0, half), FOUR(q, 4, half)
#else
#define INDICES(q, half) FOUR(q, 0, half)
#endif
#if defined(__clang__) || __GNUC__ >= 12
#define FIRST(q, a, b) __builtin_shufflevector(a, b, INDICES(q, 0))
#define SECOND(q, a, b) __builtin_shufflevector(a, b, INDICES(q, q))
#else
#define FIRST(q, a, b) __builtin_shuffle(a, b, (vi){INDICES(q, 0)})
#define SECOND(q, a, b) __builtin_shuffle(a, b, (vi){INDICES(q, q)})
#endif

#define SWAP_STAGE(q)                                     \
    for (int r = 0; r < VL; r++)                          \
        if (!(r & q)) {                                   \
            v a = x[r], b = x[r + q];                     \
            x[r] = FIRST(q, a, b), x[r + q] = SECOND(q, a, b); \
        }

/* x[i][j] <-> x[j][i]. */
INLINE void transpose_tile(v x[VL])
{
#if VL > 8
    SWAP_STAGE(8)
#endif
#if VL > 4
    SWAP_STAGE(4)
#endif
    SWAP_STAGE(2)
    SWAP_STAGE(1)
}

#define SUM_STAGE(q) \
    for (int r = 0; r < q; r++) x[r] = FIRST(q, x[r], x[r + q]) + SECOND(q, x[r], x[r + q]);

/* The sum of each of the vectors: entry r belongs to x[r]. */
INLINE v sums(v x[VL])
{
#if VL > 8
    SUM_STAGE(8)
#endif
#if VL > 4
    SUM_STAGE(4)
#endif
    SUM_STAGE(2)
    SUM_STAGE(1)
    return x[0];
}

static float sum_of(v x)
{
    float total = 0;
    for (int l = 0; l < VL; l++) total += x[l];
    return total;
}

/* to[i][l] = from[l][i]: from (LANES, width), to (count, lanes), rows ldf and ldt apart; `from` has numbers up to a full vector. */
INLINE void to_lanes(const float *from, long ldf, long count, float *to, long ldt)
{
    for (long l = 0; l < LANES; l += VL)
        for (long i = 0; i < count; i += VL) {
            v x[VL];
            for (int r = 0; r < VL; r++) x[r] = load(from + (l + r) * ldf + i);
            transpose_tile(x);
            for (int r = 0; r < VL && i + r < count; r++) store(to + (i + r) * ldt + l, x[r]);
        }
}

/* to[l][i] = from[i][l], the way back; beyond `count` it writes zeros up to a full vector. */
INLINE void from_lanes(const float *from, long ldf, long count, float *to, long ldt)
{
    for (long l = 0; l < LANES; l += VL)
        for (long i = 0; i < count; i += VL) {
            v x[VL];
            for (int r = 0; r < VL; r++) x[r] = i + r < count ? load(from + (i + r) * ldf + l) : all(0);
            transpose_tile(x);
            for (int r = 0; r < VL; r++) store(to + (l + r) * ldt + i, x[r]);
        }
}

/* gradient[i][j] += sum over steps t and lanes of a[t][i] c[t][j]: I x J numbers of rows (lanes) `lda`, `ldc` apart. */
INLINE void outer_block(
    const int I, const int J, long steps, const float *a, long lda, long step_a, const float *c, long ldc, long step_c,
    float *gradient, long ldg)
{
    v sum[32];
    for (int k = 0; k < 32; k++) sum[k] = all(0);
    for (long t = 0; t < steps; t++, a += step_a, c += step_c)
        for (long l = 0; l < LANES; l += VL) {
            v right[4];
#pragma GCC unroll 4
            for (int j = 0; j < J; j++) right[j] = load(c + j * ldc + l);
#pragma GCC unroll 8
            for (int i = 0; i < I; i++) {
                v left = load(a + i * lda + l);
#pragma GCC unroll 4
                for (int j = 0; j < J; j++) sum[J * i + j] += left * right[j];
            }
        }
    float totals[32];
    for (int k = 0; k < I * J; k += VL) store(totals + k, sums(sum + k));
    for (int i = 0; i < I; i++)
        for (int j = 0; j < J; j++) gradient[i * ldg + j] += totals[J * i + j];
}

/* As above for any numbers of rows. */
static void outer(
    long I, long J, long steps, const float *a, long lda, long step_a, const float *c, long ldc, long step_c,
    float *gradient, long ldg)
{
    for (long i = 0; i < I; i += TALL)
        for (long j = 0; j < J; j += WIDE) {
            const float *a_i = a + i * lda, *c_j = c + j * ldc;
            float *g = gradient + i * ldg + j;
            switch ((I - i < TALL ? I - i : TALL) * 5 + (J - j < WIDE ? J - j : WIDE)) {
#define SIZE(p, q) \
    case p * 5 + q: outer_block(p, q, steps, a_i, lda, step_a, c_j, ldc, step_c, g, ldg); break;
#define SIZES(p) SIZE(p, 1) SIZE(p, 2) SIZE(p, 3) SIZE(p, 4)
                SIZES(1) SIZES(2) SIZES(3) SIZES(4) SIZES(5)
#undef SIZES
#undef SIZE
            }
        }
}

/* to (columns, rows) = from (rows, columns)'; rows of `to` are ldt apart. */
static void transpose(long rows, long columns, const float *from, float *to, long ldt)
{
    for (long i = 0; i < rows; i++)
        for (long j = 0; j < columns; j++) to[j * ldt + i] = from[i * columns + j];
}

/* ---- memory: one block a call, cut into pieces on boundaries of 64 bytes ---- */

typedef struct {
    float *next;
    void *block;
} Memory;

#define PADDED(count) (((count) + 15) / 16 * 16)

static int reserve(Memory *memory, long numbers)
{
    memory->block = calloc(numbers + 16, sizeof(float));
    memory->next = (float *)(((size_t)memory->block + 63) / 64 * 64);
    return memory->block != NULL;
}

static float *take(Memory *memory, long numbers)
{
    float *piece = memory->next;
    memory->next += PADDED(numbers);
    return piece;
}
