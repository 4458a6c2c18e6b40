/* loss.c: cross entropy over classes in f32 and bf16, of which each row is widened by itself. The
 * forward pass keeps a row's largest element and the logarithm of its sum; the gradient is one pass
 * more. Soft targets, and smoothing with weights, have the plain loops. */
#include <math.h>
#include "cpu/half.h"
#include "cpu/rows.h"
#include "cpu/stream.h"
#include "ops/loss.h"
#include <omp.h>

typedef struct goal {
    const call *c;
    const tensor *target;
    const float *weight;
    float *most, *logsum, *each; /* of the forward pass */
    const float *g;              /* of the gradient */
    int64_t ignore;
    int reduction;
    double smoothing, scale; /* scale: 1 / c */
    bool half;               /* of the logits, and of their gradient */
    bool past;               /* the gradient goes past the caches */
    float *wide;             /* (threads, 2, classes) where half: a row of each */
} goal;

static int64_t label_of(const tensor *target, int64_t i) {
    switch (target->dtype) {
    case VESTIGE_I64:
        return ((const int64_t *)target->data)[i];
    case VESTIGE_I32:
        return ((const int32_t *)target->data)[i];
    default:
        return ((const uint8_t *)target->data)[i];
    }
}

static double weight_of(const goal *k, int64_t label) {
    return k->weight ? k->weight[label] : 1;
}

/* DECLINED, an error, or OK with the labels checked and the divisor known. */
static int goal_open(goal *k, const call *c, const tensor *target, const tensor *weight,
                     int64_t classes) {
    double smoothing = option(c, "label_smoothing");
    if (is_float(target->dtype) || classes == 0 ||
        (weight && (smoothing != 0 || weight->dtype != VESTIGE_F32)))
        return DECLINED;
    *k = (goal){ .c = c,
                 .target = target,
                 .smoothing = smoothing,
                 .scale = 1,
                 .weight = weight ? (const float *)weight->data : NULL,
                 .ignore = (int64_t)option(c, "ignore_index"),
                 .reduction = (int)option(c, "reduction") };
    double total = 0;
    for (int64_t i = 0; i < target->numel; i++) {
        int64_t label = label_of(target, i);
        if (label == k->ignore)
            continue;
        if (label < 0 || label >= classes)
            return bad_label(c, target, i, label, classes);
        total += weight_of(k, label);
    }
    if (k->reduction == MEAN)
        k->scale = 1 / total;
    return VESTIGE_OK;
}

/* This thread's row of the logits, or of what becomes their gradient, in f32. */
static float *wide_row(const row_job *job, int what) {
    return ((const goal *)job->more)->wide + (2 * omp_get_thread_num() + what) * job->n;
}

static const float *logits(const row_job *job, int64_t row) {
    const goal *k = job->more;
    if (!k->half)
        return job->a + row * job->n;
    float *wide = wide_row(job, 0);
    widen(wide, (const uint16_t *)job->a + row * job->n, job->n);
    return wide;
}

/* Runs a row function with the memory that bf16 needs. */
static int run_rows(goal *k, row_job *job, const tensor *x,
                    void (*run)(const row_job *, int64_t row)) {
    k->half = x->dtype == VESTIGE_BF16;
    int64_t bytes = k->half ? threads() * 2 * job->n * (int64_t)sizeof(float) : 0;
    void *scratch = NULL;
    if (k->half)
        TRY(alloc_scratch(&scratch, bytes));
    k->wide = scratch;
    int status = each_row(job, run);
    if (k->half)
        free_scratch(scratch, bytes);
    return status;
}

static void forward_row(const row_job *job, int64_t row) {
    const goal *k = job->more;
    const float *x = logits(job, row);
    int64_t label = label_of(k->target, row);
    float most;
    double logsum = log1p(row_exp(x, job->n, &most)), loss = 0;
    k->most[row] = most;
    k->logsum[row] = (float)logsum;
    if (label != k->ignore) {
        loss = weight_of(k, label) * (logsum - ((double)x[label] - most));
        if (k->smoothing != 0) {
            float sum = 0;
            for (int64_t from = 0; from < job->n; from += 1024) /* short sums are sharper */
                sum += row_sum(x + from, NULL, job->n - from < 1024 ? job->n - from : 1024) -
                       most * (float)(job->n - from < 1024 ? job->n - from : 1024);
            loss = (1 - k->smoothing) * loss + k->smoothing * (logsum - sum / (double)job->n);
        }
    }
    k->each[row] = (float)loss;
}

static int cross_entropy(const call *c) {
    const tensor *x = c->in[0], *target = c->in[1];
    tensor *y = c->out[0];
    int64_t n = x->dim[x->ndim - 1], rows = target->numel;
    goal k;
    int status = goal_open(&k, c, target, c->in[2], n);
    if (status != VESTIGE_OK)
        return status;
    void *scratch = NULL;
    if (k.reduction != EACH)
        TRY(alloc_scratch(&scratch, rows * (int64_t)sizeof(float)));
    k.each = scratch ? scratch : (float *)y->data;
    k.most = (float *)c->out[1]->data;
    k.logsum = (float *)c->out[2]->data;
    row_job job = { .rows = rows, .n = n, .a = (const float *)x->data, .more = &k };
    status = run_rows(&k, &job, x, forward_row);
    if (k.reduction != EACH) {
        double sum = 0;
        for (int64_t i = 0; i < rows; i++)
            sum += k.each[i];
        *(float *)y->data = (float)(sum * k.scale);
        free_scratch(scratch, rows * (int64_t)sizeof(float));
    }
    return status;
}

