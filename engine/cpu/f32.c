/* The table of f32 kernels of one level. */
#include "cpu/f32.h"

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
};
