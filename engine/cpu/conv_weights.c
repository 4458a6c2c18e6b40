/* Weight gradient of a convolution in f32: dw[o][t][c] = sum over pixels p of dy[p][o] x[t(p)][c].
 *
 * Both operands are copied in panels that run along the pixels, dy as (o / MR, BLOCK, MR) and x as
 * (c / NR, pixels, NR): the whole of each once, not once a tap, because a tap only picks other
 * pixels of the same panel, by a list of the pairs (pixel of x, pixel of dy) inside the image. A
 * panel of x and one of dy stay in the first cache while BLOCK pixels of dy are summed.
 *
 * With fewer than 8 input channels a panel would be mostly empty: the taps of a pixel are copied
 * side by side and count as the channels of a single tap.
 *
 * Every thread owns tiles of dw and walks all pixels in the same order, so the bits do not depend
 * on the number of threads and no second copy of dw has to be summed.
 */
#include "cpu/conv_group.h"
#include "cpu/f32.h"
#include "cpu/scratch.h"
#include "cpu/tile.h"
#include "cpu/winograd.h"
#include "core/interrupt.h"
#include "core/threads.h"
#include <omp.h>

#define BLOCK 192 /* pixels of dy summed in registers: a panel of x is 12 KB at 8 lanes */
/* Pixels of dy copied at a time, shared by all threads: as many as CHUNK_BYTES hold, between
 * CHUNK_LEAST and ten times that. Threads wait for each other twice a chunk. */
#define CHUNK_BYTES (6 << 20)
#define CHUNK_LEAST 3072

struct weights {
    const struct cpu_conv *g;
    bool copied;
    int64_t taps, channels; /* 1 and taps * c where taps lie side by side */
    int64_t images, rows;   /* most images and output rows a chunk; rows < oh only if images = 1 */
    int64_t in_rows;
    int64_t blocks, x_pixels, o_tiles, c_panels;
    int workers;
    float *dy;      /* (blocks, o_tiles, BLOCK, MR) */
    float *x;       /* (c_panels, x_pixels, NR) */
    int32_t *pairs; /* (blocks, taps, BLOCK, 2) floats into a panel of x, of dy */
    int32_t *count; /* (blocks, taps) */
    float *lines;   /* workers x (c_panels * NR), zero past the channels */
    float *spare;   /* workers x dw row */
};

/* A chunk: images n0 .. n0+images, output rows y0 .. y0+rows, input rows i0 .. i1. */
struct chunk {
    int64_t n0, images, y0, rows, i0, i1;
};

static int64_t layout(struct weights *p, const struct cpu_conv *g, void *base) {
    *p = (struct weights){ .g = g, .taps = g->kh * g->kw, .channels = g->c };
    p->copied = g->c < 8 && p->taps > 1;
    if (p->copied) {
        p->channels = p->taps * g->c;
        p->taps = 1;
    }
    int64_t area = g->oh * g->ow;
    int64_t chunk = CHUNK_BYTES / (4 * (p->channels + g->o + 2 * p->taps));
    chunk = imin(10 * CHUNK_LEAST, imax(CHUNK_LEAST, chunk));
    p->images = imin(g->n, imax(1, chunk / imax(1, area)));
    p->rows = area <= chunk ? g->oh : imax(1, chunk / g->ow);
    p->in_rows = imin(g->h, (p->rows - 1) * g->sh + (g->kh - 1) * g->dh + 1);
    if (p->rows == g->oh)
        p->in_rows = g->h;
    p->blocks = ceil_div(p->images * p->rows * g->ow, BLOCK);
    p->x_pixels = p->copied ? p->blocks * BLOCK : p->images * p->in_rows * g->w;
    p->o_tiles = ceil_div(g->o, MR);
    p->c_panels = ceil_div(p->channels, NR);
    p->workers = g->n * area * g->o * p->taps * p->channels < 500000 ? 1 : threads();
    if (p->x_pixels * NR > INT32_MAX)
        return -1;
    struct scratch s = scratch_open(base);
    p->dy = scratch_take(&s, p->blocks * p->o_tiles * BLOCK * MR * 4);
    p->x = scratch_take(&s, p->c_panels * p->x_pixels * NR * 4);
    p->pairs = scratch_take(&s, p->blocks * p->taps * BLOCK * 2 * 4);
    p->count = scratch_take(&s, p->blocks * p->taps * 4);
    p->lines = scratch_take(&s, p->workers * p->c_panels * NR * 4);
    p->spare = scratch_take(&s, p->workers * p->taps * p->channels * 4);
    return scratch_bytes(&s);
}

int64_t K(cpu_conv_weight_grad_scratch)(const struct cpu_conv *g) {
    struct weights p;
    if (g->groups != 1)
        return K(cpu_group_weights_scratch)(g);
    if (K(cpu_winograd_weights_takes)(g))
        return K(cpu_winograd_weights_scratch)(g);
    return layout(&p, g, NULL);
}

