/* norm.c: batch_norm and its parts, at the speed of memory: images in f32 or bf16, vectors of
 * channels in f32.
 *
 * Channels are last, so the loops run over whole rows and the compiler makes vectors of them. A
 * narrow row would waste them: several rows of few channels are taken as one wide row, the vectors
 * of channels repeated to match. A tensor is cut into pieces of wide rows, by its shape alone; the
 * statistics of each piece are kept and then added in order, in double, so the bits do not depend
 * on the number of threads. Within a piece sums are short: f32 holds them well. The variance takes
 * two passes over a piece that is still in the cache, and one over memory.
 *
 * What is not read and written as it is goes by tiles that stay in the first cache: bf16 is widened
 * there and rounded from there, a gradient is masked there, and a large result waits there to go
 * past the caches, for memory bounds all of this and a line that is written whole need not be read
 * first. */
#include <math.h>
#include "cpu/half.h"
#include "cpu/stream.h"

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
    int64_t each;        /* floats of a thread's own */
    float *own;     /* (threads, each): sums (2, width), a tile of x or y, one of g or residual */
    float *wide[4]; /* (width): channel vectors repeated */
    void *scratch;
    int64_t bytes;
} plan;

static int64_t width_of(int64_t channels) {
    int64_t width = channels;
    if (channels >= WIDE)
        return width;
    while (width % LANES != 0) /* odd channels need at most LANES rows */
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
    p->each = 2 * width + 2 * p->tile;
    p->bytes = (kept + threads() * p->each + 4 * width) * (int64_t)sizeof(float);
    TRY(alloc_scratch(&p->scratch, p->bytes));
    p->partial = p->scratch;
    p->own = p->partial + kept;
    for (int i = 0; i < 4; i++)
        p->wide[i] = p->own + threads() * p->each + i * width;
    return VESTIGE_OK;
}

static void plan_close(const plan *p) {
    free_scratch(p->scratch, p->bytes);
}

/* wide (width) = channel (channels) repeated */
static void repeat(const plan *p, float *wide, const float *channel) {
    for (int64_t j = 0; j < p->width; j += p->channels)
        memcpy(wide + j, channel, (size_t)p->channels * sizeof *wide);
}

/* wide becomes a value of each channel computed from i */
#define FILL(p, to, value)                                                                         \
    do {                                                                                           \
        float *to_ = (to);                                                                         \
        for (int64_t i = 0; i < (p)->channels; i++)                                                \
            to_[i] = (value);                                                                      \
        for (int64_t j = (p)->channels; j < (p)->width; j += (p)->channels)                        \
            memcpy(to_ + j, to_, (size_t)(p)->channels * sizeof *to_);                             \
    } while (0)

/* channel (channels) = the sums over the rows in one wide row */
static void fold(const plan *p, float *channel, const float *wide) {
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
            run(p, i, p->own + t * p->each);
        stream_end();
    }
}

/* A pass that keeps no sums: its pieces are the tiles. */
static void each_tile(plan *p, void (*run)(const plan *, int64_t piece, float *own)) {
    cut(p, p->tile);
    p->past =
        p->n * (p->half ? 2 : 4) >= STREAMED && p->tile % 32 == 0 && (uintptr_t)p->y % 64 == 0;
    each_piece(p, run);
}

static int64_t least(int64_t a, int64_t b) {
    return a < b ? a : b;
}
static int64_t piece_size(const plan *p, int64_t i) {
    return least(p->n - i * p->piece, p->piece);
}

/* ---- Tiles ---- */
/* A thread's k-th. */
static float *tile_of(const plan *p, float *own, int k) {
    return own + 2 * p->width + k * p->tile;
}

/* n elements from `at` on as floats; of bf16 in the k-th tile. */
static const float *read_tile(const plan *p, const char *from, int64_t at, int64_t n, float *own,
                              int k) {
    if (!p->half)
        return (const float *)from + at;
    float *tile = tile_of(p, own, k);
    widen(tile, (const uint16_t *)from + at, n);
    return tile;
}

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

