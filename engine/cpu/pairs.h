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
/* Whether forward, input gradient (back) or weight gradient goes by Winograd's way. */
bool K(cpu_pairs_winograd)(const struct cpu_conv *g, bool back);
bool K(cpu_pairs_weights_winograd)(const struct cpu_conv *g);
/* Forward or (back) input gradient; bias (channels of y) may be null. */
int64_t K(cpu_pairs_scratch)(const struct cpu_conv *g, bool back);
int K(cpu_pairs)(uint16_t *y, const uint16_t *x, const uint16_t *w, const uint16_t *bias,
                 const struct cpu_conv *g, bool back, void *scratch);
/* Weight gradient. */
int64_t K(cpu_pairs_weights_scratch)(const struct cpu_conv *g);
int K(cpu_pairs_weights)(uint16_t *dw, const uint16_t *dy, const uint16_t *x,
                         const struct cpu_conv *g, void *scratch);

/* ---- Vectors of bf16 ---- */
typedef uint16_t vh __attribute__((vector_size(LANES * 2), may_alias));
typedef uint16_t vh_unaligned __attribute__((vector_size(LANES * 2), may_alias, aligned(2)));

static inline vh vload_half(const uint16_t *p) {
    return *(const vh_unaligned *)p;
}

/* Each in a lane of its own. (GCC 12 makes two halves of the conversion.) */
static inline vu vspread(vh h) {
#if EMULATED
    return __builtin_convertvector(h, vu);
#else
    return (vu)_mm512_cvtepu16_epi32((__m256i)h);
#endif
}

static inline vf vwiden(const uint16_t *p) {
    return (vf)(vspread(vload_half(p)) << 16);
}

/* Rounded to nearest, ties to even; denormals become zeros, as they would in a product. */
static inline vh vround(vf v) {
#if EMULATED
    vu bits = (vu)vflush(v), nan = (vu)(v != v);
    vu rounded = bits + 0x7fff + (bits >> 16 & 1);
    return __builtin_convertvector(((rounded & ~nan) | ((bits | 0x400000) & nan)) >> 16, vh);
#else
    return (vh)_mm512_cvtneps_pbh((__m512)v);
#endif
}

static inline void vnarrow(uint16_t *p, vf v) {
    *(vh_unaligned *)p = vround(v);
}

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
