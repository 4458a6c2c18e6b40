/* sort.c: orders, choices and running sums along a dimension. NaN counts as the largest number,
 * and of equal elements the first comes first, whatever the direction. Indices are data: 0-based.
 * Values are differentiated through the indices; the indices have no gradient. */
#include "ops/rules.h"

/* values of x's shape with `n` places along dim (below 0: without dim), indices alike. */
static void values_indices(call *c, int dim, int64_t n, bool keep) {
    const tensor *x = c->in[0];
    shape_like(c, 0, x);
    shape *s = &c->shape[0];
    if (x->ndim) {
        s->dim[dim] = n;
        if (!keep) {
            memmove(s->dim + dim, s->dim + dim + 1, sizeof *s->dim * (x->ndim - dim - 1));
            s->ndim--;
        }
    }
    c->type = x->dtype;
    c->shape[1] = *s;
    c->shape[1].dtype = VESTIGE_I64;
}

static int64_t size_along(const tensor *x, int dim) {
    return x->ndim ? x->dim[dim] : 1;
}

static int infer_sort(call *c) {
    const tensor *x = c->in[0];
    int dim;
    TRY(dim_option(c, "dim", x->ndim, &dim));
    values_indices(c, dim, size_along(x, dim), true);
    return VESTIGE_OK;
}

static int infer_topk(call *c) {
    const tensor *x = c->in[0];
    int dim;
    TRY(dim_option(c, "dim", x->ndim, &dim));
    double k = option(c, "k");
    int64_t n = size_along(x, dim);
    if (!(k >= 0 && k <= (double)n))
        return fail(VESTIGE_EVALUE,
                    "topk: k: expected 0 to %lld, the size of dimension %d of %s, "
                    "got %g",
                    (long long)n, dim + 1, describe(x), k);
    values_indices(c, dim, (int64_t)k, true);
    return VESTIGE_OK;
}

static int infer_kthvalue(call *c) {
    const tensor *x = c->in[0];
    int dim;
    TRY(dim_option(c, "dim", x->ndim, &dim));
    double k = option(c, "k");
    int64_t n = size_along(x, dim);
    if (!(k >= 1 && k <= (double)n))
        return fail(VESTIGE_EVALUE,
                    "kthvalue: k: expected 1 to %lld, the size of dimension %d of "
                    "%s, got %g",
                    (long long)n, dim + 1, describe(x), k);
    values_indices(c, dim, 1, option(c, "keepdim") != 0);
    return VESTIGE_OK;
}

/* The gradient goes to the places that were chosen. */
static void grad_chosen(grad *g) {
    shape s = in_shape(g, 0), part = s;
    double dim = opt(g, "dim");
    V index = out(g, 1), go = gout(g, 0);
    if (opt(g, "keepdim") == 0 && part.ndim) { /* NaN: the row has no such option */
        part.dim[(int)dim] = 1;
        index = RO(reshape, OPTS({ "size", .list = part.dim, .count = part.ndim }), index);
        go = RO(reshape, OPTS({ "size", .list = part.dim, .count = part.ndim }), go);
    }
    give(g, 0,
         RO(scatter_sum, OPTS({ "size", .list = s.dim, .count = s.ndim }, { "dim", dim }), index,
            go));
}

/* ---- argmax, argmin ---- */
static int infer_arg(call *c) {
    const tensor *x = c->in[0];
    double given = option(c, "dim");
    bool keep = option(c, "keepdim") != 0;
    int64_t one[VESTIGE_MAXDIM] = { 1, 1, 1, 1, 1, 1, 1, 1 };
    c->type = x->dtype;
    if (isnan(given)) { /* over all elements, as one row */
        if (x->numel == 0)
            return fail(VESTIGE_ESHAPE, "%s: %s is empty", opname(c), describe(x));
        shape_set(c, 0, VESTIGE_I64, keep ? x->ndim : 0, one);
        return VESTIGE_OK;
    }
    int dim;
    TRY(dim_option(c, "dim", x->ndim, &dim));
    if (size_along(x, dim) == 0)
        return fail(VESTIGE_ESHAPE, "%s: dimension %d of %s is empty", opname(c), dim + 1,
                    describe(x));
    values_indices(c, dim, 1, keep);
    c->shape[0].dtype = VESTIGE_I64;
    return VESTIGE_OK;
}

