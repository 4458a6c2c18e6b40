/* Input gradient for images of few channels: see conv_narrow.c. */
#ifndef VESTIGE_CPU_NARROW_H
#define VESTIGE_CPU_NARROW_H

#include "cpu/conv.h"
#include "cpu/isa.h"

bool K(cpu_narrow_takes)(const struct cpu_conv *g);
int64_t K(cpu_narrow_scratch)(const struct cpu_conv *g);
int K(cpu_narrow)(float *dx, const float *dy, const float *w, const struct cpu_conv *g,
                  void *scratch);

#if PAIRS
bool K(cpu_narrow_pairs_takes)(const struct cpu_conv *g);
int64_t K(cpu_narrow_pairs_scratch)(const struct cpu_conv *g);
int K(cpu_narrow_pairs)(uint16_t *dx, const uint16_t *dy, const uint16_t *w, const uint16_t *bias,
                        const struct cpu_conv *g, void *scratch);
#endif

#endif
