/* Winograd's short convolutions with four points, in bf16 on pairs: F(2,3) turns the 36 products of
 * a 2x2 block of outputs of a 3x3 convolution into 16, F(3,2) does the same for the 3x3 weight
 * gradient of a 2x2 block. The points are 0, 1, -1 and infinity. What goes into the products is
 * transformed in f32 and rounded to bf16, what comes out is transformed in f32.
 * Every function below is one dimension; two passes make a tile. */
#ifndef VESTIGE_CPU_WINOGRAD_PAIRS_H
#define VESTIGE_CPU_WINOGRAD_PAIRS_H

#include "cpu/pairs.h"

#define STRIDE 1
#define POINTS 4
#define WEIGHTS POINTS    /* different ones of a row or a column */
#define PRODUCTS 16       /* of a tile: POINTS squared */
#define STEP 2            /* outputs of a tile, each way */
#define SIDE(back) POINTS /* pixels that a tile reads, each way */
#define MADE(back) STEP

typedef uint16_t wino_element;
#define PAIRED 1
#define WINO_UNROLL _Pragma("GCC unroll 9") /* of rows and columns of a tile */
#define wino_load vwiden
#define wino_store vnarrow

#include "cpu/winograd_shape.h"

#if PAIRS
/* t = B' d, 4 inputs */
ALWAYS_INLINE void wino_points(vf *t, const vf *d, const bool back) {
    (void)back;
    t[0] = d[0] - d[2];
    t[1] = d[1] + d[2];
    t[2] = d[2] - d[1];
    t[3] = d[3] - d[1];
}

/* u = G g, 3 weights */
ALWAYS_INLINE void wino_weights(vf *u, const vf *g) {
    vf even = 0.5f * (g[0] + g[2]), odd = 0.5f * g[1];
    u[0] = g[0];
    u[1] = even + odd;
    u[2] = even - odd;
    u[3] = g[2];
}

/* u = G g, 2 output gradients */
ALWAYS_INLINE void wino_gradient(vf *u, const vf *g) {
    u[0] = g[0];
    u[1] = 0.5f * (g[0] + g[1]);
    u[2] = 0.5f * (g[0] - g[1]);
    u[3] = g[1];
}

/* y = A' m, 2 outputs */
ALWAYS_INLINE void wino_outputs(vf *y, const vf *m, const bool back) {
    (void)back;
    y[0] = m[0] + m[1] + m[2];
    y[1] = m[1] - m[2] + m[3];
}

/* y = A' m, 3 weight gradients */
ALWAYS_INLINE void wino_taps(vf *y, const vf *m) {
    vf sum = m[1] + m[2];
    y[0] = m[0] + sum;
    y[1] = m[1] - m[2];
    y[2] = sum + m[3];
}

/* Whether the table in winograd_pairs.c takes this convolution: forward, its input gradient (back),
 * or its weight gradient. */
bool K(cpu_winograd_pairs_takes)(const struct cpu_conv *g, bool back);
bool K(cpu_winograd_pairs_weights_takes)(const struct cpu_conv *g);

int64_t K(cpu_winograd_pairs_form)(const struct cpu_conv *g, bool back);
int64_t K(cpu_winograd_pairs_scratch)(const struct cpu_conv *g, bool back);
int K(cpu_winograd_pairs)(uint16_t *y, const uint16_t *x, const uint16_t *w, const uint16_t *bias,
                          const struct cpu_conv *g, bool back, void *scratch);
int64_t K(cpu_winograd_pairs_weights_scratch)(const struct cpu_conv *g);
int K(cpu_winograd_pairs_weights)(uint16_t *dw, const uint16_t *dy, const uint16_t *x,
                                  const struct cpu_conv *g, void *scratch);
#endif

#endif
