/* Convolution of images of few channels: see conv_few.c. */
#ifndef VESTIGE_CPU_FEW_H
#define VESTIGE_CPU_FEW_H

#include "cpu/conv.h"
#include "cpu/isa.h"

/* back: the input gradient, of few outputs. */
bool K(cpu_few_takes)(const struct cpu_conv *g, bool back);
int64_t K(cpu_few_scratch)(const struct cpu_conv *g, bool back);
int K(cpu_few)(float *y, const float *x, const float *w, const float *bias,
               const struct cpu_conv *g, bool back, void *scratch);

#if PAIRS
/* Forward in bf16. */
bool K(cpu_few_pairs_takes)(const struct cpu_conv *g, bool back);
int64_t K(cpu_few_pairs_scratch)(const struct cpu_conv *g);
int K(cpu_few_pairs)(uint16_t *y, const uint16_t *x, const uint16_t *w, const uint16_t *bias,
                     const struct cpu_conv *g, void *scratch);
/* Weight gradient in bf16: see conv_weights.c. */
bool K(cpu_few_pairs_weights_takes)(const struct cpu_conv *g);
int64_t K(cpu_few_pairs_weights_scratch)(const struct cpu_conv *g);
int K(cpu_few_pairs_weights)(uint16_t *dw, const uint16_t *dy, const uint16_t *x,
                             const struct cpu_conv *g, void *scratch);
#endif

#endif
