/* Convolution in f32, forward and input gradient, as a product whose rows are gathered.
 *
 * Both are sums over taps t of rows of one image times a (ci,co) slice of the weights:
 *   forward         y[p] = sum_t x[p * stride - padding + t * dilation] w[t]      ci = c, co = o
 *   input gradient dx[p] = sum_t dy[(p + padding - t * dilation) / stride] w[t]'  ci = o, co = c
 * so a tile needs one row pointer an output pixel and tap, and nothing is copied. A tap outside the
 * image, or that the stride does not hit, points at a row of zeros; a tile whose MR pixels all do
 * skips that tap. To make that frequent, a tile holds the same position of several images, and the
 * positions of an input gradient are sorted by their remainder modulo the stride.
 *
 * Sums are cut by shapes only, threads share out blocks of MB pixels and panels of outputs.
 */
#include "cpu/conv_group.h"
#include "cpu/f32.h"
#include "cpu/few.h"
#include "cpu/narrow.h"
#include "cpu/scratch.h"
#include "cpu/tile.h"
#include "cpu/winograd.h"
#include "core/interrupt.h"
#include "core/threads.h"
#include <omp.h>

#define KC (LANES == 16 ? 384 : 256)
#define MB 192

/* Where the rows of a group of images are: entry e = position * images + image. */
struct map {
    int64_t images, entries, tiles; /* tiles = ceil(entries / MR) */
    int32_t *in;                    /* (taps, tiles * MR) floats from the group's start, or -1 */
    int32_t *out;                   /* (tiles * MR), -1 beyond the end */
    uint16_t *live;                 /* (pieces, tiles, 1 + piece_taps): count, then the taps */
};

struct gather {
    const struct cpu_conv *g;
    bool back; /* input gradient */
    int64_t n, taps, ci, co;
    int64_t h, w;         /* output image */
    int64_t in_h, in_w;   /* input image */
    int64_t seg_len;      /* floats of a row used in one piece */
    int64_t blocks_of_ci; /* pieces a tap when ci > KC */
    int64_t piece_taps;   /* taps a piece otherwise */
    int64_t pieces;
    int64_t panels;
    int workers;
    struct map full, rest; /* groups of full.images, and the last group */
    int32_t *at;           /* (h * w, 2) positions in order */
    float *weights;        /* (panels, taps * ci, NR) */
    float *bias;           /* (panels * NR) */
    float *zero;           /* ci zeros */
    float *spare;          /* workers x (panels * NR) */
    float **rows;          /* workers x (taps, MB) */
};

static void lay_map(struct map *m, const struct gather *p, int64_t images, struct scratch *s) {
    m->images = images;
    m->entries = p->h * p->w * images;
    m->tiles = ceil_div(m->entries, MR);
    m->in = scratch_take(s, p->taps * m->tiles * MR * 4);
    m->out = scratch_take(s, m->tiles * MR * 4);
    m->live = scratch_take(s, p->pieces * m->tiles * (1 + p->piece_taps) * 2);
}

