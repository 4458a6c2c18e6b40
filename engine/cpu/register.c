/* register.c: which instruction-set level runs, and its kernels. Compiled at baseline. */
#include <stdlib.h>
#include "blas/blas.h"
#include "cpu/conv.h"
#include "cpu/cpu.h"
#include "cpu/f32.h"

/* The kernel files that end in a table; each is compiled once a level. */
#define CPU_FAMILIES(X, level)                                                                     \
    X(arith, level)                                                                                \
    X(unary, level)                                                                                \
    X(activation, level)                                                                           \
    X(compare, level)                                                                              \
    X(random, level)                                                                               \
    X(shape, level)                                                                                \
    X(slice, level)                                                                                \
    X(index, level)                                                                                \
    X(sort, level)                                                                                 \
    X(reduce, level)                                                                               \
    X(linalg, level)                                                                               \
    X(conv, level)                                                                                 \
    X(grid, level)                                                                                 \
    X(pool, level)                                                                                 \
    X(norm, level)                                                                                 \
    X(norm_gradient, level)                                                                        \
    X(layer_norm, level)                                                                           \
    X(softmax, level)                                                                              \
    X(attention, level)                                                                            \
    X(loss, level)                                                                                 \
    X(criterion, level)                                                                            \
    X(optim, level)

#define DECLARE(family, level) extern const kernel_row cpu_##family##_##level[];
CPU_FAMILIES(DECLARE, v2)
CPU_FAMILIES(DECLARE, v3)
CPU_FAMILIES(DECLARE, v4)
CPU_FAMILIES(DECLARE, v4bf16)

enum level { REF, V2, V3, V4, V4BF16, NLEVELS };
static const char *const names[] = { "ref", "v2", "v3", "v4", "v4bf16" };

static enum level supported(void) {
    __builtin_cpu_init();
    if (!__builtin_cpu_supports("x86-64-v2"))
        return REF;
    if (!__builtin_cpu_supports("x86-64-v3"))
        return V2;
    if (cpu_f32_v4bf16.emulated)
        return V4BF16;
    if (!__builtin_cpu_supports("x86-64-v4"))
        return V3;
    return __builtin_cpu_supports("avx512bf16") ? V4BF16 : V4;
}

static int choose(enum level *level, bool *blas) {
    *level = supported();
    *blas = true;
    const char *asked = getenv("VESTIGE_ISA");
    if (!asked || !*asked)
        return VESTIGE_OK;
    for (int k = 0; k < NLEVELS; k++)
        if (strcmp(asked, names[k]) == 0) {
            if ((enum level)k < *level)
                *level = (enum level)k;
            *blas = k != REF; /* asked for plain loops, nothing else runs */
            return VESTIGE_OK;
        }
    return fail(VESTIGE_EVALUE, "VESTIGE_ISA: expected ref, v2, v3, v4 or v4bf16, got '%s'", asked);
}

bool cpu_conv_direct;

static int choose_conv(void) {
    const char *asked = getenv("VESTIGE_CONV");
    cpu_conv_direct = false;
    if (!asked || !*asked || strcmp(asked, "winograd") == 0)
        return VESTIGE_OK;
    if (strcmp(asked, "direct") != 0)
        return fail(VESTIGE_EVALUE, "VESTIGE_CONV: expected winograd or direct, got '%s'", asked);
    cpu_conv_direct = true;
    return VESTIGE_OK;
}

/* VESTIGE_WEIGHT_CACHE: MiB of kept forms of weights. */
static int choose_budget(void) {
    const char *asked = getenv("VESTIGE_WEIGHT_CACHE");
    if (!asked || !*asked)
        return VESTIGE_OK;
    char *end;
    long mib = strtol(asked, &end, 10);
    if (*end || mib < 0 || mib > 1 << 24)
        return fail(VESTIGE_EVALUE, "VESTIGE_WEIGHT_CACHE: expected MiB from 0 on, got '%s'",
                    asked);
    vestige_weight_cache((int64_t)mib << 20);
    return VESTIGE_OK;
}

static enum level chosen;

const char *cpu_level(void) {
    return names[chosen];
}

const char *cpu_conv(void) {
    return cpu_conv_direct || chosen == REF ? "direct" : "winograd";
}

int cpu_register(int (*add)(const kernel_row *rows, int device, const char *level)) {
    bool blas;
    TRY(choose(&chosen, &blas));
    TRY(choose_conv());
    TRY(choose_budget());
    if (blas)
        TRY(add(blas_rows, VESTIGE_CPU, "openblas"));
#define ADD(family, level) TRY(add(cpu_##family##_##level, VESTIGE_CPU, #level));
    switch (chosen) {
    case V4BF16:
        CPU_FAMILIES(ADD, v4bf16)
        break;
    case V4:
        CPU_FAMILIES(ADD, v4)
        break;
    case V3:
        CPU_FAMILIES(ADD, v3)
        break;
    case V2:
        CPU_FAMILIES(ADD, v2)
        break;
    default:
        break;
    }
    return VESTIGE_OK;
}
