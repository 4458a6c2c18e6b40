/* optim.c: optimiser steps, norms and clipping in f32. The tensors are cut into chunks that the
 * threads share; the loops are elementwise, so they run as fast as memory. Other types, and masks
 * that are not bytes, have the plain loops. */
#include <math.h>
#include "cpu/rows.h"
#include "ops/optim.h"

enum { CHUNK = 1 << 14, PARALLEL = 1 << 15 /* elements from which a second thread pays */ };

static bool all_f32(const call *c, int inputs) {
    for (int i = 0; i < inputs; i++)
        if (c->in[i]->dtype != VESTIGE_F32)
            return false;
    return true;
}

/* f32 throughout; the last list's masks are bytes. */
static bool fits(const call *c, int masks) {
    int plain = c->nin - c->len[masks];
    for (int i = plain; i < c->nin; i++)
        if (c->in[i]->dtype != VESTIGE_BOOL && c->in[i]->dtype != VESTIGE_U8)
            return false;
    return all_f32(c, plain);
}

/* n elements of tensor `item` from `from` on; index numbers the chunks of the whole list. */
typedef struct chunk {
    int item;
    int64_t index, from, n;
} chunk;

static int64_t chunks_of(const tensor *t) {
    return (t->numel + CHUNK - 1) / CHUNK;
}

static int64_t count_chunks(const call *c) {
    int64_t count = 0;
    for (int i = 0; i < c->len[0]; i++)
        count += chunks_of(c->in[i]);
    return count;
}

/* Runs every chunk of the first list's tensors, each thread a run of them. */
static void each_chunk(const call *c, void *job, void (*run)(const call *, void *, chunk)) {
    int64_t count = count_chunks(c);
    int64_t n = 0;
    for (int i = 0; i < c->len[0]; i++)
        n += c->in[i]->numel;
    int parts = n < PARALLEL ? 1 : threads();
#pragma omp parallel for num_threads(parts)
    for (int t = 0; t < parts; t++) {
        int64_t first = count * t / parts, last = count * (t + 1) / parts, index = 0;
        for (int i = 0; i < c->len[0] && index < last; i++) {
            int64_t n = c->in[i]->numel;
            for (int64_t from = 0; from < n; from += CHUNK, index++)
                if (index >= first && index < last)
                    run(c, job, (chunk){ i, index, from, n - from < CHUNK ? n - from : CHUNK });
        }
    }
}

/* The chunk's elements in a list that may be empty. */
static float *floats(const call *c, int list, chunk k) {
    const tensor *t = list_item(c, list, k.item);
    return t ? (float *)t->data + k.from : NULL;
}

static const uint8_t *bytes(const call *c, int list, chunk k) {
    const tensor *t = list_item(c, list, k.item);
    return t ? (const uint8_t *)t->data + k.from : NULL;
}

/* ---- SGD ---- */
/* One instance a variant: the flags are constants in each, and the compiler makes vectors. */
ALWAYS_INLINE void sgd_loop(const sgd_numbers *s, float *restrict p, const float *restrict g,
                            float *restrict m, const uint8_t *restrict mask, int64_t n, bool moving,
                            bool masked) {
    const float lr = (float)s->lr, sign = s->maximize ? -1 : 1, decay = (float)s->weight_decay;
    const float keep = s->first ? 0 : (float)s->momentum, ahead = (float)s->momentum;
    const float take = s->first ? 1 : (float)(1 - s->dampening);
    const bool nesterov = s->nesterov;
    for (int64_t j = 0; j < n; j++) {
        float d = sign * g[j] + decay * p[j], v = 0;
        if (moving) {
            v = keep * m[j] + take * d;
            d = nesterov ? d + ahead * v : v;
        }
        float next = p[j] - lr * d;
        if (moving)
            m[j] = masked && !mask[j] ? m[j] : v;
        p[j] = masked && !mask[j] ? p[j] : next;
    }
}

static void sgd_chunk(const call *c, void *job, chunk k) {
    const sgd_numbers *s = job;
    float *p = floats(c, SGD_P, k), *m = floats(c, SGD_M, k);
    const float *g = floats(c, SGD_G, k);
    const uint8_t *mask = bytes(c, SGD_MASK, k);
    bool moving = s->momentum != 0;
    if (moving && s->first && !mask) /* what was there before may be NaN */
        memset(m, 0, (size_t)k.n * sizeof *m);
    if (moving && mask)
        sgd_loop(s, p, g, m, mask, k.n, true, true);
    else if (moving)
        sgd_loop(s, p, g, m, mask, k.n, true, false);
    else if (mask)
        sgd_loop(s, p, g, m, mask, k.n, false, true);
    else
        sgd_loop(s, p, g, m, mask, k.n, false, false);
}

