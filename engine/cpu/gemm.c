/* Matrix product: c = op(a) op(b), in f32, or of bf16 with sums in f32.
 *
 * k is cut in pieces of at most KC and n in pieces of NC; the piece of b (KC,NC) is packed in
 * panels of NR columns that all threads share, then tasks of MC rows copy their part of a (row by
 * row with an odd number of cache lines between rows: the strides of tensors are often powers of
 * two and would fall on a few cache sets) and run the tiles. A panel of b stays in the first cache
 * while the rows of the task pass by. The cut of k depends on k alone and threads divide outputs
 * only, so the bits do not depend on the number of threads.
 *
 * bf16 is widened while it is packed, and the tile is that of f32. Where the processor multiplies
 * pairs of bf16, two neighbours along k are packed as one float, and k counts pairs here.
 */
#include "cpu/f32.h"
#include "cpu/scratch.h"
#include "cpu/tile.h"
#include "core/interrupt.h"
#include "core/threads.h"
#include <omp.h>

#define KC (LANES == 16 ? 384 : 256)
#define NC 3072
#define MC (8 * 12)
#define A_PAD 16

struct plan {
    int64_t k;      /* of the product, in floats or pairs */
    int64_t kc, nc; /* largest pieces */
    int64_t a_row;  /* floats between packed rows of a */
    int workers;
    float *b;     /* (nc / NR) panels of (kc, NR) */
    float *a;     /* workers x (MC, a_row) */
    float *spare; /* workers x NR: outputs of rows beyond m */
    float *zero;  /* kc zeros */
};

static int64_t layout(struct plan *p, const struct cpu_gemm *g, void *base) {
    struct scratch s = scratch_open(base);
    p->k = PAIRS && g->half ? ceil_div(g->k, 2) : g->k;
    int64_t pieces = imax(1, ceil_div(p->k, KC));
    p->kc = ceil_div(p->k, pieces);
    p->nc = imin(ceil_div(g->n, NR) * NR, NC);
    p->a_row = ceil_div(p->kc, 16) * 16 + A_PAD;
    /* Below about 0.1 ms of work a second thread costs more than it gives. */
    p->workers = g->m * g->n * g->k < 500000 ? 1 : threads();
    int64_t rows = imin(MC, ceil_div(g->m, MR) * MR);
    p->b = scratch_take(&s, p->nc * p->kc * 4);
    p->a = scratch_take(&s, p->workers * rows * p->a_row * 4);
    p->spare = scratch_take(&s, p->workers * p->nc * 4);
    p->zero = scratch_take(&s, p->kc * 4);
    return scratch_bytes(&s);
}

int64_t K(cpu_gemm_scratch)(const struct cpu_gemm *g) {
    struct plan p;
    return layout(&p, g, NULL);
}

/* Rows i0 .. i0+rows of op(a), columns k0 .. k0+len, to dst (rows, a_row). */
ALWAYS_INLINE void pack_a_of(float *dst, int64_t a_row, const void *a, const struct cpu_gemm *g,
                             int64_t i0, int64_t rows, int64_t k0, int64_t len, const bool half) {
    if (!g->ta) {
        for (int64_t i = 0; i < rows; i++) {
            int64_t from = (i0 + i) * g->lda + k0;
            if (half)
                widen(dst + i * a_row, (const uint16_t *)a + from, len);
            else
                memcpy(dst + i * a_row, (const float *)a + from, (size_t)len * 4);
        }
        return;
    }
    for (int64_t ib = 0; ib < rows; ib += 16) {
        int64_t n = imin(16, rows - ib);
        for (int64_t k = 0; k < len; k++) {
            int64_t from = (k0 + k) * g->lda + i0 + ib;
            float *d = dst + ib * a_row + k;
            for (int64_t i = 0; i < n; i++)
                d[i * a_row] = element(a, from + i, half);
        }
    }
}

#if PAIRS
/* to[x * to_step] = (column x at 2 k, at 2 k + 1), for x < n; a pair past the end is half zero. */
static void pack_pairs(float *to, int64_t to_step, const uint16_t *from, int64_t step, int64_t next,
                       int64_t n, bool odd) {
    for (int64_t x = 0; x < n; x++, from += step) {
        uint32_t pair = from[0] | (odd ? 0 : (uint32_t)from[next] << 16);
        memcpy(to + x * to_step, &pair, 4);
    }
}

/* The same for pairs: k0 and len count them. */
static void pack_a_pairs(float *dst, int64_t a_row, const uint16_t *a, const struct cpu_gemm *g,
                         int64_t i0, int64_t rows, int64_t k0, int64_t len) {
    int64_t there = imin(2 * len, g->k - 2 * k0);
    for (int64_t i = 0; i < rows && !g->ta; i++) { /* neighbours lie as pairs already */
        uint16_t *to = (uint16_t *)(dst + i * a_row);
        to[2 * len - 1] = 0;
        memcpy(to, a + (i0 + i) * g->lda + 2 * k0, (size_t)there * 2);
    }
    for (int64_t k = 0; k < len && g->ta; k++)
        pack_pairs(dst + k, a_row, a + 2 * (k0 + k) * g->lda + i0, 1, g->lda, rows,
                   2 * k + 1 == there);
}

static void pack_b_pairs(float *b, const uint16_t *src, const struct cpu_gemm *g, int64_t at,
                         int64_t n, int64_t k0, int64_t len) {
    int64_t step = g->tb ? g->ldb : 1, next = g->tb ? 1 : g->ldb;
    memset(b, 0, (size_t)(len * NR) * 4);
    for (int64_t k = 0; k < len; k++)
        pack_pairs(b + k * NR, 1, src + at * step + 2 * (k0 + k) * next, step, next, n,
                   2 * (k0 + k) + 1 == g->k);
}
#endif

