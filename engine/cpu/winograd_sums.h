/* How Winograd's weight gradients share their work. A row of V (PRODUCTS, rows, c) comes from x,
 * one of Y (PRODUCTS, rows, o) from dy; blocks of rows go through them, S (WEIGHTS squared, o, c)
 * += Y' V over the points that have one weight, and at the end dw comes from S. Two ways to share,
 * chosen by shape. In pieces, where S is small: the rows are cut in a fixed number of pieces, each
 * a task with its own S, summed in order; threads meet once. Shared, where S is large (and rows are
 * few): all threads fill V and Y, then each sums its own part of the one S. Neither depends on the
 * number of threads.
 *
 * Included by winograd_weights.c, winograd_pairs_weights.c, winograd_strided_weights.c and
 * winograd_pairs_strided_weights.c, which say before it BLOCK, the rows summed in registers (twice
 * as many in the shared way). A row is a tile; of pairs two, whose points lie side by side.
 */
#ifndef VESTIGE_CPU_WINOGRAD_SUMS_H
#define VESTIGE_CPU_WINOGRAD_SUMS_H

#include "cpu/scratch.h"
#include "cpu/winograd_tile.h"
#include "core/interrupt.h"
#include <omp.h>

#define SUMS (WEIGHTS * WEIGHTS)
#define TILES_A_ROW (1 + PAIRED)
#define PIECES 32 /* at most, and with all their S in PIECES_BYTES */
#define PIECES_BYTES (24 << 20)

struct wino {
    const struct cpu_conv *g;
    int64_t across, down, tiles, rows, block;
    int64_t pieces, piece; /* pieces of so many rows; 1 piece: the shared way */
    int64_t v_row, v_step, y_row, y_step, s_row, s_step;
    int workers;
    float *v, *y;       /* (sets, PRODUCTS, step): a set for each worker, or one shared */
    float *s;           /* (pieces, SUMS, s_step) */
    wino_element *zero; /* max(c, o) zeros */
};

/* What one worker adds to. */
struct part {
    float *v, *y, *s;
};

/* t + y v, of floats or pairs, where y is spread over all lanes. */
ALWAYS_INLINE vf product_added(const float *y, vf v, vf t) {
#if PAIRED
    return vdot(vset_pair(y), v, t);
#else
    return vfma(vset(*y), v, t);
#endif
}

static int64_t layout(struct wino *p, const struct cpu_conv *g, void *base) {
    *p = (struct wino){ .g = g };
    p->across = ceil_div(g->ow, STEP);
    p->down = ceil_div(g->oh, STEP);
    p->tiles = g->n * p->across * p->down;
    p->rows = ceil_div(p->tiles, TILES_A_ROW);
    p->workers = wino_workers(p->tiles, g);
    p->s_row = wino_row(g->c);
    p->s_step = g->o * p->s_row + LINE;
    p->pieces = imin(PIECES, PIECES_BYTES / (SUMS * p->s_step * 4));
    p->pieces = imin(p->pieces, p->rows / BLOCK);
    p->pieces = p->pieces < 8 ? 1 : p->pieces - p->pieces % 8; /* even for 2, 4 and 8 threads */
    p->piece = ceil_div(p->rows, p->pieces);
    p->block = imin(p->piece, p->pieces > 1 ? BLOCK : 2 * BLOCK);
    p->v_row = wino_row(g->c);
    p->v_step = p->block * p->v_row + LINE;
    p->y_row = wino_row(g->o);
    p->y_step = p->block * p->y_row + LINE;
    int64_t sets = p->pieces > 1 ? p->workers : 1;
    struct scratch s = scratch_open(base);
    p->v = scratch_take(&s, sets * PRODUCTS * p->v_step * 4);
    p->y = scratch_take(&s, sets * PRODUCTS * p->y_step * 4);
    p->s = scratch_take(&s, p->pieces * SUMS * p->s_step * 4);
    p->zero = scratch_take(&s, imax(g->c, g->o) * (int64_t)sizeof *p->zero);
    return scratch_bytes(&s);
}

/* Where the inputs and the output gradients of a tile are. */
struct where {
    const wino_element *x[PRODUCTS], *y[STEP * STEP];
};

/* Zeros for a tile past the end and outside the image. */
static void find_tile(const struct wino *p, struct where *w, const wino_element *x,
                      const wino_element *dy, int64_t tile) {
    const struct cpu_conv *g = p->g;
    int64_t area = p->across * p->down, n = tile / area;
    int64_t y0 = tile % area / p->across * STEP, x0 = tile % p->across * STEP;
    bool there = tile < p->tiles;
    wino_rows(w->x, POINTS, x + n * g->h * g->w * g->c, p->zero, STRIDE * y0 - g->ph,
              STRIDE * x0 - g->pw, there ? g->h : 0, g->w, g->c);
    wino_rows(w->y, STEP, dy + n * g->oh * g->ow * g->o, p->zero, y0, x0, there ? g->oh : 0, g->ow,
              g->o);
}

