/* arith.c: arithmetic in f32 and f64; see elementwise.h for how broadcasting is walked. */
#include "cpu/vrows.h"

/* NaN goes through. */
#define LARGER (a > b || a != a ? a : b)
#define SMALLER (a < b || a != a ? a : b)

/* value: of vectors of f32; one: of doubles */
#define BOTH(function, value, one)                                                                 \
    FLOAT2(function##_f32_row, value)                                                              \
    ROW2(function##_f64_row, double, double, double, one)                                          \
    static int function##_f32(const call *c) {                                                     \
        return elementwise(c, 0, 2, &function##_f32_row, VESTIGE_F32, NULL);                       \
    }                                                                                              \
    static int function##_f64(const call *c) {                                                     \
        return elementwise(c, 0, 2, &function##_f64_row, VESTIGE_F64, NULL);                       \
    }
BOTH(add, a + b, a + b)
BOTH(sub, a - b, a - b)
BOTH(mul, a *b, a *b)
BOTH(divide, a / b, a / b)
BOTH(maximum, vselect((a > b) | (a != a), a, b), LARGER)
BOTH(minimum, vselect((a < b) | (a != a), a, b), SMALLER)

/* Powers of a few whole and half exponents; others go the plain way. */
FLOAT1(power_1, a)
FLOAT1(power_2, a *a)
FLOAT1(power_3, a *a *a)
FLOAT1(power_half, vsqrt(a))
FLOAT1(power_minus_1, 1.0f / a)

static int power(const call *c) {
    static const struct {
        double exponent;
        const row_fns *row;
    } known[] = { { 1, &power_1 },
                  { 2, &power_2 },
                  { 3, &power_3 },
                  { 0.5, &power_half },
                  { -1, &power_minus_1 } };
    if (c->in[1])
        return DECLINED;
    for (int i = 0; i < COUNT(known); i++)
        if (c->num[1] == known[i].exponent)
            return elementwise(c, 0, 1, known[i].row, VESTIGE_F32, NULL);
    return DECLINED;
}

/* ---- x + value a b, and x + value a / b ---- */
FLOAT3(addcmul_row, a + u * b * d)
FLOAT3(addcdiv_row, a + u * b / d)

static int addcmul(const call *c) {
    float p[2] = { (float)option(c, "value") };
    return elementwise(c, 0, 3, &addcmul_row, VESTIGE_F32, p);
}
static int addcdiv(const call *c) {
    float p[2] = { (float)option(c, "value") };
    return elementwise(c, 0, 3, &addcdiv_row, VESTIGE_F32, p);
}

/* ---- copy_, fill_, zero_ ---- */
FLOAT1(copy_row, a)
static void fill_wide(void *out, const void *const *in, const bool *step, int64_t n,
                      const float *p) {
    float *y = out, v = *(const float *)in[0];
    (void)step, (void)p;
    for (int64_t i = 0; i < n; i++)
        y[i] = v;
}
static const row_fns fill_row = { fill_wide, NULL };

static int copy(const call *c) {
    if (!same_shape(c->in[1], c->out[0]))
        return DECLINED;
    return elementwise(c, 1, 1, &copy_row, VESTIGE_F32, NULL);
}
static int fill(const call *c) {
    return elementwise(c, 1, 1, &fill_row, VESTIGE_F32, NULL);
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
