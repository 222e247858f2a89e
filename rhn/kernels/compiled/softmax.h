/* An output layer with softmax cross-entropy; see rhn/kernels/softmax.py. All rows of a window stand side by side, 32 in a block.

   nll = log sum_v exp(z_v - z_max) + z_max - z_target

   The words are in tiles of 64. Kept for the backward pass: e_v = exp(z_v - m) with the largest logit m of the tile, and the factor of
   each tile that makes probabilities of them. */

#include <float.h>

#define WORDS 64 /* of a tile: its rows of U stay in the second-level cache, its logits in the first */
#define GROUP 4  /* blocks of rows that share them */

/* Replaces logits z (words, 32) by e, while they are near; their largest one and the sum of e, for each lane. Adds the logit of a target
   among them to `picked`. */
INLINE void softmax_tile(long word, long words, float *z, const float *targets, float *largest, float *total, float *picked)
{
    EACH_VECTOR(l) {
        v most = all(-FLT_MAX), sum = all(0), target = load(targets + l), found = load(picked + l);
        for (long k = 0; k < words; k++) {
            v logit = load(z + k * LANES + l);
            most = choose(logit > most, logit, most);
            most = choose(logit != logit, logit, most); /* NaN stays */
            found = choose(target == all((float)(word + k)), logit, found);
        }
        for (long k = 0; k < words; k++) {
            v e = exp_negative(load(z + k * LANES + l) - most);
            store(z + k * LANES + l, e);
            sum += e;
        }
        store(largest + l, most), store(total + l, sum), store(picked + l, found);
    }
}

/* The losses of a block, and what to multiply e of each tile by: from the largest logits (tiles, 32) and the sums of the tiles. */
static void softmax_finish(long tiles, const float *largest, const float *totals, const float *picked, float *nll, float *scale)
{
    EACH_VECTOR(l) {
        v most = load(largest + l), total = all(0);
        for (long i = 1; i < tiles; i++) {
            v logit = load(largest + i * LANES + l);
            most = choose(logit > most, logit, most);
        }
        for (long i = 0; i < tiles; i++) {
            v factor = exp_negative(load(largest + i * LANES + l) - most);
            total += factor * load(totals + i * LANES + l);
            if (scale) store(scale + i * LANES + l, factor);
        }
        store(nll + l, log_above_one(total) + (most - load(picked + l)));
        for (long i = 0; scale && i < tiles; i++) store(scale + i * LANES + l, load(scale + i * LANES + l) / total);
    }
}

/* Work items: K models times blocks of 32 rows. */
int rhn_softmax_forward(const struct rhn_softmax_forward *args, long begin, long end)
{
    long n = args->n, V = args->V, rows = padded_rows(args->B), blocks = rows / LANES, keep = args->e.data != NULL;
    Memory memory;
    long tiles = (V + WORDS - 1) / WORDS;
    if (!reserve(&memory, GROUP * n * LANES + (2 * tiles + 1) * GROUP * LANES + WORDS * LANES + 128)) return 1;
    float *Y = take(&memory, GROUP * n * LANES), *largest = take(&memory, GROUP * tiles * LANES);
    float *totals = take(&memory, GROUP * tiles * LANES), *picked = take(&memory, GROUP * LANES), *own = take(&memory, WORDS * LANES);
    for (long item = begin, count; item < end; item += count) {
        long k = item / blocks, block = item % blocks;
        count = blocks - block < end - item ? blocks - block : end - item;
        count = count < GROUP ? count : GROUP;
        const float *U = of(args->U, k), *b = of(args->b, k), *targets = of(args->targets, k) + block * LANES;
        memset(picked, 0, GROUP * LANES * sizeof(float));
        for (long i = 0; i < count; i++)
            put_rows_together(n, of(args->y, k) + (block + i) * LANES, rows, Y + i * n * LANES);
        for (long tile = 0; tile < tiles; tile++)
            for (long i = 0; i < count; i++) {
                long word = tile * WORDS, words = V - word < WORDS ? V - word : WORDS, place = (i * tiles + tile) * LANES;
                float *z = keep ? of(args->e, k) + ((block + i) * V + word) * LANES : own;
                product(words, n, U + word * n, n, Y + i * n * LANES, LANES, z, LANES, b + word);
                softmax_tile(word, words, z, targets + i * LANES, largest + place, totals + place, picked + i * LANES);
            }
        for (long i = 0; i < count; i++) {
            float *nll = of(args->nll, k) + (block + i) * LANES, *scale = keep ? of(args->scale, k) + (block + i) * tiles * LANES : NULL;
            softmax_finish(tiles, largest + i * tiles * LANES, totals + i * tiles * LANES, picked + i * LANES, nll, scale);
        }
    }
    free(memory.block);
    return 0;
}

