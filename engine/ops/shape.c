/* shape.c: other shapes, orders and types of the same elements, and joining tensors. Views (reshape
 * and its kin) share their input's storage, and so do their gradients. */
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

/* ---- reshape and its kin: views ---- */
static int view_as(call *c, int ndim, const int64_t *dim) {
    c->type = c->in[0]->dtype;
    shape_set(c, 0, c->type, ndim, dim);
    c->view = true;
    c->view_offset = 0;
    return VESTIGE_OK;
}

/* The sizes of option `name` into dim, the one that is -1 found from what `numel` leaves. */
static int read_sizes(const call *c, const char *name, int64_t numel, int *ndim, int64_t *dim) {
    const double *size;
    int n = list_option(c, name, &size), open = -1;
    if (n < 0)
        return fail(VESTIGE_EVALUE, "%s: expected a %s", opname(c), name);
    for (int i = 0; i < n; i++) {
        dim[i] = (int64_t)size[i];
        if (dim[i] == -1 && open < 0)
            dim[open = i] = 1;
        else if (dim[i] < 0)
            return fail(VESTIGE_ESHAPE, "%s: dimension %d of %s: got %g", opname(c), i + 1, name,
                        size[i]);
    }
    if (open >= 0) {
        int64_t known = product(n, dim);
        dim[open] = known > 0 ? numel / known : 0;
    }
    *ndim = n;
    if (product(n, dim) != numel)
        return fail(VESTIGE_ESHAPE, "%s: %s does not fit into %s", opname(c), describe(c->in[0]),
                    shape_text(n, dim));
    return VESTIGE_OK;
}

static int infer_reshape(call *c) {
    int ndim;
    int64_t dim[VESTIGE_MAXDIM];
    TRY(read_sizes(c, "size", c->in[0]->numel, &ndim, dim));
    return view_as(c, ndim, dim);
}

static int infer_squeeze(call *c) {
    const tensor *x = c->in[0];
    unsigned mask;
    int64_t dim[VESTIGE_MAXDIM];
    int n = 0;
    TRY(dims_option(c, "dim", x->ndim, &mask));
    for (int d = 0; d < x->ndim; d++)
        if (!(mask & 1u << d) || x->dim[d] != 1)
            dim[n++] = x->dim[d];
    return view_as(c, n, dim);
}

/* x's dimensions with room for one more before dimension d. */
static int with_room(const call *c, const tensor *x, int d, int64_t size, int64_t *dim) {
    if (x->ndim == VESTIGE_MAXDIM)
        return fail(VESTIGE_ESHAPE, "%s: %s has no room for another dimension", opname(c),
                    describe(x));
    memcpy(dim, x->dim, (size_t)d * sizeof *dim);
    dim[d] = size;
    memcpy(dim + d + 1, x->dim + d, (size_t)(x->ndim - d) * sizeof *dim);
    return VESTIGE_OK;
}

static int infer_unsqueeze(call *c) {
    const tensor *x = c->in[0];
    int d;
    int64_t dim[VESTIGE_MAXDIM];
    TRY(dim_option(c, "dim", x->ndim + 1, &d));
    TRY(with_room(c, x, d, 1, dim));
    return view_as(c, x->ndim + 1, dim);
}

static int infer_flatten(call *c) {
    const tensor *x = c->in[0];
    int first, last, n = 0;
    int64_t dim[VESTIGE_MAXDIM];
    TRY(dim_option(c, "start_dim", x->ndim, &first));
    TRY(dim_option(c, "end_dim", x->ndim, &last));
    if (first > last)
        return fail(VESTIGE_EVALUE, "flatten: start_dim %d lies behind end_dim %d", first + 1,
                    last + 1);
    for (int d = 0; d < first; d++)
        dim[n++] = x->dim[d];
    dim[n++] = x->ndim ? product(last - first + 1, x->dim + first) : 1;
    for (int d = last + 1; d < x->ndim; d++)
        dim[n++] = x->dim[d];
    return view_as(c, n, dim);
}

