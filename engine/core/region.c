/* region.c: how a parallel region begins. */
#include <omp.h>

/* Every region of ours is a call of GOMP_parallel, which the linker turns into one of this
 * (--wrap). A team of one costs half a microsecond, more than a small kernel: the caller runs the
 * region by itself. Inside another region it needs its team: its loops would share those of the
 * outer one. */
void __real_GOMP_parallel(void (*region)(void *), void *data, unsigned count, unsigned flags);
void __wrap_GOMP_parallel(void (*region)(void *), void *data, unsigned count, unsigned flags);

void __wrap_GOMP_parallel(void (*region)(void *), void *data, unsigned count, unsigned flags) {
    if (count == 1 && !omp_in_parallel())
        region(data);
    else
        __real_GOMP_parallel(region, data, count, flags);
}
