/* Weight gradient of a 3x3 convolution of stride 1 by F(3x3,2x2) in bf16: every tile of 2x2 output
 * gradients and its 4x4 inputs give 16 products a channel pair instead of 36. The sum runs over
 * tiles, so two of them make a pair: a row of V and Y holds the channels of tiles 2i and 2i+1, side
 * by side in bf16; winograd_sums.h says how they are summed.
 */
#include "cpu/f32.h"
#include "cpu/winograd_pairs.h"

#if PAIRS
#define TILES_A_ROW 2
#define BLOCK 96 /* as in winograd_weights.c */
#include "cpu/winograd_sums.h"

/* Where the inputs and the output gradients of a tile are. */
struct where {
    const uint16_t *x[PRODUCTS], *y[STEP * STEP];
};

/* Zeros for a tile past the end and outside the image. */
static void find_tile(const struct wino *p, struct where *w, const uint16_t *x, const uint16_t *dy,
                      int64_t tile) {
    const struct cpu_conv *g = p->g;
    int64_t area = p->across * p->down, n = tile / area;
    int64_t y0 = tile % area / p->across * STEP, x0 = tile % p->across * STEP;
    bool there = tile < p->tiles;
    wino_rows(w->x, POINTS, x + n * g->h * g->w * g->c, p->zero, y0 - g->ph, x0 - g->pw,
              there ? g->h : 0, g->w, g->c);
    wino_rows(w->y, STEP, dy + n * g->oh * g->ow * g->o, p->zero, y0, x0, there ? g->oh : 0, g->ow,
              g->o);
}

/* t[point] = G dy G' of the channels from o on. */
ALWAYS_INLINE void gradient_tile(vf *t, const uint16_t *const *rows, int64_t o) {
    vf half[STEP][POINTS];
#pragma GCC unroll 2
    for (int i = 0; i < STEP; i++) {
        vf d[STEP] = { vwiden(rows[i * STEP] + o), vwiden(rows[i * STEP + 1] + o) };
        wino_weights2(half[i], d);
    }
#pragma GCC unroll 4
    for (int j = 0; j < POINTS; j++) {
        vf d[STEP] = { half[0][j], half[1][j] }, column[POINTS];
        wino_weights2(column, d);
#pragma GCC unroll 4
        for (int i = 0; i < POINTS; i++)
            t[i * POINTS + j] = column[i];
    }
}

/* Tiles 2 row and 2 row + 1, to place `slot` of the block. Meanwhile what the next two add is
 * fetched. */
static void transform_row(const struct wino *p, const struct part *a, const uint16_t *x,
                          const uint16_t *dy, int64_t slot, int64_t row) {
    struct where tile[4]; /* these two and the next two */
    float *v = a->v + slot * p->v_row, *y = a->y + slot * p->y_row;
    vf even[PRODUCTS], odd[PRODUCTS];
    for (int64_t i = 0; i < 4; i++)
        find_tile(p, &tile[i], x, dy, 2 * row + i);
    for (int64_t c = 0; c < p->g->c; c += LANES) {
        for (int i = 0; i < 2 * PRODUCTS && c % (2 * LINE) == 0; i++)
            if (i % POINTS >= POINTS - STEP)
                __builtin_prefetch(tile[2 + i / PRODUCTS].x[i % PRODUCTS] + c);
        wino_input_tile(even, tile[0].x, c);
        wino_input_tile(odd, tile[1].x, c);
#pragma GCC unroll 16
        for (int k = 0; k < PRODUCTS; k++)
            vstore(v + k * p->v_step + c, vzip(vround(even[k]), vround(odd[k])));
    }
    for (int64_t o = 0; o < p->g->o; o += LANES) {
        for (int i = 0; i < STEP * STEP && o % (2 * LINE) == 0; i++) {
            __builtin_prefetch(tile[2].y[i] + o);
            __builtin_prefetch(tile[3].y[i] + o);
        }
        gradient_tile(even, tile[0].y, o);
        gradient_tile(odd, tile[1].y, o);
#pragma GCC unroll 16
        for (int k = 0; k < PRODUCTS; k++)
            vstore(y + k * p->y_step + o, vzip(vround(even[k]), vround(odd[k])));
    }
}

int64_t K(cpu_winograd_pairs_weights_scratch)(const struct cpu_conv *g) {
    struct wino p;
    return layout(&p, g, NULL);
}

int K(cpu_winograd_pairs_weights)(uint16_t *dw, const uint16_t *dy, const uint16_t *x,
                                  const struct cpu_conv *g, void *scratch) {
    return wino_weights(dw, dy, x, g, scratch);
}
#endif
