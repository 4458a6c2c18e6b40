/* The definition of counts, and of results whose size depends on data. */
#include "ref/ref.h"

ALWAYS_INLINE bool is_set(const tensor *x, int t, int64_t i) {
    return is_float(t) ? get(x->data, t, i) != 0 : get_int(x->data, t, i) != 0;
}

ALWAYS_INLINE int count_nonzero(const call *c, int t) {
    T x = c->in[0];
    int64_t n = 0;
    for (int64_t i = 0; i < x->numel; i++)
        n += is_set(x, t, i);
    *(int64_t *)c->out[0]->data = n;
    return VESTIGE_OK;
}
REF_ALL(count_nonzero)

static int index_bound(const call *c) {
    const int64_t *x = (const int64_t *)c->in[0]->data;
    int64_t bound = 0;
    for (int64_t i = 0; i < c->in[0]->numel; i++)
        if (x[i] >= bound)
            bound = x[i] + 1;
    *(int64_t *)c->out[0]->data = bound;
    return VESTIGE_OK;
}

ALWAYS_INLINE int nonzero(const call *c, int t) {
    T x = c->in[0];
    int64_t *y = (int64_t *)c->out[0]->data;
    cursor k;
    for (cursor_start(&k, x->ndim, x->dim, 0, NULL); k.left; cursor_next(&k))
        if (is_set(x, t, k.i)) {
            memcpy(y, k.index, (size_t)x->ndim * sizeof *y);
            y += x->ndim;
        }
    return VESTIGE_OK;
}
REF_ALL(nonzero)

static int masked_select(const call *c) {
    const char *x = c->in[0]->data, *mask = c->in[1]->data;
    char *y = c->out[0]->data;
    int64_t size = dtype_size(c->out[0]->dtype);
    for (int64_t i = 0; i < c->in[1]->numel; i++)
        if (mask[i]) {
            memcpy(y, x + i * size, (size_t)size);
            y += size;
        }
    return VESTIGE_OK;
}

static int masked_spread(const call *c) {
    const char *x = c->in[0]->data, *mask = c->in[1]->data;
    T y = c->out[0];
    int64_t size = dtype_size(y->dtype);
    memset(y->data, 0, (size_t)(y->numel * size));
    for (int64_t i = 0; i < y->numel; i++)
        if (mask[i]) {
            memcpy(y->data + i * size, x, (size_t)size);
            x += size;
        }
    return VESTIGE_OK;
}

ALWAYS_INLINE int bincount(const call *c, int t) {
    T weights = c->in[1], y = c->out[0];
    const int64_t *place;
    TRY(ref_places(c, 0, y->numel, &place));
    void *p;
    TRY(alloc_scratch(&p, y->numel * 8));
    double *sum = p;
    memset(sum, 0, (size_t)y->numel * 8);
    for (int64_t i = 0; i < c->in[0]->numel; i++)
        sum[place[i]] += weights ? get(weights->data, t, i) : 1;
    for (int64_t i = 0; i < y->numel; i++)
        put(y->data, t, i, sum[i]);
    free_scratch(p, y->numel * 8);
    return VESTIGE_OK;
}
REF_FLOAT(bincount)
REF_FN(bincount, i64, VESTIGE_I64)

const kernel_row ref_count[] = {
    ROWS_ALL("count_nonzero", count_nonzero),
    { "index_bound", VESTIGE_I64, index_bound },
    ROWS_ALL("nonzero", nonzero),
    ROWS_SAME("masked_select", masked_select),
    ROWS_SAME("masked_spread", masked_spread),
    ROWS_FLOAT("bincount", bincount),
    { "bincount", VESTIGE_I64, bincount_i64 },
    { 0 },
};
