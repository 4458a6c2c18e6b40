/* unary.c: functions of one tensor, element by element. */
#include "ops/rules.h"

static int infer_same(call *c) {
    c->type = c->in[0]->dtype;
    shape_like(c, 0, c->in[0]);
    return VESTIGE_OK;
}

static void grad_neg(grad *g) {
    give(g, 0, R(neg, gout(g, 0)));
}

/* y = exp x: y */
static void grad_exp(grad *g) {
    give(g, 0, R(mul, gout(g, 0), out(g, 0)));
}

const op_row ops_unary[] = {
    { .name = "neg", .in = "x", .out = "y", .infer = infer_same, .grad = grad_neg,
      .keeps = KEEP_NONE, .domain = { -2, 2 }, .doc = "-x." },
    { .name = "exp", .in = "x:float", .out = "y", .infer = infer_same, .grad = grad_exp,
      .keeps = KEEP_OUT0, .domain = { -2, 2 }, .doc = "e to the power of x." },
    { 0 }
};
