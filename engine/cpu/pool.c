/* pool.c: pooling in f32, channels as vectors. An image is a task: windows that overlap add into it
 * from one thread, in one order. */
#include "cpu/half.h"
#include "cpu/isa.h"
#include "ops/pool.h"

enum {
    CHUNK = 64,        /* channels whose running values stay in the first cache */
    PARALLEL = 1 << 15 /* elements of all windows from which a second thread pays */
};

/* What a row does with image n. */
typedef void (*image_fn)(const call *c, const pool_size *s, int64_t n);

static int each_image(const call *c, const pool_size *s, image_fn run) {
    int64_t window = s->adaptive ? s->h * s->w / (s->oh * s->ow) + 1 : s->kh * s->kw;
    int workers = s->n * s->oh * s->ow * s->c * window < PARALLEL ? 1 : threads();
    if (s->h * s->w > INT32_MAX)
        return DECLINED;
#pragma omp parallel for num_threads(workers) schedule(static)
    for (int64_t n = 0; n < s->n; n++)
        if (!interrupted())
            run(c, s, n);
    return interrupted() ? fail(VESTIGE_EINTERRUPTED, "interrupted") : VESTIGE_OK;
}

/* Image n of a tensor. */
static float *image(const tensor *t, int64_t n) {
    return (float *)t->data + n * (t->dim[1] * t->dim[2] * t->dim[3]);
}

static int64_t least(int64_t a, int64_t b) {
    return a < b ? a : b;
}

#define EACH_OUTPUT(s, pixel)                                                                      \
    for (int64_t pixel = 0, oy = 0; oy < (s)->oh; oy++)                                            \
        for (int64_t ox = 0; ox < (s)->ow; ox++, pixel++)

/* ---- Maximum, a vector of channels at a time ---- */
ALWAYS_INLINE vf some(const float *p, int64_t count) {
    vf v = { 0 };
    if (count == LANES)
        return vload(p);
    memcpy(&v, p, (size_t)count * 4);
    return v;
}
ALWAYS_INLINE void put(float *p, vf v, int64_t count) {
    if (count == LANES)
        vstore(p, v);
    else
        memcpy(p, &v, (size_t)count * 4);
}

/* The largest elements of a window, and their pixels. */
typedef struct peak {
    vf top;
    vi at;
} peak;

#define EACH_PIXEL(s, v, u, pixel)                                                                 \
    for (int64_t i = (v).from; i < (v).to; i += (v).step)                                          \
        for (int64_t pixel = i * (s)->w + (u).from, end = i * (s)->w + (u).to; pixel < end;        \
             pixel += (u).step)

/* The first of equal ones, and a NaN if there is one. */
ALWAYS_INLINE peak peak_of(const float *x, const pool_size *s, window v, window u, int64_t count) {
    int64_t first = v.from * s->w + u.from;
    peak p = { some(x + first * s->c, count), (int32_t)first - (vi){ 0 } };
    EACH_PIXEL(s, v, u, pixel) {
        vf value = some(x + pixel * s->c, count);
        vi more = (value > p.top) | (value != value);
        p.top = (vf)(((vi)value & more) | ((vi)p.top & ~more));
        p.at = ((int32_t)pixel & more) | (p.at & ~more);
    }
    return p;
}

/* Windows that share out the image: each pixel lies in one of them. */
static bool parts(const pool_size *s) {
    return !s->adaptive && s->dh == 1 && s->dw == 1 && s->sh == s->kh && s->sw == s->kw &&
           s->oh * s->kh == s->h && s->ow * s->kw == s->w && s->ph == 0 && s->pw == 0;
}

/* Channels k on, count of them, of the window v, u, whose output is `pixel`. */
typedef void (*max_fn)(const call *c, const pool_size *s, int64_t n, window v, window u,
                       int64_t pixel, int64_t k, int64_t count);

ALWAYS_INLINE void max_some(const call *c, const pool_size *s, int64_t n, window v, window u,
                            int64_t pixel, int64_t k, int64_t count) {
    peak p = peak_of(image(c->in[0], n) + k, s, v, u, count);
    put(image(c->out[0], n) + pixel * s->c + k, p.top, count);
}

ALWAYS_INLINE void backward_some(const call *c, const pool_size *s, int64_t n, window v, window u,
                                 int64_t pixel, int64_t k, int64_t count, bool add) {
    float *gx = image(c->out[0], n) + k;
    vf g = some(image(c->in[0], n) + pixel * s->c + k, count);
    peak p = peak_of(image(c->in[1], n) + k, s, v, u, count);
    EACH_PIXEL(s, v, u, px) {
        vf own = (vf)((vi)g & (p.at == (int32_t)px));
        if (add)
            own += some(gx + px * s->c, count);
        put(gx + px * s->c, own, count);
    }
}
ALWAYS_INLINE void backward_added(const call *c, const pool_size *s, int64_t n, window v, window u,
                                  int64_t pixel, int64_t k, int64_t count) {
    backward_some(c, s, n, v, u, pixel, k, count, true);
}
ALWAYS_INLINE void backward_stored(const call *c, const pool_size *s, int64_t n, window v, window u,
                                   int64_t pixel, int64_t k, int64_t count) {
    backward_some(c, s, n, v, u, pixel, k, count, false);
}

ALWAYS_INLINE void gather_some(const call *c, const pool_size *s, int64_t n, window v, window u,
                               int64_t pixel, int64_t k, int64_t count) {
    const float *from = image(c->in[0], n) + k;
    peak p = peak_of(image(c->in[1], n) + k, s, v, u, count);
    vi found = { 0 };
    EACH_PIXEL(s, v, u, px) {
        found |= (vi)some(from + px * s->c, count) & (p.at == (int32_t)px);
    }
    put(image(c->out[0], n) + pixel * s->c + k, (vf)found, count);
}