/* Fills *p; gives the bytes of scratch, or -1 for what this file does not do. */
static int64_t layout(struct gather *p, const struct cpu_conv *g, bool back, void *base) {
    *p = (struct gather){ .g = g, .back = back, .n = g->n, .taps = g->kh * g->kw };
    p->ci = back ? g->o : g->c;
    p->co = back ? g->c : g->o;
    p->h = back ? g->h : g->oh;
    p->w = back ? g->w : g->ow;
    p->in_h = back ? g->oh : g->h;
    p->in_w = back ? g->ow : g->w;
    if (p->taps > UINT16_MAX)
        return -1;
    int64_t whole = p->taps * p->ci;
    p->piece_taps = 1;
    p->blocks_of_ci = imax(1, ceil_div(p->ci, KC));
    p->seg_len = ceil_div(p->ci, p->blocks_of_ci);
    p->pieces = p->blocks_of_ci * p->taps;
    if (p->blocks_of_ci == 1) {
        int64_t most = imax(1, KC / imax(1, p->ci));
        p->pieces = imax(1, ceil_div(p->taps, most));
        p->piece_taps = ceil_div(p->taps, p->pieces);
    }
    p->panels = ceil_div(p->co, NR);
    p->workers = p->n * p->h * p->w * p->co * whole < 500000 ? 1 : threads();

    int64_t area = p->h * p->w;
    int64_t images = area ? imin(p->n, MR * ceil_div(MB, area * MR)) : 0;
    if (images * imax(area * p->co, p->in_h * p->in_w * p->ci) > INT32_MAX)
        return -1;
    struct scratch s = scratch_open(base);
    lay_map(&p->full, p, images, &s);
    lay_map(&p->rest, p, images ? p->n % images : 0, &s);
    p->at = scratch_take(&s, area * 8);
    p->weights = scratch_take(&s, p->panels * whole * NR * 4);
    p->bias = scratch_take(&s, p->panels * NR * 4);
    p->zero = scratch_take(&s, p->ci * 4);
    p->spare = scratch_take(&s, p->workers * p->panels * NR * 4);
    p->rows = scratch_take(&s, p->workers * p->taps * MB * (int64_t)sizeof(float *));
    return scratch_bytes(&s);
}

int64_t K(cpu_conv_forward_scratch)(const struct cpu_conv *g) {
    struct gather p;
    if (g->groups != 1)
        return K(cpu_group_scratch)(g, false);
    if (K(cpu_winograd_takes)(g, false))
        return K(cpu_winograd_scratch)(g, false);
    if (K(cpu_few_takes)(g, false))
        return K(cpu_few_scratch)(g, false);
    return layout(&p, g, false, NULL);
}

int64_t K(cpu_conv_input_grad_scratch)(const struct cpu_conv *g) {
    struct gather p;
    if (g->groups != 1)
        return K(cpu_group_scratch)(g, true);
    if (K(cpu_winograd_takes)(g, true))
        return K(cpu_winograd_scratch)(g, true);
    if (K(cpu_narrow_takes)(g))
        return K(cpu_narrow_scratch)(g);
    if (K(cpu_few_takes)(g, true))
        return K(cpu_few_scratch)(g, true);
    return layout(&p, g, true, NULL);
}

static void order_positions(const struct gather *p) {
    int32_t *at = p->at;
    int64_t sh = p->back ? p->g->sh : 1, sw = p->back ? p->g->sw : 1;
    for (int64_t a = 0; a < sh; a++)
        for (int64_t b = 0; b < sw; b++)
            for (int64_t y = a; y < p->h; y += sh)
                for (int64_t x = b; x < p->w; x += sw) {
                    *at++ = (int32_t)y;
                    *at++ = (int32_t)x;
                }
}

/* Row (or column) of the input that output row y meets at tap t, or -1. */
static int64_t meets(bool back, int64_t y, int64_t t, int64_t stride, int64_t padding,
                     int64_t dilation, int64_t size) {
    int64_t i;
    if (back) {
        i = y + padding - t * dilation;
        if (i < 0 || i % stride != 0)
            return -1;
        i /= stride;
    } else {
        i = y * stride - padding + t * dilation;
    }
    return i >= 0 && i < size ? i : -1;
}

