/* Weight gradient of a 3x3 convolution of stride 1 by F(3x3,2x2) in bf16: every tile of 2x2 output
 * gradients and its 4x4 inputs give 16 products a channel pair instead of 36. */
#include "cpu/f32.h"
#include "cpu/winograd_pairs.h"

#if PAIRS
#define BLOCK 96
#include "cpu/winograd_sums.h"

int64_t K(cpu_winograd_pairs_weights_scratch)(const struct cpu_conv *g) {
    struct wino p;
    return layout(&p, g, NULL);
}

int K(cpu_winograd_pairs_weights)(uint16_t *dw, const uint16_t *dy, const uint16_t *x,
                                  const struct cpu_conv *g, void *scratch) {
    return wino_weights_run(dw, dy, x, g, scratch);
}
#endif
