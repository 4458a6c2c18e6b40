/* 3x3 convolutions of stride 2 by Winograd's way: forward and input gradient. See
 * winograd_strided.h for the transforms.
 *
 * The weights become U (36, panels of co, ci, NR). A task takes a block of tiles: V (81, tiles, ci)
 * from the image, 9x9 of its pixels a tile or 5x5 of the output gradient; then, a panel of outputs
 * at a time, the 81 products M (81, tiles, NR) = V U and the outputs from M, 4x4 of them or 8x8.
 * Points that have one weight take their turns one after the other.
 */
#include "cpu/cut.h"
#include "cpu/f32.h"
#include "cpu/scratch.h"
#include "cpu/winograd_strided.h"
#include "core/interrupt.h"
#include "core/threads.h"
#include <omp.h>

#define TILES 24
#define KC 128 /* channels summed in registers, as in winograd.c */

struct wino {
    const struct cpu_conv *g;
    bool back;
    struct conv_ends e;
    int64_t across, down, tiles; /* tiles a row, a column, in all */
    struct cut cut;              /* of the tiles, in blocks of at most TILES */
    int64_t panels, u_step, v_row, v_step, m_step;
    int workers;
    float *u;    /* (36, u_step): panels (ci, NR) */
    float *v;    /* workers x (81, v_step): rows of v_row */
    float *m;    /* workers x (81, m_step): rows of NR */
    float *taps; /* workers x (9, ci, NR): one panel of the weights as they are */
    float *bias; /* (panels * NR) */
    float *zero; /* ci zeros */
};

static int64_t layout(struct wino *p, const struct cpu_conv *g, bool back, void *base) {
    *p = (struct wino){ .g = g, .back = back };
    p->e = conv_ends_of(g, back);
    int64_t made = back ? 2 * STEP : STEP;
    p->across = ceil_div(p->e.w, made);
    p->down = ceil_div(p->e.h, made);
    p->tiles = g->n * p->across * p->down;
    p->workers = p->tiles * p->e.ci * p->e.co < 20000 ? 1 : threads();
    p->cut = cut_rows(p->tiles, p->workers, TILES, MR);
    p->panels = ceil_div(p->e.co, NR);
    p->u_step = p->panels * p->e.ci * NR + LINE;
    p->v_row = wino_row(p->e.ci);
    p->v_step = p->cut.block * p->v_row + LINE;
    p->m_step = p->cut.block * NR + LINE;
    struct scratch s = scratch_open(base);
    p->u = g->u ? kept_data(g->u) : scratch_take(&s, WEIGHTS * p->u_step * 4);
    p->v = scratch_take(&s, p->workers * PRODUCTS * p->v_step * 4);
    p->m = scratch_take(&s, p->workers * PRODUCTS * p->m_step * 4);
    p->taps = scratch_take(&s, p->workers * 9 * p->e.ci * NR * 4);
    p->bias = scratch_take(&s, p->panels * NR * 4);
    p->zero = scratch_take(&s, p->e.ci * 4);
    return scratch_bytes(&s);
}

/* Where it pays, in tiles; the row of a convolution is the first whose channels hold max(c, o). Of
 * 32 the transforms take what the products win, but for the input gradient, whose direct tiles lie
 * apart. Beside it the worst error over the largest output, and the same of a plain f32 loop in
 * brackets, for forward and input gradient of half as many channels in as out, at batch 16 and the
 * sizes of ResNet-18 (tests/bench/kernels.c errors). */
static const struct {
    int64_t channels, forward, back;
} table[] = {
    { 32, INT64_MAX, 8 }, /* 4.9e-7 (3.4e-7)  7.5e-7 (2.9e-7) */
    { 64, 8, 8 },         /* 6.0e-7 (4.5e-7)  1.5e-6 (4.5e-7) */
    { 128, 8, 8 },        /* 9.5e-7 (6.1e-7)  1.0e-6 (5.7e-7) */
    { 256, 12, 12 },      /* 1.1e-6 (1.3e-6)  2.1e-6 (7.1e-7) */
    { 512, 24, 24 },      /* 1.3e-6 (1.3e-6)  1.2e-6 (1.1e-6) */
};

/* Padding is 1: the input gradient's tiles begin where it does. */
static bool takes(const struct cpu_conv *g, bool back) {
    if (cpu_conv_direct || g->groups != 1 || g->kh != 3 || g->kw != 3 || g->sh != 2 || g->sw != 2 ||
        g->dh != 1 || g->dw != 1 || g->ph != 1 || g->pw != 1 || g->c % LANES != 0 ||
        g->o % LANES != 0 || imin(g->c, g->o) < WINO_LEAST || imin(g->oh, g->ow) < 3)
        return false;
    int64_t h = back ? ceil_div(g->h, 2) : g->oh, w = back ? ceil_div(g->w, 2) : g->ow;
    int64_t tiles = g->n * ceil_div(h, STEP) * ceil_div(w, STEP);
    /* Tiles that hang over the edge by more than half lose what the transform wins. */
    if (tiles * STEP * STEP > 2 * g->n * h * w)
        return false;
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (imax(g->c, g->o) <= table[i].channels)
            return tiles >= (back ? table[i].back : table[i].forward);
    return false;
}

