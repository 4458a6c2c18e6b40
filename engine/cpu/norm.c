/* norm.c: batch_norm and its parts, at the speed of memory: images in f32 or bf16, vectors of
 * channels in f32.
 *
 * Channels are last, so the loops run over whole rows and the compiler makes vectors of them. A
 * narrow row would waste them: several rows of few channels are taken as one wide row, the vectors
 * of channels repeated to match. A tensor is cut into pieces of wide rows, by its shape alone; the
 * statistics of each piece are kept and then added in order, in double, so the bits do not depend
 * on the number of threads. Within a piece sums are short: f32 holds them well. The variance takes
 * two passes over a piece that is still in the cache, and one over memory. A large
 * result goes past the caches: memory bounds all of this, and a line that is written whole need not
 * be read first. */
#include <math.h>
#include "cpu/both.h"

enum {
    PARALLEL = 1 << 15, /* elements from which a second thread pays */
    PIECE = 1 << 14,    /* elements of a piece */
    TILE = 1 << 9,
    MAX_PIECES = 512,
    WIDE = 64 /* floats a wide row has at least */
};

typedef struct plan {
    int64_t n, channels, width;  /* elements; of one row; of one wide row */
    int64_t piece, pieces, tile; /* elements of a piece and a tile: eights of wide rows */
    bool half, past;             /* x, g and y are bf16; y goes past the caches */
    const char *x, *g, *residual;
    char *y;
    uint8_t *signs;      /* relu ends the pass, and its signs go here */
    const uint8_t *mask; /* bits of g, or NULL */
    float *partial;      /* (pieces, 2, channels) */
    float *own;          /* (threads, 2, width): sums */
    float *wide[4];      /* (width): channel vectors repeated */
    void *scratch;
    int64_t bytes;
} plan;

/* A multiple of TWO, so that only the last row may have an odd end. */
static int64_t width_of(int64_t channels) {
    int64_t width = channels;
    while (width % TWO != 0)
        width += channels;
    return width * ((WIDE + width - 1) / width);
}

/* About so many elements, in whole bytes of mask. */
static int64_t eights(const plan *p, int64_t elements) {
    int64_t rows = elements / p->width / 8 * 8;
    return (rows > 8 ? rows : 8) * p->width;
}

static void cut(plan *p, int64_t piece) {
    p->piece = piece;
    p->pieces = (p->n + piece - 1) / piece;
}

/* partials: does the kernel keep sums of the pieces? */
static int plan_open(plan *p, const tensor *x, bool partials) {
    int64_t channels = x->dim[x->ndim - 1], width = width_of(channels);
    *p = (plan){ .n = x->numel, .channels = channels, .width = width };
    p->half = x->dtype == VESTIGE_BF16;
    p->tile = eights(p, TILE);
    int64_t piece = eights(p, PIECE);
    while (piece < (p->n + MAX_PIECES - 1) / MAX_PIECES)
        piece *= 2;
    cut(p, piece);
    int64_t kept = partials ? p->pieces * 2 * channels : 0;
    p->bytes = (kept + (threads() * 2 + 4) * width) * (int64_t)sizeof(float);
    TRY(alloc_scratch(&p->scratch, p->bytes));
    p->partial = p->scratch;
    p->own = p->partial + kept;
    for (int i = 0; i < 4; i++)
        p->wide[i] = p->own + (threads() * 2 + i) * width;
    return VESTIGE_OK;
}

static void plan_close(const plan *p) {
    free_scratch(p->scratch, p->bytes);
}

/* wide (width) = channel (channels) repeated, in the order in which rows are read */
static void repeat(const plan *p, float *wide, const float *channel) {
    for (int64_t j = 0; j < p->width; j += p->channels)
        memmove(wide + j, channel, (size_t)p->channels * sizeof *wide);
    if (p->half)
        deal(wide, p->width);
}

/* wide becomes a value of each channel computed from i */
#define FILL(p, to, value)                                                                         \
    do {                                                                                           \
        float *to_ = (to);                                                                         \
        for (int64_t i = 0; i < (p)->channels; i++)                                                \
            to_[i] = (value);                                                                      \
        repeat(p, to_, to_);                                                                       \
    } while (0)

