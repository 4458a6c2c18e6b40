/* Convolution of images of few channels (the first layer of a network), and of stride 1 the input
 * gradient of few outputs, which is the forward with the weights flipped and turned round. Gathered
 * as in conv.c, a tap would be a run of a few floats. Here a task copies the rows it needs of one
 * image with zeros around them; a row of a pixel's window then lies in one piece, taps side by
 * side, and tiles read it where it is.
 *
 * 3x3 windows of 3 channels at stride 1, with 16 lanes, are read by rows: a tile of SIDE pixels of
 * a row and one vector of outputs needs one pointer. In bf16 a pixel of the copy has a fourth
 * channel of zeros, so that a row of a window is whole pairs.
 */
#include "cpu/f32.h"
#include "cpu/few.h"
#include "cpu/pairs.h"
#include "cpu/scratch.h"
#include "cpu/stream.h"
#include "cpu/tile.h"
#include "core/interrupt.h"
#include "core/threads.h"
#include <omp.h>

#define FEWER_THAN 8
#define PIXELS 384 /* of a task, if a row has no more */
#define SIDE 16    /* vectors of a tile by rows */
#define RUNS 3     /* of a window read by rows, RUN floats each */
#define RUN 9
#define PAIRS_RUN 6

struct few {
    const struct cpu_conv *g;
    bool back, pairs; /* the input gradient; of bf16 */
    bool by_rows;     /* see above */
    bool streams;     /* y goes past the caches */
    struct conv_ends e;
    int64_t sh, sw;    /* 1 going back */
    int64_t pixel;     /* floats of a pixel of the copy */
    int64_t runs, run; /* pieces of a window, floats of each: a row, or a tap if dilated */
    int64_t strip, in_rows, in_cols; /* output rows of a task, input it copies */
    int64_t pixels, panels;          /* strip * w in whole tiles; of NR outputs */
    int workers;
    float *weights;    /* (panels, runs * run, NR) */
    float *bias;       /* (panels * NR) */
    int64_t copy_size; /* floats of a worker's */
    float *copy;       /* workers x (in_rows, in_cols, pixel) */
    float **rows;      /* workers x (runs, pixels), into the copy */
    float *spare;      /* workers x (panels * NR) */
};

static bool reads_rows(const struct cpu_conv *g, int64_t sh, int64_t sw, int64_t channels) {
    return LANES == 16 && channels == 3 && g->kh == RUNS && g->kw == 3 && g->dw == 1 && sh == 1 &&
           sw == 1;
}

static int64_t layout(struct few *p, const struct cpu_conv *g, bool back, bool pairs, void *base) {
    *p = (struct few){ .g = g, .back = back, .pairs = pairs };
    p->e = conv_ends_of(g, back);
    p->sh = back ? 1 : g->sh;
    p->sw = back ? 1 : g->sw;
    p->by_rows = reads_rows(g, p->sh, p->sw, p->e.ci);
    p->pixel = pairs ? 2 : p->e.ci;
    p->runs = g->dw == 1 ? g->kh : g->kh * g->kw;
    p->run = pairs ? PAIRS_RUN : g->kh * g->kw * p->e.ci / p->runs;
    p->strip = imin(p->e.h, imax(1, PIXELS / p->e.w));
    p->in_rows = (p->strip - 1) * p->sh + (g->kh - 1) * g->dh + 1;
    p->in_cols = (p->e.w - 1) * p->sw + (g->kw - 1) * g->dw + 1;
    p->pixels = ceil_div(p->strip * p->e.w, MR) * MR;
    p->panels = ceil_div(p->e.co, NR);
    int64_t whole = p->runs * p->run;
    p->workers = g->n * p->e.h * p->e.w * p->e.co * whole < 500000 ? 1 : threads();
    struct scratch s = scratch_open(base);
    p->weights = scratch_take(&s, p->panels * whole * NR * 4);
    p->bias = scratch_take(&s, p->panels * NR * 4);
    /* The last tile of the last row reads over its end. */
    p->copy_size = (p->in_rows * p->in_cols + (p->by_rows ? SIDE : 0)) * p->pixel;
    p->copy = scratch_take(&s, p->workers * p->copy_size * 4);
    int64_t rows = p->by_rows ? 0 : p->runs * p->pixels;
    p->rows = scratch_take(&s, p->workers * rows * (int64_t)sizeof(float *));
    p->spare = scratch_take(&s, p->workers * p->panels * NR * 4);
    return scratch_bytes(&s);
}

