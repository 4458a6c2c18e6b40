/* norm.h: what batch norm and its gradients share. They run at the speed of memory, on images in
 * f32 or bf16 and vectors of channels in f32.
 *
 * Channels are last, so the loops run over whole rows. A narrow row would waste their vectors:
 * several rows of few channels are taken as one wide row, the vectors of channels repeated to
 * match. A tensor is cut into pieces of wide rows, by its shape alone; the statistics of each piece
 * are kept and then added in order, in double, so the bits do not depend on the number of threads.
 * Within a piece sums are short: f32 holds them well. The variance takes two passes over a piece
 * that is still in the cache, and one over memory. A large result goes past the caches: memory
 * bounds all of this, and a line that is written whole need not be read first. */
#ifndef VESTIGE_CPU_NORM_H
#define VESTIGE_CPU_NORM_H

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
static inline int64_t width_of(int64_t channels) {
    int64_t width = channels;
    while (width % TWO != 0)
        width += channels;
    return width * ((WIDE + width - 1) / width);
}

/* About so many elements, in whole bytes of mask. */
static inline int64_t eights(const plan *p, int64_t elements) {
    int64_t rows = elements / p->width / 8 * 8;
    return (rows > 8 ? rows : 8) * p->width;
}

static inline void cut(plan *p, int64_t piece) {
    p->piece = piece;
    p->pieces = (p->n + piece - 1) / piece;
}

/* partials: does the kernel keep sums of the pieces? */
static inline int plan_open(plan *p, const tensor *x, bool partials) {
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

static inline void plan_close(const plan *p) {
    free_scratch(p->scratch, p->bytes);
}

/* wide (width) = channel (channels) repeated, in the order in which rows are read */
static inline void repeat(const plan *p, float *wide, const float *channel) {
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
static inline void fold(const plan *p, float *channel, float *wide) {
    if (p->half)
        undeal(wide, p->width);
    memcpy(channel, wide, (size_t)p->channels * sizeof *channel);
    for (int64_t j = p->channels; j < p->width; j += p->channels)
        for (int64_t i = 0; i < p->channels; i++)
            channel[i] += wide[j + i];
}

/* Runs every piece, on all threads when it pays. */
static inline void each_piece(const plan *p, void (*run)(const plan *, int64_t piece, float *own)) {
    int parts = p->n < PARALLEL ? 1 : threads();
#pragma omp parallel for num_threads(parts)
    for (int t = 0; t < parts; t++) {
        for (int64_t i = p->pieces * t / parts; i < p->pieces * (t + 1) / parts; i++)
            run(p, i, p->own + t * 2 * p->width);
        stream_end();
    }
}

/* A pass that keeps no sums: its pieces are the tiles. */
static inline void each_tile(plan *p, void (*run)(const plan *, int64_t piece, float *own)) {
    cut(p, p->tile);
    p->past = p->n * (p->half ? 2 : 4) >= STREAMED && (uintptr_t)p->y % 64 == 0;
    each_piece(p, run);
}

static inline int64_t least(int64_t a, int64_t b) {
    return a < b ? a : b;
}
static inline int64_t piece_size(const plan *p, int64_t i) {
    return least(p->n - i * p->piece, p->piece);
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
static inline const float *floats(const tensor *t) {
    return t ? (const float *)t->data : NULL;
}

/* Images (N,...,C) in the kernel's type and vectors in f32; mixtures have the plain loops. */
static inline bool types_fit(const call *c) {
    for (int i = 0; i < c->nin; i++)
        if (c->in[i] && c->in[i]->dtype != VESTIGE_U8 &&
            c->in[i]->dtype != (c->in[i]->ndim > 1 ? c->type : VESTIGE_F32))
            return false;
    return true;
}

#endif
