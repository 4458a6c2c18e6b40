/* Weight gradient of a 3x3 convolution of stride 1 by F(3x3,4x4): every tile of 4x4 output
 * gradients and its 6x6 inputs give 36 products a channel pair instead of 144.
 *
 * Blocks of tiles go through V (36, tiles, c) from x and Y (36, tiles, o) from dy, then
 * S (36, o, c) += Y' V; at the end dw comes from S. Two ways to share the work, chosen by shape:
 *   pieces  where S is small: the tiles are cut in a fixed number of pieces, each a task with its
 *           own S, summed in order. Threads meet once.
 *   shared  where it is large (and tiles are few): all threads fill V and Y, then each sums its own
 *           part of the one S.
 * Neither depends on the number of threads.
 */
#include "cpu/f32.h"
#include "cpu/scratch.h"
#include "cpu/winograd.h"
#include "core/interrupt.h"
#include "core/threads.h"
#include <omp.h>

#define BLOCK 96  /* tiles summed in registers; in the shared way twice as many */
#define PIECES 32 /* at most, and with all their S in PIECES_BYTES */
#define PIECES_BYTES (24 << 20)

struct wino {
    const struct cpu_conv *g;
    int64_t across, down, tiles, block;
    int64_t pieces, piece; /* pieces of so many tiles; 1 piece: the shared way */
    int64_t v_row, v_step, y_row, y_step, s_row, s_step;
    int workers;
    float *v, *y; /* (sets, 36, step): a set for each worker, or one shared */
    float *s;     /* (pieces, 36, s_step) */
    float *zero;  /* max(c, o) zeros */
    float *spare; /* workers x s_row */
};

/* What one worker adds to. */
struct part {
    float *v, *y, *s, *spare;
};

static int64_t layout(struct wino *p, const struct cpu_conv *g, void *base) {
    *p = (struct wino){ .g = g };
    p->across = ceil_div(g->ow, STEP);
    p->down = ceil_div(g->oh, STEP);
    p->tiles = g->n * p->across * p->down;
    p->workers = p->tiles * g->c * g->o < 50000 ? 1 : threads();
    p->s_row = wino_row(g->c);
    p->s_step = g->o * p->s_row + LINE;
    p->pieces = imin(PIECES, PIECES_BYTES / (PRODUCTS * p->s_step * 4));
    p->pieces = imin(p->pieces, p->tiles / BLOCK);
    p->pieces = p->pieces < 8 ? 1 : p->pieces - p->pieces % 8; /* even for 2, 4 and 8 threads */
    p->piece = ceil_div(p->tiles, p->pieces);
    p->block = imin(p->piece, p->pieces > 1 ? BLOCK : 2 * BLOCK);
    p->v_row = wino_row(g->c);
    p->v_step = p->block * p->v_row + LINE;
    p->y_row = wino_row(ceil_div(g->o, MR) * MR); /* the last tile of outputs reads past o */
    p->y_step = p->block * p->y_row + LINE;
    int64_t sets = p->pieces > 1 ? p->workers : 1;
    struct scratch s = scratch_open(base);
    p->v = scratch_take(&s, sets * PRODUCTS * p->v_step * 4);
    p->y = scratch_take(&s, sets * PRODUCTS * p->y_step * 4);
    p->s = scratch_take(&s, p->pieces * PRODUCTS * p->s_step * 4);
    p->zero = scratch_take(&s, imax(g->c, g->o) * 4);
    p->spare = scratch_take(&s, p->workers * p->s_row * 4);
    return scratch_bytes(&s);
}

int64_t K(cpu_winograd_weights_scratch)(const struct cpu_conv *g) {
    struct wino p;
    return layout(&p, g, NULL);
}

