/* Convolution in groups of few channels in f32, down to one (depthwise).
 *
 * With so few channels to sum over, vectors run along the outputs: LANES outputs k at once,
 *   y[p][k] = sum over taps t and planes l of s[t(p)][l][k] w[t][l][k]
 * where s[pixel][l][k] is the l-th channel of the group that k belongs to, and l counts the
 * channels of a group: each input channel is repeated for all outputs of its group. A task copies a
 * strip of rows in this form, with zeros round the image, so that all its pixels sum over the same
 * taps. The input gradient is the same sum with the roles of in and out exchanged; under a stride
 * its pixels fall in stride x stride classes of equal position modulo the stride, each with taps of
 * its own. The weight gradient takes the same strips, and sums s dy over pixels.
 *
 * Some groups are done at a time, so that a pixel of the strip is short and a strip stays in the
 * second cache. Sums are cut by shapes only, and threads share out strips.
 */
#include "cpu/conv_group.h"
#include "cpu/gemm.h"
#include "cpu/scratch.h"
#include "cpu/tile.h"
#include "core/interrupt.h"
#include "core/threads.h"
#include <omp.h>

#define PIXEL 256 /* floats of a pixel of the strip, about */
#define STRIP_BYTES (192 << 10)
#define LEAST_ROWS 4           /* of its outputs: below, the rows that strips share weigh */
#define PIXELS 8               /* summed in registers at once */
#define TAPS 9                 /* the same of a weight gradient */
#define PIECES 32              /* sums of a weight gradient that are added at the end */
#define MOST_BYTES (256 << 20) /* of scratch */

/* One term of a sum: floats from the first pixel's source in the strip, and its weights (k). */
struct tap {
    int64_t at;
    const float *w;
};

struct plan {
    const struct cpu_conv *g; /* of the groups done at a time */
    bool back;
    int64_t x_step, y_step;  /* floats from pixel to pixel of the image, of the output */
    int64_t k, planes, same; /* outputs, channels of a group in, out */
    int64_t pixel;           /* floats of a pixel of the strip: planes * k, or more */
    int64_t h, w;            /* output image */
    int64_t in_h, in_w, in_c;
    int64_t left, across;  /* columns of zeros before the image; all columns of the strip */
    int64_t strip, strips; /* output rows of a task; tasks an image */
    int64_t in_rows;       /* most rows of a strip */
    int64_t classes_y, classes_x;
    int64_t terms;  /* taps * planes */
    int64_t pieces; /* of a weight gradient */
    int workers;
    float *weights;   /* (taps, planes, k) */
    float *source;    /* workers x (in_rows, across, pixel) */
    struct tap *taps; /* (classes_y * classes_x, terms), of their count */
    int64_t *count;   /* (classes_y * classes_x) */
    float *part;      /* (pieces, terms, k) */
    float *line;      /* workers x (w, k): a row that is added to the output */
};

static int64_t floor_div(int64_t a, int64_t b) {
    return a >= 0 ? a / b : -ceil_div(-a, b);
}

/* First and last row (or column) of the source that output rows y0 to y1 see. */
static int64_t first_seen(bool back, int64_t y0, int64_t k, int64_t s, int64_t p, int64_t d) {
    return back ? floor_div(y0 + p - (k - 1) * d, s) : y0 * s - p;
}
static int64_t last_seen(bool back, int64_t y1, int64_t k, int64_t s, int64_t p, int64_t d) {
    return back ? floor_div(y1 + p, s) : y1 * s - p + (k - 1) * d;
}

static int64_t rows_of(const struct plan *p, int64_t y0, int64_t y1) {
    const struct cpu_conv *g = p->g;
    return last_seen(p->back, y1, g->kh, g->sh, g->ph, g->dh) -
           first_seen(p->back, y0, g->kh, g->sh, g->ph, g->dh) + 1;
}

/* Some of g's groups. */
static struct cpu_conv groups_of(const struct cpu_conv *g, int64_t some) {
    struct cpu_conv part = *g;
    part.groups = some;
    part.c = g->c / g->groups * some;
    part.o = g->o / g->groups * some;
    return part;
}

/* Groups done at a time: all about the same number. */
static int64_t groups_at_once(const struct cpu_conv *g) {
    int64_t ci = g->c / g->groups, co = g->o / g->groups;
    int64_t some = imax(PIXEL / imax(1, ci * co), ceil_div(2 * LANES, imax(1, imin(ci, co))));
    return ceil_div(g->groups, ceil_div(g->groups, some));
}

