/* Convolution of images of few channels (the first layer of a network), and of stride 1 the input
 * gradient of few outputs, which is the forward with the weights flipped and turned round. Gathered
 * as in conv.c, a tap would be a run of a few floats. Here a task copies the rows it needs of one
 * image with zeros around them; a row of a pixel's window then lies in one piece, taps side by
 * side, and tiles read it where it is.
 */
#include "cpu/f32.h"
#include "cpu/few.h"
#include "cpu/scratch.h"
#include "cpu/tile.h"
#include "core/interrupt.h"
#include "core/threads.h"
#include <omp.h>

#define FEWER_THAN 8
#define PIXELS 384 /* of a task, if a row has no more */

struct few {
    const struct cpu_conv *g;
    bool back;
    struct conv_ends e;
    int64_t sh, sw;    /* 1 going back */
    int64_t runs, run; /* pieces of a window, floats of each: a row, or a tap if dilated */
    int64_t strip, in_rows, in_cols; /* output rows of a task, input it copies */
    int64_t pixels, panels;          /* strip * w in whole tiles; of NR outputs */
    int workers;
    float *weights; /* (panels, runs * run, NR) */
    float *bias;    /* (panels * NR) */
    float *copy;    /* workers x (in_rows, in_cols, ci) */
    float **rows;   /* workers x (runs, pixels), into the copy */
    float *spare;   /* workers x (panels * NR) */
};

static int64_t layout(struct few *p, const struct cpu_conv *g, bool back, void *base) {
    *p = (struct few){ .g = g, .back = back };
    p->e = conv_ends_of(g, back);
    p->sh = back ? 1 : g->sh;
    p->sw = back ? 1 : g->sw;
    p->runs = g->dw == 1 ? g->kh : g->kh * g->kw;
    p->run = g->kh * g->kw * p->e.ci / p->runs;
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
    p->copy = scratch_take(&s, p->workers * p->in_rows * p->in_cols * p->e.ci * 4);
    p->rows = scratch_take(&s, p->workers * p->runs * p->pixels * (int64_t)sizeof(float *));
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
    return layout(&p, g, back, NULL);
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

/* One task: the output rows from y0 of image n. */
static void run_strip(const struct few *p, float *y, const float *x, bool biased, int worker,
                      int64_t n, int64_t y0) {
    const float *const *rows = (const float *const *)p->rows + worker * p->runs * p->pixels;
    float *copy = p->copy + worker * p->in_rows * p->in_cols * p->e.ci;
    float *spare = p->spare + worker * p->panels * NR;
    int64_t strip = imin(p->strip, p->e.h - y0), count = strip * p->e.w;
    copy_rows(p, copy, x + n * p->e.in_h * p->e.in_w * p->e.ci, y0 * p->sh - p->e.pad_y,
              (strip - 1) * p->sh + (p->g->kh - 1) * p->g->dh + 1);
    y += (n * p->e.h + y0) * p->e.w * p->e.co;
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

int K(cpu_few)(float *y, const float *x, const float *w, const float *bias,
               const struct cpu_conv *g, bool back, void *scratch) {
    struct few p;
    layout(&p, g, back, scratch);
    for (int64_t i = 0; bias && i < p.panels * NR; i++)
        p.bias[i] = i < p.e.co ? bias[i] : 0;
    for (int64_t q = 0; q < p.panels; q++)
        pack_panel(&p, w, q);
#pragma omp parallel num_threads(p.workers)
    {
        int worker = omp_get_thread_num();
        find_rows(&p, (const float **)p.rows + worker * p.runs * p.pixels,
                  p.copy + worker * p.in_rows * p.in_cols * p.e.ci);
#pragma omp for schedule(dynamic) collapse(2)
        for (int64_t n = 0; n < g->n; n++)
            for (int64_t y0 = 0; y0 < p.e.h; y0 += p.strip)
                if (!interrupted())
                    run_strip(&p, y, x, bias != NULL, worker, n, y0);
    }
    return interrupted() ? CPU_INTERRUPTED : CPU_OK;
}
