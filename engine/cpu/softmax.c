/* softmax.c: softmax, log_softmax and their gradients in f32, along the last dimension. A row is
 * read for its largest element, for the sum of exponentials, and for the result. */
#include <math.h>
#include "cpu/half.h"
#include "cpu/rows.h"

/* Rows along c's dim, which must be the last that is longer than 1. */
static bool rows_open(row_job *job, const call *c) {
    const tensor *y = c->out[0];
    int dim = (int)option(c, "dim");
    for (int i = 0; i < c->nin; i++)
        if (c->in[i]->dtype != VESTIGE_F32)
            return false;
    if (y->numel == 0 || (y->ndim > 0 && product(y->ndim - dim - 1, y->dim + dim + 1) != 1))
        return false;
    int64_t n = y->ndim ? y->dim[dim] : 1;
    *job = (row_job){ .rows = y->numel / n,
                      .n = n,
                      .a = (const float *)c->in[0]->data,
                      .b = c->nin > 1 ? (const float *)c->in[1]->data : NULL,
                      .y = (float *)y->data };
    return true;
}

static void softmax_row(const row_job *job, int64_t row) {
    const float *x = job->a + row * job->n;
    float *restrict y = job->y + row * job->n;
    float others = row_others(x, job->n, row_most(x, job->n), y), scale = 1 / (1 + others);
    for (int64_t j = 0; j < job->n; j++)
        y[j] *= scale;
}

static void log_softmax_row(const row_job *job, int64_t row) {
    const float *restrict x = job->a + row * job->n;
    float *restrict y = job->y + row * job->n;
    float most, logsum = (float)log1p(row_exp(x, job->n, &most, false));
    for (int64_t j = 0; j < job->n; j++)
        y[j] = (x[j] - most) - logsum;
}

/* y (g - sum(g y)) */
static void softmax_backward_row(const row_job *job, int64_t row) {
    const float *restrict g = job->a + row * job->n, *restrict y = job->b + row * job->n;
    float *restrict dx = job->y + row * job->n;
    float sum = row_sum(g, y, job->n);
    for (int64_t j = 0; j < job->n; j++)
        dx[j] = y[j] * (g[j] - sum);
}

/* g - e^y sum(g), and where e^y is near 1 (g - sum) - (e^y - 1) sum, which keeps its digits. */
static void log_softmax_backward_row(const row_job *job, int64_t row) {
    const float *g = job->a + row * job->n, *y = job->b + row * job->n;
    float *dx = job->y + row * job->n;
    int64_t n = job->n, j = 0;
    float sum = row_sum(g, NULL, n);
    for (; j + LANES <= n; j += LANES)
        vstore(dx + j, vload(g + j) - vexp(vload(y + j)) * sum);
    if (j < n) {
        vf e = vexp(load_last(y + j, n - j, 0));
        vstore_part(dx + j, load_last(g + j, n - j, 0) - e * sum, n - j);
    }
    if (row_most(y, n) > -0.5f)
        for (j = 0; j < n; j++)
            if (y[j] > -0.5f)
                dx[j] = (g[j] - sum) - expm1f(y[j]) * sum;
}

#define KERNEL(name)                                                                               \
    static int name(const call *c) {                                                               \
        row_job job;                                                                               \
        return rows_open(&job, c) ? each_row(&job, name##_row) : DECLINED;                         \
    }
KERNEL(softmax)
KERNEL(log_softmax)
KERNEL(softmax_backward)
KERNEL(log_softmax_backward)

IN_F32(softmax)
IN_F32(log_softmax)
IN_F32(softmax_backward)
IN_F32(log_softmax_backward)

const kernel_row K(cpu_softmax)[] = {
    { "softmax", VESTIGE_F32, softmax },
    { "softmax", VESTIGE_BF16, softmax_bf16 },
    { "log_softmax", VESTIGE_F32, log_softmax },
    { "log_softmax", VESTIGE_BF16, log_softmax_bf16 },
    { "softmax_backward", VESTIGE_F32, softmax_backward },
    { "softmax_backward", VESTIGE_BF16, softmax_backward_bf16 },
    { "log_softmax_backward", VESTIGE_F32, log_softmax_backward },
    { "log_softmax_backward", VESTIGE_BF16, log_softmax_backward_bf16 },
    { 0 },
};
