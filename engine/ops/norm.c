/* norm.c: batch normalisation over the last dimension (channels), closed under differentiation.
 *
 * With m and r the mean and 1/sqrt(var + eps) of a channel and h = (x - m) r:
 *   batch_norm_apply(x)    h weight + bias (+ residual, relu)
 *   batch_norm_sums(g, x)  dw = sum of g h, db = sum of g
 *   batch_norm_input(g, x) r weight (g - db/n - h dw/n) in training, r weight g in evaluation
 * The gradient of each is written in these three, so a second derivative runs the fast kernels as
 * well. In training m and r are functions of x: they are handed along so that nobody computes them
 * twice, but get no gradient of their own; the rules account for them in x's. In evaluation they
 * are constants. Where a relu follows, the signs of its outputs are kept, a bit each, and nothing
 * keeps the outputs: they are applied again where a rule wants them (KEEP_AGAIN). The two that read
 * a gradient g take those bits as `mask`, and then read g where they are set, 0 elsewhere. */
#include "ops/rules.h"

/* mean, sums and their kin are not kept in bf16. */
static int statistics_type(int dtype) {
    return dtype == VESTIGE_BF16 ? VESTIGE_F32 : dtype;
}

static int check_channels(const call *c, int i, int64_t channels) {
    const tensor *t = c->in[i];
    if (!t || (t->ndim == 1 && t->dim[0] == channels))
        return VESTIGE_OK;
    return fail(VESTIGE_ESHAPE, "%s: %s: expected (%lld), one for each channel, got %s", opname(c),
                param_of(c, i)->name, (long long)channels, describe(t));
}

/* Input i, channels last, and a (C) vector in the inputs from..to. */
static int check_shapes(const call *c, int i, int from, int to) {
    const tensor *x = c->in[i];
    if (x->ndim < 2)
        return fail(VESTIGE_ESHAPE, "%s: %s: expected (N,C) or (N,H,W,C), channels last, got %s",
                    opname(c), param_of(c, i)->name, describe(x));
    for (int k = from; k <= to; k++)
        TRY(check_channels(c, k, x->dim[x->ndim - 1]));
    return VESTIGE_OK;
}

static void shape_channels(call *c, int out, const tensor *x) {
    shape_set(c, out, statistics_type(x->dtype), 1, &x->dim[x->ndim - 1]);
}

/* The residual, if it is there, has x's shape and type; `mask` has a bit an element, or none
 * without relu. */
static int infer_end(call *c, int mask, bool relu) {
    enum { RESIDUAL = 5 };
    const tensor *x = c->in[0], *r = c->in[RESIDUAL];
    if (r && (r->ndim != x->ndim || memcmp(r->dim, x->dim, (size_t)x->ndim * sizeof *x->dim) != 0))
        return fail(VESTIGE_ESHAPE, "%s: residual: expected %s, as x, got %s", opname(c),
                    shape_text(x->ndim, x->dim), describe(r));
    if (r)
        TRY(cast_input(c, RESIDUAL, x->dtype));
    const int64_t bytes = relu ? (x->numel + 7) / 8 : 0;
    shape_set(c, mask, VESTIGE_U8, 1, &bytes);
    return VESTIGE_OK;
}

/* ---- The operator ---- */
enum { WEIGHT = 1, BIAS, RUNNING_MEAN, RUNNING_VAR, RESIDUAL, MASK = 3 };

static int infer_batch_norm(call *c) {
    const tensor *x = c->in[0];
    TRY(check_shapes(c, 0, 1, RUNNING_VAR));
    int64_t channels = x->dim[x->ndim - 1];
    bool training = option(c, "training") != 0;
    if (!c->in[3] != !c->in[4])
        return fail(VESTIGE_EVALUE, "%s: expected running_mean and running_var together",
                    opname(c));
    if (!training && !c->in[3])
        return fail(VESTIGE_EVALUE,
                    "%s: running_mean: expected a tensor, got nil: outside training the running "
                    "statistics are what is used",
                    opname(c));
    if (training && channels && x->numel / channels < 2)
        return fail(VESTIGE_ESHAPE,
                    "%s: x: expected more than one value a channel in training, got %s", opname(c),
                    describe(x));
    c->type = x->dtype;
    shape_like(c, 0, x);
    shape_channels(c, 1, x);
    shape_channels(c, 2, x);
    return c->nout > MASK ? infer_end(c, MASK, true) : VESTIGE_OK;
}

