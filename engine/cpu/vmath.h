/* vmath.h: exp, log, erf and their kin on vectors of floats, by our own polynomials (weighted
 * minimax fits in high precision). The largest errors against f64, in units of the last place, over
 * floats of all exponents, with and without FMA:
 *   vexp 1.0  vexp_low 1.0  vexpm1 1.4  vlog 0.8  vlog1p 0.9  vsoftplus 1.7  vtanh 2.4
 *   vsigmoid 2.4  verf 1.1  verfc, vndtr 4.3 (in the tail; below 2 for most)
 * Signed zeros, infinities, NaN and subnormal numbers come out as in C's functions. */
#ifndef VESTIGE_CPU_VMATH_H
#define VESTIGE_CPU_VMATH_H

#include "cpu/isa.h"

/* Where the mask (0 or -1, from a comparison) holds a, elsewhere b. */
static inline vf vselect(vi mask, vf a, vf b) {
    return (vf)((mask & (vi)a) | (~mask & (vi)b));
}

static inline vf vabs(vf x) {
    return (vf)((vi)x & 0x7fffffff);
}

static inline vf vsqrt(vf x) {
    for (int i = 0; i < LANES; i++)
        x[i] = __builtin_sqrtf(x[i]);
    return x;
}

/* |x| with the sign of s. */
static inline vf vsigned(vf x, vf s) {
    return (vf)(((vi)x & 0x7fffffff) | ((vi)s & (int32_t)0x80000000));
}

/* 2^n for whole n from -126 to 127. */
static inline vf vpow2(vi n) {
    return (vf)((n + 127) << 23);
}

/* x = n ln 2 + r, |r| <= ln 2 / 2; n is also given as integers. */
static inline vf vreduce(vf x, vi *n) {
    const float magic = 0x1.8p23f; /* adding it rounds to whole numbers */
    vf shifted = x * 1.44269504f + magic;
    *n = (vi)shifted - (vi)vset(magic);
    vf k = shifted - magic;
    /* ln 2 in two parts, the first of few bits: k times it is exact. */
    return (x - k * 0.693359375f) + k * 2.12194440e-4f;
}

/* e^r for |r| <= ln 2 / 2 */
static inline vf vexp_reduced(vf r) {
    vf q = 0.00138131424f * r + 0.00836941879f;
    q = q * r + 0.041668456f;
    q = q * r + 0.166665152f;
    q = q * r + 0.49999994f;
    return (q * r) * r + r + 1.0f;
}

static inline vf vexp(vf x) {
    vi n;
    vf p = vexp_reduced(vreduce(vmax(vmin(x, vset(89.0f)), vset(-104.0f)), &n));
    vi half = n >> 1; /* two steps reach infinity and the subnormal numbers */
    return p * vpow2(half) * vpow2(n - half);
}

/* e^x for x up to 88; below -87, where vexp goes on into the subnormal numbers, 0. */
static inline vf vexp_low(vf x) {
    vi n;
    vf p = vexp_reduced(vreduce(x, &n));
    return (vf)((vi)(p * vpow2(n)) & ~(x < -87.0f)); /* NaN stays */
}

/* e^x = p 2^n for x <= 0, and 0 below -88: p, and *scale, which is 2^n. A sum takes it in one step,
 * sum + p scale: a third of vexp's instructions. Made for differences x, whose rounding lets the
 * result's error grow with |x| anyway: ln 2 is taken in one part. */
static inline vf vexp_term(vf x, vf *scale) {
    const float magic = 0x1.8p23f + 127; /* adding it rounds, and leaves n + 127 in the low bits */
    x = vmax(x, vset(-88.0f));
    vf shifted = x * 1.44269504f + magic;
    *scale = (vf)((vu)shifted << 23);
    vf r = x - (shifted - magic) * 0.693147182f;
    vf q = 0.00138131424f * r + 0.00836941879f;
    q = q * r + 0.041668456f;
    q = q * r + 0.166665152f;
    q = q * r + 0.49999994f;
    q = q * r + 1.0f;
    return q * r + 1.0f;
}

static inline vf vexpm1(vf x) {
    vi n;
    vf r = vreduce(vmax(vmin(x, vset(89.0f)), vset(-18.0f)), &n);
    vf q = 0.000198459573f * r + 0.00139416533f;
    q = q * r + 0.00833339151f;
    q = q * r + 0.0416663475f;
    q = q * r + 0.166666657f;
    q = q * r + 0.5f;
    vf p = (q * r) * r + r;
    vi half = n >> 1;
    vi small = n < 60; /* beyond, 2^-n is nothing beside 1 */
    vf inverse = (vf)(small & (vi)vpow2((-n) & small));
    vf y = (p + (1.0f - inverse)) * vpow2(half) * vpow2(n - half);
    return vselect(x == 0.0f, x, y);
}

