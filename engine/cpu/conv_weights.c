/* Weight gradient of a convolution in f32, and in bf16 of few channels: dw[o][e] = sum over output
 * pixels p of dy[p][o] x[p, e], where the elements e = (ty,tx,c) are what a pixel's window holds.
 *
 * The outputs' pixels are cut in blocks. A task copies the block's part of x with zeros around it,
 * so that every window is inside and element e lies at the same distance from the first element of
 * any pixel's window, and its panels of dy (pixels, NR). Both stay in the caches nearby while tiles
 * of MR elements and NR outputs are summed over the pixels.
 *
 * In bf16 "pixel" below means two of them, side by side in the output: a convolution of half as
 * many columns at twice the stride, whose floats are pairs of bf16.
 *
 * A task is a piece of the blocks and a slice of the outputs. Pieces have sums of their own, which
 * are added in order: their number depends on shapes alone, and threads meet once.
 */
#include "cpu/conv_group.h"
#include "cpu/f32.h"
#include "cpu/few.h"
#include "cpu/pairs.h"
#include "cpu/scratch.h"
#include "cpu/strided.h"
#include "cpu/tile.h"
#include "cpu/winograd.h"
#include "core/interrupt.h"
#include "core/threads.h"
#include <omp.h>

#define PIXELS 128          /* of a block: a panel of dy is 8 KB at 8 lanes */
#define FEW_PIXELS 512      /* where x is read by rows: its copy is small, dy is read once or so */
#define X_BYTES (256 << 10) /* of a block's part of x, if that leaves LEAST_PIXELS */
#define LEAST_PIXELS 32
#define PIECES 32 /* at most, and with all their sums in SUM_BYTES */
#define SUM_BYTES (16 << 20)
#define RUNS 3 /* of RUN elements side by side: 3x3 windows of 3 channels */
#define RUN 9
#define FEW_CHANNELS 32 /* in bf16 */
#define TASKS 8         /* at least, where there is work for several threads */

struct weights {
    const struct cpu_conv *g;
    bool pairs;                    /* of bf16 */
    int64_t ow, sw;                /* columns of the output, and stride, in pixels */
    bool by_rows;                  /* a tile is RUNS x RUN elements and LANES outputs */
    int64_t elements, tiles;       /* of a window; tiles of them */
    int64_t tile, starts;          /* elements of a tile; places where its runs start */
    int64_t panel, panels, slice;  /* outputs of a panel; panels: all, a task's */
    int64_t dy_row;                /* floats between the pixels of a panel */
    int64_t images, rows, cols;    /* a block's outputs; images > 1 only of whole images */
    int64_t down, across, blocks;  /* blocks an image's height, width; of all images */
    int64_t pieces, piece, slices; /* tasks: pieces of so many blocks, slices of outputs */
    /* The copy (images, in_rows, in_cols, pixel). A window of one row or column leaves out what
     * the stride steps over: by is then the stride, and step 1. */
    int64_t in_rows, in_cols, pixel, by_y, by_x, step_y, step_x;
    int workers;
    int32_t *at;     /* (pixels of a block) floats into the copy */
    int32_t *tap;    /* (tiles, starts) floats from a pixel's first element */
    float *x;        /* workers x copy */
    float *dy;       /* workers x (slice, pixels, panel), or NULL: read where it is */
    int64_t row;     /* outputs in whole vectors */
    float *sums;     /* (pieces, tiles * tile, row) */
    int64_t line;    /* bf16 of a row of the copy with zeros around it */
    uint16_t *lines; /* workers x line */
};

static int64_t block_pixels(const struct weights *p) {
    return p->images * p->rows * p->cols;
}

static int64_t copy_floats_of(const struct weights *p, int64_t images, int64_t rows, int64_t cols) {
    return images * ((rows - 1) * p->step_y + (p->g->kh - 1) * p->g->dh + 1) *
           ((cols - 1) * p->step_x + (p->g->kw - 1) * p->g->dw + 1) * p->pixel;
}

