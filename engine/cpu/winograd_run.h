/* How forward and input gradient by Winograd share their work. The weights become U (WEIGHTS
 * squared, panels of co, length, NR). A task takes a block of tiles: V (PRODUCTS, tiles, length)
 * from the image; then, a panel of outputs at a time, the products M (PRODUCTS, tiles, NR) = V U in
 * f32 and the outputs from M, which so stays in the second cache however many channels there are.
 * Points that have one weight take their turns one after the other. Slabs are kept one cache line
 * off a power of two. U of weights that do not change is kept for the next time (core/kept.c),
 * without which it lies in the scratch memory.
 *
 * Included by winograd.c, winograd_pairs.c, winograd_strided.c and winograd_pairs_strided.c, which
 * say before it TILES and KC. Their headers say PAIRED: elements of V and U are pairs of bf16 along
 * ci, so that length is ci / 2; otherwise ci.
 */
#ifndef VESTIGE_CPU_WINOGRAD_RUN_H
#define VESTIGE_CPU_WINOGRAD_RUN_H

#include "cpu/cut.h"
#include "cpu/f32.h"
#include "cpu/scratch.h"
#include "cpu/stream.h"
#include "cpu/winograd_tile.h"
#include "core/interrupt.h"
#include <omp.h>

struct wino {
    const struct cpu_conv *g;
    bool back;
    bool far;  /* the weights do not stay in the second cache */
    bool past; /* outputs go past the caches */
    struct conv_ends e;
    int64_t across, down, tiles; /* tiles a row, a column, in all */
    struct cut cut;              /* of the tiles, in blocks of at most TILES */
    int64_t length, panels, u_step, v_row, v_step, m_step;
    int workers;
    float *u;           /* (WEIGHTS squared, u_step): panels (length, NR) */
    float *v;           /* workers x (PRODUCTS, v_step): rows of v_row */
    float *m;           /* workers x (PRODUCTS, m_step): rows of NR */
    float *taps;        /* workers x (9, ci, NR): one panel of the weights as they are */
    float *bias;        /* (panels * NR) */
    wino_element *zero; /* ci zeros */
};

static int64_t layout(struct wino *p, const struct cpu_conv *g, bool back, void *base) {
    *p = (struct wino){ .g = g, .back = back };
    p->e = conv_ends_of(g, back);
    p->across = ceil_div(p->e.w, MADE(back));
    p->down = ceil_div(p->e.h, MADE(back));
    p->tiles = g->n * p->across * p->down;
    p->workers = wino_workers(p->tiles, g);
    p->cut = cut_rows(p->tiles, p->workers, TILES, MR);
    p->length = PAIRED ? p->e.ci / 2 : p->e.ci;
    p->panels = ceil_div(p->e.co, NR);
    p->u_step = p->panels * p->length * NR + LINE;
    p->far = WEIGHTS * WEIGHTS * p->u_step * 4 > NEAR;
    p->v_row = wino_row(p->length);
    p->v_step = p->cut.block * p->v_row + LINE;
    p->m_step = p->cut.block * NR + LINE;
    struct scratch s = scratch_open(base);
    p->u = g->u ? kept_data(g->u) : scratch_take(&s, WEIGHTS * WEIGHTS * p->u_step * 4);
    p->v = scratch_take(&s, p->workers * PRODUCTS * p->v_step * 4);
    p->m = scratch_take(&s, p->workers * PRODUCTS * p->m_step * 4);
    p->taps = scratch_take(&s, p->workers * 9 * p->e.ci * NR * 4);
    p->bias = scratch_take(&s, p->panels * NR * 4);
    p->zero = scratch_take(&s, p->e.ci * (int64_t)sizeof *p->zero);
    return scratch_bytes(&s);
}

/* Bytes of U. */
static int64_t wino_form(const struct cpu_conv *g, bool back) {
    struct wino p;
    layout(&p, g, back, NULL);
    return WEIGHTS * WEIGHTS * p.u_step * 4;
}

