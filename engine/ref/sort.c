/* The definition of orders, choices and running sums: x is (outer, n, inner), and each row of n
 * elements stands alone. */
#include "ref/ref.h"

typedef struct rows {
    int64_t outer, n, inner;
} rows;

static rows rows_of(const tensor *x, double dim) {
    if (isnan(dim) || x->ndim == 0)
        return (rows){ 1, x->numel, 1 };
    int d = (int)dim;
    return (rows){ product(d, x->dim), x->dim[d], product(x->ndim - d - 1, x->dim + d + 1) };
}

/* Does element i stand before element j? In descending order NaN comes first. */
ALWAYS_INLINE bool before(const tensor *x, int t, int64_t i, int64_t j, bool descending) {
    if (is_float(t)) {
        double a = get(x->data, t, descending ? j : i), b = get(x->data, t, descending ? i : j);
        return a < b || (b != b && a == a);
    }
    int64_t a = get_int(x->data, t, i), b = get_int(x->data, t, j);
    return descending ? a > b : a < b;
}

/* order (n) = the places of the row's elements in sorted order: merging runs that double. */
ALWAYS_INLINE void sort_row(const tensor *x, int t, int64_t at, int64_t step, int64_t n,
                            bool descending, int64_t *order, int64_t *other) {
    for (int64_t i = 0; i < n; i++)
        order[i] = i;
    for (int64_t run = 1; run < n; run *= 2) {
        for (int64_t from = 0; from < n; from += 2 * run) {
            int64_t a = from, b = from + run < n ? from + run : n;
            int64_t a_end = b, b_end = from + 2 * run < n ? from + 2 * run : n;
            for (int64_t k = from; k < b_end; k++) {
                bool second = a == a_end || (b < b_end && before(x, t, at + order[b] * step,
                                                                 at + order[a] * step, descending));
                other[k] = second ? order[b++] : order[a++];
            }
        }
        memcpy(order, other, (size_t)n * sizeof *order);
    }
}

/* Places first .. first + keep - 1 of the sorted rows. */
ALWAYS_INLINE int sorted_part(const call *c, int t, bool descending, int64_t first, int64_t keep) {
    T x = c->in[0], y = c->out[0];
    int64_t *index = (int64_t *)c->out[1]->data, size = dtype_size(t);
    rows r = rows_of(x, option(c, "dim"));
    void *p;
    TRY(alloc_scratch(&p, r.n * 16));
    int64_t *order = p;
    for (int64_t o = 0; o < r.outer; o++)
        for (int64_t i = 0; i < r.inner; i++) {
            int64_t from = o * r.n * r.inner + i, to = o * keep * r.inner + i;
            sort_row(x, t, from, r.inner, r.n, descending, order, order + r.n);
            for (int64_t k = 0; k < keep; k++) {
                int64_t place = order[first + k];
                memcpy(y->data + (to + k * r.inner) * size,
                       x->data + (from + place * r.inner) * size, (size_t)size);
                index[to + k * r.inner] = place;
            }
        }
    free_scratch(p, r.n * 16);
    return VESTIGE_OK;
}

ALWAYS_INLINE int sort(const call *c, int t) {
    return sorted_part(c, t, option(c, "descending") != 0, 0,
                       rows_of(c->in[0], option(c, "dim")).n);
}
ALWAYS_INLINE int topk(const call *c, int t) {
    return sorted_part(c, t, option(c, "largest") != 0, 0, (int64_t)option(c, "k"));
}
ALWAYS_INLINE int kthvalue(const call *c, int t) {
    return sorted_part(c, t, false, (int64_t)option(c, "k") - 1, 1);
}
REF_ALL(sort)
REF_ALL(topk)
REF_ALL(kthvalue)

ALWAYS_INLINE int choose(const call *c, int t, bool largest) {
    T x = c->in[0];
    int64_t *y = (int64_t *)c->out[0]->data;
    rows r = rows_of(x, option(c, "dim"));
    for (int64_t o = 0; o < r.outer; o++)
        for (int64_t i = 0; i < r.inner; i++) {
            int64_t from = o * r.n * r.inner + i, best = 0;
            for (int64_t k = 1; k < r.n; k++) {
                int64_t p = from + best * r.inner, q = from + k * r.inner;
                double b = is_float(t) ? get(x->data, t, p) : 0;
                if (b != b)
                    break; /* the first NaN wins */
                double v = is_float(t) ? get(x->data, t, q) : 0;
                if (v != v || before(x, t, q, p, largest))
                    best = k;
            }
            y[o * r.inner + i] = best;
        }
    return VESTIGE_OK;
}
ALWAYS_INLINE int argmax(const call *c, int t) {
    return choose(c, t, true);
}
ALWAYS_INLINE int argmin(const call *c, int t) {
    return choose(c, t, false);
}
REF_ALL(argmax)
REF_ALL(argmin)

/* Does element i of the sequence stand before value j, or with `right` not behind it? NaN is the
 * largest. */
ALWAYS_INLINE bool below(const tensor *s, const tensor *v, int t, int64_t i, int64_t j,
                         bool right) {
    if (!is_float(t)) {
        int64_t a = get_int(s->data, t, i), b = get_int(v->data, t, j);
        return right ? a <= b : a < b;
    }
    double a = get(s->data, t, i), b = get(v->data, t, j);
    if (b != b)
        return right || a == a;
    return right ? a <= b : a < b;
}

ALWAYS_INLINE int searchsorted(const call *c, int t) {
    T s = c->in[0], v = c->in[1];
    bool right = option(c, "right") != 0;
    int64_t n = s->dim[s->ndim - 1], per_row = s->ndim > 1 ? v->dim[v->ndim - 1] : 0;
    for (int64_t j = 0; j < v->numel; j++) {
        int64_t row = per_row ? j / per_row * n : 0, low = 0, high = n;
        while (low < high) {
            int64_t middle = (low + high) / 2;
            if (below(s, v, t, row + middle, j, right))
                low = middle + 1;
            else
                high = middle;
        }
        ((int64_t *)c->out[0]->data)[j] = low;
    }
    return VESTIGE_OK;
}
REF_ALL(searchsorted)

ALWAYS_INLINE int cumsum(const call *c, int t) {
    T x = c->in[0], y = c->out[0];
    bool reverse = option(c, "reverse") != 0;
    rows r = rows_of(x, option(c, "dim"));
    for (int64_t o = 0; o < r.outer; o++)
        for (int64_t i = 0; i < r.inner; i++) {
            double sum = 0;
            int64_t whole_sum = 0;
            for (int64_t k = 0; k < r.n; k++) {
                int64_t at = (o * r.n + (reverse ? r.n - 1 - k : k)) * r.inner + i;
                if (is_float(t)) {
                    sum += get(x->data, t, at);
                    put(y->data, t, at, sum);
                } else {
                    whole_sum += get_int(x->data, t, at);
                    put_int(y->data, t, at, whole_sum);
                }
            }
        }
    return VESTIGE_OK;
}
REF_FLOAT(cumsum)
REF_FN(cumsum, i64, VESTIGE_I64)

const kernel_row ref_sort[] = {
    ROWS_ALL("sort", sort),
    ROWS_ALL("topk", topk),
    ROWS_ALL("kthvalue", kthvalue),
    ROWS_ALL("argmax", argmax),
    ROWS_ALL("argmin", argmin),
    ROWS_ALL("searchsorted", searchsorted),
    ROWS_FLOAT("cumsum", cumsum),
    { "cumsum", VESTIGE_I64, cumsum_i64 },
    { 0 },
};