/* Blocks of about PIXELS outputs: some images, or rows of one, or columns of one row. */
static void cut_blocks(struct weights *p) {
    const struct cpu_conv *g = p->g;
    p->images = p->rows = p->cols = 1;
    int64_t most = X_BYTES / 4, pixels = p->by_rows ? FEW_PIXELS : PIXELS;
    while (pixels > LEAST_PIXELS) {
        int64_t area = g->oh * p->ow;
        p->cols = imin(p->ow, pixels);
        p->rows = p->cols < p->ow ? 1 : imin(g->oh, imax(1, pixels / p->ow));
        p->images = p->rows < g->oh ? 1 : imin(g->n, imax(1, pixels / area));
        if (copy_floats_of(p, p->images, p->rows, p->cols) <= most)
            break;
        pixels /= 2;
    }
    p->down = ceil_div(g->oh, p->rows);
    p->across = ceil_div(p->ow, p->cols);
    p->blocks = ceil_div(g->n, p->images) * p->down * p->across;
    p->in_rows = (p->rows - 1) * p->step_y + (g->kh - 1) * g->dh + 1;
    p->in_cols = (p->cols - 1) * p->step_x + (g->kw - 1) * g->dw + 1;
}

static int64_t layout(struct weights *p, const struct cpu_conv *g, bool pairs, void *base) {
    *p = (struct weights){ .g = g, .pairs = pairs, .elements = g->kh * g->kw * g->c };
    p->ow = pairs ? g->ow / 2 : g->ow;
    p->sw = pairs ? 2 * g->sw : g->sw;
    if (g->n * g->oh * g->ow * g->o * p->elements == 0)
        return 0;
    p->by_rows = LANES == 16 && g->kh == RUNS && g->kw * g->c == RUN && g->dw == 1;
    p->starts = p->by_rows ? RUNS : MR;
    p->tile = p->by_rows ? RUNS * RUN : MR;
    p->tiles = ceil_div(p->elements, p->tile);
    p->panel = p->by_rows || g->o <= LANES ? LANES : NR;
    p->panels = ceil_div(g->o, p->panel);
    p->row = p->panels * p->panel;
    p->by_y = g->kh == 1 ? g->sh : 1;
    p->by_x = g->kw == 1 ? p->sw : 1;
    p->step_y = g->sh / p->by_y;
    p->step_x = p->sw / p->by_x;
    /* An odd number of cache lines a pixel: neighbours would meet in few cache sets. */
    p->pixel = g->c < LINE ? g->c : (ceil_div(g->c, LINE) | 1) * LINE;
    cut_blocks(p);
    bool small = g->n * g->oh * g->ow * g->o * p->elements < 500000;
    p->workers = small ? 1 : threads();
    int64_t sum = p->tiles * p->tile * p->row;
    p->pieces = imax(1, imin(imin(PIECES, p->blocks), SUM_BYTES / (4 * sum)));
    if (small)
        p->pieces = 1;
    while (p->pieces & (p->pieces - 1)) /* a power of two: even for 2, 4 and 8 threads */
        p->pieces &= p->pieces - 1;
    p->piece = ceil_div(p->blocks, p->pieces);
    p->slices = small ? 1 : imin(p->panels, ceil_div(TASKS, p->pieces));
    p->slice = ceil_div(p->panels, p->slices);
    p->slices = ceil_div(p->panels, p->slice);
    int64_t copy = p->images * p->in_rows * p->in_cols * p->pixel;
    if (copy > INT32_MAX)
        return -1;
    struct scratch s = scratch_open(base);
    p->at = scratch_take(&s, block_pixels(p) * 4);
    p->tap = scratch_take(&s, p->tiles * p->starts * 4);
    p->x = scratch_take(&s, p->workers * copy * 4);
    bool whole = !pairs && (g->o == p->panel || (p->by_rows && g->o % LANES == 0));
    p->dy_row = whole ? g->o : p->panel;
    if (!whole)
        p->dy = scratch_take(&s, p->workers * p->slice * block_pixels(p) * p->panel * 4);
    p->sums = scratch_take(&s, p->pieces * sum * 4);
    p->line = pairs ? ((p->in_cols - 1) * p->by_x + 1 + g->sw) * g->c : 0;
    p->lines = scratch_take(&s, p->workers * p->line * 2);
    return scratch_bytes(&s);
}

