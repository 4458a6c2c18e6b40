/* norm.c: batch_norm, its statistics and its apply pass; norm.h says how. */
#include <math.h>
#include "cpu/norm.h"

/* ---- Statistics ---- */
/* sum (width) += x, four rows at a time */
ALWAYS_INLINE void add_rows(const plan *p, float *sum, int64_t at, int64_t end, const bool half) {
    const int64_t w = p->width;
    for (; at + 4 * w <= end; at += 4 * w)
        for (int64_t j = 0; j < w; j += TWO) {
            two x = load_two(p->x, at + j, half), y = load_two(p->x, at + j + w, half);
            two z = load_two(p->x, at + j + 2 * w, half), t = load_two(p->x, at + j + 3 * w, half);
            add_two(sum, j, (two){ (x.a + y.a) + (z.a + t.a), (x.b + y.b) + (z.b + t.b) });
        }
    for (; at < end; at += w) {
        int64_t n = least(w, end - at), j = 0;
        for (; j + TWO <= n; j += TWO)
            add_two(sum, j, load_two(p->x, at + j, half));
        for (; j < n; j++)
            sum[place(p, j, half)] += element(p->x, at + j, half);
    }
}

static void fetch(const char *from, int64_t bytes) {
    for (int64_t i = 0; i < bytes; i += 64)
        __builtin_prefetch(from + i, 0, 2);
}

/* sum (width) += (x - mean)^2; meanwhile the piece after this one is fetched. */
ALWAYS_INLINE void add_squares(const plan *p, float *sum, const float *mean, int64_t at,
                               int64_t end, const bool half) {
    const int64_t w = p->width, size = half ? 2 : 4;
    for (; at + 2 * w <= end; at += 2 * w) {
        fetch(p->x + (at + p->piece) * size, 2 * w * size);
        for (int64_t j = 0; j < w; j += TWO) {
            two x = load_two(p->x, at + j, half), y = load_two(p->x, at + j + w, half);
            two m = load_two(mean, j, false);
            x.a -= m.a, x.b -= m.b, y.a -= m.a, y.b -= m.b;
            add_two(sum, j, (two){ x.a * x.a + y.a * y.a, x.b * x.b + y.b * y.b });
        }
    }
    for (; at < end; at += w) {
        int64_t n = least(w, end - at), j = 0;
        fetch(p->x + (at + p->piece) * size, n * size);
        for (; j + TWO <= n; j += TWO) {
            two x = load_two(p->x, at + j, half), m = load_two(mean, j, false);
            x.a -= m.a, x.b -= m.b;
            add_two(sum, j, (two){ x.a * x.a, x.b * x.b });
        }
        for (; j < n; j++) {
            int64_t k = place(p, j, half);
            float x = element(p->x, at + j, half) - mean[k];
            sum[k] += x * x;
        }
    }
}

/* partial: the piece's mean and its sum of squares about that mean. */
ALWAYS_INLINE void moments_of(const plan *p, int64_t i, float *own, const bool half) {
    int64_t n = piece_size(p, i), start = i * p->piece, c = p->channels;
    float *mean = p->partial + i * 2 * c, *squares = mean + c, *wide = own + p->width;
    float rows = (float)(n / c);
    memset(own, 0, (size_t)p->width * sizeof *own);
    add_rows(p, own, start, start + n, half);
    fold(p, mean, own);
    for (int64_t k = 0; k < c; k++)
        mean[k] /= rows;
    repeat(p, wide, mean);
    memset(own, 0, (size_t)p->width * sizeof *own);
    add_squares(p, own, wide, start, start + n, half);
    fold(p, squares, own);
}

static void piece_moments(const plan *p, int64_t i, float *own) {
    p->half ? moments_of(p, i, own, true) : moments_of(p, i, own, false);
}

/* Mean and biased variance of channel k from those of the pieces. */
static void join_moments(const plan *p, int64_t k, double *mean, double *var) {
    double sum = 0, squares = 0, rows = (double)(p->n / p->channels);
    for (int64_t i = 0; i < p->pieces; i++)
        sum += (double)(piece_size(p, i) / p->channels) * p->partial[i * 2 * p->channels + k];
    *mean = sum / rows;
    for (int64_t i = 0; i < p->pieces; i++) {
        const float *at = p->partial + i * 2 * p->channels + k;
        double off = at[0] - *mean;
        squares += at[p->channels] + (double)(piece_size(p, i) / p->channels) * off * off;
    }
    *var = squares / rows;
}

/* ---- y = (x - mean) scale + shift (+ residual, relu) ---- */
/* The positive ones, and NaNs. */
ALWAYS_INLINE vf positive(vf v) {
    return (vf)((vi)v & ~(v <= 0));
}

