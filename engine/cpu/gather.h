/* Which rows of an image a convolution meets: the geometry of conv.c, which explains it, and of
 * conv_pairs.c, whose images are of bf16 and counted in pairs of channels. */
#ifndef VESTIGE_CPU_GATHER_H
#define VESTIGE_CPU_GATHER_H

#include "cpu/conv.h"
#include "cpu/scratch.h"
#include "cpu/tile.h"
#include "core/threads.h"

#define KC (LANES == 16 ? 384 : 256)
#define MB 192 /* pixels of a task */

/* Where the rows of a group of images are: entry e = position * images + image. */
struct map {
    int64_t images, entries, tiles; /* tiles = ceil(entries / MR) */
    int32_t *in;                    /* (taps, tiles * MR) floats from the group's start, or -1 */
    int32_t *out;                   /* (tiles * MR), -1 beyond the end */
    uint16_t *live;                 /* (pieces, tiles, 1 + piece_taps): count, then the taps */
};

/* ci counts pairs where x is of bf16: a pair stands for a float. */
struct gather {
    const struct cpu_conv *g;
    bool back; /* input gradient */
    struct conv_ends e;
    int64_t n, taps;
    int64_t seg_len;      /* floats of a row used in one piece */
    int64_t blocks_of_ci; /* pieces a tap when ci > KC */
    int64_t piece_taps;   /* taps a piece otherwise */
    int64_t pieces;
    int64_t panels;
    int workers;
    struct map full, rest; /* groups of full.images, and the last group */
    int32_t *at;           /* (h * w, 2) positions in order */
    float *weights;        /* (panels, taps * ci, NR) */
    float *bias;           /* (panels * NR) */
    float *zero;           /* ci zeros */
    float *spare;          /* workers x (panels * NR), of floats */
    float *sums;           /* workers x (MB, NR), of pairs */
    float **rows;          /* workers x (taps, MB) */
};

static inline void lay_map(struct map *m, const struct gather *p, int64_t images,
                           struct scratch *s) {
    m->images = images;
    m->entries = p->e.h * p->e.w * images;
    m->tiles = ceil_div(m->entries, MR);
    m->in = scratch_take(s, p->taps * m->tiles * MR * 4);
    m->out = scratch_take(s, m->tiles * MR * 4);
    m->live = scratch_take(s, p->pieces * m->tiles * (1 + p->piece_taps) * 2);
}

/* Fills *p; gives the bytes of scratch, or -1 for what is not done this way. */
static inline int64_t gather_layout(struct gather *p, const struct cpu_conv *g, bool back,
                                    bool pairs, void *base) {
    *p = (struct gather){ .g = g, .back = back, .n = g->n, .taps = g->kh * g->kw };
    p->e = conv_ends_of(g, back);
    if (pairs)
        p->e.ci /= 2;
    if (p->taps > UINT16_MAX)
        return -1;
    int64_t whole = p->taps * p->e.ci;
    p->piece_taps = 1;
    p->blocks_of_ci = imax(1, ceil_div(p->e.ci, KC));
    p->seg_len = ceil_div(p->e.ci, p->blocks_of_ci);
    p->pieces = p->blocks_of_ci * p->taps;
    if (p->blocks_of_ci == 1) {
        int64_t most = imax(1, KC / imax(1, p->e.ci));
        p->pieces = imax(1, ceil_div(p->taps, most));
        p->piece_taps = ceil_div(p->taps, p->pieces);
    }
    p->panels = ceil_div(p->e.co, NR);
    p->workers = p->n * p->e.h * p->e.w * p->e.co * whole < 500000 ? 1 : threads();

    int64_t area = p->e.h * p->e.w;
    int64_t images = area ? imin(p->n, MR * ceil_div(MB, area * MR)) : 0;
    if (images * imax(area * p->e.co, p->e.in_h * p->e.in_w * p->e.ci) > INT32_MAX)
        return -1;
    struct scratch s = scratch_open(base);
    lay_map(&p->full, p, images, &s);
    lay_map(&p->rest, p, images ? p->n % images : 0, &s);
    p->at = scratch_take(&s, area * 8);
    p->weights = scratch_take(&s, p->panels * whole * NR * 4);
    p->bias = scratch_take(&s, p->panels * NR * 4);
    p->zero = scratch_take(&s, p->e.ci * 4);
    p->spare = scratch_take(&s, pairs ? 0 : p->workers * p->panels * NR * 4);
    p->rows = scratch_take(&s, p->workers * p->taps * MB * (int64_t)sizeof(float *));
    p->sums = scratch_take(&s, pairs ? p->workers * MB * NR * 4 : 0);
    return scratch_bytes(&s);
}

