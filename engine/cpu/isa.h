/* Instruction-set levels. Every kernel source of engine/cpu is compiled once per level, with
 * VESTIGE_LEVEL set to v2, v3, v4 or v4bf16 and -march to match; K(name) is name_<level>, so the
 * copies live side by side and the table of the best level is picked at start-up. Headers hold
 * static functions only: a shared inline function could be emitted from the wrong copy.
 *
 * The vector width follows the level (GCC spills when a vector is wider than a register):
 *   v2  4 floats, 16 registers, no FMA
 *   v3  8 floats, 16 registers
 *   v4 16 floats, 32 registers
 *
 * VESTIGE_EMULATE compiles v4bf16 for the tests of any processor of level v3: as wide, in the same
 * steps, with the instructions that are missing written out.
 */
#ifndef VESTIGE_CPU_ISA_H
#define VESTIGE_CPU_ISA_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define CPU_PASTE2(a, b) a##_##b
#define CPU_PASTE(a, b) CPU_PASTE2(a, b)
#define K(name) CPU_PASTE(name, VESTIGE_LEVEL)

#if defined(VESTIGE_EMULATE)
#define EMULATED 1
#else
#define EMULATED 0
#endif

#if defined(__AVX512F__) || EMULATED
#define LANES 16
#define MR 12 /* 12 x 2 accumulators of 32 registers */
#elif defined(__AVX2__)
#define LANES 8
#define MR 6 /* 6 x 2 accumulators, 2 of b, 1 broadcast: 15 of 16 registers */
#else
#define LANES 4
#define MR 6
#endif
#include <immintrin.h>
#if defined(__AVX512BF16__) || EMULATED /* products of bf16 take two steps along k at once */
#define PAIRS 1
#else
#define PAIRS 0
#endif
#define NV 2
#define NR (NV * LANES)
#define LINE 16 /* floats of a cache line */

typedef float vf __attribute__((vector_size(LANES * 4), may_alias));
typedef float vf_unaligned __attribute__((vector_size(LANES * 4), may_alias, aligned(4)));

static inline vf vload(const float *p) {
    return *(const vf_unaligned *)p;
}

static inline void vstore(float *p, vf v) {
    *(vf_unaligned *)p = v;
}

static inline vf vset(float x) {
    return x - (vf){ 0 };
}

typedef int32_t vi __attribute__((vector_size(LANES * 4), may_alias));
typedef uint32_t vu __attribute__((vector_size(LANES * 4), may_alias)); /* wraps round */

/* The smaller and the larger, NaN in x stays: one instruction, which GCC does not find. */
static inline vf vmin(vf x, vf most) {
#if EMULATED
    vi less = most < x;
    return (vf)(((vi)most & less) | ((vi)x & ~less));
#elif LANES == 16
    return (vf)_mm512_min_ps((__m512)most, (__m512)x);
#elif LANES == 8
    return (vf)_mm256_min_ps((__m256)most, (__m256)x);
#else
    return (vf)_mm_min_ps((__m128)most, (__m128)x);
#endif
}
static inline vf vmax(vf x, vf least) {
#if EMULATED
    vi more = least > x;
    return (vf)(((vi)least & more) | ((vi)x & ~more));
#elif LANES == 16
    return (vf)_mm512_max_ps((__m512)least, (__m512)x);
#elif LANES == 8
    return (vf)_mm256_max_ps((__m256)least, (__m256)x);
#else
    return (vf)_mm_max_ps((__m128)least, (__m128)x);
#endif
}

/* Bit l is set where lane l of v is above 0. */
static inline unsigned positive_bits(vf v) {
#if EMULATED
    unsigned bits = 0;
    for (int l = 0; l < LANES; l++)
        bits |= (unsigned)(v[l] > 0) << l;
    return bits;
#elif LANES == 16
    return _mm512_cmp_ps_mask((__m512)v, _mm512_setzero_ps(), _CMP_GT_OQ);
#elif LANES == 8
    return (unsigned)_mm256_movemask_ps((__m256)(v > 0));
#else
    return (unsigned)_mm_movemask_ps((__m128)(v > 0));
#endif
}

/* All ones in lane l where bit l is set. */
static inline vi lanes_of_bits(unsigned bits) {
    vi lane = { 0 };
    for (int l = 0; l < LANES; l++)
        lane[l] = 1 << l;
    return (lane & (int32_t)bits) == lane;
}

/* a*b + c: one instruction from v3 on (contraction is on), two at v2. */
static inline vf vfma(vf a, vf b, vf c) {
    return a * b + c;
}

#if PAIRS
/* A pair of bf16 in all lanes, with its bits as they are. */
static inline vf vset_pair(const float *pair) {
    int32_t bits;
    memcpy(&bits, pair, 4);
    return (vf)(bits - (vi){ 0 });
}

#if EMULATED
/* Denormals become zeros. */
static inline vf vflush(vf v) {
    vi normal = ((vi)v & 0x7f800000) != 0;
    return (vf)((vi)v & (normal | INT32_MIN));
}
#endif

/* c + a b of both elements of the pairs: the odd ones are added first, each in one rounding, and
 * denormals count as zeros. */
static inline vf vdot(vf a, vf b, vf c) {
#if EMULATED
    vf odd_a = vflush((vf)((vi)a & ~0xffff)), odd_b = vflush((vf)((vi)b & ~0xffff));
    vf even_a = vflush((vf)((vu)a << 16)), even_b = vflush((vf)((vu)b << 16));
    c = vflush(vfma(odd_a, odd_b, vflush(c)));
    return vflush(vfma(even_a, even_b, c));
#else
    return (vf)_mm512_dpbf16_ps((__m512)c, (__m512bh)a, (__m512bh)b);
#endif
}
#endif

#endif
