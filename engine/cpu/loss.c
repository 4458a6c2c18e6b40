/* loss.c: cross entropy over classes in f32 and bf16. The forward pass keeps a row's largest
 * element and the logarithm of its sum; the gradient is one pass more. Soft targets, and smoothing
 * with weights, have the plain loops. */
#include <math.h>
#include "cpu/rows.h"
#include "ops/loss.h"

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

static const char *logits(const row_job *job, int64_t row) {
    return (const char *)job->a + row * job->n * (((const goal *)job->more)->half ? 2 : 4);
}

/* The sum of x - most over n logits. */
static double sum_below(const void *x, int64_t n, float most, bool half) {
    enum { SHORT = 1024 }; /* short sums are sharper */
    float sum = 0, wide[SHORT];
    for (int64_t from = 0, m; from < n; from += m) {
        m = n - from < SHORT ? n - from : SHORT;
        const float *part = (const float *)x + from;
        if (half) {
            widen(wide, (const uint16_t *)x + from, m);
            part = wide;
        }
        sum += row_sum(part, NULL, m) - most * (float)m;
    }
    return sum;
}

static void forward_row(const row_job *job, int64_t row) {
    const goal *k = job->more;
    const char *x = logits(job, row);
    int64_t n = job->n, label = label_of(k->target, row);
    float most;
    double others = k->half ? row_exp(x, n, &most, true) : row_exp(x, n, &most, false);
    double logsum = log1p(others), loss = 0;
    k->most[row] = most;
    k->logsum[row] = (float)logsum;
    if (label != k->ignore) {
        double below = (double)element(x, label, k->half) - most;
        loss = weight_of(k, label) * (logsum - below);
        if (k->smoothing != 0) {
            double even = logsum - sum_below(x, n, most, k->half) / (double)n;
            loss = (1 - k->smoothing) * loss + k->smoothing * even;
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
    k.half = x->dtype == VESTIGE_BF16;
    status = each_row(&job, forward_row);
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
    return p * (scale * s.slope) - s.shift; /* the shorter wait */
}

/* Elements i to end, fewer than a whole two. */
ALWAYS_INLINE void write_part(void *dx, const void *x, int64_t i, int64_t end, slopes s,
                              const bool half) {
    float wide[TWO], *to = half ? wide : (float *)dx + i;
    const float *from = rest_of(x, i, end, wide, half);
    int64_t n = end - i, j = 0;
    for (; j + LANES <= n; j += LANES)
        vstore(to + j, slopes_at(s, vload(from + j)));
    vstore_part(to + j, slopes_at(s, load_last(from + j, n - j, s.most)), n - j);
    if (half)
        narrow((uint16_t *)dx + i, wide, n);
}

ALWAYS_INLINE void write_slopes(void *dx, const void *x, int64_t n, slopes s, const bool half,
                                const bool past) {
    const int64_t step = half ? TWO : LANES; /* elements of a stored vector */
    int64_t i = past ? -((intptr_t)dx / (half ? 2 : 4)) & (step - 1) : 0; /* up to a whole one */
    i = i < n ? i : n;
    write_part(dx, x, 0, i, s, half);
    for (; i + TWO <= n; i += TWO) {
        two v = load_two(x, i, half);
        store_two(dx, i, (two){ slopes_at(s, v.a), slopes_at(s, v.b) }, half, past);
    }
    write_part(dx, x, i, n, s, half);
    stream_end();
}

/* dx = g (T p - t) / c. At the label T (p - 1) + (T - t), where p is near 1, keeps its digits. */
static void backward_row(const row_job *job, int64_t row) {
    const goal *k = job->more;
    const char *x = logits(job, row);
    int64_t n = job->n, label = label_of(k->target, row), size = k->half ? 2 : 4;
    char *dx = (char *)job->y + row * n * size;
    float most = k->most[row], logsum = k->logsum[row];
    if (label == k->ignore) {
        memset(dx, 0, (size_t)(n * size));
        return;
    }
    double g = k->g[k->reduction == EACH ? row : 0] * k->scale, total = weight_of(k, label);
    double even = k->smoothing / (double)n, t = (1 - k->smoothing) * total + even;
    slopes s = { most, logsum, (float)(g * total), (float)(g * even) };
    if (k->half)
        k->past ? write_slopes(dx, x, n, s, true, true) : write_slopes(dx, x, n, s, true, false);
    else
        k->past ? write_slopes(dx, x, n, s, false, true) : write_slopes(dx, x, n, s, false, false);
    double logp = ((double)element(x, label, k->half) - most) - logsum;
    double slope = logp > -0.5 ? total * expm1(logp) + (total - t) : total * exp(logp) - t;
    set_element(dx, label, (float)(g * slope), k->half);
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
    k.half = x->dtype == VESTIGE_BF16;
    k.past = x->numel * (k.half ? 2 : 4) >= STREAMED;
    return each_row(&job, backward_row);
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
