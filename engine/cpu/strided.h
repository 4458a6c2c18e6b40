/* Convolutions of stride 2 by Winograd's way: see winograd_strided.c. */
#ifndef VESTIGE_CPU_STRIDED_H
#define VESTIGE_CPU_STRIDED_H

#include "cpu/conv.h"
#include "cpu/isa.h"

/* Whether this convolution is done so: forward, or its input gradient (back). */
bool K(cpu_strided_takes)(const struct cpu_conv *g, bool back);
/* Bytes of the transformed weights, or 0 where it is not. */
int64_t K(cpu_strided_form)(const struct cpu_conv *g, bool back);
int64_t K(cpu_strided_scratch)(const struct cpu_conv *g, bool back);
int K(cpu_strided)(float *y, const float *x, const float *w, const float *bias,
                   const struct cpu_conv *g, bool back, void *scratch);

#endif
