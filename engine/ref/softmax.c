/* The definition of softmax, log_softmax and their gradients. */
#include "ref/ref.h"

/* x is (outer, n, inner), rows run along n. */
typedef struct rows {
    int64_t outer, n, inner;
} rows;

static rows rows_of(const call *c) {
    const tensor *x = c->out[0];
    int dim = (int)option(c, "dim");
    if (x->ndim == 0)
        return (rows){ 1, 1, 1 };
    return (rows){ product(dim, x->dim), x->dim[dim],
                   product(x->ndim - dim - 1, x->dim + dim + 1) };
}

/* Runs row(from) for the first element of each row. */
#define EACH_ROW(r, from)                                                                          \
    for (int64_t o_ = 0; o_ < (r).outer; o_++)                                                     \
        for (int64_t from = o_ * (r).n * (r).inner; from < (o_ * (r).n + 1) * (r).inner; from++)

ALWAYS_INLINE double largest(const tensor *x, int t, rows r, int64_t from, int64_t *at) {
    double most = -INFINITY;
    *at = 0;
    for (int64_t j = 0; j < r.n; j++) {
        double v = get(x->data, t, from + j * r.inner);
        if (v > most || v != v)
            most = v, *at = j;
    }
    return most;
}

ALWAYS_INLINE int softmax_any(const call *c, int t, bool logarithm) {
    T x = c->in[0], y = c->out[0];
    rows r = rows_of(c);
    EACH_ROW(r, from) {
        int64_t at;
        double most = largest(x, t, r, from, &at), others = 0;
        for (int64_t j = 0; j < r.n; j++)
            others += j == at ? 0 : exp(get(x->data, t, from + j * r.inner) - most);
        for (int64_t j = 0; j < r.n; j++) {
            int64_t i = from + j * r.inner;
            double v = get(x->data, t, i) - most;
            put(y->data, t, i, logarithm ? v - log1p(others) : exp(v) / (1 + others));
        }
    }
    return VESTIGE_OK;
}
ALWAYS_INLINE int softmax(const call *c, int t) {
    return softmax_any(c, t, false);
}
ALWAYS_INLINE int log_softmax(const call *c, int t) {
    return softmax_any(c, t, true);
}

ALWAYS_INLINE int softmax_backward(const call *c, int t) {
    const void *g = c->in[0]->data, *y = c->in[1]->data;
    rows r = rows_of(c);
    EACH_ROW(r, from) {
        double sum = 0;
        for (int64_t i = from, j = 0; j < r.n; j++, i += r.inner)
            sum += get(g, t, i) * get(y, t, i);
        for (int64_t i = from, j = 0; j < r.n; j++, i += r.inner)
            put(c->out[0]->data, t, i, get(y, t, i) * (get(g, t, i) - sum));
    }
    return VESTIGE_OK;
}

/* Where e^y is near 1, g - e^y sum = (g - sum) - (e^y - 1) sum keeps the digits of 1 - e^y. */
ALWAYS_INLINE int log_softmax_backward(const call *c, int t) {
    const void *g = c->in[0]->data, *y = c->in[1]->data;
    rows r = rows_of(c);
    EACH_ROW(r, from) {
        double sum = 0;
        for (int64_t i = from, j = 0; j < r.n; j++, i += r.inner)
            sum += get(g, t, i);
        for (int64_t i = from, j = 0; j < r.n; j++, i += r.inner) {
            double gi = get(g, t, i), yi = get(y, t, i);
            put(c->out[0]->data, t, i,
                yi > -0.5 ? (gi - sum) - expm1(yi) * sum : gi - exp(yi) * sum);
        }
    }
    return VESTIGE_OK;
}

REF_FLOAT(softmax)
REF_FLOAT(log_softmax)
REF_FLOAT(softmax_backward)
REF_FLOAT(log_softmax_backward)

const kernel_row ref_softmax[] = {
    ROWS_FLOAT("softmax", softmax),
    ROWS_FLOAT("log_softmax", log_softmax),
    ROWS_FLOAT("softmax_backward", softmax_backward),
    ROWS_FLOAT("log_softmax_backward", log_softmax_backward),
    { 0 },
};