bool K(cpu_strided_takes)(const struct cpu_conv *g, bool back) {
    return takes(g, back);
}

int64_t K(cpu_strided_form)(const struct cpu_conv *g, bool back) {
    struct wino p;
    if (!takes(g, back))
        return 0;
    layout(&p, g, back, NULL);
    return WEIGHTS * p.u_step * 4;
}

int64_t K(cpu_strided_scratch)(const struct cpu_conv *g, bool back) {
    struct wino p;
    return layout(&p, g, back, NULL);
}

/* Panel q of the weights: u[weight] (ci, NR). */
static void transform_weights(const struct wino *p, const float *w, int worker, int64_t q) {
    int64_t ci = p->e.ci, first = q * NR, n = imin(NR, p->e.co - first);
    float *taps = p->taps + worker * 9 * ci * NR;
    if (p->back)
        for (int64_t t = 0; t < 9; t++)
            pack_rows(taps + (8 - t) * ci * NR, w + t * p->e.co + first, 9 * p->e.co, ci, n);
    else
        pack_columns(taps, w + first * 9 * ci, 9 * ci, 9 * ci, n);
    for (int64_t c = 0; c < ci * NR; c += LANES) {
        vf half[3][SHORT + 1];
#pragma GCC unroll 3
        for (int i = 0; i < 3; i++) {
            vf g[3];
#pragma GCC unroll 3
            for (int j = 0; j < 3; j++)
                g[j] = vload(taps + (i * 3 + j) * ci * NR + c);
            wino_weights3(half[i], g);
        }
        float *u = p->u + q * ci * NR + c;
#pragma GCC unroll 6
        for (int j = 0; j <= SHORT; j++) {
            vf g[3], t[SHORT + 1];
#pragma GCC unroll 3
            for (int i = 0; i < 3; i++)
                g[i] = half[i][j];
            wino_weights3(t, g);
#pragma GCC unroll 6
            for (int i = 0; i <= SHORT; i++)
                vstore(u + (i * (SHORT + 1) + j) * p->u_step, t[i]);
        }
    }
}

/* ---- Tiles ---- */
/* The nine points of a row or a column: of 9 inputs, or (back) of 5. */
ALWAYS_INLINE void points_of(vf *t, const vf *d, const bool back) {
    vf even[SHORT];
#pragma GCC unroll 5
    for (int i = 0; i < SHORT; i++)
        even[i] = d[back ? i : 2 * i];
    wino_short_input(t, even);
#pragma GCC unroll 4
    for (int i = 0; i < STEP; i++)
        t[SHORT + i] = d[back ? i : 2 * i + 1];
}

/* v[point * step + c] of the pixels at rows. Meanwhile the next tile's are fetched. */
ALWAYS_INLINE void input_tile(const struct wino *p, float *v, const float *const *rows,
                              const float *const *next, const bool back) {
    const int side = back ? SHORT : POINTS;
    for (int64_t c = 0; c < p->e.ci; c += LANES) {
        vf half[POINTS][POINTS];
        for (int i = 0; i < side * side && c % LINE == 0; i++)
            __builtin_prefetch(next[i] + c);
        for (int i = 0; i < side; i++) {
            vf d[POINTS];
#pragma GCC unroll 9
            for (int j = 0; j < side; j++)
                d[j] = vload(rows[i * side + j] + c);
            points_of(half[i], d, back);
        }
        for (int j = 0; j < POINTS; j++) {
            vf d[POINTS], t[POINTS];
#pragma GCC unroll 9
            for (int i = 0; i < side; i++)
                d[i] = half[i][j];
            points_of(t, d, back);
#pragma GCC unroll 9
            for (int i = 0; i < POINTS; i++)
                vstore(v + (i * POINTS + j) * p->v_step + c, t[i]);
        }
    }
}

/* What nine points give: 4 outputs, or (back) 8, those of the four points first. */
ALWAYS_INLINE void outputs_of(vf *y, const vf *m, const bool back) {
    vf t[STEP];
    wino_short_output(t, m);
#pragma GCC unroll 4
    for (int i = 0; i < STEP; i++) {
        if (back) {
            y[2 * i] = m[SHORT + i];
            y[2 * i + 1] = t[i];
        } else {
            y[i] = t[i] + m[SHORT + i];
        }
    }
}

/* The outputs o .. o+n of one tile from m[point * step]; those outside the image are left out. */
ALWAYS_INLINE void output_tile(const struct wino *p, float *y, const float *m, int64_t y0,
                               int64_t x0, int64_t o, int64_t n, const bool back) {
    const int made = back ? 2 * STEP : STEP;
    for (int64_t c = 0; c < n; c += LANES) {
        vf half[2 * STEP][POINTS], b = vload(p->bias + o + c);
        for (int j = 0; j < POINTS; j++) {
            vf d[POINTS], t[2 * STEP];
#pragma GCC unroll 9
            for (int i = 0; i < POINTS; i++)
                d[i] = vload(m + (i * POINTS + j) * p->m_step + c);
            outputs_of(t, d, back);
#pragma GCC unroll 8
            for (int i = 0; i < made; i++)
                half[i][j] = t[i];
        }
        for (int i = 0; i < made && y0 + i < p->e.h; i++) {
            vf t[2 * STEP];
            outputs_of(t, half[i], back);
            float *out = y + ((y0 + i) * p->e.w + x0) * p->e.co + o + c;
#pragma GCC unroll 8
            for (int j = 0; j < made; j++, out += p->e.co)
                if (x0 + j < p->e.w)
                    vstore(out, t[j] + (p->g->add ? vload(out) : b));
        }
    }
}