static void fill_map(const struct map *m, const struct gather *p) {
    const struct cpu_conv *g = p->g;
    int64_t padded = m->tiles * MR, in_image = p->in_h * p->in_w * p->ci;
    int64_t area = p->h * p->w;
    for (int64_t i = 0; i < padded; i++)
        m->out[i] = -1;
    for (int64_t i = 0, e = 0; i < area; i++)
        for (int64_t n = 0; n < m->images; n++, e++) {
            int64_t pixel = p->at[2 * i] * p->w + p->at[2 * i + 1];
            m->out[e] = (int32_t)((n * area + pixel) * p->co);
        }
    for (int64_t t = 0; t < p->taps; t++) {
        int32_t *in = m->in + t * padded;
        for (int64_t i = 0, e = 0; i < area; i++) {
            int64_t y = meets(p->back, p->at[2 * i], t / g->kw, g->sh, g->ph, g->dh, p->in_h);
            int64_t x = meets(p->back, p->at[2 * i + 1], t % g->kw, g->sw, g->pw, g->dw, p->in_w);
            bool inside = y >= 0 && x >= 0;
            int64_t first = (y * p->in_w + x) * p->ci;
            for (int64_t n = 0; n < m->images; n++, e++)
                in[e] = inside ? (int32_t)(n * in_image + first) : -1;
        }
        for (int64_t e = m->entries; e < padded; e++)
            in[e] = -1;
    }
    for (int64_t q = 0; q < p->pieces; q++) {
        int64_t t0 = q / p->blocks_of_ci * p->piece_taps;
        int64_t t1 = imin(p->taps, t0 + p->piece_taps);
        for (int64_t i = 0; i < m->tiles; i++) {
            uint16_t *live = m->live + (q * m->tiles + i) * (1 + p->piece_taps);
            live[0] = 0;
            for (int64_t t = t0; t < t1; t++) {
                bool any = false;
                for (int64_t e = i * MR; e < (i + 1) * MR; e++)
                    any |= m->in[t * padded + e] >= 0;
                if (any)
                    live[++live[0]] = (uint16_t)t;
            }
        }
    }
}

static void pack_panel(const struct gather *p, const float *w, int64_t q) {
    int64_t whole = p->taps * p->ci, first = q * NR, n = imin(NR, p->co - first);
    float *b = p->weights + q * whole * NR;
    if (!p->back) {
        pack_columns(b, w + first * whole, whole, whole, n);
        return;
    }
    int64_t ld = p->taps * p->co; /* weights are (ci, taps, co) here */
    for (int64_t t = 0; t < p->taps; t++)
        pack_rows(b + t * p->ci * NR, w + t * p->co + first, ld, p->ci, n);
}

/* The MB x taps row pointers of a block that starts at entry e0. */
static void find_rows(const struct gather *p, const struct map *m, const float *x, int64_t e0,
                      int64_t count, const float **rows) {
    int64_t padded = m->tiles * MR;
    for (int64_t t = 0; t < p->taps; t++) {
        const int32_t *in = m->in + t * padded + e0;
        for (int64_t i = 0; i < count; i++)
            rows[t * MB + i] = in[i] < 0 ? p->zero : x + in[i];
    }
}

/* One task: the entries from e0 of one group of images, the panels q0 .. q1. */
static void run_block(const struct gather *p, const struct map *m, float *y, const float *x,
                      bool biased, int worker, int64_t e0, int64_t q0, int64_t q1) {
    int64_t count = imin(MB, m->tiles * MR - e0), whole = p->taps * p->ci;
    const float **rows = (const float **)p->rows + worker * p->taps * MB;
    float *out[MB];
    find_rows(p, m, x, e0, count, rows);
    for (int64_t i = 0; i < count; i++) {
        int64_t at = m->out[e0 + i];
        out[i] = at < 0 ? p->spare + worker * p->panels * NR : y + at;
    }
    for (int64_t piece = 0; piece < p->pieces; piece++) {
        int64_t k0 = piece % p->blocks_of_ci * p->seg_len;
        for (int64_t q = q0; q < q1; q++) {
            struct tile_sum s = { .row_step = MB,
                                  .b = p->weights + (q * whole + k0) * NR,
                                  .b_step = p->ci * NR,
                                  .len = imin(p->seg_len, p->ci - k0),
                                  .k0 = k0 };
            const float *bias = biased && piece == 0 ? p->bias + q * NR : NULL;
            for (int64_t i = 0; i < count; i += MR) {
                s.rows = rows + i;
                const uint16_t *live =
                    m->live + (piece * m->tiles + (e0 + i) / MR) * (1 + p->piece_taps);
                s.count = live[0];
                s.list = live + 1;
                if (s.count == 0 && (piece > 0 || p->g->add))
                    continue;
                tile_run(&s, out + i, q * NR, imin(NR, p->co - q * NR), piece > 0 || p->g->add,
                         bias);
            }
        }
    }
}

