/* The definition of activations and of their first derivatives. */
#include "ref/ref.h"

/* y = value of x; `setup` reads options. */
#define UNARY(name, setup, value)                                                                  \
    ALWAYS_INLINE int name(const call *c, int t) {                                                 \
        T y = c->out[0];                                                                           \
        setup;                                                                                     \
        for (int64_t i = 0; i < y->numel; i++) {                                                   \
            double x = get(c->in[0]->data, t, i);                                                  \
            put(y->data, t, i, value);                                                             \
        }                                                                                          \
        return VESTIGE_OK;                                                                         \
    }                                                                                              \
    REF_FLOAT(name)
/* The gradient g times a derivative at x. */
#define BACKWARD(name, setup, value)                                                               \
    ALWAYS_INLINE int name(const call *c, int t) {                                                 \
        T y = c->out[0];                                                                           \
        setup;                                                                                     \
        for (int64_t i = 0; i < y->numel; i++) {                                                   \
            double g = get(c->in[0]->data, t, i), x = get(c->in[1]->data, t, i);                   \
            put(y->data, t, i, value);                                                             \
        }                                                                                          \
        return VESTIGE_OK;                                                                         \
    }                                                                                              \
    REF_FLOAT(name)
#define NOTHING

static double logistic(double x) {
    return 1 / (1 + exp(-x));
}
static double log_1_plus_exp(double x) {
    return x > 0 ? x + log1p(exp(-x)) : log1p(exp(x));
}
static double distribution(double x) {
    return 0.5 * erfc(-x * M_SQRT1_2);
}
static double density(double x) {
    return exp(-0.5 * x * x) * 0.3989422804014327;
}
static double gelu_argument(double x) {
    return 0.7978845608028654 * (x + 0.044715 * x * x * x);
}
static double gelu_tanh_slope(double x) {
    double t = tanh(gelu_argument(x));
    return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * 0.7978845608028654 * (1 + 0.134145 * x * x);
}

/* NaN goes through. */
UNARY(relu, NOTHING, x <= 0 ? 0 : x)
ALWAYS_INLINE int relu_int(const call *c, int t) {
    T y = c->out[0];
    for (int64_t i = 0; i < y->numel; i++) {
        int64_t x = get_int(c->in[0]->data, t, i);
        put_int(y->data, t, i, x > 0 ? x : 0);
    }
    return VESTIGE_OK;
}
REF_INT(relu_int)

#define SLOPE double slope = option(c, "negative_slope")
#define SOFT double beta = option(c, "beta"), threshold = option(c, "threshold")
#define APPROXIMATE bool approximate = option(c, "approximate") != 0
UNARY(leaky_relu, SLOPE, x > 0 ? x : slope * x)
UNARY(hyperbolic, NOTHING, tanh(x))
UNARY(sigmoid, NOTHING, logistic(x))
UNARY(logsigmoid, NOTHING, -log_1_plus_exp(-x))
UNARY(silu, NOTHING, x *logistic(x))
UNARY(softplus, SOFT, x *beta > threshold ? x : log_1_plus_exp(x * beta) / beta)
UNARY(elu, double alpha = option(c, "alpha"), x > 0 ? x : alpha * expm1(x))
UNARY(gelu, APPROXIMATE, x *(approximate ? 0.5 * (1 + tanh(gelu_argument(x))) : distribution(x)))

BACKWARD(leaky_relu_backward, SLOPE, x > 0 ? g : slope == 0 ? 0 : slope * g)
BACKWARD(tanh_backward, NOTHING, g *(1 - x * x))
BACKWARD(sigmoid_backward, NOTHING, g *x *(1 - x))
BACKWARD(silu_backward, NOTHING, g *logistic(x) * (1 + x * (1 - logistic(x))))
BACKWARD(softplus_backward, SOFT, x *beta > threshold ? g : g * logistic(x * beta))
BACKWARD(gelu_backward, APPROXIMATE,
         g *(approximate ? gelu_tanh_slope(x) : distribution(x) + x * density(x)))

const kernel_row ref_activation[] = {
    ROWS_FLOAT("relu", relu),
    ROWS_INT("relu", relu_int),
    ROWS_FLOAT("leaky_relu", leaky_relu),
    ROWS_FLOAT("tanh", hyperbolic),
    ROWS_FLOAT("sigmoid", sigmoid),
    ROWS_FLOAT("logsigmoid", logsigmoid),
    ROWS_FLOAT("silu", silu),
    ROWS_FLOAT("softplus", softplus),
    ROWS_FLOAT("elu", elu),
    ROWS_FLOAT("gelu", gelu),
    ROWS_FLOAT("leaky_relu_backward", leaky_relu_backward),
    ROWS_FLOAT("tanh_backward", tanh_backward),
    ROWS_FLOAT("sigmoid_backward", sigmoid_backward),
    ROWS_FLOAT("silu_backward", silu_backward),
    ROWS_FLOAT("softplus_backward", softplus_backward),
    ROWS_FLOAT("gelu_backward", gelu_backward),
    { 0 },
};
