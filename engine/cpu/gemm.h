/* Matrix product in f32, or in bf16 with sums in f32, row-major. See f32.h for the tables by level.
 */
#ifndef VESTIGE_CPU_GEMM_H
#define VESTIGE_CPU_GEMM_H

#include <stdbool.h>
#include <stdint.h>

enum { CPU_OK = 0, CPU_INTERRUPTED = 1, CPU_UNPROFITABLE = 2 };

/* c (m,n) = op(a) (m,k) op(b) (k,n) + bias, added to c where add is set; c is not read otherwise.
 * ta: a lies as (k,m), row stride lda; tb: b lies as (n,k), row stride ldb. Strides count elements.
 * Any of m, n, k may be 0 (k = 0 gives zeros). The operands must not overlap c. */
struct cpu_gemm {
    int64_t m, n, k;
    int64_t lda, ldb, ldc;
    bool ta, tb, add;
    bool half;        /* all hold bf16; not with add */
    const void *bias; /* (n), or null; not with add */
};

#endif
