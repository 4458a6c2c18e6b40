/* index.c: elements and slices by their 0-based places: gathered, scattered, added up. Taking and
 * adding up are each other's gradients (gather and scatter_sum, index_select and index_sum), so any
 * order works. Sums of elements that share a place run in the order of the index. */
#include "ops/rules.h"

/* ---- gather, scatter_add, scatter: the index has a place for each element ---- */

/* Index (input i) as i64, with x's number of dimensions and nowhere larger than t but along
 * dimension skip (-1: nowhere). */
static int check_index(call *c, int i, const tensor *t, const char *what, int skip) {
    TRY(cast_input(c, i, VESTIGE_I64));
    const tensor *index = c->in[i];
    bool fits = index->ndim == t->ndim;
    for (int d = 0; d < t->ndim && fits; d++)
        fits = d == skip || index->dim[d] <= t->dim[d];
    if (fits)
        return VESTIGE_OK;
    if (skip < 0)
        return fail(VESTIGE_ESHAPE, "%s: index %s does not fit inside %s %s", opname(c),
                    describe(index), what, describe(t));
    return fail(VESTIGE_ESHAPE, "%s: index %s does not fit inside %s %s outside dimension %d",
                opname(c), describe(index), what, describe(t), skip + 1);
}

static int infer_gather(call *c) {
    const tensor *x = c->in[0];
    int dim;
    TRY(dim_option(c, "dim", x->ndim, &dim));
    TRY(check_index(c, 1, x, "x", dim));
    c->type = x->dtype;
    shape_set(c, 0, x->dtype, x->ndim, c->in[1]->dim);
    return VESTIGE_OK;
}

static int infer_scatter(call *c) {
    const tensor *x = c->in[0];
    int dim;
    TRY(dim_option(c, "dim", x->ndim, &dim));
    TRY(check_index(c, 1, x, "x", dim));
    if (c->in[2]) {
        TRY(same_type(c, 2));
        TRY(check_index(c, 1, c->in[2], "src", -1));
    }
    c->type = x->dtype;
    shape_like(c, 0, x);
    return VESTIGE_OK;
}

/* The adjoints add up src, input 1, in zeros of the option size. */
/* A sum's output is given by its size; src must be what gather or index_select of it gives. */
static int check_sum(call *c, int dim, const shape *part) {
    const tensor *src = c->in[1];
    if (src->ndim != part->ndim || memcmp(src->dim, part->dim, sizeof *src->dim * src->ndim))
        return fail(VESTIGE_ESHAPE, "%s: src: expected %s, got %s", opname(c),
                    shape_text(part->ndim, part->dim), describe(src));
    for (int d = 0; d < part->ndim; d++)
        if (d != dim && part->dim[d] > c->shape[0].dim[d])
            return fail(VESTIGE_ESHAPE, "%s: src %s does not fit inside size outside dimension %d",
                        opname(c), describe(src), dim + 1);
    return VESTIGE_OK;
}

static int infer_sum_of(call *c, bool slices) {
    int dim;
    c->type = c->in[1]->dtype;
    TRY(size_option(c, 0, c->type));
    TRY(cast_input(c, 0, VESTIGE_I64));
    TRY(dim_option(c, "dim", c->shape[0].ndim, &dim));
    const tensor *index = c->in[0];
    shape part = c->shape[0];
    if (slices) {
        if (index->ndim > 1)
            return fail(VESTIGE_ESHAPE, "%s: index: expected one dimension, got %s", opname(c),
                        describe(index));
        if (part.ndim)
            part.dim[dim] = index->numel;
    } else {
        if (index->ndim != part.ndim)
            return fail(VESTIGE_ESHAPE, "%s: index %s does not fit inside %s", opname(c),
                        describe(index), shape_text(part.ndim, part.dim));
        memcpy(part.dim, index->dim, sizeof part.dim);
    }
    return check_sum(c, dim, &part);
}

static int infer_scatter_sum(call *c) {
    return infer_sum_of(c, false);
}

static int infer_index_sum(call *c) {
    return infer_sum_of(c, true);
}

static V gather(grad *g, V x, V index) {
    return RO(gather, OPTS({ "dim", opt(g, "dim") }), x, index);
}

static void grad_gather(grad *g) {
    shape s = in_shape(g, 0);
    give(g, 0,
         RO(scatter_sum, OPTS({ "size", .list = s.dim, .count = s.ndim }, { "dim", opt(g, "dim") }),
            in(g, 1), gout(g, 0)));
}

static void grad_scatter_sum(grad *g) {
    give(g, 1, gather(g, gout(g, 0), in(g, 0)));
}

