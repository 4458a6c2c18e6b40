/* 3x3 convolutions of stride 1 by F(2x2,3x3) in bf16: forward and input gradient (which is the
 * forward with the weights flipped and turned round). See winograd_pairs.h for the transforms.
 *
 * The weights become U (16, panels of co, ci / 2, NR) pairs along ci. A task takes a block of tiles
 * of 2x2 outputs: V (16, tiles, ci) from the image in bf16, whose channels are pairs as they lie;
 * then, a panel of outputs at a time, the 16 products M (16, tiles, NR) = V U in f32 and the
 * outputs from M, rounded. M stays in the second cache however many channels there are.
 */
#include "cpu/cut.h"
#include "cpu/f32.h"
#include "cpu/scratch.h"
#include "cpu/winograd_pairs.h"
#include "core/interrupt.h"
#include "core/threads.h"
#include <omp.h>

#define TILES 48

#if PAIRS
struct wino {
    const struct cpu_conv *g;
    bool back;
    bool far; /* the weights do not stay in the second cache */
    struct conv_ends e;
    int64_t across, down, tiles; /* tiles a row, a column, in all */
    struct cut cut;              /* of the tiles, in blocks of at most TILES */
    int64_t panels, u_step, v_row, v_step, m_step;
    int workers;
    float *u;       /* (16, u_step): panels (ci / 2, NR) of pairs */
    float *v;       /* workers x (16, v_step): rows of v_row pairs */
    float *m;       /* workers x (16, m_step): rows of NR */
    float *taps;    /* workers x (9, ci, NR): one panel of the weights as they are */
    float *bias;    /* (panels * NR) */
    uint16_t *zero; /* ci zeros */
};

static int64_t layout(struct wino *p, const struct cpu_conv *g, bool back, void *base) {
    *p = (struct wino){ .g = g, .back = back };
    p->e = conv_ends_of(g, back);
    p->across = ceil_div(p->e.w, STEP);
    p->down = ceil_div(p->e.h, STEP);
    p->tiles = g->n * p->across * p->down;
    p->workers = p->tiles * p->e.ci * p->e.co < 100000 ? 1 : threads();
    p->cut = cut_rows(p->tiles, p->workers, TILES, MR);
    p->panels = ceil_div(p->e.co, NR);
    p->u_step = p->panels * p->e.ci / 2 * NR + LINE;
    p->far = PRODUCTS * p->u_step * 4 > NEAR;
    p->v_row = wino_row(p->e.ci / 2);
    p->v_step = p->cut.block * p->v_row + LINE;
    p->m_step = p->cut.block * NR + LINE;
    struct scratch s = scratch_open(base);
    p->u = g->u ? kept_data(g->u) : scratch_take(&s, PRODUCTS * p->u_step * 4);
    p->v = scratch_take(&s, p->workers * PRODUCTS * p->v_step * 4);
    p->m = scratch_take(&s, p->workers * PRODUCTS * p->m_step * 4);
    p->taps = scratch_take(&s, p->workers * 9 * p->e.ci * NR * 4);
    p->bias = scratch_take(&s, p->panels * NR * 4);
    p->zero = scratch_take(&s, p->e.ci * 2);
    return scratch_bytes(&s);
}

/* Where it pays; the row of a convolution is the first whose channels hold max(c, o). Prototypes
 * took 0.63 (64 channels of 32x32) to 0.45 (512 of 4x4) of the direct kernel's time on one thread
 * of a Zen 5, 0.68 to 0.54 at a quarter of the channels, and weight gradients 0.54 to 0.64. The
 * least tiles are as many pixels as in winograd.c.
 * Beside it the worst error over the largest output, and in brackets that of rounding inputs and
 * output alone, for forward, input gradient, weight gradient, of the layers of winograd.c's table.
 */
static const struct wino_pays table[] = {
    { 16, 16 },  /* 7.0e-3 (3.1e-3)  5.4e-3 (4.4e-3)  5.0e-3 (3.5e-3) */
    { 32, 16 },  /* 5.1e-3 (3.1e-3)  4.0e-3 (2.7e-3)  4.8e-3 (2.8e-3) */
    { 64, 16 },  /* 5.3e-3 (3.4e-3)  7.1e-3 (3.5e-3)  5.2e-3 (3.2e-3) */
    { 128, 16 }, /* 5.7e-3 (3.7e-3)  4.4e-3 (3.1e-3)  5.3e-3 (3.0e-3) */
    { 256, 24 }, /* 5.4e-3 (4.6e-3)  5.0e-3 (3.2e-3)  4.6e-3 (3.1e-3) */
    { 512, 48 }, /* 4.1e-3 (3.3e-3)  5.6e-3 (4.2e-3)  4.4e-3 (3.2e-3) */
};

