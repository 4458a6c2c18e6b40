/* 3x3 convolutions of stride 2 in bf16 by Winograd's way: forward and input gradient. See
 * winograd_pairs_strided.h for the transforms.
 */
#include "cpu/winograd_pairs_strided.h"

#define TILES 48
#define KC 4096 /* pairs summed in registers: all */

#if PAIRS
#include "cpu/winograd_run.h"

/* Where it pays; the row of a convolution is the first whose channels hold max(c, o). One thread of
 * a Zen 4 took 0.73 to 0.96 of the direct kernel's time, 0.5 for the input gradient of 16 channels.
 * Beside it the worst error over the largest output, and in brackets that of rounding inputs and
 * output alone, for forward, input gradient, weight gradient, of the layers of winograd_strided.c's
 * table. */
static const struct wino_pays table[] = {
    { 32, { 16, 16, WINO_NEVER } }, /* 4.7e-3 (2.8e-3)  6.7e-3 (4.0e-3)  5.4e-3 (3.3e-3) */
    { 64, { 16, 16, 16 } },         /* 4.4e-3 (3.3e-3)  6.2e-3 (3.9e-3)  6.3e-3 (3.5e-3) */
    { 128, { 16, 16, 16 } },        /* 4.7e-3 (3.2e-3)  5.4e-3 (4.4e-3)  5.0e-3 (3.7e-3) */
    { 256, { 24, 24, 24 } },        /* 5.1e-3 (3.5e-3)  4.0e-3 (2.6e-3)  4.1e-3 (2.4e-3) */
    { 512, { 48, 48, 48 } },        /* 4.9e-3 (3.0e-3)  5.2e-3 (3.8e-3)  5.0e-3 (3.2e-3) */
};

static bool takes(const struct cpu_conv *g, enum wino_job job) {
    return g->ph == 1 && g->pw == 1 && wino_pays(g, job, table, sizeof table / sizeof *table);
}

bool K(cpu_strided_pairs_takes)(const struct cpu_conv *g, bool back) {
    return takes(g, back ? WINO_INPUT_GRAD : WINO_FORWARD);
}

bool K(cpu_strided_pairs_weights_takes)(const struct cpu_conv *g) {
    return takes(g, WINO_WEIGHT_GRAD);
}

int64_t K(cpu_strided_pairs_form)(const struct cpu_conv *g, bool back) {
    return K(cpu_strided_pairs_takes)(g, back) ? wino_form(g, back) : 0;
}

int64_t K(cpu_strided_pairs_scratch)(const struct cpu_conv *g, bool back) {
    return wino_scratch(g, back);
}

int K(cpu_strided_pairs)(uint16_t *y, const uint16_t *x, const uint16_t *w, const uint16_t *bias,
                         const struct cpu_conv *g, bool back, void *scratch) {
    return wino_run(y, x, w, bias, g, back, scratch);
}
#endif
