/* rows.c: matmul, linear, linalg_solve and linalg_cholesky in f64, by OpenBLAS.
 *
 * Products are cut in tiles by their sizes alone and threads share out tiles, each of which BLAS
 * runs on one thread: the same bits whatever the number of threads. */
#include <limits.h>
#include "blas/blas.h"
#include "blas/conv.h"
#include "ops/product.h"

enum { ROWS = 128, COLUMNS = 512, PARALLEL = 200000 };

static bool fits(int64_t n) {
    return n < INT_MAX;
}

static int64_t cuts(int64_t n, int64_t piece) {
    return (n + piece - 1) / piece;
}

static int64_t least(int64_t a, int64_t b) {
    return a < b ? a : b;
}

static int products(const call *c, const matrix_product *p, bool add) {
    if (!blas_ready() || !fits(p->k) || !fits(p->n) || (p->ta && !fits(p->m)))
        return DECLINED;
    int64_t down = cuts(p->m, ROWS), across = cuts(p->n, COLUMNS);
    int64_t tiles = p->batch.count * down * across;
    int workers = p->m * p->n * p->k * p->batch.count < PARALLEL ? 1 : blas_threads();
    double *y = (double *)c->out[0]->data;
    const double *a = (const double *)c->in[0]->data, *b = (const double *)c->in[1]->data;
#pragma omp parallel for num_threads(workers) schedule(dynamic)
    for (int64_t q = 0; q < tiles; q++) {
        if (interrupted())
            continue;
        int64_t pair = q / (down * across), i = q / across % down * ROWS, j = q % across * COLUMNS;
        int64_t a0, b0;
        batch_at(&p->batch, pair, &a0, &b0);
        blas_product t = { .m = least(ROWS, p->m - i),
                           .n = least(COLUMNS, p->n - j),
                           .k = p->k,
                           .lda = p->ta ? p->m : p->k,
                           .ldb = p->tb ? p->k : p->n,
                           .ldc = p->n,
                           .ta = p->ta,
                           .tb = p->tb,
                           .add = add };
        blas_dgemm(y + (pair * p->m + i) * p->n + j, a + a0 + (p->ta ? i : i * p->k),
                   b + b0 + (p->tb ? j * p->k : j), &t);
    }
    return interrupted() ? fail(VESTIGE_EINTERRUPTED, "interrupted") : VESTIGE_OK;
}

static int matmul(const call *c) {
    matrix_product p;
    TRY(matmul_product(c, &p));
    return products(c, &p, false);
}

static int linear(const call *c) {
    matrix_product p;
    linear_product(c, &p);
    if (!blas_ready() || !fits(p.k) || !fits(p.n))
        return DECLINED;
    if (c->in[2])
        for (int64_t i = 0; i < p.m; i++)
            memcpy((double *)c->out[0]->data + i * p.n, c->in[2]->data, (size_t)p.n * 8);
    return products(c, &p, c->in[2] != NULL);
}

/* ---- linalg_solve ---- */
/* to (columns,rows) = the transpose of from (rows,columns) */
static void transpose(double *to, const double *from, int64_t rows, int64_t columns) {
    for (int64_t j = 0; j < columns; j++)
        for (int64_t i = 0; i < rows; i++)
            to[j * rows + i] = from[i * columns + j];
}

/* y op(a) = b is op(a)' y' = b', and the rows of y are what LAPACK solves for. */
static bool solve_one(const call *c, const matrix_system *s, int64_t q, double *m, double *x,
                      int32_t *pivot) {
    int64_t a0, b0, n = s->n, size = n * s->k;
    batch_at(&s->batch, q, &a0, &b0);
    const double *b = (const double *)c->in[1]->data + b0;
    double *y = (double *)c->out[0]->data + q * size;
    memcpy(m, (const double *)c->in[0]->data + a0, (size_t)(n * n) * 8);
    bool turned = s->left && s->k > 1;
    if (turned)
        transpose(x, b, n, s->k);
    else
        memcpy(x = y, b, (size_t)size * 8);
    if (!blas_solve(x, m, pivot, n, s->k, s->ta == s->left))
        return false;
    if (turned)
        transpose(y, x, s->k, n);
    return true;
}

static int solve(const call *c) {
    matrix_system s;
    TRY(solve_system(c, &s));
    if (!blas_ready() || !fits(s.n) || !fits(s.k))
        return DECLINED;
    void *p, *pivot;
    int64_t bytes = (s.n * s.n + s.n * s.k) * 8, bad = -1;
    TRY(alloc_scratch(&p, bytes));
    if (alloc_scratch(&pivot, s.n * 4) < 0) {
        free_scratch(p, bytes);
        return error_pending();
    }
    double *m = p, *x = m + s.n * s.n;
    for (int64_t q = 0; q < s.batch.count && bad < 0 && !interrupted(); q++)
        if (!solve_one(c, &s, q, m, x, pivot))
            bad = q;
    free_scratch(pivot, s.n * 4);
    free_scratch(p, bytes);
    if (interrupted())
        return fail(VESTIGE_EINTERRUPTED, "interrupted");
    return bad < 0 ? VESTIGE_OK : fail_singular(bad);
}

/* ---- linalg_cholesky ---- */
static int cholesky(const call *c) {
    const tensor *a = c->in[0];
    int64_t n = a->dim[a->ndim - 1];
    bool upper = option(c, "upper") != 0;
    if (!blas_ready() || !fits(n))
        return DECLINED;
    for (int64_t at = 0; at < a->numel && !interrupted(); at += n * n) {
        const double *x = (const double *)a->data + at;
        double *y = (double *)c->out[0]->data + at;
        for (int64_t i = 0; i < n; i++)
            for (int64_t j = 0; j < n; j++) {
                bool kept = upper ? j >= i : j <= i;
                y[i * n + j] = kept ? (x[i * n + j] + x[j * n + i]) / 2 : 0;
            }
        if (!blas_cholesky(y, n, upper))
            return fail_indefinite(at / (n * n));
    }
    return interrupted() ? fail(VESTIGE_EINTERRUPTED, "interrupted") : VESTIGE_OK;
}

const kernel_row blas_rows[] = {
    { "matmul", VESTIGE_F64, matmul },
    { "linear", VESTIGE_F64, linear },
    { "linalg_solve", VESTIGE_F64, solve },
    { "linalg_cholesky", VESTIGE_F64, cholesky },
    { "conv2d", VESTIGE_F64, blas_conv },
    { "conv2d_input", VESTIGE_F64, blas_conv_input },
    { "conv2d_add_", VESTIGE_F64, blas_conv_add },
    { "conv2d_input_add_", VESTIGE_F64, blas_conv_input_add },
    { "conv2d_weight", VESTIGE_F64, blas_conv_weight },
    { "conv_transpose2d", VESTIGE_F64, blas_conv_input },
    { 0 },
};
