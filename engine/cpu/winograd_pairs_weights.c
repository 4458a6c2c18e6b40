/* Weight gradient of a 3x3 convolution of stride 1 by F(3x3,2x2) in bf16: every tile of 2x2 output
 * gradients and its 4x4 inputs give 16 products a channel pair instead of 36.
 *
 * The sum runs over tiles, so two tiles make a pair: a row of V (16, rows, c) from x and of
 * Y (16, rows, o) from dy holds the channels of tiles 2i and 2i+1, side by side in bf16. Then
 * S (16, o, c) += Y' V in f32; at the end dw comes from S. The work is shared as in
 * winograd_weights.c, in pieces with their own S or all threads in one.
 */
#include "cpu/f32.h"
#include "cpu/scratch.h"
#include "cpu/winograd_pairs.h"
#include "core/interrupt.h"
#include "core/threads.h"
#include <omp.h>

#define BLOCK 96  /* rows summed in registers; in the shared way twice as many */
#define PIECES 32 /* at most, and with all their S in PIECES_BYTES */
#define PIECES_BYTES (24 << 20)

#if PAIRS
struct wino {
    const struct cpu_conv *g;
    int64_t across, down, tiles, rows, block;
    int64_t pieces, piece; /* pieces of so many rows; 1 piece: the shared way */
    int64_t v_row, v_step, y_row, y_step, s_row, s_step;
    int workers;
    float *v, *y;   /* (sets, 16, step) pairs: a set for each worker, or one shared */
    float *s;       /* (pieces, 16, s_step) */
    uint16_t *zero; /* max(c, o) zeros */
    float *spare;   /* workers x s_row */
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
    p->rows = ceil_div(p->tiles, 2);
    p->workers = p->tiles * g->c * g->o < 100000 ? 1 : threads();
    p->s_row = wino_row(g->c);
    p->s_step = g->o * p->s_row + LINE;
    p->pieces = imin(PIECES, PIECES_BYTES / (PRODUCTS * p->s_step * 4));
    p->pieces = imin(p->pieces, p->rows / BLOCK);
    p->pieces = p->pieces < 8 ? 1 : p->pieces - p->pieces % 8; /* even for 2, 4 and 8 threads */
    p->piece = ceil_div(p->rows, p->pieces);
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
    p->zero = scratch_take(&s, imax(g->c, g->o) * 2);
    p->spare = scratch_take(&s, p->workers * p->s_row * 4);
    return scratch_bytes(&s);
}

int64_t K(cpu_winograd_pairs_weights_scratch)(const struct cpu_conv *g) {
    struct wino p;
    return layout(&p, g, NULL);
}

/* Where the inputs (16) and the output gradients (4) of a tile are; zeros for a tile past the end
 * and outside the image. */
static void find_rows(const struct wino *p, const uint16_t **x_rows, const uint16_t **y_rows,
                      const uint16_t *x, const uint16_t *dy, int64_t tile) {
    const struct cpu_conv *g = p->g;
    int64_t area = p->across * p->down, n = tile / area;
    int64_t y0 = tile % area / p->across * STEP, x0 = tile % p->across * STEP;
    bool there = tile < p->tiles;
    wino_rows(x_rows, x + n * g->h * g->w * g->c, p->zero, y0 - g->ph, x0 - g->pw, there ? g->h : 0,
              g->w, g->c);
    for (int64_t i = 0; i < STEP * STEP; i++) {
        int64_t py = y0 + i / STEP, px = x0 + i % STEP;
        bool inside = there && py < g->oh && px < g->ow;
        y_rows[i] = inside ? dy + ((n * g->oh + py) * g->ow + px) * g->o : p->zero;
    }
}

/* t[point] = G dy G' of the channels from o on. */
ALWAYS_INLINE void gradient_tile(vf *t, const uint16_t *const *rows, int64_t o) {
    vf half[STEP][POINTS];
#pragma GCC unroll 2
    for (int i = 0; i < STEP; i++) {
        vf d[STEP] = { vwiden(rows[i * STEP] + o), vwiden(rows[i * STEP + 1] + o) };
        wino_weights2(half[i], d);
    }
#pragma GCC unroll 4
    for (int j = 0; j < POINTS; j++) {
        vf d[STEP] = { half[0][j], half[1][j] }, column[POINTS];
        wino_weights2(column, d);
#pragma GCC unroll 4
        for (int i = 0; i < POINTS; i++)
            t[i * POINTS + j] = column[i];
    }
}

/* Tiles 2 row and 2 row + 1, to place `slot` of the block. */
static void transform_row(const struct wino *p, const struct part *a, const uint16_t *x,
                          const uint16_t *dy, int64_t slot, int64_t row) {
    const uint16_t *x_rows[2][PRODUCTS], *y_rows[2][STEP * STEP];
    float *v = a->v + slot * p->v_row, *y = a->y + slot * p->y_row;
    vf even[PRODUCTS], odd[PRODUCTS];
    find_rows(p, x_rows[0], y_rows[0], x, dy, 2 * row);
    find_rows(p, x_rows[1], y_rows[1], x, dy, 2 * row + 1);
    for (int64_t c = 0; c < p->g->c; c += LANES) {
        wino_input_tile(even, x_rows[0], c);
        wino_input_tile(odd, x_rows[1], c);
#pragma GCC unroll 16
        for (int k = 0; k < PRODUCTS; k++)
            vstore(v + k * p->v_step + c, vzip(vround(even[k]), vround(odd[k])));
    }
    for (int64_t o = 0; o < p->g->o; o += LANES) {
        gradient_tile(even, y_rows[0], o);
        gradient_tile(odd, y_rows[1], o);
#pragma GCC unroll 16
        for (int k = 0; k < PRODUCTS; k++)
            vstore(y + k * p->y_step + o, vzip(vround(even[k]), vround(odd[k])));
    }
}