/* g: groups_of(all, some) */
static int64_t layout(struct plan *p, const struct cpu_conv *all, const struct cpu_conv *g,
                      bool back, bool weights, void *base) {
    *p = (struct plan){ .g = g, .back = back };
    p->x_step = back ? all->o : all->c;
    p->y_step = back ? all->c : all->o;
    p->k = back ? g->c : g->o;
    p->in_c = back ? g->o : g->c;
    p->same = p->k / g->groups;
    p->planes = p->in_c / g->groups;
    p->pixel = p->planes * p->k;
    if (p->pixel % 64 == 0) /* pixels 256 bytes apart would fall in one bank of the cache */
        p->pixel += LANES;
    p->h = back ? g->h : g->oh;
    p->w = back ? g->w : g->ow;
    p->in_h = back ? g->oh : g->h;
    p->in_w = back ? g->ow : g->w;
    p->classes_y = back ? g->sh : 1;
    p->classes_x = back ? g->sw : 1;
    p->terms = g->kh * g->kw * p->planes;
    int64_t first = first_seen(back, 0, g->kw, g->sw, g->pw, g->dw);
    int64_t last = last_seen(back, imax(p->w, 1) - 1, g->kw, g->sw, g->pw, g->dw);
    p->left = -first;
    p->across = last - first + 1;
    p->strip = imax(p->h, 1);
    while (p->strip > LEAST_ROWS &&
           rows_of(p, 0, p->strip - 1) * p->across * p->pixel * 4 > STRIP_BYTES)
        p->strip = ceil_div(p->strip, 2);
    /* Of strips that start anywhere, one may see a row more under a stride. */
    p->in_rows = rows_of(p, 0, p->strip - 1) + 1;
    p->strips = ceil_div(p->h, p->strip);
    p->pieces = weights ? imin(PIECES, g->n * p->strips) : 0;
    p->workers = g->n * p->h * p->w * p->k * p->terms < 500000 ? 1 : threads();
    struct scratch s = scratch_open(base);
    p->weights = scratch_take(&s, weights ? 0 : p->terms * p->k * 4);
    p->source = scratch_take(&s, p->workers * p->in_rows * p->across * p->pixel * 4);
    p->taps = scratch_take(&s, p->classes_y * p->classes_x * p->terms * (int64_t)sizeof *p->taps);
    p->count = scratch_take(&s, p->classes_y * p->classes_x * 8);
    p->part = scratch_take(&s, p->pieces * p->terms * p->k * 4);
    p->line = scratch_take(&s, g->add ? p->workers * p->w * p->k * 4 : 0);
    return s.at > MOST_BYTES ? -1 : scratch_bytes(&s);
}

/* ---- The strip ---- */
/* d (planes, k) = the channels s (groups, planes), each for `same` outputs. */
static void spread(float *d, const float *s, const struct plan *p) {
    for (int64_t l = 0; l < p->planes; l++)
        for (int64_t i = l; i < p->in_c; i += p->planes, d += p->same)
            if (p->same % 4 == 0)
                for (int64_t j = 0; j < p->same; j += 4)
                    *(v4 *)(d + j) = s[i] - (v4){ 0 };
            else
                for (int64_t j = 0; j < p->same; j++)
                    d[j] = s[i];
}

/* The same where in and out are one channel. */
static void copy_pixel(float *d, const float *s, int64_t k) {
    int64_t i = 0;
    for (; i + LANES <= k; i += LANES)
        vstore(d + i, vload(s + i));
    copy_floats(d + i, s + i, k - i);
}

/* Rows of image x that output rows y0 .. y1 see, from row i0 on; zeros outside the image. */
static void fill_strip(const struct plan *p, float *strip, const float *x, int64_t i0,
                       int64_t rows) {
    int64_t line = p->across * p->pixel;
    int64_t c0 = imax(0, -p->left), c1 = imax(c0, imin(p->in_w, p->across - p->left));
    for (int64_t i = 0; i < rows; i++, strip += line) {
        int64_t row = i0 + i;
        if (row < 0 || row >= p->in_h || c0 == c1) {
            memset(strip, 0, (size_t)line * 4);
            continue;
        }
        const float *s = x + (row * p->in_w + c0) * p->x_step;
        float *d = strip + (p->left + c0) * p->pixel;
        memset(strip, 0, (size_t)(d - strip) * 4);
        bool plain = p->planes == 1 && p->same == 1;
        if (plain && p->x_step == p->pixel)
            memcpy(d, s, (size_t)((c1 - c0) * p->pixel) * 4);
        else
            for (int64_t c = 0; c < c1 - c0; c++)
                if (plain)
                    copy_pixel(d + c * p->pixel, s + c * p->x_step, p->k);
                else
                    spread(d + c * p->pixel, s + c * p->x_step, p);
        d += (c1 - c0) * p->pixel;
        memset(d, 0, (size_t)(strip + line - d) * 4);
    }
}

