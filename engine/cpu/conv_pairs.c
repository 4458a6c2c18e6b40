/* Convolution of bf16 on pairs, forward and input gradient: the product of conv.c, whose rows of
 * channels are rows of pairs as they lie in the image. Only the weights are packed. A task sums one
 * panel of outputs at a time in f32, through all taps, and rounds it to the image.
 *
 * 3x3 convolutions go to winograd_pairs.c and winograd_pairs_strided.c where that pays, images of 3
 * channels to conv_few.c, gradients of images of few channels to conv_narrow.c. What remains for
 * the f32 kernels: groups, an odd number of channels, other images of less than 8.
 */
#include "cpu/f32.h"
#include "cpu/few.h"
#include "cpu/gather.h"
#include "cpu/narrow.h"
#include "cpu/pairs.h"
#include "cpu/strided.h"
#include "cpu/winograd_pairs.h"
#include "core/interrupt.h"
#include <omp.h>

#if PAIRS
static bool takes(const struct cpu_conv *g, bool back) {
    int64_t ci = conv_ends_of(g, back).ci;
    return g->groups == 1 && ci >= 8 && ci % 2 == 0 && !(back && K(cpu_narrow_takes)(g));
}

bool K(cpu_pairs_winograd)(const struct cpu_conv *g, bool back) {
    return K(cpu_winograd_pairs_takes)(g, back) || K(cpu_strided_pairs_takes)(g, back);
}

int64_t K(cpu_pairs_form)(const struct cpu_conv *g, bool back) {
    int64_t bytes = K(cpu_winograd_pairs_form)(g, back);
    return bytes ? bytes : K(cpu_strided_pairs_form)(g, back);
}

int64_t K(cpu_pairs_scratch)(const struct cpu_conv *g, bool back) {
    struct gather p;
    if (K(cpu_winograd_pairs_takes)(g, back))
        return K(cpu_winograd_pairs_scratch)(g, back);
    if (K(cpu_strided_pairs_takes)(g, back))
        return K(cpu_strided_pairs_scratch)(g, back);
    if (K(cpu_few_pairs_takes)(g, back))
        return K(cpu_few_pairs_scratch)(g);
    if (back && K(cpu_narrow_pairs_takes)(g))
        return K(cpu_narrow_pairs_scratch)(g);
    return takes(g, back) ? gather_layout(&p, g, back, true, NULL) : -1;
}

/* Panel q of the weights: (taps, ci, NR) pairs. */
static void pack_panel(const struct gather *p, const uint16_t *w, int64_t q) {
    int64_t whole = p->taps * p->e.ci, first = q * NR, n = imin(NR, p->e.co - first);
    float *b = p->weights + q * whole * NR;
    if (!p->back) { /* (co, taps, ci): neighbours along ci lie as pairs */
        pack_columns(b, (const float *)w + first * whole, whole, whole, n);
        return;
    }
    int64_t ld = p->taps * p->e.co; /* weights are (2 ci, taps, co) here */
    for (int64_t t = 0; t < p->taps; t++)
        for (int64_t k = 0; k < p->e.ci; k++, b += NR) {
            const uint16_t *even = w + 2 * k * ld + t * p->e.co + first, *odd = even + ld;
            zip(b, even, odd, n);
            memset(b + n, 0, (size_t)(NR - n) * 4);
        }
}

/* n floats rounded to y. */
static void round_row(uint16_t *y, const float *from, int64_t n) {
    int64_t j = 0;
    for (; j + LANES <= n; j += LANES)
        vnarrow(y + j, vload(from + j));
    narrow(y + j, from + j, n - j);
}

/* One task: the entries from e0 of one group of images, the panels q0 .. q1. */
static void run_block(const struct gather *p, const struct map *m, uint16_t *y, const float *x,
                      bool biased, int worker, int64_t e0, int64_t q0, int64_t q1) {
    int64_t count = imin(MB, m->tiles * MR - e0), whole = p->taps * p->e.ci;
    const float **rows = (const float **)p->rows + worker * p->taps * MB;
    const int32_t *at = m->out + e0;
    bool add = p->g->add;
    float *out[MB];
    for (int64_t i = 0; i < count; i++)
        out[i] = p->sums + (worker * MB + i) * NR;
    gather_rows(p, m, x, e0, count, rows);
    for (int64_t q = q0; q < q1; q++) {
        int64_t n = imin(NR, p->e.co - q * NR), whole_n = ceil_div(n, LANES) * LANES;
        for (int64_t i = 0; i < count && add; i++)
            if (at[i] >= 0)
                widen(out[i], y + at[i] + q * NR, n);
        for (int64_t piece = 0; piece < p->pieces; piece++) {
            int64_t k0 = piece % p->blocks_of_ci * p->seg_len;
            struct tile_sum s = { .row_step = MB,
                                  .b = p->weights + (q * whole + k0) * NR,
                                  .b_step = p->e.ci * NR,
                                  .len = imin(p->seg_len, p->e.ci - k0),
                                  .k0 = k0 };
            const float *bias = biased && piece == 0 ? p->bias + q * NR : NULL;
            for (int64_t i = 0; i < count; i += MR) {
                const uint16_t *live =
                    m->live + (piece * m->tiles + (e0 + i) / MR) * (1 + p->piece_taps);
                s.rows = rows + i;
                s.count = live[0];
                s.list = live + 1;
                if (s.count > 0 || (piece == 0 && !add))
                    tile_run_pairs(&s, out + i, 0, whole_n, piece > 0 || add, bias);
            }
        }
        for (int64_t i = 0; i < count; i++)
            if (at[i] >= 0)
                round_row(y + at[i] + q * NR, out[i], n);
    }
}

static int run(const struct gather *p, uint16_t *y, const float *x, const uint16_t *w,
               const uint16_t *bias) {
    if (p->n * p->e.h * p->e.w * p->e.co == 0)
        return CPU_OK;
    gather_start(p);
    for (int64_t i = 0; bias && i < p->panels * NR; i++)
        p->bias[i] = i < p->e.co ? from_bf16(bias[i]) : 0;

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

int K(cpu_pairs)(uint16_t *y, const uint16_t *x, const uint16_t *w, const uint16_t *bias,
                 const struct cpu_conv *g, bool back, void *scratch) {
    struct gather p;
    if (K(cpu_winograd_pairs_takes)(g, back))
        return K(cpu_winograd_pairs)(y, x, w, bias, g, back, scratch);
    if (K(cpu_strided_pairs_takes)(g, back))
        return K(cpu_strided_pairs)(y, x, w, bias, g, back, scratch);
    if (K(cpu_few_pairs_takes)(g, back))
        return K(cpu_few_pairs)(y, x, w, bias, g, scratch);
    if (back && K(cpu_narrow_pairs_takes)(g))
        return K(cpu_narrow_pairs)(y, x, w, bias, g, scratch);
    if (!takes(g, back) || gather_layout(&p, g, back, true, scratch) < 0)
        return CPU_UNPROFITABLE;
    return run(&p, y, (const float *)x, w, bias);
}
#endif
