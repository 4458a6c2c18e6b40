/* The definition of reductions. */
#include "ref/ref.h"

/* Where element (index) of x goes in an output without the dimensions of the option dim. */
static void output_strides(const call *c, int64_t *stride) {
    const tensor *x = c->in[0];
    const double *dims;
    int n = list_option(c, "dim", &dims);
    int64_t step = 1;
    for (int d = x->ndim - 1; d >= 0; d--) {
        bool reduced = n <= 0;
        for (int i = 0; i < n; i++)
            reduced |= (int)dims[i] == d;
        stride[d] = reduced ? 0 : step;
        if (!reduced)
            step *= x->dim[d];
    }
}

ALWAYS_INLINE int sum(const call *c, int t) {
    T x = c->in[0], y = c->out[0];
    void *p;
    TRY(alloc_scratch(&p, y->numel * 8));
    double *total = p;
    int64_t *whole_total = p;
    memset(p, 0, (size_t)y->numel * 8);
    cursor k;
    cursor_start(&k, x->ndim, x->dim, 1, (T[]){ NULL });
    output_strides(c, k.stride[0]);
    for (; k.left; cursor_next(&k))
        if (is_float(t))
            total[k.at[0]] += get(x->data, t, k.i);
        else
            whole_total[k.at[0]] += get_int(x->data, t, k.i);
    for (int64_t i = 0; i < y->numel; i++)
        if (is_float(t))
            put(y->data, t, i, total[i]);
        else
            put_int(y->data, t, i, whole_total[i]);
    free_scratch(p, y->numel * 8);
    return VESTIGE_OK;
}
REF_FLOAT(sum)
REF_FN(sum, i64, VESTIGE_I64)

const kernel_row ref_reduce[] = { ROWS_FLOAT("sum", sum), { "sum", VESTIGE_I64, sum_i64 }, { 0 } };
