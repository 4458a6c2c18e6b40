/* compare.c: comparisons, logic, and choosing by a condition. */
#include "ops/rules.h"

static int infer_compare(call *c) {
    TRY(promote(c));
    TRY(shape_broadcast(c, 0));
    c->shape[0].dtype = VESTIGE_BOOL;
    return VESTIGE_OK;
}

static int infer_not(call *c) {
    c->type = c->in[0]->dtype;
    shape_like(c, 0, c->in[0]);
    c->shape[0].dtype = VESTIGE_BOOL;
    return VESTIGE_OK;
}

/* The type is the branches'; two numbers make i64 where both are whole, else f32. */
static int infer_where(call *c) {
    if (c->in[1] || c->in[2])
        TRY(promote_from(c, 1));
    else
        c->type = c->num[1] == floor(c->num[1]) && c->num[2] == floor(c->num[2]) ? VESTIGE_I64
                                                                                 : VESTIGE_F32;
    TRY(shape_broadcast(c, 0));
    c->shape[0].dtype = c->type;
    return VESTIGE_OK;
}

static void grad_where(grad *g) {
    if (need(g, 1))
        give(g, 1, R(where, in(g, 0), gout(g, 0), num(0)));
    if (need(g, 2))
        give(g, 2, R(where, in(g, 0), num(0), gout(g, 0)));
}

static int infer_masked_fill(call *c) {
    if (c->in[2] && c->in[2]->numel != 1)
        return fail(VESTIGE_ESHAPE,
                    "%s: value: expected a number or a tensor of one element, got %s", opname(c),
                    describe(c->in[2]));
    c->type = c->in[0]->dtype;
    TRY(cast_input(c, 2, c->type));
    TRY(shape_broadcast(c, 0));
    c->shape[0].dtype = c->type;
    return VESTIGE_OK;
}

static void grad_masked_fill(grad *g) {
    if (need(g, 0))
        give(g, 0, R(masked_fill, gout(g, 0), in(g, 1), num(0)));
    if (need(g, 2))
        give(g, 2, R(where, in(g, 1), gout(g, 0), num(0)));
}

#define COMPARE(function, text)                                                                    \
    {                                                                                              \
        .name = #function, .in = "a:tensor|number b:tensor|number", .out = "y:bool",               \
        .infer = infer_compare, .domain = { -2, 2 },                                               \
        .doc = text ", element by element: a bool "                                                \
                    "tensor."                                                                      \
    }

const op_row ops_compare[] = {
    COMPARE(eq, "a = b"),
    COMPARE(ne, "a differs from b"),
    COMPARE(lt, "a < b"),
    COMPARE(le, "a <= b"),
    COMPARE(gt, "a > b"),
    COMPARE(ge, "a >= b"),
    COMPARE(logical_and, "a and b, where all but 0 is true"),
    COMPARE(logical_or, "a or b, where all but 0 is true"),
    COMPARE(logical_xor, "a or b but not both, where all but 0 is true"),
    { .name = "logical_not",
      .in = "x",
      .out = "y:bool",
      .infer = infer_not,
      .domain = { -2, 2 },
      .doc = "True where x is 0." },
    { .name = "where",
      .in = "condition:bool a:tensor|number b:tensor|number",
      .out = "y",
      .infer = infer_where,
      .grad = grad_where,
      .keeps = KEEP_IN0,
      .domain = { -2, 2 },
      .doc = "a where condition holds, else b." },
    { .name = "masked_fill",
      .in = "x:tensor mask:bool value:tensor|number",
      .out = "y",
      .infer = infer_masked_fill,
      .grad = grad_masked_fill,
      .keeps = KEEP_IN1,
      .domain = { -2, 2 },
      .doc = "value where mask holds, else x." },
    { .name = "masked_fill_",
      .in = "x:tensor! mask:bool value:tensor|number",
      .infer = infer_masked_fill,
      .doc = "Puts value into x where mask holds." },
    { 0 },
};