/* In evaluation x serves the affine gradients alone. */
static int kept_batch_norm(const call *c) {
    const int little = KEEP_IN1 | KEEP_OUT1 | KEEP_OUT2 | (c->nout > MASK ? KEEP_OUT3 : 0);
    bool affine = (c->in[WEIGHT] && c->in[WEIGHT]->node) || (c->in[BIAS] && c->in[BIAS]->node);
    if (option(c, "training") == 0 && !affine)
        return little;
    return little | KEEP_IN0 | KEEP_IN2 | 1 << RESIDUAL | KEEP_AGAIN;
}

/* Results of batch_norm_sums, absent where the rule needs none. */
typedef struct sums {
    V dw, db;
} sums;

/* The options of the parts, from those of any of these rows. */
#define PART_SLOTS(g) ((const double[]){ opt(g, "training"), opt(g, "eps") })

static sums masked_sums_of(grad *g, V gy, V x, V mean, V invstd, V mask) {
    V s[VESTIGE_MAXOUT];
    rule_apply(OPID(batch_norm_sums), (V[]){ gy, x, mean, invstd, mask }, 5, NULL, 0, PART_SLOTS(g),
               s);
    return (sums){ s[0], s[1] };
}

static sums sums_of(grad *g, V gy, V x, V mean, V invstd) {
    return masked_sums_of(g, gy, x, mean, invstd, NONE);
}

static V input_of(grad *g, V gy, V x, V weight, V mean, V invstd, sums s) {
    return RRAW(batch_norm_input, PART_SLOTS(g), gy, x, weight, mean, invstd, s.dw, s.db, NONE);
}

/* h weight + bias. */
static V apply_of(grad *g, V x, V mean, V invstd, V weight, V bias) {
    const double raw[] = { opt(g, "training"), opt(g, "eps"), 0 };
    return RRAW(batch_norm_apply, raw, x, mean, invstd, weight, bias, NONE);
}

/* The same from nothing: the sums are only made where they are used. */
static V input_through(grad *g, V gy, V x, V weight, V mean, V invstd) {
    sums s = { NONE, NONE };
    if (opt(g, "training") != 0)
        s = sums_of(g, gy, x, mean, invstd);
    return input_of(g, gy, x, weight, mean, invstd, s);
}

/* Where an operator of this file has its inputs, and its mask among the outputs. */
typedef struct places {
    int weight, bias, residual, mask;
} places;

/* For batch_norm and batch_norm_apply. */
static void grad_normalised(grad *g, V mean, V invstd, places at, bool relu) {
    if (!has_gout(g, 0))
        return;
    V gy = gout(g, 0), x = NONE, mask = relu ? out(g, at.mask) : NONE;
    if (relu && (need(g, at.residual) || creating_graph(g))) {
        gy = R(masked_by_bits, gy, mask);
        mask = NONE;
    }
    sums s = { NONE, NONE };
    if (need(g, at.weight) || need(g, at.bias) || opt(g, "training") != 0) {
        x = in(g, 0);
        s = masked_sums_of(g, gy, x, mean, invstd, mask);
    }
    if (need(g, at.weight))
        give(g, at.weight, s.dw);
    if (need(g, at.bias))
        give(g, at.bias, s.db);
    if (need(g, at.residual))
        give(g, at.residual, gy);
    if (need(g, 0))
        give(g, 0,
             RRAW(batch_norm_input, PART_SLOTS(g), gy, opt(g, "training") != 0 ? x : NONE,
                  in(g, at.weight), mean, invstd, s.dw, s.db, mask));
}

static const places in_batch_norm = { WEIGHT, BIAS, RESIDUAL, MASK };

static void grad_batch_norm(grad *g) {
    grad_normalised(g, out(g, 1), out(g, 2), in_batch_norm, false);
}

