/* cursor.h: a walk over the elements of a shape, with the place in each broadcast operand. */
#ifndef VESTIGE_CURSOR_H
#define VESTIGE_CURSOR_H

#include "core/core.h"
#include <string.h>

typedef struct cursor {
    int n, ndim;
    int64_t i, left; /* the element, how many are left with it */
    int64_t dim[VESTIGE_MAXDIM], index[VESTIGE_MAXDIM];
    int64_t stride[4][VESTIGE_MAXDIM];
    int64_t at[4]; /* the element of operand k */
} cursor;

static inline void cursor_start(cursor *k, int ndim, const int64_t *dim, int n, const T *operand) {
    *k = (cursor){ .n = n, .ndim = ndim, .left = product(ndim, dim) };
    memcpy(k->dim, dim, (size_t)ndim * sizeof *dim);
    for (int j = 0; j < n; j++) {
        if (!operand[j])
            continue;
        int64_t step = 1;
        for (int d = operand[j]->ndim - 1, o = ndim - 1; d >= 0; d--, o--) {
            k->stride[j][o] = operand[j]->dim[d] == 1 ? 0 : step;
            step *= operand[j]->dim[d];
        }
    }
}

ALWAYS_INLINE void cursor_next(cursor *k) {
    k->i++;
    k->left--;
    for (int d = k->ndim - 1; d >= 0; d--) {
        for (int j = 0; j < k->n; j++)
            k->at[j] += k->stride[j][d];
        if (++k->index[d] < k->dim[d])
            return;
        k->index[d] = 0;
        for (int j = 0; j < k->n; j++)
            k->at[j] -= k->stride[j][d] * k->dim[d];
    }
}

#endif
