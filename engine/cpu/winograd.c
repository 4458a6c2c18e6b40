/* 3x3 convolutions of stride 1 by F(4x4,3x3): forward and input gradient (which is the forward with
 * the weights flipped and turned round). See winograd.h for the transforms.
 */
#include "cpu/winograd.h"

#define TILES 48
#define KC 128 /* channels summed in registers: longer sums are 2 % faster and round more */

#include "cpu/winograd_run.h"

/* Where it pays. The transformed weights are four times the weights, so wide layers need more tiles
 * to be worth it; the sums of weight gradients run over tiles, and few of them round as a transform
 * does. The row of a convolution is the first whose channels hold max(c, o).
 * Beside it the worst error over the largest output, and the same of a plain f32 loop in brackets,
 * for forward, input gradient, weight gradient, at batch 128 and 32x32 for 16 and 64 channels, half
 * the size at twice the channels (normal data; tests/bench/kernels.c errors repeats them). */
static const struct wino_pays table[] = {
    { 16, { 4, 4, 8 } },     /* 7.2e-7 (3.4e-7)  6.2e-7 (6.3e-7)  1.2e-6 (1.0e-5) */
    { 32, { 4, 4, 8 } },     /* 1.1e-6 (8.8e-7)  8.5e-7 (5.5e-7)  1.2e-6 (4.3e-6) */
    { 64, { 4, 4, 8 } },     /* 1.2e-6 (7.8e-7)  1.5e-6 (1.1e-6)  1.3e-6 (9.4e-6) */
    { 128, { 4, 4, 8 } },    /* 1.8e-6 (1.2e-6)  1.6e-6 (1.0e-6)  1.2e-6 (4.9e-6) */
    { 256, { 6, 6, 8 } },    /* 2.0e-6 (1.5e-6)  1.5e-6 (1.4e-6)  1.7e-6 (2.0e-6) */
    { 512, { 12, 12, 12 } }, /* 1.2e-6 (1.5e-6)  1.8e-6 (1.9e-6)  1.7e-6 (1.1e-6) */
};

static bool takes(const struct cpu_conv *g, enum wino_job job) {
    return wino_pays(g, job, table, sizeof table / sizeof *table);
}

bool K(cpu_winograd_takes)(const struct cpu_conv *g, bool back) {
    return takes(g, back ? WINO_INPUT_GRAD : WINO_FORWARD);
}

bool K(cpu_winograd_weights_takes)(const struct cpu_conv *g) {
    return takes(g, WINO_WEIGHT_GRAD);
}

int64_t K(cpu_winograd_form)(const struct cpu_conv *g, bool back) {
    return K(cpu_winograd_takes)(g, back) ? wino_form(g, back) : 0;
}

int64_t K(cpu_winograd_scratch)(const struct cpu_conv *g, bool back) {
    return wino_scratch(g, back);
}

int K(cpu_winograd)(float *y, const float *x, const float *w, const float *bias,
                    const struct cpu_conv *g, bool back, void *scratch) {
    return wino_run(y, x, w, bias, g, back, scratch);
}