static bool shape_pays(const struct cpu_conv *g, int64_t h, int64_t w) {
    return wino_pays(g, h, w, STEP, table, sizeof table / sizeof *table);
}

bool K(cpu_winograd_pairs_takes)(const struct cpu_conv *g, bool back) {
    return back ? shape_pays(g, g->h, g->w) : shape_pays(g, g->oh, g->ow);
}

bool K(cpu_winograd_pairs_weights_takes)(const struct cpu_conv *g) {
    return shape_pays(g, g->oh, g->ow);
}

int64_t K(cpu_pairs_form)(const struct cpu_conv *g, bool back) {
    struct wino p;
    if (!K(cpu_winograd_pairs_takes)(g, back))
        return 0;
    layout(&p, g, back, NULL);
    return PRODUCTS * p.u_step * 4;
}

int64_t K(cpu_winograd_pairs_scratch)(const struct cpu_conv *g, bool back) {
    struct wino p;
    return layout(&p, g, back, NULL);
}

/* u[point] = G g G' of the weights at taps[tap * step]. */
ALWAYS_INLINE void weights_tile(vf *u, const float *taps, int64_t step) {
    vf half[3][POINTS];
#pragma GCC unroll 3
    for (int i = 0; i < 3; i++) {
        vf g[3];
#pragma GCC unroll 3
        for (int j = 0; j < 3; j++)
            g[j] = vload(taps + (i * 3 + j) * step);
        wino_weights3(half[i], g);
    }
#pragma GCC unroll 4
    for (int j = 0; j < POINTS; j++) {
        vf g[3], t[POINTS];
#pragma GCC unroll 3
        for (int i = 0; i < 3; i++)
            g[i] = half[i][j];
        wino_weights3(t, g);
#pragma GCC unroll 4
        for (int i = 0; i < POINTS; i++)
            u[i * POINTS + j] = t[i];
    }
}

/* Panel q of the weights: u[point] (ci / 2, NR). */
static void transform_weights(const struct wino *p, const uint16_t *w, int worker, int64_t q) {
    int64_t ci = p->e.ci, first = q * NR, n = imin(NR, p->e.co - first);
    float *taps = p->taps + worker * 9 * ci * NR;
    if (p->back)
        for (int64_t t = 0; t < 9; t++)
            pack_rows_of(taps + (8 - t) * ci * NR, w + t * p->e.co + first, 9 * p->e.co, ci, n,
                         true);
    else
        pack_columns_of(taps, w + first * 9 * ci, 9 * ci, 9 * ci, n, true);
    float *u = p->u + q * ci / 2 * NR;
    for (int64_t c = 0; c < ci; c += 2, u += NR)
        for (int64_t x = 0; x < NR; x += LANES) {
            vf even[PRODUCTS], odd[PRODUCTS];
            weights_tile(even, taps + c * NR + x, ci * NR);
            weights_tile(odd, taps + (c + 1) * NR + x, ci * NR);
#pragma GCC unroll 16
            for (int k = 0; k < PRODUCTS; k++)
                vstore(u + k * p->u_step + x, vzip(vround(even[k]), vround(odd[k])));
        }
}

static void tile_rows(const struct wino *p, const uint16_t **rows, const uint16_t *x,
                      int64_t tile) {
    int64_t area = p->across * p->down, n = tile / area, at = tile % area;
    wino_rows(rows, POINTS, x + n * p->e.in_h * p->e.in_w * p->e.ci, p->zero,
              at / p->across * STEP - p->e.pad_y, at % p->across * STEP - p->e.pad_x, p->e.in_h,
              p->e.in_w, p->e.ci);
}

/* Tile i of a block of V. Meanwhile the columns of the next tile that this one has not read are
 * fetched: its 16 short runs are more than the processor follows by itself. */
static void transform_tile(const struct wino *p, float *v, const uint16_t *const *rows,
                           const uint16_t *const *next) {
    for (int64_t c = 0; c < p->e.ci; c += LANES) {
        vf t[PRODUCTS];
        for (int i = 0; i < PRODUCTS && c % (2 * LINE) == 0; i += POINTS)
#pragma GCC unroll 2
            for (int j = POINTS - STEP; j < POINTS; j++)
                __builtin_prefetch(next[i + j] + c);
        wino_input_tile(t, rows, c);
#pragma GCC unroll 16
        for (int k = 0; k < PRODUCTS; k++)
            vnarrow((uint16_t *)(v + k * p->v_step) + c, t[k]);
    }
}

