/* The machine's peak, as one JSON object: GFLOP/s of multiply-adds in f32 at the best level and of
 * bf16 dot products (null where the processor has none), and GB/s of the triad a = b + s c with
 * streaming stores on arrays beyond the caches; each on one thread and on all.
 * Usage: peak THREADS. Built for the compiler's baseline; levels are chosen at run time. */
#include <immintrin.h>
#include <stdio.h>
#include <stdlib.h>
#include "peak.h"

/* A bf16 dot product: each of 16 sums takes two products. The intrinsic wants its own types. */
#define DOT(t, a, b) ((v)_mm512_dpbf16_ps((__m512)(t), (__m512bh)(a), (__m512bh)(b)))
CHAINS(chains_bf16, 64, "avx512f,avx512bf16", 64, DOT)

enum { TRIAD = 1 << 24, PASSES = 4 }; /* floats an array: 64 MB */

/* a, b, c lie in memory that the calling thread touched first. */
#define TRIAD_LOOP(name, isa, type, width, load, set1, mul, add, stream)                           \
    __attribute__((target(isa))) static void name(float *a, const float *b, const float *c,        \
                                                  int64_t n) {                                     \
        type s = set1(3.0f);                                                                       \
        for (int64_t i = 0; i < n; i += width)                                                     \
            stream(a + i, add(load(b + i), mul(s, load(c + i))));                                  \
        _mm_sfence();                                                                              \
    }
TRIAD_LOOP(triad_v2, "sse4.2", __m128, 4, _mm_load_ps, _mm_set1_ps, _mm_mul_ps, _mm_add_ps,
           _mm_stream_ps)
TRIAD_LOOP(triad_v3, "avx2", __m256, 8, _mm256_load_ps, _mm256_set1_ps, _mm256_mul_ps,
           _mm256_add_ps, _mm256_stream_ps)
TRIAD_LOOP(triad_v4, "avx512f", __m512, 16, _mm512_load_ps, _mm512_set1_ps, _mm512_mul_ps,
           _mm512_add_ps, _mm512_stream_ps)

typedef void (*triad)(float *, const float *, const float *, int64_t);

/* GB/s, the best of a few passes; 0 when memory is short. */
static double bandwidth(triad f, int workers) {
    int64_t part = TRIAD / workers / 16 * 16;
    float *all = aligned_alloc(64, 3 * (size_t)TRIAD * sizeof *all);
    if (!all)
        return 0;
    double best = 0;
    for (int r = 0; r <= PASSES; r++) {
        double start = now();
#pragma omp parallel for num_threads(workers) schedule(static, 1)
        for (int w = 0; w < workers; w++) {
            float *a = all + 3 * w * part, *b = a + part, *c = b + part;
            if (r == 0)
                memset(a, 0, 3 * (size_t)part * sizeof *a);
            else
                f(a, b, c, part);
        }
        double rate = 3.0 * sizeof(float) * (double)(part * workers) / (now() - start) * 1e-9;
        if (r > 0 && rate > best)
            best = rate;
    }
    free(all);
    return best;
}

static void print_pair(const char *name, double one, double all, const char *end) {
    if (one > 0)
        printf("\"%s\": {\"one\": %.2f, \"all\": %.2f}%s", name, one, all, end);
    else
        printf("\"%s\": null%s", name, end);
}

int main(int argc, char **argv) {
    int workers = argc > 1 ? atoi(argv[1]) : 1;
    const triad triads[] = { triad_v2, triad_v3, triad_v4 };
    int level = __builtin_cpu_supports("avx512f")                                 ? 2
                : __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? 1
                                                                                  : 0;
    double (*f32)(void) = peak_levels[level].chains;
    int bf16 = __builtin_cpu_supports("avx512bf16") != 0;
    printf("{\"level\": \"%s\", ", peak_levels[level].name);
    print_pair("f32", peak_of(f32, 1), peak_of(f32, workers), ", ");
    print_pair("bf16", bf16 ? peak_of(chains_bf16, 1) : 0, bf16 ? peak_of(chains_bf16, workers) : 0,
               ", ");
    print_pair("bandwidth", bandwidth(triads[level], 1), bandwidth(triads[level], workers), "}\n");
    return 0;
}
