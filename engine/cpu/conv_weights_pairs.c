/* Weight gradient of a convolution in bf16 on pairs: dw[o][t][c] = sum over pixels p of
 * dy[p][o] x[t(p)][c].
 *
 * The sum runs over pixels, so two of them make a pair: a row is the pixels 2i and 2i+1 of dy. Rows
 * of dy are packed as (o / MR, BLOCK, MR) for all threads, a chunk at a time. A task takes a tap
 * and a panel of channels; it packs what the tap meets, (rows, NR), BLOCK rows at a time, without
 * those that lie outside the image, and sums them with all rows of dy. The bits do not depend on
 * the number of threads, because a sum is one task's and all of them walk the pixels in order.
 *
 * 3x3 convolutions go to Winograd's kernels where that pays, few channels to
 * conv_weights.c. What remains for the f32 kernels: groups, and images of less than 8 channels
 * whose outputs have an odd number of columns.
 */
#include "cpu/f32.h"
#include "cpu/few.h"
#include "cpu/pairs.h"
#include "cpu/scratch.h"
#include "cpu/strided.h"
#include "cpu/winograd_pairs.h"
#include "core/interrupt.h"
#include "core/threads.h"
#include <omp.h>

#define BLOCK 96 /* rows summed in registers: a panel of x is 12 KB */
/* Pixels of a chunk: as many as CHUNK_BYTES hold, between CHUNK_LEAST and ten times that. Threads
 * wait for each other twice a chunk. */
#define CHUNK_BYTES (6 << 20)
#define CHUNK_LEAST 3072

#if PAIRS
struct weights {
    const struct cpu_conv *g;
    int64_t taps;
    int64_t images, rows;   /* most images and output rows a chunk; rows < oh only if images = 1 */
    int64_t pixels, blocks; /* of the largest chunk; pixels is even */
    int64_t o_tiles, panels;
    int workers;
    float *dy;      /* (blocks, o_tiles, BLOCK, MR) pairs */
    int32_t *at;    /* (taps, pixels): where in the chunk's images the channels are, or -1 */
    float *x;       /* workers x (BLOCK, NR) pairs */
    float *lines;   /* workers x (o_tiles * MR + LANES) pairs */
    float *sums;    /* (o, taps, c) */
    float *spare;   /* workers x (taps, c) */
    uint16_t *zero; /* max(c, o) zeros */
};

/* Images n0 .. n0+images, output rows y0 .. y0+rows. */
struct chunk {
    int64_t n0, images, y0, rows;
};

static int64_t layout(struct weights *p, const struct cpu_conv *g, void *base) {
    *p = (struct weights){ .g = g, .taps = g->kh * g->kw };
    int64_t area = g->oh * g->ow;
    int64_t chunk = CHUNK_BYTES / (2 * g->o + 4 * p->taps + 1);
    chunk = imin(10 * CHUNK_LEAST, imax(CHUNK_LEAST, chunk));
    p->images = imin(g->n, imax(1, chunk / imax(1, area)));
    p->rows = area <= chunk ? g->oh : imax(1, chunk / g->ow);
    p->pixels = ceil_div(p->images * p->rows * g->ow, 2) * 2;
    p->blocks = ceil_div(p->pixels, 2 * BLOCK);
    p->o_tiles = ceil_div(g->o, MR);
    p->panels = ceil_div(g->c, NR);
    p->workers = g->n * area * g->o * p->taps * g->c < 1000000 ? 1 : threads();
    if (p->images * g->h * g->w * g->c > INT32_MAX)
        return -1;
    struct scratch s = scratch_open(base);
    p->dy = scratch_take(&s, p->blocks * p->o_tiles * BLOCK * MR * 4);
    p->at = scratch_take(&s, p->taps * p->pixels * 4);
    p->x = scratch_take(&s, (int64_t)p->workers * BLOCK * NR * 4);
    p->lines = scratch_take(&s, p->workers * (p->o_tiles * MR + LANES) * 4);
    p->sums = scratch_take(&s, g->o * p->taps * g->c * 4);
    p->spare = scratch_take(&s, p->workers * p->taps * g->c * 4);
    p->zero = scratch_take(&s, imax(g->c, g->o) * 2);
    return scratch_bytes(&s);
}

static bool takes(const struct cpu_conv *g) {
    return g->groups == 1 && g->c >= 8;
}

bool K(cpu_pairs_weights_winograd)(const struct cpu_conv *g) {
    return K(cpu_winograd_pairs_weights_takes)(g) || K(cpu_strided_pairs_weights_takes)(g);
}

