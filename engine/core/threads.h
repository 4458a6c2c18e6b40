/* Threads: how many a parallel region of ours uses. Every OpenMP region names its number with
 * num_threads(threads()), because a BLAS of the OpenMP flavour may reset the default. */
#ifndef VESTIGE_THREADS_H
#define VESTIGE_THREADS_H

int threads(void);
int set_threads(int n);

#endif