static const float *read_x(const plan *p, int64_t at, int64_t n, float *own) {
    return read_tile(p, p->x, at, n, own, 0);
}
static const float *read_g(const plan *p, int64_t at, int64_t n, float *own) {
    const float *g = read_tile(p, p->g, at, n, own, 1);
    if (!p->mask)
        return g;
    float *tile = tile_of(p, own, 1);
    masked_floats(tile, g, p->mask + at / 8, n);
    return tile;
}

/* Where tile i of y is computed: in place, or in x's tile, from which end_tile() takes it. An
 * element is written after it is read. */
static float *begin_tile(const plan *p, int64_t i, float *own) {
    return p->half || p->past ? tile_of(p, own, 0) : (float *)p->y + i * p->piece;
}
static void end_tile(const plan *p, int64_t i, float *y) {
    int64_t n = piece_size(p, i);
    char *to = p->y + i * p->piece * (p->half ? 2 : 4);
    if (p->half)
        narrow(p->past ? (uint16_t *)y : (uint16_t *)to, y, n);
    if (p->past)
        stream(to, y, n * (p->half ? 2 : 4));
}

/* ---- Statistics ---- */
/* sum (width) += x (rows of width, the last may be cut short), four rows at a time */
static void add_rows(float *restrict sum, const float *x, int64_t n, int64_t width) {
    for (; n >= 4 * width; n -= 4 * width, x += 4 * width)
        for (int64_t j = 0; j < width; j++)
            sum[j] += (x[j] + x[j + width]) + (x[j + 2 * width] + x[j + 3 * width]);
    for (; n > 0; n -= width, x += width)
        for (int64_t j = 0; j < (n < width ? n : width); j++)
            sum[j] += x[j];
}

/* sum (width) += (x - mean)^2 */
static void add_squares(float *restrict sum, const float *x, const float *restrict mean, int64_t n,
                        int64_t width) {
    for (; n >= 2 * width; n -= 2 * width, x += 2 * width)
        for (int64_t j = 0; j < width; j++) {
            float a = x[j] - mean[j], b = x[j + width] - mean[j];
            sum[j] += a * a + b * b;
        }
    for (; n > 0; n -= width, x += width)
        for (int64_t j = 0; j < (n < width ? n : width); j++)
            sum[j] += (x[j] - mean[j]) * (x[j] - mean[j]);
}

static void fetch(const char *from, int64_t bytes) {
    for (int64_t i = 0; i < bytes; i += 64)
        __builtin_prefetch(from + i, 0, 2);
}

/* partial: the piece's mean and its sum of squares about that mean. The second pass, over what is
 * in the cache, fetches the next piece. */