int64_t K(cpu_pairs_weights_scratch)(const struct cpu_conv *g) {
    struct weights p;
    if (K(cpu_winograd_pairs_weights_takes)(g))
        return K(cpu_winograd_pairs_weights_scratch)(g);
    if (K(cpu_strided_pairs_weights_takes)(g))
        return K(cpu_strided_pairs_weights_scratch)(g);
    if (K(cpu_few_pairs_weights_takes)(g))
        return K(cpu_few_pairs_weights_scratch)(g);
    return takes(g) ? layout(&p, g, NULL) : -1;
}

/* What tap t meets at each pixel of the chunk. */
static void find_pixels(const struct weights *p, const struct chunk *k, int64_t t) {
    const struct cpu_conv *g = p->g;
    int64_t ty = t / g->kw * g->dh - g->ph, tx = t % g->kw * g->dw - g->pw;
    int32_t *at = p->at + t * p->pixels, *end = at + p->pixels;
    for (int64_t n = 0; n < k->images; n++)
        for (int64_t y = k->y0; y < k->y0 + k->rows; y++) {
            int64_t iy = y * g->sh + ty, row = (n * g->h + iy) * g->w;
            for (int64_t x = 0; x < g->ow; x++) {
                int64_t ix = x * g->sw + tx;
                bool inside = iy >= 0 && iy < g->h && ix >= 0 && ix < g->w;
                *at++ = inside ? (int32_t)((row + ix) * g->c) : -1;
            }
        }
    while (at < end)
        *at++ = -1;
}

/* A block of dy (pixels of the chunk, o). */
static void pack_dy(const struct weights *p, const uint16_t *dy, int64_t pixels, int worker,
                    int64_t block) {
    int64_t o = p->g->o, first = block * BLOCK, last = imin(ceil_div(pixels, 2), first + BLOCK);
    float *line = p->lines + worker * (p->o_tiles * MR + LANES);
    memset(line + o, 0, (size_t)(p->o_tiles * MR - o) * 4);
    for (int64_t r = first; r < last; r++) {
        const uint16_t *even = dy + 2 * r * o;
        zip(line, even, 2 * r + 1 < pixels ? even + o : p->zero, o);
        float *to = p->dy + (block * p->o_tiles * BLOCK + r - first) * MR;
        for (int64_t tile = 0; tile < p->o_tiles; tile++)
            memcpy(to + tile * BLOCK * MR, line + tile * MR, MR * 4);
    }
}

/* The channels c .. c+n of what a tap meets in a block, to (rows, NR); rows[i] is where their row
 * of dy is. Gives how many rows meet the image. */
static int64_t pack_x(const struct weights *p, const uint16_t *x, const int32_t *at, int64_t count,
                      int64_t c, int64_t n, float *to, int32_t *rows) {
    int64_t live = 0;
    for (int64_t r = 0; r < count; r++) {
        int32_t even = at[2 * r], odd = at[2 * r + 1];
        if (even < 0 && odd < 0)
            continue;
        zip(to, even < 0 ? p->zero : x + even + c, odd < 0 ? p->zero : x + odd + c, n);
        to += NR;
        rows[live++] = (int32_t)(r * MR);
    }
    return live;
}

/* out[m][j..] (+)= sum over rows of dy[m] x[0..NR] */
static __attribute__((noinline)) void sum_rows(const int32_t *rows, int64_t count, const float *x,
                                               const float *dy, float *const *out, int64_t j,
                                               int64_t n, bool add) {
    vf t[MR][NV];
    tile_clear(t, out, j);
    for (int64_t i = 0; i < count && n <= LANES; i++, x += NR) {
        const float *a = dy + rows[i];
        vf b = vload(x);
#pragma GCC unroll 32
        for (int m = 0; m < MR; m++)
            t[m][0] = vdot(vset_pair(a + m), b, t[m][0]);
    }
    for (int64_t i = 0; i < count && n > LANES; i++, x += NR) {
        const float *a = dy + rows[i];
        vf b0 = vload(x), b1 = vload(x + LANES);
#pragma GCC unroll 32
        for (int m = 0; m < MR; m++) {
            vf pair = vset_pair(a + m);
            t[m][0] = vdot(pair, b0, t[m][0]);
            t[m][1] = vdot(pair, b1, t[m][1]);
        }
    }
    tile_store(t, out, j, n, add);
}

