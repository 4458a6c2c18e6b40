/* 3x3 convolutions of stride 1 by F(4x4,3x3): forward and input gradient (which is the forward with
 * the weights flipped and turned round). See winograd.h for the transforms.
 *
 * The weights become U (36, panels of co, ci, NR). Then a task takes a block of tiles of 4x4
 * outputs through three stages in its own buffers: V (36, tiles, ci) from the image, 36 products M
 * (36, tiles, co) = V U, the outputs from M. Slabs of the 36 are kept one cache line off a power of
 * two. U of weights that do not change is kept for the next time (core/kept.c), without which it
 * lies in the scratch memory.
 */
#include "cpu/cut.h"
#include "cpu/f32.h"
#include "cpu/scratch.h"
#include "cpu/stream.h"
#include "cpu/winograd.h"
#include "core/interrupt.h"
#include "core/threads.h"
#include <omp.h>

#define TILES 48
#define KC 128 /* channels summed in registers: longer sums are 2 % faster and round more */

/* What becomes of the outputs. */
enum end { STORE, ADD, STREAM };

struct wino {
    const struct cpu_conv *g;
    bool back;
    enum end end;
    bool far; /* the weights do not stay in the second cache */
    struct conv_ends e;
    int64_t across, down, tiles; /* tiles a row, a column, in all */
    struct cut cut;              /* of the tiles, in blocks of at most TILES */
    int64_t panels, u_step, v_row, v_step, m_row, m_step;
    int workers;
    float *u;    /* (36, u_step): panels (ci, NR) */
    float *v;    /* workers x (36, v_step): rows of v_row */
    float *m;    /* workers x (36, m_step): rows of m_row */
    float *taps; /* workers x (9, ci, NR): one panel of the weights as they are */
    float *bias; /* (co) */
    float *zero; /* ci zeros */
};

static int64_t layout(struct wino *p, const struct cpu_conv *g, bool back, void *base) {
    *p = (struct wino){ .g = g, .back = back };
    p->e = conv_ends_of(g, back);
    p->across = ceil_div(p->e.w, STEP);
    p->down = ceil_div(p->e.h, STEP);
    p->tiles = g->n * p->across * p->down;
    p->workers = p->tiles * p->e.ci * p->e.co < 50000 ? 1 : threads();
    p->cut = cut_rows(p->tiles, p->workers, TILES, MR);
    p->panels = ceil_div(p->e.co, NR);
    p->u_step = p->panels * p->e.ci * NR + LINE;
    p->far = PRODUCTS * p->u_step * 4 > NEAR;
    p->v_row = wino_row(p->e.ci);
    p->v_step = p->cut.block * p->v_row + LINE;
    p->m_row = wino_row(p->e.co);
    p->m_step = p->cut.block * p->m_row + LINE;
    struct scratch s = scratch_open(base);
    p->u = g->u ? kept_data(g->u) : scratch_take(&s, PRODUCTS * p->u_step * 4);
    p->v = scratch_take(&s, p->workers * PRODUCTS * p->v_step * 4);
    p->m = scratch_take(&s, p->workers * PRODUCTS * p->m_step * 4);
    p->taps = scratch_take(&s, p->workers * 9 * p->e.ci * NR * 4);
    p->bias = scratch_take(&s, p->e.co * 4);
    p->zero = scratch_take(&s, p->e.ci * 4);
    return scratch_bytes(&s);
}

/* Where it pays. The transformed weights are four times the weights, so wide layers need more tiles
 * to be worth it. The row of a convolution is the first whose channels hold max(c, o).
 * Beside it the worst error over the largest output, and the same of a plain f32 loop in brackets,
 * for forward, input gradient, weight gradient, at batch 128 and 32x32 for 16 and 64 channels, half
 * the size at twice the channels (normal data; tests/bench/kernels.c errors repeats them). */
static const struct wino_pays table[] = {
    { 16, 4 },   /* 7.2e-7 (3.4e-7)  6.2e-7 (6.3e-7)  1.2e-6 (1.0e-5) */
    { 32, 4 },   /* 1.1e-6 (8.8e-7)  8.5e-7 (5.5e-7)  1.2e-6 (4.3e-6) */
    { 64, 4 },   /* 1.2e-6 (7.8e-7)  1.5e-6 (1.1e-6)  1.3e-6 (9.4e-6) */
    { 128, 4 },  /* 1.8e-6 (1.2e-6)  1.6e-6 (1.0e-6)  1.2e-6 (4.9e-6) */
    { 256, 6 },  /* 2.0e-6 (1.5e-6)  1.5e-6 (1.4e-6)  1.7e-6 (2.0e-6) */
    { 512, 12 }, /* 1.2e-6 (1.5e-6)  1.8e-6 (1.9e-6)  1.7e-6 (1.1e-6) */
};