/* to[point * step + c] of a row's tiles; meanwhile the next row's are fetched. */
ALWAYS_INLINE void points_of(float *to, int64_t step, int64_t channels,
                             const wino_element *const *const *tiles,
                             const wino_element *const *const *next, const enum wino_job job) {
    for (int64_t c = 0; c < channels; c += LANES) {
        vf half[TILES_A_ROW][POINTS][POINTS];
#pragma GCC unroll 2
        for (int k = 0; k < TILES_A_ROW; k++) {
            wino_fetch(next[k], c, job);
            wino_across(half[k], tiles[k], c, job);
        }
        WINO_UNROLL
        for (int j = 0; j < POINTS; j++) {
            vf t[TILES_A_ROW][POINTS];
#pragma GCC unroll 2
            for (int k = 0; k < TILES_A_ROW; k++)
                wino_down(t[k], half[k], j, job);
#pragma GCC unroll 9
            for (int i = 0; i < POINTS; i++)
#if PAIRED
                vstore(to + (i * POINTS + j) * step + c, vzip(vround(t[0][i]), vround(t[1][i])));
#else
                vstore(to + (i * POINTS + j) * step + c, t[0][i]);
#endif
        }
    }
}

/* Row `row` of V and Y, to place `slot` of the block. */
static void transform_row(const struct wino *p, const struct part *a, const wino_element *x,
                          const wino_element *dy, int64_t slot, int64_t row) {
    struct where tile[2 * TILES_A_ROW]; /* of this row and the next */
    const wino_element *const *xs[2 * TILES_A_ROW], *const *ys[2 * TILES_A_ROW];
    for (int64_t i = 0; i < 2 * TILES_A_ROW; i++) {
        find_tile(p, &tile[i], x, dy, TILES_A_ROW * row + i);
        xs[i] = tile[i].x;
        ys[i] = tile[i].y;
    }
    points_of(a->v + slot * p->v_row, p->v_step, p->g->c, xs, xs + TILES_A_ROW, WINO_FORWARD);
    points_of(a->y + slot * p->y_row, p->y_step, p->g->o, ys, ys + TILES_A_ROW, WINO_WEIGHT_GRAD);
}

/* S of `outputs` from o on times `vectors` of channels from c on; rows of V and Y are summed. */
ALWAYS_INLINE void sum_tile(const struct wino *p, const struct part *a, int64_t k, int64_t o,
                            int64_t c, int64_t count, bool add, const int outputs,
                            const int vectors) {
    struct wino_range down = wino_sharing((int)k / WEIGHTS),
                      across = wino_sharing((int)k % WEIGHTS);
    float *s = a->s + k * p->s_step + o * p->s_row + c;
    vf t[MR][NV];
#pragma GCC unroll 32
    for (int m = 0; m < outputs; m++)
#pragma GCC unroll 2
        for (int x = 0; x < vectors; x++)
            t[m][x] = add ? vload(s + m * p->s_row + x * LANES) : vset(0);
    for (int i = down.from; i < down.to; i++)
        for (int j = across.from; j < across.to; j++) {
            const float *v = a->v + (i * POINTS + j) * p->v_step + c;
            const float *y = a->y + (i * POINTS + j) * p->y_step + o;
            for (int64_t row = 0; row < count; row++, v += p->v_row, y += p->y_row)
#pragma GCC unroll 32
                for (int m = 0; m < outputs; m++)
#pragma GCC unroll 2
                    for (int x = 0; x < vectors; x++)
                        t[m][x] = product_added(y + m, vload(v + x * LANES), t[m][x]);
        }
#pragma GCC unroll 32
    for (int m = 0; m < outputs; m++)
#pragma GCC unroll 2
        for (int x = 0; x < vectors; x++)
            vstore(s + m * p->s_row + x * LANES, t[m][x]);
}

/* Channels are a multiple of LANES, so one vector may be left of them. */
ALWAYS_INLINE void sum_channels(const struct wino *p, const struct part *a, int64_t k, int64_t o,
                                int64_t count, bool add, const int outputs) {
    int64_t c = 0;
    for (; c + NR <= p->g->c; c += NR)
        sum_tile(p, a, k, o, c, count, add, outputs, NV);
    if (c < p->g->c)
        sum_tile(p, a, k, o, c, count, add, outputs, 1);
}

