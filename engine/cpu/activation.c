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
/* Sums by even and odd powers are short chains: few turns of the exact gelu fit in a processor's
 * window. */
#define FAR 13.18f /* beyond it e^(-a^2/2) leaves the normal numbers, and counts as 0 */

/* The normal distribution function of -a times e^(a^2/2) for 0 <= a <= FAR, a quotient of positive
 * terms: nothing cancels. */
static inline vf mills(vf a) {
    vf s = a * a;
    vf p = (0.18269724f + 0.04044345f * a) + 0.0040856292f * s;
    vf q = (1.2003316f + 0.468043f * a) + (0.10138326f + 0.010241032f * a) * s;
    return ((0.5f + 0.43760777f * a) + p * s) / ((1.0f + 1.6731004f * a) + q * s);
}

/* e^(-a^2/2) for 0 <= a <= FAR. a is a head, whose square is exact, and a rest:
 * a^2 = head^2 + (a - head) (a + head) = r - 2 n ln 2. The polynomial is that of vexp, in -r/2. */
static inline vf half_gauss(vf a) {
    const float magic = 0x1.8p23f; /* adding it rounds to whole numbers */
    vf head = (vf)((vi)a & (int32_t)0xfffff000);
    vf shifted = a * a * (-0.5f * 1.44269504f) + magic, n = shifted - magic;
    vf r = (head * head + n * 1.38671875f) + ((a - head) * (a + head) - n * 4.2438888e-4f);
    vf s = r * r;
    vf q = (0.041668456f / 16 - 0.00836941879f / 32 * r) + 0.00138131424f / 64 * s;
    q = (0.49999994f / 4 - 0.166665152f / 8 * r) + q * s;
    return (vf)((vu)(1.0f + (q * s - 0.5f * r)) + ((vu)shifted << 23));
}

/* By vndtr's outer formula everywhere: errors up to 5.7 units of the last place (7 without FMA). */
static inline vf gelu_exact(vf x) {
    vf a = vabs(x), y = (vf)((vi)(mills(a) * half_gauss(a)) & ~(a > FAR));
    return x * vselect(x > 0.0f, 1.0f - y, y);
}
/* For x < 0 h, the tail and x times the density; 1 - h on the other side. */
static inline vf gelu_exact_slope(vf x) {
    vf a = vabs(x), h = (mills(a) - 0.39894228f * a) * half_gauss(a);
    h = (vf)((vi)h & ~(a > FAR));
    return vselect(x > 0.0f, 1.0f - h, h);
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
