/* vrows.h: row functions written on vectors, for elementwise.h. */
#ifndef VESTIGE_CPU_VROWS_H
#define VESTIGE_CPU_VROWS_H

#include "cpu/elementwise.h"
#include "cpu/vmath.h"

/* y (n) = value of a, a vector of x; the last, partial vector goes through the same formula. */
#define VROW1(name, value)                                                                         \
    static void name(void *out, const void *const *in, const bool *step, int64_t n,                \
                     const float *p) {                                                             \
        float *y = out;                                                                            \
        const float *x = in[0];                                                                    \
        int64_t i = 0;                                                                             \
        (void)step, (void)p;                                                                       \
        for (; i + LANES <= n; i += LANES) {                                                       \
            vf a = vload(x + i);                                                                   \
            vstore(y + i, value);                                                                  \
        }                                                                                          \
        if (i < n) {                                                                               \
            vf a = vload_part(x + i, n - i);                                                       \
            vstore_part(y + i, value, n - i);                                                      \
        }                                                                                          \
    }
/* y (n) = value of a gradient g and of a, what the function saw or gave. */
#define VROW2(name, value)                                                                         \
    static void name(void *out, const void *const *in, const bool *step, int64_t n,                \
                     const float *p) {                                                             \
        float *y = out;                                                                            \
        const float *pg = in[0], *x = in[1];                                                       \
        int64_t i = 0;                                                                             \
        (void)step, (void)p;                                                                       \
        for (; i + LANES <= n; i += LANES) {                                                       \
            vf g = vload(pg + i), a = vload(x + i);                                                \
            vstore(y + i, value);                                                                  \
        }                                                                                          \
        if (i < n) {                                                                               \
            vf g = vload_part(pg + i, n - i), a = vload_part(x + i, n - i);                        \
            vstore_part(y + i, value, n - i);                                                      \
        }                                                                                          \
    }
/* The kernels over those rows. */
#define VKERNEL1(name, row)                                                                        \
    static int name(const call *c) {                                                               \
        return elementwise(c, 0, 1, row, VESTIGE_F32, NULL);                                       \
    }
#define VKERNEL2(name, row)                                                                        \
    static int name(const call *c) {                                                               \
        return elementwise(c, 0, 2, row, VESTIGE_F32, NULL);                                       \
    }

#endif