static void piece_moments(const plan *p, int64_t i, float *own) {
    int64_t n = piece_size(p, i), start = i * p->piece, c = p->channels;
    float *mean = p->partial + i * 2 * c, *squares = mean + c, *wide = own + p->width;
    float rows = (float)(n / c);
    memset(own, 0, (size_t)p->width * sizeof *own);
    for (int64_t at = 0, m; at < n; at += m) {
        m = least(p->tile, n - at);
        add_rows(own, read_x(p, start + at, m, own), m, p->width);
    }
    fold(p, mean, own);
    for (int64_t k = 0; k < c; k++)
        mean[k] /= rows;
    repeat(p, wide, mean);
    memset(own, 0, (size_t)p->width * sizeof *own);
    for (int64_t at = 0, m, size = p->half ? 2 : 4; at < n; at += m) {
        m = least(p->tile, n - at);
        fetch(p->x + (start + at + p->piece) * size, m * size);
        add_squares(own, read_x(p, start + at, m, own), wide, m, p->width);
    }
    fold(p, squares, own);
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
/* relu keeps a NaN, whose bit is 0. */
ALWAYS_INLINE void apply_rows(const plan *p, float *y, const float *x, const float *residual,
                              int64_t n, const bool relu) {
    const float *mean = p->wide[0], *scale = p->wide[1], *shift = p->wide[2];
    for (int64_t w = p->width; n > 0; n -= w, x += w, y += w, residual += residual ? w : 0)
#pragma GCC ivdep
        for (int64_t j = 0; j < (n < w ? n : w); j++) {
            float v = (x[j] - mean[j]) * scale[j] + shift[j];
            if (residual)
                v += residual[j];
            y[j] = relu && v <= 0 ? 0 : v;
        }
}

/* signs: bit e % 8 of byte e / 8 where y[e] > 0 */
static void write_signs(uint8_t *signs, const float *y, int64_t n) {
    int64_t i = 0;
    for (; i + 16 <= n; i += 16) {
        unsigned bits = 0;
#pragma GCC unroll 4
        for (int l = 0; l < 16; l += LANES)
            bits |= positive_bits(vload(y + i + l)) << l;
        const uint16_t two = (uint16_t)bits;
        memcpy(signs + i / 8, &two, 2);
    }
    for (; i < n; i++) {
        if (i % 8 == 0)
            signs[i / 8] = 0;
        signs[i / 8] |= (uint8_t)((y[i] > 0) << i % 8);
    }
}

static void tile_apply(const plan *p, int64_t i, float *own) {
    int64_t at = i * p->piece, n = piece_size(p, i);
    const float *x = read_x(p, at, n, own);
    const float *r = p->residual ? read_tile(p, p->residual, at, n, own, 1) : NULL;
    float *y = begin_tile(p, i, own);
    if (!p->signs)
        r ? apply_rows(p, y, x, r, n, false) : apply_rows(p, y, x, NULL, n, false);
    else {
        r ? apply_rows(p, y, x, r, n, true) : apply_rows(p, y, x, NULL, n, true);
        write_signs(p->signs + at / 8, y, n);
    }
    end_tile(p, i, y);
}

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
    each_tile(p, tile_apply);
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
static void add_products(float *restrict plain, float *restrict scaled, const float *restrict g,
                         const float *restrict x, const float *restrict mean, int64_t n,
                         int64_t w) {
    for (; n >= 2 * w; n -= 2 * w, x += 2 * w, g += 2 * w)
        for (int64_t j = 0; j < w; j++) {
            plain[j] += g[j] + g[j + w];
            scaled[j] += g[j] * (x[j] - mean[j]) + g[j + w] * (x[j + w] - mean[j]);
        }
    for (; n > 0; n -= w, x += w, g += w)
        for (int64_t j = 0; j < (n < w ? n : w); j++) {
            plain[j] += g[j];
            scaled[j] += g[j] * (x[j] - mean[j]);
        }
}

static void piece_sums(const plan *p, int64_t i, float *own) {
    float *partial = p->partial + i * 2 * p->channels;
    int64_t start = i * p->piece, n = piece_size(p, i), w = p->width;
    memset(own, 0, (size_t)(2 * w) * sizeof *own);
    for (int64_t at = 0, m; at < n; at += m) {
        m = least(p->tile, n - at);
        const float *x = read_x(p, start + at, m, own), *g = read_g(p, start + at, m, own);
        add_products(own, own + w, g, x, p->wide[0], m, w);
    }
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
static void tile_input(const plan *p, int64_t i, float *own) {
    int64_t n = piece_size(p, i), w = p->width, at = i * p->piece;
    const float *x = read_x(p, at, n, own), *g = read_g(p, at, n, own);
    const float *mean = p->wide[0], *scale = p->wide[1], *shift = p->wide[2], *slope = p->wide[3];
    float *dx = begin_tile(p, i, own), *first = dx;
    for (; n > 0; n -= w, x += w, g += w, dx += w)
#pragma GCC ivdep
        for (int64_t j = 0; j < (n < w ? n : w); j++)
            dx[j] = scale[j] * ((g[j] - shift[j]) - (x[j] - mean[j]) * slope[j]);
    end_tile(p, i, first);
}

/* In evaluation dx = scale g. */
static void tile_scale(const plan *p, int64_t i, float *own) {
    int64_t n = piece_size(p, i), w = p->width;
    const float *g = read_g(p, i * p->piece, n, own), *scale = p->wide[1];
    float *dx = begin_tile(p, i, own), *first = dx;
    for (; n > 0; n -= w, g += w, dx += w)
#pragma GCC ivdep
        for (int64_t j = 0; j < (n < w ? n : w); j++)
            dx[j] = scale[j] * g[j];
    end_tile(p, i, first);
}

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
