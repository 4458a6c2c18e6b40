/* The definition of reductions: one pass over the input in its order, in double. */
#include "ref/ref.h"

/* A cursor over x whose place in operand 0 is the output element that x's element goes to. */
static void start(const call *c, cursor *k, const char *dims_name) {
    const tensor *x = c->in[0];
    const vestige_param *p = &op_table[c->op].public.options[0];
    const double *dims = NULL;
    int n = -1;
    double one;
    if (dims_name) {
        n = list_option(c, dims_name, &dims);
    } else { /* a single dimension */
        one = c->opt[p->slot];
        dims = &one;
        n = 1;
    }
    cursor_start(k, x->ndim, x->dim, 1, (T[]){ NULL });
    int64_t step = 1;
    for (int d = x->ndim - 1; d >= 0; d--) {
        bool reduced = n <= 0;
        for (int i = 0; i < n; i++)
            reduced |= (int)dims[i] == d;
        k->stride[0][d] = reduced ? 0 : step;
        if (!reduced)
            step *= x->dim[d];
    }
}

/* An accumulator of `each` doubles for every output element. */
typedef struct scratch {
    double *at;
    int64_t bytes;
} scratch;

static int scratch_new(scratch *s, const call *c, int each) {
    s->bytes = c->out[0]->numel * 8 * each;
    void *p;
    TRY(alloc_scratch(&p, s->bytes));
    memset(p, 0, (size_t)s->bytes);
    s->at = p;
    return VESTIGE_OK;
}

#define FOLD(name, first, step, last)                                                              \
    ALWAYS_INLINE int name(const call *c, int t) {                                                 \
        T x0 = c->in[0], y = c->out[0];                                                            \
        scratch s;                                                                                 \
        TRY(scratch_new(&s, c, 1));                                                                \
        for (int64_t i = 0; i < y->numel; i++)                                                     \
            s.at[i] = first;                                                                       \
        cursor k;                                                                                  \
        double n = y->numel ? (double)(x0->numel / y->numel) : 0;                                  \
        (void)n;                                                                                   \
        for (start(c, &k, "dim"); k.left; cursor_next(&k)) {                                       \
            double x = get(x0->data, t, k.i), a = s.at[k.at[0]];                                   \
            s.at[k.at[0]] = step;                                                                  \
        }                                                                                          \
        for (int64_t i = 0; i < y->numel; i++) {                                                   \
            double a = s.at[i];                                                                    \
            put(y->data, y->dtype, i, last);                                                       \
        }                                                                                          \
        free_scratch(s.at, s.bytes);                                                               \
        return VESTIGE_OK;                                                                         \
    }

FOLD(sum_float, 0, a + x, a)
FOLD(mean, 0, a + x, a / n)
FOLD(amax, -INFINITY, x > a || x != x ? x : a, a)
FOLD(amin, INFINITY, x < a || x != x ? x : a, a)
FOLD(any, 0, x != 0 ? 1 : a, a)
FOLD(all, 1, x == 0 ? 0 : a, a)
FOLD(norm1, 0, a + fabs(x), a)
FOLD(norm_inf, 0, fabs(x) > a || x != x ? fabs(x) : a, a)

/* The 2-norm with a scale, so that squares neither overflow nor vanish. */
ALWAYS_INLINE int norm2(const call *c, int t) {
    T x = c->in[0], y = c->out[0];
    scratch s;
    TRY(scratch_new(&s, c, 2));
    double *scale = s.at, *sum = s.at + y->numel;
    cursor k;
    for (start(c, &k, "dim"); k.left; cursor_next(&k)) {
        double a = fabs(get(x->data, t, k.i));
        if (a > scale[k.at[0]] || a != a)
            scale[k.at[0]] = a;
    }
    for (start(c, &k, "dim"); k.left; cursor_next(&k)) {
        double m = scale[k.at[0]], q = m > 0 && m < INFINITY ? get(x->data, t, k.i) / m : 0;
        sum[k.at[0]] += q * q;
    }
    for (int64_t i = 0; i < y->numel; i++)
        put(y->data, t, i,
            scale[i] > 0 && scale[i] < INFINITY ? scale[i] * sqrt(sum[i]) : scale[i]);
    free_scratch(s.at, s.bytes);
    return VESTIGE_OK;
}

ALWAYS_INLINE int norm(const call *c, int t) {
    double p = option(c, "ord");
    return p == 1 ? norm1(c, t) : p == 2 ? norm2(c, t) : norm_inf(c, t);
}

static int sum_i64(const call *c) {
    T x = c->in[0], y = c->out[0];
    int64_t *total = (int64_t *)y->data;
    memset(total, 0, (size_t)y->numel * 8);
    cursor k;
    for (start(c, &k, "dim"); k.left; cursor_next(&k))
        total[k.at[0]] += ((int64_t *)x->data)[k.i];
    return VESTIGE_OK;
}

/* Integers keep their digits. */
ALWAYS_INLINE int extreme_int(const call *c, int t, bool largest) {
    T x = c->in[0], y = c->out[0];
    for (int64_t i = 0; i < y->numel; i++)
        put_int(y->data, t, i,
                largest ? (t == VESTIGE_I64   ? INT64_MIN
                           : t == VESTIGE_I32 ? INT32_MIN
                                              : 0)
                        : (t == VESTIGE_I64   ? INT64_MAX
                           : t == VESTIGE_I32 ? INT32_MAX
                                              : 255));
    cursor k;
    for (start(c, &k, "dim"); k.left; cursor_next(&k)) {
        int64_t v = get_int(x->data, t, k.i), a = get_int(y->data, t, k.at[0]);
        if (largest ? v > a : v < a)
            put_int(y->data, t, k.at[0], v);
    }
    return VESTIGE_OK;
}
ALWAYS_INLINE int amax_int(const call *c, int t) {
    return extreme_int(c, t, true);
}
ALWAYS_INLINE int amin_int(const call *c, int t) {
    return extreme_int(c, t, false);
}

