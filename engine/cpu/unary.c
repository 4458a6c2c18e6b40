/* unary.c: functions of one tensor in f32. */
#include "cpu/vrows.h"

FLOAT1(neg_row, -a)
FLOAT1(abs_row, vabs(a))
FLOAT1(square_row, a *a)
FLOAT1(reciprocal_row, 1.0f / a)
FLOAT1(sqrt_row, vsqrt(a))
FLOAT1(rsqrt_row, 1.0f / vsqrt(a))
FLOAT1(sign_row, __builtin_convertvector((a < 0.0f) - (a > 0.0f), vf))
ROW1(floor_row, float, float, __builtin_floorf(a))
ROW1(ceil_row, float, float, __builtin_ceilf(a))
ROW1(round_row, float, float, __builtin_rintf(a))
ROW1(trunc_row, float, float, __builtin_truncf(a))
FLOAT1(exp_row, vexp(a))
FLOAT1(expm1_row, vexpm1(a))
FLOAT1(log_row, vlog(a))
FLOAT1(log1p_row, vlog1p(a))
FLOAT1(log2_row, vlog(a) * 1.44269504f)
FLOAT1(log10_row, vlog(a) * 0.43429448f)
FLOAT1(erf_row, verf(a))
FLOAT1(erfc_row, verfc(a))
static inline vf normal(vf x) {
    vf density;
    return vndtr(x, &density);
}
FLOAT1(ndtr_row, normal(a))

KERNEL1(neg, neg_row)
KERNEL1(absolute, abs_row)
KERNEL1(square, square_row)
KERNEL1(reciprocal, reciprocal_row)
KERNEL1(square_root, sqrt_row)
KERNEL1(inverse_root, rsqrt_row)
KERNEL1(sign, sign_row)
KERNEL1(down, floor_row)
KERNEL1(up, ceil_row)
KERNEL1(nearest, round_row)
KERNEL1(cut, trunc_row)
KERNEL1(exponential, exp_row)
KERNEL1(exponential_m1, expm1_row)
KERNEL1(logarithm, log_row)
KERNEL1(logarithm_1p, log1p_row)
KERNEL1(logarithm_2, log2_row)
KERNEL1(logarithm_10, log10_row)
KERNEL1(error, erf_row)
KERNEL1(error_complement, erfc_row)
KERNEL1(distribution, ndtr_row)

/* ---- clamp: an absent bound is an infinite one; NaN goes through ---- */
FLOAT1(clamp_row, vmin(vmax(a, u), v))
FLOAT2(clamp_backward_row, (vf)((vi)a &((b >= u) & (b <= v))))

static void bounds(const call *c, float p[2]) {
    double low = option(c, "min"), high = option(c, "max");
    p[0] = isnan(low) ? -INFINITY : (float)low;
    p[1] = isnan(high) ? INFINITY : (float)high;
}
static int clamp(const call *c) {
    float p[2];
    bounds(c, p);
    return elementwise(c, 0, 1, &clamp_row, VESTIGE_F32, p);
}
static int clamp_backward(const call *c) {
    float p[2];
    bounds(c, p);
    return elementwise(c, 0, 2, &clamp_backward_row, VESTIGE_F32, p);
}

const kernel_row K(cpu_unary)[] = {
    ROWS_HALF("neg", neg),
    ROWS_HALF("abs", absolute),
    ROWS_HALF("square", square),
    ROWS_HALF("reciprocal", reciprocal),
    ROWS_HALF("sqrt", square_root),
    ROWS_HALF("rsqrt", inverse_root),
    ROWS_HALF("sign", sign),
    ROWS_HALF("floor", down),
    ROWS_HALF("ceil", up),
    ROWS_HALF("round", nearest),
    ROWS_HALF("trunc", cut),
    ROWS_HALF("exp", exponential),
    ROWS_HALF("expm1", exponential_m1),
    ROWS_HALF("log", logarithm),
    ROWS_HALF("log1p", logarithm_1p),
    ROWS_HALF("log2", logarithm_2),
    ROWS_HALF("log10", logarithm_10),
    ROWS_HALF("erf", error),
    ROWS_HALF("erfc", error_complement),
    ROWS_HALF("ndtr", distribution),
    ROWS_HALF("clamp", clamp),
    ROWS_HALF("clamp_backward", clamp_backward),
    { 0 },
};
