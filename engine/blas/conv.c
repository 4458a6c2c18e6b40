/* conv.c: convolution and its two gradients in f64: the taps of each output pixel side by side in
 * one row, and a product. An image is a task for the forward and the input gradient, a tap of the
 * kernel for the weight gradient, so each output is summed by one thread in one order. */
#include <limits.h>
#include <omp.h>
#include "blas/blas.h"
#include "blas/conv.h"
#include "ops/conv.h"

enum { PARALLEL = 100000 };

static bool fits(const conv_size *s) {
    int64_t taps = s->kh * s->kw;
    return s->oh * s->ow < INT_MAX && s->c * taps < INT_MAX && s->o < INT_MAX;
}

static int workers_for(const conv_size *s) {
    return s->n * s->oh * s->ow * s->o * s->kh * s->kw * s->c / s->groups < PARALLEL
               ? 1
               : blas_threads();
}

/* The image row or column of output position o at tap k, or -1 in the padding. */
ALWAYS_INLINE int64_t meets(int64_t o, int64_t k, int64_t s, int64_t p, int64_t d, int64_t size) {
    int64_t i = o * s - p + k * d;
    return i >= 0 && i < size ? i : -1;
}

/* rows (oh*ow, step): at each output pixel the ci channels from x that tap (ky,kx) meets. */
static void gather_tap(double *rows, int64_t step, const double *x, const conv_size *s, int64_t ky,
                       int64_t kx) {
    size_t bytes = (size_t)(s->c / s->groups) * 8;
    for (int64_t oy = 0; oy < s->oh; oy++)
        for (int64_t ox = 0; ox < s->ow; ox++, rows += step) {
            int64_t iy = meets(oy, ky, s->sh, s->ph, s->dh, s->h);
            int64_t ix = meets(ox, kx, s->sw, s->pw, s->dw, s->w);
            if (iy < 0 || ix < 0)
                memset(rows, 0, bytes);
            else
                memcpy(rows, x + (iy * s->w + ix) * s->c, bytes);
        }
}

/* The reverse: adds the rows of a tap to the pixels of x that they met. */
static void scatter_tap(double *x, const double *rows, int64_t step, const conv_size *s, int64_t ky,
                        int64_t kx) {
    int64_t ci = s->c / s->groups;
    for (int64_t oy = 0; oy < s->oh; oy++)
        for (int64_t ox = 0; ox < s->ow; ox++, rows += step) {
            int64_t iy = meets(oy, ky, s->sh, s->ph, s->dh, s->h);
            int64_t ix = meets(ox, kx, s->sw, s->pw, s->dw, s->w);
            if (iy < 0 || ix < 0)
                continue;
            double *to = x + (iy * s->w + ix) * s->c;
            for (int64_t i = 0; i < ci; i++)
                to[i] += rows[i];
        }
}

/* What one image needs: pointers and a thread's own rows. */
typedef void (*image_fn)(const call *c, const conv_size *s, int64_t n, double *rows);

static int each_image(const call *c, const conv_size *s, image_fn run) {
    int workers = workers_for(s);
    int64_t each = s->oh * s->ow * s->kh * s->kw * (s->c / s->groups) * 8;
    void *scratch;
    TRY(alloc_scratch(&scratch, each * workers));
#pragma omp parallel for num_threads(workers) schedule(dynamic)
    for (int64_t n = 0; n < s->n; n++)
        if (!interrupted())
            run(c, s, n, (double *)((char *)scratch + each * omp_get_thread_num()));
    free_scratch(scratch, each * workers);
    return interrupted() ? fail(VESTIGE_EINTERRUPTED, "interrupted") : VESTIGE_OK;
}

static void forward_image(const call *c, const conv_size *s, int64_t n, double *rows) {
    const double *x = (const double *)c->in[0]->data + n * s->h * s->w * s->c;
    const double *w = (const double *)c->in[1]->data;
    double *y = (double *)c->out[0]->data + n * s->oh * s->ow * s->o;
    int64_t ci = s->c / s->groups, co = s->o / s->groups, row = s->kh * s->kw * ci;
    bool adds = c->row->flags & ROW_ADDS;
    for (int64_t i = 0; c->in[2] && i < s->oh * s->ow; i++)
        memcpy(y + i * s->o, c->in[2]->data, (size_t)s->o * 8);
    blas_product p = { .m = s->oh * s->ow,
                       .n = co,
                       .k = row,
                       .lda = row,
                       .ldb = row,
                       .ldc = s->o,
                       .tb = true,
                       .add = adds || c->in[2] };
    for (int64_t g = 0; g < s->groups; g++) {
        for (int64_t t = 0; t < s->kh * s->kw; t++)
            gather_tap(rows + t * ci, row, x + g * ci, s, t / s->kw, t % s->kw);
        blas_dgemm(y + g * co, rows, w + g * co * row, &p);
    }
}

