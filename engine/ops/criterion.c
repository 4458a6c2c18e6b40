/* criterion.c: losses that compare two tensors element by element, and cosine similarity. */
#include "ops/loss.h"
#include "ops/rules.h"

/* One number, or one for each element. */
static int shape_reduced(call *c) {
    const tensor *x = c->in[0];
    c->type = x->dtype;
    shape_set(c, 0, c->type, option(c, "reduction") == EACH ? x->ndim : 0, x->dim);
    return VESTIGE_OK;
}

static int infer_criterion(call *c) {
    const tensor *x = c->in[0], *t = c->in[1];
    if (x->ndim != t->ndim || memcmp(x->dim, t->dim, (size_t)x->ndim * sizeof *x->dim) != 0)
        return fail(VESTIGE_ESHAPE, "%s: target: expected the shape of x, %s, got %s", opname(c),
                    describe(x), describe(t));
    TRY(promote(c));
    return shape_reduced(c);
}

/* weight and pos_weight may be broadcast. */
static int infer_binary(call *c) {
    const tensor *x = c->in[0];
    TRY(infer_criterion(c));
    TRY(shape_broadcast(c, 0));
    if (c->shape[0].ndim != x->ndim ||
        memcmp(c->shape[0].dim, x->dim, (size_t)x->ndim * sizeof *x->dim) != 0)
        return fail(VESTIGE_ESHAPE, "%s: the weights do not broadcast to x %s", opname(c),
                    describe(x));
    return shape_reduced(c);
}

static int infer_positive(call *c, const char *name) {
    if (!(option(c, name) > 0))
        return fail(VESTIGE_EVALUE, "%s: %s: expected a number above 0, got %g", opname(c), name,
                    option(c, name));
    return infer_criterion(c);
}

static int infer_smooth_l1(call *c) {
    return infer_positive(c, "beta");
}

static int infer_huber(call *c) {
    return infer_positive(c, "delta");
}

/* ---- Rules ---- */
/* What the loss of one element weighs in the result, times the gradient. */
static V weighed(grad *g) {
    shape x = in_shape(g, 0);
    int how = (int)opt(g, "reduction");
    if (how == MEAN)
        return R(div, gout(g, 0), num((double)product(x.ndim, x.dim)));
    if (how == BATCH_MEAN)
        return R(div, gout(g, 0), num((double)(x.ndim ? x.dim[0] : 1)));
    return gout(g, 0);
}

/* For a function of x - target, from its derivative. */
static void give_difference(grad *g, V slope) {
    V d = R(mul, weighed(g), slope);
    if (need(g, 0))
        give(g, 0, d);
    if (need(g, 1))
        give(g, 1, R(neg, d));
}

static V difference(grad *g) {
    return R(sub, in(g, 0), in(g, 1));
}

static V between(double most, V x) {
    return RO(clamp, OPTS({ "min", -most }, { "max", most }), x);
}

/* 2 (x - t) */
static void grad_mse(grad *g) {
    give_difference(g, R(mul, difference(g), num(2)));
}

static void grad_l1(grad *g) {
    give_difference(g, R(sign, difference(g)));
}

/* (x - t) / beta, cut to 1 */
static void grad_smooth_l1(grad *g) {
    give_difference(g, between(1, R(mul, difference(g), num(1 / opt(g, "beta")))));
}

/* x - t, cut to delta */
static void grad_huber(grad *g) {
    give_difference(g, between(opt(g, "delta"), difference(g)));
}

/* w ((1 - t) s(x) - p t s(-x)) with s the sigmoid: no digit is lost where either is near 0. For
 * the target w (p softplus(-x) - softplus(x)). The weights get no gradient, as in PyTorch. */
static void grad_binary(grad *g) {
    V x = in(g, 0), t = in(g, 1), scale = weighed(g);
    if (present(g, 2))
        scale = R(mul, scale, in(g, 2));
    if (need(g, 0)) {
        V pt = present(g, 3) ? R(mul, t, in(g, 3)) : t;
        V up = R(mul, R(sub, num(1), t), R(sigmoid, x));
        give(g, 0, R(mul, scale, R(sub, up, R(mul, pt, R(sigmoid, R(neg, x))))));
    }
    if (need(g, 1)) {
        V down = R(logsigmoid, x); /* -softplus(-x) */
        if (present(g, 3))
            down = R(mul, down, in(g, 3));
        give(g, 1, R(mul, scale, R(sub, R(logsigmoid, R(neg, x)), down)));
    }
}

/* t (log t - x): -t and log t + 1 - x. Where the target is log t: -e^t and e^t (t - x + 1). */
static void grad_kl_div(grad *g) {
    V x = in(g, 0), t = in(g, 1), scale = weighed(g);
    bool log_target = opt(g, "log_target") != 0;
    V p = log_target ? R(exp, t) : t;
    if (need(g, 0))
        give(g, 0, R(neg, R(mul, scale, p)));
    if (need(g, 1)) {
        V d = R(add, R(sub, log_target ? t : R(log, t), x), num(1));
        give(g, 1, R(mul, scale, log_target ? R(mul, p, d) : d));
    }
}

/* ---- Cosine similarity ---- */
static int infer_cosine(call *c) {
    int dim;
    TRY(promote(c));
    TRY(shape_broadcast(c, 0));
    shape *s = &c->shape[0];
    TRY(dim_option(c, "dim", s->ndim, &dim));
    if (s->ndim > 0) {
        s->ndim--;
        memmove(s->dim + dim, s->dim + dim + 1, (size_t)(s->ndim - dim) * sizeof *s->dim);
    }
    s->dtype = c->type;
    return VESTIGE_OK;
}

