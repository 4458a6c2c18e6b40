/* loss.c: negative log-likelihood and cross entropy. Classes are the last dimension of x.
 *
 * Both are linear in the log-probabilities: loss of row i = -sum_j t_ij logp_ij / c, where t_ij is
 * (1 - smoothing) w_y at the label y plus smoothing w_j / classes, or for soft targets
 * w_j ((1 - smoothing) target_ij + smoothing / classes), and c the weight of all rows for a mean.
 * class_slope is -t g / c. */
#include <stdio.h>
#include "ops/loss.h"
#include "ops/rules.h"

int bad_label(const call *c, const tensor *target, int64_t at, int64_t label, int64_t classes) {
    char place[128] = "";
    int64_t index[VESTIGE_MAXDIM];
    for (int d = target->ndim - 1; d >= 0; d--) {
        index[d] = at % target->dim[d] + 1;
        at /= target->dim[d];
    }
    for (int d = 0, n = 0; d < target->ndim && n < (int)sizeof place - 24; d++)
        n += snprintf(place + n, sizeof place - (size_t)n, "%s%lld", d ? "," : "",
                      (long long)index[d]);
    return fail(VESTIGE_EVALUE, "%s: target[%s] is %lld: expected a class from 0 to %lld%s",
                opname(c), place, (long long)label, (long long)classes - 1,
                label < 0 ? " or ignore_index" : "");
}

static bool soft_target(const call *c) {
    return is_float(c->in[1]->dtype);
}

/* x (..., classes) with target (...), or of x's shape when it is soft. */
static int check_target(call *c) {
    const tensor *x = c->in[0], *target = c->in[1], *weight = c->in[2];
    bool soft = soft_target(c);
    if (x->ndim < 1)
        return fail(VESTIGE_ESHAPE, "%s: x: expected (...,classes), got %s", opname(c),
                    describe(x));
    if (target->dtype == VESTIGE_BOOL)
        return fail(VESTIGE_ETYPE, "%s: target: expected classes (i64) or probabilities, got %s",
                    opname(c), describe(target));
    int ndim = soft ? x->ndim : x->ndim - 1;
    if (target->ndim != ndim || memcmp(target->dim, x->dim, (size_t)ndim * sizeof *x->dim) != 0)
        return fail(VESTIGE_ESHAPE, "%s: target: expected %s for x %s, got %s%s", opname(c),
                    shape_text(ndim, x->dim), describe(x), describe(target),
                    soft ? "" : " (classes are x's last dimension)");
    int64_t classes = x->dim[x->ndim - 1];
    if (weight && !(weight->ndim == 1 && weight->dim[0] == classes))
        return fail(VESTIGE_ESHAPE, "%s: weight: expected (%lld), one for each class, got %s",
                    opname(c), (long long)classes, describe(weight));
    if (soft)
        TRY(cast_input(c, 1, x->dtype));
    return cast_input(c, 2, x->dtype);
}

/* The loss: one number, or one for each row. */
static void shape_loss(call *c, int out, int dtype) {
    const tensor *x = c->in[0];
    shape_set(c, out, dtype, option(c, "reduction") == EACH ? x->ndim - 1 : 0, x->dim);
}

static int infer_nll_loss(call *c) {
    if (soft_target(c))
        return fail(VESTIGE_ETYPE, "nll_loss: target: expected classes (i64), got %s",
                    describe(c->in[1]));
    TRY(check_target(c));
    c->type = c->in[0]->dtype;
    shape_loss(c, 0, c->type);
    return VESTIGE_OK;
}

static int infer_cross_entropy(call *c) {
    double smoothing = option(c, "label_smoothing");
    if (!(smoothing >= 0 && smoothing <= 1))
        return fail(VESTIGE_EVALUE, "cross_entropy: label_smoothing: expected 0 to 1, got %g",
                    smoothing);
    if (soft_target(c) && option(c, "ignore_index") >= 0)
        return fail(VESTIGE_EVALUE, "cross_entropy: ignore_index is for targets that are classes");
    TRY(check_target(c));
    const tensor *x = c->in[0];
    c->type = x->dtype;
    shape_loss(c, 0, c->type);
    int statistics = c->type == VESTIGE_BF16 ? VESTIGE_F32 : c->type;
    shape_set(c, 1, statistics, x->ndim - 1, x->dim);
    shape_set(c, 2, statistics, x->ndim - 1, x->dim);
    return VESTIGE_OK;
}

static int infer_cross_entropy_backward(call *c) {
    c->type = c->in[1]->dtype;
    TRY(cast_input(c, 0, c->type));
    shape_like(c, 0, c->in[1]);
    return VESTIGE_OK;
}

static int infer_class_slope(call *c) {
    const tensor *target = c->in[1];
    int64_t dim[VESTIGE_MAXDIM];
    if (is_float(target->dtype) || target->ndim >= VESTIGE_MAXDIM)
        return fail(VESTIGE_ETYPE, "class_slope: target: expected classes, got %s",
                    describe(target));
    memcpy(dim, target->dim, (size_t)target->ndim * sizeof *dim);
    dim[target->ndim] = (int64_t)option(c, "classes");
    c->type = c->in[0]->dtype;
    TRY(cast_input(c, 2, c->type));
    shape_set(c, 0, c->type, target->ndim + 1, dim);
    return VESTIGE_OK;
}

/* ---- Rules. weight gets no gradient, as in PyTorch. ---- */
static int64_t classes_of(const grad *g) {
    shape x = in_shape(g, 0);
    return x.dim[x.ndim - 1];
}

