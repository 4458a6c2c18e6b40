/* Winograd's short convolutions with six points: F(4,3) turns the 144 products of a 4x4 block of
 * outputs of a 3x3 convolution into 36, F(3,4) does the same for the 3x3 weight gradient of a 4x4
 * block. The points are 0, +-1/sqrt2, +-sqrt2 and infinity: with a = 1/sqrt2, b = sqrt2,
 *   m(x) = x (x^2 - 1/2) (x^2 - 2),   N = m'(p) = 1, -3/2, 6 at 0, +-a, +-b,
 * rows of B' are the coefficients of m(x)/(x - p), of G the powers of p over N, of A' the powers
 * of p. They round about half as much as the usual points 0, +-1, +-2.
 * Every function below is one dimension; two passes make a tile. */
#ifndef VESTIGE_CPU_WINOGRAD_H
#define VESTIGE_CPU_WINOGRAD_H

#include "cpu/tile.h"

#define STRIDE 1
#define POINTS 6
#define WEIGHTS POINTS    /* different ones of a row or a column */
#define PRODUCTS 36       /* of a tile: POINTS squared */
#define STEP 4            /* outputs of a tile, each way */
#define SIDE(back) POINTS /* pixels that a tile reads, each way */
#define MADE(back) STEP

typedef float wino_element;
#define PAIRED 0
#define WINO_UNROLL _Pragma("GCC unroll 9") /* of rows and columns of a tile */
#define wino_load vload
#define wino_store vstore

#include "cpu/winograd_shape.h"

#define WA 0.70710678118654752440f
#define WB 1.41421356237309504880f

/* t = B' d, 6 inputs */
ALWAYS_INLINE void wino_points(vf *t, const vf *d, const bool back) {
    (void)back;
    vf e1 = d[4] - 2.0f * d[2], o1 = WA * d[3] - WB * d[1];
    vf e2 = d[4] - 0.5f * d[2], o2 = WB * d[3] - WA * d[1];
    t[0] = d[0] - 2.5f * d[2] + d[4];
    t[5] = d[1] - 2.5f * d[3] + d[5];
    t[1] = e1 + o1;
    t[2] = e1 - o1;
    t[3] = e2 + o2;
    t[4] = e2 - o2;
}

/* u = G g, 3 weights */
ALWAYS_INLINE void wino_weights(vf *u, const vf *g) {
    vf e1 = (g[0] + 0.5f * g[2]) * (-1 / 1.5f), o1 = g[1] * (-WA / 1.5f);
    vf e2 = (g[0] + 2.0f * g[2]) * (1 / 6.0f), o2 = g[1] * (WB / 6.0f);
    u[0] = g[0];
    u[1] = e1 + o1;
    u[2] = e1 - o1;
    u[3] = e2 + o2;
    u[4] = e2 - o2;
    u[5] = g[2];
}

/* u = G g, 4 output gradients */
ALWAYS_INLINE void wino_gradient(vf *u, const vf *g) {
    vf e1 = (g[0] + 0.5f * g[2]) * (-1 / 1.5f), o1 = (g[1] + 0.5f * g[3]) * (-WA / 1.5f);
    vf e2 = (g[0] + 2.0f * g[2]) * (1 / 6.0f), o2 = (g[1] + 2.0f * g[3]) * (WB / 6.0f);
    u[0] = g[0];
    u[1] = e1 + o1;
    u[2] = e1 - o1;
    u[3] = e2 + o2;
    u[4] = e2 - o2;
    u[5] = g[3];
}

/* y = A' m, 4 outputs */
ALWAYS_INLINE void wino_outputs(vf *y, const vf *m, const bool back) {
    (void)back;
    vf s1 = m[1] + m[2], d1 = m[1] - m[2], s2 = m[3] + m[4], d2 = m[3] - m[4];
    y[0] = m[0] + s1 + s2;
    y[1] = WA * d1 + WB * d2;
    y[2] = 0.5f * s1 + 2.0f * s2;
    y[3] = (0.5f * WA) * d1 + (2.0f * WB) * d2 + m[5];
}

/* y = A' m, 3 weight gradients */
ALWAYS_INLINE void wino_taps(vf *y, const vf *m) {
    vf s1 = m[1] + m[2], d1 = m[1] - m[2], s2 = m[3] + m[4], d2 = m[3] - m[4];
    y[0] = m[0] + s1 + s2;
    y[1] = WA * d1 + WB * d2;
    y[2] = 0.5f * s1 + 2.0f * s2 + m[5];
}

/* Whether the table in winograd.c takes this convolution: forward, its input gradient (back), or
 * its weight gradient. */
bool K(cpu_winograd_takes)(const struct cpu_conv *g, bool back);
bool K(cpu_winograd_weights_takes)(const struct cpu_conv *g);

/* Bytes of the transformed weights, or 0 where the table does not take the convolution. */
int64_t K(cpu_winograd_form)(const struct cpu_conv *g, bool back);
int64_t K(cpu_winograd_scratch)(const struct cpu_conv *g, bool back);
int K(cpu_winograd)(float *y, const float *x, const float *w, const float *bias,
                    const struct cpu_conv *g, bool back, void *scratch);
int64_t K(cpu_winograd_weights_scratch)(const struct cpu_conv *g);
int K(cpu_winograd_weights)(float *dw, const float *dy, const float *x, const struct cpu_conv *g,
                            void *scratch);

#endif
