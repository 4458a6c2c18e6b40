/* The definition of gathering, scattering and adding up by index. */
#include "ref/ref.h"

int ref_places(const call *c, int i, int64_t n, const int64_t **index) {
    const tensor *t = c->in[i];
    const int64_t *at = (const int64_t *)t->data;
    *index = at;
    bool bad = false;
    for (int64_t k = 0; k < t->numel; k++)
        bad |= (uint64_t)at[k] >= (uint64_t)n;
    for (int64_t k = 0; bad && k < t->numel; k++)
        if ((uint64_t)at[k] >= (uint64_t)n)
            return fail(VESTIGE_EVALUE, "%s: %s: element %lld is %lld, expected 0 to %lld",
                        opname(c), param_of(c, i)->name, (long long)k + 1, (long long)at[k],
                        (long long)n - 1);
    return VESTIGE_OK;
}

static int64_t size_along(const tensor *x, int dim) {
    return x->ndim ? x->dim[dim] : 1;
}

/* A cursor over the index whose operand 0 is x at place 0 of dimension dim, and operand 1 src. */
static int64_t start(cursor *k, const tensor *index, const tensor *x, const tensor *src, int dim) {
    cursor_start(k, index->ndim, index->dim, 2, (T[]){ NULL, NULL });
    int64_t xs = 1, ss = 1, step = 1;
    for (int d = index->ndim - 1; d >= 0; d--) {
        k->stride[0][d] = d == dim ? 0 : xs;
        k->stride[1][d] = ss;
        if (d == dim)
            step = xs;
        xs *= x->dim[d];
        ss *= src->dim[d];
    }
    return step;
}

static int gather(const call *c) {
    T x = c->in[0], y = c->out[0];
    int dim = (int)option(c, "dim");
    const int64_t *index;
    TRY(ref_places(c, 1, size_along(x, dim), &index));
    int64_t size = dtype_size(y->dtype);
    cursor k;
    int64_t step = start(&k, c->in[1], x, y, dim);
    for (; k.left; cursor_next(&k))
        memcpy(y->data + k.i * size, x->data + (k.at[0] + index[k.i] * step) * size, (size_t)size);
    return VESTIGE_OK;
}

/* The doubles (or integers) in which sums run before they are rounded once. */
ALWAYS_INLINE int sums_new(const call *c, int t, void **sums, const tensor *x) {
    T y = c->out[0];
    TRY(alloc_scratch(sums, y->numel * 8));
    for (int64_t i = 0; i < y->numel; i++)
        if (is_float(t))
            ((double *)*sums)[i] = x ? get(x->data, t, i) : 0;
        else
            ((int64_t *)*sums)[i] = x ? get_int(x->data, t, i) : 0;
    return VESTIGE_OK;
}

ALWAYS_INLINE void sums_add(void *sums, int t, int64_t at, const tensor *src, int64_t i,
                            double alpha) {
    if (is_float(t))
        ((double *)sums)[at] += alpha * get(src->data, t, i);
    else
        ((int64_t *)sums)[at] += whole(alpha) * get_int(src->data, t, i);
}

ALWAYS_INLINE void sums_done(const call *c, int t, void *sums) {
    T y = c->out[0];
    for (int64_t i = 0; i < y->numel; i++)
        if (is_float(t))
            put(y->data, t, i, ((double *)sums)[i]);
        else
            put_int(y->data, t, i, ((int64_t *)sums)[i]);
    free_scratch(sums, y->numel * 8);
}

/* x + src at index; x NULL: zeros */
ALWAYS_INLINE int add_elements(const call *c, int t, const tensor *x, int i, const tensor *src) {
    T y = c->out[0];
    int dim = (int)option(c, "dim");
    const int64_t *index;
    TRY(ref_places(c, i, size_along(y, dim), &index));
    void *sums;
    TRY(sums_new(c, t, &sums, x));
    cursor k;
    int64_t step = start(&k, c->in[i], y, src, dim);
    for (; k.left; cursor_next(&k))
        sums_add(sums, t, k.at[0] + index[k.i] * step, src, k.at[1], 1);
    sums_done(c, t, sums);
    return VESTIGE_OK;
}

ALWAYS_INLINE int scatter_add(const call *c, int t) {
    return add_elements(c, t, c->in[0], 1, c->in[2]);
}
ALWAYS_INLINE int scatter_sum(const call *c, int t) {
    return add_elements(c, t, NULL, 0, c->in[1]);
}
REF_ALL(scatter_add)
REF_FLOAT(scatter_sum)

static void start_from_x(const call *c) {
    T x = c->in[0], y = c->out[0];
    if (y->data != x->data) /* in place they are one */
        memcpy(y->data, x->data, (size_t)(y->numel * dtype_size(y->dtype)));
}

