/* The fast f32 kernels, and the convolutions of bf16 on pairs, one table a level. All kernels:
 * - take a scratch buffer of at least the size that the query beside them gives for the same
 *   arguments and the same number of threads (any alignment, any contents; null when it is 0);
 * - write every output element and read none before (cpu_gemm with add reads c);
 * - give the same bits whatever the number of threads;
 * - return CPU_OK, CPU_INTERRUPTED (the outputs are then undefined), or CPU_UNPROFITABLE (nothing
 *   was written: the caller takes the plain loop; known beforehand by a query below zero). */
#ifndef VESTIGE_CPU_F32_H
#define VESTIGE_CPU_F32_H

#include "cpu/conv.h"
#include "cpu/gemm.h"
#include "cpu/isa.h"

struct cpu_f32 {
    const char *level;
    bool emulated; /* for the tests: runs on any processor of level v3 */
    int64_t (*gemm_scratch)(const struct cpu_gemm *);
    int (*gemm)(void *c, const void *a, const void *b, const struct cpu_gemm *, void *scratch);
    /* y (n,oh,ow,o) from x (n,h,w,c), w (o,kh,kw,c), bias (o) or null. */
    int64_t (*conv_forward_scratch)(const struct cpu_conv *);
    int (*conv_forward)(float *y, const float *x, const float *w, const float *bias,
                        const struct cpu_conv *, void *scratch);
    /* dx (n,h,w,c) from dy (n,oh,ow,o), w (o,kh,kw,c). */
    int64_t (*conv_input_grad_scratch)(const struct cpu_conv *);
    int (*conv_input_grad)(float *dx, const float *dy, const float *w, const struct cpu_conv *,
                           void *scratch);
    /* dw (o,kh,kw,c) from dy (n,oh,ow,o), x (n,h,w,c). */
    int64_t (*conv_weight_grad_scratch)(const struct cpu_conv *);
    int (*conv_weight_grad)(float *dw, const float *dy, const float *x, const struct cpu_conv *,
                            void *scratch);
    /* The same in bf16, forward or (back) input gradient, and weight gradient: null where the
     * processor does not multiply pairs of bf16. See pairs.h. */
    int64_t (*pairs_scratch)(const struct cpu_conv *, bool back);
    int (*pairs)(uint16_t *y, const uint16_t *x, const uint16_t *w, const uint16_t *bias,
                 const struct cpu_conv *, bool back, void *scratch);
    bool (*pairs_winograd)(const struct cpu_conv *, bool back);
    int64_t (*pairs_weights_scratch)(const struct cpu_conv *);
    int (*pairs_weights)(uint16_t *dw, const uint16_t *dy, const uint16_t *x,
                         const struct cpu_conv *, void *scratch);
    bool (*pairs_weights_winograd)(const struct cpu_conv *);
};

extern const struct cpu_f32 cpu_f32_v2, cpu_f32_v3, cpu_f32_v4, cpu_f32_v4bf16;

#ifdef VESTIGE_LEVEL
int64_t K(cpu_gemm_scratch)(const struct cpu_gemm *);
int K(cpu_gemm)(void *, const void *, const void *, const struct cpu_gemm *, void *);
int64_t K(cpu_conv_forward_scratch)(const struct cpu_conv *);
int K(cpu_conv_forward)(float *, const float *, const float *, const float *,
                        const struct cpu_conv *, void *);
int64_t K(cpu_conv_input_grad_scratch)(const struct cpu_conv *);
int K(cpu_conv_input_grad)(float *, const float *, const float *, const struct cpu_conv *, void *);
int64_t K(cpu_conv_weight_grad_scratch)(const struct cpu_conv *);
int K(cpu_conv_weight_grad)(float *, const float *, const float *, const struct cpu_conv *, void *);
#endif

#endif
