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
 * pairs of bf16, two neighbours along k are packed as one float, and k counts pairs here. Sums of
 * bf16 wait in f32 and are rounded once: a panel of a task's where k is one piece, else those of a
 * piece of n.
 */
#include "cpu/cut.h"
#include "cpu/f32.h"
#include "cpu/pairs.h"
#include "cpu/scratch.h"
#include "cpu/tile.h"
#include "core/interrupt.h"
#include "core/threads.h"
#include <omp.h>

#define KC (LANES == 16 ? 768 : 256)
#define NC 3072
#define SUMS (4 << 20) /* floats of bf16's sums, if that leaves GROUP panels */
#define MC (8 * 12)
#define A_PAD 16
#define THIN (2 * MC) /* rows up to which panels of b are packed where they are used */
#define GROUP 8       /* panels that are packed together */

struct plan {
    int64_t k;      /* of the product, in floats or pairs */
    int64_t kc, nc; /* largest pieces */
    int64_t a_row;  /* floats between packed rows of a */
    struct cut cut; /* of the rows, in blocks of at most MC */
    bool thin;
    int workers;
    float *b;     /* (nc / NR) panels of (kc, NR); thin: workers x GROUP of them */
    float *a;     /* workers x (block, a_row); thin: (m, a_row), all of k */
    float *spare; /* workers x NR: outputs of rows beyond m */
    float *zero;  /* kc zeros */
    float *bias;  /* (panels of n, NR), or null */
    float *sums;  /* of bf16: (m, nc), or workers x rows of sums_row */
    int64_t sums_row;
};