static int64_t wino_scratch(const struct cpu_conv *g, bool back) {
    struct wino p;
    return layout(&p, g, back, NULL);
}

/* ---- Weights ---- */
/* u[point] = G g G' of the weights at taps[tap * step]. */
ALWAYS_INLINE void weights_tile(vf *u, const float *taps, int64_t step) {
    vf half[3][WEIGHTS];
#pragma GCC unroll 3
    for (int i = 0; i < 3; i++) {
        vf g[3];
#pragma GCC unroll 3
        for (int j = 0; j < 3; j++)
            g[j] = vload(taps + (i * 3 + j) * step);
        wino_weights(half[i], g);
    }
#pragma GCC unroll 6
    for (int j = 0; j < WEIGHTS; j++) {
        vf g[3], t[WEIGHTS];
#pragma GCC unroll 3
        for (int i = 0; i < 3; i++)
            g[i] = half[i][j];
        wino_weights(t, g);
#pragma GCC unroll 6
        for (int i = 0; i < WEIGHTS; i++)
            u[i * WEIGHTS + j] = t[i];
    }
}

/* Panel q of U. */
static void transform_weights(const struct wino *p, const wino_element *w, int worker, int64_t q) {
    int64_t ci = p->e.ci, first = q * NR, n = imin(NR, p->e.co - first);
    float *taps = p->taps + worker * 9 * ci * NR, *u = p->u + q * p->length * NR;
    if (p->back)
        for (int64_t t = 0; t < 9; t++)
            pack_rows_of(taps + (8 - t) * ci * NR, w + t * p->e.co + first, 9 * p->e.co, ci, n,
                         PAIRED);
    else
        pack_columns_of(taps, w + first * 9 * ci, 9 * ci, 9 * ci, n, PAIRED);
    for (int64_t k = 0; k < p->length * NR; k += LANES) {
        vf t[WEIGHTS * WEIGHTS];
#if PAIRED
        const float *even = taps + k / NR * 2 * NR + k % NR;
        vf odd[WEIGHTS * WEIGHTS];
        weights_tile(t, even, ci * NR);
        weights_tile(odd, even + NR, ci * NR);
#pragma GCC unroll 16
        for (int i = 0; i < WEIGHTS * WEIGHTS; i++)
            vstore(u + i * p->u_step + k, vzip(vround(t[i]), vround(odd[i])));
#else
        weights_tile(t, taps + k, ci * NR);
#pragma GCC unroll 36
        for (int i = 0; i < WEIGHTS * WEIGHTS; i++)
            vstore(u + i * p->u_step + k, t[i]);
#endif
    }
}

/* ---- Tiles ---- */
/* Where the pixels of a tile are in the image x. */
static void tile_rows(const struct wino *p, const wino_element **rows, const wino_element *x,
                      int64_t tile) {
    int64_t area = p->across * p->down, at = tile % area, y0 = at / p->across, x0 = at % p->across;
    const wino_element *image = x + tile / area * p->e.in_h * p->e.in_w * p->e.ci;
    if (STRIDE > 1 && p->back)
        wino_rows(rows, SIDE(true), image, p->zero, y0 * STEP, x0 * STEP, p->e.in_h, p->e.in_w,
                  p->e.ci);
    else
        wino_rows(rows, SIDE(false), image, p->zero, y0 * STRIDE * STEP - p->e.pad_y,
                  x0 * STRIDE * STEP - p->e.pad_x, p->e.in_h, p->e.in_w, p->e.ci);
}

ALWAYS_INLINE void points_of(const struct wino *p, float *v, const wino_element *const *rows,
                             const wino_element *const *next, const enum wino_job job) {
    for (int64_t c = 0; c < p->e.ci; c += LANES) {
        vf half[POINTS][POINTS];
        wino_fetch(next, c, job);
        wino_across(half, rows, c, job);
        WINO_UNROLL
        for (int j = 0; j < POINTS; j++) {
            vf t[POINTS];
            wino_down(t, half, j, job);
#pragma GCC unroll 9
            for (int i = 0; i < POINTS; i++)
                wino_store((wino_element *)(v + (i * POINTS + j) * p->v_step) + c, t[i]);
        }
    }
}