/* y[point * step + o] = G dy G' of one tile; output gradients outside the image count as zero. */
static void gradient_tile(const struct wino *p, float *to, const float *dy, int64_t y0,
                          int64_t x0) {
    const struct cpu_conv *g = p->g;
    const float *rows[STEP * STEP];
    for (int64_t i = 0; i < STEP * STEP; i++) {
        int64_t y = y0 + i / STEP, x = x0 + i % STEP;
        rows[i] = y < g->oh && x < g->ow ? dy + (y * g->ow + x) * g->o : p->zero;
    }
    for (int64_t o = 0; o < g->o; o += LANES) {
        vf half[STEP][POINTS];
#pragma GCC unroll 4
        for (int i = 0; i < STEP; i++) {
            vf d[STEP];
#pragma GCC unroll 4
            for (int j = 0; j < STEP; j++)
                d[j] = vload(rows[i * STEP + j] + o);
            wino_weights4(half[i], d);
        }
#pragma GCC unroll 6
        for (int j = 0; j < POINTS; j++) {
            vf d[STEP], t[POINTS];
#pragma GCC unroll 4
            for (int i = 0; i < STEP; i++)
                d[i] = half[i][j];
            wino_weights4(t, d);
#pragma GCC unroll 6
            for (int i = 0; i < POINTS; i++)
                vstore(to + (i * POINTS + j) * p->y_step + o, t[i]);
        }
    }
}

static void tile_rows(const struct wino *p, const float **rows, const float *x, int64_t tile) {
    const struct cpu_conv *g = p->g;
    int64_t area = p->across * p->down, n = tile / area;
    int64_t y0 = tile % area / p->across * STEP, x0 = tile % p->across * STEP;
    wino_rows(rows, x + n * g->h * g->w * g->c, p->zero, y0 - g->ph, x0 - g->pw, g->h, g->w, g->c);
}

static void transform_tile(const struct wino *p, const struct part *a, const float *x,
                           const float *dy, int64_t slot, int64_t tile) {
    const struct cpu_conv *g = p->g;
    const float *rows[PRODUCTS], *next[PRODUCTS];
    int64_t area = p->across * p->down, n = tile / area;
    int64_t y0 = tile % area / p->across * STEP, x0 = tile % p->across * STEP;
    tile_rows(p, rows, x, tile);
    tile_rows(p, next, x, imin(tile + 1, p->tiles - 1));
    wino_input_tile(a->v + slot * p->v_row, p->v_step, rows, next, g->c);
    gradient_tile(p, a->y + slot * p->y_row, dy + n * g->oh * g->ow * g->o, y0, x0);
}

/* out[m][j..] (+)= sum over tiles of y[m] v[0..NR] */
static __attribute__((noinline)) void sum_tiles(int64_t count, const float *v, int64_t v_row,
                                                const float *y, int64_t y_row, float *const *out,
                                                int64_t j, int64_t n, bool add) {
    vf t[MR][NV];
    tile_clear(t, out, j);
    if (n == NR) {
        for (int64_t i = 0; i < count; i++, v += v_row, y += y_row) {
            vf b0 = vload(v), b1 = vload(v + LANES);
#pragma GCC unroll 32
            for (int m = 0; m < MR; m++) {
                t[m][0] = vfma(vset(y[m]), b0, t[m][0]);
                t[m][1] = vfma(vset(y[m]), b1, t[m][1]);
            }
        }
    } else { /* channels are a multiple of LANES: one vector is left */
        for (int64_t i = 0; i < count; i++, v += v_row, y += y_row) {
            vf b0 = vload(v);
#pragma GCC unroll 32
            for (int m = 0; m < MR; m++)
                t[m][0] = vfma(vset(y[m]), b0, t[m][0]);
        }
    }
    tile_store(t, out, j, n, add);
}

/* Outputs o0 .. o0+MR of point k, all channels. */
static void sum_rows(const struct wino *p, const struct part *a, int64_t k, int64_t o0,
                     int64_t count, bool add) {
    float *out[MR];
    for (int64_t m = 0; m < MR; m++)
        out[m] = o0 + m < p->g->o ? a->s + k * p->s_step + (o0 + m) * p->s_row : a->spare;
    const float *y = a->y + k * p->y_step + o0;
    for (int64_t c = 0; c < p->g->c; c += NR)
        sum_tiles(count, a->v + k * p->v_step + c, p->v_row, y, p->y_row, out, c,
                  imin(NR, p->g->c - c), add);
}

static struct part part_of(const struct wino *p, int set, int64_t piece, int worker) {
    return (struct part){ .v = p->v + set * PRODUCTS * p->v_step,
                          .y = p->y + set * PRODUCTS * p->y_step,
                          .s = p->s + piece * PRODUCTS * p->s_step,
                          .spare = p->spare + worker * p->s_row };
}

