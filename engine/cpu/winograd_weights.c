/* Weight gradient of a 3x3 convolution of stride 1 by F(3x3,4x4): every tile of 4x4 output
 * gradients and its 6x6 inputs give 36 products a channel pair instead of 144. A row of V and Y is
 * a tile; winograd_sums.h says how they are summed.
 */
#include "cpu/f32.h"
#include "cpu/winograd.h"

#define TILES_A_ROW 1
#define BLOCK 96 /* rows summed in registers; in the shared way twice as many */
#include "cpu/winograd_sums.h"

/* y[point * step + o] = G dy G' of one tile. Meanwhile the next one is fetched, as in
 * wino_input_tile. */
static void gradient_tile(const struct wino *p, float *to, const float *const *rows,
                          const float *const *next) {
    const struct cpu_conv *g = p->g;
    for (int64_t o = 0; o < g->o; o += LANES) {
        vf half[STEP][POINTS];
        for (int i = 0; i < STEP * STEP && o % LINE == 0; i++)
            __builtin_prefetch(next[i] + o);
#pragma GCC unroll 4
        for (int i = 0; i < STEP; i++) {
            vf d[STEP];
#pragma GCC unroll 4
            for (int j = 0; j < STEP; j++)
                d[j] = vload(rows[i * STEP + j] + o);
            wino_weights4(half[i], d);
        }
#pragma GCC unroll 6
        for (int j = 0; j < POINTS; j++) {
            vf d[STEP], t[POINTS];
#pragma GCC unroll 4
            for (int i = 0; i < STEP; i++)
                d[i] = half[i][j];
            wino_weights4(t, d);
#pragma GCC unroll 6
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
    wino_rows(x_rows, POINTS, x + n * g->h * g->w * g->c, p->zero, y0 - g->ph, x0 - g->pw, g->h,
              g->w, g->c);
    wino_rows(y_rows, STEP, dy + n * g->oh * g->ow * g->o, p->zero, y0, x0, g->oh, g->ow, g->o);
}

static void transform_row(const struct wino *p, const struct part *a, const float *x,
                          const float *dy, int64_t slot, int64_t tile) {
    const float *rows[PRODUCTS], *next[PRODUCTS], *y_rows[STEP * STEP], *y_next[STEP * STEP];
    tile_rows(p, rows, y_rows, x, dy, tile);
    tile_rows(p, next, y_next, x, dy, imin(tile + 1, p->tiles - 1));
    wino_input_tile(a->v + slot * p->v_row, p->v_step, rows, next, p->g->c);
    gradient_tile(p, a->y + slot * p->y_row, y_rows, y_next);
}

int64_t K(cpu_winograd_weights_scratch)(const struct cpu_conv *g) {
    struct wino p;
    return layout(&p, g, NULL);
}

int K(cpu_winograd_weights)(float *dw, const float *dy, const float *x, const struct cpu_conv *g,
                            void *scratch) {
    return wino_weights(dw, dy, x, g, scratch);
}