/* channel (channels) = the sums over the rows in one wide row, which is undone */
static void fold(const plan *p, float *channel, float *wide) {
    if (p->half)
        undeal(wide, p->width);
    memcpy(channel, wide, (size_t)p->channels * sizeof *channel);
    for (int64_t j = p->channels; j < p->width; j += p->channels)
        for (int64_t i = 0; i < p->channels; i++)
            channel[i] += wide[j + i];
}

/* Runs every piece, on all threads when it pays. */
static void each_piece(const plan *p, void (*run)(const plan *, int64_t piece, float *own)) {
    int parts = p->n < PARALLEL ? 1 : threads();
#pragma omp parallel for num_threads(parts)
    for (int t = 0; t < parts; t++) {
        for (int64_t i = p->pieces * t / parts; i < p->pieces * (t + 1) / parts; i++)
            run(p, i, p->own + t * 2 * p->width);
        stream_end();
    }
}

/* A pass that keeps no sums: its pieces are the tiles. */
static void each_tile(plan *p, void (*run)(const plan *, int64_t piece, float *own)) {
    cut(p, p->tile);
    p->past = p->n * (p->half ? 2 : 4) >= STREAMED && (uintptr_t)p->y % 64 == 0;
    each_piece(p, run);
}

static int64_t least(int64_t a, int64_t b) {
    return a < b ? a : b;
}
static int64_t piece_size(const plan *p, int64_t i) {
    return least(p->n - i * p->piece, p->piece);
}

/* ---- Elements of a tensor: two vectors of them, or one past the last two ---- */
/* Those of g from i on, a multiple of TWO, that have their bit, where there are bits. */
ALWAYS_INLINE two load_gradient(const plan *p, int64_t i, const bool half) {
    two g = load_two(p->g, i, half);
    uint32_t bits = 0;
    if (!p->mask)
        return g;
    memcpy(&bits, p->mask + i / 8, TWO / 8);
    return where_bits(g, bits, half);
}

ALWAYS_INLINE float gradient_at(const plan *p, int64_t i, const bool half) {
    return p->mask && !(p->mask[i / 8] >> i % 8 & 1) ? 0 : element(p->g, i, half);
}

/* Adds to the floats from j on. */
ALWAYS_INLINE void add_two(float *sum, int64_t j, two v) {
    two s = load_two(sum, j, false);
    store_two(sum, j, (two){ s.a + v.a, s.b + v.b }, false, false);
}

/* Where column j of a row stands in a wide vector. */
ALWAYS_INLINE int64_t place(const plan *p, int64_t j, const bool half) {
    return half ? dealt(j, p->width) : j;
}

/* The loops below take the elements from `at`, where a row of width begins, to `end`. */

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

/* A function of a piece from one of rows. */
#define TILE_OF(name, rows)                                                                        \
    static void name(const plan *p, int64_t i, float *own) {                                       \
        int64_t at = i * p->piece, end = at + piece_size(p, i);                                    \
        (void)own;                                                                                 \
        if (p->half)                                                                               \
            p->past ? rows(p, at, end, true, true) : rows(p, at, end, true, false);                \
        else                                                                                       \
            p->past ? rows(p, at, end, false, true) : rows(p, at, end, false, false);              \
    }
TILE_OF(tile_plain, plain_rows)
TILE_OF(tile_relu, relu_rows)

static const float *floats(const tensor *t) {
    return t ? (const float *)t->data : NULL;
}

/* Images (N,...,C) in the kernel's type and vectors in f32; mixtures have the plain loops. */
static bool types_fit(const call *c) {
    for (int i = 0; i < c->nin; i++)
        if (c->in[i] && c->in[i]->dtype != VESTIGE_U8 &&
            c->in[i]->dtype != (c->in[i]->ndim > 1 ? c->type : VESTIGE_F32))
            return false;
    return true;
}

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

/* ---- The gradients: sums of g and g (x - mean), and the apply pass ---- */
/* plain (width) += g, scaled (width) += g (x - mean) */
ALWAYS_INLINE void add_products(const plan *p, float *plain, float *scaled, int64_t at, int64_t end,
                                const bool half) {
    const float *mean = p->wide[0];
    for (const int64_t w = p->width; at < end; at += w) {
        int64_t n = least(w, end - at), j = 0;
        for (; j + TWO <= n; j += TWO) {
            two g = load_gradient(p, at + j, half), x = load_two(p->x, at + j, half);
            two m = load_two(mean, j, false);
            add_two(plain, j, g);
            add_two(scaled, j, (two){ g.a * (x.a - m.a), g.b * (x.b - m.b) });
        }
        for (; j < n; j++) {
            int64_t k = place(p, j, half);
            float g = gradient_at(p, at + j, half);
            plain[k] += g;
            scaled[k] += g * (element(p->x, at + j, half) - mean[k]);
        }
    }
}

