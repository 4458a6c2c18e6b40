/* The fast f32 kernels, and those of bf16 on pairs, against plain loops in f64, at every level that
 * this processor has. Linked with the emulated library, v4bf16 is tried on any processor.
 *
 * Shapes are random with remainders everywhere. Every buffer ends at an unreadable page, so that a
 * read or write past the end stops the test, and begins with guard bytes; outputs and scratch are
 * filled with NaN before. The worst error may be four times that of a plain f32 loop on the same
 * data, plus one rounding of the largest output; for bf16 see check_pairs. One and two threads must
 * give the same bits.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include "core/interrupt.h"
#include "core/threads.h"
#include "cpu/f32.h"

#define PAGE 4096
#define GUARD 64

struct buffer {
    char *map;
    size_t mapped;
    size_t bytes;
    void *data;
};

static uint64_t state = 1;

static uint32_t draw(void) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(state >> 33);
}

static int64_t between(int64_t low, int64_t high) {
    return low + (int64_t)(draw() % (uint32_t)(high - low + 1));
}

/* Filled with NaN; flush with the end of its last page. */
static struct buffer buffer_new(int64_t bytes) {
    struct buffer b = { .bytes = (size_t)bytes };
    size_t pages = ((size_t)bytes + GUARD + PAGE - 1) / PAGE;
    b.mapped = (pages + 1) * PAGE;
    b.map = mmap(NULL, b.mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(b.map != MAP_FAILED);
    assert_int_equal(mprotect(b.map + pages * PAGE, PAGE, PROT_NONE), 0);
    b.data = b.map + pages * PAGE - bytes;
    memset((char *)b.data - GUARD, 0xA5, GUARD);
    memset(b.data, 0xFF, (size_t)bytes);
    return b;
}

static void buffer_free(struct buffer *b) {
    for (int i = 1; i <= GUARD; i++)
        assert_int_equal(((unsigned char *)b->data)[-i], 0xA5);
    munmap(b->map, b->mapped);
}

static struct buffer noise(int64_t n) {
    struct buffer b = buffer_new(n * 4);
    for (int64_t i = 0; i < n; i++)
        ((float *)b.data)[i] = (float)((int32_t)draw() - (1 << 30)) * 0x1p-30f;
    return b;
}

/* Exact results and a plain loop's, summed in the same order. */
struct oracle {
    double *exact;
    float *plain;
    int64_t n;
};

static struct oracle oracle_new(int64_t n) {
    struct oracle o = { calloc((size_t)n + 1, 8), calloc((size_t)n + 1, 4), n };
    assert_true(o.exact && o.plain);
    return o;
}

static void oracle_free(struct oracle *o) {
    free(o->exact);
    free(o->plain);
}

/* Under the sanitizers these loops, which are no kernel's, would be nearly the whole time. */
#define UNSANITIZED __attribute__((no_sanitize("address", "undefined")))

UNSANITIZED
static void oracle_add(struct oracle *o, int64_t i, float a, float b) {
    o->exact[i] += (double)a * b;
    o->plain[i] += a * b;
}

static void check(const struct oracle *o, const float *got, const char *what) {
    double worst = 0, plain = 0, largest = 0;
    for (int64_t i = 0; i < o->n; i++) {
        double e = fabs(got[i] - o->exact[i]), p = fabs(o->plain[i] - o->exact[i]);
        if (isnan(got[i]))
            fail_msg("%s: output %lld is not a number", what, (long long)i);
        worst = fmax(worst, e);
        plain = fmax(plain, p);
        largest = fmax(largest, fabs(o->exact[i]));
    }
    if (!(worst <= 4 * plain + 0x1p-23 * largest))
        fail_msg("%s: error %g, plain loop %g, largest output %g", what, worst, plain, largest);
}

static const struct cpu_f32 *levels[4];
static int level_count;

static void find_levels(void) {
    __builtin_cpu_init();
    if (cpu_f32_v4bf16.emulated) {
        if (__builtin_cpu_supports("x86-64-v3"))
            levels[level_count++] = &cpu_f32_v4bf16;
        return;
    }
    levels[level_count++] = &cpu_f32_v2;
    if (__builtin_cpu_supports("x86-64-v3"))
        levels[level_count++] = &cpu_f32_v3;
    if (__builtin_cpu_supports("x86-64-v4"))
        levels[level_count++] = &cpu_f32_v4;
    if (__builtin_cpu_supports("x86-64-v4") && __builtin_cpu_supports("avx512bf16"))
        levels[level_count++] = &cpu_f32_v4bf16;
}

UNSANITIZED
static void gemm_oracle(struct oracle *o, const struct cpu_gemm *g, const float *a, const float *b,
                        const float *bias) {
    for (int64_t i = 0; i < g->m; i++)
        for (int64_t j = 0; j < g->n; j++) {
            for (int64_t k = 0; k < g->k; k++)
                oracle_add(o, i * g->n + j, a[g->ta ? k * g->lda + i : i * g->lda + k],
                           b[g->tb ? j * g->ldb + k : k * g->ldb + j]);
            if (bias)
                oracle_add(o, i * g->n + j, bias[j], 1);
        }
}

static void one_gemm(struct cpu_gemm *g, bool biased) {
    int64_t a_rows = g->ta ? g->k : g->m, b_rows = g->tb ? g->n : g->k;
    int64_t a_cols = g->ta ? g->m : g->k, b_cols = g->tb ? g->k : g->n;
    /* The last row ends with its last element, not with its stride. */
    int64_t an = a_rows ? (a_rows - 1) * g->lda + a_cols : 0;
    int64_t bn = b_rows ? (b_rows - 1) * g->ldb + b_cols : 0;
    int64_t cn = g->m ? (g->m - 1) * g->ldc + g->n : 0;
    struct buffer a = noise(an), b = noise(bn), start = noise(cn), bias = noise(g->n);
    const float *pa = a.data, *pb = b.data, *ps = start.data;
    if (biased)
        g->bias = bias.data;
    struct oracle o = oracle_new(g->m * g->n);
    gemm_oracle(&o, g, pa, pb, g->bias);
    for (int64_t i = 0; i < g->m * g->n && g->add; i++)
        oracle_add(&o, i, ps[i / g->n * g->ldc + i % g->n], 1);
    for (int l = 0; l < level_count; l++) {
        char what[200];
        snprintf(what, sizeof what, "%s gemm m %d n %d k %d ta %d tb %d add %d bias %d",
                 levels[l]->level, (int)g->m, (int)g->n, (int)g->k, g->ta, g->tb, g->add, biased);
        float *kept = calloc((size_t)(g->m * g->n) + 1, 4);
        for (int workers = 1; workers <= 2; workers++) {
            set_threads(workers);
            struct buffer c = buffer_new(cn * 4), s = buffer_new(levels[l]->gemm_scratch(g));
            if (g->add)
                memcpy(c.data, start.data, (size_t)cn * 4);
            float *pc = c.data, *got = calloc((size_t)(g->m * g->n) + 1, 4);
            assert_int_equal(levels[l]->gemm(pc, pa, pb, g, s.data), CPU_OK);
            for (int64_t i = 0; i < g->m; i++)
                memcpy(got + i * g->n, pc + i * g->ldc, (size_t)g->n * 4);
            /* What lies between the rows is not ours. */
            for (int64_t i = 0; i + 1 < g->m; i++)
                for (int64_t j = g->n; j < g->ldc && !g->add; j++)
                    assert_true(isnan(pc[i * g->ldc + j]));
            check(&o, got, what);
            if (workers == 2)
                assert_memory_equal(kept, got, (size_t)(g->m * g->n) * 4);
            memcpy(kept, got, (size_t)(g->m * g->n) * 4);
            free(got);
            buffer_free(&c);
            buffer_free(&s);
        }
        free(kept);
    }
    oracle_free(&o);
    buffer_free(&a);
    buffer_free(&b);
    buffer_free(&start);
    buffer_free(&bias);
}

static void test_gemm(void **unused) {
    (void)unused;
    static const int64_t fixed[][3] = { { 1, 1, 1 },    { 0, 5, 5 },     { 5, 0, 5 },
                                        { 5, 5, 0 },    { 1, 40, 300 },  { 40, 1, 300 },
                                        { 40, 33, 1 },  { 97, 35, 513 }, { 200, 300, 70 },
                                        { 7, 3100, 20 } };
    for (int t = 0; t < 8 * 10 + 60; t++) {
        struct cpu_gemm g = { .ta = t & 1, .tb = t & 2, .add = t & 4 };
        bool given = t < 80;
        g.m = given ? fixed[t / 8][0] : between(1, 130);
        g.n = given ? fixed[t / 8][1] : between(1, 130);
        g.k = given ? fixed[t / 8][2] : between(1, 600);
        g.lda = (g.ta ? g.m : g.k) + between(0, 3);
        g.ldb = (g.tb ? g.k : g.n) + between(0, 3);
        g.ldc = g.n + between(0, 3);
        one_gemm(&g, false);
        if (!g.add)
            one_gemm(&g, true);
    }
}

enum { FORWARD, BIASED, INPUT_GRAD, WEIGHT_GRAD, KINDS };

UNSANITIZED
static void conv_oracle(struct oracle *o, int kind, const struct cpu_conv *g, const float *x,
                        const float *w, const float *y, const float *bias) {
    int64_t ci = g->c / g->groups, co = g->o / g->groups;
    for (int64_t n = 0; n < g->n; n++)
        for (int64_t oy = 0; oy < g->oh; oy++)
            for (int64_t ox = 0; ox < g->ow; ox++) {
                int64_t yp = ((n * g->oh + oy) * g->ow + ox) * g->o;
                for (int64_t t = 0; t < g->kh * g->kw; t++) {
                    int64_t iy = oy * g->sh - g->ph + t / g->kw * g->dh;
                    int64_t ix = ox * g->sw - g->pw + t % g->kw * g->dw;
                    if (iy < 0 || iy >= g->h || ix < 0 || ix >= g->w)
                        continue;
                    int64_t xp0 = ((n * g->h + iy) * g->w + ix) * g->c;
                    for (int64_t k = 0; k < g->o; k++)
                        for (int64_t c = 0; c < ci; c++) {
                            int64_t wp = (k * g->kh * g->kw + t) * ci + c;
                            int64_t xp = xp0 + k / co * ci;
                            if (kind == INPUT_GRAD)
                                oracle_add(o, xp + c, y[yp + k], w[wp]);
                            else if (kind == WEIGHT_GRAD)
                                oracle_add(o, wp, y[yp + k], x[xp + c]);
                            else
                                oracle_add(o, yp + k, x[xp + c], w[wp]);
                        }
                }
                for (int64_t k = 0; k < g->o && kind == BIASED; k++)
                    oracle_add(o, yp + k, bias[k], 1);
            }
}

static int run_conv(const struct cpu_f32 *f, int kind, float *out, const float *x, const float *w,
                    const float *y, const float *bias, const struct cpu_conv *g, void *scratch) {
    switch (kind) {
    case INPUT_GRAD:
        return f->conv_input_grad(out, y, w, g, scratch);
    case WEIGHT_GRAD:
        return f->conv_weight_grad(out, y, x, g, scratch);
    default:
        return f->conv_forward(out, x, w, kind == BIASED ? bias : NULL, g, scratch);
    }
}

static int64_t conv_scratch(const struct cpu_f32 *f, int kind, const struct cpu_conv *g) {
    return kind == INPUT_GRAD    ? f->conv_input_grad_scratch(g)
           : kind == WEIGHT_GRAD ? f->conv_weight_grad_scratch(g)
                                 : f->conv_forward_scratch(g);
}

static void one_conv(const struct cpu_conv *g) {
    int64_t xn = g->n * g->h * g->w * g->c, yn = g->n * g->oh * g->ow * g->o;
    int64_t wn = g->o * g->kh * g->kw * g->c / g->groups;
    struct buffer x = noise(xn), w = noise(wn), y = noise(yn), bias = noise(g->o);
    for (int kind = 0; kind < KINDS; kind++) {
        int64_t count = kind == INPUT_GRAD ? xn : kind == WEIGHT_GRAD ? wn : yn;
        struct oracle o = oracle_new(count);
        conv_oracle(&o, kind, g, x.data, w.data, y.data, bias.data);
        for (int l = 0; l < level_count; l++) {
            static const char *const names[] = { "forward", "biased", "input grad", "weight grad" };
            char what[300];
            snprintf(what, sizeof what,
                     "%s conv %s n %d h %d w %d c %d o %d k %dx%d s %d,%d p %d,%d d %d,%d g %d",
                     levels[l]->level, names[kind], (int)g->n, (int)g->h, (int)g->w, (int)g->c,
                     (int)g->o, (int)g->kh, (int)g->kw, (int)g->sh, (int)g->sw, (int)g->ph,
                     (int)g->pw, (int)g->dh, (int)g->dw, (int)g->groups);
            struct buffer kept = buffer_new(count * 4);
            for (int workers = 1; workers <= 2; workers++) {
                set_threads(workers);
                int64_t bytes = conv_scratch(levels[l], kind, g);
                assert_true(bytes >= 0);
                struct buffer out = buffer_new(count * 4), s = buffer_new(bytes);
                int code = run_conv(levels[l], kind, out.data, x.data, w.data, y.data, bias.data, g,
                                    s.data);
                assert_int_equal(code, CPU_OK);
                check(&o, out.data, what);
                if (workers == 2 && memcmp(kept.data, out.data, (size_t)count * 4) != 0)
                    fail_msg("%s: two threads give other bits", what);
                memcpy(kept.data, out.data, (size_t)count * 4);
                buffer_free(&out);
                buffer_free(&s);
            }
            buffer_free(&kept);
        }
        oracle_free(&o);
    }
    buffer_free(&x);
    buffer_free(&w);
    buffer_free(&y);
    buffer_free(&bias);
}

static int64_t out_size(int64_t h, int64_t k, int64_t s, int64_t p, int64_t d) {
    int64_t span = h + 2 * p - d * (k - 1) - 1;
    return span < 0 ? 0 : span / s + 1;
}

/* n h w c o kh kw sh sw ph pw dh dw */
static struct cpu_conv conv_case(const int64_t *v) {
    struct cpu_conv g = { .n = v[0],
                          .h = v[1],
                          .w = v[2],
                          .c = v[3],
                          .o = v[4],
                          .kh = v[5],
                          .kw = v[6],
                          .sh = v[7],
                          .sw = v[8],
                          .ph = v[9],
                          .pw = v[10],
                          .dh = v[11],
                          .dw = v[12],
                          .groups = 1 };
    g.oh = out_size(g.h, g.kh, g.sh, g.ph, g.dh);
    g.ow = out_size(g.w, g.kw, g.sw, g.pw, g.dw);
    return g;
}

static void test_conv_fixed(void **unused) {
    (void)unused;
    static const int64_t cases[][13] = {
        { 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 1, 1 },    /* smallest */
        { 0, 8, 8, 4, 5, 3, 3, 1, 1, 1, 1, 1, 1 },    /* no images */
        { 2, 2, 2, 3, 5, 3, 3, 1, 1, 0, 0, 1, 1 },    /* image smaller than the kernel */
        { 2, 2, 3, 9, 5, 3, 3, 1, 1, 1, 1, 1, 1 },    /* the same, padded */
        { 2, 5, 5, 0, 5, 3, 3, 1, 1, 1, 1, 1, 1 },    /* no channels in */
        { 2, 5, 5, 3, 0, 3, 3, 1, 1, 1, 1, 1, 1 },    /* no channels out */
        { 3, 4, 5, 8, 7, 1, 1, 3, 2, 0, 0, 1, 1 },    /* rows that no tap reaches */
        { 1, 9, 9, 8, 16, 3, 3, 1, 1, 4, 4, 1, 1 },   /* padding beyond the kernel */
        { 7, 32, 32, 3, 64, 3, 3, 1, 1, 1, 1, 1, 1 }, /* ResNet, first layer */
        { 5, 16, 16, 64, 64, 3, 3, 1, 1, 1, 1, 1, 1 },
        { 7, 16, 16, 16, 32, 3, 3, 2, 2, 1, 1, 1, 1 },
        { 7, 16, 16, 16, 32, 1, 1, 2, 2, 0, 0, 1, 1 },
        { 14, 8, 8, 32, 32, 3, 3, 1, 1, 1, 1, 1, 1 },
        { 3, 4, 4, 300, 520, 3, 3, 1, 1, 1, 1, 1, 1 },
        { 30, 4, 4, 64, 40, 3, 3, 1, 1, 1, 1, 1, 1 },
        { 2, 30, 17, 3, 20, 11, 11, 4, 4, 2, 2, 1, 1 },
        { 200, 1, 1, 20, 30, 1, 1, 1, 1, 0, 0, 1, 1 },
        { 2, 12, 12, 5, 40, 9, 9, 1, 1, 4, 4, 1, 1 },
        { 1, 190, 190, 3, 4, 3, 3, 1, 1, 1, 1, 1, 1 }, /* parts of an image, copied rows */
        { 1, 190, 190, 8, 4, 3, 2, 1, 1, 1, 1, 1, 1 }, /* and by pairs of pixels */
        { 2, 90, 61, 3, 8, 7, 7, 2, 2, 3, 3, 1, 1 },   /* first layer of large images */
        { 1, 5, 700, 3, 17, 3, 5, 1, 2, 1, 2, 1, 1 },  /* parts of a row */
        { 2, 7, 400, 9, 33, 2, 3, 2, 1, 0, 1, 2, 2 },
        { 2, 9, 11, 20, 3, 3, 3, 1, 1, 1, 1, 1, 1 }, /* few outputs, back to many channels */
        { 3, 12, 9, 40, 5, 4, 3, 1, 1, 5, 0, 2, 1 },
        { 2, 9, 14, 9, 7, 2, 3, 1, 1, 0, 3, 1, 2 },
        { 2, 9, 9, 40, 5, 3, 3, 2, 1, 1, 1, 1, 1 },
        { 2, 17, 19, 24, 40, 1, 3, 3, 2, 1, 0, 1, 2 }, /* windows of one row, of one column */
        { 2, 17, 19, 24, 40, 3, 1, 2, 3, 0, 1, 2, 1 },
        { 3, 20, 20, 70, 330, 3, 3, 2, 2, 1, 1, 1, 1 }, /* a task for some of the outputs */
        { 13, 33, 30, 16, 16, 3, 3, 1, 1, 1, 1, 1, 1 }, /* F(3,4) in pieces */
        { 2, 6, 7, 256, 16, 3, 3, 1, 1, 2, 0, 1, 1 },
        { 1, 15, 14, 48, 80, 3, 3, 1, 1, 0, 1, 1, 1 },
        { 12, 4, 4, 16, 512, 3, 3, 1, 1, 1, 1, 1, 1 },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct cpu_conv g = conv_case(cases[i]);
        one_conv(&g);
    }
}

static void test_conv_random(void **unused) {
    (void)unused;
    for (int t = 0; t < 120; t++) {
        int64_t v[13] = { between(1, 14), between(1, 13), between(1, 13), between(1, 40),
                          between(1, 40), between(1, 4),  between(1, 4),  between(1, 3),
                          between(1, 3),  between(0, 3),  between(0, 3),  between(1, 2),
                          between(1, 2) };
        struct cpu_conv g = conv_case(v);
        one_conv(&g);
    }
}

/* A shape for Winograd: 3x3, channels in sixteens; stride 1, and 2 with the padding that it takes.
 */
static struct cpu_conv winograd_shape(int64_t stride) {
    int64_t v[13] = { between(1, 8),
                      between(3, 18),
                      between(3, 18),
                      16 * between(1, 4),
                      16 * between(1, 4),
                      3,
                      3,
                      stride,
                      stride,
                      stride == 2 ? 1 : between(0, 3),
                      stride == 2 ? 1 : between(0, 3),
                      1,
                      1 };
    return conv_case(v);
}

static void winograd_shapes(void) {
    for (int t = 0; t < 80; t++) {
        struct cpu_conv g = winograd_shape(1 + t % 2);
        one_conv(&g);
    }
}

/* groups, channels of one in and out, then as conv_case: h w kh kw sh sw ph pw dh dw */
static void test_conv_groups(void **unused) {
    (void)unused;
    static const int64_t fixed[][14] = {
        { 64, 1, 1, 2, 16, 17, 3, 3, 1, 1, 1, 1, 1, 1 }, /* depthwise */
        { 40, 1, 1, 3, 33, 32, 3, 3, 2, 2, 1, 1, 1, 1 },
        { 19, 1, 1, 2, 21, 9, 5, 4, 1, 2, 0, 3, 2, 1 },
        { 3, 1, 1, 2, 9, 9, 3, 3, 1, 1, 1, 1, 1, 1 },
        { 24, 1, 3, 2, 9, 8, 3, 3, 1, 1, 1, 1, 1, 1 },
        { 32, 4, 4, 3, 16, 16, 3, 3, 1, 1, 1, 1, 1, 1 },
        { 5, 3, 4, 2, 10, 11, 3, 2, 2, 3, 4, 2, 1, 1 },
        { 4, 8, 12, 2, 12, 12, 3, 3, 2, 1, 1, 1, 1, 2 },
        { 2, 32, 40, 3, 12, 12, 3, 3, 1, 1, 1, 1, 1, 1 },
        { 2, 33, 20, 3, 12, 12, 3, 3, 2, 2, 1, 1, 1, 1 },
        { 2, 64, 64, 2, 9, 9, 1, 1, 1, 1, 0, 0, 1, 1 },
        { 8, 2, 2, 1, 150, 150, 3, 3, 1, 1, 1, 1, 1, 1 },
        { 7, 1, 2, 0, 5, 5, 3, 3, 1, 1, 1, 1, 1, 1 },
        { 7, 0, 2, 2, 5, 5, 3, 3, 1, 1, 1, 1, 1, 1 },
        { 7, 2, 0, 2, 5, 5, 3, 3, 1, 1, 1, 1, 1, 1 },
        { 6, 2, 3, 2, 9, 9, 3, 3, 1, 1, 4, 4, 1, 1 }, /* padding beyond the kernel */
        { 6, 2, 3, 2, 4, 5, 1, 1, 3, 2, 0, 0, 1, 1 }, /* rows that no tap reaches */
    };
    for (int t = 0; t < 17 + 80; t++) {
        int64_t v[14] = { between(2, 9),  between(1, 9),  between(1, 9), between(1, 4),
                          between(1, 13), between(1, 13), between(1, 4), between(1, 4),
                          between(1, 3),  between(1, 3),  between(0, 3), between(0, 3),
                          between(1, 2),  between(1, 2) };
        if (t < 17)
            memcpy(v, fixed[t], sizeof v);
        int64_t sizes[13] = { v[3], v[4], v[5], v[0] * v[1], v[0] * v[2] };
        memcpy(sizes + 5, v + 6, 8 * sizeof *v);
        struct cpu_conv g = conv_case(sizes);
        g.groups = v[0];
        one_conv(&g);
    }
}

static void test_conv_winograd(void **unused) {
    (void)unused;
    winograd_shapes();
}

static void test_conv_direct(void **unused) {
    (void)unused;
    cpu_conv_direct = true;
    winograd_shapes();
    cpu_conv_direct = false;
}

/* A transposed convolution may leave rows at the end that no output of the forward covers. */
static void test_conv_short_output(void **unused) {
    (void)unused;
    int64_t v[13] = { 3, 9, 9, 10, 12, 3, 3, 2, 2, 1, 1, 1, 1 };
    struct cpu_conv g = conv_case(v);
    g.oh--;
    g.ow -= 2;
    one_conv(&g);
    g.groups = 2;
    one_conv(&g);
}

/* ---- Convolutions of bf16 on pairs ---- */
static float widened(uint16_t h) {
    uint32_t bits = (uint32_t)h << 16;
    float f;
    memcpy(&f, &bits, 4);
    return f;
}

static uint16_t rounded(double x) {
    float f = (float)x;
    uint32_t bits;
    memcpy(&bits, &f, 4);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

/* A tensor as drawn, and its bf16, of which `low` are the widened values. */
struct halves {
    struct buffer f, h, low;
};

static struct halves halves_new(int64_t n) {
    struct halves t = { noise(n), buffer_new(n * 2), buffer_new(n * 4) };
    for (int64_t i = 0; i < n; i++) {
        ((uint16_t *)t.h.data)[i] = rounded(((float *)t.f.data)[i]);
        ((float *)t.low.data)[i] = widened(((uint16_t *)t.h.data)[i]);
    }
    return t;
}

static void halves_free(struct halves *t) {
    buffer_free(&t->f);
    buffer_free(&t->h);
    buffer_free(&t->low);
}

/* `exact` is of the rounded inputs, `original` of what they were. Direct: within twice the error of
 * rounding the inputs and one rounding of the output; and as sums run in f32, little more than that
 * rounding from exact. Winograd: within 2.5 times the error of a direct result, which is exact
 * rounded. */
static void check_pairs(const struct oracle *exact, const struct oracle *original,
                        const uint16_t *got, bool winograd, const char *what) {
    double inputs = 0, direct = 0, off = 0, over = 0, largest = 0;
    for (int64_t i = 0; i < exact->n; i++) {
        double y = widened(got[i]), e = exact->exact[i], o = original->exact[i];
        if (isnan(y))
            fail_msg("%s: output %lld is not a number", what, (long long)i);
        inputs = fmax(inputs, fabs(e - o));
        direct = fmax(direct, fabs(widened(rounded(e)) - o));
        off = fmax(off, fabs(y - o));
        over = fmax(over, fabs(y - e) - fabs(e) * 0x1p-8);
        largest = fmax(largest, fabs(e));
    }
    if (winograd ? off > 2.5 * direct : over > fmin(2 * inputs, 1e-5 * largest))
        fail_msg("%s: error %g, direct %g, beyond rounding %g, inputs %g, largest %g", what, off,
                 direct, over, inputs, largest);
}

static void one_half_gemm(struct cpu_gemm *g, bool biased) {
    int64_t an = (g->ta ? g->k : g->m) * g->lda, bn = (g->tb ? g->n : g->k) * g->ldb;
    int64_t cn = (g->m - 1) * g->ldc + g->n, count = g->m * g->n;
    struct halves a = halves_new(an), b = halves_new(bn), bias = halves_new(g->n);
    struct oracle exact = oracle_new(count), original = oracle_new(count);
    gemm_oracle(&exact, g, a.low.data, b.low.data, biased ? bias.low.data : NULL);
    gemm_oracle(&original, g, a.f.data, b.f.data, biased ? bias.f.data : NULL);
    g->bias = biased ? bias.h.data : NULL;
    for (int l = 0; l < level_count; l++) {
        char what[200];
        snprintf(what, sizeof what, "%s bf16 gemm m %d n %d k %d ta %d tb %d bias %d",
                 levels[l]->level, (int)g->m, (int)g->n, (int)g->k, g->ta, g->tb, biased);
        struct buffer got = buffer_new(count * 2), kept = buffer_new(count * 2);
        for (int workers = 1; workers <= 2; workers++) {
            set_threads(workers);
            struct buffer c = buffer_new(cn * 2), s = buffer_new(levels[l]->gemm_scratch(g));
            assert_int_equal(levels[l]->gemm(c.data, a.h.data, b.h.data, g, s.data), CPU_OK);
            const uint16_t *pc = c.data;
            for (int64_t i = 0; i < g->m; i++) {
                memcpy((uint16_t *)got.data + i * g->n, pc + i * g->ldc, (size_t)g->n * 2);
                for (int64_t j = g->n; j < g->ldc && i + 1 < g->m; j++)
                    assert_int_equal(pc[i * g->ldc + j], 0xFFFF);
            }
            check_pairs(&exact, &original, got.data, false, what);
            if (workers == 2)
                assert_memory_equal(kept.data, got.data, (size_t)count * 2);
            memcpy(kept.data, got.data, (size_t)count * 2);
            buffer_free(&c);
            buffer_free(&s);
        }
        buffer_free(&got);
        buffer_free(&kept);
    }
    oracle_free(&exact);
    oracle_free(&original);
    halves_free(&a);
    halves_free(&b);
    halves_free(&bias);
}

/* Sums of one piece of k and of several, few rows and many, odd lengths and strides. */
static void test_gemm_half(void **unused) {
    (void)unused;
    static const int64_t fixed[][3] = {
        { 1, 40, 2500 }, { 97, 35, 1700 }, { 230, 300, 1601 }, { 100, 1100, 33 }, { 7, 1100, 1700 }
    };
    for (int t = 0; t < 4 * 5 + 40; t++) {
        struct cpu_gemm g = { .ta = t & 1, .tb = t & 2, .half = true };
        bool given = t < 20;
        g.m = given ? fixed[t / 4][0] : between(1, 130);
        g.n = given ? fixed[t / 4][1] : between(1, 130);
        g.k = given ? fixed[t / 4][2] : between(1, 600);
        g.lda = (g.ta ? g.m : g.k) + between(0, 3);
        g.ldb = (g.tb ? g.k : g.n) + between(0, 3);
        g.ldc = g.n + between(0, 3);
        one_half_gemm(&g, t & 4);
    }
}

static int64_t pairs_scratch(const struct cpu_f32 *f, int kind, const struct cpu_conv *g) {
    return kind == WEIGHT_GRAD ? f->pairs_weights_scratch(g)
                               : f->pairs_scratch(g, kind == INPUT_GRAD);
}

static void one_pairs_kind(const struct cpu_f32 *f, int kind, const struct cpu_conv *g) {
    int64_t xn = g->n * g->h * g->w * g->c, yn = g->n * g->oh * g->ow * g->o;
    int64_t wn = g->o * g->kh * g->kw * g->c;
    struct halves x = halves_new(xn), w = halves_new(wn), y = halves_new(yn),
                  bias = halves_new(g->o);
    int64_t count = kind == INPUT_GRAD ? xn : kind == WEIGHT_GRAD ? wn : yn;
    struct halves start = halves_new(count);
    struct oracle exact = oracle_new(count), original = oracle_new(count);
    conv_oracle(&exact, kind, g, x.low.data, w.low.data, y.low.data, bias.low.data);
    conv_oracle(&original, kind, g, x.f.data, w.f.data, y.f.data, bias.f.data);
    for (int64_t i = 0; i < count && g->add; i++) {
        oracle_add(&exact, i, ((float *)start.low.data)[i], 1);
        oracle_add(&original, i, ((float *)start.f.data)[i], 1);
    }
    bool winograd = kind == WEIGHT_GRAD ? f->pairs_weights_winograd(g)
                                        : f->pairs_winograd(g, kind == INPUT_GRAD);
    char what[300];
    snprintf(what, sizeof what,
             "pairs kind %d add %d %s n %d h %d w %d c %d o %d k %dx%d s %d,%d p %d,%d d %d,%d",
             kind, g->add, winograd ? "winograd" : "direct", (int)g->n, (int)g->h, (int)g->w,
             (int)g->c, (int)g->o, (int)g->kh, (int)g->kw, (int)g->sh, (int)g->sw, (int)g->ph,
             (int)g->pw, (int)g->dh, (int)g->dw);
    struct buffer kept = buffer_new(count * 2);
    for (int workers = 1; workers <= 2; workers++) {
        set_threads(workers);
        struct buffer out = buffer_new(count * 2), s = buffer_new(pairs_scratch(f, kind, g));
        if (g->add)
            memcpy(out.data, start.h.data, (size_t)count * 2);
        int code = kind == WEIGHT_GRAD ? f->pairs_weights(out.data, y.h.data, x.h.data, g, s.data)
                   : kind == INPUT_GRAD
                       ? f->pairs(out.data, y.h.data, w.h.data, NULL, g, true, s.data)
                       : f->pairs(out.data, x.h.data, w.h.data, kind == BIASED ? bias.h.data : NULL,
                                  g, false, s.data);
        assert_int_equal(code, CPU_OK);
        check_pairs(&exact, &original, out.data, winograd, what);
        if (workers == 2 && memcmp(kept.data, out.data, (size_t)count * 2) != 0)
            fail_msg("%s: two threads give other bits", what);
        memcpy(kept.data, out.data, (size_t)count * 2);
        buffer_free(&out);
        buffer_free(&s);
    }
    buffer_free(&kept);
    oracle_free(&exact);
    oracle_free(&original);
    halves_free(&x);
    halves_free(&w);
    halves_free(&y);
    halves_free(&bias);
    halves_free(&start);
}

/* The level with pairs, or skips. */
static const struct cpu_f32 *with_pairs(void) {
    const struct cpu_f32 *f = level_count ? levels[level_count - 1] : NULL;
    if (!f || !f->pairs)
        skip();
    return f;
}

/* All kinds that the kernels take, and into what is there. */
static int one_pairs(const struct cpu_f32 *f, struct cpu_conv g) {
    int taken = 0;
    for (int kind = 0; kind < KINDS; kind++)
        for (int add = 0; add <= (kind == FORWARD || kind == INPUT_GRAD); add++) {
            g.add = add;
            if (pairs_scratch(f, kind, &g) < 0)
                continue;
            one_pairs_kind(f, kind, &g);
            taken++;
        }
    return taken;
}

static void test_pairs_fixed(void **unused) {
    (void)unused;
    const struct cpu_f32 *f = with_pairs();
    static const int64_t cases[][13] = {
        { 1, 1, 1, 8, 8, 1, 1, 1, 1, 0, 0, 1, 1 },
        { 2, 2, 2, 10, 12, 3, 3, 1, 1, 1, 1, 1, 1 },
        { 3, 4, 5, 8, 12, 1, 1, 3, 2, 0, 0, 1, 1 }, /* rows that no tap reaches */
        { 1, 9, 9, 8, 16, 3, 3, 1, 1, 4, 4, 1, 1 }, /* padding beyond the kernel */
        { 5, 16, 16, 64, 64, 3, 3, 1, 1, 1, 1, 1, 1 },
        { 7, 16, 16, 16, 32, 3, 3, 2, 2, 1, 1, 1, 1 },
        { 7, 16, 16, 16, 32, 1, 1, 2, 2, 0, 0, 1, 1 },
        { 3, 4, 4, 300, 520, 3, 3, 1, 1, 1, 1, 1, 1 },
        { 3, 4, 4, 900, 34, 3, 3, 1, 1, 1, 1, 1, 1 }, /* a tap in two pieces */
        { 30, 4, 4, 64, 40, 3, 3, 1, 1, 1, 1, 1, 1 },
        { 200, 1, 1, 20, 30, 1, 1, 1, 1, 0, 0, 1, 1 },
        { 1, 190, 190, 8, 10, 3, 2, 1, 1, 1, 1, 1, 1 }, /* dw: parts of an image */
        { 80, 30, 29, 9, 10, 2, 2, 1, 1, 1, 1, 1, 1 },  /* dw: chunks of whole images */
        { 13, 65, 62, 16, 16, 3, 3, 1, 1, 1, 1, 1, 1 }, /* F(3,2) in pieces, an odd tile */
        { 2, 6, 7, 256, 16, 3, 3, 1, 1, 2, 0, 1, 1 },
        { 1, 15, 13, 48, 80, 3, 3, 1, 1, 0, 1, 1, 1 },
        { 12, 4, 4, 16, 512, 3, 3, 1, 1, 1, 1, 1, 1 },
        { 0, 8, 8, 8, 8, 3, 3, 1, 1, 1, 1, 1, 1 },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_true(one_pairs(f, conv_case(cases[i])) >= 3);
}

static void test_pairs_random(void **unused) {
    (void)unused;
    const struct cpu_f32 *f = with_pairs();
    for (int t = 0; t < 100; t++) {
        int64_t v[13] = { between(1, 14),     between(1, 13), between(1, 13), 2 * between(4, 20),
                          2 * between(4, 20), between(1, 4),  between(1, 4),  between(1, 3),
                          between(1, 3),      between(0, 3),  between(0, 3),  between(1, 2),
                          between(1, 2) };
        one_pairs(f, conv_case(v));
    }
}

static void pairs_of_threes(void) {
    const struct cpu_f32 *f = with_pairs();
    for (int t = 0; t < 40; t++)
        one_pairs(f, winograd_shape(1 + t % 2));
}

static void test_pairs_winograd(void **unused) {
    (void)unused;
    pairs_of_threes();
}

static void test_pairs_direct(void **unused) {
    (void)unused;
    cpu_conv_direct = true;
    pairs_of_threes();
    cpu_conv_direct = false;
}

static void interrupted_pairs(const struct cpu_f32 *f, int kind) {
    static const int64_t v[13] = { 3, 9, 9, 16, 16, 3, 3, 1, 1, 1, 1, 1, 1 };
    struct cpu_conv g = conv_case(v);
    struct halves t = halves_new(3 * 9 * 9 * 16), out = halves_new(3 * 9 * 9 * 16);
    const uint16_t *h = t.h.data;
    for (int direct = 0; direct < 2; direct++) {
        cpu_conv_direct = direct;
        struct buffer s = buffer_new(pairs_scratch(f, kind, &g));
        interrupt_flag = 1;
        int code = kind == WEIGHT_GRAD
                       ? f->pairs_weights(out.h.data, h, h, &g, s.data)
                       : f->pairs(out.h.data, h, h, NULL, &g, kind == INPUT_GRAD, s.data);
        interrupt_flag = 0;
        assert_int_equal(code, CPU_INTERRUPTED);
        buffer_free(&s);
    }
    cpu_conv_direct = false;
    halves_free(&t);
    halves_free(&out);
}

static void test_answers(void **unused) {
    (void)unused;
    int64_t v[13] = { 3, 9, 9, 10, 12, 3, 3, 2, 2, 1, 1, 1, 1 };
    struct cpu_conv g = conv_case(v);
    struct cpu_gemm m = { 200, 200, 200, 200, 200, 200, false, false, false };
    float *big = calloc(200 * 200, 4);
    assert_non_null(big);
    for (int l = 0; l < level_count; l++)
        for (int kind = 0; kind < KINDS; kind++) {
            struct buffer x = noise(3 * 9 * 9 * 12),
                          s = buffer_new(conv_scratch(levels[l], kind, &g));
            struct buffer t = buffer_new(levels[l]->gemm_scratch(&m)), out = noise(3 * 9 * 9 * 12);
            interrupt_flag = 1;
            assert_int_equal(
                run_conv(levels[l], kind, out.data, x.data, x.data, x.data, x.data, &g, s.data),
                CPU_INTERRUPTED);
            assert_int_equal(levels[l]->gemm(big, big, big, &m, t.data), CPU_INTERRUPTED);
            interrupt_flag = 0;
            if (levels[l]->pairs)
                interrupted_pairs(levels[l], kind);
            buffer_free(&x);
            buffer_free(&out);
            buffer_free(&s);
            buffer_free(&t);
        }
    free(big);
}

int main(void) {
    find_levels();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gemm),           cmocka_unit_test(test_gemm_half),
        cmocka_unit_test(test_conv_fixed),     cmocka_unit_test(test_conv_random),
        cmocka_unit_test(test_conv_winograd),  cmocka_unit_test(test_conv_groups),
        cmocka_unit_test(test_conv_direct),    cmocka_unit_test(test_conv_short_output),
        cmocka_unit_test(test_pairs_fixed),    cmocka_unit_test(test_pairs_random),
        cmocka_unit_test(test_pairs_winograd), cmocka_unit_test(test_pairs_direct),
        cmocka_unit_test(test_answers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
