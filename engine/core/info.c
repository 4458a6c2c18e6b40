/* info.c: what was built and what was chosen at start-up. */
#include <stdio.h>
#include "blas/blas.h"
#include "core/core.h"
#include "cpu/cpu.h"

#ifndef VESTIGE_VERSION
#define VESTIGE_VERSION "unknown"
#endif

const char *vestige_build_info(void) {
    static char text[1024];
    if (registry_open() < 0)
        return vestige_message();
    snprintf(text, sizeof text,
             "version: %s\ncpu level: %s\nconv: %s\nweight cache: %lld MiB\nthreads: %d\nblas: %s\n"
             "compiler: gcc %s\n",
             VESTIGE_VERSION, cpu_level(), cpu_conv(), (long long)vestige_weight_cache(-1) >> 20,
             threads(), blas_text(), __VERSION__);
    return text;
}
