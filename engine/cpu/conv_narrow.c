/* Input gradient of a convolution whose image has few channels (the first layer of a network, where
 * attacks end). Gathered as in conv.c it would fill 3 of NR columns. Here all taps of a pixel are
 * the columns of one product, P (pixels of dy, taps * c) = dy w, and an image pixel sums the
 * entries of P that point at it: first those of a column of taps, which lie in different rows of
 * dy, side by side for all columns, then across.
 *
 * A task is a strip of rows of one image with its own P, so nothing is shared.
 */
#include "cpu/f32.h"
#include "cpu/narrow.h"
#include "cpu/pairs.h"
#include "cpu/scratch.h"
#include "cpu/tile.h"
#include "core/interrupt.h"
#include "core/threads.h"
#include <omp.h>

#define KC (LANES == 16 ? 384 : 256)
#define STRIP_BYTES (256 << 10) /* of P */
#define WIDEST 7                /* channels: two vectors of 4 */

struct narrow {
    const struct cpu_conv *g;
    bool pairs;                         /* of bf16 */
    int64_t k;                          /* floats of a pixel of dy */
    int64_t wide;                       /* a row of taps in whole vectors */
    int64_t taps, columns, panels, row; /* floats between rows of P */
    int64_t strip, pixels;              /* rows of dx a task; most pixels of dy it needs */
    int workers;
    float *weights; /* (panels, k, NR) */
    float *p;       /* workers x (pixels, row) */
    int64_t line;
    float *down; /* workers x line: (ow, wide), what the last reads past it, a row of dx */
    float bias[8];
    float *zero;   /* k zeros */
    float *spare;  /* workers x row */
    int32_t *x_at; /* (kw, w): column of dy that a tap brings to a column of dx, or -1 */
};

static int64_t layout(struct narrow *p, const struct cpu_conv *g, bool pairs, void *base) {
    *p = (struct narrow){ .g = g, .pairs = pairs, .taps = g->kh * g->kw };
    p->k = pairs ? g->o / 2 : g->o;
    p->wide = ceil_div(g->kw * g->c, LANES) * LANES;
    p->columns = p->taps * g->c;
    p->panels = ceil_div(p->columns, NR);
    p->row = p->panels * NR + 16; /* sums read whole vectors */
    int64_t most = STRIP_BYTES / (4 * p->row * imax(1, g->ow));
    int64_t halo = ceil_div((g->kh - 1) * g->dh, g->sh) + 1;
    p->strip = imin(g->h, imax(g->kh, (most - halo) * g->sh));
    p->pixels = imin(g->oh, ceil_div(p->strip, g->sh) + halo) * g->ow;
    p->workers = g->n * g->oh * g->ow * g->o * p->columns < 500000 ? 1 : threads();
    p->line = g->ow * p->wide + LINE + g->w * g->c + LINE;
    struct scratch s = scratch_open(base);
    p->weights = scratch_take(&s, p->panels * p->k * NR * 4);
    p->p = scratch_take(&s, p->workers * p->pixels * p->row * 4);
    p->down = scratch_take(&s, p->workers * p->line * 4);
    p->zero = scratch_take(&s, p->k * 4);
    p->spare = scratch_take(&s, p->workers * p->row * 4);
    p->x_at = scratch_take(&s, g->kw * g->w * 4);
    return scratch_bytes(&s);
}

bool K(cpu_narrow_takes)(const struct cpu_conv *g) {
    return g->groups == 1 && g->c <= WIDEST && g->kh * g->kw > 1 && g->n * g->oh * g->ow > 0 &&
           g->c > 0 && g->o > 0;
}

int64_t K(cpu_narrow_scratch)(const struct cpu_conv *g) {
    struct narrow p;
    return layout(&p, g, false, NULL);
}

/* Row of dy that kernel row t brings to row y of dx, or -1. */
static int64_t source(int64_t y, int64_t t, int64_t padding, int64_t dilation, int64_t stride,
                      int64_t size) {
    int64_t i = y + padding - t * dilation;
    if (i < 0 || i % stride != 0)
        return -1;
    return i / stride < size ? i / stride : -1;
}

/* Products of `count` pixels of dy. */
static void multiply(const struct narrow *p, float *to, const float *dy, int64_t count,
                     float *spare) {
    int64_t o = p->k;
    for (int64_t k0 = 0; k0 < o; k0 += KC)
        for (int64_t i = 0; i < count; i += MR) {
            const float *rows[MR];
            float *out[MR];
            for (int64_t m = 0; m < MR; m++) {
                bool in = i + m < count;
                rows[m] = in ? dy + (i + m) * o : p->zero;
                out[m] = in ? to + (i + m) * p->row : spare;
            }
            for (int64_t q = 0; q < p->panels; q++) {
                struct tile_sum s = { .rows = rows,
                                      .b = p->weights + (q * o + k0) * NR,
                                      .len = imin(KC, o - k0),
                                      .k0 = k0,
                                      .count = 1 };
#if PAIRS
                if (p->pairs)
                    tile_run_pairs(&s, out, q * NR, NR, k0 > 0, NULL);
                else
#endif
                    tile_run(&s, out, q * NR, NR, k0 > 0, NULL);
            }
        }
}