ALWAYS_INLINE int scatter(const call *c, int t) {
    T y = c->out[0], src = c->in[2];
    int dim = (int)option(c, "dim");
    const int64_t *index;
    TRY(ref_places(c, 1, size_along(y, dim), &index));
    start_from_x(c);
    int64_t size = dtype_size(t);
    cursor k;
    int64_t step = start(&k, c->in[1], y, src ? src : c->in[1], dim);
    for (; k.left; cursor_next(&k)) {
        int64_t at = k.at[0] + index[k.i] * step;
        if (src)
            memcpy(y->data + at * size, src->data + k.at[1] * size, (size_t)size);
        else
            put(y->data, t, at, c->num[2]);
    }
    return VESTIGE_OK;
}
REF_ALL(scatter)

/* ---- Slices: x is (outer, n, inner), the part (outer, m, inner). ---- */
typedef struct slices {
    int64_t outer, n, inner, m;
    const int64_t *index;
} slices;

static int slices_of(const call *c, const tensor *x, int i, slices *s) {
    int dim = (int)option(c, "dim");
    *s = (slices){ .outer = 1, .n = 1, .inner = 1, .m = c->in[i]->numel };
    if (x->ndim)
        *s = (slices){ product(dim, x->dim), x->dim[dim],
                       product(x->ndim - dim - 1, x->dim + dim + 1), c->in[i]->numel, NULL };
    return ref_places(c, i, s->n, &s->index);
}

static int index_select(const call *c) {
    T x = c->in[0], y = c->out[0];
    slices s;
    TRY(slices_of(c, x, 1, &s));
    int64_t bytes = s.inner * dtype_size(y->dtype);
    for (int64_t o = 0; o < s.outer; o++)
        for (int64_t m = 0; m < s.m; m++)
            memcpy(y->data + (o * s.m + m) * bytes, x->data + (o * s.n + s.index[m]) * bytes,
                   (size_t)bytes);
    return VESTIGE_OK;
}

static int index_copy(const call *c) {
    T y = c->out[0], src = c->in[2];
    slices s;
    TRY(slices_of(c, y, 1, &s));
    start_from_x(c);
    int64_t bytes = s.inner * dtype_size(y->dtype);
    for (int64_t o = 0; o < s.outer; o++)
        for (int64_t m = 0; m < s.m; m++)
            memcpy(y->data + (o * s.n + s.index[m]) * bytes, src->data + (o * s.m + m) * bytes,
                   (size_t)bytes);
    return VESTIGE_OK;
}

ALWAYS_INLINE int add_slices(const call *c, int t, const tensor *x, int i, const tensor *src,
                             double alpha) {
    slices s;
    TRY(slices_of(c, c->out[0], i, &s));
    void *sums;
    TRY(sums_new(c, t, &sums, x));
    for (int64_t o = 0; o < s.outer; o++)
        for (int64_t m = 0; m < s.m; m++)
            for (int64_t j = 0; j < s.inner; j++)
                sums_add(sums, t, (o * s.n + s.index[m]) * s.inner + j, src,
                         (o * s.m + m) * s.inner + j, alpha);
    sums_done(c, t, sums);
    return VESTIGE_OK;
}

ALWAYS_INLINE int index_add(const call *c, int t) {
    return add_slices(c, t, c->in[0], 1, c->in[2], option(c, "alpha"));
}
ALWAYS_INLINE int index_sum(const call *c, int t) {
    return add_slices(c, t, NULL, 0, c->in[1], 1);
}
REF_ALL(index_add)
REF_FLOAT(index_sum)

static int one_hot(const call *c) {
    T x = c->in[0], y = c->out[0];
    int64_t classes = y->dim[y->ndim - 1];
    const int64_t *index;
    TRY(ref_places(c, 0, classes, &index));
    memset(y->data, 0, (size_t)y->numel * 8);
    for (int64_t i = 0; i < x->numel; i++)
        ((int64_t *)y->data)[i * classes + index[i]] = 1;
    return VESTIGE_OK;
}

const kernel_row ref_index[] = {
    ROWS_SAME("gather", gather),
    ROWS_ALL("scatter_add", scatter_add),
    ROWS_FLOAT("scatter_sum", scatter_sum),
    ROWS_ALL("scatter", scatter),
    ROWS_SAME("index_select", index_select),
    ROWS_SAME("index_copy", index_copy),
    ROWS_ALL("index_add", index_add),
    ROWS_FLOAT("index_sum", index_sum),
    { "one_hot", VESTIGE_I64, one_hot },
    { 0 },
};