/* The gradient of src: gathered, and 0 where src has more than the index. */
static void give_src(grad *g) {
    shape index = in_shape(g, 1), src = in_shape(g, 2);
    V v = gather(g, gout(g, 0), in(g, 1));
    for (int d = 0; d < src.ndim; d++)
        if (index.dim[d] < src.dim[d]) {
            index.dim[d] = src.dim[d];
            v = RO(unnarrow,
                   OPTS({ "size", .list = index.dim, .count = index.ndim }, { "dim", d },
                        { "start", 0 }),
                   v);
        }
    give(g, 2, v);
}

static void grad_scatter_add(grad *g) {
    give(g, 0, gout(g, 0));
    if (need(g, 2))
        give_src(g);
}

static void grad_scatter(grad *g) {
    if (need(g, 0))
        give(g, 0, RO(scatter, OPTS({ "dim", opt(g, "dim") }), gout(g, 0), in(g, 1), num(0)));
    if (need(g, 2))
        give_src(g);
}

/* ---- index_select, index_add, index_copy: the index has a place for each slice ---- */
static int check_slices(call *c, int i) {
    TRY(cast_input(c, i, VESTIGE_I64));
    if (c->in[i]->ndim > 1)
        return fail(VESTIGE_ESHAPE, "%s: index: expected one dimension, got %s", opname(c),
                    describe(c->in[i]));
    return VESTIGE_OK;
}

static int infer_index_select(call *c) {
    const tensor *x = c->in[0];
    int dim;
    TRY(dim_option(c, "dim", x->ndim, &dim));
    TRY(check_slices(c, 1));
    c->type = x->dtype;
    shape_like(c, 0, x);
    if (x->ndim)
        c->shape[0].dim[dim] = c->in[1]->numel;
    else if (c->in[1]->numel != 1)
        return fail(VESTIGE_ESHAPE, "index_select: index %s has not one element for %s",
                    describe(c->in[1]), describe(x));
    return VESTIGE_OK;
}

static int infer_index_put(call *c) {
    const tensor *x = c->in[0], *src = c->in[2];
    int dim;
    TRY(dim_option(c, "dim", x->ndim, &dim));
    TRY(check_slices(c, 1));
    TRY(same_type(c, 2));
    shape part = { .ndim = x->ndim };
    memcpy(part.dim, x->dim, sizeof part.dim);
    if (x->ndim)
        part.dim[dim] = c->in[1]->numel;
    if (src->ndim != x->ndim || memcmp(src->dim, part.dim, sizeof *src->dim * src->ndim))
        return fail(VESTIGE_ESHAPE, "%s: source: expected %s, got %s", opname(c),
                    shape_text(part.ndim, part.dim), describe(src));
    c->type = x->dtype;
    shape_like(c, 0, x);
    return VESTIGE_OK;
}

static V index_select(grad *g, V x, V index) {
    return RO(index_select, OPTS({ "dim", opt(g, "dim") }), x, index);
}

static void grad_index_select(grad *g) {
    shape s = in_shape(g, 0);
    give(g, 0,
         RO(index_sum, OPTS({ "size", .list = s.dim, .count = s.ndim }, { "dim", opt(g, "dim") }),
            in(g, 1), gout(g, 0)));
}

static void grad_index_sum(grad *g) {
    give(g, 1, index_select(g, gout(g, 0), in(g, 0)));
}

static void grad_index_add(grad *g) {
    give(g, 0, gout(g, 0));
    if (!need(g, 2))
        return;
    double alpha = opt(g, "alpha");
    V v = index_select(g, gout(g, 0), in(g, 1));
    give(g, 2, alpha == 1 ? v : R(mul, v, num(alpha)));
}

static void grad_index_copy(grad *g) {
    V v = index_select(g, gout(g, 0), in(g, 1));
    if (need(g, 0))
        give(
            g, 0,
            RO(index_copy, OPTS({ "dim", opt(g, "dim") }), gout(g, 0), in(g, 1), R(zeros_like, v)));
    if (need(g, 2))
        give(g, 2, v);
}

/* ---- one_hot ---- */
static int infer_one_hot(call *c) {
    TRY(cast_input(c, 0, VESTIGE_I64));
    const tensor *x = c->in[0];
    int64_t classes = (int64_t)option(c, "num_classes");
    if (classes < 0)
        TRY(count_of(OPID(index_bound), c->in[0], &classes));
    if (x->ndim == VESTIGE_MAXDIM)
        return fail(VESTIGE_ESHAPE, "one_hot: %s has no room for another dimension", describe(x));
    int64_t dim[VESTIGE_MAXDIM];
    memcpy(dim, x->dim, sizeof dim);
    dim[x->ndim] = classes;
    c->type = VESTIGE_I64;
    shape_set(c, 0, VESTIGE_I64, x->ndim + 1, dim);
    return VESTIGE_OK;
}

