/* arith.c: arithmetic in f32 and f64; see elementwise.h for how broadcasting is walked. */
#include "cpu/elementwise.h"

/* NaN goes through. */
#define LARGER (a > b || a != a ? a : b)
#define SMALLER (a < b || a != a ? a : b)

#define BOTH(function, value)                                                                      \
    ROW2(function##_f32_row, float, float, float, value)                                           \
    ROW2(function##_f64_row, double, double, double, value)                                        \
    static int function##_f32(const call *c) {                                                     \
        return elementwise(c, 0, 2, function##_f32_row, VESTIGE_F32, NULL);                        \
    }                                                                                              \
    static int function##_f64(const call *c) {                                                     \
        return elementwise(c, 0, 2, function##_f64_row, VESTIGE_F64, NULL);                        \
    }
BOTH(add, a + b)
BOTH(sub, a - b)
BOTH(mul, a *b)
BOTH(divide, a / b)
BOTH(maximum, LARGER)
BOTH(minimum, SMALLER)

/* Powers of a few whole and half exponents; others go the plain way. */
ROW1(power_1, float, float, a)
ROW1(power_2, float, float, a *a)
ROW1(power_3, float, float, a *a *a)
ROW1(power_half, float, float, __builtin_sqrtf(a))
ROW1(power_minus_1, float, float, 1 / a)

static int power(const call *c) {
    static const struct {
        double exponent;
        row_fn row;
    } known[] = {
        { 1, power_1 }, { 2, power_2 }, { 3, power_3 }, { 0.5, power_half }, { -1, power_minus_1 }
    };
    if (c->in[1])
        return DECLINED;
    for (int i = 0; i < COUNT(known); i++)
        if (c->num[1] == known[i].exponent)
            return elementwise(c, 0, 1, known[i].row, VESTIGE_F32, NULL);
    return DECLINED;
}

/* ---- x + value a b, and x + value a / b ---- */
#define ROW3(name, value)                                                                          \
    static void name(void *out, const void *const *in, const bool *step, int64_t n,                \
                     const float *p) {                                                             \
        float *y = out;                                                                            \
        const float *px = in[0], *pa = in[1], *pb = in[2], v = p[0];                               \
        if (step[0] && step[1] && step[2]) {                                                       \
            _Pragma("GCC ivdep") for (int64_t i = 0; i < n; i++) {                                 \
                const float x = px[i], a = pa[i], b = pb[i];                                       \
                y[i] = value;                                                                      \
            }                                                                                      \
            return;                                                                                \
        }                                                                                          \
        for (int64_t i = 0; i < n; i++) {                                                          \
            const float x = px[step[0] ? i : 0], a = pa[step[1] ? i : 0], b = pb[step[2] ? i : 0]; \
            y[i] = value;                                                                          \
        }                                                                                          \
    }
ROW3(addcmul_row, x + v * a * b)
ROW3(addcdiv_row, x + v * a / b)

static int addcmul(const call *c) {
    float v = (float)option(c, "value");
    return elementwise(c, 0, 3, addcmul_row, VESTIGE_F32, &v);
}
static int addcdiv(const call *c) {
    float v = (float)option(c, "value");
    return elementwise(c, 0, 3, addcdiv_row, VESTIGE_F32, &v);
}

/* ---- copy_, fill_, zero_ ---- */
ROW1(copy_row, float, float, a)
static void fill_row(void *out, const void *const *in, const bool *step, int64_t n,
                     const float *p) {
    float *y = out, v = *(const float *)in[0];
    (void)step, (void)p;
    for (int64_t i = 0; i < n; i++)
        y[i] = v;
}

static int copy(const call *c) {
    if (!same_shape(c->in[1], c->out[0]))
        return DECLINED;
    return elementwise(c, 1, 1, copy_row, VESTIGE_F32, NULL);
}
static int fill(const call *c) {
    return elementwise(c, 1, 1, fill_row, VESTIGE_F32, NULL);
}

#define ROWS(name, function)                                                                       \
    ROWS_HALF(name, function##_f32), {                                                             \
        name, VESTIGE_F64, function##_f64                                                          \
    }

const kernel_row K(cpu_arith)[] = {
    ROWS("add", add),
    ROWS("sub", sub),
    ROWS("mul", mul),
    ROWS("div", divide),
    ROWS("maximum", maximum),
    ROWS("minimum", minimum),
    ROWS_HALF("pow", power),
    ROWS_HALF("addcmul", addcmul),
    ROWS_HALF("addcdiv", addcdiv),
    ROWS_HALF("copy_", copy),
    ROWS_HALF("fill_", fill),
    { 0 },
};
