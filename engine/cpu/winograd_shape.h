/* What the Winograd kernels have in common: which convolutions a table takes, where rows lie.
 *
 * A kernel is a header of transforms, a file with its table for forward and input gradient
 * (winograd_run.h) and one for the weight gradient (winograd_sums.h). The header says
 *   STRIDE, STEP        of the convolution, outputs of a forward tile each way
 *   POINTS, PRODUCTS    products of a row or a column, of a tile
 *   WEIGHTS             different ones of the POINTS: the last of them is for all that remain
 *   SIDE, MADE          pixels that a tile reads and makes each way; back: of the input gradient
 *   wino_element, wino_load, wino_store, PAIRED, WINO_UNROLL
 * before it includes this, and after it the transforms of one dimension, two passes of which make a
 * tile: wino_points of SIDE pixels, wino_gradient of STEP output gradients, wino_weights of 3 taps;
 * from POINTS products wino_outputs, MADE of them, and from WEIGHTS sums wino_taps, 3 gradients. */
#ifndef VESTIGE_CPU_WINOGRAD_SHAPE_H
#define VESTIGE_CPU_WINOGRAD_SHAPE_H

#include "cpu/conv.h"
#include "cpu/tile.h"
#include "core/threads.h"

#define NEAR (512 << 10) /* bytes of transformed weights that stay in the second cache */

/* Floats between rows of so many: rows of a power of two would meet in few cache sets. */
static inline int64_t wino_row(int64_t floats) {
    return floats < 64 ? floats : floats + LINE;
}

/* The points of a row or a column that have the same weights: the last of the WEIGHTS different
 * ones is for all points that remain. */
struct wino_range {
    int from, to;
};

ALWAYS_INLINE struct wino_range wino_sharing(int weight) {
    bool one = WEIGHTS == POINTS || weight + 1 < WEIGHTS;
    return (struct wino_range){ weight, one ? weight + 1 : POINTS };
}

enum wino_job { WINO_FORWARD, WINO_INPUT_GRAD, WINO_WEIGHT_GRAD };

/* A row of a table: with at most so many channels in and out, so many tiles of each job pay. */
struct wino_pays {
    int64_t channels, tiles[3];
};

#define WINO_LEAST 16 /* channels */
#define WINO_NEVER INT64_MAX

/* Whether the first row of the table that has the channels takes a 3x3 convolution. */
static inline bool wino_pays(const struct cpu_conv *g, enum wino_job job,
                             const struct wino_pays *table, int rows) {
    if (cpu_conv_direct)
        return false;
    if (g->groups != 1 || g->kh != 3 || g->kw != 3 || g->sh != STRIDE || g->sw != STRIDE ||
        g->dh != 1 || g->dw != 1 || g->c % LANES != 0 || g->o % LANES != 0 ||
        imin(g->c, g->o) < WINO_LEAST)
        return false;
    /* Where most taps fall outside, a plain sum is short and rounds less than a transform does. */
    if (imin(imin(g->h, g->w), imin(g->oh, g->ow)) < 3 || imax(g->ph, g->pw) > 2)
        return false;
    int64_t h = g->oh, w = g->ow;
    if (job == WINO_INPUT_GRAD) {
        h = ceil_div(g->h, STRIDE);
        w = ceil_div(g->w, STRIDE);
    }
    int64_t tiles = g->n * ceil_div(h, STEP) * ceil_div(w, STEP);
    /* Tiles that hang over the edge by more than half lose what the transform wins. */
    if (tiles * STEP * STEP > 2 * g->n * h * w)
        return false;
    for (int i = 0; i < rows; i++)
        if (imax(g->c, g->o) <= table[i].channels)
            return tiles >= table[i].tiles[job];
    return false;
}

/* Below about 0.1 ms of products a second thread costs more than it gives. */
static inline int wino_workers(int64_t tiles, const struct cpu_conv *g) {
    return tiles * PRODUCTS * g->c * g->o < 1700000 ? 1 : threads();
}

/* side x side pixels of the image from (y0, x0) on: where their channels are; zeros outside it. Few
 * have columns outside. */
ALWAYS_INLINE void wino_rows(const wino_element **rows, const int side, const wino_element *image,
                             const wino_element *zero, int64_t y0, int64_t x0, int64_t h, int64_t w,
                             int64_t channels) {
    const wino_element *line = image + (y0 * w + x0) * channels;
    for (int64_t i = 0; i < side; i++, line += w * channels) {
        bool inside = y0 + i >= 0 && y0 + i < h;
        const wino_element *at = inside ? line : zero;
        int64_t step = inside ? channels : 0;
#pragma GCC unroll 9
        for (int64_t j = 0; j < side; j++, at += step)
            rows[i * side + j] = at;
    }
    for (int64_t j = 0; j < -x0; j++)
        for (int64_t i = 0; i < side; i++)
            rows[i * side + j] = zero;
    for (int64_t j = w - x0; j < side; j++)
        for (int64_t i = 0; i < side; i++)
            rows[i * side + j] = zero;
}

#endif
