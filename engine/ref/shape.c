/* The definition of casts, copies and broadcasts. */
#include "ref/ref.h"

ALWAYS_INLINE int cast(const call *c, int t) {
    T y = c->out[0];
    int to = y->dtype;
    for (int64_t i = 0; i < y->numel; i++)
        if (is_float(t) || is_float(to))
            put(y->data, to, i, get(c->in[0]->data, t, i));
        else
            put_int(y->data, to, i, get_int(c->in[0]->data, t, i));
    return VESTIGE_OK;
}
REF_ALL(cast)

static int clone_any(const call *c) {
    T y = c->out[0];
    memcpy(y->data, c->in[0]->data, (size_t)(y->numel * dtype_size(y->dtype)));
    return VESTIGE_OK;
}

ALWAYS_INLINE int expand(const call *c, int t) {
    T y = c->out[0];
    int64_t size = dtype_size(t);
    cursor k;
    for (cursor_start(&k, y->ndim, y->dim, 1, c->in); k.left; cursor_next(&k))
        memcpy(y->data + k.i * size, c->in[0]->data + k.at[0] * size, (size_t)size);
    return VESTIGE_OK;
}
REF_ALL(expand)

/* Sums in double, kept beside the output until all is added. */
ALWAYS_INLINE int sum_to(const call *c, int t) {
    T x = c->in[0], y = c->out[0];
    void *p;
    TRY(alloc_scratch(&p, y->numel * 8));
    double *sum = p;
    memset(sum, 0, (size_t)y->numel * 8);
    cursor k;
    for (cursor_start(&k, x->ndim, x->dim, 1, &y); k.left; cursor_next(&k))
        sum[k.at[0]] += get(x->data, t, k.i);
    for (int64_t i = 0; i < y->numel; i++)
        put(y->data, t, i, sum[i]);
    free_scratch(p, y->numel * 8);
    return VESTIGE_OK;
}
REF_FLOAT(sum_to)

#define EVERY(name, run)                                                                           \
    { name, VESTIGE_F32, run }, { name, VESTIGE_F64, run }, { name, VESTIGE_BF16, run },           \
        { name, VESTIGE_I64, run }, { name, VESTIGE_I32, run }, { name, VESTIGE_U8, run },         \
    {                                                                                              \
        name, VESTIGE_BOOL, run                                                                    \
    }

const kernel_row ref_shape[] = { ROWS_ALL("to", cast), EVERY("clone", clone_any),
                                 EVERY("reshape", clone_any), ROWS_ALL("expand", expand),
                                 ROWS_FLOAT("sum_to", sum_to), { 0 } };
