/* special.c: the functions of probability. */
#include "ops/rules.h"

static int infer_float(call *c) {
    c->type = c->in[0]->dtype;
    TRY(promote_float(c));
    shape_like(c, 0, c->in[0]);
    return VESTIGE_OK;
}

/* k e^(scale v^2): what all of these derivatives are made of. */
static V bell(V v, double scale, double k) {
    return R(mul, R(exp, R(mul, R(square, v), num(scale))), num(k));
}

static const double two_over_root_pi = 1.1283791670955126, root_two_pi = 2.5066282746310002;

static void grad_erf(grad *g) {
    give(g, 0, R(mul, gout(g, 0), bell(in(g, 0), -1, two_over_root_pi)));
}
static void grad_erfc(grad *g) {
    give(g, 0, R(mul, gout(g, 0), bell(in(g, 0), -1, -two_over_root_pi)));
}
static void grad_erfinv(grad *g) {
    give(g, 0, R(mul, gout(g, 0), bell(out(g, 0), 1, 1 / two_over_root_pi)));
}
static void grad_ndtr(grad *g) {
    give(g, 0, R(mul, gout(g, 0), bell(in(g, 0), -0.5, 1 / root_two_pi)));
}
static void grad_ndtri(grad *g) {
    give(g, 0, R(mul, gout(g, 0), bell(out(g, 0), 0.5, root_two_pi)));
}

const op_row ops_special[] = {
    { .name = "erf",
      .in = "x",
      .out = "y",
      .infer = infer_float,
      .grad = grad_erf,
      .keeps = KEEP_IN0,
      .domain = { -2, 2 },
      .doc = "The error function of x." },
    { .name = "erfc",
      .in = "x",
      .out = "y",
      .infer = infer_float,
      .grad = grad_erfc,
      .keeps = KEEP_IN0,
      .domain = { -2, 2 },
      .doc = "1 - erf(x), exact in the tail." },
    { .name = "erfinv",
      .in = "x",
      .out = "y",
      .infer = infer_float,
      .grad = grad_erfinv,
      .keeps = KEEP_OUT0,
      .domain = { -0.95, 0.95 },
      .doc = "The inverse of erf; infinite at -1 and 1, NaN beyond." },
    { .name = "ndtr",
      .in = "x",
      .out = "y",
      .infer = infer_float,
      .grad = grad_ndtr,
      .keeps = KEEP_IN0,
      .domain = { -2, 2 },
      .doc = "The distribution function of N(0,1) at x; also vestige.normal_cdf." },
    { .name = "ndtri",
      .in = "p",
      .out = "y",
      .infer = infer_float,
      .grad = grad_ndtri,
      .keeps = KEEP_OUT0,
      .domain = { 0.05, 0.95 },
      .doc = "The quantile of N(0,1) at p, the inverse of ndtr; also vestige.normal_icdf." },
    { .name = "lgamma",
      .in = "x",
      .out = "y",
      .infer = infer_float,
      .domain = { 0.5, 5 },
      .doc = "The logarithm of |gamma(x)|. Not differentiable." },
    { .name = "erf_", .in = "x:tensor!", .infer = infer_float, .doc = "As erf, in place." },
    { .name = "erfc_", .in = "x:tensor!", .infer = infer_float, .doc = "As erfc, in place." },
    { .name = "erfinv_", .in = "x:tensor!", .infer = infer_float, .doc = "As erfinv, in place." },
    { 0 }
};
