/* An output layer with dropout and softmax cross-entropy; see rhn/kernels/losses.py.

   nll = log sum_v exp(z_v - z_max) + z_max - z_target,      z = U (y mask) + b

   Rows are in groups of B that share a mask: units that it drops take no part in any product. Words are in tiles of 32, side by side.
   Kept for the backward pass: e_v = exp(z_v - m) with the largest logit m of the tile, and the factor of each tile that makes
   probabilities of them. */

#include <float.h>

#define STATES (1 << 17) /* numbers of the rows that a tile of U meets before the next one */
#define STEPS 8          /* tiles whose part of dy is summed at once */

/* The units of a group of rows that are not dropped, and their states times the mask, (B, count). */
typedef struct {
    long count;
    int *units;
    float *y;
} Group;

static void pack_group(Group *group, long B, long n, const float *y, const float *mask)
{
    group->count = 0;
    for (long i = 0; i < n; i++)
        if (mask[i] != 0.0f) group->units[group->count++] = (int)i;
    for (long r = 0; r < B; r++)
        for (long i = 0; i < group->count; i++) {
            int unit = group->units[i];
            group->y[r * group->count + i] = y[r * n + unit] * mask[unit];
        }
}

/* Room for so many groups, and for more numbers that are taken after them. */
static Group *reserve_groups(Memory *memory, long count, long B, long n, long more)
{
    if (!reserve(memory, count * (n * B + n + 32) + more)) return NULL;
    Group *groups = malloc(count * sizeof(Group));
    for (long i = 0; groups && i < count; i++) {
        groups[i].units = (int *)take(memory, n);
        groups[i].y = take(memory, B * n);
    }
    if (!groups) free(memory->block);
    return groups;
}

/* to (n, 32) = the words of a tile of U (V, n), zeros beyond the last word. */
static void tile_of(const float *U, long V, long n, long tile, float *to)
{
    long word = tile * LANES, words = V - word < LANES ? V - word : LANES;
    if (words < LANES) memset(to, 0, n * LANES * sizeof(float));
    transpose(words, n, U + word * n, to, LANES);
}

/* The rows of a tile (n, 32) that belong to the units of a group. */
static const float *rows_of(const Group *group, long n, const float *tile, float *room)
{
    if (group->count == n) return tile;
    for (long i = 0; i < group->count; i++) memcpy(room + i * LANES, tile + group->units[i] * LANES, LANES * sizeof(float));
    return room;
}

/* Replaces logits z (rows, 32), rows at most VL, by e; their largest one and the sum of e, for each row. */
INLINE void softmax_rows(long rows, float *z, float *largest, float *total)
{
    v x[VL], most = all(-FLT_MAX);
    for (long r = 0; r < VL; r++) {
        x[r] = all(-FLT_MAX);
        for (long l = 0; r < rows && l < LANES; l += VL) {
            v logit = load(z + r * LANES + l);
            x[r] = choose(logit > x[r], logit, x[r]);
            x[r] = choose(logit != logit, logit, x[r]); /* NaN stays */
        }
    }
    transpose_tile(x);
    for (long i = 0; i < VL; i++) {
        most = choose(x[i] > most, x[i], most);
        most = choose(x[i] != x[i], x[i], most);
    }
    store(largest, most);
    for (long r = 0; r < VL; r++) {
        x[r] = all(0);
        for (long l = 0; r < rows && l < LANES; l += VL) {
            v e = exp_negative(load(z + r * LANES + l) - all(largest[r]));
            store(z + r * LANES + l, e);
            x[r] += e;
        }
    }
    store(total, sums(x));
}

/* The losses of a group, and what to multiply e of each tile by: from the largest logits (tiles, rows) and the sums of the tiles. */
static void softmax_finish(
    long rows, long tiles, const float *largest, const float *totals, const float *picked, float *nll, float *scale)
{
    for (long r = 0; r < rows; r += VL) {
        v most = load(largest + r), total = all(0);
        for (long i = 1; i < tiles; i++) {
            v logit = load(largest + i * rows + r);
            most = choose(logit > most, logit, most);
        }
        for (long i = 0; i < tiles; i++) {
            v factor = exp_negative(load(largest + i * rows + r) - most);
            total += factor * load(totals + i * rows + r);
            if (scale) store(scale + i * rows + r, factor);
        }
        store(nll + r, log_above_one(total) + (most - load(picked + r)));
        for (long i = 0; scale && i < tiles; i++) store(scale + i * rows + r, load(scale + i * rows + r) / total);
    }
}