static void grad_batch_norm_relu(grad *g) {
    grad_normalised(g, out(g, 1), out(g, 2), in_batch_norm, true);
}

static V batch_norm_again(grad *g) {
    return apply_of(g, in(g, 0), out(g, 1), out(g, 2), in(g, WEIGHT), in(g, BIAS));
}

static V batch_norm_relu_again(grad *g) {
    const double relu[] = { opt(g, "training"), opt(g, "eps"), 1 };
    return RRAW(batch_norm_apply, relu, in(g, 0), out(g, 1), out(g, 2), in(g, WEIGHT), in(g, BIAS),
                in(g, RESIDUAL));
}

/* ---- Its parts ---- */
static int infer_apply(call *c) {
    TRY(check_shapes(c, 0, 1, 4));
    c->type = c->in[0]->dtype;
    shape_like(c, 0, c->in[0]);
    return infer_end(c, 1, option(c, "relu") != 0);
}

static void grad_apply(grad *g) {
    const places at = { 3, 4, 5, 1 };
    grad_normalised(g, in(g, 1), in(g, 2), at, opt(g, "relu") != 0);
}

/* g where the bit of its element is set: linear in g, and its own gradient. */
static int check_mask(const call *c, int i) {
    const tensor *g = c->in[0], *mask = c->in[i];
    if (!mask || mask->numel == (g->numel + 7) / 8)
        return VESTIGE_OK;
    return fail(VESTIGE_ESHAPE,
                "%s: mask: expected %lld bytes, a bit for each element of g %s, got %s", opname(c),
                (long long)((g->numel + 7) / 8), describe(g), describe(mask));
}

static int infer_masked(call *c) {
    const tensor *g = c->in[0];
    TRY(check_mask(c, 1));
    c->type = g->dtype;
    shape_like(c, 0, g);
    return VESTIGE_OK;
}

static void grad_masked(grad *g) {
    give(g, 0, R(masked_by_bits, gout(g, 0), in(g, 1)));
}

/* Masked by input i, if that is there. */
static V masked_in(grad *g, V v, int i) {
    return present(g, i) ? R(masked_by_bits, v, in(g, i)) : v;
}

/* g and x in one type; the last input is the mask. */
static int infer_pair(call *c) {
    TRY(check_shapes(c, 1, 2, c->nin - 2));
    TRY(check_mask(c, c->nin - 1));
    int a = c->in[0]->dtype, b = c->in[1]->dtype;
    if (a != b) {
        int widest = a == VESTIGE_F64 || b == VESTIGE_F64 ? VESTIGE_F64 : VESTIGE_F32;
        TRY(cast_input(c, 0, widest));
        TRY(cast_input(c, 1, widest));
    }
    const tensor *gy = c->in[0], *x = c->in[1];
    if (gy->ndim != x->ndim || memcmp(gy->dim, x->dim, (size_t)x->ndim * sizeof *x->dim) != 0)
        return fail(VESTIGE_ESHAPE, "%s: g %s and x %s differ", opname(c), describe(gy),
                    describe(x));
    c->type = x->dtype;
    return VESTIGE_OK;
}

static int infer_sums(call *c) {
    TRY(infer_pair(c));
    shape_channels(c, 0, c->in[1]);
    shape_channels(c, 1, c->in[1]);
    return VESTIGE_OK;
}

/* sum of b g h + c g. To g: b h + c. To x, by h: batch_norm_input of b g, where b, one a channel,
 * takes the weight's place. */
static void grad_sums(grad *g) {
    V x = in(g, 1), mean = in(g, 2), invstd = in(g, 3);
    V b = has_gout(g, 0) ? gout(g, 0) : R(zeros_like, gout(g, 1));
    V c = has_gout(g, 1) ? gout(g, 1) : NONE;
    if (need(g, 0))
        give(g, 0, masked_in(g, apply_of(g, x, mean, invstd, b, c), 4));
    if (need(g, 1) && has_gout(g, 0))
        give(g, 1, input_through(g, masked_in(g, in(g, 0), 4), x, b, mean, invstd));
}