static bool shape_pays(const struct cpu_conv *g, int64_t h, int64_t w) {
    return wino_pays(g, h, w, STEP, table, sizeof table / sizeof *table);
}

bool K(cpu_winograd_takes)(const struct cpu_conv *g, bool back) {
    return back ? shape_pays(g, g->h, g->w) : shape_pays(g, g->oh, g->ow);
}

/* The sums run over tiles: few of them round as a transform does. */
bool K(cpu_winograd_weights_takes)(const struct cpu_conv *g) {
    return g->n * ceil_div(g->oh, STEP) * ceil_div(g->ow, STEP) >= 8 && shape_pays(g, g->oh, g->ow);
}

int64_t K(cpu_winograd_form)(const struct cpu_conv *g, bool back) {
    struct wino p;
    if (!K(cpu_winograd_takes)(g, back))
        return 0;
    layout(&p, g, back, NULL);
    return PRODUCTS * p.u_step * 4;
}

int64_t K(cpu_winograd_scratch)(const struct cpu_conv *g, bool back) {
    struct wino p;
    return layout(&p, g, back, NULL);
}

/* Panel q of the weights: u[point] (ci, NR). */
static void transform_weights(const struct wino *p, const float *w, int worker, int64_t q) {
    int64_t ci = p->e.ci, first = q * NR, n = imin(NR, p->e.co - first);
    float *taps = p->taps + worker * 9 * ci * NR;
    if (p->back)
        for (int64_t t = 0; t < 9; t++)
            pack_rows(taps + (8 - t) * ci * NR, w + t * p->e.co + first, 9 * p->e.co, ci, n);
    else
        pack_columns(taps, w + first * 9 * ci, 9 * ci, 9 * ci, n);
    for (int64_t c = 0; c < ci * NR; c += LANES) {
        vf half[3][POINTS];
#pragma GCC unroll 3
        for (int i = 0; i < 3; i++) {
            vf g[3];
#pragma GCC unroll 3
            for (int j = 0; j < 3; j++)
                g[j] = vload(taps + (i * 3 + j) * ci * NR + c);
            wino_weights3(half[i], g);
        }
        float *u = p->u + q * ci * NR + c;
#pragma GCC unroll 6
        for (int j = 0; j < POINTS; j++) {
            vf g[3], t[POINTS];
#pragma GCC unroll 3
            for (int i = 0; i < 3; i++)
                g[i] = half[i][j];
            wino_weights3(t, g);
#pragma GCC unroll 6
            for (int i = 0; i < POINTS; i++)
                vstore(u + (i * POINTS + j) * p->u_step, t[i]);
        }
    }
}

/* The outputs of one tile from m[point * step + o]; those outside the image are left out. */
ALWAYS_INLINE void output_tile(const struct wino *p, float *y, const float *m, int64_t y0,
                               int64_t x0, const float *bias, const enum end end) {
    for (int64_t o = 0; o < p->e.co; o += LANES) {
        vf half[STEP][POINTS];
        vf b = bias ? vload(bias + o) : vset(0);
#pragma GCC unroll 6
        for (int j = 0; j < POINTS; j++) {
            vf d[POINTS], t[STEP];
#pragma GCC unroll 6
            for (int i = 0; i < POINTS; i++)
                d[i] = vload(m + (i * POINTS + j) * p->m_step + o);
            wino_output4(t, d);
#pragma GCC unroll 4
            for (int i = 0; i < STEP; i++)
                half[i][j] = t[i];
        }
#pragma GCC unroll 4
        for (int i = 0; i < STEP; i++) {
            if (y0 + i >= p->e.h)
                break;
            vf t[STEP];
            wino_output4(t, half[i]);
            float *out = y + ((y0 + i) * p->e.w + x0) * p->e.co + o;
#pragma GCC unroll 4
            for (int j = 0; j < STEP; j++, out += p->e.co) {
                if (x0 + j >= p->e.w)
                    break;
                if (end == ADD)
                    vstore(out, vload(out) + t[j]);
                else if (end == STREAM)
                    STREAM_STORE(out, t[j] + b);
                else
                    vstore(out, t[j] + b);
            }
        }
    }
}