bool K(cpu_few_takes)(const struct cpu_conv *g, bool back) {
    struct conv_ends e = conv_ends_of(g, back);
    return g->groups == 1 && e.ci > 0 && e.ci < FEWER_THAN && e.co > 0 && g->kh * g->kw > 1 &&
           g->n * g->oh * g->ow * g->h * g->w > 0 && !(back && g->sh * g->sw > 1);
}

int64_t K(cpu_few_scratch)(const struct cpu_conv *g, bool back) {
    struct few p;
    return layout(&p, g, back, false, NULL);
}

static void pack_panel(const struct few *p, const float *w, int64_t q) {
    int64_t taps = p->g->kh * p->g->kw, whole = taps * p->e.ci, first = q * NR;
    int64_t n = imin(NR, p->e.co - first);
    float *b = p->weights + q * whole * NR;
    if (!p->back)
        pack_columns(b, w + first * whole, whole, whole, n);
    for (int64_t t = 0; t < taps && p->back; t++) /* weights are (ci, taps, co) here */
        pack_rows(b + t * p->e.ci * NR, w + (taps - 1 - t) * p->e.co + first, taps * p->e.co,
                  p->e.ci, n);
}

/* The same in every strip; where there are fewer pixels the first ones count. */
static void find_rows(const struct few *p, const float **rows, const float *copy) {
    const struct cpu_conv *g = p->g;
    for (int64_t r = 0; r < p->runs; r++) {
        int64_t ty = g->dw == 1 ? r : r / g->kw, tx = g->dw == 1 ? 0 : r % g->kw;
        for (int64_t i = 0; i < p->pixels; i++) {
            int64_t pixel = imin(i, p->strip * p->e.w - 1);
            int64_t y = pixel / p->e.w * p->sh + ty * g->dh,
                    x = pixel % p->e.w * p->sw + tx * g->dw;
            rows[r * p->pixels + i] = copy + (y * p->in_cols + x) * p->e.ci;
        }
    }
}

/* Input rows first .. of one image, `rows` of them. */
static void copy_rows(const struct few *p, float *to, const float *image, int64_t first,
                      int64_t rows) {
    int64_t left = imin(p->in_cols, imax(0, p->e.pad_x)), from = imax(0, -p->e.pad_x);
    int64_t end = imax(left, imin(p->in_cols, p->e.in_w + p->e.pad_x));
    for (int64_t r = 0; r < rows; r++, to += p->in_cols * p->e.ci) {
        int64_t y = first + r;
        if (y < 0 || y >= p->e.in_h) {
            memset(to, 0, (size_t)(p->in_cols * p->e.ci) * 4);
            continue;
        }
        memset(to, 0, (size_t)(left * p->e.ci) * 4);
        memcpy(to + left * p->e.ci, image + (y * p->e.in_w + from) * p->e.ci,
               (size_t)((end - left) * p->e.ci) * 4);
        memset(to + end * p->e.ci, 0, (size_t)((p->in_cols - end) * p->e.ci) * 4);
    }
}

#if PAIRS
/* The same in bf16, 4 channels a pixel. */
static void copy_rows_pairs(const struct few *p, float *copy, const uint16_t *image, int64_t first,
                            int64_t rows) {
    int64_t left = imin(p->in_cols, imax(0, p->e.pad_x)), from = imax(0, -p->e.pad_x);
    int64_t end = imax(left, imin(p->in_cols, p->e.in_w + p->e.pad_x));
    uint64_t *to = (uint64_t *)copy;
    for (int64_t r = 0; r < rows; r++, to += p->in_cols) {
        int64_t y = first + r;
        bool inside = y >= 0 && y < p->e.in_h;
        const uint16_t *x = image + (y * p->e.in_w + from) * 3;
        for (int64_t i = 0; i < p->in_cols; i++) {
            bool there = inside && i >= left && i < end;
            to[i] = there ? x[0] | (uint64_t)x[1] << 16 | (uint64_t)x[2] << 32 : 0;
            x += there ? 3 : 0;
        }
    }
}

