/* grid.c: grid_sample in f32. A sample's place and weights are found in double once for all of its
 * channels. An image is a task: samples that meet in a pixel add to it from one thread, in order.
 */
#include "cpu/half.h"
#include "cpu/isa.h"
#include "ops/grid.h"

enum { PARALLEL = 1 << 13 }; /* floats of samples from which a second thread pays */

/* The four pixels of a sample: floats from the image's start and weights; -1 outside. */
struct pixels {
    int64_t at[4];
    float weight[4];
};

static struct pixels pixels_of(const grid_size *s, const float *place) {
    grid_taps across = grid_taps_at(place[0], s->w, s->align, s->order[1]);
    grid_taps down = grid_taps_at(place[1], s->h, s->align, s->order[0]);
    struct pixels p;
    for (int k = 0; k < 4; k++) {
        int64_t y = down.first + k / 2, x = across.first + k % 2;
        bool inside = y >= 0 && y < s->h && x >= 0 && x < s->w;
        p.at[k] = inside ? (y * s->w + x) * s->c : -1;
        p.weight[k] = (float)(down.weight[k / 2] * across.weight[k % 2]);
    }
    return p;
}

static void sample_image(const grid_size *s, const float *x, const float *grid, float *y) {
    for (int64_t i = 0; i < s->oh * s->ow; i++, y += s->c) {
        struct pixels p = pixels_of(s, grid + 2 * i);
        memset(y, 0, (size_t)s->c * 4);
        for (int k = 0; k < 4; k++)
            for (int64_t ch = 0; ch < s->c && p.at[k] >= 0; ch++)
                y[ch] += p.weight[k] * x[p.at[k] + ch];
    }
}

static void spread_image(const grid_size *s, const float *gy, const float *grid, float *gx) {
    memset(gx, 0, (size_t)(s->h * s->w * s->c) * 4);
    for (int64_t i = 0; i < s->oh * s->ow; i++, gy += s->c) {
        struct pixels p = pixels_of(s, grid + 2 * i);
        for (int k = 0; k < 4; k++)
            for (int64_t ch = 0; ch < s->c && p.at[k] >= 0; ch++)
                gx[p.at[k] + ch] += p.weight[k] * gy[ch];
    }
}

static int each_image(const call *c, const grid_size *s,
                      void (*run)(const grid_size *, const float *, const float *, float *)) {
    const float *in = (const float *)c->in[0]->data, *grid = (const float *)c->in[1]->data;
    float *out = (float *)c->out[0]->data;
    int64_t in_step = s->n ? c->in[0]->numel / s->n : 0, samples = s->oh * s->ow;
    int64_t out_step = s->n ? c->out[0]->numel / s->n : 0;
    int workers = s->n * samples * s->c < PARALLEL ? 1 : threads();
#pragma omp parallel for num_threads(workers) schedule(static)
    for (int64_t n = 0; n < s->n; n++)
        if (!interrupted())
            run(s, in + n * in_step, grid + n * samples * 2, out + n * out_step);
    return interrupted() ? fail(VESTIGE_EINTERRUPTED, "interrupted") : VESTIGE_OK;
}

static int sample(const call *c) {
    grid_size s = grid_size_of(c, c->in[0], c->out[0]);
    return each_image(c, &s, sample_image);
}

static int spread(const call *c) {
    grid_size s = grid_size_of(c, c->out[0], c->in[0]);
    return each_image(c, &s, spread_image);
}

const kernel_row K(cpu_grid)[] = {
    { "grid_sample", VESTIGE_F32, sample },
    { "grid_sample_input", VESTIGE_F32, spread },
    { 0 },
};