/* signs: bit e % 8 of byte e / 8 where y[e] > 0; a NaN stays in y, and its bit is 0. */
ALWAYS_INLINE void apply_rows(const plan *p, int64_t at, int64_t end, const bool relu,
                              const bool half, const bool past) {
    const float *mean = p->wide[0], *scale = p->wide[1], *shift = p->wide[2];
    for (const int64_t w = p->width; at < end; at += w) {
        int64_t n = least(w, end - at), j = 0;
        for (; j + TWO <= n; j += TWO) {
            two x = load_two(p->x, at + j, half), m = load_two(mean, j, false);
            two s = load_two(scale, j, false), t = load_two(shift, j, false);
            two y = { (x.a - m.a) * s.a + t.a, (x.b - m.b) * s.b + t.b };
            if (p->residual) {
                two r = load_two(p->residual, at + j, half);
                y.a += r.a, y.b += r.b;
            }
            if (relu) {
                const uint32_t bits = positive_bits_of_two(y, half);
                memcpy(p->signs + (at + j) / 8, &bits, TWO / 8);
                y.a = positive(y.a), y.b = positive(y.b);
            }
            store_two(p->y, at + j, y, half, past);
        }
        for (; j < n; j++) {
            int64_t k = place(p, j, half), e = at + j;
            float y = (element(p->x, e, half) - mean[k]) * scale[k] + shift[k];
            if (p->residual)
                y += element(p->residual, e, half);
            if (relu) {
                p->signs[e / 8] = (uint8_t)((e % 8 ? p->signs[e / 8] : 0) | (y > 0) << e % 8);
                y = y <= 0 ? 0 : y;
            }
            set_element(p->y, e, y, half);
        }
    }
}

ALWAYS_INLINE void plain_rows(const plan *p, int64_t at, int64_t end, const bool half,
                              const bool past) {
    apply_rows(p, at, end, false, half, past);
}
ALWAYS_INLINE void relu_rows(const plan *p, int64_t at, int64_t end, const bool half,
                             const bool past) {
    apply_rows(p, at, end, true, half, past);
}

TILE_OF(tile_plain, plain_rows)
TILE_OF(tile_relu, relu_rows)

static void end_with(plan *p, const tensor *residual, const tensor *mask) {
    p->residual = residual ? residual->data : NULL;
    p->signs = mask ? (uint8_t *)mask->data : NULL;
}

static void run_apply(plan *p, const call *c, const float *mean, const float *invstd,
                      const float *weight, const float *bias) {
    p->x = c->in[0]->data;
    p->y = c->out[0]->data;
    FILL(p, p->wide[0], mean[i]);
    FILL(p, p->wide[1], weight ? invstd[i] * weight[i] : invstd[i]);
    FILL(p, p->wide[2], bias ? bias[i] : 0);
    each_tile(p, p->signs ? tile_relu : tile_plain);
}

static void move(float *running, float momentum, double x) {
    *running = (1 - momentum) * *running + momentum * (float)x;
}

/* Statistics of x, into mean and invstd and the running ones (absent: NULL). */
static void run_moments(plan *p, double eps, float *mean, float *invstd, float *running_mean,
                        float *running_var, double momentum) {
    each_piece(p, piece_moments);
    double rows = (double)(p->n / p->channels);
    for (int64_t k = 0; k < p->channels; k++) {
        double m, var;
        join_moments(p, k, &m, &var);
        mean[k] = (float)m;
        invstd[k] = (float)(1 / sqrt(var + eps));
        if (running_mean) {
            move(&running_mean[k], (float)momentum, m);
            move(&running_var[k], (float)momentum, var * rows / (rows - 1));
        }
    }
}

static int batch_norm(const call *c) {
    const tensor *x = c->in[0];
    if (!types_fit(c) || x->numel == 0)
        return DECLINED;
    bool training = option(c, "training") != 0;
    double eps = option(c, "eps");
    float *mean = (float *)c->out[1]->data, *invstd = (float *)c->out[2]->data;
    float *running_mean = (float *)floats(c->in[3]), *running_var = (float *)floats(c->in[4]);
    plan p;
    TRY(plan_open(&p, x, training));
    p.x = x->data;
    if (training) {
        run_moments(&p, eps, mean, invstd, running_mean, running_var, option(c, "momentum"));
    } else {
        for (int64_t k = 0; k < p.channels; k++) {
            mean[k] = running_mean[k];
            invstd[k] = (float)(1 / sqrt((double)running_var[k] + eps));
        }
    }
    if (c->nout > 3)
        end_with(&p, c->in[5], c->out[3]);
    run_apply(&p, c, mean, invstd, floats(c->in[1]), floats(c->in[2]));
    plan_close(&p);
    return VESTIGE_OK;
}

static int apply(const call *c) {
    const tensor *x = c->in[0];
    if (!types_fit(c) || x->numel == 0)
        return DECLINED;
    plan p;
    TRY(plan_open(&p, x, false));
    end_with(&p, c->in[5], option(c, "relu") != 0 ? c->out[1] : NULL);
    run_apply(&p, c, floats(c->in[1]), floats(c->in[2]), floats(c->in[3]), floats(c->in[4]));
    plan_close(&p);
    return VESTIGE_OK;
}

static int statistics(const call *c) {
    const tensor *x = c->in[0];
    if (x->numel == 0)
        return DECLINED;
    plan p;
    TRY(plan_open(&p, x, true));
    p.x = x->data;
    run_moments(&p, option(c, "eps"), (float *)c->out[0]->data, (float *)c->out[1]->data, NULL,
                NULL, 0);
    plan_close(&p);
    return VESTIGE_OK;
}

const kernel_row K(cpu_norm)[] = {
    { "batch_norm", VESTIGE_F32, batch_norm },
    { "batch_norm", VESTIGE_BF16, batch_norm },
    { "batch_norm_relu", VESTIGE_F32, batch_norm },
    { "batch_norm_relu", VESTIGE_BF16, batch_norm },
    { "batch_norm_apply", VESTIGE_F32, apply },
    { "batch_norm_apply", VESTIGE_BF16, apply },
    { "batch_norm_statistics", VESTIGE_F32, statistics },
    { "batch_norm_statistics", VESTIGE_BF16, statistics },
    { 0 },
};