/* v[point * v_step + k] of the pixels at rows. Meanwhile the next tile's are fetched. */
static void input_tile(const struct wino *p, float *v, const wino_element *const *rows,
                       const wino_element *const *next) {
    if (STRIDE > 1 && p->back)
        points_of(p, v, rows, next, WINO_INPUT_GRAD);
    else
        points_of(p, v, rows, next, WINO_FORWARD);
}

ALWAYS_INLINE void put(wino_element *y, vf v, const bool past) {
#if PAIRED
    (void)past;
    vnarrow(y, v);
#else
    if (past)
        STREAM_STORE(y, v);
    else
        vstore(y, v);
#endif
}

ALWAYS_INLINE void outputs_of(const struct wino *p, wino_element *y, const float *m, int64_t y0,
                              int64_t x0, int64_t o, int64_t n, const bool back, const bool past) {
    const int made = MADE(back);
    for (int64_t c = 0; c < n; c += LANES) {
        vf half[MADE(true)][POINTS], b = vload(p->bias + o + c);
        WINO_UNROLL
        for (int j = 0; j < POINTS; j++) {
            vf d[POINTS], t[MADE(true)];
#pragma GCC unroll 9
            for (int i = 0; i < POINTS; i++)
                d[i] = vload(m + (i * POINTS + j) * p->m_step + c);
            wino_outputs(t, d, back);
#pragma GCC unroll 8
            for (int i = 0; i < made; i++)
                half[i][j] = t[i];
        }
        WINO_UNROLL
        for (int i = 0; i < made; i++) {
            if (y0 + i >= p->e.h)
                break;
            vf t[MADE(true)];
            wino_outputs(t, half[i], back);
            wino_element *out = y + ((y0 + i) * p->e.w + x0) * p->e.co + o + c;
#pragma GCC unroll 8
            for (int j = 0; j < made; j++, out += p->e.co) {
                if (x0 + j >= p->e.w)
                    break;
                put(out, t[j] + (!past && p->g->add ? wino_load(out) : b), past);
            }
        }
    }
}

/* The outputs o .. o+n of the tile at (y0, x0) of the image y, from m[point * m_step]; those
 * outside it are left out. */
static void output_tile(const struct wino *p, wino_element *y, const float *m, int64_t y0,
                        int64_t x0, int64_t o, int64_t n) {
    bool back = STRIDE > 1 && p->back;
    if (back && p->past)
        outputs_of(p, y, m, y0, x0, o, n, true, true);
    else if (back)
        outputs_of(p, y, m, y0, x0, o, n, true, false);
    else if (p->past)
        outputs_of(p, y, m, y0, x0, o, n, false, true);
    else
        outputs_of(p, y, m, y0, x0, o, n, false, false);
}

/* ---- A block ---- */
/* M of panel q, which has n columns, at one point. The weights read after it lie `next` floats
 * further on; 0: they are near. */
static void point_product(const struct wino *p, float *m, const float *v, const float *u,
                          int64_t count, int64_t n, int64_t next) {
    const float *rows[TILES + MR];
    float *out[TILES + MR];
    if (thin_pays(p->length, n, PAIRED)) {
        thin_sums(v, p->v_row, m, NR, count, u, p->length, n, PAIRED);
        return;
    }
    for (int64_t i = 0; i < p->cut.block; i++) {
        rows[i] = v + i * p->v_row;
        out[i] = m + i * NR;
    }
    for (int64_t k = 0; k < p->length; k += KC) {
        struct tile_sum s = {
            .b = u + k * NR, .len = imin(KC, p->length - k), .k0 = k, .count = 1
        };
        int64_t after = next == 0 ? 0 : k + KC < p->length ? KC * NR : next - k * NR;
        for (int64_t i = 0; i < count; i += MR) {
            s.rows = rows + i;
            s.ahead = after ? tile_ahead(after, count - i) : 0;
#if PAIRED
            tile_run_pairs(&s, out + i, 0, n, k > 0, NULL);
#else
            tile_run(&s, out + i, 0, n, k > 0, NULL);
#endif
        }
    }
}

