/* The definition of products, solving, factoring. */
#include "ops/product.h"
#include "ref/ref.h"

/* y (m,n) = op(a) op(b) + bias (n), sums in double. */
ALWAYS_INLINE void multiply(const matrix_product *p, int t, const call *c, int64_t y0, int64_t a0,
                            int64_t b0, const tensor *bias) {
    const void *a = c->in[0]->data, *b = c->in[1]->data;
    void *y = c->out[0]->data;
    for (int64_t i = 0; i < p->m; i++)
        for (int64_t j = 0; j < p->n; j++) {
            double sum = bias ? get(bias->data, t, j) : 0;
            int64_t whole_sum = 0;
            for (int64_t k = 0; k < p->k; k++) {
                int64_t ia = a0 + (p->ta ? k * p->m + i : i * p->k + k);
                int64_t ib = b0 + (p->tb ? j * p->k + k : k * p->n + j);
                if (is_float(t))
                    sum += get(a, t, ia) * get(b, t, ib);
                else
                    whole_sum = (int64_t)((uint64_t)whole_sum + (uint64_t)get_int(a, t, ia) *
                                                                    (uint64_t)get_int(b, t, ib));
            }
            if (is_float(t))
                put(y, t, y0 + i * p->n + j, sum);
            else
                put_int(y, t, y0 + i * p->n + j, whole_sum);
        }
}

ALWAYS_INLINE int matmul(const call *c, int t) {
    matrix_product p;
    TRY(matmul_product(c, &p));
    for (int64_t i = 0; i < p.batch.count; i++) {
        int64_t a, b;
        batch_at(&p.batch, i, &a, &b);
        multiply(&p, t, c, i * p.m * p.n, a, b, NULL);
    }
    return VESTIGE_OK;
}
REF_FLOAT(matmul)
REF_INT(matmul)

ALWAYS_INLINE int linear(const call *c, int t) {
    matrix_product p;
    linear_product(c, &p);
    multiply(&p, t, c, 0, 0, 0, c->in[2]);
    return VESTIGE_OK;
}
REF_FLOAT(linear)

/* ---- linalg_solve: elimination with partial pivoting ---- */
/* m (n,n) becomes its factors, row[i] the row of the right side that goes with row i. False when m
 * is singular. */
static bool factor(double *m, int64_t *row, int64_t n) {
    for (int64_t i = 0; i < n; i++)
        row[i] = i;
    for (int64_t k = 0; k < n; k++) {
        int64_t best = k;
        for (int64_t i = k + 1; i < n; i++)
            if (fabs(m[i * n + k]) > fabs(m[best * n + k]))
                best = i;
        if (m[best * n + k] == 0)
            return false;
        for (int64_t j = 0; best != k && j < n; j++) {
            double s = m[k * n + j];
            m[k * n + j] = m[best * n + j];
            m[best * n + j] = s;
        }
        int64_t r = row[k];
        row[k] = row[best];
        row[best] = r;
        for (int64_t i = k + 1; i < n; i++) {
            double f = m[i * n + k] /= m[k * n + k];
            for (int64_t j = k + 1; j < n; j++)
                m[i * n + j] -= f * m[k * n + j];
        }
    }
    return true;
}

/* x: the right side in the order of the factors' rows, then the solution. */
static void substitute(const double *m, double *x, int64_t n) {
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < i; j++)
            x[i] -= m[i * n + j] * x[j];
    for (int64_t i = n - 1; i >= 0; i--) {
        for (int64_t j = i + 1; j < n; j++)
            x[i] -= m[i * n + j] * x[j];
        x[i] /= m[i * n + i];
    }
}

/* y op(a) = b is op(a)' y' = b'. */
ALWAYS_INLINE bool solve_one(const call *c, int t, const matrix_system *s, int64_t q, double *m,
                             double *x, int64_t *row) {
    int64_t n = s->n, a0, b0, y0 = q * n * s->k;
    batch_at(&s->batch, q, &a0, &b0);
    bool flip = s->ta == s->left;
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < n; j++)
            m[i * n + j] = get(c->in[0]->data, t, a0 + (flip ? j * n + i : i * n + j));
    if (!factor(m, row, n))
        return false;
    int64_t down = s->left ? s->k : 1, across = s->left ? 1 : n;
    for (int64_t j = 0; j < s->k; j++) {
        for (int64_t i = 0; i < n; i++)
            x[i] = get(c->in[1]->data, t, b0 + row[i] * down + j * across);
        substitute(m, x, n);
        for (int64_t i = 0; i < n; i++)
            put(c->out[0]->data, t, y0 + i * down + j * across, x[i]);
    }
    return true;
}