/* ---- Taps ---- */
/* Source of output `first` of a class at tap t, or false where the stride passes over it. */
static bool seen_at(bool back, int64_t first, int64_t t, int64_t s, int64_t p, int64_t d,
                    int64_t *at) {
    int64_t i = back ? first + p - t * d : t * d - p;
    *at = back ? floor_div(i, s) : i;
    return !back || *at * s == i;
}

/* at: floats from a pixel of the strip whose row and column are those of the class's output 0 of
 * the image, row 0 being i0. */
static void fill_taps(const struct plan *p) {
    const struct cpu_conv *g = p->g;
    for (int64_t a = 0; a < p->classes_y; a++)
        for (int64_t b = 0; b < p->classes_x; b++) {
            int64_t class = a * p->classes_x + b;
            struct tap *tap = p->taps + class * p->terms;
            for (int64_t t = 0; t < g->kh * g->kw; t++) {
                int64_t y, x;
                if (!seen_at(p->back, a, t / g->kw, g->sh, g->ph, g->dh, &y) ||
                    !seen_at(p->back, b, t % g->kw, g->sw, g->pw, g->dw, &x))
                    continue;
                for (int64_t l = 0; l < p->planes; l++)
                    *tap++ = (struct tap){ (y * p->across + x + p->left) * p->pixel + l * p->k,
                                           p->weights + (t * p->planes + l) * p->k };
            }
            p->count[class] = tap - (p->taps + class * p->terms);
        }
}

/* weights (taps, planes, k) from (o, taps, c / groups). */
static void pack_weights(const struct plan *p, const float *w) {
    int64_t taps = p->g->kh * p->g->kw;
    float *d = p->weights;
    for (int64_t t = 0; t < taps; t++)
        for (int64_t l = 0; l < p->planes; l++)
            for (int64_t k = 0; k < p->k; k++)
                *d++ = p->back
                           ? w[((k / p->same * p->planes + l) * taps + t) * p->same + k % p->same]
                           : w[(k * taps + t) * p->planes + l];
}

/* ---- Sums over taps ---- */
/* `pixels` outputs of one row, y_step and s_step floats apart. */
ALWAYS_INLINE void sum_taps(float *y, int64_t y_step, const float *s, int64_t s_step,
                            const struct tap *taps, int64_t count, const float *bias, int64_t k,
                            const int pixels) {
    for (int64_t i = 0;; i = imin(i + LANES, k - LANES)) {
        vf sum[PIXELS];
        int64_t bytes[PIXELS]; /* in registers: no address is computed in the loop */
#pragma GCC unroll 8
        for (int p = 0; p < pixels; p++) {
            bytes[p] = p * s_step * 4;
            sum[p] = bias ? vload(bias + i) : vset(0);
        }
        for (int64_t t = 0; t < count; t++) {
            const char *from = (const char *)(s + taps[t].at + i);
            vf w = vload(taps[t].w + i);
#pragma GCC unroll 8
            for (int p = 0; p < pixels; p++)
                sum[p] = vfma(vload((const float *)(from + bytes[p])), w, sum[p]);
        }
#pragma GCC unroll 8
        for (int p = 0; p < pixels; p++)
            vstore(y + p * y_step + i, sum[p]);
        if (i == k - LANES) /* the last vector may lie over the one before */
            break;
    }
}

/* The same for fewer than LANES channels. */
static void sum_few(float *y, int64_t y_step, const float *s, int64_t s_step,
                    const struct tap *taps, int64_t count, const float *bias, int64_t k,
                    int64_t pixels) {
    for (int64_t p = 0; p < pixels; p++, y += y_step, s += s_step)
        for (int64_t i = 0; i < k; i++) {
            float sum = bias ? bias[i] : 0;
            for (int64_t t = 0; t < count; t++)
                sum += s[taps[t].at + i] * taps[t].w[i];
            y[i] = sum;
        }
}

