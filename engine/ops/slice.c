/* slice.c: parts of a tensor: taken (narrow, select), put back (slice_scatter, select_scatter),
 * and what surrounds it (pad). Each way of taking has the adjoint that puts back into zeros, and is
 * that one's adjoint in turn. */
#include "ops/rules.h"
#include "ops/slice.h"

/* ---- narrow, select: views on the first dimension, copies elsewhere ---- */

static int slice_dim(call *c, const tensor *x, int *dim) {
    if (x->ndim == 0)
        return fail(VESTIGE_ESHAPE, "%s: x has no dimension", opname(c));
    return dim_option(c, "dim", x->ndim, dim);
}

/* A run of whole slices shares x's storage. */
static void view_run(call *c, int dim, int64_t start) {
    const tensor *x = c->in[0];
    c->view = dim == 0;
    c->view_offset = start * product(x->ndim - 1, x->dim + 1);
}

/* Option `name` as a place of n, counted from 0; with `end`, also the place behind the last. */
static int position(call *c, const char *name, int64_t n, bool end, int64_t *at) {
    double *slot = &c->opt[slot_of(c, name)], v = *slot < 0 ? *slot + (double)n : *slot;
    double room = (double)n + (end ? 1 : 0);
    if (!(v >= 0 && v < room))
        return fail(VESTIGE_EVALUE,
                    "%s: %s is out of range: expected %lld to -1 or 1 to %lld, "
                    "got %g",
                    opname(c), name, (long long)-n, (long long)room, *slot < 0 ? *slot : *slot + 1);
    *slot = v;
    *at = (int64_t)v;
    return VESTIGE_OK;
}

static int step_option(const call *c, int64_t *step) {
    double v = option(c, "step");
    if (!(v >= 1))
        return fail(VESTIGE_EVALUE, "%s: step: expected 1 or more, got %g", opname(c), v);
    *step = (int64_t)v;
    return VESTIGE_OK;
}

static int infer_narrow(call *c) {
    const tensor *x = c->in[0];
    int dim;
    int64_t start = 0, step = 1;
    TRY(slice_dim(c, x, &dim));
    TRY(position(c, "start", x->dim[dim], true, &start));
    TRY(step_option(c, &step));
    double length = option(c, "length");
    if (!(length >= 0) ||
        (length > 0 && (double)start + (length - 1) * (double)step >= (double)x->dim[dim]))
        return fail(VESTIGE_EVALUE,
                    "narrow: length %g from %lld does not fit into dimension %d of "
                    "%s",
                    length, (long long)start + 1, dim + 1, describe(x));
    c->type = x->dtype;
    shape_like(c, 0, x);
    c->shape[0].dim[dim] = (int64_t)length;
    if (step == 1)
        view_run(c, dim, start);
    return VESTIGE_OK;
}

static int infer_select(call *c) {
    const tensor *x = c->in[0];
    int dim;
    int64_t index = 0;
    TRY(slice_dim(c, x, &dim));
    TRY(position(c, "index", x->dim[dim], false, &index));
    c->type = x->dtype;
    shape_set(c, 0, x->dtype, x->ndim - 1, x->dim);
    memcpy(c->shape[0].dim + dim, x->dim + dim + 1, (size_t)(x->ndim - dim - 1) * sizeof *x->dim);
    view_run(c, dim, index);
    return VESTIGE_OK;
}

/* x (.., length, ..) put into zeros of `size`. */
static int infer_unnarrow(call *c) {
    c->type = c->in[0]->dtype;
    return size_option(c, 0, c->type);
}

static V unnarrow(V part, shape whole, double dim, double start, double step) {
    return RO(unnarrow,
              OPTS({ "size", .list = whole.dim, .count = whole.ndim }, { "dim", dim },
                   { "start", start }, { "step", step }),
              part);
}

static V narrow(V whole, double dim, double start, double length, double step) {
    return RO(narrow,
              OPTS({ "dim", dim }, { "start", start }, { "length", length }, { "step", step }),
              whole);
}

static void grad_narrow(grad *g) {
    give(g, 0,
         unnarrow(gout(g, 0), in_shape(g, 0), opt(g, "dim"), opt(g, "start"), opt(g, "step")));
}

static void grad_unnarrow(grad *g) {
    double dim = opt(g, "dim");
    give(g, 0,
         narrow(gout(g, 0), dim, opt(g, "start"), (double)in_shape(g, 0).dim[(int)dim],
                opt(g, "step")));
}