static int64_t layout(struct plan *p, const struct cpu_gemm *g, void *base) {
    struct scratch s = scratch_open(base);
    int64_t columns = ceil_div(g->n, NR) * NR;
    p->k = PAIRS && g->half ? ceil_div(g->k, 2) : g->k;
    int64_t pieces = imax(1, ceil_div(p->k, KC));
    p->kc = ceil_div(p->k, pieces);
    p->nc = imin(columns, NC);
    if (g->half && pieces > 1)
        p->nc = imin(p->nc, imax(GROUP, SUMS / NR / imax(1, g->m)) * NR);
    /* Below about 0.1 ms of work a second thread costs more than it gives. */
    p->workers = g->m * g->n * g->k < 500000 ? 1 : threads();
    p->thin = g->m <= THIN && g->n >= 4 * GROUP * NR;
    p->a_row = ceil_div(p->thin ? p->k : p->kc, 16) * 16 + A_PAD;
    p->cut = cut_rows(g->m, p->workers, MC, MR);
    p->sums_row = p->thin ? GROUP * NR : pieces > 1 ? p->nc : NR;
    int64_t sums_rows = p->thin ? p->workers * g->m : pieces > 1 ? g->m : p->workers * p->cut.block;
    p->b = scratch_take(&s, (p->thin ? p->workers * GROUP * NR : p->nc) * p->kc * 4);
    p->a = scratch_take(&s, (p->thin ? g->m : p->workers * p->cut.block) * p->a_row * 4);
    p->spare = scratch_take(&s, p->workers * (p->thin ? columns : p->nc) * 4);
    p->zero = scratch_take(&s, p->kc * 4);
    p->bias = g->bias ? scratch_take(&s, columns * 4) : NULL;
    p->sums = g->half ? scratch_take(&s, sums_rows * p->sums_row * 4) : NULL;
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
    for (int64_t k = 0, more; k < len; k += more) {
        const int64_t from = (k0 + k) * g->lda + i0;
        int64_t i = 0;
        more = half || len - k < 4 ? 1 : 4;
        for (; more == 4 && i + 4 <= rows; i += 4)
            transpose4(dst + i * a_row + k, a_row, (const float *)a + from + i, g->lda);
        for (; i < rows; i++)
            for (int64_t j = 0; j < more; j++)
                dst[i * a_row + k + j] = element(a, from + j * g->lda + i, half);
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
    int64_t k = 0;
    for (; k + 4 <= there / 2 && g->ta; k += 4) {
        float four[4][MC];
        for (int64_t j = 0; j < 4; j++) {
            const uint16_t *row = a + 2 * (k0 + k + j) * g->lda + i0;
            zip(four[j], row, row + g->lda, rows);
        }
        int64_t i = 0;
        for (; i + 4 <= rows; i += 4)
            transpose4(dst + i * a_row + k, a_row, four[0] + i, MC);
        for (; i < rows; i++)
            for (int64_t j = 0; j < 4; j++)
                dst[i * a_row + k + j] = four[j][i];
    }
    for (; k < len && g->ta; k++)
        pack_pairs(dst + k, a_row, a + 2 * (k0 + k) * g->lda + i0, 1, g->lda, rows,
                   2 * k + 1 == there);
}

static void pack_b_pairs(float *b, const uint16_t *src, const struct cpu_gemm *g, int64_t at,
                         int64_t n, int64_t k0, int64_t len) {
    int64_t step = g->tb ? g->ldb : 1, next = g->tb ? 1 : g->ldb, k = 0;
    const uint16_t *from = src + at * step + 2 * k0 * next;
    int64_t whole = imin(len, g->k / 2 - k0);
    if (g->tb && g->ldb % 2 == 0 && (uintptr_t)from % 4 == 0) { /* rows of pairs */
        pack_columns(b, (const float *)from, g->ldb / 2, whole, n);
        k = whole;
    }
    for (; k < len; k++) {
        float *to = b + k * NR;
        memset(to, 0, NR * 4);
        if (!g->tb && k < whole)
            zip(to, from + 2 * k * next, from + (2 * k + 1) * next, n);
        else
            pack_pairs(to, 1, from + 2 * k * next, step, next, n, k == whole);
    }
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
static void pack_panel(float *to, const void *b, const struct cpu_gemm *g, int64_t at, int64_t n,
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

/* The panels of n columns from column `at` on. Rows of b are read through all panels: they are far
 * apart, and each would be a page and a line of its own. */
static void pack_b(float *to, const void *b, const struct cpu_gemm *g, int64_t at, int64_t n,
                   int64_t k0, int64_t len) {
    bool pairs = PAIRS && g->half;
    int64_t whole = g->tb || (g->half && !pairs) || (pairs && g->k % 2) ? 0 : n / NR;
    for (int64_t k = 0; k < len && whole > 0; k++)
        for (int64_t q = 0; q < whole; q++) {
            float *p = to + (q * len + k) * NR;
            int64_t from = at + q * NR;
#if PAIRS
            if (pairs) {
                const uint16_t *row = (const uint16_t *)b + 2 * (k0 + k) * g->ldb + from;
                zip(p, row, row + g->ldb, NR);
                continue;
            }
#endif
            const float *row = (const float *)b + (k0 + k) * g->ldb + from;
            vstore(p, vload(row));
            vstore(p + LANES, vload(row + LANES));
        }
    for (int64_t j = whole * NR; j < n; j += NR)
        pack_panel(to + j * len, b, g, at + j, imin(NR, n - j), k0, len);
}

/* A panel of b against rows of a, all padded to whole tiles. */
struct panel {
    const float *b;
    int64_t len;
    const float *const *row;
    float *const *out;
    int64_t padded, at, n; /* rows; n columns of out from `at` on */
    const float *bias;
    bool add;
    bool more; /* another panel follows in memory */
};

static void run_panel(const struct cpu_gemm *g, const struct panel *p) {
    struct tile_sum s = { .b = p->b, .len = p->len, .count = 1 };
    for (int64_t i = 0; i < p->padded; i += MR) {
        s.ahead = p->more ? tile_ahead(p->len * NR, p->padded - i) : 0;
        s.rows = p->row + i;
#if PAIRS
        if (g->half) {
            tile_run_pairs(&s, p->out + i, p->at, p->n, p->add, p->bias);
            continue;
        }
#endif
        tile_run(&s, p->out + i, p->at, p->n, p->add, p->bias);
    }
    (void)g;
}

/* Columns j .. j+n of rows i0 .. i0+rows of c, from the sums in `out` from column `at` on. */
static void round_rows(uint16_t *c, const struct cpu_gemm *g, float *const *out, int64_t at,
                       int64_t i0, int64_t rows, int64_t j, int64_t n) {
    for (int64_t i = 0; i < rows; i++)
        narrow(c + (i0 + i) * g->ldc + j, out[i] + at, n);
}

/* One task: rows i0 .. i0+rows against the panels j0 .. j1 (columns counted inside the piece). */
static void run_block(const struct plan *p, const struct cpu_gemm *g, void *c, const void *a,
                      int worker, int64_t i0, int64_t rows, int64_t n0, int64_t j0, int64_t j1,
                      int64_t k0, int64_t len) {
    const float *row[MC];
    float *out[MC];
    int64_t padded = ceil_div(rows, MR) * MR;
    float *copy = p->a + worker * p->cut.block * p->a_row;
    bool own = p->kc == p->k; /* bf16's sums of one panel */
    /* A copy pays when several panels read it. */
    bool direct = !g->ta && !g->half && j1 - j0 <= 2 * NR;
    if (!direct)
        pack_a(copy, p->a_row, a, g, i0, rows, k0, len);
    for (int64_t i = 0; i < padded; i++) {
        bool in = i < rows;
        row[i] = !in      ? p->zero
                 : direct ? (const float *)a + (i0 + i) * g->lda + k0
                          : copy + i * p->a_row;
        out[i] = !in       ? p->spare + worker * p->nc
                 : g->half ? p->sums + (own ? worker * p->cut.block + i : i0 + i) * p->sums_row
                           : (float *)c + (i0 + i) * g->ldc + n0;
    }
    for (int64_t j = j0; j < j1; j += NR) {
        struct panel q = { .b = p->b + j * len,
                           .len = len,
                           .row = row,
                           .out = out,
                           .padded = padded,
                           .at = g->half && own ? 0 : j,
                           .n = imin(NR, g->n - n0 - j),
                           .bias = p->bias && k0 == 0 ? p->bias + n0 + j : NULL,
                           .add = g->add || k0 > 0,
                           .more = j + NR < j1 };
        run_panel(g, &q);
        if (g->half && k0 + len == p->k)
            round_rows(c, g, out, q.at, i0, rows, n0 + j, q.n);
    }
}

static void run_piece(const struct plan *p, const struct cpu_gemm *g, void *c, const void *a,
                      const void *b, int64_t n0, int64_t cols, int64_t k0, int64_t len) {
    int64_t panels = ceil_div(cols, NR);
    /* Enough tasks to keep every worker busy to the end; the cut of columns changes no bits. */
    int64_t cuts = imin(panels, ceil_div(4 * p->workers, p->cut.tasks));
    if (p->workers == 1)
        cuts = 1;
    int64_t width = ceil_div(panels, cuts) * NR;
    cuts = ceil_div(cols, width);
#pragma omp parallel num_threads(p->workers)
    {
        int worker = omp_get_thread_num();
#pragma omp for schedule(static)
        for (int64_t j = 0; j < cols; j += GROUP * NR)
            pack_b(p->b + j * len, b, g, n0 + j, imin(GROUP * NR, cols - j), k0, len);
#pragma omp for schedule(dynamic) collapse(2)
        for (int64_t i = 0; i < p->cut.tasks; i++)
            for (int64_t q = 0; q < cuts; q++) {
                int64_t at, rows = cut_task(&p->cut, i, &at);
                if (rows > 0 && !interrupted())
                    run_block(p, g, c, a, worker, at, rows, n0, q * width,
                              imin(cols, (q + 1) * width), k0, len);
            }
    }
}

/* With few rows a panel of b serves few tiles: packed with all others it would go through memory
 * twice. Here a is copied whole, and who runs a group of panels packs it, into its own cache. */
static void run_group(const struct plan *p, const struct cpu_gemm *g, void *c, const void *b,
                      int worker, int64_t n0) {
    int64_t padded = ceil_div(g->m, MR) * MR, n = imin(GROUP * NR, g->n - n0);
    float *panels = p->b + worker * GROUP * NR * p->kc;
    const float *row[THIN + MR];
    float *out[THIN + MR];
    for (int64_t i = 0; i < padded; i++)
        out[i] = i >= g->m ? p->spare + worker * ceil_div(g->n, NR) * NR
                 : g->half ? p->sums + (worker * g->m + i) * p->sums_row
                           : (float *)c + i * g->ldc + n0;
    for (int64_t k0 = 0; k0 < p->k; k0 += p->kc) {
        int64_t len = imin(p->kc, p->k - k0);
        for (int64_t i = 0; i < padded; i++)
            row[i] = i < g->m ? p->a + i * p->a_row + k0 : p->zero;
        pack_b(panels, b, g, n0, n, k0, len);
        for (int64_t j = 0; j < n; j += NR) {
            struct panel q = { .b = panels + j * len,
                               .len = len,
                               .row = row,
                               .out = out,
                               .padded = padded,
                               .at = j,
                               .n = imin(NR, n - j),
                               .bias = p->bias && k0 == 0 ? p->bias + n0 + j : NULL,
                               .add = g->add || k0 > 0 };
            run_panel(g, &q);
        }
    }
    if (g->half)
        round_rows(c, g, out, 0, 0, g->m, n0, n);
}

static void run_thin(const struct plan *p, const struct cpu_gemm *g, void *c, const void *a,
                     const void *b) {
#pragma omp parallel num_threads(p->workers)
    {
        int worker = omp_get_thread_num();
#pragma omp for schedule(static)
        for (int64_t i = 0; i < g->m; i += MR)
            pack_a(p->a + i * p->a_row, p->a_row, a, g, i, imin(MR, g->m - i), 0, p->k);
#pragma omp for schedule(dynamic)
        for (int64_t n0 = 0; n0 < g->n; n0 += GROUP * NR)
            if (!interrupted())
                run_group(p, g, c, b, worker, n0);
    }
}

/* k = 0: the bias or zeros. */
static void no_products(const struct plan *p, const struct cpu_gemm *g, void *c) {
    for (int64_t i = 0; i < g->m * g->n && !g->add; i++) {
        float x = p->bias ? p->bias[i % g->n] : 0;
        set_element(c, i / g->n * g->ldc + i % g->n, x, g->half);
    }
}

int K(cpu_gemm)(void *c, const void *a, const void *b, const struct cpu_gemm *g, void *scratch) {
    struct plan p;
    layout(&p, g, scratch);
    for (int64_t j = 0; p.bias && j < g->n; j++)
        p.bias[j] = element(g->bias, j, g->half);
    if (g->k == 0)
        no_products(&p, g, c);
    if (g->m == 0 || g->n == 0 || g->k == 0)
        return CPU_OK;
    memset(p.zero, 0, (size_t)p.kc * 4);
    if (p.thin) {
        run_thin(&p, g, c, a, b);
        return interrupted() ? CPU_INTERRUPTED : CPU_OK;
    }
    for (int64_t n0 = 0; n0 < g->n; n0 += p.nc)
        for (int64_t k0 = 0; k0 < p.k; k0 += p.kc) {
            run_piece(&p, g, c, a, b, n0, imin(p.nc, g->n - n0), k0, imin(p.kc, p.k - k0));
            if (interrupted())
                return CPU_INTERRUPTED;
        }
    return CPU_OK;
}
