/* Winograd's short convolutions for stride 2, in f32. Along one dimension a 3-tap sum that steps by
 * two is a sum of taps 0 and 2 over every other input and of tap 1 over the inputs between. The
 * first is F(4,2), four outputs by five products, at the points +-1/sqrt2, +-sqrt2 and infinity
 * (see winograd.h: N = m'(p) = -+3/sqrt2 at +-1/sqrt2, +-3 sqrt2 at +-sqrt2); the second takes
 * four. So there are nine points, and 81 products for the 144 of a 4x4 block of outputs. The input
 * gradient is the same turned round: of the outputs of one dimension every other one comes from the
 * five points and those between from the four. The last four points have one weight. */
#ifndef VESTIGE_CPU_WINOGRAD_STRIDED_H
#define VESTIGE_CPU_WINOGRAD_STRIDED_H

#include "cpu/strided.h"
#include "cpu/tile.h"

#define STRIDE 2
#define SHORT 5     /* points of F(4,2) */
#define POINTS 9    /* and the four of the other tap */
#define STEP 4      /* outputs of a tile of the forward, each way */
#define WEIGHTS 6   /* different ones: of the points of F(4,2), and the other tap */
#define PRODUCTS 81 /* of a tile: POINTS squared */
#define SIDE(back) ((back) ? SHORT : POINTS)  /* pixels that a tile reads, each way */
#define MADE(back) ((back) ? 2 * STEP : STEP) /* outputs of a tile, each way */

typedef float wino_element;
#define PAIRED 0
#define WINO_UNROLL _Pragma("GCC unroll 1") /* of rows and columns of a tile */
#define wino_load vload
#define wino_store vstore

#include "cpu/winograd_shape.h"

#define WA 0.70710678118654752440f
#define WB 1.41421356237309504880f

/* t = B' d, 5 inputs */
ALWAYS_INLINE void wino_short_input(vf *t, const vf *d) {
    vf e1 = d[3] - 2.0f * d[1], o1 = WA * d[2] - WB * d[0];
    vf e2 = d[3] - 0.5f * d[1], o2 = WB * d[2] - WA * d[0];
    t[0] = e1 + o1;
    t[1] = e1 - o1;
    t[2] = e2 + o2;
    t[3] = e2 - o2;
    t[4] = d[0] - 2.5f * d[2] + d[4];
}

/* u = G g of the taps 0 and 2, and tap 1 */
ALWAYS_INLINE void wino_weights(vf *u, const vf *g) {
    vf e1 = g[0] * (-WA / 1.5f), o1 = g[2] * (-0.5f / 1.5f);
    vf e2 = g[0] * (WA / 3.0f), o2 = g[2] * (1 / 3.0f);
    u[0] = o1 + e1;
    u[1] = o1 - e1;
    u[2] = o2 + e2;
    u[3] = o2 - e2;
    u[4] = g[2];
    u[5] = g[1];
}

/* u = A dy, 4 output gradients to 5 points */
ALWAYS_INLINE void wino_short_gradient(vf *u, const vf *d) {
    vf e1 = d[0] + 0.5f * d[2], o1 = WA * d[1] + (0.5f * WA) * d[3];
    vf e2 = d[0] + 2.0f * d[2], o2 = WB * d[1] + (2.0f * WB) * d[3];
    u[0] = e1 + o1;
    u[1] = e1 - o1;
    u[2] = e2 + o2;
    u[3] = e2 - o2;
    u[4] = d[3];
}

/* y = G' m of the points of taps 0 and 2, and of tap 1 */
ALWAYS_INLINE void wino_taps(vf *y, const vf *m) {
    y[0] = (WA / 3.0f) * (m[2] - m[3]) - (WA / 1.5f) * (m[0] - m[1]);
    y[1] = m[5];
    y[2] = (1 / 3.0f) * (m[2] + m[3] - (m[0] + m[1])) + m[4];
}

/* y = A' m, 4 outputs of 5 points */
ALWAYS_INLINE void wino_short_output(vf *y, const vf *m) {
    vf s1 = m[0] + m[1], d1 = m[0] - m[1], s2 = m[2] + m[3], d2 = m[2] - m[3];
    y[0] = s1 + s2;
    y[1] = WA * d1 + WB * d2;
    y[2] = 0.5f * s1 + 2.0f * s2;
    y[3] = (0.5f * WA) * d1 + (2.0f * WB) * d2 + m[4];
}

#include "cpu/winograd_alternate.h"

#endif