/* One row of dx from the strip's products; first is the first row of dy in it. */
static void sum_row(const struct narrow *p, void *dx, float *down, const float *products, int64_t y,
                    int64_t first) {
    const struct cpu_conv *g = p->g;
    int64_t c = g->c, wide = p->wide;
    memset(down, 0, (size_t)(g->ow * wide) * 4);
    for (int64_t ty = 0; ty < g->kh; ty++) {
        int64_t row = source(y, ty, g->ph, g->dh, g->sh, g->oh);
        const float *from = products + (row - first) * g->ow * p->row + ty * g->kw * c;
        for (int64_t x = 0; x < g->ow && row >= 0; x++)
            for (int64_t v = 0; v < wide; v += LANES)
                vstore(down + x * wide + v,
                       vload(down + x * wide + v) + vload(from + x * p->row + v));
    }
    float *across = down + g->ow * wide + LINE;
    for (int64_t x = 0; x < g->w; x++) {
        v4 low = *(const v4 *)p->bias, high = *(const v4 *)(p->bias + 4);
        for (int64_t tx = 0; tx < g->kw; tx++) {
            int64_t at = p->x_at[tx * g->w + x];
            if (at < 0)
                continue;
            const float *s = down + at * wide + tx * c;
            low += *(const v4 *)s;
            if (c > 4)
                high += *(const v4 *)(s + 4);
        }
        *(v4 *)(across + x * c) = low; /* the next pixel's go over what is too much */
        if (c > 4)
            *(v4 *)(across + x * c + 4) = high;
    }
    for (int64_t i = 0; g->add && i < g->w * c; i++)
        across[i] += element(dx, i, p->pairs);
    if (p->pairs)
        narrow(dx, across, g->w * c);
    else
        memcpy(dx, across, (size_t)(g->w * c) * 4);
}

static void run_strip(const struct narrow *p, void *dx, const float *dy, int worker, int64_t n,
                      int64_t y0) {
    const struct cpu_conv *g = p->g;
    int64_t y1 = imin(g->h, y0 + p->strip), low = y0 + g->ph - (g->kh - 1) * g->dh;
    int64_t first = low > 0 ? ceil_div(low, g->sh) : 0;
    int64_t last = imin(g->oh, (y1 - 1 + g->ph) / g->sh + 1);
    float *products = p->p + worker * p->pixels * p->row;
    if (last > first)
        multiply(p, products, dy + (n * g->oh + first) * g->ow * p->k, (last - first) * g->ow,
                 p->spare + worker * p->row);
    for (int64_t y = y0; y < y1; y++)
        sum_row(p, (char *)dx + (n * g->h + y) * g->w * g->c * (p->pairs ? 2 : 4),
                p->down + worker * p->line, products, y, first);
}

static int run(const struct narrow *p, void *dx, const float *dy) {
    const struct cpu_conv *g = p->g;
    memset(p->zero, 0, (size_t)p->k * 4);
    for (int64_t t = 0; t < g->kw; t++)
        for (int64_t x = 0; x < g->w; x++)
            p->x_at[t * g->w + x] = (int32_t)source(x, t, g->pw, g->dw, g->sw, g->ow);
#pragma omp parallel num_threads(p->workers)
    {
        int worker = omp_get_thread_num();
#pragma omp for schedule(dynamic) collapse(2)
        for (int64_t n = 0; n < g->n; n++)
            for (int64_t y = 0; y < g->h; y += p->strip)
                if (!interrupted())
                    run_strip(p, dx, dy, worker, n, y);
    }
    return interrupted() ? CPU_INTERRUPTED : CPU_OK;
}

int K(cpu_narrow)(float *dx, const float *dy, const float *w, const struct cpu_conv *g,
                  void *scratch) {
    struct narrow p;
    layout(&p, g, false, scratch);
    for (int64_t q = 0; q < p.panels; q++)
        pack_rows(p.weights + q * g->o * NR, w + q * NR, p.columns, g->o,
                  imin(NR, p.columns - q * NR));
    return run(&p, dx, dy);
}

#if PAIRS
bool K(cpu_narrow_pairs_takes)(const struct cpu_conv *g) {
    return K(cpu_narrow_takes)(g) && g->o % 2 == 0;
}

int64_t K(cpu_narrow_pairs_scratch)(const struct cpu_conv *g) {
    struct narrow p;
    return layout(&p, g, true, NULL);
}

int K(cpu_narrow_pairs)(uint16_t *dx, const uint16_t *dy, const uint16_t *w, const uint16_t *bias,
                        const struct cpu_conv *g, void *scratch) {
    struct narrow p;
    layout(&p, g, true, scratch);
    for (int64_t i = 0; bias && i < g->c; i++)
        p.bias[i] = from_bf16(bias[i]);
    memset(p.weights, 0, (size_t)(p.panels * p.k * NR) * 4);
    for (int64_t q = 0; q < p.panels; q++)
        for (int64_t i = 0; i < p.k; i++) {
            const uint16_t *even = w + 2 * i * p.columns + q * NR;
            zip(p.weights + (q * p.k + i) * NR, even, even + p.columns,
                imin(NR, p.columns - q * NR));
        }
    return run(&p, dx, (const float *)dy);
}
#endif
