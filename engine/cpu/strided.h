/* Convolutions of stride 2 by Winograd's way, in f32 and on pairs of bf16. Whether one is done so,
 * the bytes of its transformed weights (0 where it is not), its scratch, and the thing itself:
 * forward, its input gradient (back), or its weight gradient. */
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

#if PAIRS
bool K(cpu_strided_pairs_takes)(const struct cpu_conv *g, bool back);
int64_t K(cpu_strided_pairs_form)(const struct cpu_conv *g, bool back);
int64_t K(cpu_strided_pairs_scratch)(const struct cpu_conv *g, bool back);
int K(cpu_strided_pairs)(uint16_t *y, const uint16_t *x, const uint16_t *w, const uint16_t *bias,
                         const struct cpu_conv *g, bool back, void *scratch);
bool K(cpu_strided_pairs_weights_takes)(const struct cpu_conv *g);
int64_t K(cpu_strided_pairs_weights_scratch)(const struct cpu_conv *g);
int K(cpu_strided_pairs_weights)(uint16_t *dw, const uint16_t *dy, const uint16_t *x,
                                 const struct cpu_conv *g, void *scratch);
#endif

#endif
