/* shape.c: other shapes and types of the same elements. */
#include "ops/rules.h"

/* ---- to: another element type ---- */
static int infer_to(call *c) {
    c->type = c->in[0]->dtype;
    shape_like(c, 0, c->in[0]);
    int to = (int)option(c, "dtype");
    if (to < 0 || to >= VESTIGE_NTYPES)
        return fail(VESTIGE_EVALUE, "to: option dtype is missing");
    c->shape[0].dtype = to;
    return VESTIGE_OK;
}

/* The walk casts the gradient back to the input's type. */
static void grad_pass(grad *g) {
    give(g, 0, gout(g, 0));
}

static int infer_clone(call *c) {
    c->type = c->in[0]->dtype;
    shape_like(c, 0, c->in[0]);
    return VESTIGE_OK;
}

/* ---- reshape: a view; one size may be -1 ---- */
static int infer_reshape(call *c) {
    const tensor *x = c->in[0];
    const double *size;
    int n = list_option(c, "size", &size), open = -1;
    int64_t dim[VESTIGE_MAXDIM], known = 1;
    if (n < 0)
        return fail(VESTIGE_EVALUE, "reshape: expected a size");
    for (int i = 0; i < n; i++) {
        dim[i] = (int64_t)size[i];
        if (dim[i] == -1 && open < 0)
            open = i;
        else if (dim[i] < 0)
            return fail(VESTIGE_ESHAPE, "reshape: dimension %d of size: got %g", i + 1, size[i]);
        else
            known *= dim[i];
    }
    if (open >= 0)
        dim[open] = known ? x->numel / known : 0;
    if (product(n, dim) != x->numel)
        return fail(VESTIGE_ESHAPE, "reshape: %s does not fit into %s", describe(x),
                    shape_text(n, dim));
    c->type = x->dtype;
    shape_set(c, 0, x->dtype, n, dim);
    c->view = true;
    c->view_offset = 0;
    return VESTIGE_OK;
}

static void grad_reshape(grad *g) {
    shape s = in_shape(g, 0);
    give(g, 0, RO(reshape, OPTS({ "size", .list = s.dim, .count = s.ndim }), gout(g, 0)));
}

/* ---- expand: size-1 dimensions repeated; sum_to is its gradient and it is sum_to's ---- */
static int infer_expand(call *c) {
    const tensor *x = c->in[0];
    const double *size;
    int n = list_option(c, "size", &size);
    int64_t dim[VESTIGE_MAXDIM];
    if (n < x->ndim)
        return fail(VESTIGE_ESHAPE, "expand: size has %d dimensions, fewer than %s", n,
                    describe(x));
    for (int i = 0; i < n; i++) {
        int from = i - (n - x->ndim);
        dim[i] = size[i] == -1 && from >= 0 ? x->dim[from] : (int64_t)size[i];
        if (dim[i] < 0 || (from >= 0 && x->dim[from] != 1 && x->dim[from] != dim[i]))
            return fail(VESTIGE_ESHAPE, "expand: dimension %d of %s cannot become %g", from + 1,
                        describe(x), size[i]);
    }
    c->type = x->dtype;
    shape_set(c, 0, x->dtype, n, dim);
    return VESTIGE_OK;
}

static void grad_expand(grad *g) {
    give(g, 0, gout(g, 0)); /* the walk sums it to the input's shape */
}

static int infer_sum_to(call *c) {
    const tensor *x = c->in[0];
    const double *size;
    int n = list_option(c, "size", &size);
    int64_t dim[VESTIGE_MAXDIM];
    bool fits = n <= x->ndim;
    for (int i = 0; i < n && fits; i++) {
        dim[i] = (int64_t)size[i];
        fits = dim[i] == 1 || dim[i] == x->dim[x->ndim - n + i];
    }
    if (!fits)
        return fail(VESTIGE_ESHAPE, "sum_to: %s was not broadcast from a tensor of %d dimensions",
                    describe(x), n);
    c->type = x->dtype;
    shape_set(c, 0, x->dtype, n, dim);
    return VESTIGE_OK;
}

static void grad_sum_to(grad *g) {
    shape s = in_shape(g, 0);
    give(g, 0, RO(expand, OPTS({ "size", .list = s.dim, .count = s.ndim }), gout(g, 0)));
}

const op_row ops_shape[] = {
    { .name = "to", .in = "x", .out = "y", .opts = "dtype:dtype", .infer = infer_to,
      .grad = grad_pass, .doc = "x as another element type." },
    { .name = "clone", .in = "x", .out = "y", .infer = infer_clone, .grad = grad_pass,
      .doc = "A copy of x." },
    { .name = "reshape", .in = "x", .out = "y", .opts = "size:size", .infer = infer_reshape,
      .grad = grad_reshape,
      .doc = "x's elements in another shape, sharing its storage; one size may be -1." },
    { .name = "expand", .in = "x", .out = "y", .opts = "size:size", .infer = infer_expand,
      .grad = grad_expand, .flags = ROW_COPIES_VIEW,
      .doc = "x with dimensions of size 1 repeated to size; -1 keeps one. A copy." },
    { .name = "sum_to", .in = "x", .out = "y", .opts = "size:size", .infer = infer_sum_to,
      .grad = grad_sum_to, .flags = ROW_HIDDEN,
      .doc = "x summed over the dimensions in which size was broadcast: expand's gradient." },
    { 0 }
};