static void grad_select(grad *g) {
    shape part = in_shape(g, 0);
    double dim = opt(g, "dim");
    part.dim[(int)dim] = 1;
    V go = RO(reshape, OPTS({ "size", .list = part.dim, .count = part.ndim }), gout(g, 0));
    give(g, 0, unnarrow(go, in_shape(g, 0), dim, opt(g, "index"), 1));
}

/* ---- slice_scatter, select_scatter: x with a part replaced ---- */
static int infer_slice_scatter(call *c) {
    const tensor *x = c->in[0], *src = c->in[1];
    int dim;
    int64_t start = 0, step = 1, n;
    TRY(same_type(c, 1));
    TRY(slice_dim(c, x, &dim));
    n = x->dim[dim];
    TRY(position(c, "start", n, true, &start));
    TRY(step_option(c, &step));
    int64_t last = n - 1;
    if (!isnan(option(c, "last")))
        TRY(position(c, "last", n, false, &last));
    shape part = { .ndim = x->ndim };
    memcpy(part.dim, x->dim, sizeof part.dim);
    part.dim[dim] = last < start ? 0 : (last - start) / step + 1;
    if (src->ndim != x->ndim || memcmp(src->dim, part.dim, sizeof *src->dim * src->ndim))
        return fail(VESTIGE_ESHAPE, "slice_scatter: src: expected %s, got %s",
                    shape_text(part.ndim, part.dim), describe(src));
    c->type = x->dtype;
    shape_like(c, 0, x);
    return VESTIGE_OK;
}

static int infer_select_scatter(call *c) {
    const tensor *x = c->in[0], *src = c->in[1];
    int dim;
    int64_t index = 0;
    TRY(same_type(c, 1));
    TRY(slice_dim(c, x, &dim));
    TRY(position(c, "index", x->dim[dim], false, &index));
    if (src->ndim != x->ndim - 1 || memcmp(src->dim, x->dim, sizeof *x->dim * dim) ||
        memcmp(src->dim + dim, x->dim + dim + 1, sizeof *x->dim * (x->ndim - dim - 1)))
        return fail(VESTIGE_ESHAPE, "select_scatter: src %s is no slice of dimension %d of %s",
                    describe(src), dim + 1, describe(x));
    c->type = x->dtype;
    shape_like(c, 0, x);
    return VESTIGE_OK;
}

static void grad_slice_scatter(grad *g) {
    shape part = in_shape(g, 1);
    double dim = opt(g, "dim"), start = opt(g, "start"), step = opt(g, "step");
    double length = (double)part.dim[(int)dim];
    V src = narrow(gout(g, 0), dim, start, length, step);
    if (need(g, 1))
        give(g, 1, src);
    if (!need(g, 0))
        return;
    if (length == 0) { /* no last place to name */
        give(g, 0, gout(g, 0));
        return;
    }
    give(g, 0,
         RO(slice_scatter,
            OPTS({ "dim", dim }, { "start", start }, { "last", start + (length - 1) * step },
                 { "step", step }),
            gout(g, 0), R(zeros_like, src)));
}

static void grad_select_scatter(grad *g) {
    V src = RRAW(select, slots(g), gout(g, 0)); /* the two rows' options are the same */
    if (need(g, 0))
        give(g, 0, RRAW(select_scatter, slots(g), gout(g, 0), R(zeros_like, src)));
    if (need(g, 1))
        give(g, 1, src);
}

/* ---- pad, and unpad: the sum of what each element was copied to ---- */
static int infer_pad(call *c) {
    const tensor *x = c->in[0];
    const double *pad;
    int n = list_option(c, "pad", &pad), mode = (int)option(c, "mode");
    if (n % 2 || n > 2 * x->ndim || n < 0)
        return fail(VESTIGE_EVALUE,
                    "pad: pad: expected pairs for at most the %d dimensions of %s, "
                    "got %d numbers",
                    x->ndim, describe(x), n);
    int64_t before[VESTIGE_MAXDIM], after[VESTIGE_MAXDIM];
    pads_of(c, x->ndim, before, after);
    shape_like(c, 0, x);
    for (int d = 0; d < x->ndim; d++) {
        int64_t size = x->dim[d], most = before[d] > after[d] ? before[d] : after[d];
        int64_t least = before[d] < after[d] ? before[d] : after[d];
        int64_t room = mode == PAD_REFLECT ? size - 1 : mode == PAD_CIRCULAR ? size : INT32_MAX;
        if (mode != PAD_CONSTANT && (least < 0 || (most > 0 && (most > room || size == 0))))
            return fail(VESTIGE_EVALUE,
                        "pad: dimension %d of %s cannot be padded by %lld and %lld "
                        "in this mode",
                        d + 1, describe(x), (long long)before[d], (long long)after[d]);
        c->shape[0].dim[d] = size + before[d] + after[d];
        if (c->shape[0].dim[d] < 0)
            return fail(VESTIGE_EVALUE, "pad: %lld and %lld take more than dimension %d of %s has",
                        (long long)before[d], (long long)after[d], d + 1, describe(x));
    }
    c->type = x->dtype;
    return VESTIGE_OK;
}