/* A row of n outputs. */
static void sum_row(float *y, int64_t y_step, const float *s, int64_t s_step,
                    const struct tap *taps, int64_t count, const float *bias, int64_t k,
                    int64_t n) {
    if (k < LANES) {
        sum_few(y, y_step, s, s_step, taps, count, bias, k, n);
        return;
    }
    int64_t x = 0;
    for (; n >= PIXELS; x = imin(x + PIXELS, n - PIXELS)) {
        sum_taps(y + x * y_step, y_step, s + x * s_step, s_step, taps, count, bias, k, PIXELS);
        if (x == n - PIXELS)
            return;
    }
    if (n >= 4) {
        sum_taps(y, y_step, s, s_step, taps, count, bias, k, 4);
        x = 4;
    }
    for (; x < n; x++)
        sum_taps(y + x * y_step, y_step, s + x * s_step, s_step, taps, count, bias, k, 1);
}

/* One task: the output rows y0 .. y1 of an image. */
static void run_strip(const struct plan *p, float *y, const float *x, const float *bias, int worker,
                      int64_t y0, int64_t y1) {
    const struct cpu_conv *g = p->g;
    float *strip = p->source + worker * p->in_rows * p->across * p->pixel;
    int64_t i0 = first_seen(p->back, y0, g->kh, g->sh, g->ph, g->dh);
    fill_strip(p, strip, x, i0, last_seen(p->back, y1 - 1, g->kh, g->sh, g->ph, g->dh) - i0 + 1);
    int64_t step_y = p->back ? 1 : g->sh, step_x = (p->back ? 1 : g->sw) * p->pixel;
    float *line = p->line + worker * p->w * p->k;
    for (int64_t i = y0; i < y1; i++) {
        float *row = g->add ? line : y + i * p->w * p->y_step;
        int64_t step = g->add ? p->k : p->y_step;
        for (int64_t b = 0; b < p->classes_x; b++) {
            int64_t class = i % p->classes_y * p->classes_x + b;
            int64_t seen = i / p->classes_y * step_y - i0;
            sum_row(row + b * step, p->classes_x * step, strip + seen * p->across * p->pixel,
                    step_x, p->taps + class * p->terms, p->count[class], bias, p->k,
                    (p->w - b + p->classes_x - 1) / p->classes_x);
        }
        for (int64_t x = 0; g->add && x < p->w; x++)
            for (int64_t k = 0; k < p->k; k++)
                y[(i * p->w + x) * p->y_step + k] += line[x * p->k + k];
    }
}

/* Of the largest part and of the last, whose strips may be longer. */
static int64_t scratch_for(const struct cpu_conv *g, bool back, bool weights) {
    int64_t some = groups_at_once(g);
    struct cpu_conv part = groups_of(g, some), last = groups_of(g, (g->groups - 1) % some + 1);
    struct plan p;
    int64_t a = layout(&p, g, &part, back, weights, NULL);
    int64_t b = layout(&p, g, &last, back, weights, NULL);
    return a < 0 || b < 0 ? -1 : imax(a, b);
}

int64_t K(cpu_strip_scratch)(const struct cpu_conv *g, bool back) {
    return scratch_for(g, back, false);
}

int K(cpu_strip)(float *y, const float *x, const float *w, const float *bias,
                 const struct cpu_conv *g, bool back, void *scratch) {
    int64_t some = groups_at_once(g);
    for (int64_t i = 0; i < g->groups; i += some) {
        struct cpu_conv part = groups_of(g, imin(some, g->groups - i));
        struct plan p;
        if (layout(&p, g, &part, back, false, scratch) < 0)
            return CPU_UNPROFITABLE;
        if (g->n * p.h * p.w * p.k == 0)
            return CPU_OK;
        pack_weights(&p, w);
        fill_taps(&p);
#pragma omp parallel for num_threads(p.workers) schedule(dynamic) collapse(2)
        for (int64_t n = 0; n < g->n; n++)
            for (int64_t t = 0; t < p.strips; t++)
                if (!interrupted())
                    run_strip(&p, y + n * p.h * p.w * p.y_step, x + n * p.in_h * p.in_w * p.x_step,
                              bias, omp_get_thread_num(), t * p.strip,
                              imin(p.h, (t + 1) * p.strip));
        if (interrupted())
            return CPU_INTERRUPTED;
        x += p.in_c;
        y += p.k;
        w += p.terms * p.k;
        bias = bias ? bias + p.k : NULL;
    }
    return CPU_OK;
}

/* ---- Weight gradient ---- */
/* part[t][i ..] += the sum over n pixels of s and dy, for `terms` taps from t on. */
ALWAYS_INLINE void sum_pixels(float *part, const float *s, int64_t s_step, const float *dy,
                              int64_t dy_step, const struct tap *taps, int64_t k, int64_t n,
                              const int terms) {
    const float *from[TAPS];
    vf sum[TAPS];
#pragma GCC unroll 16
    for (int t = 0; t < terms; t++) {
        from[t] = s + taps[t].at;
        sum[t] = vload(part + t * k);
    }
    for (int64_t x = 0; x < n; x++) {
        vf d = vload(dy + x * dy_step);
#pragma GCC unroll 16
        for (int t = 0; t < terms; t++)
            sum[t] = vfma(vload(from[t] + x * s_step), d, sum[t]);
    }
#pragma GCC unroll 16
    for (int t = 0; t < terms; t++)
        vstore(part + t * k, sum[t]);
}