static void pack_panel_pairs(const struct few *p, const uint16_t *w, int64_t q) {
    float *b = p->weights + q * RUNS * PAIRS_RUN * NR;
    for (int64_t k = 0; k < RUNS * PAIRS_RUN; k++)
        for (int64_t j = 0; j < NR; j++) {
            const uint16_t *tap = w + (q * NR + j) * RUNS * RUN + k / 2 * 3;
            bool there = q * NR + j < p->e.co;
            uint16_t pair[2] = { there ? tap[k % 2 * 2] : 0, there && k % 2 == 0 ? tap[1] : 0 };
            memcpy(b + k * NR + j, pair, 4);
        }
}
#endif

/* A tile read by rows: n pixels from x on, nv vectors of outputs from o on. */
ALWAYS_INLINE void sum_side(const struct few *p, void *y, const float *x, int64_t o, int64_t n,
                            bool biased, const bool pairs, const int nv) {
    const float *b = p->weights + o / NR * RUNS * p->run * NR + o % NR;
    const int run = pairs ? PAIRS_RUN : RUN, pixel = pairs ? 2 : 3, side = SIDE / nv;
    int64_t row = p->in_cols * p->g->dh * pixel, co = p->e.co, outputs = imin(nv * LANES, co - o);
    vf t[SIDE][NV];
#pragma GCC unroll 32
    for (int m = 0; m < side; m++)
#pragma GCC unroll 2
        for (int v = 0; v < nv; v++)
            t[m][v] = biased ? vload(p->bias + o + v * LANES) : vset(0);
    for (int r = 0; r < RUNS; r++, x += row)
#pragma GCC unroll 32
        for (int k = 0; k < run; k++, b += NR) {
            vf w[NV];
#pragma GCC unroll 2
            for (int v = 0; v < nv; v++)
                w[v] = vload(b + v * LANES);
#pragma GCC unroll 32
            for (int m = 0; m < side; m++) {
                vf a = TILE_SET(pairs, x[m * pixel + k]);
#pragma GCC unroll 2
                for (int v = 0; v < nv; v++)
                    t[m][v] = TILE_ADD(pairs, a, w[v], t[m][v]);
            }
        }
    float *floats = (float *)y + o;
    if (n == side && outputs == nv * LANES && !p->g->add) {
#pragma GCC unroll 32
        for (int m = 0; m < side; m++)
#pragma GCC unroll 2
            for (int v = 0; v < nv; v++) {
#if PAIRS
                if (pairs) {
                    vnarrow((uint16_t *)y + m * co + o + v * LANES, t[m][v]);
                    continue;
                }
#endif
                if (p->streams)
                    STREAM_STORE(floats + m * co + v * LANES, t[m][v]);
                else
                    vstore(floats + m * co + v * LANES, t[m][v]);
            }
        return;
    }
    float edge[SIDE][NR];
#pragma GCC unroll 32
    for (int m = 0; m < side; m++)
#pragma GCC unroll 2
        for (int v = 0; v < nv; v++)
            vstore(edge[m] + v * LANES, t[m][v]);
    for (int64_t m = 0; m < n; m++)
        for (int64_t j = 0; j < outputs; j++) {
            float sum = edge[m][j] + (p->g->add ? element(y, m * co + o + j, pairs) : 0);
            set_element(y, m * co + o + j, sum, pairs);
        }
}

/* The tiles of `count` output rows from y on. */
ALWAYS_INLINE void sum_rows_of(const struct few *p, void *y, const float *copy, int64_t count,
                               bool biased, const bool pairs, const int nv) {
    int64_t side = SIDE / nv, size = pairs ? 2 : 4;
    for (int64_t r = 0; r < count; r++)
        for (int64_t i = 0; i < p->e.w; i += side)
            for (int64_t o = 0; o < p->e.co; o += nv * LANES)
                sum_side(p, (char *)y + (r * p->e.w + i) * p->e.co * size,
                         copy + (r * p->in_cols + i) * p->pixel, o, imin(side, p->e.w - i), biased,
                         pairs, nv);
}

static __attribute__((noinline)) void sum_rows(const struct few *p, void *y, const float *copy,
                                               int64_t count, bool biased) {
    bool one = p->e.co <= LANES;
#if PAIRS
    if (p->pairs && one)
        sum_rows_of(p, y, copy, count, biased, true, 1);
    else if (p->pairs)
        sum_rows_of(p, y, copy, count, biased, true, NV);
    else
#endif
        if (one)
        sum_rows_of(p, y, copy, count, biased, false, 1);
    else
        sum_rows_of(p, y, copy, count, biased, false, NV);
}

