/* arith.c: add, sub, mul, div in f32. A result is cut into rows along which each operand either
 * runs on or stands still; the compiler makes vectors of the row loops. */
#include "cpu/isa.h"
#include "ops/cursor.h"
#include "ops/row.h"


enum { PARALLEL = 1 << 16 }; /* elements from which a second thread pays */

/* y (n) = a (n or 1) op b (n or 1) */
#define ROW(name, op)                                                                              \
    static void name##_row(float *y, const float *a, const float *b, int64_t n, bool one_a,        \
                           bool one_b) {                                                           \
        if (one_a) {                                                                               \
            float x = *a;                                                                          \
            for (int64_t i = 0; i < n; i++)                                                        \
                y[i] = x op b[i];                                                                  \
        } else if (one_b) {                                                                        \
            float x = *b;                                                                          \
            for (int64_t i = 0; i < n; i++)                                                        \
                y[i] = a[i] op x;                                                                  \
        } else {                                                                                   \
            for (int64_t i = 0; i < n; i++)                                                        \
                y[i] = a[i] op b[i];                                                               \
        }                                                                                          \
    }
ROW(add, +)
ROW(sub, -)
ROW(mul, *)
ROW(divide, /)

typedef void (*row_fn)(float *, const float *, const float *, int64_t, bool, bool);

static bool same_shape(const tensor *a, const tensor *y) {
    return a->ndim == y->ndim && memcmp(a->dim, y->dim, sizeof *a->dim * a->ndim) == 0;
}

/* The whole result is one row: each operand has its shape or is one element. */
static void flat(row_fn row, float *y, const float *a, const float *b, int64_t n, bool one_a,
                 bool one_b) {
    if (n < PARALLEL) {
        row(y, a, b, n, one_a, one_b);
        return;
    }
    int parts = threads();
#pragma omp parallel for num_threads(parts)
    for (int t = 0; t < parts; t++) {
        int64_t from = n * t / parts, to = n * (t + 1) / parts;
        row(y + from, one_a ? a : a + from, one_b ? b : b + from, to - from, one_a, one_b);
    }
}

static int binary(const call *c, row_fn row) {
    const T y = c->out[0];
    float number[2];
    const float *at[2];
    bool one[2], fits = true;
    for (int j = 0; j < 2; j++) {
        const T x = c->in[j];
        if (!x)
            number[j] = (float)c->num[j];
        at[j] = x ? (const float *)x->data : &number[j];
        one[j] = !x || x->numel == 1;
        fits &= one[j] || same_shape(x, y);
    }
    if (fits) {
        if (one[0] && one[1]) /* y is one element as well */
            one[1] = false;
        flat(row, (float *)y->data, at[0], at[1], y->numel, one[0], one[1]);
        return VESTIGE_OK;
    }
    int64_t n = y->dim[y->ndim - 1];
    bool inner[2];
    for (int j = 0; j < 2; j++)
        inner[j] = one[j] || c->in[j]->dim[c->in[j]->ndim - 1] == 1;
    if (n == 0 || (inner[0] && inner[1]))
        return DECLINED;
    /* A cursor over the rows: the last dimension is one step. */
    cursor k;
    int64_t dim[VESTIGE_MAXDIM];
    memcpy(dim, y->dim, sizeof dim);
    dim[y->ndim - 1] = 1;
    cursor_start(&k, y->ndim, dim, 2, c->in);
    for (; k.left; cursor_next(&k))
        row((float *)y->data + k.i * n, at[0] + k.at[0], at[1] + k.at[1], n, inner[0], inner[1]);
    return VESTIGE_OK;
}

static int add(const call *c) {
    return binary(c, add_row);
}
static int sub(const call *c) {
    return binary(c, sub_row);
}
static int mul(const call *c) {
    return binary(c, mul_row);
}
static int divide(const call *c) {
    return binary(c, divide_row);
}

const kernel_row K(cpu_arith)[] = { { "add", VESTIGE_F32, add },
                                    { "sub", VESTIGE_F32, sub },
                                    { "mul", VESTIGE_F32, mul },
                                    { "div", VESTIGE_F32, divide },
                                    { 0 } };
