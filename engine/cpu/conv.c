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
#include "cpu/gather.h"
#include "cpu/narrow.h"
#include "cpu/strided.h"
#include "cpu/winograd.h"
#include "core/interrupt.h"
#include <omp.h>

int64_t K(cpu_conv_forward_scratch)(const struct cpu_conv *g) {
    struct gather p;
    if (g->groups != 1)
        return K(cpu_group_scratch)(g, false);
    if (K(cpu_winograd_takes)(g, false))
        return K(cpu_winograd_scratch)(g, false);
    if (K(cpu_strided_takes)(g, false))
        return K(cpu_strided_scratch)(g, false);
    if (K(cpu_few_takes)(g, false))
        return K(cpu_few_scratch)(g, false);
    return gather_layout(&p, g, false, false, NULL);
}

int64_t K(cpu_conv_input_grad_scratch)(const struct cpu_conv *g) {
    struct gather p;
    if (g->groups != 1)
        return K(cpu_group_scratch)(g, true);
    if (K(cpu_winograd_takes)(g, true))
        return K(cpu_winograd_scratch)(g, true);
    if (K(cpu_strided_takes)(g, true))
        return K(cpu_strided_scratch)(g, true);
    if (K(cpu_narrow_takes)(g))
        return K(cpu_narrow_scratch)(g);
    if (K(cpu_few_takes)(g, true))
        return K(cpu_few_scratch)(g, true);
    return gather_layout(&p, g, true, false, NULL);
}

static void pack_panel(const struct gather *p, const float *w, int64_t q) {
    int64_t whole = p->taps * p->e.ci, first = q * NR, n = imin(NR, p->e.co - first);
    float *b = p->weights + q * whole * NR;
    if (!p->back) {
        pack_columns(b, w + first * whole, whole, whole, n);
        return;
    }
    int64_t ld = p->taps * p->e.co; /* weights are (ci, taps, co) here */
    for (int64_t t = 0; t < p->taps; t++)
        pack_rows(b + t * p->e.ci * NR, w + t * p->e.co + first, ld, p->e.ci, n);
}

/* One task: the entries from e0 of one group of images, the panels q0 .. q1. */
static void run_block(const struct gather *p, const struct map *m, float *y, const float *x,
                      bool biased, int worker, int64_t e0, int64_t q0, int64_t q1) {
    int64_t count = imin(MB, m->tiles * MR - e0), whole = p->taps * p->e.ci;
    const float **rows = (const float **)p->rows + worker * p->taps * MB;
    float *out[MB];
    gather_rows(p, m, x, e0, count, rows);
    for (int64_t i = 0; i < count; i++) {
        int64_t at = m->out[e0 + i];
        out[i] = at < 0 ? p->spare + worker * p->panels * NR : y + at;
    }
    for (int64_t piece = 0; piece < p->pieces; piece++) {
        int64_t k0 = piece % p->blocks_of_ci * p->seg_len;
        for (int64_t q = q0; q < q1; q++) {
            struct tile_sum s = { .row_step = MB,
                                  .b = p->weights + (q * whole + k0) * NR,
                                  .b_step = p->e.ci * NR,
                                  .len = imin(p->seg_len, p->e.ci - k0),
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
                tile_run(&s, out + i, q * NR, imin(NR, p->e.co - q * NR), piece > 0 || p->g->add,
                         bias);
            }
        }
    }
}

static int run(const struct gather *p, float *y, const float *x, const float *w,
               const float *bias) {
    if (p->n * p->e.h * p->e.w * p->e.co == 0)
        return CPU_OK;
    gather_start(p);
    for (int64_t i = 0; bias && i < p->panels * NR; i++)
        p->bias[i] = i < p->e.co ? bias[i] : 0;

    int64_t groups = ceil_div(p->n, p->full.images), blocks = ceil_div(p->full.entries, MB);
    int64_t in_group = p->full.images * p->e.in_h * p->e.in_w * p->e.ci;
    int64_t out_group = p->full.images * p->e.h * p->e.w * p->e.co;
    int64_t width = gather_width(p, groups * blocks);
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
    if (K(cpu_strided_takes)(g, false))
        return K(cpu_strided)(y, x, w, bias, g, false, scratch);
    if (K(cpu_few_takes)(g, false))
        return K(cpu_few)(y, x, w, bias, g, false, scratch);
    if (gather_layout(&p, g, false, false, scratch) < 0)
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
    if (K(cpu_strided_takes)(g, true))
        return K(cpu_strided)(dx, dy, w, NULL, g, true, scratch);
    if (K(cpu_narrow_takes)(g))
        return K(cpu_narrow)(dx, dy, w, g, scratch);
    if (K(cpu_few_takes)(g, true))
        return K(cpu_few)(dx, dy, w, NULL, g, true, scratch);
    if (gather_layout(&p, g, true, false, scratch) < 0)
        return CPU_UNPROFITABLE;
    return run(&p, dx, dy, w, NULL);
}
