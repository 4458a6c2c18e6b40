/* Speed of the f32 kernels: GFLOP/s of a direct product, against the multiply-add peak that this
 * program measures first; best of a few runs. Usage:
 *   kernels [level] [threads] [width] [batch]         convolutions of ResNet-18 for 32x32 images
 *   kernels [level] [threads] [width] [batch] gemm    matrix products too
 *   kernels [level] [threads] [width] [batch] errors  rounding errors of the 3x3 layers instead,
 *                                                    of bf16 where the level multiplies pairs;
 *                                                    this also with the emulated library */
#include "cpu/f32.h"
#include "core/threads.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "peak.h"

static float *noise(int64_t n) {
    float *p = aligned_alloc(64, (size_t)(n * 4 + 63) / 64 * 64);
    static _Thread_local uint64_t state;
    for (int64_t i = 0; p && i < n; i++) {
        uint64_t z = state += 0x9E3779B97F4A7C15u; /* splitmix64 */
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
        z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
        p[i] = (float)(int32_t)(z >> 32) * 0x1p-31f;
    }
    return p;
}

/* Close to normal: a sum of 12 uniforms. */
static float *normal(int64_t n) {
    float *u = noise(12 * n), *p = malloc((size_t)n * 4);
    for (int64_t i = 0; i < n; i++) {
        p[i] = 0;
        for (int64_t j = 0; j < 12; j++)
            p[i] += 0.5f * u[12 * i + j];
    }
    free(u);
    return p;
}