/* Work items: K models times groups. */
int rhn_softmax_forward(const struct rhn_softmax_forward *args, long begin, long end)
{
    long groups = args->groups, B = args->B, n = args->n, V = args->V, tiles = args->tiles, rows = padded_rows(B);
    long together = STATES / (B * n) < 1 ? 1 : STATES / (B * n) < end - begin ? STATES / (B * n) : end - begin;
    Memory memory;
    Group *group = reserve_groups(&memory, together, B, n, (2 * n + rows + 1) * LANES + (2 * tiles + 1) * together * rows + 96);
    if (!group) return 1;
    float *tile = take(&memory, n * LANES), *room = take(&memory, n * LANES), *own = take(&memory, rows * LANES);
    float *bias = take(&memory, LANES), *picked = take(&memory, together * rows);
    float *largest = take(&memory, together * tiles * rows), *totals = take(&memory, together * tiles * rows);
    for (long item = begin, count; item < end; item += count) {
        long k = item / groups, first = item % groups;
        count = groups - first < end - item ? groups - first : end - item;
        count = count < together ? count : together;
        const float *mask = of(args->mask, k), *targets = of(args->targets, k) + first * B;
        float *e = of(args->e, k), *scale = of(args->scale, k);
        for (long i = 0; i < count; i++)
            pack_group(group + i, B, n, of(args->y, k) + (first + i) * B * n, mask + (first + i) * n);
        for (long t = 0; t < tiles; t++) {
            tile_of(of(args->U, k), V, n, t, tile);
            for (long l = 0; l < LANES; l++) bias[l] = t * LANES + l < V ? of(args->b, k)[t * LANES + l] : -FLT_MAX;
            for (long i = 0; i < count; i++) {
                float *z = e ? e + ((first + i) * tiles + t) * B * LANES : own;
                long place = (i * tiles + t) * rows;
                for (long r = 0; r < B; r++) memcpy(z + r * LANES, bias, LANES * sizeof(float));
                product(B, group[i].count, group[i].y, group[i].count, rows_of(group + i, n, tile, room), LANES, z, LANES, NULL);
                for (long r = 0; r < B; r++) {
                    long lane = (long)targets[i * B + r] - t * LANES;
                    if (lane >= 0 && lane < LANES) picked[i * rows + r] = z[r * LANES + lane];
                }
                for (long r = 0; r < B; r += VL)
                    softmax_rows(B - r < VL ? B - r : VL, z + r * LANES, largest + place + r, totals + place + r);
            }
        }
        for (long i = 0; i < count; i++)
            softmax_finish(rows, tiles, largest + i * tiles * rows, totals + i * tiles * rows, picked + i * rows,
                           of(args->nll, k) + (first + i) * rows, scale ? scale + (first + i) * tiles * rows : NULL);
    }
    free(memory.block), free(group);
    return 0;
}

/* dz (B, 32) of a tile of words, from `word` on: (e scale - [word is the target]) grad; its own scale (B). */
static void softmax_derivative(
    long B, long word, const float *e, const float *targets, const float *scale, const float *grad, float *dz)
{
    for (long r = 0; r < B; r++) {
        v factor = all(scale[r] * grad[r]);
        EACH_VECTOR(l) store(dz + r * LANES + l, load(e + r * LANES + l) * factor);
        long lane = (long)targets[r] - word;
        if (lane >= 0 && lane < LANES) dz[r * LANES + lane] -= grad[r];
    }
}