static void tile_rows(const struct wino *p, const float **rows, const float *x, int64_t tile) {
    int64_t area = p->across * p->down, at = tile % area;
    const float *image = x + tile / area * p->e.in_h * p->e.in_w * p->e.ci;
    int64_t y = at / p->across * STEP, x0 = at % p->across * STEP;
    if (p->back)
        wino_rows(rows, SHORT, image, p->zero, y, x0, p->e.in_h, p->e.in_w, p->e.ci);
    else
        wino_rows(rows, POINTS, image, p->zero, 2 * y - 1, 2 * x0 - 1, p->e.in_h, p->e.in_w,
                  p->e.ci);
}

/* ---- A block ---- */
/* M of a panel at one point. */
static void point_product(const struct wino *p, float *m, const float *v, const float *u,
                          int64_t point, int64_t count, int64_t n) {
    const float *rows[TILES + MR];
    float *out[TILES + MR];
    v += point * p->v_step;
    m += point * p->m_step;
    if (thin_pays(p->e.ci, n, false)) {
        thin_sums(v, p->v_row, m, NR, count, u, p->e.ci, n, false);
        return;
    }
    for (int64_t i = 0; i < p->cut.block; i++) {
        rows[i] = v + i * p->v_row;
        out[i] = m + i * NR;
    }
    for (int64_t c = 0; c < p->e.ci; c += KC) {
        struct tile_sum s = { .b = u + c * NR, .len = imin(KC, p->e.ci - c), .k0 = c, .count = 1 };
        for (int64_t i = 0; i < count; i += MR) {
            s.rows = rows + i;
            tile_run(&s, out + i, 0, n, c > 0, NULL);
        }
    }
}

ALWAYS_INLINE void run_block(const struct wino *p, float *y, const float *x, int worker,
                             int64_t first, int64_t count, const bool back) {
    int64_t area = p->across * p->down, made = back ? 2 * STEP : STEP;
    float *v = p->v + worker * PRODUCTS * p->v_step, *m = p->m + worker * PRODUCTS * p->m_step;
    const float *tile[2][PRODUCTS]; /* this one's and the next one's rows */
    tile_rows(p, tile[0], x, first);
    for (int64_t i = 0; i < count; i++) {
        tile_rows(p, tile[(i + 1) % 2], x, imin(first + i + 1, p->tiles - 1));
        input_tile(p, v + i * p->v_row, tile[i % 2], tile[(i + 1) % 2], back);
    }
    for (int64_t q = 0; q < p->panels; q++) {
        int64_t n = imin(NR, p->e.co - q * NR);
        for (int k = 0; k < WEIGHTS; k++) {
            const float *u = p->u + k * p->u_step + q * p->e.ci * NR;
            int down = k / (SHORT + 1), across = k % (SHORT + 1);
            for (int i = down; i < (down < SHORT ? down + 1 : POINTS); i++)
                for (int j = across; j < (across < SHORT ? across + 1 : POINTS); j++)
                    point_product(p, m, v, u, i * POINTS + j, count, n);
        }
        for (int64_t i = 0; i < count; i++) {
            int64_t image = (first + i) / area, at = (first + i) % area;
            output_tile(p, y + image * p->e.h * p->e.w * p->e.co, m + i * NR, at / p->across * made,
                        at % p->across * made, q * NR, n, back);
        }
    }
}

int K(cpu_strided)(float *y, const float *x, const float *w, const float *bias,
                   const struct cpu_conv *g, bool back, void *scratch) {
    struct wino p;
    layout(&p, g, back, scratch);
    bool ready = g->u && g->u->made;
    memset(p.zero, 0, (size_t)p.e.ci * 4);
    for (int64_t i = 0; i < p.panels * NR; i++)
        p.bias[i] = bias && i < p.e.co ? bias[i] : 0;
#pragma omp parallel num_threads(p.workers)
    {
        int worker = omp_get_thread_num();
#pragma omp for schedule(dynamic)
        for (int64_t q = 0; q < (ready ? 0 : p.panels); q++)
            transform_weights(&p, w, worker, q);
#pragma omp for schedule(dynamic)
        for (int64_t i = 0; i < p.cut.tasks; i++) {
            int64_t at, count = cut_task(&p.cut, i, &at);
            if (count <= 0 || interrupted())
                continue;
            if (back)
                run_block(&p, y, x, worker, at, count, true);
            else
                run_block(&p, y, x, worker, at, count, false);
        }
    }
    if (g->u)
        g->u->made = true;
    return interrupted() ? CPU_INTERRUPTED : CPU_OK;
}