/* ---- searchsorted ---- */
static int infer_searchsorted(call *c) {
    const tensor *s = c->in[0];
    if (s->ndim == 0)
        return fail(VESTIGE_ESHAPE, "searchsorted: sorted_sequence has no dimension");
    TRY(promote(c));
    s = c->in[0];
    const tensor *v = c->in[1];
    if (s->ndim > 1 &&
        (v->ndim != s->ndim || memcmp(v->dim, s->dim, sizeof *s->dim * (s->ndim - 1))))
        return fail(VESTIGE_ESHAPE,
                    "searchsorted: values %s and sorted_sequence %s differ before "
                    "the last dimension",
                    describe(v), describe(s));
    shape_set(c, 0, VESTIGE_I64, v->ndim, v->dim);
    return VESTIGE_OK;
}

/* ---- cumsum, cumprod ---- */
static int infer_running(call *c) {
    int dim;
    TRY(dim_option(c, "dim", c->in[0]->ndim, &dim));
    if (!is_float(c->in[0]->dtype) && c->in[0]->dtype != VESTIGE_I64)
        TRY(cast_input(c, 0, VESTIGE_I64)); /* as PyTorch */
    c->type = c->in[0]->dtype;
    shape_like(c, 0, c->in[0]);
    return VESTIGE_OK;
}

/* The sum from the other end. */
static void grad_cumsum(grad *g) {
    give(g, 0,
         RO(cumsum, OPTS({ "dim", opt(g, "dim") }, { "reverse", opt(g, "reverse") == 0 }),
            gout(g, 0)));
}

const op_row ops_sort[] = {
    { .name = "sort",
      .in = "x",
      .out = "values indices:i64",
      .opts = "dim:dim=-1 descending:bool=false stable:bool=false",
      .infer = infer_sort,
      .grad = grad_chosen,
      .keeps = KEEP_OUT1,
      .flags = ROW_OUT1_FIXED,
      .domain = { -2, 2 },
      .doc = "x sorted along dimension dim, and the 0-based places that the elements had. Always "
             "stable; NaN counts as the largest." },
    { .name = "topk",
      .in = "x",
      .out = "values indices:i64",
      .opts = "k:int dim:dim=-1 largest:bool=true sorted:bool=true",
      .infer = infer_topk,
      .grad = grad_chosen,
      .keeps = KEEP_OUT1,
      .flags = ROW_OUT1_FIXED,
      .domain = { -2, 2 },
      .doc = "The k largest (or smallest) elements of x along dimension dim, in order, and their "
             "0-based places; of equal elements the first. Always sorted." },
    { .name = "kthvalue",
      .in = "x",
      .out = "values indices:i64",
      .opts = "k:int dim:dim=-1 keepdim:bool=false",
      .infer = infer_kthvalue,
      .grad = grad_chosen,
      .keeps = KEEP_OUT1,
      .flags = ROW_OUT1_FIXED,
      .domain = { -2, 2 },
      .doc = "The k-th smallest element of x along dimension dim (1: the smallest), and its "
             "0-based place." },
    { .name = "argmax",
      .in = "x",
      .out = "y",
      .opts = "dim:dim? keepdim:bool=false",
      .infer = infer_arg,
      .domain = { -2, 2 },
      .doc = "The 0-based place of the largest element along dimension dim (default: in x "
             "flattened), of equal ones the first; NaN counts as the largest." },
    { .name = "argmin",
      .in = "x",
      .out = "y",
      .opts = "dim:dim? keepdim:bool=false",
      .infer = infer_arg,
      .domain = { -2, 2 },
      .doc = "The 0-based place of the smallest element along dimension dim (default: in x "
             "flattened), of equal ones the first; a NaN is found first of all." },
    { .name = "searchsorted",
      .in = "sorted_sequence values",
      .out = "y",
      .opts = "right:bool=false",
      .infer = infer_searchsorted,
      .domain = { -2, 2 },
      .doc = "For each value how many elements of the sorted sequence (1-D, or one for each row "
             "of values) are below it, or with right=true not above it." },
    { .name = "cumsum",
      .in = "x",
      .out = "y",
      .opts = "dim:dim reverse:bool=false",
      .infer = infer_running,
      .grad = grad_cumsum,
      .cast = CAST_F32,
      .domain = { -2, 2 },
      .doc = "The sums of x up to each element along dimension dim; reverse: from each element "
             "on." },
    { 0 }
};
