/* Weight gradient of a 3x3 convolution of stride 2: the forward's algorithm turned round, so that a
 * tile of 4x4 output gradients and its 9x9 inputs give 81 products a channel pair instead of 144.
 * Those at points that have one weight go into one sum. winograd_sums.h says how they are summed.
 */
#include "cpu/f32.h"
#include "cpu/winograd_strided.h"

#define TILES_A_ROW 1
#define BLOCK 32 /* rows summed in registers, at one point */
#include "cpu/winograd_sums.h"

/* The nine points of a row or a column of 4 output gradients. */
ALWAYS_INLINE void gradient_points(vf *t, const vf *d) {
    wino_short_gradient(t, d);
#pragma GCC unroll 4
    for (int i = 0; i < STEP; i++)
        t[SHORT + i] = d[i];
}

/* y[point * step + o] of one tile. Meanwhile the next one is fetched. */
static void gradient_tile(const struct wino *p, float *to, const float *const *rows,
                          const float *const *next) {
    for (int64_t o = 0; o < p->g->o; o += LANES) {
        vf half[STEP][POINTS];
        for (int i = 0; i < STEP * STEP && o % LINE == 0; i++)
            __builtin_prefetch(next[i] + o);
#pragma GCC unroll 4
        for (int i = 0; i < STEP; i++) {
            vf d[STEP];
#pragma GCC unroll 4
            for (int j = 0; j < STEP; j++)
                d[j] = vload(rows[i * STEP + j] + o);
            gradient_points(half[i], d);
        }
        for (int j = 0; j < POINTS; j++) {
            vf d[STEP], t[POINTS];
#pragma GCC unroll 4
            for (int i = 0; i < STEP; i++)
                d[i] = half[i][j];
            gradient_points(t, d);
#pragma GCC unroll 9
            for (int i = 0; i < POINTS; i++)
                vstore(to + (i * POINTS + j) * p->y_step + o, t[i]);
        }
    }
}

/* Where a tile's inputs and output gradients are. */
static void tile_rows(const struct wino *p, const float **x_rows, const float **y_rows,
                      const float *x, const float *dy, int64_t tile) {
    const struct cpu_conv *g = p->g;
    int64_t area = p->across * p->down, n = tile / area;
    int64_t y0 = tile % area / p->across * STEP, x0 = tile % p->across * STEP;
    wino_rows(x_rows, POINTS, x + n * g->h * g->w * g->c, p->zero, 2 * y0 - 1, 2 * x0 - 1, g->h,
              g->w, g->c);
    wino_rows(y_rows, STEP, dy + n * g->oh * g->ow * g->o, p->zero, y0, x0, g->oh, g->ow, g->o);
}

static void transform_row(const struct wino *p, const struct part *a, const float *x,
                          const float *dy, int64_t slot, int64_t tile) {
    const float *rows[PRODUCTS], *next[PRODUCTS], *y_rows[STEP * STEP], *y_next[STEP * STEP];
    tile_rows(p, rows, y_rows, x, dy, tile);
    tile_rows(p, next, y_next, x, dy, imin(tile + 1, p->tiles - 1));
    wino_input_tile(a->v + slot * p->v_row, p->v_step, rows, next, p->g->c, false);
    gradient_tile(p, a->y + slot * p->y_row, y_rows, y_next);
}

int64_t K(cpu_strided_weights_scratch)(const struct cpu_conv *g) {
    struct wino p;
    return layout(&p, g, NULL);
}

int K(cpu_strided_weights)(float *dw, const float *dy, const float *x, const struct cpu_conv *g,
                           void *scratch) {
    return wino_weights(dw, dy, x, g, scratch);
}
