/* unary.c: functions of one tensor, element by element. Activations and the functions of
 * probability have files of their own. */
#include "ops/rules.h"

static int infer_same(call *c) {
    c->type = c->in[0]->dtype;
    shape_like(c, 0, c->in[0]);
    return VESTIGE_OK;
}

/* As PyTorch: of integers it makes f32. */
static int infer_float(call *c) {
    c->type = c->in[0]->dtype;
    TRY(promote_float(c));
    shape_like(c, 0, c->in[0]);
    return VESTIGE_OK;
}

static int infer_test(call *c) {
    c->type = c->in[0]->dtype;
    shape_like(c, 0, c->in[0]);
    c->shape[0].dtype = VESTIGE_BOOL;
    return VESTIGE_OK;
}

/* Bounds that are not whole make a float of integers. */
static int infer_clamp(call *c) {
    double low = option(c, "min"), high = option(c, "max");
    if (isnan(low) && isnan(high))
        return fail(VESTIGE_EVALUE, "%s: expected min, max or both", opname(c));
    c->type = c->in[0]->dtype;
    if ((!isnan(low) && low != floor(low)) || (!isnan(high) && high != floor(high)))
        TRY(promote_float(c));
    shape_like(c, 0, c->in[0]);
    return VESTIGE_OK;
}

static int infer_clamp_backward(call *c) {
    TRY(promote(c));
    shape_like(c, 0, c->in[0]);
    return same_shapes(c);
}

static void grad_neg(grad *g) {
    give(g, 0, R(neg, gout(g, 0)));
}

/* Steps: 0 wherever there is a derivative. */
static void grad_step(grad *g) {
    give(g, 0, R(zeros_like, gout(g, 0)));
}

static void grad_abs(grad *g) {
    give(g, 0, R(mul, gout(g, 0), R(sign, in(g, 0))));
}

/* y = 1/x: -y^2 */
static void grad_reciprocal(grad *g) {
    give(g, 0, R(neg, R(mul, gout(g, 0), R(square, out(g, 0)))));
}

static void grad_square(grad *g) {
    give(g, 0, R(mul, gout(g, 0), R(mul, in(g, 0), num(2))));
}

/* y = sqrt x: 1 / 2y */
static void grad_sqrt(grad *g) {
    give(g, 0, R(div, gout(g, 0), R(mul, out(g, 0), num(2))));
}

/* y = 1 / sqrt x: -y^3 / 2 */
static void grad_rsqrt(grad *g) {
    give(g, 0, R(mul, gout(g, 0), R(mul, R(pow, out(g, 0), num(3)), num(-0.5))));
}

/* y = exp x: y */
static void grad_exp(grad *g) {
    give(g, 0, R(mul, gout(g, 0), out(g, 0)));
}

/* y = exp x - 1: y + 1 */
static void grad_expm1(grad *g) {
    give(g, 0, R(mul, gout(g, 0), R(add, out(g, 0), num(1))));
}

static void grad_log(grad *g) {
    give(g, 0, R(div, gout(g, 0), in(g, 0)));
}

static void grad_log1p(grad *g) {
    give(g, 0, R(div, gout(g, 0), R(add, in(g, 0), num(1))));
}

static void grad_log2(grad *g) {
    give(g, 0, R(div, gout(g, 0), R(mul, in(g, 0), num(M_LN2))));
}

static void grad_log10(grad *g) {
    give(g, 0, R(div, gout(g, 0), R(mul, in(g, 0), num(M_LN10))));
}

static void grad_sin(grad *g) {
    give(g, 0, R(mul, gout(g, 0), R(cos, in(g, 0))));
}

static void grad_cos(grad *g) {
    give(g, 0, R(neg, R(mul, gout(g, 0), R(sin, in(g, 0)))));
}

/* clamp passes the gradient between its bounds and on them. */
static void grad_clamp(grad *g) {
    give(g, 0, RRAW(clamp_backward, slots(g), gout(g, 0), in(g, 0)));
}
static void grad_clamp_backward(grad *g) {
    give(g, 0, RRAW(clamp_backward, slots(g), gout(g, 0), in(g, 1)));
}

#define STEP(function, text)                                                                       \
    {                                                                                              \
        .name = #function, .in = "x", .out = "y", .infer = infer_same, .grad = grad_step,          \
        .keeps = KEEP_NONE, .domain = { -2, 2 }, .doc = text                                       \
    }