/* out[m][j..] (+)= sum over rows of y[m] v[0..NR] */
static __attribute__((noinline)) void sum_rows(int64_t count, const float *v, int64_t v_row,
                                               const float *y, int64_t y_row, float *const *out,
                                               int64_t j, int64_t n, bool add) {
    vf t[MR][NV];
    tile_clear(t, out, j);
    if (n == NR) {
        for (int64_t i = 0; i < count; i++, v += v_row, y += y_row) {
            vf b0 = vload(v), b1 = vload(v + LANES);
#pragma GCC unroll 32
            for (int m = 0; m < MR; m++) {
                vf a = vset_pair(y + m);
                t[m][0] = vdot(a, b0, t[m][0]);
                t[m][1] = vdot(a, b1, t[m][1]);
            }
        }
    } else { /* channels are a multiple of LANES: one vector is left */
        for (int64_t i = 0; i < count; i++, v += v_row, y += y_row) {
            vf b0 = vload(v);
#pragma GCC unroll 32
            for (int m = 0; m < MR; m++)
                t[m][0] = vdot(vset_pair(y + m), b0, t[m][0]);
        }
    }
    tile_store(t, out, j, n, add);
}

/* Outputs o0 .. o0+MR of point k, all channels. */
static void sum_outputs(const struct wino *p, const struct part *a, int64_t k, int64_t o0,
                        int64_t count, bool add) {
    float *out[MR];
    for (int64_t m = 0; m < MR; m++)
        out[m] = o0 + m < p->g->o ? a->s + k * p->s_step + (o0 + m) * p->s_row : a->spare;
    const float *y = a->y + k * p->y_step + o0;
    for (int64_t c = 0; c < p->g->c; c += NR)
        sum_rows(count, a->v + k * p->v_step + c, p->v_row, y, p->y_row, out, c,
                 imin(NR, p->g->c - c), add);
}

static struct part part_of(const struct wino *p, int set, int64_t piece, int worker) {
    return (struct part){ .v = p->v + set * PRODUCTS * p->v_step,
                          .y = p->y + set * PRODUCTS * p->y_step,
                          .s = p->s + piece * PRODUCTS * p->s_step,
                          .spare = p->spare + worker * p->s_row };
}

static void run_piece(const struct wino *p, const uint16_t *x, const uint16_t *dy, int worker,
                      int64_t piece) {
    struct part a = part_of(p, worker, piece, worker);
    int64_t first = piece * p->piece, last = imin(p->rows, first + p->piece);
    for (int64_t at = first; at < last && !interrupted(); at += p->block) {
        int64_t count = imin(p->block, last - at);
        for (int64_t i = 0; i < count; i++)
            transform_row(p, &a, x, dy, i, at + i);
        for (int64_t k = 0; k < PRODUCTS; k++)
            for (int64_t o = 0; o < p->g->o; o += MR)
                sum_outputs(p, &a, k, o, count, at > first);
    }
}

/* Inside a parallel region: every thread comes here. */
static void run_shared(const struct wino *p, const uint16_t *x, const uint16_t *dy, int worker) {
    struct part a = part_of(p, 0, 0, worker);
    for (int64_t at = 0; at < p->rows; at += p->block) {
        int64_t count = imin(p->block, p->rows - at);
#pragma omp for schedule(static)
        for (int64_t i = 0; i < count; i++)
            if (!interrupted())
                transform_row(p, &a, x, dy, i, at + i);
#pragma omp for schedule(dynamic) collapse(2)
        for (int64_t k = 0; k < PRODUCTS; k++)
            for (int64_t o = 0; o < p->g->o; o += MR)
                if (!interrupted())
                    sum_outputs(p, &a, k, o, count, at > 0);
    }
}

/* dw (3,3,c) of output channel o. */
static void finish(const struct wino *p, uint16_t *dw, int64_t o) {
    const float *s = p->s + o * p->s_row;
    for (int64_t c = 0; c < p->g->c; c += LANES) {
        vf half[3][POINTS];
#pragma GCC unroll 4
        for (int j = 0; j < POINTS; j++) {
            vf d[POINTS], t[3];
#pragma GCC unroll 4
            for (int i = 0; i < POINTS; i++)
                d[i] = vload(s + (i * POINTS + j) * p->s_step + c);
            for (int64_t q = 1; q < p->pieces; q++) {
#pragma GCC unroll 4
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
                vnarrow(dw + (o * 9 + i * 3 + j) * p->g->c + c, t[j]);
        }
    }
}

int K(cpu_winograd_pairs_weights)(uint16_t *dw, const uint16_t *dy, const uint16_t *x,
                                  const struct cpu_conv *g, void *scratch) {
    struct wino p;
    layout(&p, g, scratch);
    memset(p.zero, 0, (size_t)imax(g->c, g->o) * 2);
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
#endif
