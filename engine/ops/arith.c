/* arith.c: add, sub, mul, div of tensors and numbers, with broadcasting. */
#include "ops/rules.h"

static int infer_arith(call *c) {
    TRY(promote(c));
    TRY(shape_broadcast(c, 0));
    c->shape[0].dtype = c->type;
    return VESTIGE_OK;
}

/* As PyTorch: the quotient of integers is a float. */
static int infer_div(call *c) {
    TRY(promote(c));
    if (!is_float(c->type)) {
        c->type = VESTIGE_F32;
        for (int i = 0; i < c->nin; i++)
            TRY(cast_input(c, i, c->type));
    }
    TRY(shape_broadcast(c, 0));
    c->shape[0].dtype = c->type;
    return VESTIGE_OK;
}

/* a + b */
static void grad_add(grad *g) {
    give(g, 0, gout(g, 0));
    give(g, 1, gout(g, 0));
}

/* a - b */
static void grad_sub(grad *g) {
    give(g, 0, gout(g, 0));
    if (need(g, 1))
        give(g, 1, R(neg, gout(g, 0)));
}

/* a * b */
static void grad_mul(grad *g) {
    if (need(g, 0))
        give(g, 0, R(mul, gout(g, 0), in(g, 1)));
    if (need(g, 1))
        give(g, 1, R(mul, gout(g, 0), in(g, 0)));
}

/* y = a / b: 1/b and -y/b */
static void grad_div(grad *g) {
    V da = R(div, gout(g, 0), in(g, 1));
    if (need(g, 0))
        give(g, 0, da);
    if (need(g, 1))
        give(g, 1, R(neg, R(mul, da, R(div, in(g, 0), in(g, 1)))));
}

const op_row ops_arith[] = {
    { .name = "add", .in = "a:tensor|number b:tensor|number", .out = "y", .infer = infer_arith,
      .grad = grad_add, .keeps = KEEP_NONE, .domain = { -2, 2 },
      .doc = "a + b, element by element, with broadcasting." },
    { .name = "sub", .in = "a:tensor|number b:tensor|number", .out = "y", .infer = infer_arith,
      .grad = grad_sub, .keeps = KEEP_NONE, .domain = { -2, 2 },
      .doc = "a - b, element by element, with broadcasting." },
    { .name = "mul", .in = "a:tensor|number b:tensor|number", .out = "y", .infer = infer_arith,
      .grad = grad_mul, .keeps = KEEP_IN, .domain = { -2, 2 },
      .doc = "a * b, element by element, with broadcasting." },
    { .name = "div", .in = "a:tensor|number b:tensor|number", .out = "y", .infer = infer_div,
      .grad = grad_div, .keeps = KEEP_IN, .domain = { 0.5, 2 },
      .doc = "a / b, element by element, with broadcasting. Integers give f32." },
    { .name = "add_", .in = "a:tensor! b:tensor|number", .infer = infer_arith,
      .doc = "a += b in place." },
    { .name = "sub_", .in = "a:tensor! b:tensor|number", .infer = infer_arith,
      .doc = "a -= b in place." },
    { .name = "mul_", .in = "a:tensor! b:tensor|number", .infer = infer_arith,
      .doc = "a *= b in place." },
    { .name = "div_", .in = "a:tensor! b:tensor|number", .infer = infer_div,
      .doc = "a /= b in place." },
    { 0 }
};
