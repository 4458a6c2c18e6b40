/* Convolution in groups and its two gradients, with the arguments and answers of f32.h; back: the
 * input gradient. Scratch below 0: unprofitable. */
#ifndef VESTIGE_CPU_CONV_GROUP_H
#define VESTIGE_CPU_CONV_GROUP_H

#include "cpu/conv.h"
#include "cpu/isa.h"

int64_t K(cpu_group_scratch)(const struct cpu_conv *g, bool back);
int K(cpu_group)(float *y, const float *x, const float *w, const float *bias,
                 const struct cpu_conv *g, bool back, void *scratch);
int64_t K(cpu_group_weights_scratch)(const struct cpu_conv *g);
int K(cpu_group_weights)(float *dw, const float *dy, const float *x, const struct cpu_conv *g,
                         void *scratch);

/* The same for groups of few channels: conv_strip.c. */
int64_t K(cpu_strip_scratch)(const struct cpu_conv *g, bool back);
int K(cpu_strip)(float *y, const float *x, const float *w, const float *bias,
                 const struct cpu_conv *g, bool back, void *scratch);
int64_t K(cpu_strip_weights_scratch)(const struct cpu_conv *g);
int K(cpu_strip_weights)(float *dw, const float *dy, const float *x, const struct cpu_conv *g,
                         void *scratch);

#endif
