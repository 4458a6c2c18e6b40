/* both.h: one loop for rows of f32 and of bf16. It takes 2 LANES elements at a time as two vectors
 * of floats: those of f32 are the first and the second half of them, those of bf16 the even and the
 * odd ones, which need no shuffles. Floats that stand beside bf16 are dealt in that order. */
#ifndef VESTIGE_CPU_BOTH_H
#define VESTIGE_CPU_BOTH_H

#include "cpu/half.h"
#include "cpu/stream.h"

enum { TWO = 2 * LANES };

typedef struct two {
    vf a, b;
} two;

/* Elements i to i + TWO of a row. */
ALWAYS_INLINE two load_two(const void *x, int64_t i, const bool half) {
    if (half) {
        vu w = *(const vu_unaligned *)((const uint16_t *)x + i);
        return (two){ even(w), odd(w) };
    }
    const float *at = (const float *)x + i;
    return (two){ vload(at), vload(at + LANES) };
}

ALWAYS_INLINE void fetch_two(const void *x, int64_t i, const bool half) {
    const char *at = (const char *)x + i * (half ? 2 : 4);
    for (int64_t k = 0; k < TWO * (half ? 2 : 4); k += 64)
        __builtin_prefetch(at + k);
}

/* words() in two instructions where the processor rounds; there denormals become zeros, as they
 * would in a product. */
ALWAYS_INLINE vu rounded_words(vf even, vf odd) {
#if PAIRS && !EMULATED
    uint16_t order[TWO];
#pragma GCC unroll 32
    for (int l = 0; l < TWO; l++)
        order[l] = (uint16_t)(l / 2 + l % 2 * LANES);
    __m512i both = (__m512i)_mm512_cvtne2ps_pbh((__m512)odd, (__m512)even);
    return (vu)_mm512_permutexvar_epi16(_mm512_loadu_si512(order), both);
#elif PAIRS
    return words(vflush(even), vflush(odd));
#else
    return words(even, odd);
#endif
}

/* past: past the caches, to a multiple of the vector */
ALWAYS_INLINE void store_two(void *y, int64_t i, two v, const bool half, const bool past) {
    if (half) {
        uint16_t *at = (uint16_t *)y + i;
        vu w = rounded_words(v.a, v.b);
        if (past)
            STREAM_STORE((float *)at, (vf)w);
        else
            *(vu_unaligned *)at = w;
        return;
    }
    float *at = (float *)y + i;
    if (past) {
        STREAM_STORE(at, v.a);
        STREAM_STORE(at + LANES, v.b);
    } else {
        vstore(at, v.a);
        vstore(at + LANES, v.b);
    }
}

/* Where element i of a row of n stands among dealt floats. */
ALWAYS_INLINE int64_t dealt(int64_t i, int64_t n) {
    int64_t at = i % TWO;
    return i < n / TWO * TWO ? i - at + at / 2 + at % 2 * LANES : i;
}

/* Deals the floats of a row of n. */
static inline void deal(float *x, int64_t n) {
    for (; n >= TWO; n -= TWO, x += TWO) {
        float row[TWO];
        memcpy(row, x, sizeof row);
        for (int l = 0; l < LANES; l++) {
            x[l] = row[2 * l];
            x[LANES + l] = row[2 * l + 1];
        }
    }
}

static inline void undeal(float *x, int64_t n) {
    for (; n >= TWO; n -= TWO, x += TWO) {
        float row[TWO];
        memcpy(row, x, sizeof row);
        for (int l = 0; l < LANES; l++) {
            x[2 * l] = row[l];
            x[2 * l + 1] = row[LANES + l];
        }
    }
}

/* ---- A bit for each of TWO elements, in the order of the row ---- */
/* v where the bits are set */
ALWAYS_INLINE two where_bits(two v, uint32_t bits, const bool half) {
    vi a = { 0 }, b = { 0 };
#pragma GCC unroll 16
    for (int l = 0; l < LANES; l++) {
        a[l] = (int32_t)(1u << (half ? 2 * l : l));
        b[l] = (int32_t)(1u << (half ? 2 * l + 1 : l + LANES));
    }
    vi all = (int32_t)bits - (vi){ 0 };
    return (two){ (vf)((vi)v.a & ((all & a) == a)), (vf)((vi)v.b & ((all & b) == b)) };
}

/* Bits of a to even places. */
static inline uint32_t spread_bits(uint32_t a) {
#ifdef __BMI2__
    return _pdep_u32(a, 0x55555555);
#else
    a = (a | a << 8) & 0x00ff00ff;
    a = (a | a << 4) & 0x0f0f0f0f;
    a = (a | a << 2) & 0x33333333;
    return (a | a << 1) & 0x55555555;
#endif
}

ALWAYS_INLINE uint32_t positive_bits_of_two(two v, const bool half) {
    uint32_t a = positive_bits(v.a), b = positive_bits(v.b);
    return half ? spread_bits(a) | spread_bits(b) << 1 : a | b << LANES;
}

#endif
