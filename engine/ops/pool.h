/* pool.h: the windows of pooling, as shape checks and kernels see them. */
#ifndef VESTIGE_POOL_H
#define VESTIGE_POOL_H

#include "ops/row.h"

/* y (n,oh,ow,c) from x (n,h,w,c). */
typedef struct pool_size {
    int64_t n, h, w, c, oh, ow;
    int64_t kh, kw, sh, sw, ph, pw, dh, dw;
    bool adaptive, count_padding;
    double divisor; /* NaN: the number of elements of the window */
} pool_size;

/* The options of a call, and the sizes of the tensors in the two roles. */
pool_size pool_size_of(const call *c, const tensor *x, const tensor *y);

/* A window along one dimension: its first element, its end, the step, and how many elements it has
 * when those in the padding count. */
typedef struct window {
    int64_t from, to, step, counted;
} window;

ALWAYS_INLINE window window_of(bool adaptive, int64_t o, int64_t size, int64_t outs, int64_t k,
                               int64_t s, int64_t p, int64_t d) {
    window v = { .step = d };
    if (adaptive) {
        v.from = o * size / outs;
        v.to = ((o + 1) * size + outs - 1) / outs;
        v.counted = v.to - v.from;
        return v;
    }
    v.from = o * s - p;
    v.to = v.from + d * (k - 1) + 1;
    v.counted = (v.to < size + p ? v.to : size + p) - v.from;
    if (v.from < 0)
        v.from += (-v.from + d - 1) / d * d;
    if (v.to > size)
        v.to = size;
    return v;
}
ALWAYS_INLINE window window_down(const pool_size *s, int64_t oy) {
    return window_of(s->adaptive, oy, s->h, s->oh, s->kh, s->sh, s->ph, s->dh);
}
ALWAYS_INLINE window window_across(const pool_size *s, int64_t ox) {
    return window_of(s->adaptive, ox, s->w, s->ow, s->kw, s->sw, s->pw, s->dw);
}

/* What the sum over a window is divided by. */
ALWAYS_INLINE double pool_divisor(const pool_size *s, window down, window across) {
    if (s->divisor == s->divisor)
        return s->divisor;
    if (s->count_padding)
        return (double)(down.counted * across.counted);
    return (double)((down.to - down.from) * (across.to - across.from));
}

#endif