static void piece_sums(const plan *p, int64_t i, float *own) {
    float *partial = p->partial + i * 2 * p->channels;
    int64_t at = i * p->piece, end = at + piece_size(p, i), w = p->width;
    memset(own, 0, (size_t)(2 * w) * sizeof *own);
    if (p->half)
        add_products(p, own, own + w, at, end, true);
    else
        add_products(p, own, own + w, at, end, false);
    fold(p, partial, own);
    fold(p, partial + p->channels, own + w);
}

static const uint8_t *bits(const tensor *t) {
    return t ? (const uint8_t *)t->data : NULL;
}

static int sums(const call *c) {
    const tensor *x = c->in[1];
    if (!types_fit(c) || x->numel == 0)
        return DECLINED;
    const float *invstd = floats(c->in[3]);
    float *dw = (float *)c->out[0]->data, *db = (float *)c->out[1]->data;
    plan p;
    TRY(plan_open(&p, x, true));
    p.g = c->in[0]->data;
    p.x = x->data;
    p.mask = bits(c->in[4]);
    repeat(&p, p.wide[0], floats(c->in[2]));
    each_piece(&p, piece_sums);
    for (int64_t k = 0; k < p.channels; k++) {
        double plain = 0, scaled = 0;
        for (int64_t i = 0; i < p.pieces; i++) {
            plain += p.partial[i * 2 * p.channels + k];
            scaled += p.partial[(i * 2 + 1) * p.channels + k];
        }
        dw[k] = (float)(scaled * invstd[k]);
        db[k] = (float)plain;
    }
    plan_close(&p);
    return VESTIGE_OK;
}

/* dx = scale (g - shift - (x - mean) slope) */
ALWAYS_INLINE void input_rows(const plan *p, int64_t at, int64_t end, const bool half,
                              const bool past) {
    const float *mean = p->wide[0], *scale = p->wide[1], *shift = p->wide[2], *slope = p->wide[3];
    for (const int64_t w = p->width; at < end; at += w) {
        int64_t n = least(w, end - at), j = 0;
        for (; j + TWO <= n; j += TWO) {
            two g = load_gradient(p, at + j, half), x = load_two(p->x, at + j, half);
            two m = load_two(mean, j, false), s = load_two(scale, j, false);
            two t = load_two(shift, j, false), u = load_two(slope, j, false);
            g.a = s.a * ((g.a - t.a) - (x.a - m.a) * u.a);
            g.b = s.b * ((g.b - t.b) - (x.b - m.b) * u.b);
            store_two(p->y, at + j, g, half, past);
        }
        for (; j < n; j++) {
            int64_t k = place(p, j, half);
            float x = element(p->x, at + j, half) - mean[k], g = gradient_at(p, at + j, half);
            set_element(p->y, at + j, scale[k] * ((g - shift[k]) - x * slope[k]), half);
        }
    }
}

TILE_OF(tile_input, input_rows)

/* In evaluation dx = scale g. */
ALWAYS_INLINE void scale_rows(const plan *p, int64_t at, int64_t end, const bool half,
                              const bool past) {
    const float *scale = p->wide[1];
    for (const int64_t w = p->width; at < end; at += w) {
        int64_t n = least(w, end - at), j = 0;
        for (; j + TWO <= n; j += TWO) {
            two g = load_gradient(p, at + j, half), s = load_two(scale, j, false);
            store_two(p->y, at + j, (two){ s.a * g.a, s.b * g.b }, half, past);
        }
        for (; j < n; j++)
            set_element(p->y, at + j, scale[place(p, j, half)] * gradient_at(p, at + j, half),
                        half);
    }
}

TILE_OF(tile_scale, scale_rows)

