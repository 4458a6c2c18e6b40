/* activation.c: activations and their fused first-order gradients in f32. */
#include "cpu/vrows.h"

/* NaN goes through. */
FLOAT1(relu_row, (vf)((vi)a & ~(a <= 0.0f)))
FLOAT1(tanh_row, vtanh(a))
FLOAT1(sigmoid_row, vsigmoid(a))
FLOAT1(logsigmoid_row, -vsoftplus(-a))
FLOAT1(silu_row, a *vsigmoid(a))
KERNEL1(relu, relu_row)
KERNEL1(hyperbolic, tanh_row)
KERNEL1(sigmoid, sigmoid_row)
KERNEL1(logsigmoid, logsigmoid_row)
KERNEL1(silu, silu_row)

static inline vf silu_slope(vf x) {
    vf s = vsigmoid(x);
    return s * (1.0f + x * (1.0f - s));
}
/* a: the gradient; b: what the function gave, or saw */
FLOAT2(tanh_backward_row, a *(1.0f - b * b))
FLOAT2(sigmoid_backward_row, a *(b *(1.0f - b)))
FLOAT2(silu_backward_row, a *silu_slope(b))
KERNEL2(tanh_backward, tanh_backward_row)
KERNEL2(sigmoid_backward, sigmoid_backward_row)
KERNEL2(silu_backward, silu_backward_row)

/* ---- leaky_relu; its gradient serves relu too, with slope 0 ---- */
FLOAT1(leaky_relu_row, vselect(a > 0.0f, a, u *a))
FLOAT2(leaky_relu_backward_row, vselect(b > 0.0f, a, u *a))
FLOAT2(relu_backward_row, (vf)((vi)a &(b > 0.0f)))
static int leaky_relu(const call *c) {
    float p[2] = { (float)option(c, "negative_slope") };
    return elementwise(c, 0, 1, &leaky_relu_row, VESTIGE_F32, p);
}
static int leaky_relu_backward(const call *c) {
    float p[2] = { (float)option(c, "negative_slope") };
    return elementwise(c, 0, 2, p[0] == 0 ? &relu_backward_row : &leaky_relu_backward_row,
                       VESTIGE_F32, p);
}

/* ---- softplus: u is beta, v the threshold ---- */
FLOAT1(softplus_row, vselect(a *u > v, a, vsoftplus(a *u) / u))
FLOAT2(softplus_backward_row, vselect(b *u > v, a, a *vsigmoid(b *u)))
static int softplus(const call *c) {
    float p[2] = { (float)option(c, "beta"), (float)option(c, "threshold") };
    return elementwise(c, 0, 1, &softplus_row, VESTIGE_F32, p);
}
static int softplus_backward(const call *c) {
    float p[2] = { (float)option(c, "beta"), (float)option(c, "threshold") };
    return elementwise(c, 0, 2, &softplus_backward_row, VESTIGE_F32, p);
}

/* ---- elu ---- */
FLOAT1(elu_row, vselect(a > 0.0f, a, u *vexpm1(a)))
static int elu(const call *c) {
    float p[2] = { (float)option(c, "alpha") };
    return elementwise(c, 0, 1, &elu_row, VESTIGE_F32, p);
}

/* ---- gelu: exact, and by tanh. (1 + tanh u) / 2 is sigmoid 2u, which keeps the tail. ---- */
/* As vndtr, by its outer formula everywhere: near 0 an error of 3 units of the last place instead
 * of 1, in 0.7 of the time. Below -13.1, where it leaves the normal numbers, it is 0. */
static inline vf distribution(vf x, vf *density) {
    vf a = vmin(vabs(x), vset(1e4f)), s = a * a;
    vf head = (vf)((vi)a & (int32_t)0xfffff000); /* its square is exact */
    vf lost = (head * head - s) + (a - head) * (a + head);
    vf e = vexp_low(-0.5f * s);
    *density = e - e * (0.5f * lost);
    vf y = 0.5f * verfcx(0.70710678f * a) * *density;
    return vselect(x > 0.0f, 1.0f - y, y);
}
static inline vf gelu_exact(vf x) {
    vf density;
    return x * distribution(x, &density);
}
static inline vf gelu_exact_slope(vf x) {
    vf density, y = distribution(x, &density);
    return y + x * (density * 0.39894228f);
}
static inline vf gelu_tanh(vf x) {
    return x * vsigmoid(x * (1.59576912f + 0.0713548163f * x * x));
}
/* s + x s (1 - s) u', u = x (k + c x^2); s (1 - s) from e^-|u|, for 1 - s has lost its digits. */
static inline vf gelu_tanh_slope(vf x) {
    vf z = x * x, u = x * (1.59576912f + 0.0713548163f * z);
    vf e = vexp(-vabs(u)), r = 1.0f / (1.0f + e);
    vf s = vselect(u < 0.0f, e * r, r);
    return s + x * (e * r * r) * (1.59576912f + 0.214064449f * z);
}
FLOAT1(gelu_exact_row, gelu_exact(a))
FLOAT1(gelu_tanh_row, gelu_tanh(a))
FLOAT2(gelu_exact_backward_row, a *gelu_exact_slope(b))
FLOAT2(gelu_tanh_backward_row, a *gelu_tanh_slope(b))
static int gelu(const call *c) {
    bool approximate = option(c, "approximate") != 0;
    return elementwise(c, 0, 1, approximate ? &gelu_tanh_row : &gelu_exact_row, VESTIGE_F32, NULL);
}
static int gelu_backward(const call *c) {
    bool approximate = option(c, "approximate") != 0;
    return elementwise(c, 0, 2, approximate ? &gelu_tanh_backward_row : &gelu_exact_backward_row,
                       VESTIGE_F32, NULL);
}

const kernel_row K(cpu_activation)[] = {
    ROWS_HALF("relu", relu),
    ROWS_HALF("leaky_relu", leaky_relu),
    ROWS_HALF("leaky_relu_backward", leaky_relu_backward),
    ROWS_HALF("tanh", hyperbolic),
    ROWS_HALF("tanh_backward", tanh_backward),
    ROWS_HALF("sigmoid", sigmoid),
    ROWS_HALF("sigmoid_backward", sigmoid_backward),
    ROWS_HALF("logsigmoid", logsigmoid),
    ROWS_HALF("silu", silu),
    ROWS_HALF("silu_backward", silu_backward),
    ROWS_HALF("softplus", softplus),
    ROWS_HALF("softplus_backward", softplus_backward),
    ROWS_HALF("elu", elu),
    ROWS_HALF("gelu", gelu),
    ROWS_HALF("gelu_backward", gelu_backward),
    { 0 },
};