/* One task: the output rows from y0 of image n. */
static void run_strip(const struct few *p, void *to, const void *from, bool biased, int worker,
                      int64_t n, int64_t y0) {
    float *copy = p->copy + worker * p->copy_size;
    int64_t strip = imin(p->strip, p->e.h - y0), count = strip * p->e.w;
    int64_t first = y0 * p->sh - p->e.pad_y;
    int64_t in_rows = (strip - 1) * p->sh + (p->g->kh - 1) * p->g->dh + 1;
    int64_t x_at = n * p->e.in_h * p->e.in_w * p->e.ci, y_at = (n * p->e.h + y0) * p->e.w * p->e.co;
#if PAIRS
    if (p->pairs) {
        copy_rows_pairs(p, copy, (const uint16_t *)from + x_at, first, in_rows);
        sum_rows(p, (uint16_t *)to + y_at, copy, strip, biased);
        return;
    }
#endif
    copy_rows(p, copy, (const float *)from + x_at, first, in_rows);
    float *y = (float *)to + y_at;
    if (p->by_rows) {
        sum_rows(p, y, copy, strip, biased);
        return;
    }
    const float *const *rows = (const float *const *)p->rows + worker * p->runs * p->pixels;
    float *spare = p->spare + worker * p->panels * NR;
    for (int64_t i = 0; i < count; i += MR) {
        float *out[MR];
        for (int64_t m = 0; m < MR; m++)
            out[m] = i + m < count ? y + (i + m) * p->e.co : spare;
        for (int64_t q = 0; q < p->panels; q++) {
            struct tile_sum s = { .rows = rows + i,
                                  .row_step = p->pixels,
                                  .b = p->weights + q * p->runs * p->run * NR,
                                  .b_step = p->run * NR,
                                  .len = p->run,
                                  .count = (int)p->runs };
            tile_run(&s, out, q * NR, imin(NR, p->e.co - q * NR), p->g->add,
                     biased ? p->bias + q * NR : NULL);
        }
    }
}

static int run(const struct few *p, void *y, const void *x, bool biased) {
#pragma omp parallel num_threads(p->workers)
    {
        int worker = omp_get_thread_num();
        if (!p->by_rows)
            find_rows(p, (const float **)p->rows + worker * p->runs * p->pixels,
                      p->copy + worker * p->copy_size);
#pragma omp for schedule(dynamic) collapse(2)
        for (int64_t n = 0; n < p->g->n; n++)
            for (int64_t y0 = 0; y0 < p->e.h; y0 += p->strip)
                if (!interrupted())
                    run_strip(p, y, x, biased, worker, n, y0);
        stream_end();
    }
    return interrupted() ? CPU_INTERRUPTED : CPU_OK;
}

int K(cpu_few)(float *y, const float *x, const float *w, const float *bias,
               const struct cpu_conv *g, bool back, void *scratch) {
    struct few p;
    layout(&p, g, back, false, scratch);
    for (int64_t i = 0; bias && i < p.panels * NR; i++)
        p.bias[i] = i < p.e.co ? bias[i] : 0;
    for (int64_t q = 0; q < p.panels; q++)
        pack_panel(&p, w, q);
    p.streams = g->n * p.e.h * p.e.w * p.e.co * 4 >= STREAMED && (uintptr_t)y % 64 == 0 &&
                p.e.co % LANES == 0;
    return run(&p, y, x, bias != NULL);
}

#if PAIRS
bool K(cpu_few_pairs_takes)(const struct cpu_conv *g, bool back) {
    return !back && K(cpu_few_takes)(g, false) && reads_rows(g, g->sh, g->sw, g->c);
}

int64_t K(cpu_few_pairs_scratch)(const struct cpu_conv *g) {
    struct few p;
    return layout(&p, g, false, true, NULL);
}

int K(cpu_few_pairs)(uint16_t *y, const uint16_t *x, const uint16_t *w, const uint16_t *bias,
                     const struct cpu_conv *g, void *scratch) {
    struct few p;
    layout(&p, g, false, true, scratch);
    for (int64_t i = 0; bias && i < p.panels * NR; i++)
        p.bias[i] = i < p.e.co ? from_bf16(bias[i]) : 0;
    for (int64_t q = 0; q < p.panels; q++)
        pack_panel_pairs(&p, w, q);
    return run(&p, y, x, bias != NULL);
}
#endif
