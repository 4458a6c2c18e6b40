/* slice.h: how the parts of slice.c lie in memory, for its kernels. */
#ifndef VESTIGE_SLICE_H
#define VESTIGE_SLICE_H

#include "ops/row.h"

/* `whole` is (outer, n, inner), `part` is (outer, length, inner), and part's place l is whole's
 * place start + l * step. */
typedef struct slice {
    int64_t outer, n, inner, start, step, length;
} slice;

/* Of a call after its infer function, whose options are normalised. */
static inline slice slice_of(const call *c, const tensor *whole, const tensor *part) {
    int dim = (int)option(c, "dim");
    double index = option(c, "index"), step = option(c, "step");
    slice s = { .outer = product(dim, whole->dim),
                .n = whole->dim[dim],
                .inner = product(whole->ndim - dim - 1, whole->dim + dim + 1) };
    s.start = (int64_t)(isnan(index) ? option(c, "start") : index);
    s.step = isnan(step) ? 1 : (int64_t)step;
    s.length = isnan(index) ? part->dim[dim] : 1;
    return s;
}

enum pad_mode { PAD_CONSTANT, PAD_REFLECT, PAD_REPLICATE, PAD_CIRCULAR };

/* What stands before and behind each dimension; the option lists pairs, the last dimension's first.
 * Below zero: cut away. */
static inline void pads_of(const call *c, int ndim, int64_t *before, int64_t *after) {
    const double *pad;
    int n = list_option(c, "pad", &pad);
    for (int d = ndim - 1, i = 0; d >= 0; d--, i += 2) {
        before[d] = i + 1 < n ? (int64_t)pad[i] : 0;
        after[d] = i + 1 < n ? (int64_t)pad[i + 1] : 0;
    }
}

/* The place among n that fills place p, counted from the first of them; -1: the constant. */
static inline int64_t pad_source(enum pad_mode mode, int64_t p, int64_t n) {
    if (p >= 0 && p < n)
        return p;
    switch (mode) {
    case PAD_REFLECT:
        return p < 0 ? -p : 2 * (n - 1) - p;
    case PAD_REPLICATE:
        return p < 0 ? 0 : n - 1;
    case PAD_CIRCULAR:
        return p < 0 ? p + n : p - n;
    default:
        return -1;
    }
}

#endif
