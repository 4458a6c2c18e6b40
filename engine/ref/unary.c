/* The definition of functions of one tensor. */
#include "ref/ref.h"

#define UNARY(name, value)                                                                         \
    ALWAYS_INLINE int name(const call *c, int t) {                                                 \
        T y = c->out[0];                                                                           \
        for (int64_t i = 0; i < y->numel; i++) {                                                   \
            double x = get(c->in[0]->data, t, i);                                                  \
            put(y->data, t, i, value);                                                             \
        }                                                                                          \
        return VESTIGE_OK;                                                                         \
    }
#define UNARY_INT(name, value)                                                                     \
    ALWAYS_INLINE int name(const call *c, int t) {                                                 \
        T y = c->out[0];                                                                           \
        for (int64_t i = 0; i < y->numel; i++) {                                                   \
            int64_t x = get_int(c->in[0]->data, t, i);                                             \
            put_int(y->data, t, i, value);                                                         \
        }                                                                                          \
        return VESTIGE_OK;                                                                         \
    }

UNARY(negative, -x)
UNARY_INT(negative_int, (int64_t) - (uint64_t)x)
UNARY(absolute, fabs(x))
UNARY_INT(absolute_int, x < 0 ? (int64_t) - (uint64_t)x : x)
UNARY(squared, x *x)
UNARY_INT(squared_int, (int64_t)((uint64_t)x *(uint64_t)x))
UNARY(sign_of, x > 0 ? 1 : x < 0 ? -1 : 0)
UNARY_INT(sign_of_int, (x > 0) - (x < 0))
REF_FLOAT(negative)
REF_INT(negative_int)
REF_FLOAT(absolute)
REF_INT(absolute_int)
REF_FLOAT(squared)
REF_INT(squared_int)
REF_FLOAT(sign_of)
REF_INT(sign_of_int)
REF_BOOL(sign_of_int)

UNARY(inverse, 1 / x)
UNARY(root, sqrt(x))
UNARY(inverse_root, 1 / sqrt(x))
UNARY(power_of_e, exp(x))
UNARY(power_of_e_less_1, expm1(x))
UNARY(logarithm, log(x))
UNARY(logarithm_1p, log1p(x))
UNARY(logarithm_2, log2(x))
UNARY(logarithm_10, log10(x))
UNARY(sine, sin(x))
UNARY(cosine, cos(x))
REF_FLOAT(inverse)
REF_FLOAT(root)
REF_FLOAT(inverse_root)
REF_FLOAT(power_of_e)
REF_FLOAT(power_of_e_less_1)
REF_FLOAT(logarithm)
REF_FLOAT(logarithm_1p)
REF_FLOAT(logarithm_2)
REF_FLOAT(logarithm_10)
REF_FLOAT(sine)
REF_FLOAT(cosine)

UNARY(down, floor(x))
UNARY(up, ceil(x))
UNARY(nearest, rint(x))
UNARY(cut, trunc(x))
UNARY_INT(itself, x)
REF_FLOAT(down)
REF_FLOAT(up)
REF_FLOAT(nearest)
REF_FLOAT(cut)
REF_INT(itself)

/* ---- clamp; NaN goes through ---- */
ALWAYS_INLINE int clamp(const call *c, int t) {
    T y = c->out[0];
    double low = option(c, "min"), high = option(c, "max");
    for (int64_t i = 0; i < y->numel; i++) {
        if (is_float(t)) {
            double x = get(c->in[0]->data, t, i);
            x = x < low ? low : x;
            put(y->data, t, i, x > high ? high : x);
        } else {
            int64_t x = get_int(c->in[0]->data, t, i);
            x = (double)x < low ? whole(low) : x;
            put_int(y->data, t, i, (double)x > high ? whole(high) : x);
        }
    }
    return VESTIGE_OK;
}
REF_FLOAT(clamp)
REF_INT(clamp)

ALWAYS_INLINE int clamp_backward(const call *c, int t) {
    T y = c->out[0];
    double low = option(c, "min"), high = option(c, "max");
    for (int64_t i = 0; i < y->numel; i++) {
        double g = get(c->in[0]->data, t, i), x = get(c->in[1]->data, t, i);
        bool inside = (isnan(low) || x >= low) && (isnan(high) || x <= high);
        put(y->data, t, i, inside ? g : 0);
    }
    return VESTIGE_OK;
}
REF_FLOAT(clamp_backward)

/* ---- Tests: bool of any type ---- */
#define TEST(name, value)                                                                          \
    ALWAYS_INLINE int name(const call *c, int t) {                                                 \
        T y = c->out[0];                                                                           \
        for (int64_t i = 0; i < y->numel; i++) {                                                   \
            double x = get(c->in[0]->data, t, i);                                                  \
            put(y->data, VESTIGE_BOOL, i, value);                                                  \
        }                                                                                          \
        return VESTIGE_OK;                                                                         \
    }                                                                                              \
    REF_ALL(name)
TEST(is_nan, isnan(x))
TEST(is_inf, isinf(x))
TEST(is_finite, isfinite(x))

const kernel_row ref_unary[] = {
    ROWS_FLOAT("neg", negative),
    ROWS_INT("neg", negative_int),
    ROWS_FLOAT("abs", absolute),
    ROWS_INT("abs", absolute_int),
    ROWS_FLOAT("square", squared),
    ROWS_INT("square", squared_int),
    ROWS_FLOAT("sign", sign_of),
    ROWS_INT("sign", sign_of_int),
    ROWS_BOOL("sign", sign_of_int),
    ROWS_FLOAT("reciprocal", inverse),
    ROWS_FLOAT("sqrt", root),
    ROWS_FLOAT("rsqrt", inverse_root),
    ROWS_FLOAT("exp", power_of_e),
    ROWS_FLOAT("expm1", power_of_e_less_1),
    ROWS_FLOAT("log", logarithm),
    ROWS_FLOAT("log1p", logarithm_1p),
    ROWS_FLOAT("log2", logarithm_2),
    ROWS_FLOAT("log10", logarithm_10),
    ROWS_FLOAT("sin", sine),
    ROWS_FLOAT("cos", cosine),
    ROWS_FLOAT("floor", down),
    ROWS_INT("floor", itself),
    ROWS_FLOAT("ceil", up),
    ROWS_INT("ceil", itself),
    ROWS_FLOAT("round", nearest),
    ROWS_INT("round", itself),
    ROWS_FLOAT("trunc", cut),
    ROWS_INT("trunc", itself),
    ROWS_FLOAT("clamp", clamp),
    ROWS_INT("clamp", clamp),
    ROWS_FLOAT("clamp_backward", clamp_backward),
    ROWS_ALL("isnan", is_nan),
    ROWS_ALL("isinf", is_inf),
    ROWS_ALL("isfinite", is_finite),
    { 0 },
};
