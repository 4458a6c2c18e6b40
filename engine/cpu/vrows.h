/* vrows.h: row functions on floats, written on vectors, for elementwise.h. One formula serves f32
 * and bf16, and the last, partial vector of a row. */
#ifndef VESTIGE_CPU_VROWS_H
#define VESTIGE_CPU_VROWS_H

#include "cpu/elementwise.h"
#include "cpu/vmath.h"

/* The formula of an operator: of its operands (those it has) and its two parameters. */
typedef vf (*formula)(vf a, vf b, vf d, vf u, vf v);

/* ---- f32. An operand that does not step stands still, one that is not there at 0. ---- */
static const float absent = 0;

ALWAYS_INLINE vf still(const void *p, bool step) {
    return vset(step ? 0 : *(const float *)p);
}

ALWAYS_INLINE void wide_vectors(formula f, float *y, const float *pa, const float *pb,
                                const float *pd, int64_t n, const float *p, const bool step_a,
                                const bool step_b, const bool step_d) {
    const vf a = still(pa, step_a), b = still(pb, step_b), d = still(pd, step_d);
    const vf u = vset(p[0]), v = vset(p[1]);
    for (int64_t i = 0; i + LANES <= n; i += LANES)
        vstore(y + i, f(step_a ? vload(pa + i) : a, step_b ? vload(pb + i) : b,
                        step_d ? vload(pd + i) : d, u, v));
}

/* ---- bf16 ---- */
ALWAYS_INLINE void half_vectors(formula f, uint16_t *y, const void *pa, const void *pb,
                                const void *pd, int64_t n, const float *p, const bool step_a,
                                const bool step_b, const bool step_d) {
    const vf a = still(pa, step_a), b = still(pb, step_b), d = still(pd, step_d);
    const vf u = vset(p[0]), v = vset(p[1]);
    const vu none = { 0 };
    for (int64_t i = 0; i + 2 * LANES <= n; i += 2 * LANES) {
        vu s = step_a ? *(const vu_unaligned *)((const uint16_t *)pa + i) : none;
        vu t = step_b ? *(const vu_unaligned *)((const uint16_t *)pb + i) : none;
        vu w = step_d ? *(const vu_unaligned *)((const uint16_t *)pd + i) : none;
        vf low = f(step_a ? even(s) : a, step_b ? even(t) : b, step_d ? even(w) : d, u, v);
        vf high = f(step_a ? odd(s) : a, step_b ? odd(t) : b, step_d ? odd(w) : d, u, v);
        *(vu_unaligned *)(y + i) = words(low, high);
    }
}

/* The last elements of a row, fewer than the `width` of a turn of its loop: in a copy that is
 * filled with zeros. */
static __attribute__((noinline)) void run_rest(row_fn row, int nin, int width, int size, char *y,
                                               const void *const *in, const bool *step, int64_t n,
                                               const float *p) {
    char to[LANES * 4], from[3][LANES * 4] = { { 0 } };
    const void *at[3];
    int64_t i = n / width * width * size, bytes = n * size - i;
    for (int j = 0; j < nin; j++) {
        at[j] = step[j] ? from[j] : in[j];
        if (step[j])
            memcpy(from[j], (const char *)in[j] + i, (size_t)bytes);
    }
    row(to, at, step, width, p);
    memcpy(y + i, to, (size_t)bytes);
}

/* ---- Row functions: y = value of the operands a, b, d and the parameters u and v ---- */
#define VECTORS(loop, a, b, d)                                                                     \
    loop(f, y, in[0], nin > 1 ? in[1] : &absent, nin > 2 ? in[2] : &absent, n, p, a, b, d)
#define ROW_OF(name, loop, width, size)                                                            \
    ALWAYS_INLINE void name(formula f, row_fn row, const int nin, void *y, const void *const *in,  \
                            const bool *step, int64_t n, const float *p) {                         \
        if (nin == 1)                                                                              \
            VECTORS(loop, true, false, false);                                                     \
        else if (nin == 2 && step[0] && step[1])                                                   \
            VECTORS(loop, true, true, false);                                                      \
        else if (nin == 2 && step[0])                                                              \
            VECTORS(loop, true, false, false);                                                     \
        else if (nin == 2)                                                                         \
            VECTORS(loop, false, true, false);                                                     \
        else                                                                                       \
            VECTORS(loop, step[0], step[1], step[2]);                                              \
        if (UNLIKELY(n % (width) != 0))                                                            \
            run_rest(row, nin, width, size, y, in, step, n, p);                                    \
    }
ROW_OF(wide_row, wide_vectors, LANES, 4)
ROW_OF(half_row, half_vectors, 2 * LANES, 2)

#define ROW_FN(name, row_of, nin)                                                                  \
    static void name##row_of(void *y, const void *const *in, const bool *step, int64_t n,          \
                             const float *p) {                                                     \
        row_of(name##_of, name##row_of, nin, y, in, step, n, p);                                   \
    }
#define FLOATS(name, nin, value)                                                                   \
    ALWAYS_INLINE vf name##_of(vf a, vf b, vf d, vf u, vf v) {                                     \
        (void)a, (void)b, (void)d, (void)u, (void)v;                                               \
        return value;                                                                              \
    }                                                                                              \
    ROW_FN(name, wide_row, nin)                                                                    \
    ROW_FN(name, half_row, nin)                                                                    \
    static const row_fns name = { name##wide_row, name##half_row };
#define FLOAT1(name, value) FLOATS(name, 1, value)
#define FLOAT2(name, value) FLOATS(name, 2, value)
#define FLOAT3(name, value) FLOATS(name, 3, value)

/* The kernels over those rows. */
#define KERNEL1(name, row)                                                                         \
    static int name(const call *c) {                                                               \
        return elementwise(c, 0, 1, &row, VESTIGE_F32, NULL);                                      \
    }
#define KERNEL2(name, row)                                                                         \
    static int name(const call *c) {                                                               \
        return elementwise(c, 0, 2, &row, VESTIGE_F32, NULL);                                      \
    }

#endif
