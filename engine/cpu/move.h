/* move.h: one copy for all operators that only move elements: an array of `dim` elements is read
 * and written with any steps. */
#ifndef VESTIGE_CPU_MOVE_H
#define VESTIGE_CPU_MOVE_H

#include "cpu/isa.h"
#include "core/core.h"

typedef struct move {
    int ndim;
    int64_t size; /* bytes of an element */
    int64_t dim[VESTIGE_MAXDIM];
    int64_t to_step[VESTIGE_MAXDIM], from_step[VESTIGE_MAXDIM]; /* bytes; from_step may be 0 or
                                                                   negative */
    char *to;
    const char *from;
} move;

void K(cpu_move)(move m);

/* Steps of a contiguous array of dim. */
static inline void move_steps(int ndim, const int64_t *dim, int64_t size, int64_t *step) {
    for (int d = ndim - 1; d >= 0; d--) {
        step[d] = size;
        size *= dim[d];
    }
}

/* Writes y in its order; the caller sets where it is read. */
static inline move move_into(const tensor *y) {
    move m = { .ndim = y->ndim, .size = dtype_size(y->dtype), .to = y->data };
    memcpy(m.dim, y->dim, sizeof m.dim);
    move_steps(y->ndim, y->dim, m.size, m.to_step);
    return m;
}

static inline void move_bytes(char *to, const char *from, int64_t bytes) {
    K(cpu_move)
    ((move){ .ndim = 1,
             .size = 1,
             .dim = { bytes },
             .to_step = { 1 },
             .from_step = { 1 },
             .to = to,
             .from = from });
}

#endif