static void pack_a(float *dst, int64_t a_row, const void *a, const struct cpu_gemm *g, int64_t i0,
                   int64_t rows, int64_t k0, int64_t len) {
    if (!g->half)
        pack_a_of(dst, a_row, a, g, i0, rows, k0, len, false);
    else
#if PAIRS
        pack_a_pairs(dst, a_row, a, g, i0, rows, k0, len);
#else
        pack_a_of(dst, a_row, a, g, i0, rows, k0, len, true);
#endif
}

/* The panel of n columns of op(b) from column `at` on, rows k0 .. k0+len. */
static void pack_b(float *to, const void *b, const struct cpu_gemm *g, int64_t at, int64_t n,
                   int64_t k0, int64_t len) {
#if PAIRS
    if (g->half) {
        pack_b_pairs(to, b, g, at, n, k0, len);
        return;
    }
#endif
    const char *src = b;
    src += (g->tb ? at * g->ldb + k0 : k0 * g->ldb + at) * (g->half ? 2 : 4);
    if (g->tb && g->half)
        pack_columns_of(to, src, g->ldb, len, n, true);
    else if (g->tb)
        pack_columns_of(to, src, g->ldb, len, n, false);
    else if (g->half)
        pack_rows_of(to, src, g->ldb, len, n, true);
    else
        pack_rows_of(to, src, g->ldb, len, n, false);
}

/* One task: rows i0 .. i0+rows against the panels j0 .. j1 (columns counted inside the piece). */
static void run_block(const struct plan *p, const struct cpu_gemm *g, float *c, const void *a,
                      int worker, int64_t i0, int64_t rows, int64_t n0, int64_t j0, int64_t j1,
                      int64_t k0, int64_t len) {
    const float *row[MC];
    float *out[MC];
    int64_t padded = ceil_div(rows, MR) * MR;
    float *copy = p->a + worker * imin(MC, ceil_div(g->m, MR) * MR) * p->a_row;
    /* A copy pays when several panels read it. */
    bool direct = !g->ta && !g->half && j1 - j0 <= 2 * NR;
    if (!direct)
        pack_a(copy, p->a_row, a, g, i0, rows, k0, len);
    for (int64_t i = 0; i < padded; i++) {
        bool in = i < rows;
        row[i] = !in      ? p->zero
                 : direct ? (const float *)a + (i0 + i) * g->lda + k0
                          : copy + i * p->a_row;
        out[i] = in ? c + (i0 + i) * g->ldc + n0 : p->spare + worker * p->nc;
    }
    for (int64_t j = j0; j < j1; j += NR) {
        struct tile_sum s = { .b = p->b + j * len, .len = len, .count = 1 };
        for (int64_t i = 0; i < padded; i += MR) {
            s.rows = row + i;
#if PAIRS
            if (g->half) {
                tile_run_pairs(&s, out + i, j, imin(NR, g->n - n0 - j), g->add || k0 > 0);
                continue;
            }
#endif
            tile_run(&s, out + i, j, imin(NR, g->n - n0 - j), g->add || k0 > 0, NULL);
        }
    }
}

static void run_piece(const struct plan *p, const struct cpu_gemm *g, float *c, const void *a,
                      const void *b, int64_t n0, int64_t cols, int64_t k0, int64_t len) {
    int64_t panels = ceil_div(cols, NR), blocks = ceil_div(g->m, MC);
    /* Enough tasks to keep every worker busy to the end; the cut of columns changes no bits. */
    int64_t cuts = imin(panels, ceil_div(4 * p->workers, blocks));
    if (p->workers == 1)
        cuts = 1;
    int64_t width = ceil_div(panels, cuts) * NR;
    cuts = ceil_div(cols, width);
#pragma omp parallel num_threads(p->workers)
    {
        int worker = omp_get_thread_num();
#pragma omp for schedule(static)
        for (int64_t q = 0; q < panels; q++) {
            int64_t n = imin(NR, cols - q * NR);
            pack_b(p->b + q * NR * len, b, g, n0 + q * NR, n, k0, len);
        }
#pragma omp for schedule(dynamic) collapse(2)
        for (int64_t i = 0; i < blocks; i++)
            for (int64_t q = 0; q < cuts; q++)
                if (!interrupted())
                    run_block(p, g, c, a, worker, i * MC, imin(MC, g->m - i * MC), n0, q * width,
                              imin(cols, (q + 1) * width), k0, len);
    }
}

int K(cpu_gemm)(float *c, const void *a, const void *b, const struct cpu_gemm *g, void *scratch) {
    struct plan p;
    layout(&p, g, scratch);
    if (g->m == 0 || g->n == 0)
        return CPU_OK;
    if (g->k == 0) {
        for (int64_t i = 0; i < g->m && !g->add; i++)
            memset(c + i * g->ldc, 0, (size_t)g->n * 4);
        return CPU_OK;
    }
    memset(p.zero, 0, (size_t)p.kc * 4);
    for (int64_t n0 = 0; n0 < g->n; n0 += NC)
        for (int64_t k0 = 0; k0 < p.k; k0 += p.kc) {
            run_piece(&p, g, c, a, b, n0, imin(NC, g->n - n0), k0, imin(p.kc, p.k - k0));
            if (interrupted())
                return CPU_INTERRUPTED;
        }
    return CPU_OK;
}
