/* 3x3 convolutions of stride 2 by Winograd's way: forward and input gradient. A tile reads 9x9
 * pixels of the image for 4x4 outputs, or 5x5 of the output gradient for 8x8. See
 * winograd_strided.h for the transforms.
 */
#include "cpu/winograd_strided.h"

#define TILES 24
#define KC 128 /* as in winograd.c */

#include "cpu/winograd_run.h"

/* Where it pays; the row of a convolution is the first whose channels hold max(c, o). Of 32 the
 * transforms take what the products win, but for the input gradient, whose direct tiles lie apart.
 * Beside it the worst error over the largest output, and the same of a plain f32 loop in brackets,
 * for forward, input gradient, weight gradient of half as many channels in as out, at batch 32 and
 * the sizes of ResNet-18 (tests/bench/kernels.c errors). */
static const struct wino_pays table[] = {
    { 32, { WINO_NEVER, 8, WINO_NEVER } }, /* 3.8e-7 (3.8e-7)  7.4e-7 (2.8e-7)  2.7e-7 (3.0e-6) */
    { 64, { 8, 8, 8 } },                   /* 5.0e-7 (4.5e-7)  1.1e-6 (4.1e-7)  1.3e-6 (1.2e-6) */
    { 128, { 8, 8, 8 } },                  /* 1.0e-6 (7.5e-7)  1.6e-6 (7.1e-7)  6.1e-7 (2.1e-6) */
    { 256, { 12, 12, 12 } },               /* 1.1e-6 (1.0e-6)  1.5e-6 (5.8e-7)  1.0e-6 (1.1e-6) */
    { 512, { 24, 24, 24 } },               /* 1.1e-6 (1.6e-6)  2.0e-6 (1.7e-6)  6.0e-7 (7.6e-7) */
};

/* Padding is 1: the input gradient's tiles begin where it does. */
static bool takes(const struct cpu_conv *g, enum wino_job job) {
    return g->ph == 1 && g->pw == 1 && wino_pays(g, job, table, sizeof table / sizeof *table);
}

bool K(cpu_strided_takes)(const struct cpu_conv *g, bool back) {
    return takes(g, back ? WINO_INPUT_GRAD : WINO_FORWARD);
}

bool K(cpu_strided_weights_takes)(const struct cpu_conv *g) {
    return takes(g, WINO_WEIGHT_GRAD);
}

int64_t K(cpu_strided_form)(const struct cpu_conv *g, bool back) {
    return K(cpu_strided_takes)(g, back) ? wino_form(g, back) : 0;
}

int64_t K(cpu_strided_scratch)(const struct cpu_conv *g, bool back) {
    return wino_scratch(g, back);
}

static void tile_rows(const struct wino *p, const float **rows, const float *x, int64_t tile) {
    int64_t area = p->across * p->down, at = tile % area;
    const float *image = x + tile / area * p->e.in_h * p->e.in_w * p->e.ci;
    int64_t y0 = at / p->across * STEP, x0 = at % p->across * STEP;
    if (p->back)
        wino_rows(rows, SHORT, image, p->zero, y0, x0, p->e.in_h, p->e.in_w, p->e.ci);
    else
        wino_rows(rows, POINTS, image, p->zero, 2 * y0 - 1, 2 * x0 - 1, p->e.in_h, p->e.in_w,
                  p->e.ci);
}

static void input_tile(const struct wino *p, float *v, const float *const *rows,
                       const float *const *next) {
    if (p->back)
        wino_input_tile(v, p->v_step, rows, next, p->e.ci, true);
    else
        wino_input_tile(v, p->v_step, rows, next, p->e.ci, false);
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

ALWAYS_INLINE void outputs(const struct wino *p, float *y, const float *m, int64_t y0, int64_t x0,
                           int64_t o, int64_t n, const bool back, const enum end end) {
    const int made = MADE(back);
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
            for (int j = 0; j < made; j++, out += p->e.co) {
                if (x0 + j >= p->e.w)
                    break;
                put(out, t[j], b, end);
            }
        }
    }
}

static void output_tile(const struct wino *p, float *y, const float *m, int64_t y0, int64_t x0,
                        int64_t o, int64_t n) {
    if (p->back && p->end == STREAM)
        outputs(p, y, m, y0, x0, o, n, true, STREAM);
    else if (p->back)
        outputs(p, y, m, y0, x0, o, n, true, p->end);
    else if (p->end == STREAM)
        outputs(p, y, m, y0, x0, o, n, false, STREAM);
    else
        outputs(p, y, m, y0, x0, o, n, false, p->end);
}

int K(cpu_strided)(float *y, const float *x, const float *w, const float *bias,
                   const struct cpu_conv *g, bool back, void *scratch) {
    return wino_run(y, x, w, bias, g, back, scratch);
}