/* The pairs of one block, all taps. */
static void fill_pairs(const struct weights *p, const struct chunk *k, int64_t block) {
    const struct cpu_conv *g = p->g;
    int64_t area = k->rows * g->ow, all = k->images * area;
    int64_t first = block * BLOCK, last = imin(all, first + BLOCK);
    for (int64_t t = 0; t < p->taps; t++) {
        int32_t *pair = p->pairs + (block * p->taps + t) * BLOCK * 2;
        int64_t ty = t / g->kw * g->dh - g->ph, tx = t % g->kw * g->dw - g->pw;
        int64_t n = first / area, y = first % area / g->ow, x = first % g->ow;
        int32_t count = 0;
        for (int64_t i = first; i < last; i++) {
            int64_t iy = (k->y0 + y) * g->sh + ty, ix = x * g->sw + tx;
            int64_t at = (n * (k->i1 - k->i0) + iy - k->i0) * g->w + ix;
            if (p->copied || (iy >= 0 && iy < g->h && ix >= 0 && ix < g->w)) {
                pair[2 * count] = (int32_t)((p->copied ? i : at) * NR);
                pair[2 * count + 1] = (int32_t)((i - first) * MR);
                count++;
            }
            if (++x == g->ow) {
                x = 0;
                if (++y == k->rows) {
                    y = 0;
                    n++;
                }
            }
        }
        p->count[block * p->taps + t] = count;
    }
}

static void pack_dy(const struct weights *p, const struct chunk *k, const float *dy,
                    int64_t block) {
    const struct cpu_conv *g = p->g;
    int64_t area = k->rows * g->ow, count = imin(BLOCK, k->images * area - block * BLOCK);
    /* Chunks of part of an image have one image, so pixels follow each other here. */
    const float *s = dy + ((k->n0 * g->oh + k->y0) * g->ow + block * BLOCK) * g->o;
    for (int64_t i = 0; i < count; i++, s += g->o) {
        float *d = p->dy + block * p->o_tiles * BLOCK * MR + i * MR;
        int64_t o = 0;
        for (; o + MR <= g->o; o += MR, d += BLOCK * MR)
            memcpy(d, s + o, MR * 4);
        if (o < g->o) {
            memset(d, 0, MR * 4);
            memcpy(d, s + o, (size_t)(g->o - o) * 4);
        }
    }
}

/* The channels of one pixel to its place in the panels. */
static void spread(const struct weights *p, const float *row, int64_t pixel) {
    float *d = p->x + pixel * NR;
    int64_t c = 0;
    for (; c + NR <= p->channels; c += NR, d += p->x_pixels * NR) {
        vstore(d, vload(row + c));
        vstore(d + LANES, vload(row + c + LANES));
    }
    if (c < p->channels) {
        vstore(d, vset(0));
        vstore(d + LANES, vset(0));
        copy_floats(d, row + c, p->channels - c);
    }
}

/* Input row `row` of the chunk's image n, or with copied taps its output row. */
static void pack_x(const struct weights *p, const struct chunk *k, const float *x, int worker,
                   int64_t n, int64_t row) {
    const struct cpu_conv *g = p->g;
    const float *image = x + (k->n0 + n) * g->h * g->w * g->c;
    if (!p->copied) {
        int64_t first = (n * (k->i1 - k->i0) + row) * g->w;
        for (int64_t i = 0; i < g->w; i++)
            spread(p, image + ((k->i0 + row) * g->w + i) * g->c, first + i);
        return;
    }
    float *line = p->lines + worker * p->c_panels * NR;
    for (int64_t i = 0; i < g->ow; i++) {
        float *d = line;
        for (int64_t ty = 0; ty < g->kh; ty++, d += g->kw * g->c) {
            int64_t iy = (k->y0 + row) * g->sh - g->ph + ty * g->dh, ix = i * g->sw - g->pw;
            bool inside = iy >= 0 && iy < g->h;
            if (inside && ix >= 0 && ix + g->kw <= g->w && g->dw == 1) {
                copy_floats(d, image + (iy * g->w + ix) * g->c, g->kw * g->c);
                continue;
            }
            for (int64_t tx = 0; tx < g->kw; tx++) {
                int64_t at = ix + tx * g->dw;
                for (int64_t c = 0; c < g->c; c++)
                    d[tx * g->c + c] =
                        inside && at >= 0 && at < g->w ? image[(iy * g->w + at) * g->c + c] : 0;
            }
        }
        spread(p, line, (n * k->rows + row) * g->ow + i);
    }
}

