/* activation.c: the functions between layers. Where the walk is of first order, their gradients
 * are single kernels, the hidden rows named <function>_backward. */
#include "ops/rules.h"

static int infer_same(call *c) {
    c->type = c->in[0]->dtype;
    shape_like(c, 0, c->in[0]);
    return VESTIGE_OK;
}

/* g and x, of one shape. */
static int infer_backward(call *c) {
    TRY(promote(c));
    shape_like(c, 0, c->in[0]);
    return same_shapes(c);
}

/* relu and leaky_relu: g where x > 0, else g times the slope. As a function of g it is its own
 * gradient, and of x it is constant, so it serves at every order. relu asks by its output. */
static void grad_relu(grad *g) {
    give(g, 0, R(leaky_relu_backward, gout(g, 0), out(g, 0)));
}
static void grad_leaky_relu(grad *g) {
    give(g, 0, RRAW(leaky_relu_backward, slots(g), gout(g, 0), in(g, 0)));
}
static void grad_leaky_relu_backward(grad *g) {
    give(g, 0, RRAW(leaky_relu_backward, slots(g), gout(g, 0), in(g, 1)));
}

/* y = tanh x: 1 - y^2 */
static void grad_tanh(grad *g) {
    if (!creating_graph(g))
        give(g, 0, R(tanh_backward, gout(g, 0), out(g, 0)));
    else
        give(g, 0, R(mul, gout(g, 0), R(sub, num(1), R(square, out(g, 0)))));
}

/* y (1 - y) */
static void grad_sigmoid(grad *g) {
    if (!creating_graph(g)) {
        give(g, 0, R(sigmoid_backward, gout(g, 0), out(g, 0)));
        return;
    }
    V y = out(g, 0);
    give(g, 0, R(mul, gout(g, 0), R(mul, y, R(sub, num(1), y))));
}

/* y = x s with s = sigmoid x: s (1 + x (1 - s)) */
static void grad_silu(grad *g) {
    V x = in(g, 0);
    if (!creating_graph(g)) {
        give(g, 0, R(silu_backward, gout(g, 0), x));
        return;
    }
    V s = R(sigmoid, x);
    V slope = R(mul, s, R(add, R(mul, x, R(sub, num(1), s)), num(1)));
    give(g, 0, R(mul, gout(g, 0), slope));
}

/* log(1 + e^(beta x)) / beta: sigmoid(beta x), and 1 beyond the threshold. */
static void grad_softplus(grad *g) {
    V x = in(g, 0);
    if (!creating_graph(g)) {
        give(g, 0, RRAW(softplus_backward, slots(g), gout(g, 0), x));
        return;
    }
    V bx = R(mul, x, num(opt(g, "beta")));
    give(g, 0,
         R(where, R(gt, bx, num(opt(g, "threshold"))), gout(g, 0),
           R(mul, gout(g, 0), R(sigmoid, bx))));
}

/* y = log sigmoid x: sigmoid(-x) */
static void grad_logsigmoid(grad *g) {
    give(g, 0, R(mul, gout(g, 0), R(sigmoid, R(neg, in(g, 0)))));
}

/* alpha (e^x - 1) below 0: alpha e^x. The minimum keeps e^x finite where it is not chosen. */
static void grad_elu(grad *g) {
    V x = in(g, 0);
    V below = R(mul, R(exp, R(minimum, x, num(0))), num(opt(g, "alpha")));
    give(g, 0, R(where, R(gt, x, num(0)), gout(g, 0), R(mul, gout(g, 0), below)));
}

/* x ndtr(x): ndtr(x) + x e^(-x^2/2) / sqrt(2 pi) */
static V gelu_exact(V x) {
    V density = R(mul, R(exp, R(mul, R(square, x), num(-0.5))), num(0.3989422804014327));
    return R(add, R(ndtr, x), R(mul, x, density));
}

/* x (1 + t) / 2 with t = tanh u, u = k (x + 0.044715 x^3):
 * (1 + t) / 2 + x (1 - t^2) u' / 2 */
static V gelu_tanh(V x) {
    const double k = 0.7978845608028654, cubic = 0.044715; /* sqrt(2/pi) */
    V xx = R(square, x);
    V u = R(mul, x, R(add, R(mul, xx, num(k * cubic)), num(k)));
    V du = R(add, R(mul, xx, num(3 * k * cubic)), num(k));
    V t = R(tanh, u);
    V bend = R(mul, R(sub, num(1), R(square, t)), R(mul, x, du));
    return R(mul, R(add, R(add, t, num(1)), bend), num(0.5));
}