static int infer_input(call *c) {
    bool training = option(c, "training") != 0;
    if (training && !(c->in[1] && c->in[5] && c->in[6]))
        return fail(VESTIGE_EVALUE, "batch_norm_input: expected x, dw and db in training");
    if (c->in[1])
        TRY(infer_pair(c));
    else
        TRY(check_shapes(c, 0, 2, c->nin - 2));
    TRY(check_mask(c, c->nin - 1));
    c->type = c->in[0]->dtype;
    shape_like(c, 0, c->in[0]);
    return VESTIGE_OK;
}

/* In evaluation it is a product of g and weight. */
static int kept_input(const call *c) {
    if (option(c, "training") != 0)
        return KEEP_IN | KEEP_OUT0;
    bool weight = c->in[2] && c->in[2]->node;
    return KEEP_IN2 | KEEP_IN3 | 1 << 4 | 1 << 7 | (weight ? KEEP_IN0 : 0);
}

/* r with its history, where a third derivative may follow. */
static V invstd_with_history(grad *g, V x) {
    if (!creating_graph(g))
        return in(g, 4);
    V s[VESTIGE_MAXOUT];
    O eps = { "eps", .v = opt(g, "eps") };
    rule_apply(OPID(batch_norm_statistics), &x, 1, &eps, 1, NULL, s);
    return s[1];
}

/* y = r w (g - db/n - h dw/n). It is its own adjoint in g. In x, by h and by r: with
 * q = -(a dw + g dw(a)) r w / n, batch_norm_input of q, less h r/n times the sum of a y. */
static void grad_input(grad *g) {
    bool training = opt(g, "training") != 0;
    V a = gout(g, 0), x = NONE, w = in(g, 2), mean = in(g, 3), invstd = in(g, 4);
    sums of_g = { NONE, NONE }, of_a = { NONE, NONE };
    if (training) {
        x = in(g, 1);
        of_g = (sums){ in(g, 5), in(g, 6) };
    }
    if (training && (need(g, 0) || need(g, 1)))
        of_a = sums_of(g, a, x, mean, invstd);
    if (need(g, 0))
        give(g, 0, masked_in(g, input_of(g, a, x, w, mean, invstd, of_a), 7));
    V gy = need(g, 2) || (training && need(g, 1)) ? masked_in(g, in(g, 0), 7) : NONE;
    if (need(g, 2)) /* the walk sums over the rows */
        give(g, 2, R(mul, a, input_of(g, gy, x, NONE, mean, invstd, of_g)));
    if (!training || !need(g, 1))
        return;
    shape s = in_shape(g, 1);
    double n = (double)product(s.ndim - 1, s.dim);
    V r = invstd_with_history(g, x), rw = present(g, 2) ? R(mul, r, w) : r;
    V scale = R(mul, rw, num(-1 / n));
    V q = R(add, R(mul, a, R(mul, of_g.dw, scale)), R(mul, gy, R(mul, of_a.dw, scale)));
    V along_h = input_through(g, q, x, NONE, mean, invstd);
    V ay =
        RO(sum_to, OPTS({ "size", .list = &s.dim[s.ndim - 1], .count = 1 }), R(mul, a, out(g, 0)));
    V by_r = R(mul, R(mul, ay, r), num(-1 / n));
    give(g, 1, R(add, along_h, apply_of(g, x, mean, invstd, by_r, NONE)));
}

static int infer_statistics(call *c) {
    TRY(check_shapes(c, 0, 1, c->nin - 1));
    c->type = c->in[0]->dtype;
    shape_channels(c, 0, c->in[0]);
    shape_channels(c, 1, c->in[0]);
    return VESTIGE_OK;
}

/* r changes by -r^2 h / n, m by 1 / n. */
static void grad_statistics(grad *g) {
    V x = in(g, 0), r = out(g, 1);
    shape s = in_shape(g, 0);
    double n = (double)product(s.ndim - 1, s.dim);
    V by_r = has_gout(g, 1) ? R(mul, R(mul, R(mul, r, r), gout(g, 1)), num(-1 / n))
                            : R(zeros_like, gout(g, 0));
    V by_m = has_gout(g, 0) ? R(mul, gout(g, 0), num(1 / n)) : NONE;
    const double training[] = { 1, opt(g, "eps"), 0 };
    give(g, 0, RRAW(batch_norm_apply, training, x, out(g, 0), r, by_r, by_m, NONE));
}