ALWAYS_INLINE int solve(const call *c, int t) {
    matrix_system s;
    TRY(solve_system(c, &s));
    void *p, *row;
    int64_t bytes = (s.n * s.n + s.n) * 8, bad = -1;
    TRY(alloc_scratch(&p, bytes));
    if (alloc_scratch(&row, s.n * 8) < 0) {
        free_scratch(p, bytes);
        return error_pending();
    }
    double *m = p, *x = m + s.n * s.n;
    for (int64_t q = 0; q < s.batch.count && bad < 0; q++)
        if (!solve_one(c, t, &s, q, m, x, row))
            bad = q;
    free_scratch(row, s.n * 8);
    free_scratch(p, bytes);
    return bad < 0 ? VESTIGE_OK : fail_singular(bad);
}
REF_FN(solve, f32, VESTIGE_F32)
REF_FN(solve, f64, VESTIGE_F64)

/* ---- linalg_cholesky, row by row ---- */
ALWAYS_INLINE bool cholesky_one(const call *c, int t, int64_t at, int64_t n, bool upper,
                                double *l) {
    const void *a = c->in[0]->data;
    void *y = c->out[0]->data;
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j <= i; j++) {
            double s = (get(a, t, at + i * n + j) + get(a, t, at + j * n + i)) / 2;
            for (int64_t k = 0; k < j; k++)
                s -= l[i * n + k] * l[j * n + k];
            if (i == j && !(s > 0))
                return false;
            l[i * n + j] = i == j ? sqrt(s) : s / l[j * n + j];
        }
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < n; j++) {
            int64_t row = upper ? j : i, column = upper ? i : j;
            put(y, t, at + i * n + j, column <= row ? l[row * n + column] : 0);
        }
    return true;
}

ALWAYS_INLINE int cholesky(const call *c, int t) {
    const tensor *a = c->in[0];
    int64_t n = a->dim[a->ndim - 1], bad = -1;
    bool upper = option(c, "upper") != 0;
    void *l;
    TRY(alloc_scratch(&l, n * n * 8));
    for (int64_t at = 0; at < a->numel && bad < 0; at += n * n)
        if (!cholesky_one(c, t, at, n, upper, l))
            bad = at / (n * n);
    free_scratch(l, n * n * 8);
    return bad < 0 ? VESTIGE_OK : fail_indefinite(bad);
}
REF_FN(cholesky, f32, VESTIGE_F32)
REF_FN(cholesky, f64, VESTIGE_F64)

ALWAYS_INLINE int mirror(const call *c, int t) {
    const tensor *x = c->in[0];
    int64_t n = x->dim[x->ndim - 1];
    bool adjoint = option(c, "adjoint") != 0;
    for (int64_t at = 0; at < x->numel; at++) {
        int64_t i = at / n % n, j = at % n, other = at - i * n - j + j * n + i;
        double s;
        if (!adjoint)
            s = get(x->data, t, i >= j ? at : other) / 2;
        else if (i == j)
            s = get(x->data, t, at) / 2;
        else
            s = i > j ? (get(x->data, t, at) + get(x->data, t, other)) / 2 : 0;
        put(c->out[0]->data, t, at, s);
    }
    return VESTIGE_OK;
}
REF_FLOAT(mirror)

const kernel_row ref_linalg[] = {
    ROWS_FLOAT("matmul", matmul),
    ROWS_INT("matmul", matmul),
    ROWS_FLOAT("linear", linear),
    { "linalg_solve", VESTIGE_F32, solve_f32 },
    { "linalg_solve", VESTIGE_F64, solve_f64 },
    { "linalg_cholesky", VESTIGE_F32, cholesky_f32 },
    { "linalg_cholesky", VESTIGE_F64, cholesky_f64 },
    ROWS_FLOAT("mirror_lower", mirror),
    { 0 },
};