/* Two passes: the mean, then the squared distances. std takes the root. */
ALWAYS_INLINE int spread(const call *c, int t, bool root) {
    T x = c->in[0], y = c->out[0];
    scratch s;
    TRY(scratch_new(&s, c, 2));
    double *mean_at = s.at, *sum = s.at + y->numel;
    double n = y->numel ? (double)(x->numel / y->numel) : 0, by = n - option(c, "correction");
    cursor k;
    for (start(c, &k, "dim"); k.left; cursor_next(&k))
        mean_at[k.at[0]] += get(x->data, t, k.i) / n;
    for (start(c, &k, "dim"); k.left; cursor_next(&k)) {
        double d = get(x->data, t, k.i) - mean_at[k.at[0]];
        sum[k.at[0]] += d * d;
    }
    for (int64_t i = 0; i < y->numel; i++) {
        double v = sum[i] / (by > 0 ? by : 0);
        put(y->data, t, i, root ? sqrt(v) : v);
    }
    free_scratch(s.at, s.bytes);
    return VESTIGE_OK;
}
ALWAYS_INLINE int var(const call *c, int t) {
    return spread(c, t, false);
}
ALWAYS_INLINE int std(const call *c, int t) {
    return spread(c, t, true);
}

ALWAYS_INLINE int logsumexp(const call *c, int t) {
    T x = c->in[0], y = c->out[0];
    scratch s;
    TRY(scratch_new(&s, c, 2));
    double *top = s.at, *sum = s.at + y->numel;
    for (int64_t i = 0; i < y->numel; i++)
        top[i] = -INFINITY;
    cursor k;
    for (start(c, &k, "dim"); k.left; cursor_next(&k)) {
        double v = get(x->data, t, k.i);
        if (v > top[k.at[0]] || v != v)
            top[k.at[0]] = v;
    }
    for (start(c, &k, "dim"); k.left; cursor_next(&k)) {
        double m = top[k.at[0]];
        sum[k.at[0]] += isinf(m) ? 0 : exp(get(x->data, t, k.i) - m);
    }
    for (int64_t i = 0; i < y->numel; i++)
        put(y->data, t, i, isinf(top[i]) ? top[i] : top[i] + log(sum[i]));
    free_scratch(s.at, s.bytes);
    return VESTIGE_OK;
}

/* Of equal ones the first; NaN beats all, as in PyTorch. */
ALWAYS_INLINE int choose(const call *c, int t, bool largest) {
    T x = c->in[0], y = c->out[0];
    int64_t *index = (int64_t *)c->out[1]->data, *seen;
    void *p;
    TRY(alloc_scratch(&p, y->numel * 8));
    seen = p;
    memset(seen, 0, (size_t)y->numel * 8);
    cursor k;
    for (start(c, &k, NULL); k.left; cursor_next(&k)) {
        int64_t at = k.at[0], turn = seen[at]++;
        bool better;
        if (is_float(t)) {
            double v = get(x->data, t, k.i), a = turn ? get(y->data, t, at) : 0;
            better = a == a && (v != v || (largest ? v > a : v < a));
        } else {
            int64_t v = get_int(x->data, t, k.i), a = turn ? get_int(y->data, t, at) : 0;
            better = largest ? v > a : v < a;
        }
        if (!turn || better) {
            memcpy(y->data + at * dtype_size(t), x->data + k.i * dtype_size(t),
                   (size_t)dtype_size(t));
            index[at] = turn;
        }
    }
    free_scratch(p, y->numel * 8);
    return VESTIGE_OK;
}
ALWAYS_INLINE int max_dim(const call *c, int t) {
    return choose(c, t, true);
}
ALWAYS_INLINE int min_dim(const call *c, int t) {
    return choose(c, t, false);
}

REF_FLOAT(sum_float)
REF_FLOAT(mean)
REF_FLOAT(var)
REF_FLOAT(std)
REF_FLOAT(amax)
REF_FLOAT(amin)
REF_INT(amax_int)
REF_INT(amin_int)
REF_BOOL(amax_int)
REF_BOOL(amin_int)
REF_ALL(max_dim)
REF_ALL(min_dim)
REF_FLOAT(norm)
REF_FLOAT(logsumexp)
REF_ALL(any)
REF_ALL(all)

const kernel_row ref_reduce[] = {
    ROWS_FLOAT("sum", sum_float),
    { "sum", VESTIGE_I64, sum_i64 },
    ROWS_FLOAT("mean", mean),
    ROWS_FLOAT("var", var),
    ROWS_FLOAT("std", std),
    ROWS_FLOAT("amax", amax),
    ROWS_INT("amax", amax_int),
    ROWS_BOOL("amax", amax_int),
    ROWS_FLOAT("amin", amin),
    ROWS_INT("amin", amin_int),
    ROWS_BOOL("amin", amin_int),
    ROWS_ALL("max_dim", max_dim),
    ROWS_ALL("min_dim", min_dim),
    ROWS_FLOAT("norm", norm),
    ROWS_FLOAT("logsumexp", logsumexp),
    ROWS_ALL("any", any),
    ROWS_ALL("all", all),
    { 0 },
};
