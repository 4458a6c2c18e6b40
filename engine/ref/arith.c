/* The definition of arithmetic. */
#include "ref/ref.h"

/* y = value of a and b, in double or in whole numbers; `check` may refuse some. */
#define FLOAT2(name, value)                                                                        \
    ALWAYS_INLINE int name(const call *c, int t) {                                                 \
        T y = c->out[0];                                                                           \
        cursor k;                                                                                  \
        for (cursor_start(&k, y->ndim, y->dim, 2, c->in); k.left; cursor_next(&k)) {               \
            double a = operand(c, 0, t, &k), b = operand(c, 1, t, &k);                             \
            put(y->data, t, k.i, value);                                                           \
        }                                                                                          \
        return VESTIGE_OK;                                                                         \
    }                                                                                              \
    REF_FLOAT(name)
#define INT2(name, check, value)                                                                   \
    ALWAYS_INLINE int name(const call *c, int t) {                                                 \
        T y = c->out[0];                                                                           \
        cursor k;                                                                                  \
        for (cursor_start(&k, y->ndim, y->dim, 2, c->in); k.left; cursor_next(&k)) {               \
            int64_t a = operand_int(c, 0, t, &k), b = operand_int(c, 1, t, &k);                    \
            check;                                                                                 \
            put_int(y->data, t, k.i, value);                                                       \
        }                                                                                          \
        return VESTIGE_OK;                                                                         \
    }                                                                                              \
    REF_INT(name) REF_BOOL(name)
#define ANY
#define DIVISOR                                                                                    \
    if (b == 0)                                                                                    \
    return fail(VESTIGE_EVALUE, "%s: b: division of integers by zero", opname(c))

/* The quotient rounded down, and what is left; -1 apart, for the least integer has no negative. */
static int64_t floor_int(int64_t a, int64_t b) {
    if (b == -1)
        return (int64_t) - (uint64_t)a;
    return a / b - (a % b != 0 && (a < 0) != (b < 0));
}
static int64_t left_int(int64_t a, int64_t b) {
    if (b == -1)
        return 0;
    int64_t r = a % b;
    return r != 0 && (r < 0) != (b < 0) ? r + b : r;
}
static double left_float(double a, double b) {
    double r = fmod(a, b);
    return r != 0 && (r < 0) != (b < 0) ? r + b : r;
}

/* As PyTorch: negative powers of integers are 0, but for those of 1 and -1. Products wrap. */
static int64_t pow_int(int64_t a, int64_t b) {
    if (b < 0)
        return a == 1 ? 1 : a == -1 ? (b & 1 ? -1 : 1) : 0;
    uint64_t y = 1, x = (uint64_t)a;
    for (; b; b >>= 1, x *= x)
        if (b & 1)
            y *= x;
    return (int64_t)y;
}

/* NaN goes through. */
static double larger(double a, double b) {
    return a > b || a != a ? a : b;
}
static double smaller(double a, double b) {
    return a < b || a != a ? a : b;
}

/* Integers wrap. */
#define WRAP(op) (int64_t)((uint64_t)a op(uint64_t) b)
FLOAT2(add, a + b)
FLOAT2(sub, a - b)
FLOAT2(mul, a *b)
FLOAT2(divide, a / b)
FLOAT2(power, pow(a, b))
FLOAT2(maximum, larger(a, b))
FLOAT2(minimum, smaller(a, b))
FLOAT2(left, left_float(a, b))
FLOAT2(quotient, floor(a / b))
INT2(add_int, ANY, WRAP(+))
INT2(sub_int, ANY, WRAP(-))
INT2(mul_int, ANY, WRAP(*))
INT2(power_int, ANY, pow_int(a, b))
INT2(maximum_int, ANY, a > b ? a : b)
INT2(minimum_int, ANY, a < b ? a : b)
INT2(whole_left, DIVISOR, left_int(a, b))
INT2(quotient_int, DIVISOR, floor_int(a, b))

#define FLOAT3(name, setup, value)                                                                 \
    ALWAYS_INLINE int name(const call *c, int t) {                                                 \
        T y = c->out[0];                                                                           \
        setup;                                                                                     \
        cursor k;                                                                                  \
        for (cursor_start(&k, y->ndim, y->dim, 3, c->in); k.left; cursor_next(&k)) {               \
            double x = operand(c, 0, t, &k), a = operand(c, 1, t, &k), b = operand(c, 2, t, &k);   \
            put(y->data, t, k.i, value);                                                           \
        }                                                                                          \
        return VESTIGE_OK;                                                                         \
    }                                                                                              \
    REF_FLOAT(name)
#define VALUE double v = option(c, "value")
FLOAT3(lerp, ANY, x + b * (a - x))
FLOAT3(addcmul, VALUE, x + v * a * b)
FLOAT3(addcdiv, VALUE, x + v * a / b)

/* ---- copy_, fill_, zero_: bit by bit ---- */
ALWAYS_INLINE int copy(const call *c, int t) {
    T x = c->out[0];
    int64_t size = dtype_size(t);
    cursor k;
    for (cursor_start(&k, x->ndim, x->dim, 2, c->in); k.left; cursor_next(&k))
        memmove(x->data + k.i * size, c->in[1]->data + k.at[1] * size, (size_t)size);
    return VESTIGE_OK;
}
REF_ALL(copy)

ALWAYS_INLINE int fill(const call *c, int t) {
    T x = c->out[0];
    for (int64_t i = 0; i < x->numel; i++)
        if (c->in[1])
            memmove(x->data + i * dtype_size(t), c->in[1]->data, (size_t)dtype_size(t));
        else
            put(x->data, t, i, c->num[1]);
    return VESTIGE_OK;
}
REF_ALL(fill)

ALWAYS_INLINE int zero(const call *c, int t) {
    memset(c->out[0]->data, 0, (size_t)(c->out[0]->numel * dtype_size(t)));
    return VESTIGE_OK;
}
REF_ALL(zero)

#define ROWS_BOTH(name, of_floats, of_ints)                                                        \
    ROWS_FLOAT(name, of_floats), ROWS_INT(name, of_ints), ROWS_BOOL(name, of_ints)

const kernel_row ref_arith[] = {
    ROWS_BOTH("add", add, add_int),
    ROWS_BOTH("sub", sub, sub_int),
    ROWS_BOTH("mul", mul, mul_int),
    ROWS_FLOAT("div", divide),
    ROWS_BOTH("pow", power, power_int),
    ROWS_BOTH("maximum", maximum, maximum_int),
    ROWS_BOTH("minimum", minimum, minimum_int),
    ROWS_BOTH("remainder", left, whole_left),
    ROWS_BOTH("floor_divide", quotient, quotient_int),
    ROWS_FLOAT("lerp", lerp),
    ROWS_FLOAT("addcmul", addcmul),
    ROWS_FLOAT("addcdiv", addcdiv),
    ROWS_ALL("copy_", copy),
    ROWS_ALL("fill_", fill),
    ROWS_ALL("zero_", zero),
    { 0 },
};