int64_t K(cpu_conv_weight_grad_scratch)(const struct cpu_conv *g) {
    struct weights p;
    if (g->groups != 1)
        return K(cpu_group_weights_scratch)(g);
    if (K(cpu_winograd_weights_takes)(g))
        return K(cpu_winograd_weights_scratch)(g);
    if (K(cpu_strided_weights_takes)(g))
        return K(cpu_strided_weights_scratch)(g);
    return layout(&p, g, false, NULL);
}

/* A smaller block's pixels are the first ones of the list. */
static void fill_lists(const struct weights *p) {
    const struct cpu_conv *g = p->g;
    int32_t *at = p->at;
    for (int64_t n = 0; n < p->images; n++)
        for (int64_t y = 0; y < p->rows; y++)
            for (int64_t x = 0; x < p->cols; x++)
                *at++ = (int32_t)(((n * p->in_rows + y * p->step_y) * p->in_cols + x * p->step_x) *
                                  p->pixel);
    for (int64_t i = 0; i < p->tiles * p->starts; i++) {
        int64_t e = imin(i * (p->tile / p->starts), p->elements - 1), t = e / g->c;
        int64_t y = t / g->kw * g->dh, x = t % g->kw * g->dw;
        p->tap[i] = (int32_t)((y * p->in_cols + x) * p->pixel + e % g->c);
    }
}

/* A block: images n0 .., output rows y0 .., columns x0 ... */
struct block {
    int64_t n0, images, y0, rows, x0, cols;
};

static struct block block_at(const struct weights *p, int64_t i) {
    const struct cpu_conv *g = p->g;
    struct block b = { .n0 = i / (p->down * p->across) * p->images,
                       .y0 = i / p->across % p->down * p->rows,
                       .x0 = i % p->across * p->cols };
    b.images = imin(p->images, g->n - b.n0);
    b.rows = imin(p->rows, g->oh - b.y0);
    b.cols = imin(p->cols, p->ow - b.x0);
    return b;
}

static void copy_row(const struct weights *p, float *to, const float *row, int64_t first,
                     int64_t cols) {
    const struct cpu_conv *g = p->g;
    int64_t c = g->c, left = first < 0 ? imin(cols, ceil_div(-first, p->by_x)) : 0;
    int64_t end = first >= g->w ? 0 : imin(cols, ceil_div(g->w - first, p->by_x));
    end = imax(end, left);
    memset(to, 0, (size_t)(left * p->pixel) * 4);
    memset(to + end * p->pixel, 0, (size_t)((cols - end) * p->pixel) * 4);
    const float *from = row + (first + left * p->by_x) * c;
    to += left * p->pixel;
    if (c == p->pixel && p->by_x == 1) {
        memcpy(to, from, (size_t)((end - left) * c) * 4);
        return;
    }
    for (int64_t i = left; i < end; i++, to += p->pixel, from += p->by_x * c)
        copy_floats(to, from, c);
}

#if PAIRS
/* The same in bf16: column i of the copy holds what both pixels of a pair meet. */
static void copy_row_pairs(const struct weights *p, float *to, const uint16_t *row, int64_t first,
                           int64_t cols, uint16_t *line) {
    const struct cpu_conv *g = p->g;
    int64_t c = g->c, width = (cols - 1) * p->by_x + 1 + g->sw;
    const uint16_t *even = row + first * c;
    if (first < 0 || first + width > g->w) {
        int64_t left = imin(width, imax(0, -first)), end = imax(left, imin(width, g->w - first));
        memset(line, 0, (size_t)(left * c) * 2);
        memcpy(line + left * c, row + (first + left) * c, (size_t)((end - left) * c) * 2);
        memset(line + end * c, 0, (size_t)((width - end) * c) * 2);
        even = line;
    }
    const uint16_t *odd = even + g->sw * c;
    if (c == p->pixel && p->by_x == 1) {
        zip(to, even, odd, cols * c);
        return;
    }
    for (int64_t i = 0; i < cols; i++, to += p->pixel)
        zip(to, even + i * p->by_x * c, odd + i * p->by_x * c, c);
}
#endif

