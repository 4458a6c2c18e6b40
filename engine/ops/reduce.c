/* reduce.c: sums over dimensions. */
#include "ops/rules.h"

/* The output's shape with the dimensions of mask removed, or kept as 1. */
static void reduced(call *c, int out, const tensor *x, unsigned mask, bool keepdim) {
    int64_t dim[VESTIGE_MAXDIM];
    int n = 0;
    for (int d = 0; d < x->ndim; d++)
        if (!(mask & 1u << d))
            dim[n++] = x->dim[d];
        else if (keepdim)
            dim[n++] = 1;
    shape_set(c, out, x->dtype, n, dim);
}

static int infer_sum(call *c) {
    const tensor *x = c->in[0];
    unsigned mask;
    TRY(dims_option(c, "dim", x->ndim, &mask));
    if (!is_float(x->dtype) && x->dtype != VESTIGE_I64)
        TRY(cast_input(c, 0, VESTIGE_I64)); /* as PyTorch: sums of integers are i64 */
    c->type = c->in[0]->dtype;
    reduced(c, 0, c->in[0], mask, option(c, "keepdim") != 0);
    return VESTIGE_OK;
}

/* gout with the reduced dimensions put back, expanded to the input. */
static void grad_sum(grad *g) {
    shape s = in_shape(g, 0), kept = s;
    const double *dims;
    int n = opt_list(g, "dim", &dims);
    for (int d = 0; d < s.ndim; d++) {
        bool reduced = n <= 0;
        for (int i = 0; i < n; i++)
            reduced |= (int)dims[i] == d;
        if (reduced)
            kept.dim[d] = 1;
    }
    V wide = RO(reshape, OPTS({ "size", .list = kept.dim, .count = kept.ndim }), gout(g, 0));
    give(g, 0, RO(expand, OPTS({ "size", .list = s.dim, .count = s.ndim }), wide));
}

const op_row ops_reduce[] = {
    { .name = "sum", .in = "x", .out = "y", .opts = "dim:dims? keepdim:bool=false",
      .infer = infer_sum, .grad = grad_sum, .domain = { -2, 2 },
      .doc = "The sum over the dimensions dim (default: all)." },
    { 0 }
};