const op_row ops_norm[] = {
    { .name = "batch_norm",
      .in = "x:float weight:float? bias:float? running_mean:float?! running_var:float?!",
      .out = "y mean invstd",
      .opts = "training:bool=false momentum:float=0.1 eps:float=1e-5",
      .infer = infer_batch_norm,
      .grad = grad_batch_norm,
      .again = batch_norm_again,
      .kept = kept_batch_norm,
      .flags = ROW_OUT1_FIXED | ROW_OUT2_FIXED,
      .domain = { -2, 2 },
      .doc =
          "x (N,...,C) less the mean of its channel, divided by sqrt(variance + eps), times "
          "weight, plus bias. In training the statistics are those of x, and move the running "
          "ones by momentum (with the unbiased variance); otherwise the running ones are used." },
    { .name = "batch_norm_relu",
      .in = "x:float weight:float? bias:float? running_mean:float?! running_var:float?! "
            "residual:float?",
      .out = "y mean invstd mask:u8",
      .opts = "training:bool=false momentum:float=0.1 eps:float=1e-5",
      .infer = infer_batch_norm,
      .grad = grad_batch_norm_relu,
      .again = batch_norm_relu_again,
      .kept = kept_batch_norm,
      .flags = ROW_OUT1_FIXED | ROW_OUT2_FIXED,
      .domain = { -2, 2 },
      .doc = "relu(batch_norm(x) + residual) in one pass; residual, of x's shape, may be left out. "
             "mask has a bit for each element of y, set where it is positive." },
    { .name = "batch_norm_apply",
      .in = "x:float mean:float invstd:float weight:float? bias:float? residual:float?",
      .out = "y mask:u8",
      .opts = "training:bool=false eps:float=1e-5 relu:bool=false",
      .infer = infer_apply,
      .grad = grad_apply,
      .keeps = KEEP_IN0 | KEEP_IN1 | KEEP_IN2 | KEEP_IN3 | KEEP_OUT1,
      .flags = ROW_HIDDEN,
      .domain = { 0.5, 2 },
      .doc = "batch_norm with given statistics." },
    { .name = "masked_by_bits",
      .in = "g:float mask:u8",
      .out = "y",
      .infer = infer_masked,
      .grad = grad_masked,
      .keeps = KEEP_IN1,
      .flags = ROW_HIDDEN,
      .domain = { 0, 200 },
      .doc = "g where the bit of its element in mask is set (bit e % 8 of byte e / 8 for element "
             "e), else 0." },
    { .name = "batch_norm_sums",
      .in = "g:float x:float mean:float invstd:float mask:u8?",
      .out = "dw db",
      .opts = "training:bool=false eps:float=1e-5",
      .infer = infer_sums,
      .grad = grad_sums,
      .keeps = KEEP_IN,
      .flags = ROW_HIDDEN,
      .domain = { 0.5, 2 },
      .doc = "batch_norm's gradients for weight and bias." },
    { .name = "batch_norm_input",
      .in = "g:float x:float? weight:float? mean:float invstd:float dw:float? db:float? mask:u8?",
      .out = "dx",
      .opts = "training:bool=false eps:float=1e-5",
      .infer = infer_input,
      .grad = grad_input,
      .kept = kept_input,
      .flags = ROW_HIDDEN,
      .domain = { 0.5, 2 },
      .doc = "batch_norm's gradient for x; in training it takes the gradients for weight and "
             "bias." },
    { .name = "batch_norm_statistics",
      .in = "x:float",
      .out = "mean invstd",
      .opts = "eps:float=1e-5",
      .infer = infer_statistics,
      .grad = grad_statistics,
      .keeps = KEEP_IN0 | KEEP_OUT0 | KEEP_OUT1,
      .flags = ROW_HIDDEN,
      .domain = { -2, 2 },
      .doc = "Mean and 1/sqrt(variance + eps) of each channel." },
    { 0 }
};
