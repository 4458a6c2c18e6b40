/* Weight gradient of a 3x3 convolution of stride 2: the forward's algorithm turned round, so that a
 * tile of 4x4 output gradients and its 9x9 inputs give 81 products a channel pair instead of 144.
 */
#include "cpu/f32.h"
#include "cpu/winograd_strided.h"

#define BLOCK 32
#include "cpu/winograd_sums.h"

int64_t K(cpu_strided_weights_scratch)(const struct cpu_conv *g) {
    struct wino p;
    return layout(&p, g, NULL);
}

int K(cpu_strided_weights)(float *dw, const float *dy, const float *x, const struct cpu_conv *g,
                           void *scratch) {
    return wino_weights_run(dw, dy, x, g, scratch);
}