static void run_block(const struct wino *p, wino_element *y, const wino_element *x, int worker,
                      int64_t first, int64_t count) {
    int64_t area = p->across * p->down, made = MADE(p->back);
    float *v = p->v + worker * PRODUCTS * p->v_step, *m = p->m + worker * PRODUCTS * p->m_step;
    const wino_element *tile[2][PRODUCTS]; /* this one's and the next one's rows */
    tile_rows(p, tile[0], x, first);
    for (int64_t i = 0; i < count; i++) {
        tile_rows(p, tile[(i + 1) % 2], x, imin(first + i + 1, p->tiles - 1));
        input_tile(p, v + i * p->v_row, tile[i % 2], tile[(i + 1) % 2]);
    }
    for (int64_t q = 0; q < p->panels; q++) {
        int64_t n = imin(NR, p->e.co - q * NR);
        for (int k = 0; k < WEIGHTS * WEIGHTS; k++) {
            const float *u = p->u + k * p->u_step + q * p->length * NR;
            struct wino_range y_points = wino_sharing(k / WEIGHTS),
                              x_points = wino_sharing(k % WEIGHTS);
            for (int i = y_points.from; i < y_points.to; i++)
                for (int j = x_points.from; j < x_points.to; j++) {
                    int64_t point = i * POINTS + j;
                    bool last = i + 1 == y_points.to && j + 1 == x_points.to;
                    point_product(p, m + point * p->m_step, v + point * p->v_step, u, count, n,
                                  p->far && last && k + 1 < WEIGHTS * WEIGHTS ? p->u_step : 0);
                }
        }
        for (int64_t i = 0; i < count; i++) {
            int64_t image = (first + i) / area, at = (first + i) % area;
            output_tile(p, y + image * p->e.h * p->e.w * p->e.co, m + i * NR, at / p->across * made,
                        at % p->across * made, q * NR, n);
        }
    }
    if (p->past)
        stream_end();
}

/* A vector must be a line: halves of one come too far apart. */
static bool streams(const struct wino *p, const wino_element *y) {
    return !p->g->add && LANES * sizeof *y == 64 && (uintptr_t)y % 64 == 0 &&
           p->g->n * p->e.h * p->e.w * p->e.co * (int64_t)sizeof *y >= STREAMED;
}

static int wino_run(wino_element *y, const wino_element *x, const wino_element *w,
                    const wino_element *bias, const struct cpu_conv *g, bool back, void *scratch) {
    struct wino p;
    layout(&p, g, back, scratch);
    p.past = streams(&p, y);
    bool ready = g->u && g->u->made;
    memset(p.zero, 0, (size_t)p.e.ci * sizeof *p.zero);
    for (int64_t i = 0; i < p.panels * NR; i++)
        p.bias[i] = bias && i < p.e.co ? element(bias, i, PAIRED) : 0;
#pragma omp parallel num_threads(p.workers)
    {
        int worker = omp_get_thread_num();
#pragma omp for schedule(dynamic)
        for (int64_t q = 0; q < (ready ? 0 : p.panels); q++)
            transform_weights(&p, w, worker, q);
#pragma omp for schedule(dynamic)
        for (int64_t i = 0; i < p.cut.tasks; i++) {
            int64_t at, count = cut_task(&p.cut, i, &at);
            if (count > 0 && !interrupted())
                run_block(&p, y, x, worker, at, count);
        }
    }
    if (g->u)
        g->u->made = true;
    return interrupted() ? CPU_INTERRUPTED : CPU_OK;
}

#endif