/* The same one by one, for the last few k. */
static void sum_pixels_few(float *part, const float *s, int64_t s_step, const float *dy,
                           int64_t dy_step, const struct tap *taps, int64_t k, int64_t n,
                           int64_t terms, int64_t few) {
    for (int64_t t = 0; t < terms; t++)
        for (int64_t i = 0; i < few; i++) {
            float sum = part[t * k + i];
            for (int64_t x = 0; x < n; x++)
                sum += s[taps[t].at + x * s_step + i] * dy[x * dy_step + i];
            part[t * k + i] = sum;
        }
}

/* A row of dy; part (terms, k). */
static void weigh_row(const struct plan *p, float *part, const float *s, const float *dy) {
    int64_t step = p->g->sw * p->pixel, k = p->k, i = 0;
    for (; i + LANES <= k; i += LANES) {
        int64_t t = 0;
        for (; t + TAPS <= p->terms; t += TAPS)
            sum_pixels(part + t * k + i, s + i, step, dy + i, p->y_step, p->taps + t, k, p->w,
                       TAPS);
        for (; t + 4 <= p->terms; t += 4)
            sum_pixels(part + t * k + i, s + i, step, dy + i, p->y_step, p->taps + t, k, p->w, 4);
        for (; t < p->terms; t++)
            sum_pixels(part + t * k + i, s + i, step, dy + i, p->y_step, p->taps + t, k, p->w, 1);
    }
    if (i < k)
        sum_pixels_few(part + i, s + i, step, dy + i, p->y_step, p->taps, k, p->w, p->terms, k - i);
}

int64_t K(cpu_strip_weights_scratch)(const struct cpu_conv *g) {
    return scratch_for(g, false, true);
}

/* The tasks from a to b, strip by strip, into one part. */
static void run_piece(const struct plan *p, float *part, const float *dy, const float *x,
                      int worker, int64_t a, int64_t b) {
    const struct cpu_conv *g = p->g;
    float *strip = p->source + worker * p->in_rows * p->across * p->pixel;
    memset(part, 0, (size_t)(p->terms * p->k) * 4);
    for (int64_t i = a; i < b && !interrupted(); i++) {
        int64_t n = i / p->strips, y0 = i % p->strips * p->strip, y1 = imin(p->h, y0 + p->strip);
        int64_t i0 = y0 * g->sh - g->ph;
        fill_strip(p, strip, x + n * p->in_h * p->in_w * p->x_step, i0, rows_of(p, y0, y1 - 1));
        for (int64_t y = y0; y < y1; y++)
            weigh_row(p, part, strip + (y * g->sh - i0) * p->across * p->pixel,
                      dy + (n * p->h + y) * p->w * p->y_step);
    }
}

int K(cpu_strip_weights)(float *dw, const float *dy, const float *x, const struct cpu_conv *g,
                         void *scratch) {
    int64_t some = groups_at_once(g), taps = g->kh * g->kw;
    for (int64_t i = 0; i < g->groups; i += some) {
        struct cpu_conv part = groups_of(g, imin(some, g->groups - i));
        struct plan p;
        if (layout(&p, g, &part, false, true, scratch) < 0)
            return CPU_UNPROFITABLE;
        int64_t tasks = g->n * p.strips;
        fill_taps(&p);
#pragma omp parallel for num_threads(p.workers) schedule(dynamic)
        for (int64_t j = 0; j < p.pieces; j++)
            run_piece(&p, p.part + j * p.terms * p.k, dy, x, omp_get_thread_num(),
                      tasks * j / p.pieces, tasks * (j + 1) / p.pieces);
        if (interrupted())
            return CPU_INTERRUPTED;
        for (int64_t t = 0; t < p.terms; t++)
            for (int64_t k = 0; k < p.k; k++) {
                double sum = 0;
                for (int64_t j = 0; j < p.pieces; j++)
                    sum += (double)p.part[(j * p.terms + t) * p.k + k];
                dw[(k * taps + t / p.planes) * p.planes + t % p.planes] = (float)sum;
            }
        dw += p.terms * p.k;
        dy += p.k;
        x += p.in_c;
    }
    return CPU_OK;
}