static void copy_x(const struct weights *p, float *to, const void *x, const struct block *b,
                   int worker) {
    (void)worker;
    const struct cpu_conv *g = p->g;
    int64_t rows = (b->rows - 1) * p->step_y + (g->kh - 1) * g->dh + 1;
    int64_t cols = (b->cols - 1) * p->step_x + (g->kw - 1) * g->dw + 1;
    for (int64_t n = 0; n < b->images; n++)
        for (int64_t r = 0; r < rows; r++) {
            int64_t y = b->y0 * g->sh - g->ph + r * p->by_y;
            float *row = to + (n * p->in_rows + r) * p->in_cols * p->pixel;
            int64_t at = ((b->n0 + n) * g->h + y) * g->w * g->c, first = b->x0 * p->sw - g->pw;
            if (y < 0 || y >= g->h)
                memset(row, 0, (size_t)(cols * p->pixel) * 4);
#if PAIRS
            else if (p->pairs)
                copy_row_pairs(p, row, (const uint16_t *)x + at, first, cols,
                               p->lines + worker * p->line);
#endif
            else
                copy_row(p, row, (const float *)x + at, first, cols);
        }
}

/* n floats, or pairs of a pixel's two rows of o bf16. */
ALWAYS_INLINE void copy_outputs(float *to, const float *from, int64_t n, int64_t o,
                                const bool pairs) {
    (void)o, (void)pairs;
#if PAIRS
    if (pairs) {
        zip(to, (const uint16_t *)from, (const uint16_t *)from + o, n);
        return;
    }
#endif
    int64_t v = 0;
    for (; v + LANES <= n; v += LANES)
        vstore(to + v, vload(from + v));
    if (v < n)
        copy_floats(to + v, from + v, n - v);
}

/* The panels q0 .. q1, `wide` outputs each, of a block of dy, whose pixels follow each other from
 * `from` on. */
ALWAYS_INLINE void copy_panels(const struct weights *p, float *to, const float *from, int64_t count,
                               int64_t q0, int64_t q1, const int64_t wide, const bool pairs) {
    int64_t o = p->g->o, step = block_pixels(p) * wide, in_bf16 = pairs ? 2 : 1;
    int64_t whole = imin(q1, o / wide) - q0, left = o - (q0 + whole) * wide;
    for (int64_t i = 0; i < count; i++, from += o, to += wide) {
        const float *f = from + q0 * wide / in_bf16;
        for (int64_t q = 0; q < whole; q++, f += wide / in_bf16)
            copy_outputs(to + q * step, f, wide, o, pairs);
        if (whole < q1 - q0) {
            memset(to + whole * step, 0, (size_t)wide * 4);
            copy_outputs(to + whole * step, f, left, o, pairs);
        }
    }
}

static void copy_dy(const struct weights *p, float *to, const float *from, int64_t count,
                    int64_t q0, int64_t q1) {
    if (p->pairs && p->panel == NR)
        copy_panels(p, to, from, count, q0, q1, NR, true);
    else if (p->pairs)
        copy_panels(p, to, from, count, q0, q1, LANES, true);
    else if (p->panel == NR)
        copy_panels(p, to, from, count, q0, q1, NR, false);
    else
        copy_panels(p, to, from, count, q0, q1, LANES, false);
}

/* A tile over the pixels i < count: elements in `runs` pieces of `run` side by side, times nv
 * vectors of outputs:
 *   s[m * row + 0 ..] (+)= sum_i x[tap[m / run] + m % run + at[i]] dy[i * dy_row + 0 ..] */