/* The call's list of pads as a rule passes it on. */
static int pad_list(const grad *g, int64_t *list) {
    const double *pad;
    int n = opt_list(g, "pad", &pad);
    for (int i = 0; i < n; i++)
        list[i] = (int64_t)pad[i];
    return n;
}

static void grad_pad(grad *g) {
    shape s = in_shape(g, 0);
    int64_t list[VESTIGE_MAXDIM];
    int n = pad_list(g, list);
    give(g, 0,
         RO(unpad,
            OPTS({ "size", .list = s.dim, .count = s.ndim }, { "pad", .list = list, .count = n },
                 { "mode", opt(g, "mode") }),
            gout(g, 0)));
}

static void grad_unpad(grad *g) {
    int64_t list[VESTIGE_MAXDIM];
    int n = pad_list(g, list);
    give(
        g, 0,
        RO(pad, OPTS({ "pad", .list = list, .count = n }, { "mode", opt(g, "mode") }), gout(g, 0)));
}

#define MOVES .flops = flops_none, .domain = { -2, 2 }
#define PAD_MODES "mode:enum(constant|reflect|replicate|circular)=constant"

const op_row ops_slice[] = {
    { .name = "narrow",
      .in = "x",
      .out = "y",
      .opts = "dim:dim start:position length:int step:int=1",
      .infer = infer_narrow,
      .grad = grad_narrow,
      MOVES,
      .flags = ROW_COPIES_VIEW,
      .doc = "The length slices of x along dimension dim from start on, every step-th. Shares x's "
             "storage on the first dimension with step 1, a copy elsewhere." },
    { .name = "select",
      .in = "x",
      .out = "y",
      .opts = "dim:dim index:position",
      .infer = infer_select,
      .grad = grad_select,
      MOVES,
      .flags = ROW_COPIES_VIEW,
      .doc = "Slice index of x along dimension dim, without that dimension. Shares x's storage on "
             "the first dimension, a copy elsewhere." },
    { .name = "unnarrow",
      .in = "x",
      .out = "y",
      .opts = "size:size dim:dim start:position step:int=1",
      .infer = infer_unnarrow,
      .grad = grad_unnarrow,
      MOVES,
      .flags = ROW_HIDDEN,
      .doc = "Zeros of size with x as its slices along dim from start on: narrow's gradient." },
    { .name = "slice_scatter",
      .in = "x src",
      .out = "y",
      .opts = "dim:dim=1 start:position=1 last:position? step:int=1",
      .infer = infer_slice_scatter,
      .grad = grad_slice_scatter,
      MOVES,
      .doc = "A copy of x whose slices start to last (included; default: to the end), every "
             "step-th, along dimension dim are src's." },
    { .name = "select_scatter",
      .in = "x src",
      .out = "y",
      .opts = "dim:dim index:position",
      .infer = infer_select_scatter,
      .grad = grad_select_scatter,
      MOVES,
      .doc = "A copy of x whose slice index along dimension dim is src." },
    { .name = "pad",
      .in = "x",
      .out = "y",
      .opts = "pad:ints " PAD_MODES " value:float=0",
      .infer = infer_pad,
      .grad = grad_pad,
      MOVES,
      .doc = "x with pad[1] elements before and pad[2] behind its last dimension, pad[3] and "
             "pad[4] about the one before, and so on. They are value, or copied from x: mirrored "
             "without the edge (reflect), the edge (replicate), the other side (circular). "
             "Negative numbers cut away." },
    { .name = "unpad",
      .in = "x",
      .out = "y",
      .opts = "size:size pad:ints " PAD_MODES,
      .infer = infer_unnarrow,
      .grad = grad_unpad,
      MOVES,
      .flags = ROW_HIDDEN,
      .doc = "For each element before a pad to x's shape the sum of what it was copied to: pad's "
             "gradient." },
    { 0 }
};