/* dz (count, 32) of the words of a tile, from `word` on: (e scale - [word is the target]) grad; its own scale (32). */
INLINE void softmax_derivative(
    long word, long count, const float *e, const float *targets, const float *scale, const float *grad, float *dz, long ldz)
{
    EACH_VECTOR(l) {
        v g = load(grad + l), factor = load(scale + l) * g, target = load(targets + l);
        for (long k = 0; k < count; k++) {
            v d = load(e + k * LANES + l) * factor;
            store(dz + k * ldz + l, choose(target == all((float)(word + k)), d - g, d));
        }
    }
}

/* dy. Work items: K models times blocks of 32 rows. */
int rhn_softmax_states(const struct rhn_softmax_states *args, long begin, long end)
{
    long n = args->n, V = args->V, rows = padded_rows(args->B), blocks = rows / LANES;
    long tiles = (V + WORDS - 1) / WORDS;
    Memory memory;
    if (!reserve(&memory, GROUP * n * LANES + WORDS * LANES + 64)) return 1;
    float *dY = take(&memory, GROUP * n * LANES), *dz = take(&memory, WORDS * LANES);
    for (long item = begin, count; item < end; item += count) {
        long k = item / blocks, block = item % blocks;
        count = blocks - block < end - item ? blocks - block : end - item;
        count = count < GROUP ? count : GROUP;
        const float *U = of(args->U, k), *e = of(args->e, k) + block * V * LANES;
        memset(dY, 0, count * n * LANES * sizeof(float));
        for (long word = 0; word < V; word += WORDS) {
            long words = V - word < WORDS ? V - word : WORDS;
            for (long i = 0; i < count; i++) {
                long row = (block + i) * LANES;
                const float *scale = of(args->scale, k) + ((block + i) * tiles + word / WORDS) * LANES;
                softmax_derivative(word, words, e + (i * V + word) * LANES, of(args->targets, k) + row, scale,
                                   of(args->grad, k) + row, dz, LANES);
                product_transposed(n, words, U + word * n, n, dz, LANES, dY + i * n * LANES, LANES);
            }
        }
        for (long i = 0; i < count; i++) put_rows(n, dY + i * n * LANES, of(args->dy, k) + (block + i) * LANES, rows);
    }
    free(memory.block);
    return 0;
}

/* dU and db: products of dz (words, rows) with the states as rows, 32 units side by side. Work items: K models times tiles. */
int rhn_softmax_weights(const struct rhn_softmax_weights *args, long begin, long end)
{
    long n = args->n, V = args->V, width = args->width, rows = padded_rows(args->B), tiles = (V + WORDS - 1) / WORDS;
    Memory memory;
    if (!reserve(&memory, WORDS * rows + WORDS * LANES + WORDS + 64)) return 1;
    float *dz = take(&memory, WORDS * rows), *part = take(&memory, WORDS * LANES), *zeros = take(&memory, WORDS);
    for (long item = begin; item < end; item++) {
        long k = item / tiles, tile = item % tiles, word = tile * WORDS, words = V - word < WORDS ? V - word : WORDS;
        float *dU = of(args->dU, k) + word * n, *db = of(args->db, k) + word;
        for (long row = 0; row < rows; row += LANES)
            softmax_derivative(word, words, of(args->e, k) + (row * V + word * LANES), of(args->targets, k) + row,
                               of(args->scale, k) + row * tiles + tile * LANES, of(args->grad, k) + row, dz + row, rows);
        for (long unit = 0; unit < n; unit += LANES) {
            long units = n - unit < LANES ? n - unit : LANES;
            product(words, rows, dz, rows, of(args->y, k) + unit, width, part, LANES, zeros);
            for (long i = 0; i < words; i++) memcpy(dU + i * n + unit, part + i * LANES, units * sizeof(float));
        }
        for (long i = 0; i < words; i++) {
            v sum = all(0);
            for (long row = 0; row < rows; row += VL) sum += load(dz + i * rows + row);
            db[i] = sum_of(sum);
        }
    }
    free(memory.block);
    return 0;
}
