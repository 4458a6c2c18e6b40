/* grid.h: where a sample of grid_sample lies among the pixels. */
#ifndef VESTIGE_GRID_H
#define VESTIGE_GRID_H

#include "ops/row.h"

typedef struct grid_size {
    int64_t n, h, w, c, oh, ow;
    bool align;
    int order[2]; /* of the derivative: along the height, along the width */
} grid_size;

/* x are the images, y the samples. */
grid_size grid_size_of(const call *c, const tensor *x, const tensor *y);

/* Weights of two neighbours along one dimension; first may be -1, first + 1 may be `size`. */
typedef struct grid_taps {
    int64_t first;
    double weight[2];
} grid_taps;

/* at is in -1 .. 1: with align the centres of the first and last pixel, else their outer edges. */
ALWAYS_INLINE grid_taps grid_taps_at(double at, int64_t size, bool align, int order) {
    double slope = align ? (double)(size - 1) / 2 : (double)size / 2;
    double pixel = align ? (at + 1) * slope : (at + 1) * slope - 0.5;
    if (!(pixel > -1 && pixel < (double)size)) /* between two outside, or not a number */
        return (grid_taps){ -2, { 0, 0 } };
    double low = floor(pixel), t = pixel - low;
    if (order == 1)
        return (grid_taps){ (int64_t)low, { -slope, slope } };
    return (grid_taps){ (int64_t)low, { 1 - t, t } };
}

#endif
