/* The definition of grid_sample and its adjoint. */
#include "ops/grid.h"
#include "ref/ref.h"

/* The taps of sample (n, oy, ox), down and across. */
ALWAYS_INLINE void taps_of(const call *c, int t, const grid_size *s, int64_t sample,
                           grid_taps *down, grid_taps *across) {
    const void *grid = c->in[1]->data;
    *across = grid_taps_at(get(grid, t, 2 * sample), s->w, s->align, s->order[1]);
    *down = grid_taps_at(get(grid, t, 2 * sample + 1), s->h, s->align, s->order[0]);
}

/* Pixel k of the four around a sample of image n: floats from the first image and its weight, or
 * false outside. */
ALWAYS_INLINE bool pixel(const grid_size *s, int64_t n, const grid_taps *down,
                         const grid_taps *across, int k, int64_t *at, double *weight) {
    int64_t y = down->first + k / 2, x = across->first + k % 2;
    *at = ((n * s->h + y) * s->w + x) * s->c;
    *weight = down->weight[k / 2] * across->weight[k % 2];
    return y >= 0 && y < s->h && x >= 0 && x < s->w;
}

ALWAYS_INLINE int sample(const call *c, int t) {
    grid_size s = grid_size_of(c, c->in[0], c->out[0]);
    for (int64_t i = 0; i < s.n * s.oh * s.ow; i++) {
        grid_taps down, across;
        int64_t at, n = i / (s.oh * s.ow);
        double weight;
        taps_of(c, t, &s, i, &down, &across);
        for (int64_t ch = 0; ch < s.c; ch++) {
            double sum = 0;
            for (int k = 0; k < 4; k++)
                if (pixel(&s, n, &down, &across, k, &at, &weight))
                    sum += weight * get(c->in[0]->data, t, at + ch);
            put(c->out[0]->data, t, i * s.c + ch, sum);
        }
    }
    return VESTIGE_OK;
}
REF_FLOAT(sample)

ALWAYS_INLINE int spread(const call *c, int t) {
    grid_size s = grid_size_of(c, c->out[0], c->in[0]);
    void *scratch;
    int64_t count = c->out[0]->numel;
    TRY(alloc_scratch(&scratch, count * 8));
    double *sum = scratch;
    memset(sum, 0, (size_t)count * 8);
    for (int64_t i = 0; i < s.n * s.oh * s.ow; i++) {
        grid_taps down, across;
        int64_t at, n = i / (s.oh * s.ow);
        double weight;
        taps_of(c, t, &s, i, &down, &across);
        for (int k = 0; k < 4; k++)
            if (pixel(&s, n, &down, &across, k, &at, &weight))
                for (int64_t ch = 0; ch < s.c; ch++)
                    sum[at + ch] += weight * get(c->in[0]->data, t, i * s.c + ch);
    }
    for (int64_t i = 0; i < count; i++)
        put(c->out[0]->data, t, i, sum[i]);
    free_scratch(scratch, count * 8);
    return VESTIGE_OK;
}
REF_FLOAT(spread)

const kernel_row ref_grid[] = {
    ROWS_FLOAT("grid_sample", sample),
    ROWS_FLOAT("grid_sample_input", spread),
    { 0 },
};
