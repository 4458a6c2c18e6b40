/* 3x3 convolutions of stride 2 by Winograd's way: forward and input gradient. A tile reads 9x9
 * pixels of the image for 4x4 outputs, or 5x5 of the output gradient for 8x8. See
 * winograd_strided.h for the transforms.
 */
#include "cpu/winograd_strided.h"

#define TILES 24
#define KC 128 /* as in winograd.c */

#include "cpu/winograd_run.h"

/* Where it pays; the row of a convolution is the first whose channels hold max(c, o). Of 32 the
 * transforms take what the products win, but for the input gradient, whose direct tiles lie apart.
 * Beside it the worst error over the largest output, and the same of a plain f32 loop in brackets,
 * for forward, input gradient, weight gradient of half as many channels in as out, at batch 32 and
 * the sizes of ResNet-18 (tests/bench/kernels.c errors). */
static const struct wino_pays table[] = {
    { 32, { WINO_NEVER, 8, WINO_NEVER } }, /* 3.8e-7 (3.8e-7)  7.4e-7 (2.8e-7)  2.7e-7 (3.0e-6) */
    { 64, { 8, 8, 8 } },                   /* 5.0e-7 (4.5e-7)  1.1e-6 (4.1e-7)  1.3e-6 (1.2e-6) */
    { 128, { 8, 8, 8 } },                  /* 1.0e-6 (7.5e-7)  1.6e-6 (7.1e-7)  6.1e-7 (2.1e-6) */
    { 256, { 12, 12, 12 } },               /* 1.1e-6 (1.0e-6)  1.5e-6 (5.8e-7)  1.0e-6 (1.1e-6) */
    { 512, { 24, 24, 24 } },               /* 1.1e-6 (1.6e-6)  2.0e-6 (1.7e-6)  6.0e-7 (7.6e-7) */
};

/* Padding is 1: the input gradient's tiles begin where it does. */
static bool takes(const struct cpu_conv *g, enum wino_job job) {
    return g->ph == 1 && g->pw == 1 && wino_pays(g, job, table, sizeof table / sizeof *table);
}

bool K(cpu_strided_takes)(const struct cpu_conv *g, bool back) {
    return takes(g, back ? WINO_INPUT_GRAD : WINO_FORWARD);
}

bool K(cpu_strided_weights_takes)(const struct cpu_conv *g) {
    return takes(g, WINO_WEIGHT_GRAD);
}

int64_t K(cpu_strided_form)(const struct cpu_conv *g, bool back) {
    return K(cpu_strided_takes)(g, back) ? wino_form(g, back) : 0;
}

int64_t K(cpu_strided_scratch)(const struct cpu_conv *g, bool back) {
    return wino_scratch(g, back);
}

int K(cpu_strided)(float *y, const float *x, const float *w, const float *bias,
                   const struct cpu_conv *g, bool back, void *scratch) {
    return wino_run(y, x, w, bias, g, back, scratch);
}