static inline void order_positions(const struct gather *p) {
    int32_t *at = p->at;
    int64_t sh = p->back ? p->g->sh : 1, sw = p->back ? p->g->sw : 1;
    for (int64_t a = 0; a < sh; a++)
        for (int64_t b = 0; b < sw; b++)
            for (int64_t y = a; y < p->e.h; y += sh)
                for (int64_t x = b; x < p->e.w; x += sw) {
                    *at++ = (int32_t)y;
                    *at++ = (int32_t)x;
                }
}

/* Row (or column) of the input that output row y meets at tap t, or -1. */
static inline int64_t meets(bool back, int64_t y, int64_t t, int64_t stride, int64_t padding,
                            int64_t dilation, int64_t size) {
    int64_t i;
    if (back) {
        i = y + padding - t * dilation;
        if (i < 0 || i % stride != 0)
            return -1;
        i /= stride;
    } else {
        i = y * stride - padding + t * dilation;
    }
    return i >= 0 && i < size ? i : -1;
}

static inline void fill_map(const struct map *m, const struct gather *p) {
    const struct cpu_conv *g = p->g;
    int64_t padded = m->tiles * MR, in_image = p->e.in_h * p->e.in_w * p->e.ci;
    int64_t area = p->e.h * p->e.w;
    for (int64_t i = 0; i < padded; i++)
        m->out[i] = -1;
    for (int64_t i = 0, e = 0; i < area; i++)
        for (int64_t n = 0; n < m->images; n++, e++) {
            int64_t pixel = p->at[2 * i] * p->e.w + p->at[2 * i + 1];
            m->out[e] = (int32_t)((n * area + pixel) * p->e.co);
        }
    for (int64_t t = 0; t < p->taps; t++) {
        int32_t *in = m->in + t * padded;
        for (int64_t i = 0, e = 0; i < area; i++) {
            int64_t y = meets(p->back, p->at[2 * i], t / g->kw, g->sh, g->ph, g->dh, p->e.in_h);
            int64_t x = meets(p->back, p->at[2 * i + 1], t % g->kw, g->sw, g->pw, g->dw, p->e.in_w);
            bool inside = y >= 0 && x >= 0;
            int64_t first = (y * p->e.in_w + x) * p->e.ci;
            for (int64_t n = 0; n < m->images; n++, e++)
                in[e] = inside ? (int32_t)(n * in_image + first) : -1;
        }
        for (int64_t e = m->entries; e < padded; e++)
            in[e] = -1;
    }
    for (int64_t q = 0; q < p->pieces; q++) {
        int64_t t0 = q / p->blocks_of_ci * p->piece_taps;
        int64_t t1 = imin(p->taps, t0 + p->piece_taps);
        for (int64_t i = 0; i < m->tiles; i++) {
            uint16_t *live = m->live + (q * m->tiles + i) * (1 + p->piece_taps);
            live[0] = 0;
            for (int64_t t = t0; t < t1; t++) {
                bool any = false;
                for (int64_t e = i * MR; e < (i + 1) * MR; e++)
                    any |= m->in[t * padded + e] >= 0;
                if (any)
                    live[++live[0]] = (uint16_t)t;
            }
        }
    }
}

/* The count x taps row pointers of a block that starts at entry e0. */
static inline void gather_rows(const struct gather *p, const struct map *m, const float *x,
                               int64_t e0, int64_t count, const float **rows) {
    for (int64_t t = 0; t < p->taps; t++) {
        const int32_t *in = m->in + t * m->tiles * MR + e0;
        for (int64_t i = 0; i < count; i++)
            rows[t * MB + i] = in[i] < 0 ? p->zero : x + in[i];
    }
}

static inline void gather_start(const struct gather *p) {
    order_positions(p);
    fill_map(&p->full, p);
    if (p->rest.images)
        fill_map(&p->rest, p);
    memset(p->zero, 0, (size_t)p->e.ci * 4);
}

/* Panels of a task, where there are so many blocks of pixels. */
static inline int64_t gather_width(const struct gather *p, int64_t blocks) {
    int64_t cuts = imin(p->panels, ceil_div(4 * p->workers, blocks));
    return ceil_div(p->panels, p->workers == 1 ? 1 : cuts);
}

#endif