#define TEST(function, text)                                                                       \
    { .name = #function, .in = "x", .out = "y:bool", .infer = infer_test, .doc = text }
#define IN_PLACE(function, how)                                                                    \
    { .name = #function "_", .in = "x:tensor!", .infer = how, .doc = "As " #function ", in place." }

const op_row ops_unary[] = {
    { .name = "neg",
      .in = "x",
      .out = "y",
      .infer = infer_same,
      .grad = grad_neg,
      .keeps = KEEP_NONE,
      .domain = { -2, 2 },
      .doc = "-x." },
    { .name = "abs",
      .in = "x",
      .out = "y",
      .infer = infer_same,
      .grad = grad_abs,
      .keeps = KEEP_IN0,
      .domain = { -2, 2 },
      .doc = "The absolute value of x; its gradient at 0 is 0." },
    { .name = "square",
      .in = "x",
      .out = "y",
      .infer = infer_same,
      .grad = grad_square,
      .keeps = KEEP_IN0,
      .domain = { -2, 2 },
      .doc = "x times x." },
    { .name = "reciprocal",
      .in = "x",
      .out = "y",
      .infer = infer_float,
      .grad = grad_reciprocal,
      .keeps = KEEP_OUT0,
      .domain = { 0.5, 2 },
      .doc = "1 / x." },
    { .name = "sqrt",
      .in = "x",
      .out = "y",
      .infer = infer_float,
      .grad = grad_sqrt,
      .keeps = KEEP_OUT0,
      .domain = { 0.5, 2 },
      .doc = "The square root of x." },
    { .name = "rsqrt",
      .in = "x",
      .out = "y",
      .infer = infer_float,
      .grad = grad_rsqrt,
      .keeps = KEEP_OUT0,
      .domain = { 0.5, 2 },
      .doc = "1 / sqrt(x)." },
    { .name = "exp",
      .in = "x",
      .out = "y",
      .infer = infer_float,
      .grad = grad_exp,
      .keeps = KEEP_OUT0,
      .domain = { -2, 2 },
      .doc = "e to the power of x." },
    { .name = "expm1",
      .in = "x",
      .out = "y",
      .infer = infer_float,
      .grad = grad_expm1,
      .keeps = KEEP_OUT0,
      .domain = { -2, 2 },
      .doc = "exp(x) - 1, exact near 0." },
    { .name = "log",
      .in = "x",
      .out = "y",
      .infer = infer_float,
      .grad = grad_log,
      .keeps = KEEP_IN0,
      .domain = { 0.5, 2 },
      .doc = "The natural logarithm of x." },
    { .name = "log1p",
      .in = "x",
      .out = "y",
      .infer = infer_float,
      .grad = grad_log1p,
      .keeps = KEEP_IN0,
      .domain = { -0.5, 2 },
      .doc = "log(1 + x), exact near 0." },
    { .name = "log2",
      .in = "x",
      .out = "y",
      .infer = infer_float,
      .grad = grad_log2,
      .keeps = KEEP_IN0,
      .domain = { 0.5, 2 },
      .doc = "The logarithm of x to the base 2." },
    { .name = "log10",
      .in = "x",
      .out = "y",
      .infer = infer_float,
      .grad = grad_log10,
      .keeps = KEEP_IN0,
      .domain = { 0.5, 2 },
      .doc = "The logarithm of x to the base 10." },
    { .name = "sin",
      .in = "x",
      .out = "y",
      .infer = infer_float,
      .grad = grad_sin,
      .keeps = KEEP_IN0,
      .domain = { -2, 2 },
      .doc = "The sine of x." },
    { .name = "cos",
      .in = "x",
      .out = "y",
      .infer = infer_float,
      .grad = grad_cos,
      .keeps = KEEP_IN0,
      .domain = { -2, 2 },
      .doc = "The cosine of x." },
    { .name = "clamp",
      .in = "x",
      .out = "y",
      .opts = "min:float? max:float?",
      .infer = infer_clamp,
      .grad = grad_clamp,
      .keeps = KEEP_IN0,
      .domain = { -2, 2 },
      .doc = "x, but at least min and at most max." },
    { .name = "clamp_backward",
      .in = "g:float x:float",
      .out = "y",
      .opts = "min:float? max:float?",
      .infer = infer_clamp_backward,
      .grad = grad_clamp_backward,
      .keeps = KEEP_IN1,
      .flags = ROW_HIDDEN,
      .domain = { -2, 2 },
      .doc = "g where x is within the bounds, else 0." },

    STEP(sign, "1, 0 or -1 as x is above, at or below 0; 0 for NaN."),
    STEP(floor, "The largest whole number not above x."),
    STEP(ceil, "The smallest whole number not below x."),
    STEP(round, "The whole number nearest to x, the even one of two."),
    STEP(trunc, "x without its fraction."),
    TEST(isnan, "True where x is not a number."),
    TEST(isinf, "True where x is infinite."),
    TEST(isfinite, "True where x is neither infinite nor NaN."),

    IN_PLACE(neg, infer_same),
    IN_PLACE(abs, infer_same),
    IN_PLACE(square, infer_same),
    IN_PLACE(reciprocal, infer_float),
    IN_PLACE(sqrt, infer_float),
    IN_PLACE(rsqrt, infer_float),
    IN_PLACE(exp, infer_float),
    IN_PLACE(expm1, infer_float),
    IN_PLACE(log, infer_float),
    IN_PLACE(log1p, infer_float),
    IN_PLACE(sin, infer_float),
    IN_PLACE(cos, infer_float),
    IN_PLACE(sign, infer_same),
    IN_PLACE(floor, infer_same),
    IN_PLACE(ceil, infer_same),
    IN_PLACE(round, infer_same),
    IN_PLACE(trunc, infer_same),
    { .name = "clamp_",
      .in = "x:tensor!",
      .opts = "min:float? max:float?",
      .infer = infer_clamp,
      .doc = "As clamp, in place." },
    { 0 },
};