/* Outputs o .. o+MR of point k, all channels. Outputs are a multiple of LANES and MR is 3/4 of that
 * or 3/2, so that a third or two of a tile may be left of them. */
static __attribute__((noinline)) void sum_outputs(const struct wino *p, const struct part *a,
                                                  int64_t k, int64_t o, int64_t count, bool add) {
    int64_t left = p->g->o - o;
    if (left >= MR)
        sum_channels(p, a, k, o, count, add, MR);
    else if (left == 2 * MR / 3)
        sum_channels(p, a, k, o, count, add, 2 * MR / 3);
    else
        sum_channels(p, a, k, o, count, add, MR / 3);
}

static struct part part_of(const struct wino *p, int set, int64_t piece) {
    return (struct part){ .v = p->v + set * PRODUCTS * p->v_step,
                          .y = p->y + set * PRODUCTS * p->y_step,
                          .s = p->s + piece * SUMS * p->s_step };
}

static void run_piece(const struct wino *p, const wino_element *x, const wino_element *dy,
                      int worker, int64_t piece) {
    struct part a = part_of(p, worker, piece);
    int64_t first = piece * p->piece, last = imin(p->rows, first + p->piece);
    for (int64_t at = first; at < last && !interrupted(); at += p->block) {
        int64_t count = imin(p->block, last - at);
        for (int64_t i = 0; i < count; i++)
            transform_row(p, &a, x, dy, i, at + i);
        for (int64_t k = 0; k < SUMS; k++)
            for (int64_t o = 0; o < p->g->o; o += MR)
                sum_outputs(p, &a, k, o, count, at > first);
    }
}

/* Inside a parallel region: every thread comes here. */
static void run_shared(const struct wino *p, const wino_element *x, const wino_element *dy) {
    struct part a = part_of(p, 0, 0);
    for (int64_t at = 0; at < p->rows; at += p->block) {
        int64_t count = imin(p->block, p->rows - at);
#pragma omp for schedule(static)
        for (int64_t i = 0; i < count; i++)
            if (!interrupted())
                transform_row(p, &a, x, dy, i, at + i);
#pragma omp for schedule(dynamic) collapse(2)
        for (int64_t k = 0; k < SUMS; k++)
            for (int64_t o = 0; o < p->g->o; o += MR)
                if (!interrupted())
                    sum_outputs(p, &a, k, o, count, at > 0);
    }
}

/* dw (3,3,c) of output channel o. */
static void finish(const struct wino *p, wino_element *dw, int64_t o) {
    const float *s = p->s + o * p->s_row;
    for (int64_t c = 0; c < p->g->c; c += LANES) {
        vf half[3][WEIGHTS];
#pragma GCC unroll 6
        for (int j = 0; j < WEIGHTS; j++) {
            vf d[WEIGHTS], t[3];
#pragma GCC unroll 6
            for (int i = 0; i < WEIGHTS; i++)
                d[i] = vload(s + (i * WEIGHTS + j) * p->s_step + c);
            for (int64_t q = 1; q < p->pieces; q++) {
#pragma GCC unroll 6
                for (int i = 0; i < WEIGHTS; i++)
                    d[i] += vload(s + (q * SUMS + i * WEIGHTS + j) * p->s_step + c);
            }
            wino_taps(t, d);
#pragma GCC unroll 3
            for (int i = 0; i < 3; i++)
                half[i][j] = t[i];
        }
#pragma GCC unroll 3
        for (int i = 0; i < 3; i++) {
            vf t[3];
            wino_taps(t, half[i]);
#pragma GCC unroll 3
            for (int j = 0; j < 3; j++)
                wino_store(dw + (o * 9 + i * 3 + j) * p->g->c + c, t[j]);
        }
    }
}

static int wino_weights_run(wino_element *dw, const wino_element *dy, const wino_element *x,
                            const struct cpu_conv *g, void *scratch) {
    struct wino p;
    layout(&p, g, scratch);
    memset(p.zero, 0, (size_t)imax(g->c, g->o) * sizeof *p.zero);
#pragma omp parallel num_threads(p.workers)
    {
        int worker = omp_get_thread_num();
        if (p.pieces == 1) {
            run_shared(&p, x, dy);
        } else {
#pragma omp for schedule(dynamic)
            for (int64_t i = 0; i < p.pieces; i++)
                run_piece(&p, x, dy, worker, i);
        }
#pragma omp for schedule(static)
        for (int64_t o = 0; o < g->o; o++)
            finish(&p, dw, o);
    }
    return interrupted() ? CPU_INTERRUPTED : CPU_OK;
}

#endif
