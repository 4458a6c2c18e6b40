/* arith.c: arithmetic of tensors and numbers, with broadcasting. */
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
    TRY(promote_float(c));
    TRY(shape_broadcast(c, 0));
    c->shape[0].dtype = c->type;
    return VESTIGE_OK;
}

static int infer_pow(call *c) {
    TRY(infer_arith(c));
    if (!is_float(c->type) && !c->in[1] && c->num[1] < 0)
        return fail(VESTIGE_EVALUE, "%s: integers have no negative powers; cast %s with :to('f32')",
                    opname(c), describe(c->in[0]));
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

/* a - b floor(a/b): 1 and -floor(a/b) */
static void grad_remainder(grad *g) {
    give(g, 0, gout(g, 0));
    if (need(g, 1))
        give(g, 1, R(neg, R(mul, gout(g, 0), R(floor, R(div, in(g, 0), in(g, 1))))));
}

/* b a^(b-1). Where a and b are 0 the power has no history worth following: it is 1. */
static V pow_by_base(V a, V b) {
    if (!b.t)
        return b.n == 0 ? R(mul, a, num(0)) : R(mul, R(pow, a, num(b.n - 1)), b);
    V corner = R(logical_and, R(eq, a, num(0)), R(eq, b, num(0)));
    return R(mul, R(pow, R(masked_fill, a, corner, num(1)), R(sub, b, num(1))), b);
}

/* y log a, and 0 where a is 0 (and b is not negative). */
static V pow_by_exponent(V a, V b, V y) {
    if (!a.t)
        return a.n == 0 ? R(mul, y, num(0)) : R(mul, y, num(log(a.n)));
    V zero = R(logical_and, R(eq, a, num(0)), R(ge, b, num(0)));
    return R(mul, y, R(log, R(masked_fill, a, zero, num(1))));
}

static void grad_pow(grad *g) {
    if (need(g, 0))
        give(g, 0, R(mul, gout(g, 0), pow_by_base(in(g, 0), in(g, 1))));
    if (need(g, 1))
        give(g, 1, R(mul, gout(g, 0), pow_by_exponent(in(g, 0), in(g, 1), out(g, 0))));
}

/* Of two equal elements each gets half. */
static void give_chosen(grad *g, V first_wins) {
    V share = R(where, R(eq, in(g, 0), in(g, 1)), num(0.5),
                RO(to, OPTS({ "dtype", out_shape(g, 0).dtype }), first_wins));
    V first = R(mul, gout(g, 0), share);
    give(g, 0, first);
    if (need(g, 1))
        give(g, 1, R(sub, gout(g, 0), first));
}
static void grad_maximum(grad *g) {
    give_chosen(g, R(gt, in(g, 0), in(g, 1)));
}
static void grad_minimum(grad *g) {
    give_chosen(g, R(lt, in(g, 0), in(g, 1)));
}

/* a + w (b - a) */
static void grad_lerp(grad *g) {
    V w = in(g, 2);
    if (need(g, 0))
        give(g, 0, R(mul, gout(g, 0), w.t ? R(sub, num(1), w) : num(1 - w.n)));
    if (need(g, 1))
        give(g, 1, R(mul, gout(g, 0), w));
    if (need(g, 2))
        give(g, 2, R(mul, gout(g, 0), R(sub, in(g, 1), in(g, 0))));
}

/* x + value a b */
static void grad_addcmul(grad *g) {
    give(g, 0, gout(g, 0));
    if (!need(g, 1) && !need(g, 2))
        return;
    V scaled = R(mul, gout(g, 0), num(opt(g, "value")));
    if (need(g, 1))
        give(g, 1, R(mul, scaled, in(g, 2)));
    if (need(g, 2))
        give(g, 2, R(mul, scaled, in(g, 1)));
}

/* x + value a / b */
static void grad_addcdiv(grad *g) {
    give(g, 0, gout(g, 0));
    if (!need(g, 1) && !need(g, 2))
        return;
    V da = R(div, R(mul, gout(g, 0), num(opt(g, "value"))), in(g, 2));
    give(g, 1, da);
    if (need(g, 2))
        give(g, 2, R(neg, R(mul, da, R(div, in(g, 1), in(g, 2)))));
}

/* ---- copy_, fill_, zero_ ---- */
static int infer_copy(call *c) {
    c->type = c->in[0]->dtype;
    TRY(cast_input(c, 1, c->type));
    return shape_broadcast(c, 0);
}

static int infer_fill(call *c) {
    if (c->in[1] && c->in[1]->numel != 1)
        return fail(VESTIGE_ESHAPE,
                    "fill_: value: expected a number or a tensor of one element, "
                    "got %s",
                    describe(c->in[1]));
    c->type = c->in[0]->dtype;
    return cast_input(c, 1, c->type);
}

static int infer_zero(call *c) {
    c->type = c->in[0]->dtype;
    return VESTIGE_OK;
}

#define BOTH "a:tensor|number b:tensor|number"
#define INTO "a:tensor! b:tensor|number"

const op_row ops_arith[] = {
    { .name = "add",
      .in = BOTH,
      .out = "y",
      .infer = infer_arith,
      .grad = grad_add,
      .keeps = KEEP_NONE,
      .domain = { -2, 2 },
      .doc = "a + b, element by element, with broadcasting." },
    { .name = "sub",
      .in = BOTH,
      .out = "y",
      .infer = infer_arith,
      .grad = grad_sub,
      .keeps = KEEP_NONE,
      .domain = { -2, 2 },
      .doc = "a - b, element by element, with broadcasting." },
    { .name = "mul",
      .in = BOTH,
      .out = "y",
      .infer = infer_arith,
      .grad = grad_mul,
      .keeps = KEEP_IN,
      .flags = ROW_PRODUCT,
      .domain = { -2, 2 },
      .doc = "a * b, element by element, with broadcasting." },
    { .name = "div",
      .in = BOTH,
      .out = "y",
      .infer = infer_div,
      .grad = grad_div,
      .keeps = KEEP_IN,
      .domain = { 0.5, 2 },
      .doc = "a / b, element by element, with broadcasting. Integers give f32." },
    { .name = "pow",
      .in = BOTH,
      .out = "y",
      .infer = infer_pow,
      .grad = grad_pow,
      .keeps = KEEP_IN | KEEP_OUT0,
      .domain = { 0.5, 2 },
      .doc = "a to the power of b." },
    { .name = "remainder",
      .in = BOTH,
      .out = "y",
      .infer = infer_arith,
      .grad = grad_remainder,
      .keeps = KEEP_IN,
      .domain = { 0.5, 2 },
      .doc = "a - b * floor(a / b): what is left of a, with the sign of b." },
    { .name = "floor_divide",
      .in = BOTH,
      .out = "y",
      .infer = infer_arith,
      .domain = { 0.5, 2 },
      .doc = "floor(a / b)." },
    { .name = "maximum",
      .in = BOTH,
      .out = "y",
      .infer = infer_arith,
      .grad = grad_maximum,
      .keeps = KEEP_IN,
      .domain = { -2, 2 },
      .doc = "The larger of a and b; NaN where either is NaN. Ties share the gradient." },
    { .name = "minimum",
      .in = BOTH,
      .out = "y",
      .infer = infer_arith,
      .grad = grad_minimum,
      .keeps = KEEP_IN,
      .domain = { -2, 2 },
      .doc = "The smaller of a and b; NaN where either is NaN. Ties share the gradient." },
    { .name = "lerp",
      .in = "start:tensor end:tensor weight:tensor|number",
      .out = "y",
      .infer = infer_div,
      .grad = grad_lerp,
      .keeps = KEEP_IN,
      .domain = { -2, 2 },
      .doc = "start + weight * (end - start)." },
    { .name = "addcmul",
      .in = "x:tensor tensor1:tensor tensor2:tensor",
      .out = "y",
      .opts = "value:float=1",
      .infer = infer_arith,
      .grad = grad_addcmul,
      .keeps = KEEP_IN1 | KEEP_IN2,
      .domain = { -2, 2 },
      .doc = "x + value * tensor1 * tensor2." },
    { .name = "addcdiv",
      .in = "x:tensor tensor1:tensor tensor2:tensor",
      .out = "y",
      .opts = "value:float=1",
      .infer = infer_div,
      .grad = grad_addcdiv,
      .keeps = KEEP_IN1 | KEEP_IN2,
      .domain = { 0.5, 2 },
      .doc = "x + value * tensor1 / tensor2." },

    { .name = "add_", .in = INTO, .infer = infer_arith, .doc = "a += b in place." },
    { .name = "sub_", .in = INTO, .infer = infer_arith, .doc = "a -= b in place." },
    { .name = "mul_", .in = INTO, .infer = infer_arith, .doc = "a *= b in place." },
    { .name = "div_", .in = INTO, .infer = infer_div, .doc = "a /= b in place." },
    { .name = "pow_", .in = INTO, .infer = infer_pow, .doc = "a to the power of b, in place." },
    { .name = "remainder_", .in = INTO, .infer = infer_arith, .doc = "remainder in place." },
    { .name = "floor_divide_", .in = INTO, .infer = infer_arith, .doc = "floor_divide in place." },
    { .name = "lerp_",
      .in = "start:tensor! end:tensor weight:tensor|number",
      .infer = infer_div,
      .doc = "start += weight * (end - start) in place." },
    { .name = "addcmul_",
      .in = "x:tensor! tensor1:tensor tensor2:tensor",
      .opts = "value:float=1",
      .infer = infer_arith,
      .doc = "x += value * tensor1 * tensor2 in place." },
    { .name = "addcdiv_",
      .in = "x:tensor! tensor1:tensor tensor2:tensor",
      .opts = "value:float=1",
      .infer = infer_div,
      .doc = "x += value * tensor1 / tensor2 in place." },
    { .name = "copy_",
      .in = "x:tensor! src:tensor",
      .infer = infer_copy,
      .doc = "src's elements over x's, cast to x's type and broadcast to its shape." },
    { .name = "fill_",
      .in = "x:tensor! value:tensor|number",
      .infer = infer_fill,
      .doc = "Every element of x becomes value." },
    { .name = "zero_",
      .in = "x:tensor!",
      .infer = infer_zero,
      .doc = "Every element of x becomes 0." },
    { 0 }
};