/* The outputs o .. o+n of one tile from m[point * step]; those outside the image are left out. */
static void output_tile(const struct wino *p, uint16_t *y, const float *m, int64_t y0, int64_t x0,
                        int64_t o, int64_t n, bool biased) {
    for (int64_t c = 0; c < n; c += LANES) {
        vf half[STEP][POINTS];
        vf b = biased ? vload(p->bias + o + c) : vset(0);
#pragma GCC unroll 4
        for (int j = 0; j < POINTS; j++) {
            vf d[POINTS], t[STEP];
#pragma GCC unroll 4
            for (int i = 0; i < POINTS; i++)
                d[i] = vload(m + (i * POINTS + j) * p->m_step + c);
            wino_output2(t, d);
#pragma GCC unroll 2
            for (int i = 0; i < STEP; i++)
                half[i][j] = t[i];
        }
#pragma GCC unroll 2
        for (int i = 0; i < STEP; i++) {
            if (y0 + i >= p->e.h)
                break;
            vf t[STEP];
            wino_output2(t, half[i]);
            uint16_t *out = y + ((y0 + i) * p->e.w + x0) * p->e.co + o + c;
#pragma GCC unroll 2
            for (int j = 0; j < STEP; j++, out += p->e.co)
                if (x0 + j < p->e.w)
                    vnarrow(out, t[j] + (p->g->add ? vwiden(out) : b));
        }
    }
}

static void run_block(const struct wino *p, uint16_t *y, const uint16_t *x, bool biased, int worker,
                      int64_t first, int64_t count) {
    int64_t area = p->across * p->down;
    float *v = p->v + worker * PRODUCTS * p->v_step, *m = p->m + worker * PRODUCTS * p->m_step;
    const uint16_t *tile[2][PRODUCTS]; /* this one's and the next one's rows */
    tile_rows(p, tile[0], x, first);
    for (int64_t i = 0; i < count; i++) {
        tile_rows(p, tile[(i + 1) % 2], x, imin(first + i + 1, p->tiles - 1));
        transform_tile(p, v + i * p->v_row, tile[i % 2], tile[(i + 1) % 2]);
    }
    for (int64_t q = 0; q < p->panels; q++) {
        int64_t n = imin(NR, p->e.co - q * NR);
        for (int64_t k = 0; k < PRODUCTS; k++) {
            if (thin_pays(p->e.ci / 2, n, true)) {
                thin_sums(v + k * p->v_step, p->v_row, m + k * p->m_step, NR, count,
                          p->u + k * p->u_step + q * p->e.ci / 2 * NR, p->e.ci / 2, n, true);
                continue;
            }
            const float *rows[TILES + MR];
            float *out[TILES + MR];
            for (int64_t i = 0; i < p->cut.block; i++) {
                rows[i] = v + k * p->v_step + i * p->v_row;
                out[i] = m + k * p->m_step + i * NR;
            }
            struct tile_sum s = { .b = p->u + k * p->u_step + q * p->e.ci / 2 * NR,
                                  .len = p->e.ci / 2,
                                  .count = 1 };
            bool more = p->far && k + 1 < PRODUCTS;
            for (int64_t i = 0; i < count; i += MR) {
                s.rows = rows + i;
                s.ahead = more ? tile_ahead(p->u_step, count - i) : 0;
                tile_run_pairs(&s, out + i, 0, n, false, NULL);
            }
        }
        for (int64_t i = 0; i < count; i++) {
            int64_t image = (first + i) / area, at = (first + i) % area;
            output_tile(p, y + image * p->e.h * p->e.w * p->e.co, m + i * NR, at / p->across * STEP,
                        at % p->across * STEP, q * NR, n, biased);
        }
    }
}

int K(cpu_winograd_pairs)(uint16_t *y, const uint16_t *x, const uint16_t *w, const uint16_t *bias,
                          const struct cpu_conv *g, bool back, void *scratch) {
    struct wino p;
    layout(&p, g, back, scratch);
    bool ready = g->u && g->u->made;
    memset(p.zero, 0, (size_t)p.e.ci * 2);
    if (bias)
        widen(p.bias, bias, p.e.co);
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
#endif
