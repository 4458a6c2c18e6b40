/* count.c: results whose size depends on data, and counts. Their infer functions run a counting
 * operator first and wait for its number. */
#include "ops/rules.h"

static int infer_count(call *c) {
    c->type = c->in[0]->dtype;
    shape_set(c, 0, VESTIGE_I64, 0, c->in[0]->dim);
    return VESTIGE_OK;
}

static int infer_nonzero(call *c) {
    const tensor *x = c->in[0];
    int64_t dim[2] = { 0, x->ndim };
    TRY(count_of(OPID(count_nonzero), c->in[0], &dim[0]));
    c->type = x->dtype;
    shape_set(c, 0, VESTIGE_I64, 2, dim);
    return VESTIGE_OK;
}

/* Input i expanded to the shape that all inputs broadcast to. */
static int expand_input(call *c, int i, const shape *s) {
    T t = c->in[i];
    if (t->ndim == s->ndim && memcmp(t->dim, s->dim, sizeof *t->dim * t->ndim) == 0)
        return VESTIGE_OK;
    double slots[1 + VESTIGE_MAXDIM] = { s->ndim };
    for (int d = 0; d < s->ndim; d++)
        slots[1 + d] = (double)s->dim[d];
    call k = { .op = OPID(expand), .nin = 1, .in = &t, .opt = slots };
    k.row = op_table[k.op].row;
    TRY(dispatch(&k));
    c->in[i] = k.out[0];
    return temp_push(k.out[0]);
}

static int infer_masked_select(call *c) {
    TRY(shape_broadcast(c, 0));
    shape all = c->shape[0];
    for (int i = 0; i < 2; i++)
        TRY(expand_input(c, i, &all));
    int64_t n;
    TRY(count_of(OPID(count_nonzero), c->in[1], &n));
    c->type = c->in[0]->dtype;
    shape_set(c, 0, c->type, 1, &n);
    return VESTIGE_OK;
}

static int infer_masked_spread(call *c) {
    c->type = c->in[0]->dtype;
    shape_like(c, 0, c->in[1]);
    c->shape[0].dtype = c->type;
    int64_t n;
    TRY(count_of(OPID(count_nonzero), c->in[1], &n));
    if (n != c->in[0]->numel)
        return fail(VESTIGE_ESHAPE, "masked_spread: %s for %lld places", describe(c->in[0]),
                    (long long)n);
    return VESTIGE_OK;
}

static void grad_masked_select(grad *g) {
    give(g, 0, R(masked_spread, gout(g, 0), in(g, 1)));
}

static void grad_masked_spread(grad *g) {
    give(g, 0, R(masked_select, gout(g, 0), in(g, 1)));
}

static int infer_bincount(call *c) {
    TRY(cast_input(c, 0, VESTIGE_I64));
    const tensor *x = c->in[0], *weights = c->in[1];
    if (x->ndim != 1)
        return fail(VESTIGE_ESHAPE, "bincount: x: expected one dimension, got %s", describe(x));
    if (weights && (weights->ndim != 1 || weights->numel != x->numel))
        return fail(VESTIGE_ESHAPE, "bincount: weights %s do not fit x %s", describe(weights),
                    describe(x));
    int64_t n, least = (int64_t)option(c, "minlength");
    if (least < 0)
        return fail(VESTIGE_EVALUE, "bincount: minlength: expected 0 or more, got %lld",
                    (long long)least);
    TRY(count_of(OPID(index_bound), c->in[0], &n));
    n = n > least ? n : least;
    c->type = weights ? weights->dtype : VESTIGE_I64;
    shape_set(c, 0, c->type, 1, &n);
    return VESTIGE_OK;
}

const op_row ops_count[] = {
    { .name = "count_nonzero",
      .in = "x",
      .out = "y",
      .infer = infer_count,
      .doc = "How many elements of x are not 0, as an i64." },
    { .name = "index_bound",
      .in = "x:i64",
      .out = "y",
      .infer = infer_count,
      .flags = ROW_HIDDEN,
      .doc = "One more than the largest element of x, at least 0." },
    { .name = "nonzero",
      .in = "x",
      .out = "y",
      .infer = infer_nonzero,
      .flags = ROW_SYNC,
      .flops = flops_none,
      .doc = "i64 of shape (n, x:dim()): the 0-based places of x's elements that are not 0." },
    { .name = "masked_select",
      .in = "x mask:bool",
      .out = "y",
      .infer = infer_masked_select,
      .grad = grad_masked_select,
      .keeps = KEEP_IN1,
      .flags = ROW_SYNC,
      .flops = flops_none,
      .domain = { -2, 2 },
      .doc = "The elements of x where mask is true, in order, with broadcasting." },
    { .name = "masked_spread",
      .in = "x mask:bool",
      .out = "y",
      .infer = infer_masked_spread,
      .grad = grad_masked_spread,
      .keeps = KEEP_IN1,
      .flags = ROW_SYNC | ROW_HIDDEN,
      .flops = flops_none,
      .domain = { -2, 2 },
      .doc = "x's elements in order where mask is true, 0 elsewhere: masked_select's gradient." },
    { .name = "bincount",
      .in = "x:int weights:float?",
      .out = "y",
      .opts = "minlength:int=0",
      .infer = infer_bincount,
      .flags = ROW_SYNC,
      .doc = "How often each number from 0 to the largest of x stands in x, or the sum of its "
             "weights; at least minlength counts." },
    { 0 }
};