/* log of m 2^e where x = m 2^e, m from sqrt(1/2) to sqrt(2), plus `low`. */
static inline vf vlog_plus(vf x, vf low) {
    vi tiny = x < 0x1p-126f;
    x = vselect(tiny, x * 0x1p23f, x);
    vi bits = (vi)x;
    vi e = (bits - 0x3f3504f3) >> 23;
    vf f = (vf)(bits - (e << 23)) - 1.0f;
    vf k = __builtin_convertvector(e - (tiny & 23), vf);
    vf p = -0.0765770078f * f + 0.127967104f;
    p = p * f - 0.131682053f;
    p = p * f + 0.141976088f;
    p = p * f - 0.166221663f;
    p = p * f + 0.200013593f;
    p = p * f - 0.250008553f;
    p = p * f + 0.333333313f;
    vf s = f * f;
    return k * 0.693359375f + (f + ((s * f * p - 0.5f * s) + (low - k * 2.12194440e-4f)));
}

/* y, the log of x, where x is positive and finite; the limits elsewhere. */
static inline vf vlog_limits(vf x, vf y) {
    const float inf = __builtin_inff();
    y = vselect(x == inf, x, y);
    y = vselect(x == 0.0f, vset(-inf), y);
    return vselect((x >= 0.0f), y, vset(__builtin_nanf("")));
}

static inline vf vlog(vf x) {
    return vlog_limits(x, vlog_plus(x, vset(0)));
}

static inline vf vlog1p(vf x) {
    vf u = 1.0f + x;
    vf lost = vselect(x > 1.0f, 1.0f - (u - x), x - (u - 1.0f)); /* of 1 + x by rounding */
    vf y = vlog_limits(u, vlog_plus(u, lost / u));
    return vselect(vabs(x) < 0x1p-25f, x, y);
}

static inline vf vtanh(vf x) {
    vf e = vexpm1(2.0f * vmin(vabs(x), vset(9.1f)));
    return vsigned(e / (e + 2.0f), x);
}

static inline vf vsigmoid(vf x) {
    vf e = vexp(-vabs(x)), r = 1.0f / (1.0f + e);
    return vselect(x < 0.0f, e * r, r);
}

/* log(1 + e^x) without overflow. */
static inline vf vsoftplus(vf x) {
    return vmax(x, vset(0)) + vlog1p(vexp(-vabs(x)));
}

/* e^(-x^2 scale) for scale 1 or 1/2, with the rounding of x^2 made good. */
static inline vf vgauss(vf x, float scale) {
    vf a = vmin(vabs(x), vset(1e4f)), s = a * a;
    vf head = (vf)((vi)a & (int32_t)0xfffff000); /* its square is exact */
    vf lost = (head * head - s) + (a - head) * (a + head);
    vf e = vexp(-scale * s);
    return e - e * (scale * lost);
}

/* erfc(a) e^(a^2) for a >= 0. */
static inline vf verfcx(vf a) {
    vf t = (a - 4.0f) / (a + 4.0f);
    vf p = 0.000871810189f * t + 0.00698326807f;
    p = p * t - 0.0159338266f;
    p = p * t + 0.0364133976f;
    p = p * t - 0.0666272864f;
    p = p * t + 0.0938232914f;
    p = p * t - 0.100991167f;
    p = p * t + 0.0680931434f;
    p = p * t + 0.0153773585f;
    p = p * t - 0.139621064f;
    p = p * t + 1.23299515f;
    return p / (1.0f + 2.0f * a);
}

/* erf x for |x| < 1. */
static inline vf verf_near(vf x) {
    vf s = x * x;
    vf p = 7.85385782e-05f * s - 0.000801019254f;
    p = p * s + 0.00518832775f;
    p = p * s - 0.026853811f;
    p = p * s + 0.112835854f;
    p = p * s - 0.37612626f;
    p = p * s + 0.128379166f;
    return x + x * p;
}

static inline vf verf(vf x) {
    vf a = vabs(x), far = 1.0f - verfcx(vmin(a, vset(10.2f))) * vgauss(x, 1);
    return vselect(a < 1.0f, verf_near(x), vsigned(far, x));
}

static inline vf verfc(vf x) {
    vf a = vabs(x), y = verfcx(vmin(a, vset(10.2f))) * vgauss(x, 1);
    return vselect(a < 0.6f, 1.0f - verf_near(x), vselect(x < 0.0f, 2.0f - y, y));
}

/* The normal distribution function; *density gets e^(-x^2/2). */
static inline vf vndtr(vf x, vf *density) {
    *density = vgauss(x, 0.5f);
    vf a = vabs(x), h = 0.70710678f * x;
    vf y = 0.5f * verfcx(vmin(vabs(h), vset(10.2f))) * *density;
    return vselect(a < 0.85f, 0.5f + 0.5f * verf_near(h), vselect(x > 0.0f, 1.0f - y, y));
}

/* ---- Parts of a vector, for the last elements of a row ---- */
static inline vf vload_part(const float *p, int64_t n) {
    vf v = { 0 };
    memcpy(&v, p, (size_t)n * sizeof *p);
    return v;
}
static inline void vstore_part(float *p, vf v, int64_t n) {
    memcpy(p, &v, (size_t)n * sizeof *p);
}

#endif