/* y = a.b / (|a| |b|), each norm at least eps. For a: b / (|a| |b|) - y a / |a|^2, without the
 * second part where |a| is eps. */
static void grad_cosine(grad *g) {
    double floor = opt(g, "eps") * opt(g, "eps");
    shape s[2] = { in_shape(g, 0), in_shape(g, 1) }, kept = out_shape(g, 0);
    int64_t dim = (int64_t)opt(g, "dim");
    if (s[0].ndim || s[1].ndim) { /* put the summed dimension back */
        memmove(kept.dim + dim + 1, kept.dim + dim, (size_t)(kept.ndim - dim) * sizeof *kept.dim);
        kept.dim[dim] = 1;
        kept.ndim++;
    }
    O size = { "size", .list = kept.dim, .count = kept.ndim };
    V gy = rule_apply(OPID(reshape), (V[]){ gout(g, 0) }, 1, &size, 1, NULL, NULL);
    V y = rule_apply(OPID(reshape), (V[]){ out(g, 0) }, 1, &size, 1, NULL, NULL);
    V v[2], inverse[2], above[2];
    for (int i = 0; i < 2; i++) {
        /* A norm is that of the operand as it is broadcast. */
        int64_t d = dim - kept.ndim + s[i].ndim, other = dim - kept.ndim + s[1 - i].ndim;
        if (kept.ndim)
            kept.dim[dim] =
                d < 0 || s[i].dim[d] == 1 ? (other < 0 ? 1 : s[1 - i].dim[other]) : s[i].dim[d];
        v[i] = rule_apply(OPID(expand), (V[]){ in(g, i) }, 1, &size, 1, NULL, NULL);
        V square = RO(sum, OPTS({ "dim", .list = &dim, .count = 1 }, { "keepdim", 1 }),
                      R(mul, v[i], v[i]));
        inverse[i] = R(rsqrt, R(maximum, square, num(floor)));
        above[i] = R(gt, square, num(floor));
    }
    for (int i = 0; i < 2; i++) {
        if (!need(g, i))
            continue;
        V across = R(mul, R(mul, gy, R(mul, inverse[0], inverse[1])), v[1 - i]);
        V inward = R(mul, R(mul, R(mul, gy, y), R(mul, inverse[i], inverse[i])), above[i]);
        give(g, i, R(sub, across, R(mul, inward, v[i])));
    }
}

#define REDUCTION "reduction:enum(mean|sum|none)=mean"

const op_row ops_criterion[] = {
    { .name = "mse_loss",
      .in = "x:float target",
      .out = "y",
      .opts = REDUCTION,
      .infer = infer_criterion,
      .grad = grad_mse,
      .keeps = KEEP_IN,
      .cast = CAST_F32,
      .domain = { -2, 2 },
      .doc = "(x - target)^2: the mean, the sum, or each." },
    { .name = "l1_loss",
      .in = "x:float target",
      .out = "y",
      .opts = REDUCTION,
      .infer = infer_criterion,
      .grad = grad_l1,
      .keeps = KEEP_IN,
      .cast = CAST_F32,
      .domain = { -2, 2 },
      .doc = "|x - target|: the mean, the sum, or each." },
    { .name = "smooth_l1_loss",
      .in = "x:float target",
      .out = "y",
      .opts = REDUCTION " beta:float=1",
      .infer = infer_smooth_l1,
      .grad = grad_smooth_l1,
      .keeps = KEEP_IN,
      .cast = CAST_F32,
      .domain = { -2, 2 },
      .doc = "With d = |x - target|: d^2 / (2 beta) below beta, d - beta/2 above." },
    { .name = "huber_loss",
      .in = "x:float target",
      .out = "y",
      .opts = REDUCTION " delta:float=1",
      .infer = infer_huber,
      .grad = grad_huber,
      .keeps = KEEP_IN,
      .cast = CAST_F32,
      .domain = { -2, 2 },
      .doc = "With d = |x - target|: d^2 / 2 below delta, delta (d - delta/2) above." },
    { .name = "binary_cross_entropy_with_logits",
      .in = "x:float target weight:float? pos_weight:float?",
      .out = "y",
      .opts = REDUCTION,
      .infer = infer_binary,
      .grad = grad_binary,
      .keeps = KEEP_IN,
      .cast = CAST_F32,
      .domain = { -2, 2 },
      .doc = "-(pos_weight target log p + (1 - target) log(1 - p)) with p = sigmoid(x), times "
             "weight." },
    { .name = "kl_div",
      .in = "x:float target:float",
      .out = "y",
      .opts = "reduction:enum(mean|sum|none|batchmean)=mean log_target:bool=false",
      .infer = infer_criterion,
      .grad = grad_kl_div,
      .keeps = KEEP_IN,
      .cast = CAST_F32,
      .domain = { 0.1, 1 },
      .doc = "target (log target - x), x being log-probabilities; with log_target the target is "
             "too. batchmean is the sum divided by the first dimension, the divergence itself." },
    { .name = "cosine_similarity",
      .in = "a:float b:float",
      .out = "y",
      .opts = "dim:dim=2 eps:float=1e-8",
      .infer = infer_cosine,
      .grad = grad_cosine,
      .keeps = KEEP_IN | KEEP_OUT0,
      .cast = CAST_F32,
      .domain = { -2, 2 },
      .doc = "sum(a b) / (|a| |b|) along dim, with broadcasting, each norm at least eps." },
    { 0 }
};
