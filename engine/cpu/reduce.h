/* reduce.h: the f32 sum that other kernels share. */
#ifndef VESTIGE_CPU_REDUCE_H
#define VESTIGE_CPU_REDUCE_H

#include "cpu/isa.h"

/* y (outer, inner) = scale times the sums over n of x (outer, n, inner); n is not 0. The same bits
 * with any number of threads. */
int K(cpu_sum)(float *y, const float *x, int64_t outer, int64_t n, int64_t inner, double scale);

#endif
