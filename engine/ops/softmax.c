/* softmax.c: softmax and its logarithm along one dimension. Their gradients are operators with
 * gradients of their own: the same kernels run at every order. */
#include "ops/rules.h"

static int infer_softmax(call *c) {
    int dim;
    TRY(dim_option(c, "dim", c->in[0]->ndim, &dim));
    c->type = c->in[0]->dtype;
    shape_like(c, 0, c->in[0]);
    return VESTIGE_OK;
}

static int infer_backward(call *c) {
    const tensor *g = c->in[0], *y = c->in[1];
    if (g->ndim != y->ndim || memcmp(g->dim, y->dim, (size_t)y->ndim * sizeof *y->dim) != 0)
        return fail(VESTIGE_ESHAPE, "%s: g %s and y %s differ", opname(c), describe(g),
                    describe(y));
    TRY(promote(c));
    int dim;
    TRY(dim_option(c, "dim", y->ndim, &dim));
    shape_like(c, 0, c->in[1]);
    return VESTIGE_OK;
}

/* The sum along the row's dimension, which is kept. */
static V along(grad *g, V x) {
    int64_t dim = (int64_t)opt(g, "dim");
    return RO(sum, OPTS({ "dim", .list = &dim, .count = 1 }, { "keepdim", 1 }), x);
}

static void grad_softmax(grad *g) {
    give(g, 0, RRAW(softmax_backward, slots(g), gout(g, 0), out(g, 0)));
}

/* y (g - sum(g y)): its own adjoint in g; in y: a (g - sum(g y)) - g sum(a y) */
static void grad_softmax_backward(grad *g) {
    V a = gout(g, 0), gy = in(g, 0), y = in(g, 1);
    if (need(g, 0))
        give(g, 0, RRAW(softmax_backward, slots(g), a, y));
    if (need(g, 1)) {
        V centred = R(sub, gy, along(g, R(mul, gy, y)));
        give(g, 1, R(sub, R(mul, a, centred), R(mul, gy, along(g, R(mul, a, y)))));
    }
}

static void grad_log_softmax(grad *g) {
    give(g, 0, RRAW(log_softmax_backward, slots(g), gout(g, 0), out(g, 0)));
}

/* g - e^y sum(g). In g: a - sum(a e^y); in y: -a e^y sum(g) */
static void grad_log_softmax_backward(grad *g) {
    V ae = R(mul, gout(g, 0), R(exp, in(g, 1)));
    if (need(g, 0))
        give(g, 0, R(sub, gout(g, 0), along(g, ae)));
    if (need(g, 1))
        give(g, 1, R(neg, R(mul, ae, along(g, in(g, 0)))));
}

const op_row ops_softmax[] = {
    { .name = "softmax",
      .in = "x:float",
      .out = "y",
      .opts = "dim:dim",
      .infer = infer_softmax,
      .grad = grad_softmax,
      .keeps = KEEP_OUT0,
      .cast = CAST_F32,
      .domain = { -2, 2 },
      .doc = "e^x divided by its sum along dim." },
    { .name = "log_softmax",
      .in = "x:float",
      .out = "y",
      .opts = "dim:dim",
      .infer = infer_softmax,
      .grad = grad_log_softmax,
      .keeps = KEEP_OUT0,
      .cast = CAST_F32,
      .domain = { -2, 2 },
      .doc = "The logarithm of softmax(x, dim), exact also where softmax is next to 1." },
    { .name = "softmax_backward",
      .in = "g:float y:float",
      .out = "dx",
      .opts = "dim:dim",
      .infer = infer_backward,
      .grad = grad_softmax_backward,
      .keeps = KEEP_IN,
      .flags = ROW_HIDDEN,
      .cast = CAST_F32,
      .domain = { -2, 2 },
      .doc = "y (g - sum(g y)): softmax's gradient." },
    { .name = "log_softmax_backward",
      .in = "g:float y:float",
      .out = "dx",
      .opts = "dim:dim",
      .infer = infer_backward,
      .grad = grad_log_softmax_backward,
      .keeps = KEEP_IN,
      .flags = ROW_HIDDEN,
      .cast = CAST_F32,
      .domain = { -2, 0 },
      .doc = "g - e^y sum(g): log_softmax's gradient." },
    { 0 }
};
