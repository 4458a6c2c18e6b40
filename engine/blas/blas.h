/* blas.h: OpenBLAS and its LAPACK in f64, opened at first use. Matrices are row-major here. */
#ifndef VESTIGE_BLAS_H
#define VESTIGE_BLAS_H

#include <stdbool.h>
#include <stdint.h>
#include "ops/row.h"

/* True when the library is there and its answers are right; the first call opens and checks it. */
bool blas_ready(void);
/* One line for vestige.info(): which library answers, or why none does. Opens nothing. */
const char *blas_text(void);

/* How many threads of ours may call it at once: 1, or as many as compute. */
int blas_threads(void);

/* c (m,n) = op(a) op(b), or added to c. ta: a lies as (k,m), tb: b lies as (n,k). Runs on the
 * calling thread. */
typedef struct blas_product {
    int64_t m, n, k, lda, ldb, ldc;
    bool ta, tb, add;
} blas_product;
void blas_dgemm(double *c, const double *a, const double *b, const blas_product *p);

/* x (k,n), a right side each row, becomes the solutions of op(a) x[i] = b[i]; a (n,n) is destroyed,
 * pivot has n places. False when a is singular. */
bool blas_solve(double *x, double *a, int32_t *pivot, int64_t n, int64_t k, bool ta);
/* a's lower (or upper) triangle becomes its factor; the rest stays. False when it is indefinite. */
bool blas_cholesky(double *a, int64_t n, bool upper);

/* The rows of all kernels that use it. */
extern const kernel_row blas_rows[];

#endif
