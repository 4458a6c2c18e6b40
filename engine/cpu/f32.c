/* The table of one level. */
#include "cpu/f32.h"
#include "cpu/pairs.h"

#define TEXT2(x) #x
#define TEXT(x) TEXT2(x)

const struct cpu_f32 K(cpu_f32) = {
    .level = TEXT(VESTIGE_LEVEL),
    .emulated = EMULATED,
    .gemm_scratch = K(cpu_gemm_scratch),
    .gemm = K(cpu_gemm),
    .conv_forward_scratch = K(cpu_conv_forward_scratch),
    .conv_forward = K(cpu_conv_forward),
    .conv_input_grad_scratch = K(cpu_conv_input_grad_scratch),
    .conv_input_grad = K(cpu_conv_input_grad),
    .conv_weight_grad_scratch = K(cpu_conv_weight_grad_scratch),
    .conv_weight_grad = K(cpu_conv_weight_grad),
#if PAIRS
    .pairs_scratch = K(cpu_pairs_scratch),
    .pairs = K(cpu_pairs),
    .pairs_winograd = K(cpu_pairs_winograd),
    .pairs_weights_scratch = K(cpu_pairs_weights_scratch),
    .pairs_weights = K(cpu_pairs_weights),
    .pairs_weights_winograd = K(cpu_pairs_weights_winograd),
#endif
};
