/* threads.c: the number of compute threads. Results do not depend on it. */
#include <omp.h>
#include <stdlib.h>
#include "core/core.h"

static int count;

int threads(void) {
    if (count == 0) {
        const char *asked = getenv("OMP_NUM_THREADS");
        int n = asked ? atoi(asked) : 0;
        /* OpenMP's own count: with OMP_PROC_BIND this thread alone may run on one core only. */
        count = n > 0 ? n : omp_get_num_procs();
    }
    return count;
}

int set_threads(int n) {
    if (n < 1 || n > 1024)
        return fail(VESTIGE_EVALUE, "set_num_threads: expected 1 to 1024, got %d", n);
    count = n;
    return VESTIGE_OK;
}

int vestige_threads(void) {
    return threads();
}

int vestige_set_threads(int n) {
    clear_error();
    return set_threads(n);
}