/* The columns of Y past o only reach the spare row, but must not be denormal. */
static void clear_columns(const struct wino *p, float *y) {
    for (int64_t i = 0; i < PRODUCTS * p->block && p->g->o % MR != 0; i++) {
        float *row = y + i / p->block * p->y_step + i % p->block * p->y_row;
        memset(row + p->g->o, 0, (size_t)(p->y_row - p->g->o) * 4);
    }
}

static void run_piece(const struct wino *p, const float *x, const float *dy, int worker,
                      int64_t piece) {
    struct part a = part_of(p, worker, piece, worker);
    int64_t first = piece * p->piece, last = imin(p->tiles, first + p->piece);
    clear_columns(p, a.y);
    for (int64_t at = first; at < last && !interrupted(); at += p->block) {
        int64_t count = imin(p->block, last - at);
        for (int64_t i = 0; i < count; i++)
            transform_tile(p, &a, x, dy, i, at + i);
        for (int64_t k = 0; k < PRODUCTS; k++)
            for (int64_t o = 0; o < p->g->o; o += MR)
                sum_rows(p, &a, k, o, count, at > first);
    }
}

/* Inside a parallel region: every thread comes here. */
static void run_shared(const struct wino *p, const float *x, const float *dy, int worker) {
    struct part a = part_of(p, 0, 0, worker);
#pragma omp single
    clear_columns(p, a.y);
    for (int64_t at = 0; at < p->tiles; at += p->block) {
        int64_t count = imin(p->block, p->tiles - at);
#pragma omp for schedule(static)
        for (int64_t i = 0; i < count; i++)
            if (!interrupted())
                transform_tile(p, &a, x, dy, i, at + i);
#pragma omp for schedule(dynamic) collapse(2)
        for (int64_t k = 0; k < PRODUCTS; k++)
            for (int64_t o = 0; o < p->g->o; o += MR)
                if (!interrupted())
                    sum_rows(p, &a, k, o, count, at > 0);
    }
}

/* dw (3,3,c) of output channel o. */
static void finish(const struct wino *p, float *dw, int64_t o) {
    const float *s = p->s + o * p->s_row;
    for (int64_t c = 0; c < p->g->c; c += LANES) {
        vf half[3][POINTS];
#pragma GCC unroll 6
        for (int j = 0; j < POINTS; j++) {
            vf d[POINTS], t[3];
#pragma GCC unroll 6
            for (int i = 0; i < POINTS; i++)
                d[i] = vload(s + (i * POINTS + j) * p->s_step + c);
            for (int64_t q = 1; q < p->pieces; q++) {
#pragma GCC unroll 6
                for (int i = 0; i < POINTS; i++)
                    d[i] += vload(s + (q * PRODUCTS + i * POINTS + j) * p->s_step + c);
            }
            wino_output3(t, d);
#pragma GCC unroll 3
            for (int i = 0; i < 3; i++)
                half[i][j] = t[i];
        }
#pragma GCC unroll 3
        for (int i = 0; i < 3; i++) {
            vf t[3];
            wino_output3(t, half[i]);
#pragma GCC unroll 3
            for (int j = 0; j < 3; j++)
                vstore(dw + (o * 9 + i * 3 + j) * p->g->c + c, t[j]);
        }
    }
}

int K(cpu_winograd_weights)(float *dw, const float *dy, const float *x, const struct cpu_conv *g,
                            void *scratch) {
    struct wino p;
    layout(&p, g, scratch);
    memset(p.zero, 0, (size_t)imax(g->c, g->o) * 4);
#pragma omp parallel num_threads(p.workers)
    {
        int worker = omp_get_thread_num();
        if (p.pieces == 1) {
            run_shared(&p, x, dy, worker);
        } else {
#pragma omp for schedule(dynamic)
            for (int64_t i = 0; i < p.pieces; i++)
                run_piece(&p, x, dy, worker, i);
        }
#pragma omp for schedule(static)
        for (int64_t o = 0; o < g->o; o++)
            finish(&p, dw, o);
    }
    return interrupted() ? CPU_INTERRUPTED : CPU_OK;
}