static int run(const struct gather *p, float *y, const float *x, const float *w,
               const float *bias) {
    if (p->n * p->h * p->w * p->co == 0)
        return CPU_OK;
    order_positions(p);
    fill_map(&p->full, p);
    if (p->rest.images)
        fill_map(&p->rest, p);
    memset(p->zero, 0, (size_t)p->ci * 4);
    for (int64_t i = 0; bias && i < p->panels * NR; i++)
        p->bias[i] = i < p->co ? bias[i] : 0;

    int64_t groups = ceil_div(p->n, p->full.images), blocks = ceil_div(p->full.entries, MB);
    int64_t in_group = p->full.images * p->in_h * p->in_w * p->ci;
    int64_t out_group = p->full.images * p->h * p->w * p->co;
    int64_t cuts = imin(p->panels, ceil_div(4 * p->workers, groups * blocks));
    if (p->workers == 1)
        cuts = 1;
    int64_t width = ceil_div(p->panels, cuts);
#pragma omp parallel num_threads(p->workers)
    {
        int worker = omp_get_thread_num();
#pragma omp for schedule(static)
        for (int64_t q = 0; q < p->panels; q++)
            pack_panel(p, w, q);
#pragma omp for schedule(dynamic) collapse(3)
        for (int64_t i = 0; i < groups; i++)
            for (int64_t b = 0; b < blocks; b++)
                for (int64_t q = 0; q < p->panels; q += width) {
                    bool last = p->rest.images && i == groups - 1;
                    const struct map *m = last ? &p->rest : &p->full;
                    if (b * MB < m->entries && !interrupted())
                        run_block(p, m, y + i * out_group, x + i * in_group, bias != NULL, worker,
                                  b * MB, q, imin(p->panels, q + width));
                }
    }
    return interrupted() ? CPU_INTERRUPTED : CPU_OK;
}

int K(cpu_conv_forward)(float *y, const float *x, const float *w, const float *bias,
                        const struct cpu_conv *g, void *scratch) {
    struct gather p;
    if (g->groups != 1)
        return K(cpu_group)(y, x, w, bias, g, false, scratch);
    if (K(cpu_winograd_takes)(g, false))
        return K(cpu_winograd)(y, x, w, bias, g, false, scratch);
    if (K(cpu_few_takes)(g, false))
        return K(cpu_few)(y, x, w, bias, g, false, scratch);
    if (layout(&p, g, false, scratch) < 0)
        return CPU_UNPROFITABLE;
    return run(&p, y, x, w, bias);
}

int K(cpu_conv_input_grad)(float *dx, const float *dy, const float *w, const struct cpu_conv *g,
                           void *scratch) {
    struct gather p;
    if (g->groups != 1)
        return K(cpu_group)(dx, dy, w, NULL, g, true, scratch);
    if (K(cpu_winograd_takes)(g, true))
        return K(cpu_winograd)(dx, dy, w, NULL, g, true, scratch);
    if (K(cpu_narrow_takes)(g))
        return K(cpu_narrow)(dx, dy, w, g, scratch);
    if (K(cpu_few_takes)(g, true))
        return K(cpu_few)(dx, dy, w, NULL, g, true, scratch);
    if (layout(&p, g, true, scratch) < 0)
        return CPU_UNPROFITABLE;
    return run(&p, dx, dy, w, NULL);
}