/* dy. Work items: K models times groups. */
int rhn_softmax_states(const struct rhn_softmax_states *args, long begin, long end)
{
    long groups = args->groups, B = args->B, n = args->n, V = args->V, tiles = args->tiles, rows = padded_rows(B);
    long together = STATES / (B * n) < 1 ? 1 : STATES / (B * n) < end - begin ? STATES / (B * n) : end - begin;
    Memory memory;
    Group *group = reserve_groups(&memory, together, B, n, STEPS * (2 * n + B) * LANES + 48);
    if (!group) return 1;
    float *tile = take(&memory, STEPS * n * LANES), *room = take(&memory, STEPS * n * LANES), *dz = take(&memory, STEPS * B * LANES);
    for (long item = begin, count; item < end; item += count) {
        long k = item / groups, first = item % groups;
        count = groups - first < end - item ? groups - first : end - item;
        count = count < together ? count : together;
        const float *mask = of(args->mask, k);
        for (long i = 0; i < count; i++) { /* dy takes the place of the states */
            pack_group(group + i, 0, n, NULL, mask + (first + i) * n);
            memset(group[i].y, 0, B * group[i].count * sizeof(float));
        }
        for (long t = 0; t < tiles; t += STEPS) {
            long steps = tiles - t < STEPS ? tiles - t : STEPS;
            for (long s = 0; s < steps; s++) tile_of(of(args->U, k), V, n, t + s, tile + s * n * LANES);
            for (long i = 0; i < count; i++) {
                long g = first + i, kept = group[i].count;
                const float *words = kept == n ? tile : room;
                for (long s = 0; s < steps; s++) {
                    rows_of(group + i, n, tile + s * n * LANES, room + s * kept * LANES);
                    softmax_derivative(B, (t + s) * LANES, of(args->e, k) + (g * tiles + t + s) * B * LANES,
                                       of(args->targets, k) + g * B, of(args->scale, k) + (g * tiles + t + s) * rows,
                                       of(args->grad, k) + g * B, dz + s * B * LANES);
                }
                outer(B, kept, steps, dz, LANES, B * LANES, words, LANES, kept * LANES, group[i].y, kept);
            }
        }
        for (long i = 0; i < count; i++) {
            float *dy = of(args->dy, k) + (first + i) * B * n;
            memset(dy, 0, B * n * sizeof(float));
            for (long r = 0; r < B; r++)
                for (long j = 0; j < group[i].count; j++) {
                    int unit = group[i].units[j];
                    dy[r * n + unit] = group[i].y[r * group[i].count + j] * mask[(first + i) * n + unit];
                }
        }
    }
    free(memory.block), free(group);
    return 0;
}

/* dU and db. Work items: K models times tiles. */
int rhn_softmax_weights(const struct rhn_softmax_weights *args, long begin, long end)
{
    long groups = args->groups, B = args->B, n = args->n, V = args->V, tiles = args->tiles, rows = padded_rows(B);
    Memory memory;
    Group *group = reserve_groups(&memory, groups, B, n, (2 * n + B + 1) * LANES + 64);
    if (!group) return 1;
    float *tile = take(&memory, n * LANES), *part = take(&memory, n * LANES), *dz = take(&memory, B * LANES), *bias = take(&memory, LANES);
    for (long item = begin, model = -1; item < end; item++) {
        long k = item / tiles, t = item % tiles, word = t * LANES, words = V - word < LANES ? V - word : LANES;
        const float *mask = of(args->mask, k);
        for (long g = 0; g < groups && k != model; g++)
            pack_group(group + g, B, n, of(args->y, k) + g * B * n, mask + g * n);
        model = k;
        memset(tile, 0, n * LANES * sizeof(float)), memset(bias, 0, LANES * sizeof(float));
        for (long g = 0; g < groups; g++) {
            long kept = group[g].count;
            float *to = kept == n ? tile : part;
            softmax_derivative(B, word, of(args->e, k) + (g * tiles + t) * B * LANES, of(args->targets, k) + g * B,
                               of(args->scale, k) + (g * tiles + t) * rows, of(args->grad, k) + g * B, dz);
            EACH_VECTOR(l) for (long r = 0; r < B; r++) store(bias + l, load(bias + l) + load(dz + r * LANES + l));
            if (kept < n) memset(part, 0, kept * LANES * sizeof(float));
            product_transposed(kept, B, group[g].y, kept, dz, LANES, to, LANES);
            for (long i = 0; i < kept && kept < n; i++) add_rows(1, part + i * LANES, LANES, tile + group[g].units[i] * LANES);
        }
        float *dU = of(args->dU, k) + word * n;
        for (long w = 0; w < words; w++)
            for (long i = 0; i < n; i++) dU[w * n + i] = tile[i * LANES + w];
        memcpy(of(args->db, k) + word, bias, words * sizeof(float));
    }
    free(memory.block), free(group);
    return 0;
}