static void input_image(const call *c, const conv_size *s, int64_t n, double *rows) {
    const double *gy = (const double *)c->in[0]->data + n * s->oh * s->ow * s->o;
    const double *w = (const double *)c->in[1]->data;
    const tensor *bias = c->nin > 2 ? c->in[2] : NULL;
    double *x = (double *)c->out[0]->data + n * s->h * s->w * s->c;
    int64_t ci = s->c / s->groups, co = s->o / s->groups, row = s->kh * s->kw * ci;
    if (!bias && !(c->row->flags & ROW_ADDS))
        memset(x, 0, (size_t)(s->h * s->w * s->c) * 8);
    for (int64_t i = 0; bias && i < s->h * s->w; i++)
        memcpy(x + i * s->c, bias->data, (size_t)s->c * 8);
    blas_product p = { .m = s->oh * s->ow, .n = row, .k = co, .lda = s->o, .ldb = row, .ldc = row };
    for (int64_t g = 0; g < s->groups; g++) {
        blas_dgemm(rows, gy + g * co, w + g * co * row, &p);
        for (int64_t t = 0; t < s->kh * s->kw; t++)
            scatter_tap(x + g * ci, rows + t * ci, row, s, t / s->kw, t % s->kw);
    }
}

/* gw of tap t in group g: the sum over images of gy' times the pixels that the tap meets. */
static void weight_tap(const call *c, const conv_size *s, int64_t g, int64_t t, double *rows) {
    int64_t ci = s->c / s->groups, co = s->o / s->groups, row = s->kh * s->kw * ci;
    double *gw = (double *)c->out[0]->data + g * co * row + t * ci;
    blas_product p = {
        .m = co, .n = ci, .k = s->oh * s->ow, .lda = s->o, .ldb = ci, .ldc = row, .ta = true
    };
    for (int64_t n = 0; n < s->n && !interrupted(); n++) {
        const double *x = (const double *)c->in[0]->data + n * s->h * s->w * s->c;
        const double *gy = (const double *)c->in[1]->data + n * s->oh * s->ow * s->o;
        gather_tap(rows, ci, x + g * ci, s, t / s->kw, t % s->kw);
        p.add = n > 0;
        blas_dgemm(gw, gy + g * co, rows, &p);
    }
}

int blas_conv(const call *c) {
    conv_size s = conv_size_of(c, c->in[0], c->in[1], c->out[0]);
    return blas_ready() && fits(&s) ? each_image(c, &s, forward_image) : DECLINED;
}

int blas_conv_input(const call *c) {
    conv_size s = conv_size_of(c, c->out[0], c->in[1], c->in[0]);
    return blas_ready() && fits(&s) ? each_image(c, &s, input_image) : DECLINED;
}

int blas_conv_add(const call *c) {
    added_call k;
    return blas_conv(added(c, &k));
}

int blas_conv_input_add(const call *c) {
    added_call k;
    return blas_conv_input(added(c, &k));
}

int blas_conv_weight(const call *c) {
    conv_size s = conv_size_of(c, c->in[0], c->out[0], c->in[1]);
    if (!blas_ready() || !fits(&s) || s.n == 0)
        return DECLINED;
    int workers = workers_for(&s);
    int64_t taps = s.kh * s.kw, each = s.oh * s.ow * (s.c / s.groups) * 8;
    void *scratch;
    TRY(alloc_scratch(&scratch, each * workers));
#pragma omp parallel for num_threads(workers) schedule(dynamic)
    for (int64_t q = 0; q < s.groups * taps; q++)
        weight_tap(c, &s, q / taps, q % taps,
                   (double *)((char *)scratch + each * omp_get_thread_num()));
    free_scratch(scratch, each * workers);
    return interrupted() ? fail(VESTIGE_EINTERRUPTED, "interrupted") : VESTIGE_OK;
}