ALWAYS_INLINE void each_window(const call *c, const pool_size *s, int64_t n, max_fn run) {
    int64_t whole = s->c / LANES * LANES;
    EACH_OUTPUT(s, pixel) {
        window v = window_down(s, oy), u = window_across(s, ox);
        for (int64_t k = 0; k < whole; k += LANES)
            run(c, s, n, v, u, pixel, k, LANES);
        if (whole < s->c)
            run(c, s, n, v, u, pixel, whole, s->c - whole);
    }
}

static void max_image(const call *c, const pool_size *s, int64_t n) {
    each_window(c, s, n, max_some);
}
static void max_backward_image(const call *c, const pool_size *s, int64_t n) {
    if (parts(s)) {
        each_window(c, s, n, backward_stored);
        return;
    }
    memset(image(c->out[0], n), 0, (size_t)(s->h * s->w * s->c) * 4);
    each_window(c, s, n, backward_added);
}
static void max_gather_image(const call *c, const pool_size *s, int64_t n) {
    each_window(c, s, n, gather_some);
}

/* ---- Average: each row of a window is summed, then the rows, so that the mean of a large window
 * rounds like the square root of its size. ---- */
static void average(float *to, const float *x, const pool_size *s, window v, window u, int64_t k0,
                    int64_t count) {
    float row[CHUNK], sum[CHUNK] = { 0 };
    float divisor = (float)pool_divisor(s, v, u);
    for (int64_t i = v.from; i < v.to; i++) {
        memset(row, 0, sizeof row);
        for (int64_t j = u.from; j < u.to; j++) {
            const float *from = x + (i * s->w + j) * s->c + k0;
            for (int64_t k = 0; k < count; k++)
                row[k] += from[k];
        }
        for (int64_t k = 0; k < count; k++)
            sum[k] += row[k];
    }
    for (int64_t k = 0; k < count; k++)
        to[k0 + k] = sum[k] / divisor;
}

static void avg_image(const call *c, const pool_size *s, int64_t n) {
    const float *x = image(c->in[0], n);
    float *y = image(c->out[0], n);
    EACH_OUTPUT(s, pixel) {
        window v = window_down(s, oy), u = window_across(s, ox);
        for (int64_t k0 = 0; k0 < s->c; k0 += CHUNK)
            average(y + pixel * s->c, x, s, v, u, k0, least(CHUNK, s->c - k0));
    }
}

static void avg_backward_image(const call *c, const pool_size *s, int64_t n) {
    const float *gy = image(c->in[0], n);
    float *gx = image(c->out[0], n);
    memset(gx, 0, (size_t)(s->h * s->w * s->c) * 4);
    EACH_OUTPUT(s, pixel) {
        window v = window_down(s, oy), u = window_across(s, ox);
        float divisor = (float)pool_divisor(s, v, u);
        const float *from = gy + pixel * s->c;
        for (int64_t i = v.from; i < v.to; i++)
            for (int64_t j = u.from; j < u.to; j++) {
                float *to = gx + (i * s->w + j) * s->c;
                for (int64_t k = 0; k < s->c; k++)
                    to[k] += from[k] / divisor;
            }
    }
}

static int max_pool(const call *c) {
    pool_size s = pool_size_of(c, c->in[0], c->out[0]);
    return each_image(c, &s, max_image);
}
static int max_backward(const call *c) {
    pool_size s = pool_size_of(c, c->in[1], c->in[0]);
    return each_image(c, &s, max_backward_image);
}
static int max_gather(const call *c) {
    pool_size s = pool_size_of(c, c->in[1], c->out[0]);
    return each_image(c, &s, max_gather_image);
}
static int avg_pool(const call *c) {
    pool_size s = pool_size_of(c, c->in[0], c->out[0]);
    return each_image(c, &s, avg_image);
}
static int avg_backward(const call *c) {
    pool_size s = pool_size_of(c, c->out[0], c->in[0]);
    return each_image(c, &s, avg_backward_image);
}

IN_F32(max_pool)
IN_F32(max_backward)
IN_F32(max_gather)
IN_F32(avg_pool)
IN_F32(avg_backward)

const kernel_row K(cpu_pool)[] = {
    { "max_pool2d", VESTIGE_F32, max_pool },
    { "max_pool2d", VESTIGE_BF16, max_pool_bf16 },
    { "max_pool2d_backward", VESTIGE_F32, max_backward },
    { "max_pool2d_backward", VESTIGE_BF16, max_backward_bf16 },
    { "max_pool2d_gather", VESTIGE_F32, max_gather },
    { "max_pool2d_gather", VESTIGE_BF16, max_gather_bf16 },
    { "avg_pool2d", VESTIGE_F32, avg_pool },
    { "avg_pool2d", VESTIGE_BF16, avg_pool_bf16 },
    { "avg_pool2d_backward", VESTIGE_F32, avg_backward },
    { "avg_pool2d_backward", VESTIGE_BF16, avg_backward_bf16 },
    { "adaptive_avg_pool2d", VESTIGE_F32, avg_pool },
    { "adaptive_avg_pool2d", VESTIGE_BF16, avg_pool_bf16 },
    { "adaptive_avg_pool2d_backward", VESTIGE_F32, avg_backward },
    { "adaptive_avg_pool2d_backward", VESTIGE_BF16, avg_backward_bf16 },
    { 0 },
};