/* The peak of a kernel's level; the bf16 level's f32 kernels are v4's. */
static double peak(const struct cpu_f32 *k) {
    for (int i = 0; i < 2; i++)
        if (strcmp(k->level, peak_levels[i].name) == 0)
            return peak_of(peak_levels[i].chains, threads());
    return peak_of(chains_v4, threads());
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

/* The exact value of one element and a plain f32 loop's: kind 0 forward, 1 input, 2 weight
 * gradient, of a 3x3 convolution of square images with padding 1. */
static double exact(int kind, const float *x, const float *w, const float *y,
                    const struct cpu_conv *g, int64_t at, float *plain) {
    double sum = 0;
    *plain = 0;
    int64_t c = g->c, o = g->o, h = g->h, oh = g->oh, s = g->sh;
    int64_t made = kind == 0 ? o : c, side = kind == 0 ? oh : h;
    int64_t channel = at % made, pixel = at / made % (side * side), n = at / made / (side * side);
    int64_t tap = at / c % 9, other = at / (9 * c);
    for (int64_t i = 0; kind == 2 && i < g->n * oh * oh; i++) {
        int64_t iy = i / oh % oh * s + tap / 3 - 1, ix = i % oh * s + tap % 3 - 1;
        if (iy < 0 || iy >= h || ix < 0 || ix >= h)
            continue;
        float a = y[i * o + other], b = x[((i / (oh * oh) * h + iy) * h + ix) * c + channel];
        sum += (double)a * b;
        *plain += a * b;
    }
    for (int64_t t = 0; kind < 2 && t < 9; t++) {
        int64_t iy = pixel / side, ix = pixel % side, from = kind == 0 ? h : oh;
        if (kind == 0) {
            iy = iy * s + t / 3 - 1, ix = ix * s + t % 3 - 1;
        } else {
            iy += 1 - t / 3, ix += 1 - t % 3;
            if (iy % s != 0 || ix % s != 0)
                continue;
            iy /= s, ix /= s;
        }
        if (iy < 0 || iy >= from || ix < 0 || ix >= from)
            continue;
        for (int64_t k = 0; k < (kind == 0 ? c : o); k++) {
            float a = kind == 0 ? x[((n * h + iy) * h + ix) * c + k]
                                : y[((n * oh + iy) * oh + ix) * o + k];
            float b = kind == 0 ? w[(channel * 9 + t) * c + k] : w[(k * 9 + t) * c + channel];
            sum += (double)a * b;
            *plain += a * b;
        }
    }
    return sum;
}

static void errors(const struct cpu_f32 *k, int64_t n, int64_t h, int64_t c, int64_t stride) {
    int64_t o = c * stride, oh = h / stride;
    struct cpu_conv g = { n, h, h, c, o, 3, 3, oh, oh, stride, stride, 1, 1, 1, 1, 1 };
    int64_t images = n * h * h * c, outputs = n * oh * oh * o, weights = 9 * c * o;
    float *x = normal(images), *y = normal(outputs), *w = normal(weights);
    float *out = malloc((size_t)(images > weights ? images : weights) * 4);
    printf("errors %3ld x %2ld x %3ld / %ld:", n, h, c, stride);
    for (int kind = 0; kind < 3; kind++) {
        int64_t bytes = kind == 0   ? k->conv_forward_scratch(&g)
                        : kind == 1 ? k->conv_input_grad_scratch(&g)
                                    : k->conv_weight_grad_scratch(&g);
        void *s = malloc((size_t)bytes);
        if (kind == 0)
            k->conv_forward(out, x, w, NULL, &g, s);
        else if (kind == 1)
            k->conv_input_grad(out, y, w, &g, s);
        else
            k->conv_weight_grad(out, y, x, &g, s);
        int64_t count = kind == 2   ? weights
                        : kind == 1 ? images
                                    : outputs,
                step = count / 4000 * 2 + 1;
        double worst = 0, worst_plain = 0, square = 0, square_plain = 0, largest = 0, size = 0;
        for (int64_t i = 0; i < count; i += step) {
            float plain;
            double e = exact(kind, x, w, y, &g, i, &plain);
            worst = fmax(worst, fabs(out[i] - e));
            worst_plain = fmax(worst_plain, fabs(plain - e));
            square += (out[i] - e) * (out[i] - e);
            square_plain += (plain - e) * (plain - e);
            largest = fmax(largest, fabs(e));
            size += e * e;
        }
        printf("  %s %.1e (%.1e) rms %.1e (%.1e)",
               kind == 0   ? "y"
               : kind == 1 ? "dx"
                           : "dw",
               worst / largest, worst_plain / largest, sqrt(square / size),
               sqrt(square_plain / size));
        free(s);
    }
    printf("\n");
    free(x), free(y), free(w), free(out);
}

static float from_bits(uint16_t h) {
    uint32_t bits = (uint32_t)h << 16;
    float f;
    memcpy(&f, &bits, 4);
    return f;
}

/* The nearest bf16. */
static float rounded(double x) {
    float f = (float)x;
    uint32_t bits;
    memcpy(&bits, &f, 4);
    bits = (bits + 0x7fff + (bits >> 16 & 1)) & 0xffff0000;
    memcpy(&f, &bits, 4);
    return f;
}

/* A tensor, its bf16, and that widened. */
struct halves {
    float *f, *low;
    uint16_t *h;
};

static struct halves halves_of(float *f, int64_t n) {
    struct halves t = { f, malloc((size_t)n * 4), malloc((size_t)n * 2) };
    for (int64_t i = 0; i < n; i++) {
        t.low[i] = rounded(f[i]);
        uint32_t bits;
        memcpy(&bits, &t.low[i], 4);
        t.h[i] = (uint16_t)(bits >> 16);
    }
    return t;
}

static void halves_free(struct halves *t) {
    free(t->f), free(t->low), free(t->h);
}

/* The same of bf16 on pairs, against the exact result of what was rounded; in brackets the error of
 * rounding inputs and output alone. */
static void errors_pairs(const struct cpu_f32 *k, int64_t n, int64_t h, int64_t c, int64_t stride) {
    int64_t o = c * stride, oh = h / stride;
    struct cpu_conv g = { n, h, h, c, o, 3, 3, oh, oh, stride, stride, 1, 1, 1, 1, 1 };
    int64_t images = n * h * h * c, outputs = n * oh * oh * o, weights = 9 * c * o;
    struct halves x = halves_of(normal(images), images), y = halves_of(normal(outputs), outputs);
    struct halves w = halves_of(normal(weights), weights);
    uint16_t *out = malloc((size_t)(images > weights ? images : weights) * 2);
    printf("bf16   %3ld x %2ld x %3ld / %ld:", n, h, c, stride);
    for (int kind = 0; kind < 3; kind++) {
        void *s = malloc(
            (size_t)(kind == 2 ? k->pairs_weights_scratch(&g) : k->pairs_scratch(&g, kind == 1)));
        if (kind == 2)
            k->pairs_weights(out, y.h, x.h, &g, s);
        else
            k->pairs(out, kind ? y.h : x.h, w.h, NULL, &g, kind == 1, s);
        int64_t count = kind == 2   ? weights
                        : kind == 1 ? images
                                    : outputs,
                step = count / 4000 * 2 + 1;
        double worst = 0, direct = 0, square = 0, square_direct = 0, largest = 0, size = 0;
        for (int64_t i = 0; i < count; i += step) {
            float plain;
            double e = exact(kind, x.f, w.f, y.f, &g, i, &plain);
            double d = rounded(exact(kind, x.low, w.low, y.low, &g, i, &plain)) - e;
            double got = from_bits(out[i]) - e;
            worst = fmax(worst, fabs(got));
            direct = fmax(direct, fabs(d));
            square += got * got;
            square_direct += d * d;
            largest = fmax(largest, fabs(e));
            size += e * e;
        }
        printf("  %s %.1e (%.1e) rms %.1e (%.1e)",
               kind == 0   ? "y"
               : kind == 1 ? "dx"
                           : "dw",
               worst / largest, direct / largest, sqrt(square / size), sqrt(square_direct / size));
        free(s);
    }
    printf("\n");
    halves_free(&x), halves_free(&y), halves_free(&w), free(out);
}

int main(int argc, char **argv) {
    const struct cpu_f32 *all[] = { &cpu_f32_v2, &cpu_f32_v3, &cpu_f32_v4, &cpu_f32_v4bf16 };
    const struct cpu_f32 *k = &cpu_f32_v3;
    for (int i = 0; argc > 1 && i < 4; i++)
        if (strcmp(argv[1], all[i]->level) == 0)
            k = all[i];
    set_threads(argc > 2 ? atoi(argv[2]) : threads());
    int64_t width = argc > 3 ? atol(argv[3]) : 64, n = argc > 4 ? atol(argv[4]) : 128;
    if (argc > 5 && strcmp(argv[5], "errors") == 0) {
        for (int64_t h = 32, c = width; h >= 4; h /= 2, c *= 2)
            for (int64_t stride = 1; stride <= (h > 4 ? 2 : 1); stride++)
                if (k->pairs)
                    errors_pairs(k, n, h, c, stride);
                else
                    errors(k, n, h, c, stride);
        return 0;
    }
    double top = peak(k);
    printf("level %s, %d threads, multiply-add peak %.1f GFLOP/s\n", k->level, threads(), top);
    if (argc > 5 && strcmp(argv[5], "gemm") == 0) {
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