static int sgd_step(const call *c) {
    if (!fits(c, SGD_MASK))
        return DECLINED;
    sgd_numbers s = sgd_read(c);
    each_chunk(c, &s, sgd_chunk);
    return VESTIGE_OK;
}

/* ---- Adam ---- */
ALWAYS_INLINE void adam_loop(const adam_numbers *a, float *restrict p, const float *restrict g,
                             float *restrict m, float *restrict v, float *restrict most,
                             const uint8_t *restrict mask, int64_t n, bool amsgrad, bool masked) {
    const float sign = a->maximize ? -1 : 1, decay = (float)a->decay, keep = (float)a->keep;
    const float new1 = (float)(1 - a->beta1), beta2 = (float)a->beta2;
    const float new2 = (float)(1 - a->beta2), size = (float)a->step_size;
    const float correction = (float)(1 / a->correction), eps = (float)a->eps;
    for (int64_t j = 0; j < n; j++) {
        float d = sign * g[j] + decay * p[j];
        float mean = m[j] + new1 * (d - m[j]);
        float square = beta2 * v[j] + new2 * (d * d), top = square;
        if (amsgrad)
            top = most[j] > square ? most[j] : square;
        float next = keep * p[j] - size * (mean / (sqrtf(top) * correction + eps));
        bool stays = masked && !mask[j];
        m[j] = stays ? m[j] : mean;
        v[j] = stays ? v[j] : square;
        if (amsgrad)
            most[j] = stays ? most[j] : top;
        p[j] = stays ? p[j] : next;
    }
}

static void adam_chunk(const call *c, void *job, chunk k) {
    float *p = floats(c, ADAM_P, k), *m = floats(c, ADAM_M, k), *v = floats(c, ADAM_V, k);
    float *most = floats(c, ADAM_MOST, k);
    const float *g = floats(c, ADAM_G, k);
    const uint8_t *mask = bytes(c, ADAM_MASK, k);
    if (most && mask)
        adam_loop(job, p, g, m, v, most, mask, k.n, true, true);
    else if (most)
        adam_loop(job, p, g, m, v, most, mask, k.n, true, false);
    else if (mask)
        adam_loop(job, p, g, m, v, most, mask, k.n, false, true);
    else
        adam_loop(job, p, g, m, v, most, mask, k.n, false, false);
}

static int adamw_step(const call *c) {
    if (!fits(c, ADAM_MASK))
        return DECLINED;
    adam_numbers a = adam_read(c);
    each_chunk(c, &a, adam_chunk);
    return VESTIGE_OK;
}

/* ---- Norms ---- */
static void norm_chunk(const call *c, void *job, chunk k) {
    const float *x = floats(c, 0, k);
    ((double *)job)[k.index] = row_sum(x, x, k.n);
}

static int total_norm(const call *c) {
    if (option(c, "norm_type") != 2 || !all_f32(c, c->nin))
        return DECLINED;
    int64_t count = count_chunks(c), size = count * (int64_t)sizeof(double);
    void *scratch;
    TRY(alloc_scratch(&scratch, size));
    each_chunk(c, scratch, norm_chunk);
    double sum = 0;
    for (int64_t i = 0; i < count; i++)
        sum += ((double *)scratch)[i];
    *(float *)c->out[0]->data = (float)sqrt(sum);
    free_scratch(scratch, size);
    return VESTIGE_OK;
}

static void clip_chunk(const call *c, void *job, chunk k) {
    float *x = floats(c, 0, k), scale = *(float *)job;
    for (int64_t j = 0; j < k.n; j++)
        x[j] *= scale;
}

static int clip_norm(const call *c) {
    if (!all_f32(c, c->nin))
        return DECLINED;
    float scale = (float)clip_scale(c, (double)*(float *)c->in[c->nin - 1]->data);
    if (scale != 1)
        each_chunk(c, &scale, clip_chunk);
    return VESTIGE_OK;
}

const kernel_row K(cpu_optim)[] = {
    { "sgd_step_", VESTIGE_F32, sgd_step },
    { "adamw_step_", VESTIGE_F32, adamw_step },
    { "total_norm", VESTIGE_F32, total_norm },
    { "clip_norm_", VESTIGE_F32, clip_norm },
    { 0 },
};