static int input(const call *c) {
    const tensor *g = c->in[0], *x = c->in[1];
    if (!types_fit(c) || g->numel == 0)
        return DECLINED;
    const float *weight = floats(c->in[2]), *invstd = floats(c->in[4]);
    const float *dw = floats(c->in[5]), *db = floats(c->in[6]);
    plan p;
    TRY(plan_open(&p, g, false));
    p.g = g->data;
    p.x = x ? x->data : NULL;
    p.y = c->out[0]->data;
    p.mask = bits(c->in[7]);
    FILL(&p, p.wide[1], weight ? invstd[i] * weight[i] : invstd[i]);
    if (option(c, "training") != 0) {
        float rows = (float)(p.n / p.channels);
        repeat(&p, p.wide[0], floats(c->in[3]));
        FILL(&p, p.wide[2], db[i] / rows);
        FILL(&p, p.wide[3], invstd[i] * dw[i] / rows);
        each_tile(&p, tile_input);
    } else {
        each_tile(&p, tile_scale);
    }
    plan_close(&p);
    return VESTIGE_OK;
}

/* ---- g where a bit is set ---- */
static void masked_floats(float *y, const float *g, const uint8_t *mask, int64_t n) {
    int64_t i = 0;
    for (; i + 16 <= n; i += 16) {
        unsigned bits = mask[i / 8] | (unsigned)mask[i / 8 + 1] << 8;
#pragma GCC unroll 4
        for (int l = 0; l < 16; l += LANES)
            vstore(y + i + l, (vf)((vi)vload(g + i + l) & lanes_of_bits(bits >> l)));
    }
    for (; i < n; i++)
        y[i] = mask[i / 8] >> i % 8 & 1 ? g[i] : 0;
}

static void masked_halves(uint16_t *y, const uint16_t *g, const uint8_t *mask, int64_t n) {
    typedef uint16_t halves __attribute__((vector_size(32), may_alias, aligned(2)));
    halves lane = { 0 };
    int64_t i = 0;
    for (int l = 0; l < 16; l++)
        lane[l] = (uint16_t)(1 << l);
    for (; i + 16 <= n; i += 16) {
        const uint16_t bits = (uint16_t)(mask[i / 8] | mask[i / 8 + 1] << 8);
        *(halves *)(y + i) = *(const halves *)(g + i) & (halves)((lane & bits) == lane);
    }
    for (; i < n; i++)
        y[i] = mask[i / 8] >> i % 8 & 1 ? g[i] : 0;
}

static int masked(const call *c) {
    const tensor *g = c->in[0];
    const uint8_t *mask = (const uint8_t *)c->in[1]->data;
    char *y = c->out[0]->data;
    int64_t size = c->type == VESTIGE_BF16 ? 2 : 4, pieces = (g->numel + PIECE - 1) / PIECE;
#pragma omp parallel for num_threads(g->numel < PARALLEL ? 1 : threads())
    for (int64_t i = 0; i < pieces; i++) {
        int64_t at = i * PIECE, n = g->numel - at < PIECE ? g->numel - at : PIECE;
        if (size == 2)
            masked_halves((uint16_t *)(y + at * 2), (const uint16_t *)(g->data + at * 2),
                          mask + at / 8, n);
        else
            masked_floats((float *)(y + at * 4), (const float *)(g->data + at * 4), mask + at / 8,
                          n);
    }
    return VESTIGE_OK;
}

const kernel_row K(cpu_norm)[] = {
    { "masked_by_bits", VESTIGE_F32, masked },
    { "masked_by_bits", VESTIGE_BF16, masked },
    { "batch_norm", VESTIGE_F32, batch_norm },
    { "batch_norm", VESTIGE_BF16, batch_norm },
    { "batch_norm_relu", VESTIGE_F32, batch_norm },
    { "batch_norm_relu", VESTIGE_BF16, batch_norm },
    { "batch_norm_apply", VESTIGE_F32, apply },
    { "batch_norm_apply", VESTIGE_BF16, apply },
    { "batch_norm_statistics", VESTIGE_F32, statistics },
    { "batch_norm_statistics", VESTIGE_BF16, statistics },
    { "batch_norm_sums", VESTIGE_F32, sums },
    { "batch_norm_sums", VESTIGE_BF16, sums },
    { "batch_norm_input", VESTIGE_F32, input },
    { "batch_norm_input", VESTIGE_BF16, input },
    { 0 },
};