ALWAYS_INLINE void sum_tile(float *s, int64_t row, const float *x, const int32_t *tap,
                            const int32_t *at, const float *dy, int64_t dy_row, const float *next,
                            int64_t next_row, int64_t count, bool add, const int runs,
                            const int run, const int nv, const bool pairs) {
    (void)pairs;
    const float *e[MR] = { NULL };
    vf t[RUNS * RUN][NV];
#pragma GCC unroll 32
    for (int r = 0; r < runs; r++)
        e[r] = x + tap[r];
#pragma GCC unroll 32
    for (int m = 0; m < runs * run; m++)
#pragma GCC unroll 2
        for (int v = 0; v < nv; v++) {
            __builtin_prefetch(s + m * row + v * LANES, 1);
            t[m][v] = vset(0);
        }
    for (int64_t i = 0; i < count; i++, dy += dy_row) {
        vf b[NV];
#pragma GCC unroll 2
        for (int v = 0; v < nv; v++)
            b[v] = vload(dy + v * LANES);
        int64_t k = at[i];
        const float *w[RUNS];
        if (run > 1) {
            __builtin_prefetch(next, 0, 2);
            next += next_row;
#pragma GCC unroll 32
            for (int r = 0; r < runs; r++) {
                w[r] = e[r] + k;
                __asm__("" : "+r"(w[r])); /* or GCC keeps a pointer an element */
            }
        }
#pragma GCC unroll 32
        for (int m = 0; m < runs * run; m++) {
            const float *from = run > 1 ? w[m / run] + m % run : e[m] + k;
            vf a = TILE_SET(pairs, *from);
#pragma GCC unroll 2
            for (int v = 0; v < nv; v++)
                t[m][v] = TILE_ADD(pairs, a, b[v], t[m][v]);
        }
    }
#pragma GCC unroll 32
    for (int m = 0; m < runs * run; m++)
#pragma GCC unroll 2
        for (int v = 0; v < nv; v++) {
            float *to = s + m * row + v * LANES;
            if (add)
                t[m][v] += vload(to);
            vstore(to, t[m][v]);
        }
}

ALWAYS_INLINE void sum_any(const struct weights *p, float *s, const float *x, const int32_t *tap,
                           const float *dy, const float *next, int64_t count, bool add,
                           const bool pairs) {
    int64_t row = p->row, o = p->g->o;
    const int32_t *at = p->at;
    if (LANES == 16 && p->by_rows)
        sum_tile(s, row, x, tap, at, dy, p->dy_row, next, o, count, add, RUNS, RUN, 1, pairs);
    else if (p->panel == LANES)
        sum_tile(s, row, x, tap, at, dy, LANES, next, o, count, add, MR, 1, 1, pairs);
    else
        sum_tile(s, row, x, tap, at, dy, NR, next, o, count, add, MR, 1, NV, pairs);
}

static __attribute__((noinline)) void sum_pixels(const struct weights *p, float *s, const float *x,
                                                 const int32_t *tap, const float *dy,
                                                 const float *next, int64_t count, bool add) {
#if PAIRS
    if (p->pairs) {
        sum_any(p, s, x, tap, dy, next, count, add, true);
        return;
    }
#endif
    sum_any(p, s, x, tap, dy, next, count, add, false);
}

/* One task: a piece of the blocks, a slice of the outputs. */
static void run_task(const struct weights *p, const float *dy, const void *x, int worker,
                     int64_t piece, int64_t slice) {
    const struct cpu_conv *g = p->g;
    int64_t q0 = slice * p->slice, q1 = imin(p->panels, q0 + p->slice), wide = p->panel;
    int64_t first = piece * p->piece, last = imin(p->blocks, first + p->piece);
    float *copy = p->x + worker * p->images * p->in_rows * p->in_cols * p->pixel;
    int64_t step = block_pixels(p) * wide;
    float *panels = p->dy ? p->dy + worker * p->slice * step : NULL;
    float *sums = p->sums + piece * p->tiles * p->tile * p->row;
    if (first >= last)
        memset(sums, 0, (size_t)(p->tiles * p->tile * p->row) * 4);
    for (int64_t i = first; i < last && !interrupted(); i++) {
        struct block b = block_at(p, i);
        int64_t count = b.images * b.rows * b.cols;
        const float *from = dy + ((b.n0 * g->oh + b.y0) * p->ow + b.x0) * g->o;
        copy_x(p, copy, x, &b, worker);
        if (panels)
            copy_dy(p, panels, from, count, q0, q1);
        for (int64_t t = 0; t < p->tiles; t++)
            for (int64_t q = q0; q < q1; q++)
                sum_pixels(p, sums + t * p->tile * p->row + q * wide, copy, p->tap + t * p->starts,
                           panels ? panels + (q - q0) * step : from + q * wide,
                           from + count * g->o + q * wide, count, i > first);
    }
}