static void tile_rows(const struct wino *p, const float **rows, const float *x, int64_t tile) {
    int64_t area = p->across * p->down, n = tile / area, at = tile % area;
    wino_rows(rows, POINTS, x + n * p->e.in_h * p->e.in_w * p->e.ci, p->zero,
              at / p->across * STEP - p->e.pad_y, at % p->across * STEP - p->e.pad_x, p->e.in_h,
              p->e.in_w, p->e.ci);
}

static void run_block(const struct wino *p, float *y, const float *x, bool biased, int worker,
                      int64_t first, int64_t count) {
    int64_t area = p->across * p->down;
    float *v = p->v + worker * PRODUCTS * p->v_step, *m = p->m + worker * PRODUCTS * p->m_step;
    const float *tile[2][PRODUCTS]; /* this one's and the next one's rows */
    tile_rows(p, tile[0], x, first);
    for (int64_t i = 0; i < count; i++) {
        tile_rows(p, tile[(i + 1) % 2], x, imin(first + i + 1, p->tiles - 1));
        wino_input_tile(v + i * p->v_row, p->v_step, tile[i % 2], tile[(i + 1) % 2], p->e.ci);
    }
    for (int64_t k = 0; k < PRODUCTS; k++) {
        const float *rows[TILES + MR];
        float *out[TILES + MR];
        for (int64_t i = 0; i < p->cut.block; i++) {
            rows[i] = v + k * p->v_step + i * p->v_row;
            out[i] = m + k * p->m_step + i * p->m_row;
        }
        for (int64_t q = 0; q < p->panels; q++) {
            int64_t n = imin(NR, p->e.co - q * NR);
            if (thin_pays(p->e.ci, n, false)) {
                thin_sums(v + k * p->v_step, p->v_row, m + k * p->m_step + q * NR, p->m_row, count,
                          p->u + k * p->u_step + q * p->e.ci * NR, p->e.ci, n, false);
                continue;
            }
            for (int64_t c = 0; c < p->e.ci; c += KC) {
                struct tile_sum s = { .b = p->u + k * p->u_step + (q * p->e.ci + c) * NR,
                                      .len = imin(KC, p->e.ci - c),
                                      .k0 = c,
                                      .count = 1 };
                for (int64_t i = 0; i < count; i += MR) {
                    s.rows = rows + i;
                    s.ahead = p->far ? tile_ahead(s.len * NR, count - i) : 0;
                    tile_run(&s, out + i, q * NR, n, c > 0, NULL);
                }
            }
        }
    }
    for (int64_t i = 0; i < count; i++) {
        int64_t n = (first + i) / area, at = (first + i) % area;
        float *image = y + n * p->e.h * p->e.w * p->e.co, *products = m + i * p->m_row;
        int64_t y0 = at / p->across * STEP, x0 = at % p->across * STEP;
        const float *bias = biased ? p->bias : NULL;
        if (p->end == STREAM)
            output_tile(p, image, products, y0, x0, bias, STREAM);
        else if (p->end == ADD)
            output_tile(p, image, products, y0, x0, NULL, ADD);
        else
            output_tile(p, image, products, y0, x0, bias, STORE);
    }
    if (p->end == STREAM)
        stream_end();
}

/* A vector must be a line: halves of one come too far apart. */
static bool streams(const struct wino *p, const float *y) {
    return LANES == LINE && (uintptr_t)y % 64 == 0 &&
           p->g->n * p->e.h * p->e.w * p->e.co * 4 >= STREAMED;
}

int K(cpu_winograd)(float *y, const float *x, const float *w, const float *bias,
                    const struct cpu_conv *g, bool back, void *scratch) {
    struct wino p;
    layout(&p, g, back, scratch);
    p.end = g->add ? ADD : streams(&p, y) ? STREAM : STORE;
    bool ready = g->u && g->u->made;
    memset(p.zero, 0, (size_t)p.e.ci * 4);
    if (bias)
        memcpy(p.bias, bias, (size_t)p.e.co * 4);
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
                run_block(&p, y, x, bias != NULL, worker, at, count);
        }
    }
    if (g->u)
        g->u->made = true;
    return interrupted() ? CPU_INTERRUPTED : CPU_OK;
}
