/* Speed of the f32 kernels: GFLOP/s of a direct product, against the multiply-add peak that this
 * program measures first. Usage: kernels [level] [threads] [width] [batch]; best of a few runs. */
#include "cpu/f32.h"
#include "core/threads.h"
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static float *noise(int64_t n) {
    float *p = aligned_alloc(64, (size_t)(n * 4 + 63) / 64 * 64);
    uint32_t s = 12345;
    for (int64_t i = 0; p && i < n; i++) {
        s = s * 1664525u + 1013904223u;
        p[i] = (float)(int32_t)s * 0x1p-31f;
    }
    return p;
}

/* Multiply-adds on registers alone, by every thread at once: 12 independent chains of the level's
 * vectors hide the latency of each. */
#define CHAINS(name, width, isa)                                                                   \
    __attribute__((target(isa), noinline)) static double name(void) {                              \
        typedef float v __attribute__((vector_size(width)));                                       \
        v t[12], a = { 0 }, b = { 0 };                                                             \
        for (int i = 0; i < 12; i++)                                                               \
            t[i] = a;                                                                              \
        __asm__ volatile("" : "+x"(a), "+x"(b));                                                   \
        double start = now();                                                                      \
        for (int r = 0; r < 4000000; r++) {                                                        \
            _Pragma("GCC unroll 12") for (int i = 0; i < 12; i++) t[i] = a * b + t[i];             \
            __asm__ volatile("" : "+x"(a), "+x"(b));                                               \
        }                                                                                          \
        start = now() - start;                                                                     \
        for (int i = 0; i < 12; i++)                                                               \
            __asm__ volatile("" : : "x"(t[i]));                                                    \
        return 2.0 * 12 * (width / 4) * 4e6 / start * 1e-9;                                        \
    }
CHAINS(chains_v2, 16, "sse4.2")
CHAINS(chains_v3, 32, "avx2,fma")
CHAINS(chains_v4, 64, "avx512f")

static double peak(const struct cpu_f32 *k) {
    double sum = 0;
    int workers = threads();
#pragma omp parallel num_threads(workers) reduction(+ : sum)
    {
        for (int r = 0; r < 3; r++) {
            double f = k == &cpu_f32_v2   ? chains_v2()
                       : k == &cpu_f32_v3 ? chains_v3()
                                          : chains_v4();
            sum = f > sum ? f : sum;
        }
    }
    return sum;
}

static void bench_gemm(const struct cpu_f32 *k, int64_t m, int64_t n, int64_t kk, bool ta, bool tb,
                       double top) {
    struct cpu_gemm g = { m, n, kk, ta ? m : kk, tb ? kk : n, n, ta, tb, false };
    float *a = noise(m * kk), *b = noise(kk * n), *c = noise(m * n);
    void *s = malloc((size_t)k->gemm_scratch(&g));
    double best = 1e9;
    for (int r = 0; r < 5; r++) {
        double t = now();
        k->gemm(c, a, b, &g, s);
        t = now() - t;
        best = t < best ? t : best;
    }
    double f = 2.0 * (double)(m * n * kk) / best * 1e-9;
    printf("gemm %5ld x %5ld x %5ld %c%c %9.3f ms %7.1f GFLOP/s %4.0f%%\n", m, n, kk,
           ta ? 't' : 'n', tb ? 't' : 'n', best * 1e3, f, 100 * f / top);
    free(a), free(b), free(c), free(s);
}

static void bench_conv(const struct cpu_f32 *k, int64_t n, int64_t h, int64_t c, int64_t o,
                       int64_t size, int64_t stride, double top) {
    int64_t oh = (h + 2 * (size / 2) - size) / stride + 1, pad = size / 2;
    struct cpu_conv g = { n, h, h, c, o, size, size, oh, oh, stride, stride, pad, pad, 1, 1, 1 };
    float *x = noise(n * h * h * c), *w = noise(o * size * size * c), *y = noise(n * oh * oh * o);
    double work = 2.0 * (double)(n * oh * oh * o * c * size * size);
    printf("conv %3ld x %2ld x %3ld -> %3ld %ldx%ld/%ld ", n, h, c, o, size, size, stride);
    for (int kind = 0; kind < 3; kind++) {
        int64_t bytes = kind == 0   ? k->conv_forward_scratch(&g)
                        : kind == 1 ? k->conv_input_grad_scratch(&g)
                                    : k->conv_weight_grad_scratch(&g);
        if (bytes < 0)
            continue;
        void *s = malloc((size_t)bytes);
        double best = 1e9;
        for (int r = 0; r < 4; r++) {
            double t = now();
            if (kind == 0)
                k->conv_forward(y, x, w, NULL, &g, s);
            else if (kind == 1)
                k->conv_input_grad(x, y, w, &g, s);
            else
                k->conv_weight_grad(w, y, x, &g, s);
            t = now() - t;
            best = t < best ? t : best;
        }
        double f = work / best * 1e-9;
        printf("  %s %8.3f ms %6.1f GF %3.0f%%",
               kind == 0   ? "y"
               : kind == 1 ? "dx"
                           : "dw",
               best * 1e3, f, 100 * f / top);
        fflush(stdout);
        free(s);
    }
    printf("\n");
    free(x), free(w), free(y);
}

int main(int argc, char **argv) {
    const struct cpu_f32 *all[] = { &cpu_f32_v2, &cpu_f32_v3, &cpu_f32_v4, &cpu_f32_v4bf16 };
    const struct cpu_f32 *k = &cpu_f32_v3;
    for (int i = 0; argc > 1 && i < 4; i++)
        if (strcmp(argv[1], all[i]->level) == 0)
            k = all[i];
    set_threads(argc > 2 ? atoi(argv[2]) : threads());
    int64_t width = argc > 3 ? atol(argv[3]) : 64, n = argc > 4 ? atol(argv[4]) : 128;
    double top = peak(k);
    printf("level %s, %d threads, multiply-add peak %.1f GFLOP/s\n", k->level, threads(), top);
    if (argc > 5) {
        bench_gemm(k, 1024, 1024, 1024, false, false, top);
        bench_gemm(k, 1024, 1024, 1024, false, true, top);
        bench_gemm(k, 1024, 1024, 1024, true, false, top);
        bench_gemm(k, 2048, 2048, 2048, false, false, top);
        bench_gemm(k, 1024, 3072, 768, false, false, top);
        bench_gemm(k, 128, 10, 512, false, true, top);
        bench_gemm(k, 64, 64, 64, false, false, top);
    }
    bench_conv(k, n, 32, 3, width, 3, 1, top);
    for (int64_t s = 0, h = 32, c = width; s < 4; s++) {
        bench_conv(k, n, h, c, c, 3, 1, top);
        if (s == 3)
            break;
        bench_conv(k, n, h, c, 2 * c, 3, 2, top);
        bench_conv(k, n, h, c, 2 * c, 1, 2, top);
        h /= 2;
        c *= 2;
    }
    return 0;
}
