/* Winograd's short convolutions for stride 2, in bf16 on pairs: as winograd_strided.h, but taps 0
 * and 2 by F(2,2), two outputs by three products, at the points 0, 1 and infinity. So there are
 * five points, and 25 products for the 36 of a 2x2 block of outputs. */
#ifndef VESTIGE_CPU_WINOGRAD_PAIRS_STRIDED_H
#define VESTIGE_CPU_WINOGRAD_PAIRS_STRIDED_H

#include "cpu/pairs.h"
#include "cpu/strided.h"

#define STRIDE 2
#define SHORT 3     /* points of F(2,2) */
#define POINTS 5    /* and the two of the other tap */
#define STEP 2      /* outputs of a tile of the forward, each way */
#define WEIGHTS 4   /* different ones: of the points of F(2,2), and the other tap */
#define PRODUCTS 25 /* of a tile: POINTS squared */
#define SIDE(back) ((back) ? SHORT : POINTS)  /* pixels that a tile reads, each way */
#define MADE(back) ((back) ? 2 * STEP : STEP) /* outputs of a tile, each way */

typedef uint16_t wino_element;
#define PAIRED 1
#define WINO_UNROLL _Pragma("GCC unroll 9") /* of rows and columns of a tile */
#define wino_load vwiden
#define wino_store vnarrow

#include "cpu/winograd_shape.h"

#if PAIRS
/* t = B' d, 3 inputs */
ALWAYS_INLINE void wino_short_input(vf *t, const vf *d) {
    t[0] = d[0] - d[1];
    t[1] = d[1];
    t[2] = d[2] - d[1];
}

/* u = G g of the taps 0 and 2, and tap 1 */
ALWAYS_INLINE void wino_weights(vf *u, const vf *g) {
    u[0] = g[0];
    u[1] = g[0] + g[2];
    u[2] = g[2];
    u[3] = g[1];
}

/* u = A dy, 2 output gradients to 3 points */
ALWAYS_INLINE void wino_short_gradient(vf *u, const vf *d) {
    u[0] = d[0];
    u[1] = d[0] + d[1];
    u[2] = d[1];
}

/* y = G' m of the points of taps 0 and 2, and of tap 1 */
ALWAYS_INLINE void wino_taps(vf *y, const vf *m) {
    y[0] = m[0] + m[1];
    y[1] = m[3];
    y[2] = m[1] + m[2];
}

/* y = A' m, 2 outputs of 3 points */
ALWAYS_INLINE void wino_short_output(vf *y, const vf *m) {
    y[0] = m[0] + m[1];
    y[1] = m[1] + m[2];
}

#include "cpu/winograd_alternate.h"
#endif

#endif
