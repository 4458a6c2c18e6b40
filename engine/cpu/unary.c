/* unary.c: functions of one tensor in f32. */
#include "cpu/vrows.h"

ROW1(neg_row, float, float, -a)
ROW1(abs_row, float, float, __builtin_fabsf(a))
ROW1(square_row, float, float, a *a)
ROW1(reciprocal_row, float, float, 1 / a)
ROW1(sqrt_row, float, float, __builtin_sqrtf(a))
ROW1(rsqrt_row, float, float, 1 / __builtin_sqrtf(a))
ROW1(sign_row, float, float, (a > 0 ? 1.0f : 0.0f) - (a < 0 ? 1.0f : 0.0f))
ROW1(floor_row, float, float, __builtin_floorf(a))
ROW1(ceil_row, float, float, __builtin_ceilf(a))
ROW1(round_row, float, float, __builtin_rintf(a))
ROW1(trunc_row, float, float, __builtin_truncf(a))
VROW1(exp_row, vexp(a))
VROW1(expm1_row, vexpm1(a))
VROW1(log_row, vlog(a))
VROW1(log1p_row, vlog1p(a))
VROW1(log2_row, vlog(a) * 1.44269504f)
VROW1(log10_row, vlog(a) * 0.43429448f)
VROW1(erf_row, verf(a))
VROW1(erfc_row, verfc(a))
static inline vf normal(vf x) {
    vf density;
    return vndtr(x, &density);
}
VROW1(ndtr_row, normal(a))

VKERNEL1(neg, neg_row)
VKERNEL1(absolute, abs_row)
VKERNEL1(square, square_row)
VKERNEL1(reciprocal, reciprocal_row)
VKERNEL1(square_root, sqrt_row)
VKERNEL1(inverse_root, rsqrt_row)
VKERNEL1(sign, sign_row)
VKERNEL1(down, floor_row)
VKERNEL1(up, ceil_row)
VKERNEL1(nearest, round_row)
VKERNEL1(cut, trunc_row)
VKERNEL1(exponential, exp_row)
VKERNEL1(exponential_m1, expm1_row)
VKERNEL1(logarithm, log_row)
VKERNEL1(logarithm_1p, log1p_row)
VKERNEL1(logarithm_2, log2_row)
VKERNEL1(logarithm_10, log10_row)
VKERNEL1(error, erf_row)
VKERNEL1(error_complement, erfc_row)
VKERNEL1(distribution, ndtr_row)

/* ---- clamp: an absent bound is an infinite one; NaN goes through ---- */
static void clamp_row(void *out, const void *const *in, const bool *step, int64_t n,
                      const float *p) {
    float *y = out;
    const float *x = in[0], low = p[0], high = p[1];
    (void)step;
#pragma GCC ivdep
    for (int64_t i = 0; i < n; i++) {
        float a = x[i];
        a = a < low ? low : a;
        y[i] = a > high ? high : a;
    }
}
static void clamp_backward_row(void *out, const void *const *in, const bool *step, int64_t n,
                               const float *p) {
    float *y = out;
    const float *g = in[0], *x = in[1], low = p[0], high = p[1];
    (void)step;
#pragma GCC ivdep
    for (int64_t i = 0; i < n; i++)
        y[i] = x[i] >= low && x[i] <= high ? g[i] : 0;
}

static void bounds(const call *c, float p[2]) {
    double low = option(c, "min"), high = option(c, "max");
    p[0] = isnan(low) ? -INFINITY : (float)low;
    p[1] = isnan(high) ? INFINITY : (float)high;
}
static int clamp(const call *c) {
    float p[2];
    bounds(c, p);
    return elementwise(c, 0, 1, clamp_row, VESTIGE_F32, p);
}
static int clamp_backward(const call *c) {
    float p[2];
    bounds(c, p);
    return elementwise(c, 0, 2, clamp_backward_row, VESTIGE_F32, p);
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