/* Elements e0 .. e0+LINE of the outputs from o0 on: sums of the pieces, turned round. */
static void finish(const struct weights *p, void *dw, int64_t o0, int64_t e0) {
    int64_t step = p->tiles * p->tile * p->row;
    int64_t n = imin(LINE, p->elements - e0), outputs = imin(LANES, p->g->o - o0);
    float block[LINE][LANES];
    for (int64_t e = 0; e < n; e++) {
        const float *s = p->sums + (e0 + e) * p->row + o0;
        vf a = vload(s);
        for (int64_t i = 1; i < p->pieces; i++)
            a += vload(s + i * step);
        vstore(block[e], a);
    }
    for (int64_t o = 0; o < outputs; o++)
        for (int64_t e = 0; e < n; e++)
            set_element(dw, (o0 + o) * p->elements + e0 + e, block[e][o], p->pairs);
}

/* For a convolution that has pixels. */
static int run(const struct weights *p, void *dw, const void *dy, const void *x) {
    const struct cpu_conv *g = p->g;
    fill_lists(p);
#pragma omp parallel num_threads(p->workers)
    {
        int worker = omp_get_thread_num();
#pragma omp for schedule(dynamic) collapse(2)
        for (int64_t i = 0; i < p->pieces; i++)
            for (int64_t j = 0; j < p->slices; j++)
                run_task(p, dy, x, worker, i, j);
#pragma omp for schedule(static) collapse(2)
        for (int64_t o = 0; o < g->o; o += LANES)
            for (int64_t e = 0; e < p->elements; e += LINE)
                finish(p, dw, o, e);
    }
    return interrupted() ? CPU_INTERRUPTED : CPU_OK;
}

int K(cpu_conv_weight_grad)(float *dw, const float *dy, const float *x, const struct cpu_conv *g,
                            void *scratch) {
    struct weights p;
    if (g->groups != 1)
        return K(cpu_group_weights)(dw, dy, x, g, scratch);
    if (K(cpu_winograd_weights_takes)(g))
        return K(cpu_winograd_weights)(dw, dy, x, g, scratch);
    if (K(cpu_strided_weights_takes)(g))
        return K(cpu_strided_weights)(dw, dy, x, g, scratch);
    if (g->o * g->kh * g->kw * g->c == 0)
        return CPU_OK;
    if (g->n * g->oh * g->ow == 0) {
        memset(dw, 0, (size_t)(g->o * g->kh * g->kw * g->c) * 4);
        return CPU_OK;
    }
    if (layout(&p, g, false, scratch) < 0)
        return CPU_UNPROFITABLE;
    return run(&p, dw, dy, x);
}

#if PAIRS
bool K(cpu_few_pairs_weights_takes)(const struct cpu_conv *g) {
    return g->groups == 1 && g->ow % 2 == 0 && g->n * g->oh * g->ow * g->o * g->kh * g->kw > 0 &&
           g->c > 0 && g->c <= FEW_CHANNELS;
}

int64_t K(cpu_few_pairs_weights_scratch)(const struct cpu_conv *g) {
    struct weights p;
    return layout(&p, g, true, NULL);
}

int K(cpu_few_pairs_weights)(uint16_t *dw, const uint16_t *dy, const uint16_t *x,
                             const struct cpu_conv *g, void *scratch) {
    struct weights p;
    if (layout(&p, g, true, scratch) < 0)
        return CPU_UNPROFITABLE;
    return run(&p, dw, dy, x);
}
#endif
