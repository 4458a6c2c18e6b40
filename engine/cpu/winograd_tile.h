/* From the pixels of a tile to its points, of every Winograd kernel. Included by winograd_run.h and
 * winograd_sums.h, after a header of transforms. */
#ifndef VESTIGE_CPU_WINOGRAD_TILE_H
#define VESTIGE_CPU_WINOGRAD_TILE_H

/* Pixels of a tile each way, and from one tile to the next: of the image for the forward, of the
 * output gradient for the input gradient and for the weight gradient. */
ALWAYS_INLINE int wino_side(const enum wino_job job) {
    return job == WINO_WEIGHT_GRAD ? STEP : SIDE(job == WINO_INPUT_GRAD);
}

ALWAYS_INLINE int wino_step(const enum wino_job job) {
    return job == WINO_FORWARD ? STRIDE * STEP : STEP;
}

/* Fetches the columns of the next tile that this one does not read: its short runs are more than
 * the processor follows by itself. */
ALWAYS_INLINE void wino_fetch(const wino_element *const *next, int64_t c, const enum wino_job job) {
    const int side = wino_side(job), fresh = wino_step(job);
    if (c % (64 / (int64_t)sizeof(wino_element)) != 0)
        return;
    for (int i = 0; i < side; i++)
#pragma GCC unroll 8
        for (int j = side - fresh; j < side; j++)
            __builtin_prefetch(next[i * side + j] + c);
}

ALWAYS_INLINE void wino_line(vf *t, const vf *d, const enum wino_job job) {
    if (job == WINO_WEIGHT_GRAD)
        wino_gradient(t, d);
    else
        wino_points(t, d, job == WINO_INPUT_GRAD);
}

/* The points of each row of pixels, channels c .. c+LANES. */
ALWAYS_INLINE void wino_across(vf half[][POINTS], const wino_element *const *rows, int64_t c,
                               const enum wino_job job) {
    const int side = wino_side(job);
    WINO_UNROLL
    for (int i = 0; i < side; i++) {
        vf d[POINTS];
#pragma GCC unroll 9
        for (int j = 0; j < side; j++)
            d[j] = wino_load(rows[i * side + j] + c);
        wino_line(half[i], d, job);
    }
}

/* Column j of the tile's points. */
ALWAYS_INLINE void wino_down(vf *t, vf half[][POINTS], const int j, const enum wino_job job) {
    vf d[POINTS];
#pragma GCC unroll 9
    for (int i = 0; i < wino_side(job); i++)
        d[i] = half[i][j];
    wino_line(t, d, job);
}

#endif
