/* threads.c: the number of compute threads. Results do not depend on it. */
#include <sched.h>
#include <stdlib.h>
#include "core/core.h"

/* Weak: the fuzzers have no kernels, and no OpenMP. */
int omp_get_num_procs(void) __attribute__((weak));

static int count;

/* With OMP_PROC_BIND this thread alone may run on one core only: OpenMP knows of the others. */
static int usable_cores(void) {
    cpu_set_t set;
    if (omp_get_num_procs)
        return omp_get_num_procs();
    int n = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
    return n > 0 ? n : 1;
}

int threads(void) {
    if (count == 0) {
        const char *asked = getenv("OMP_NUM_THREADS");
        int n = asked ? atoi(asked) : 0;
        count = n > 0 ? n : usable_cores();
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
