/* Weight gradient of a 3x3 convolution of stride 1 by F(3x3,4x4): every tile of 4x4 output
 * gradients and its 6x6 inputs give 36 products a channel pair instead of 144. */
#include "cpu/f32.h"
#include "cpu/winograd.h"

#define BLOCK 96
#include "cpu/winograd_sums.h"

int64_t K(cpu_winograd_weights_scratch)(const struct cpu_conv *g) {
    struct wino p;
    return layout(&p, g, NULL);
}

int K(cpu_winograd_weights)(float *dw, const float *dy, const float *x, const struct cpu_conv *g,
                            void *scratch) {
    return wino_weights_run(dw, dy, x, g, scratch);
}