/* One task: tap t, panel q, the tiles o0 .. o1, all pixels of the chunk. */
static void run_panel(const struct weights *p, const uint16_t *x, int64_t pixels, int worker,
                      int64_t t, int64_t q, int64_t o0, int64_t o1, bool add) {
    int64_t row = p->taps * p->g->c, n = imin(NR, p->g->c - q * NR);
    float *panel = p->x + (int64_t)worker * BLOCK * NR;
    int32_t rows[BLOCK];
    for (int64_t first = 0; 2 * first < pixels; first += BLOCK) {
        int64_t count = imin(BLOCK, ceil_div(pixels, 2) - first);
        const int32_t *at = p->at + t * p->pixels + 2 * first;
        int64_t live = pack_x(p, x, at, count, q * NR, n, panel, rows);
        if (live == 0 && (add || first > 0))
            continue;
        for (int64_t o = o0; o < o1; o++) {
            float *out[MR];
            for (int64_t m = 0; m < MR; m++)
                out[m] =
                    o * MR + m < p->g->o ? p->sums + (o * MR + m) * row : p->spare + worker * row;
            sum_rows(rows, live, panel, p->dy + (first * p->o_tiles + o * BLOCK) * MR, out,
                     t * p->g->c + q * NR, n, add || first > 0);
        }
    }
}

static void run_chunk(const struct weights *p, const struct chunk *k, const uint16_t *dy,
                      const uint16_t *x, bool same, bool add) {
    const struct cpu_conv *g = p->g;
    int64_t pixels = k->images * k->rows * g->ow, blocks = ceil_div(pixels, 2 * BLOCK);
    int64_t cuts = imin(p->o_tiles, ceil_div(4 * p->workers, p->panels * p->taps));
    if (p->workers == 1)
        cuts = 1;
    int64_t width = ceil_div(p->o_tiles, cuts);
    /* Chunks of part of an image have one image, so pixels follow each other here. */
    dy += (k->n0 * g->oh + k->y0) * g->ow * g->o;
    x += k->n0 * g->h * g->w * g->c;
#pragma omp parallel num_threads(p->workers)
    {
        int worker = omp_get_thread_num();
#pragma omp for schedule(static) nowait
        for (int64_t t = 0; t < p->taps; t++)
            if (!same)
                find_pixels(p, k, t);
#pragma omp for schedule(static)
        for (int64_t b = 0; b < blocks; b++)
            pack_dy(p, dy, pixels, worker, b);
#pragma omp for schedule(dynamic) collapse(3)
        for (int64_t q = 0; q < p->panels; q++)
            for (int64_t t = 0; t < p->taps; t++)
                for (int64_t o = 0; o < p->o_tiles; o += width)
                    if (!interrupted())
                        run_panel(p, x, pixels, worker, t, q, o, imin(p->o_tiles, o + width), add);
    }
}

int K(cpu_pairs_weights)(uint16_t *dw, const uint16_t *dy, const uint16_t *x,
                         const struct cpu_conv *g, void *scratch) {
    struct weights p;
    if (K(cpu_winograd_pairs_weights_takes)(g))
        return K(cpu_winograd_pairs_weights)(dw, dy, x, g, scratch);
    if (K(cpu_strided_pairs_weights_takes)(g))
        return K(cpu_strided_pairs_weights)(dw, dy, x, g, scratch);
    if (K(cpu_few_pairs_weights_takes)(g))
        return K(cpu_few_pairs_weights)(dw, dy, x, g, scratch);
    if (!takes(g) || layout(&p, g, scratch) < 0)
        return CPU_UNPROFITABLE;
    int64_t size = g->o * p.taps * g->c;
    memset(p.zero, 0, (size_t)imax(g->c, g->o) * 2);
    if (g->n * g->oh * g->ow == 0)
        memset(p.sums, 0, (size_t)size * 4);
    struct chunk last = { 0 };
    for (int64_t n0 = 0; n0 < g->n && size > 0; n0 += p.images)
        for (int64_t y0 = 0; y0 < g->oh; y0 += imax(1, p.rows)) {
            struct chunk k = { .n0 = n0, .images = imin(p.images, g->n - n0), .y0 = y0 };
            k.rows = imin(p.rows, g->oh - y0);
            bool same = k.images == last.images && k.y0 == last.y0 && k.rows == last.rows;
            run_chunk(&p, &k, dy, x, same, n0 > 0 || y0 > 0);
            if (interrupted())
                return CPU_INTERRUPTED;
            last = k;
        }
    K(cpu_to_bf16)(dw, p.sums, size);
    return CPU_OK;
}
#endif
