/* 3x3 convolutions of stride 1 by F(2x2,3x3) in bf16: forward and input gradient (which is the
 * forward with the weights flipped and turned round). See winograd_pairs.h for the transforms. The
 * channels of V are pairs as they lie in the image.
 */
#include "cpu/winograd_pairs.h"

#define TILES 48
#define KC 4096 /* pairs summed in registers: all */

#if PAIRS
#include "cpu/winograd_run.h"

/* Where it pays; the row of a convolution is the first whose channels hold max(c, o). Prototypes
 * took 0.63 (64 channels of 32x32) to 0.45 (512 of 4x4) of the direct kernel's time on one thread
 * of a Zen 5, 0.68 to 0.54 at a quarter of the channels, and weight gradients 0.54 to 0.64. The
 * least tiles are as many pixels as in winograd.c.
 * Beside it the worst error over the largest output, and in brackets that of rounding inputs and
 * output alone, for forward, input gradient, weight gradient, of the layers of winograd.c's table.
 */
static const struct wino_pays table[] = {
    { 16, { 16, 16, 16 } },  /* 7.0e-3 (3.1e-3)  5.4e-3 (4.4e-3)  5.0e-3 (3.5e-3) */
    { 32, { 16, 16, 16 } },  /* 5.1e-3 (3.1e-3)  4.0e-3 (2.7e-3)  4.8e-3 (2.8e-3) */
    { 64, { 16, 16, 16 } },  /* 5.3e-3 (3.4e-3)  7.1e-3 (3.5e-3)  5.2e-3 (3.2e-3) */
    { 128, { 16, 16, 16 } }, /* 5.7e-3 (3.7e-3)  4.4e-3 (3.1e-3)  5.3e-3 (3.0e-3) */
    { 256, { 24, 24, 24 } }, /* 5.4e-3 (4.6e-3)  5.0e-3 (3.2e-3)  4.6e-3 (3.1e-3) */
    { 512, { 48, 48, 48 } }, /* 4.1e-3 (3.3e-3)  5.6e-3 (4.2e-3)  4.4e-3 (3.2e-3) */
};

static bool takes(const struct cpu_conv *g, enum wino_job job) {
    return wino_pays(g, job, table, sizeof table / sizeof *table);
}

bool K(cpu_winograd_pairs_takes)(const struct cpu_conv *g, bool back) {
    return takes(g, back ? WINO_INPUT_GRAD : WINO_FORWARD);
}

bool K(cpu_winograd_pairs_weights_takes)(const struct cpu_conv *g) {
    return takes(g, WINO_WEIGHT_GRAD);
}

int64_t K(cpu_winograd_pairs_form)(const struct cpu_conv *g, bool back) {
    return K(cpu_winograd_pairs_takes)(g, back) ? wino_form(g, back) : 0;
}

int64_t K(cpu_winograd_pairs_scratch)(const struct cpu_conv *g, bool back) {
    return wino_scratch(g, back);
}

int K(cpu_winograd_pairs)(uint16_t *y, const uint16_t *x, const uint16_t *w, const uint16_t *bias,
                          const struct cpu_conv *g, bool back, void *scratch) {
    return wino_run(y, x, w, bias, g, back, scratch);
}
#endif
