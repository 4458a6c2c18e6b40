/* The definition of casts, copies, broadcasts, other orders and joining. */
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

/* y's elements in order, from where the cursor stands in x. */
static void copy_along(cursor *k, T y, T x) {
    size_t size = (size_t)dtype_size(y->dtype);
    for (; k->left; cursor_next(k))
        memcpy(y->data + k->i * (int64_t)size, x->data + k->at[0] * (int64_t)size, size);
}

static int expand(const call *c) {
    T y = c->out[0];
    cursor k;
    cursor_start(&k, y->ndim, y->dim, 1, c->in);
    copy_along(&k, y, c->in[0]);
    return VESTIGE_OK;
}

/* x's step along each of its dimensions. */
static void steps_of(const tensor *x, int64_t *step) {
    int64_t n = 1;
    for (int d = x->ndim - 1; d >= 0; d--) {
        step[d] = n;
        n *= x->dim[d];
    }
}

static int permute(const call *c) {
    T x = c->in[0], y = c->out[0];
    const double *dims;
    list_option(c, "dims", &dims);
    int64_t step[VESTIGE_MAXDIM];
    steps_of(x, step);
    cursor k;
    cursor_start(&k, y->ndim, y->dim, 1, (T[]){ NULL });
    for (int d = 0; d < y->ndim; d++)
        k.stride[0][d] = step[(int)dims[d]];
    copy_along(&k, y, x);
    return VESTIGE_OK;
}

static int transpose(const call *c) {
    T x = c->in[0], y = c->out[0];
    int a = (int)option(c, "dim0"), b = (int)option(c, "dim1");
    int64_t step[VESTIGE_MAXDIM];
    steps_of(x, step);
    cursor k;
    cursor_start(&k, y->ndim, y->dim, 1, (T[]){ NULL });
    for (int d = 0; d < y->ndim; d++)
        k.stride[0][d] = step[d == a ? b : d == b ? a : d];
    copy_along(&k, y, x);
    return VESTIGE_OK;
}

static int flip(const call *c) {
    T x = c->in[0], y = c->out[0];
    const double *dims;
    int n = list_option(c, "dims", &dims);
    int64_t step[VESTIGE_MAXDIM];
    steps_of(x, step);
    cursor k;
    cursor_start(&k, y->ndim, y->dim, 1, (T[]){ NULL });
    memcpy(k.stride[0], step, sizeof step);
    for (int i = 0; i < n && x->ndim > 0; i++) { /* a number accepts dimension 1 */
        int d = (int)dims[i];
        k.stride[0][d] = -step[d];
        k.at[0] += step[d] * (x->dim[d] - 1);
    }
    copy_along(&k, y, x);
    return VESTIGE_OK;
}

/* cat and stack: before dimension dim the inputs run in parallel, from it on one after another. */
static int join(const call *c) {
    T y = c->out[0];
    int64_t outer = product((int)option(c, "dim"), y->dim), size = dtype_size(y->dtype);
    if (y->numel == 0)
        return VESTIGE_OK;
    char *to = y->data;
    for (int64_t o = 0; o < outer; o++)
        for (int i = 0; i < c->nin; i++) {
            int64_t bytes = c->in[i]->numel / outer * size;
            memcpy(to, c->in[i]->data + o * bytes, (size_t)bytes);
            to += bytes;
        }
    return VESTIGE_OK;
}

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

const kernel_row ref_shape[] = {
    ROWS_ALL("to", cast),
    ROWS_SAME("clone", clone_any),
    ROWS_SAME("reshape", clone_any),
    ROWS_SAME("view", clone_any),
    ROWS_SAME("squeeze", clone_any),
    ROWS_SAME("unsqueeze", clone_any),
    ROWS_SAME("flatten", clone_any),
    ROWS_SAME("unflatten", clone_any),
    ROWS_SAME("permute", permute),
    ROWS_SAME("transpose", transpose),
    ROWS_SAME("flip", flip),
    ROWS_SAME("cat", join),
    ROWS_SAME("stack", join),
    ROWS_SAME("expand", expand),
    ROWS_FLOAT("sum_to", sum_to),
    { 0 },
};