/* e^(x - most - logsum) slope - shift */
typedef struct slopes {
    float most, logsum, slope, shift;
} slopes;

ALWAYS_INLINE vf slopes_at(slopes s, vf x) {
    vf scale, p = vexp_term((x - s.most) - s.logsum, &scale);
    return p * scale * s.slope - s.shift;
}

static void write_slopes(float *dx, const float *x, int64_t n, slopes s, bool past) {
    int64_t j = past ? -((intptr_t)dx / 4) & (LANES - 1) : 0; /* up to a whole vector */
    j = j < n ? j : n;
    vstore_part(dx, slopes_at(s, load_last(x, j, s.most)), j);
    if (past)
        for (; j + LANES <= n; j += LANES)
            STREAM_STORE(dx + j, slopes_at(s, vload(x + j)));
    for (; j + LANES <= n; j += LANES)
        vstore(dx + j, slopes_at(s, vload(x + j)));
    vstore_part(dx + j, slopes_at(s, load_last(x + j, n - j, s.most)), n - j);
    stream_end();
}

/* dx = g (T p - t) / c. At the label T (p - 1) + (T - t), where p is near 1, keeps its digits. */
static void backward_row(const row_job *job, int64_t row) {
    const goal *k = job->more;
    const float *x = logits(job, row);
    float *dx = k->half ? wide_row(job, 1) : job->y + row * job->n;
    float most = k->most[row], logsum = k->logsum[row];
    int64_t n = job->n, label = label_of(k->target, row);
    uint16_t *rounded = (uint16_t *)job->y + row * n;
    if (label == k->ignore) {
        memset(k->half ? (void *)rounded : dx, 0, (size_t)n * (k->half ? 2 : 4));
        return;
    }
    double g = k->g[k->reduction == EACH ? row : 0] * k->scale, total = weight_of(k, label);
    double even = k->smoothing / (double)n, t = (1 - k->smoothing) * total + even;
    slopes s = { most, logsum, (float)(g * total), (float)(g * even) };
    write_slopes(dx, x, n, s, k->past);
    double logp = ((double)x[label] - most) - logsum;
    dx[label] =
        (float)(g * (logp > -0.5 ? total * expm1(logp) + (total - t) : total * exp(logp) - t));
    if (k->half)
        narrow(rounded, dx, n);
}

static int cross_entropy_backward(const call *c) {
    const tensor *x = c->in[1], *target = c->in[2];
    goal k;
    int status = goal_open(&k, c, target, c->in[3], x->dim[x->ndim - 1]);
    if (status != VESTIGE_OK)
        return status;
    k.g = (const float *)c->in[0]->data;
    k.most = (float *)c->in[4]->data;
    k.logsum = (float *)c->in[5]->data;
    row_job job = { .rows = target->numel,
                    .n = x->dim[x->ndim - 1],
                    .a = (const float *)x->data,
                    .y = (float *)c->out[0]->data,
                    .more = &k };
    k.past = x->dtype == VESTIGE_F32 && x->numel * 4 >= STREAMED;
    return run_rows(&k, &job, x, backward_row);
}

static void slope_row(const row_job *job, int64_t row) {
    const goal *k = job->more;
    float *d = job->y + row * job->n;
    int64_t label = label_of(k->target, row);
    bool left_out = label == k->ignore;
    double g = left_out ? 0 : k->g[k->reduction == EACH ? row : 0] * k->scale;
    float even = (float)(-g * k->smoothing / (double)job->n);
    for (int64_t j = 0; j < job->n; j++)
        d[j] = even;
    if (!left_out)
        d[label] += (float)(-g * (1 - k->smoothing) * weight_of(k, label));
}

static int class_slope(const call *c) {
    const tensor *target = c->in[1], *d = c->out[0];
    int64_t n = d->dim[d->ndim - 1];
    goal k;
    int status = goal_open(&k, c, target, c->in[2], n);
    if (status != VESTIGE_OK)
        return status;
    k.g = (const float *)c->in[0]->data;
    row_job job = { .rows = target->numel, .n = n, .y = (float *)d->data, .more = &k };
    return each_row(&job, slope_row);
}

/* All but the logits and their gradient is small. */
static int cross_entropy_bf16(const call *c) {
    return K(cpu_in_f32)(c, cross_entropy, 1, 0);
}
static int cross_entropy_backward_bf16(const call *c) {
    return K(cpu_in_f32)(c, cross_entropy_backward, 2, 1);
}
IN_F32(class_slope)

const kernel_row K(cpu_loss)[] = {
    { "cross_entropy", VESTIGE_F32, cross_entropy },
    { "cross_entropy", VESTIGE_BF16, cross_entropy_bf16 },
    { "cross_entropy_backward", VESTIGE_F32, cross_entropy_backward },
    { "cross_entropy_backward", VESTIGE_BF16, cross_entropy_backward_bf16 },
    { "class_slope", VESTIGE_F32, class_slope },
    { "class_slope", VESTIGE_BF16, class_slope_bf16 },
    { 0 },
};
