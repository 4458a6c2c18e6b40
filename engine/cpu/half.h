/* half.h: how kernels take bf16. They compute in f32: elements are widened as they are read, which
 * is exact, and rounded to nearest, ties to even, as they are written. */
#ifndef VESTIGE_CPU_HALF_H
#define VESTIGE_CPU_HALF_H

#include "cpu/isa.h"
#include "ops/row.h"

static inline float from_bf16(uint16_t h) {
    uint32_t bits = (uint32_t)h << 16;
    float f;
    memcpy(&f, &bits, 4);
    return f;
}

/* A NaN stays one, quiet. Whole words to the end, which GCC packs best. */
static inline uint16_t to_bf16(float f) {
    uint32_t bits;
    memcpy(&bits, &f, 4);
    uint32_t rounded = bits + 0x7fff + (bits >> 16 & 1);
    return (uint16_t)((f != f ? bits | 0x400000 : rounded) >> 16);
}

/* Element i of floats, or of bf16. */
ALWAYS_INLINE float element(const void *p, int64_t i, const bool half) {
    return half ? from_bf16(((const uint16_t *)p)[i]) : ((const float *)p)[i];
}

ALWAYS_INLINE void set_element(void *p, int64_t i, float v, const bool half) {
    if (half)
        ((uint16_t *)p)[i] = to_bf16(v);
    else
        ((float *)p)[i] = v;
}

/* ---- 2 LANES elements as words of two, whose even and odd elements are floats ---- */
typedef uint32_t vu_unaligned __attribute__((vector_size(LANES * 4), may_alias, aligned(2)));

ALWAYS_INLINE vf even(vu w) {
    return (vf)(w << 16);
}
ALWAYS_INLINE vf odd(vu w) {
    return (vf)(w & 0xffff0000u);
}
/* As to_bf16, in the high half of each word. */
ALWAYS_INLINE vu rounded(vf v) {
    vu bits = (vu)v, nan = (vu)(v != v);
    return (bits + 0x7fffu + (bits >> 16 & 1u)) | (nan & 0x7fffffffu);
}
ALWAYS_INLINE vu words(vf even, vf odd) {
    return rounded(even) >> 16 | (rounded(odd) & 0xffff0000u);
}

static inline void widen(float *restrict y, const uint16_t *restrict x, int64_t n) {
    for (int64_t i = 0; i < n; i++)
        y[i] = from_bf16(x[i]);
}

static inline void narrow(uint16_t *restrict y, const float *restrict x, int64_t n) {
    for (int64_t i = 0; i < n; i++)
        y[i] = to_bf16(x[i]);
}

/* The same on all threads. */
void K(cpu_to_f32)(float *y, const uint16_t *x, int64_t n);
void K(cpu_to_bf16)(uint16_t *y, const float *x, int64_t n);

/* Runs an f32 kernel on f32 copies of the bf16 tensors of a call: for what is not worth reading
 * bf16 itself. Bit i of own_in and own_out: the kernel takes input or output i as it is. What the
 * kernel declines is declined. */
int K(cpu_in_f32)(const call *c, kernel run, unsigned own_in, unsigned own_out);
#define IN_F32(run)                                                                                \
    static int run##_bf16(const call *c) {                                                         \
        return K(cpu_in_f32)(c, run, 0, 0);                                                        \
    }

#endif
