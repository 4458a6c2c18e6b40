/* Convolutions of bf16 where the processor multiplies pairs of bf16 (PAIRS): images and weights are
 * read as they are, sums run in f32 and are rounded once. The kernels obey f32.h; their scratch is
 * -1 for what they do not do. At other levels there are none. */
#ifndef VESTIGE_CPU_PAIRS_H
#define VESTIGE_CPU_PAIRS_H

#include "cpu/conv.h"
#include "cpu/half.h"
#include "cpu/tile.h"

#if PAIRS
/* Bytes of the transformed weights, or 0 where they are not transformed. */
int64_t K(cpu_pairs_form)(const struct cpu_conv *g, bool back);
/* Forward or (back) input gradient; bias (channels of y) may be null. */
int64_t K(cpu_pairs_scratch)(const struct cpu_conv *g, bool back);
int K(cpu_pairs)(uint16_t *y, const uint16_t *x, const uint16_t *w, const uint16_t *bias,
                 const struct cpu_conv *g, bool back, void *scratch);
/* Weight gradient. */
int64_t K(cpu_pairs_weights_scratch)(const struct cpu_conv *g);
int K(cpu_pairs_weights)(uint16_t *dw, const uint16_t *dy, const uint16_t *x,
                         const struct cpu_conv *g, void *scratch);

/* Lanes of both side by side: pairs. */
static inline vf vzip(vh even, vh odd) {
    return (vf)(vspread(even) | vspread(odd) << 16);
}

/* Two rows of n channels to pairs. */
static inline void zip(float *to, const uint16_t *even, const uint16_t *odd, int64_t n) {
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        vstore(to + i, vzip(vload_half(even + i), vload_half(odd + i)));
    for (; i < n; i++) {
        uint32_t pair = even[i] | (uint32_t)odd[i] << 16;
        memcpy(to + i, &pair, 4);
    }
}
#endif

#endif
