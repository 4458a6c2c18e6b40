/* Input gradient for images of few channels: see conv_narrow.c. */
#ifndef VESTIGE_CPU_NARROW_H
#define VESTIGE_CPU_NARROW_H

#include "cpu/conv.h"
#include "cpu/isa.h"

bool K(cpu_narrow_takes)(const struct cpu_conv *g);
int64_t K(cpu_narrow_scratch)(const struct cpu_conv *g);
int K(cpu_narrow)(float *dx, const float *dy, const float *w, const struct cpu_conv *g,
                  void *scratch);

#endif
