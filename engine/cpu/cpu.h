/* cpu.h: the CPU backend's kernel tables. */
#ifndef VESTIGE_CPU_H
#define VESTIGE_CPU_H

#include "ops/row.h"

/* Hands the kernels that fit this processor, VESTIGE_ISA and VESTIGE_CONV to add(). */
int cpu_register(int (*add)(const kernel_row *rows, int device, const char *level));
/* "v2", "v3", "v4", "v4bf16", or "ref" when only plain loops run. */
const char *cpu_level(void);
/* How convolutions are computed where it pays: "winograd", or "direct" when VESTIGE_CONV says so or
 * only plain loops run. */
const char *cpu_conv(void);

#endif
