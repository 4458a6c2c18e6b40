/* product.h: what matmul, linear and linalg_solve compute, as shape checks and kernels see it. */
#ifndef VESTIGE_PRODUCT_H
#define VESTIGE_PRODUCT_H

#include "ops/row.h"

/* The broadcast of two operands' leading dimensions: `count` pairs of matrices. */
typedef struct batch {
    int ndim;
    int64_t count;
    int64_t dim[VESTIGE_MAXDIM];
    int64_t step[2][VESTIGE_MAXDIM]; /* elements from one matrix to the next; 0: broadcast */
} batch;

/* Where the matrices of pair i begin in the two operands. */
ALWAYS_INLINE void batch_at(const batch *p, int64_t i, int64_t *a, int64_t *b) {
    *a = *b = 0;
    for (int d = p->ndim - 1; d >= 0; d--) {
        int64_t at = i % p->dim[d];
        i /= p->dim[d];
        *a += at * p->step[0][d];
        *b += at * p->step[1][d];
    }
}

/* batch.count products op(a) (m,k) op(b) (k,n); ta: a lies as (k,m), tb: b lies as (n,k). */
typedef struct matrix_product {
    int64_t m, n, k;
    bool ta, tb;
    batch batch;
} matrix_product;

/* Fill p from a call of matmul, of linear; the first tells what does not fit. */
int matmul_product(const call *c, matrix_product *p);
void linear_product(const call *c, matrix_product *p);

/* batch.count systems op(a) y = b (left), b and y (n,k); or y op(a) = b, b and y (k,n). */
typedef struct matrix_system {
    int64_t n, k;
    bool left, ta;
    bool vector; /* b has no dimension k */
    batch batch;
} matrix_system;

int solve_system(const call *c, matrix_system *s);
/* The messages of kernels that meet a matrix they cannot factor; i counts from 0. */
int fail_singular(int64_t i);
int fail_indefinite(int64_t i);

#endif
