/* Convolutions of stride 2 by Winograd's way: see winograd_strided.c. Whether one is done so, the
 * bytes of its transformed weights (0 where it is not), its scratch, and the thing itself: forward,
 * its input gradient (back), or its weight gradient. */
#ifndef VESTIGE_CPU_STRIDED_H
#define VESTIGE_CPU_STRIDED_H

#include "cpu/conv.h"
#include "cpu/isa.h"

bool K(cpu_strided_takes)(const struct cpu_conv *g, bool back);
int64_t K(cpu_strided_form)(const struct cpu_conv *g, bool back);
int64_t K(cpu_strided_scratch)(const struct cpu_conv *g, bool back);
int K(cpu_strided)(float *y, const float *x, const float *w, const float *bias,
                   const struct cpu_conv *g, bool back, void *scratch);

bool K(cpu_strided_weights_takes)(const struct cpu_conv *g);
int64_t K(cpu_strided_weights_scratch)(const struct cpu_conv *g);
int K(cpu_strided_weights)(float *dw, const float *dy, const float *x, const struct cpu_conv *g,
                           void *scratch);

#endif