static int infer_unflatten(call *c) {
    const tensor *x = c->in[0];
    int d, n;
    int64_t inside[VESTIGE_MAXDIM], dim[VESTIGE_MAXDIM];
    TRY(dim_option(c, "dim", x->ndim, &d));
    TRY(read_sizes(c, "sizes", x->ndim ? x->dim[d] : 1, &n, inside));
    int behind = x->ndim > d ? x->ndim - d - 1 : 0;
    if (d + n + behind > VESTIGE_MAXDIM)
        return fail(VESTIGE_ESHAPE, "unflatten: %s would get more than %d dimensions", describe(x),
                    VESTIGE_MAXDIM);
    memcpy(dim, x->dim, (size_t)d * sizeof *dim);
    memcpy(dim + d, inside, (size_t)n * sizeof *dim);
    memcpy(dim + d + n, x->dim + d + 1, (size_t)behind * sizeof *dim);
    return view_as(c, d + n + behind, dim);
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

/* ---- permute, transpose, flip: copies in another order ---- */

/* y's dimension d is x's dimension perm[d]. */
static int permuted(call *c, const int *perm) {
    const tensor *x = c->in[0];
    int64_t dim[VESTIGE_MAXDIM];
    for (int d = 0; d < x->ndim; d++)
        dim[d] = x->dim[perm[d]];
    c->type = x->dtype;
    shape_set(c, 0, x->dtype, x->ndim, dim);
    return VESTIGE_OK;
}

static int infer_permute(call *c) {
    const tensor *x = c->in[0];
    const double *dims;
    unsigned mask;
    int perm[VESTIGE_MAXDIM], n = list_option(c, "dims", &dims);
    if (n != x->ndim)
        return fail(VESTIGE_EVALUE, "permute: dims: expected the %d dimensions of %s, got %d",
                    x->ndim, describe(x), n < 0 ? 0 : n);
    TRY(dims_option(c, "dims", x->ndim, &mask));
    for (int d = 0; d < n; d++)
        perm[d] = (int)dims[d];
    return permuted(c, perm);
}

static void grad_permute(grad *g) {
    const double *dims;
    int n = opt_list(g, "dims", &dims);
    int64_t back[VESTIGE_MAXDIM];
    for (int d = 0; d < n; d++)
        back[(int)dims[d]] = d;
    give(g, 0, RO(permute, OPTS({ "dims", .list = back, .count = n }), gout(g, 0)));
}

static int infer_transpose(call *c) {
    const tensor *x = c->in[0];
    int a, b, perm[VESTIGE_MAXDIM];
    TRY(dim_option(c, "dim0", x->ndim, &a));
    TRY(dim_option(c, "dim1", x->ndim, &b));
    for (int d = 0; d < x->ndim; d++)
        perm[d] = d == a ? b : d == b ? a : d;
    return permuted(c, perm);
}

static void grad_transpose(grad *g) {
    give(g, 0, RRAW(transpose, slots(g), gout(g, 0)));
}

static int infer_flip(call *c) {
    unsigned mask;
    TRY(dims_option(c, "dims", c->in[0]->ndim, &mask));
    return infer_clone(c);
}

static void grad_flip(grad *g) {
    give(g, 0, RRAW(flip, slots(g), gout(g, 0)));
}

/* ---- cat, stack ---- */
static int infer_cat(call *c) {
    int dim;
    if (c->nin == 0)
        return fail(VESTIGE_EVALUE, "cat: xs: expected at least one tensor");
    TRY(promote(c));
    const tensor *x = c->in[0];
    TRY(dim_option(c, "dim", x->ndim, &dim));
    if (x->ndim == 0)
        return fail(VESTIGE_ESHAPE, "cat: xs[1] has no dimension; use stack");
    shape_like(c, 0, x);
    for (int i = 1; i < c->nin; i++) {
        const tensor *t = c->in[i];
        bool fits = t->ndim == x->ndim;
        for (int d = 0; d < x->ndim && fits; d++)
            fits = d == dim || t->dim[d] == x->dim[d];
        if (!fits)
            return fail(VESTIGE_ESHAPE, "cat: xs[%d] %s and xs[1] %s differ outside dimension %d",
                        i + 1, describe(t), describe(x), dim + 1);
        c->shape[0].dim[dim] += t->dim[dim];
    }
    return VESTIGE_OK;
}

static void grad_cat(grad *g) {
    double dim = opt(g, "dim"), start = 0;
    for (int i = 0; i < nin(g); i++) {
        double length = (double)in_shape(g, i).dim[(int)dim];
        if (need(g, i))
            give(g, i,
                 RO(narrow, OPTS({ "dim", dim }, { "start", start }, { "length", length }),
                    gout(g, 0)));
        start += length;
    }
}

static int infer_stack(call *c) {
    int d;
    int64_t dim[VESTIGE_MAXDIM];
    if (c->nin == 0)
        return fail(VESTIGE_EVALUE, "stack: xs: expected at least one tensor");
    TRY(promote(c));
    const tensor *x = c->in[0];
    TRY(dim_option(c, "dim", x->ndim + 1, &d));
    TRY(with_room(c, x, d, c->nin, dim));
    for (int i = 1; i < c->nin; i++)
        if (c->in[i]->ndim != x->ndim || memcmp(c->in[i]->dim, x->dim, sizeof *dim * x->ndim))
            return fail(VESTIGE_ESHAPE, "stack: xs[%d] %s differs from xs[1] %s", i + 1,
                        describe(c->in[i]), describe(x));
    shape_set(c, 0, c->type, x->ndim + 1, dim);
    return VESTIGE_OK;
}

static void grad_stack(grad *g) {
    for (int i = 0; i < nin(g); i++)
        if (need(g, i))
            give(g, i, RO(select, OPTS({ "dim", opt(g, "dim") }, { "index", i }), gout(g, 0)));
}

#define MOVES .flops = flops_none, .domain = { -2, 2 }

const op_row ops_shape[] = {
    { .name = "to",
      .in = "x",
      .out = "y",
      .opts = "dtype:dtype",
      .infer = infer_to,
      .grad = grad_pass,
      MOVES,
      .doc = "x as another element type." },
    { .name = "clone",
      .in = "x",
      .out = "y",
      .infer = infer_clone,
      .grad = grad_pass,
      MOVES,
      .doc = "A copy of x." },
    { .name = "reshape",
      .in = "x",
      .out = "y",
      .opts = "size:size",
      .infer = infer_reshape,
      .grad = grad_reshape,
      MOVES,
      .doc = "x's elements in another shape, sharing its storage; one size may be -1." },
    { .name = "view",
      .in = "x",
      .out = "y",
      .opts = "size:size",
      .infer = infer_reshape,
      .grad = grad_reshape,
      MOVES,
      .doc = "The same as reshape." },
    { .name = "squeeze",
      .in = "x",
      .out = "y",
      .opts = "dim:dims?",
      .infer = infer_squeeze,
      .grad = grad_reshape,
      MOVES,
      .doc = "x without its dimensions of size 1: all of them, or those in dim." },
    { .name = "unsqueeze",
      .in = "x",
      .out = "y",
      .opts = "dim:dim",
      .infer = infer_unsqueeze,
      .grad = grad_reshape,
      MOVES,
      .doc = "x with a new dimension dim of size 1." },
    { .name = "flatten",
      .in = "x",
      .out = "y",
      .opts = "start_dim:dim=1 end_dim:dim=-1",
      .infer = infer_flatten,
      .grad = grad_reshape,
      MOVES,
      .doc = "x with dimensions start_dim to end_dim as one." },
    { .name = "unflatten",
      .in = "x",
      .out = "y",
      .opts = "dim:dim sizes:size",
      .infer = infer_unflatten,
      .grad = grad_reshape,
      MOVES,
      .doc = "x with dimension dim cut into sizes, of which one may be -1." },
    { .name = "permute",
      .in = "x",
      .out = "y",
      .opts = "dims:dims",
      .infer = infer_permute,
      .grad = grad_permute,
      MOVES,
      .flags = ROW_COPIES_VIEW,
      .doc = "x with its dimensions in the order dims. A copy." },
    { .name = "transpose",
      .in = "x",
      .out = "y",
      .opts = "dim0:dim dim1:dim",
      .infer = infer_transpose,
      .grad = grad_transpose,
      MOVES,
      .flags = ROW_COPIES_VIEW,
      .doc = "x with dimensions dim0 and dim1 exchanged. A copy." },
    { .name = "flip",
      .in = "x",
      .out = "y",
      .opts = "dims:dims",
      .infer = infer_flip,
      .grad = grad_flip,
      MOVES,
      .doc = "x in reverse order along dims." },
    { .name = "cat",
      .in = "xs:tensor*",
      .out = "y",
      .opts = "dim:dim=1",
      .infer = infer_cat,
      .grad = grad_cat,
      MOVES,
      .doc = "The tensors of a list one behind the other along dimension dim." },
    { .name = "stack",
      .in = "xs:tensor*",
      .out = "y",
      .opts = "dim:dim=1",
      .infer = infer_stack,
      .grad = grad_stack,
      MOVES,
      .doc = "The tensors of a list, all of one shape, along a new dimension dim." },
    { .name = "expand",
      .in = "x",
      .out = "y",
      .opts = "size:size",
      .infer = infer_expand,
      .grad = grad_expand,
      MOVES,
      .flags = ROW_COPIES_VIEW,
      .doc = "x with dimensions of size 1 repeated to size; -1 keeps one. A copy." },
    { .name = "sum_to",
      .in = "x",
      .out = "y",
      .opts = "size:size",
      .infer = infer_sum_to,
      .grad = grad_sum_to,
      .flags = ROW_HIDDEN,
      .doc = "x summed over the dimensions in which size was broadcast: expand's gradient." },
    { 0 }
};