static V class_slope(grad *g, double smoothing) {
    return RO(class_slope,
              OPTS({ "classes", (double)classes_of(g) }, { "ignore_index", opt(g, "ignore_index") },
                   { "reduction", opt(g, "reduction") }, { "label_smoothing", smoothing }),
              gout(g, 0), in(g, 1), in(g, 2));
}

static void grad_nll_loss(grad *g) {
    if (need(g, 0))
        give(g, 0, class_slope(g, 0));
}

/* It is linear in g: the sum over classes of a times the slope at g = 1; for one g the walk goes
 * on to sum over the rows. */
static void grad_class_slope(grad *g) {
    V one = R(ones_like, in(g, 0));
    V slope = RRAW(class_slope, slots(g), one, in(g, 1), in(g, 2));
    int64_t last = in_shape(g, 1).ndim;
    give(g, 0, RO(sum, OPTS({ "dim", .list = &last, .count = 1 }), R(mul, gout(g, 0), slope)));
}

/* -g / c with a last dimension of 1. */
static V row_scale(grad *g) {
    shape x = in_shape(g, 0);
    x.dim[x.ndim - 1] = 1;
    V scale = R(neg, gout(g, 0));
    if (opt(g, "reduction") == EACH)
        return RO(reshape, OPTS({ "size", .list = x.dim, .count = x.ndim }), scale);
    return opt(g, "reduction") == SUM ? scale : R(div, scale, num((double)product(x.ndim, x.dim)));
}

static V times_weight(grad *g, V x) {
    return present(g, 2) ? R(mul, x, in(g, 2)) : x;
}

static V soft_slope(grad *g) {
    double smoothing = opt(g, "label_smoothing");
    V t = in(g, 1);
    if (smoothing != 0)
        t = R(add, R(mul, t, num(1 - smoothing)), num(smoothing / (double)classes_of(g)));
    return R(mul, row_scale(g), times_weight(g, t));
}

static void grad_cross_entropy(grad *g) {
    bool soft = is_float(in_shape(g, 1).dtype);
    double last = in_shape(g, 0).ndim - 1;
    if (need(g, 0) && !creating_graph(g)) {
        give(g, 0,
             RRAW(cross_entropy_backward, slots(g), gout(g, 0), in(g, 0), in(g, 1), in(g, 2),
                  out(g, 1), out(g, 2)));
    } else if (need(g, 0)) {
        V slope = soft ? soft_slope(g) : class_slope(g, opt(g, "label_smoothing"));
        V logp = RO(log_softmax, OPTS({ "dim", last }), in(g, 0));
        give(g, 0, RO(log_softmax_backward, OPTS({ "dim", last }), slope, logp));
    }
    if (soft && need(g, 1)) {
        V logp = RO(log_softmax, OPTS({ "dim", last }), in(g, 0));
        V scale = R(mul, row_scale(g), num(1 - opt(g, "label_smoothing")));
        give(g, 1, R(mul, scale, times_weight(g, logp)));
    }
}

const op_row ops_loss[] = {
    { .name = "nll_loss",
      .in = "x:float target weight:float?",
      .out = "y",
      .opts = "ignore_index:int=-100 reduction:enum(mean|sum|none)=mean",
      .infer = infer_nll_loss,
      .grad = grad_nll_loss,
      .keeps = KEEP_IN1 | KEEP_IN2,
      .cast = CAST_F32,
      .domain = { -2, 0 },
      .doc = "Minus the log-probability x (...,classes) of the class in target (...), times the "
             "class's weight. A mean is over the weights; rows of class ignore_index are left "
             "out." },
    { .name = "cross_entropy",
      .in = "x:float target weight:float?",
      .out = "y most logsum",
      .opts = "ignore_index:int=-100 reduction:enum(mean|sum|none)=mean label_smoothing:float=0",
      .infer = infer_cross_entropy,
      .grad = grad_cross_entropy,
      .keeps = KEEP_IN | KEEP_OUT1 | KEEP_OUT2,
      .flags = ROW_OUT1_FIXED | ROW_OUT2_FIXED,
      .cast = CAST_F32,
      .domain = { -2, 2 },
      .doc = "nll_loss of log_softmax(x, -1) for classes in target (...), or for soft targets of "
             "x's shape (...,classes) minus the sum of target times log-probability; a mean is "
             "then over the rows. label_smoothing mixes the target with 1/classes." },
    { .name = "cross_entropy_backward",
      .in = "g:float x:float target weight:float? most:float logsum:float",
      .out = "dx",
      .opts = "ignore_index:int=-100 reduction:enum(mean|sum|none)=mean label_smoothing:float=0",
      .infer = infer_cross_entropy_backward,
      .flags = ROW_HIDDEN,
      .cast = CAST_F32,
      .domain = { -2, 2 },
      .doc = "cross_entropy's gradient for x, from each row's largest element and logarithm of "
             "the sum of exponentials beside it." },
    { .name = "class_slope",
      .in = "g:float target weight:float?",
      .out = "d",
      .opts = "classes:int ignore_index:int=-100 reduction:enum(mean|sum|none)=mean "
              "label_smoothing:float=0",
      .infer = infer_class_slope,
      .grad = grad_class_slope,
      .keeps = KEEP_IN,
      .flags = ROW_HIDDEN,
      .cast = CAST_F32,
      .domain = { -2, 2 },
      .doc = "The gradient of nll_loss, and of cross_entropy for the log-probabilities." },
    { 0 }
};
