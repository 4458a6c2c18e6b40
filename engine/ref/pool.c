/* The definition of pooling. */
#include "ops/pool.h"
#include "ref/ref.h"

/* The place in x of the first largest element of a window; as PyTorch, the last NaN wins. */
ALWAYS_INLINE int64_t argmax(const tensor *x, int t, const pool_size *s, int64_t n, int64_t oy,
                             int64_t ox, int64_t ch) {
    window v = window_down(s, oy), u = window_across(s, ox);
    int64_t best = -1;
    double top = 0;
    for (int64_t y = v.from; y < v.to; y += v.step)
        for (int64_t z = u.from; z < u.to; z += u.step) {
            int64_t at = ((n * s->h + y) * s->w + z) * s->c + ch;
            double value = get(x->data, t, at);
            if (best < 0 || value > top || value != value)
                best = at, top = value;
        }
    return best;
}

#define EACH_OUTPUT(s)                                                                             \
    for (int64_t n = 0, at = 0; n < (s).n; n++)                                                    \
        for (int64_t oy = 0; oy < (s).oh; oy++)                                                    \
            for (int64_t ox = 0; ox < (s).ow; ox++)                                                \
                for (int64_t ch = 0; ch < (s).c; ch++, at++)

ALWAYS_INLINE int max_pool(const call *c, int t) {
    pool_size s = pool_size_of(c, c->in[0], c->out[0]);
    EACH_OUTPUT(s)
    put(c->out[0]->data, t, at, get(c->in[0]->data, t, argmax(c->in[0], t, &s, n, oy, ox, ch)));
    return VESTIGE_OK;
}
REF_FLOAT(max_pool)

ALWAYS_INLINE int max_gather(const call *c, int t) {
    pool_size s = pool_size_of(c, c->in[1], c->out[0]);
    EACH_OUTPUT(s)
    put(c->out[0]->data, t, at, get(c->in[0]->data, t, argmax(c->in[1], t, &s, n, oy, ox, ch)));
    return VESTIGE_OK;
}
REF_FLOAT(max_gather)

static void store(T y, int t, double *sum) {
    for (int64_t i = 0; i < y->numel; i++)
        put(y->data, t, i, sum[i]);
    free_scratch(sum, y->numel * 8);
}

/* Zeros that take the sums of an output in double. */
static int sums(const tensor *y, double **sum) {
    void *p;
    TRY(alloc_scratch(&p, y->numel * 8));
    memset(p, 0, (size_t)y->numel * 8);
    *sum = p;
    return VESTIGE_OK;
}

ALWAYS_INLINE int max_backward(const call *c, int t) {
    pool_size s = pool_size_of(c, c->in[1], c->in[0]);
    double *sum;
    TRY(sums(c->out[0], &sum));
    EACH_OUTPUT(s)
    sum[argmax(c->in[1], t, &s, n, oy, ox, ch)] += get(c->in[0]->data, t, at);
    store(c->out[0], t, sum);
    return VESTIGE_OK;
}
REF_FLOAT(max_backward)

#define EACH_IN_WINDOW(v, u)                                                                       \
    for (int64_t y = (v).from; y < (v).to; y++)                                                    \
        for (int64_t z = (u).from; z < (u).to; z++)

ALWAYS_INLINE int avg_pool(const call *c, int t) {
    pool_size s = pool_size_of(c, c->in[0], c->out[0]);
    EACH_OUTPUT(s) {
        window v = window_down(&s, oy), u = window_across(&s, ox);
        double sum = 0;
        EACH_IN_WINDOW(v, u)
        sum += get(c->in[0]->data, t, ((n * s.h + y) * s.w + z) * s.c + ch);
        put(c->out[0]->data, t, at, sum / pool_divisor(&s, v, u));
    }
    return VESTIGE_OK;
}
REF_FLOAT(avg_pool)

ALWAYS_INLINE int avg_backward(const call *c, int t) {
    pool_size s = pool_size_of(c, c->out[0], c->in[0]);
    double *sum;
    TRY(sums(c->out[0], &sum));
    EACH_OUTPUT(s) {
        window v = window_down(&s, oy), u = window_across(&s, ox);
        double part = get(c->in[0]->data, t, at) / pool_divisor(&s, v, u);
        EACH_IN_WINDOW(v, u)
        sum[((n * s.h + y) * s.w + z) * s.c + ch] += part;
    }
    store(c->out[0], t, sum);
    return VESTIGE_OK;
}
REF_FLOAT(avg_backward)

const kernel_row ref_pool[] = {
    ROWS_FLOAT("max_pool2d", max_pool),
    ROWS_FLOAT("max_pool2d_gather", max_gather),
    ROWS_FLOAT("max_pool2d_backward", max_backward),
    ROWS_FLOAT("avg_pool2d", avg_pool),
    ROWS_FLOAT("avg_pool2d_backward", avg_backward),
    ROWS_FLOAT("adaptive_avg_pool2d", avg_pool),
    ROWS_FLOAT("adaptive_avg_pool2d_backward", avg_backward),
    { 0 },
};