/* out[m][j..] (+)= sum over pairs of dy[m] x[0..NR] */
static __attribute__((noinline)) void sum_pairs(const int32_t *pair, int64_t count, const float *x,
                                                const float *dy, float *const *out, int64_t j,
                                                int64_t n, bool add) {
    vf t[MR][NV];
    tile_clear(t, out, j);
    for (int64_t i = 0; i < count; i++) {
        const float *b = x + pair[2 * i], *a = dy + pair[2 * i + 1];
        vf b0 = vload(b), b1 = vload(b + LANES);
#pragma GCC unroll 32
        for (int m = 0; m < MR; m++) {
            t[m][0] = vfma(vset(a[m]), b0, t[m][0]);
            t[m][1] = vfma(vset(a[m]), b1, t[m][1]);
        }
    }
    tile_store(t, out, j, n, add);
}

/* One task: the panel q of channels, the tiles o0 .. o1, all pixels of the chunk. */
static void run_panel(const struct weights *p, float *dw, int64_t blocks, int worker, int64_t q,
                      int64_t o0, int64_t o1, bool add) {
    int64_t row = p->taps * p->channels, n = imin(NR, p->channels - q * NR);
    const float *x = p->x + q * p->x_pixels * NR;
    for (int64_t b = 0; b < blocks; b++)
        for (int64_t t = 0; t < p->taps; t++) {
            const int32_t *pair = p->pairs + (b * p->taps + t) * BLOCK * 2;
            int64_t count = p->count[b * p->taps + t];
            if (count == 0 && (add || b > 0))
                continue;
            for (int64_t o = o0; o < o1; o++) {
                float *out[MR];
                for (int64_t m = 0; m < MR; m++)
                    out[m] =
                        o * MR + m < p->g->o ? dw + (o * MR + m) * row : p->spare + worker * row;
                sum_pairs(pair, count, x, p->dy + (b * p->o_tiles + o) * BLOCK * MR, out,
                          t * p->channels + q * NR, n, add || b > 0);
            }
        }
}

static void run_chunk(const struct weights *p, const struct chunk *k, float *dw, const float *dy,
                      const float *x, bool same, bool add) {
    int64_t blocks = ceil_div(k->images * k->rows * p->g->ow, BLOCK);
    int64_t rows = p->copied ? k->rows : k->i1 - k->i0;
    int64_t cuts = imin(p->o_tiles, ceil_div(4 * p->workers, p->c_panels));
    if (p->workers == 1)
        cuts = 1;
    int64_t width = ceil_div(p->o_tiles, cuts);
#pragma omp parallel num_threads(p->workers)
    {
        int worker = omp_get_thread_num();
#pragma omp for schedule(static) nowait
        for (int64_t b = 0; b < blocks; b++) {
            pack_dy(p, k, dy, b);
            if (!same)
                fill_pairs(p, k, b);
        }
#pragma omp for schedule(static) collapse(2)
        for (int64_t n = 0; n < k->images; n++)
            for (int64_t r = 0; r < rows; r++)
                pack_x(p, k, x, worker, n, r);
#pragma omp for schedule(dynamic) collapse(2)
        for (int64_t q = 0; q < p->c_panels; q++)
            for (int64_t o = 0; o < p->o_tiles; o += width)
                if (!interrupted())
                    run_panel(p, dw, blocks, worker, q, o, imin(p->o_tiles, o + width), add);
    }
}

int K(cpu_conv_weight_grad)(float *dw, const float *dy, const float *x, const struct cpu_conv *g,
                            void *scratch) {
    struct weights p;
    if (g->groups != 1)
        return K(cpu_group_weights)(dw, dy, x, g, scratch);
    if (K(cpu_winograd_weights_takes)(g))
        return K(cpu_winograd_weights)(dw, dy, x, g, scratch);
    if (layout(&p, g, scratch) < 0)
        return CPU_UNPROFITABLE;
    if (g->n * g->oh * g->ow == 0) {
        memset(dw, 0, (size_t)(g->o * g->kh * g->kw * g->c) * 4);
        return CPU_OK;
    }
    if (g->o * p.channels * p.taps == 0)
        return CPU_OK;
    struct chunk last = { 0 };
    for (int64_t n0 = 0; n0 < g->n; n0 += p.images)
        for (int64_t y0 = 0; y0 < g->oh; y0 += p.rows) {
            struct chunk k = { .n0 = n0, .images = imin(p.images, g->n - n0), .y0 = y0 };
            k.rows = imin(p.rows, g->oh - y0);
            k.i1 = g->h;
            if (p.rows < g->oh) {
                int64_t top = y0 * g->sh - g->ph;
                k.i0 = imin(g->h, imax(0, top));
                k.i1 = top + (k.rows - 1) * g->sh + (g->kh - 1) * g->dh + 1;
                k.i1 = imax(k.i0, imin(g->h, k.i1));
            }
            bool same = k.images == last.images && k.y0 == last.y0 && k.rows == last.rows;
            run_chunk(&p, &k, dw, dy, x, same, n0 > 0 || y0 > 0);
            if (interrupted())
                return CPU_INTERRUPTED;
            last = k;
        }
    return CPU_OK;
}
