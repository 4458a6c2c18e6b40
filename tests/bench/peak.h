/* peak.h: the multiply-add peak of a processor, for peak.c and kernels.c. */
#ifndef VESTIGE_BENCH_PEAK_H
#define VESTIGE_BENCH_PEAK_H

#include <stdint.h>
#include <string.h>
#include <time.h>

static inline double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Work a second of one thread in GFLOP/s, on registers alone: 12 independent chains of a level's
 * vectors hide the latency of each step, t[i] = STEP(t[i], a, b), which does `flops`. */
#define CHAINS(name, vector, isa, flops, STEP)                                                     \
    __attribute__((target(isa), noinline)) static double name(void) {                              \
        typedef float v __attribute__((vector_size(vector)));                                      \
        v t[12], a = { 0 }, b = { 0 };                                                             \
        for (int i = 0; i < 12; i++)                                                               \
            t[i] = a;                                                                              \
        __asm__ volatile("" : "+x"(a), "+x"(b));                                                   \
        double start = now();                                                                      \
        for (int r = 0; r < 2000000; r++) {                                                        \
            _Pragma("GCC unroll 12") for (int i = 0; i < 12; i++) t[i] = STEP(t[i], a, b);         \
            __asm__ volatile("" : "+x"(a), "+x"(b));                                               \
        }                                                                                          \
        start = now() - start;                                                                     \
        for (int i = 0; i < 12; i++)                                                               \
            __asm__ volatile("" : : "x"(t[i]));                                                    \
        return (flops)*12 * 2e6 / start * 1e-9;                                                    \
    }
#define MULTIPLY_ADD(t, a, b) ((a) * (b) + (t))
CHAINS(chains_v2, 16, "sse4.2", 8, MULTIPLY_ADD)
CHAINS(chains_v3, 32, "avx2,fma", 16, MULTIPLY_ADD)
CHAINS(chains_v4, 64, "avx512f", 32, MULTIPLY_ADD)

struct peak_level {
    const char *name;
    double (*chains)(void);
};
static const struct peak_level peak_levels[] = { { "v2", chains_v2 },
                                                 { "v3", chains_v3 },
                                                 { "v4", chains_v4 } };

/* The best of a few runs, by `workers` threads at once; f runs on each. */
static inline double peak_of(double (*f)(void), int workers) {
    double sum = 0;
#pragma omp parallel num_threads(workers) reduction(+ : sum)
    for (int r = 0; r < 3; r++) {
        double once = f();
        sum = once > sum ? once : sum;
    }
    return sum;
}

#endif