static void grad_gelu(grad *g) {
    V x = in(g, 0);
    if (!creating_graph(g))
        give(g, 0, RRAW(gelu_backward, slots(g), gout(g, 0), x));
    else
        give(g, 0, R(mul, gout(g, 0), opt(g, "approximate") != 0 ? gelu_tanh(x) : gelu_exact(x)));
}

static V gelu_again(grad *g) {
    return RRAW(gelu, slots(g), in(g, 0));
}

#define BACKWARD(function, second, text)                                                           \
    .name = #function "_backward", .in = "g:float " second ":float", .out = "gx",                  \
    .infer = infer_backward, .flags = ROW_HIDDEN, .domain = { -2, 2 }, .doc = text

const op_row ops_activation[] = {
    { .name = "relu",
      .in = "x",
      .out = "y",
      .infer = infer_same,
      .grad = grad_relu,
      .keeps = KEEP_OUT0,
      .domain = { -2, 2 },
      .doc = "x where it is positive, else 0; its gradient at 0 is 0." },
    { .name = "leaky_relu",
      .in = "x:float",
      .out = "y",
      .opts = "negative_slope:float=0.01",
      .infer = infer_same,
      .grad = grad_leaky_relu,
      .keeps = KEEP_IN0,
      .domain = { -2, 2 },
      .doc = "x where it is positive, else negative_slope * x." },
    { .name = "tanh",
      .in = "x:float",
      .out = "y",
      .infer = infer_same,
      .grad = grad_tanh,
      .keeps = KEEP_OUT0,
      .domain = { -2, 2 },
      .doc = "The hyperbolic tangent of x." },
    { .name = "sigmoid",
      .in = "x:float",
      .out = "y",
      .infer = infer_same,
      .grad = grad_sigmoid,
      .keeps = KEEP_OUT0,
      .domain = { -2, 2 },
      .doc = "1 / (1 + exp(-x))." },
    { .name = "logsigmoid",
      .in = "x:float",
      .out = "y",
      .infer = infer_same,
      .grad = grad_logsigmoid,
      .keeps = KEEP_IN0,
      .domain = { -2, 2 },
      .doc = "log(sigmoid(x)), without overflow." },
    { .name = "silu",
      .in = "x:float",
      .out = "y",
      .infer = infer_same,
      .grad = grad_silu,
      .keeps = KEEP_IN0,
      .domain = { -2, 2 },
      .doc = "x * sigmoid(x)." },
    { .name = "softplus",
      .in = "x:float",
      .out = "y",
      .opts = "beta:float=1 threshold:float=20",
      .infer = infer_same,
      .grad = grad_softplus,
      .keeps = KEEP_IN0,
      .domain = { -2, 2 },
      .doc = "log(1 + exp(beta * x)) / beta; x itself where beta * x is above threshold." },
    { .name = "elu",
      .in = "x:float",
      .out = "y",
      .opts = "alpha:float=1",
      .infer = infer_same,
      .grad = grad_elu,
      .keeps = KEEP_IN0,
      .domain = { -2, 2 },
      .doc = "x where it is positive, else alpha * (exp(x) - 1)." },
    { .name = "gelu",
      .in = "x:float",
      .out = "y",
      .opts = "approximate:enum(none|tanh)=none",
      .infer = infer_same,
      .grad = grad_gelu,
      .again = gelu_again,
      .keeps = KEEP_IN0 | KEEP_AGAIN,
      .domain = { -2, 2 },
      .doc = "x times the normal distribution function of x, exactly or by a tanh." },

    { BACKWARD(leaky_relu, "x", "g where x is positive, else negative_slope * g."),
      .opts = "negative_slope:float=0", .grad = grad_leaky_relu_backward, .keeps = KEEP_IN1 },
    { BACKWARD(tanh, "y", "g * (1 - y^2).") },
    { BACKWARD(sigmoid, "y", "g * y * (1 - y).") },
    { BACKWARD(silu, "x", "g times the derivative of silu at x.") },
    { BACKWARD(softplus, "x", "g times the derivative of softplus at x."),
      .opts = "beta:float=1 threshold:float=20" },
    { BACKWARD(gelu, "x", "g times the derivative of gelu at x."),
      .opts = "approximate:enum(none|tanh)=none" },

    { .name = "relu_", .in = "x:tensor!", .infer = infer_same, .doc = "As relu, in place." },
    { .name = "leaky_relu_",
      .in = "x:float!",
      .opts = "negative_slope:float=0.01",
      .infer = infer_same,
      .doc = "As leaky_relu, in place." },
    { .name = "tanh_", .in = "x:float!", .infer = infer_same, .doc = "As tanh, in place." },
    { .name = "sigmoid_", .in = "x:float!", .infer = infer_same, .doc = "As sigmoid, in place." },
    { 0 }
};