#define MOVES .flops = flops_none, .domain = { -2, 2 }

const op_row ops_index[] = {
    { .name = "gather",
      .in = "x @dim index:int",
      .out = "y",
      .opts = "dim:dim",
      .infer = infer_gather,
      .grad = grad_gather,
      .keeps = KEEP_IN1,
      MOVES,
      .doc = "Of index's shape: the elements of x whose place along dimension dim is index's value "
             "(0-based), and elsewhere the element's own." },
    { .name = "scatter_sum",
      .in = "index:int src:float",
      .out = "y",
      .opts = "size:size dim:dim",
      .infer = infer_scatter_sum,
      .grad = grad_scatter_sum,
      .keeps = KEEP_IN0,
      MOVES,
      .flags = ROW_HIDDEN,
      .doc = "Zeros of size, plus src at the places of index along dim: gather's gradient." },
    { .name = "scatter_add",
      .in = "x @dim index:int src:tensor",
      .out = "y",
      .opts = "dim:dim",
      .infer = infer_scatter,
      .grad = grad_scatter_add,
      .keeps = KEEP_IN1,
      .domain = { -2, 2 },
      .doc = "x plus src's elements at the places that index (0-based) gives along dimension "
             "dim." },
    { .name = "scatter",
      .in = "x @dim index:int src:tensor|number",
      .out = "y",
      .opts = "dim:dim",
      .infer = infer_scatter,
      .grad = grad_scatter,
      .keeps = KEEP_IN1,
      MOVES,
      .doc = "x with src's elements, or a number, at the places that index (0-based) gives along "
             "dimension dim; of equal places the last counts." },
    { .name = "index_select",
      .in = "x @dim index:int",
      .out = "y",
      .opts = "dim:dim",
      .infer = infer_index_select,
      .grad = grad_index_select,
      .keeps = KEEP_IN1,
      MOVES,
      .doc = "The slices of x along dimension dim whose places (0-based) index lists." },
    { .name = "index_sum",
      .in = "index:int src:float",
      .out = "y",
      .opts = "size:size dim:dim",
      .infer = infer_index_sum,
      .grad = grad_index_sum,
      .keeps = KEEP_IN0,
      MOVES,
      .flags = ROW_HIDDEN,
      .doc = "Zeros of size, plus src's slices at the places of index: index_select's gradient." },
    { .name = "index_add",
      .in = "x @dim index:int source:tensor",
      .out = "y",
      .opts = "dim:dim alpha:float=1",
      .infer = infer_index_put,
      .grad = grad_index_add,
      .keeps = KEEP_IN1,
      .domain = { -2, 2 },
      .doc = "x plus alpha times source's slices at the places (0-based) that index lists along "
             "dimension dim." },
    { .name = "index_copy",
      .in = "x @dim index:int source:tensor",
      .out = "y",
      .opts = "dim:dim",
      .infer = infer_index_put,
      .grad = grad_index_copy,
      .keeps = KEEP_IN1,
      MOVES,
      .doc = "x with source's slices at the places (0-based) that index lists along dimension "
             "dim; of equal places the last counts." },
    { .name = "scatter_add_",
      .in = "x:tensor! @dim index:int src:tensor",
      .opts = "dim:dim",
      .infer = infer_scatter,
      .doc = "scatter_add in place." },
    { .name = "scatter_",
      .in = "x:tensor! @dim index:int src:tensor|number",
      .opts = "dim:dim",
      .infer = infer_scatter,
      .flops = flops_none,
      .doc = "scatter in place." },
    { .name = "index_add_",
      .in = "x:tensor! @dim index:int source:tensor",
      .opts = "dim:dim alpha:float=1",
      .infer = infer_index_put,
      .doc = "index_add in place." },
    { .name = "index_copy_",
      .in = "x:tensor! @dim index:int source:tensor",
      .opts = "dim:dim",
      .infer = infer_index_put,
      .flops = flops_none,
      .doc = "index_copy in place." },
    { .name = "one_hot",
      .in = "x:int",
      .out = "y",
      .opts = "num_classes:int=-1",
      .infer = infer_one_hot,
      MOVES,
      .flags = ROW_SYNC,
      .doc = "i64 of shape (.., num_classes): 1 at the place that x gives, 0 elsewhere. "
             "num_classes -1: one more than the largest of x." },
    { 0 }
};
