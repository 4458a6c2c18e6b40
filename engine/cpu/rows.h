/* rows.h: kernels whose work is one row (a last dimension of n) at a time. */
#ifndef VESTIGE_CPU_ROWS_H
#define VESTIGE_CPU_ROWS_H

#include "cpu/vmath.h"
#include "ops/row.h"

/* What the rows of one call share: two inputs (rows, n) and the output. */
typedef struct row_job {
    int64_t rows, n;
    const float *a, *b;
    float *y;
    const void *more; /* of the kernel */
} row_job;

enum { ROWS_PARALLEL = 1 << 14 }; /* elements from which a second thread pays */

/* Runs every row, on all threads when it pays; an interrupt leaves the rest. */
static inline int each_row(const row_job *job, void (*run)(const row_job *, int64_t row)) {
    int parts = job->rows * job->n < ROWS_PARALLEL ? 1 : threads();
#pragma omp parallel for num_threads(parts)
    for (int t = 0; t < parts; t++)
        for (int64_t i = job->rows * t / parts; i < job->rows * (t + 1) / parts; i++)
            if (!interrupted())
                run(job, i);
    return interrupted() ? fail(VESTIGE_EINTERRUPTED, "interrupted") : VESTIGE_OK;
}

/* The last n < LANES elements of a row, the rest of the vector filled. */
static inline vf load_last(const float *p, int64_t n, float fill) {
    vf v = vset(fill);
    memcpy(&v, p, (size_t)n * sizeof *p);
    return v;
}

static inline float add_lanes(vf v) {
    float sum = 0;
    for (int i = 0; i < LANES; i++)
        sum += v[i];
    return sum;
}

/* The largest of x (n); a NaN may be passed over. */
static inline float row_most(const float *x, int64_t n) {
    const vf low = vset(-__builtin_inff());
    vf most[4] = { low, low, low, low };
    int64_t i = 0;
    for (; i + 4 * LANES <= n; i += 4 * LANES)
        for (int k = 0; k < 4; k++)
            most[k] = vmax(vload(x + i + k * LANES), most[k]);
    for (; i + LANES <= n; i += LANES)
        most[0] = vmax(vload(x + i), most[0]);
    if (i < n)
        most[1] = vmax(load_last(x + i, n - i, -__builtin_inff()), most[1]);
    vf all = vmax(vmax(most[0], most[1]), vmax(most[2], most[3]));
    float top = all[0];
    for (int k = 1; k < LANES; k++)
        top = all[k] > top ? all[k] : top;
    return top;
}

/* *sum += e^(x - most) where x is not most; *ties counts, down, where it is. Gives e^(x - most). */
static inline vf add_exp(vf x, vf most, vf *sum, vi *ties) {
    vf e = vexp(x - most);
    vi tie = x == most;
    *ties += tie;
    *sum += vselect(tie, vset(0), e);
    return e;
}

/* The sum of e^(x - most) over all of x (n) but one largest element: added to 1 it would lose its
 * digits. y: gets e^(x - most); or NULL. */
static inline float row_others(const float *x, int64_t n, float top, float *y) {
    const vf most = vset(top);
    vf sum[4] = { { 0 }, { 0 }, { 0 }, { 0 } };
    vi ties = { 0 };
    int64_t i = 0;
    for (; i + 4 * LANES <= n; i += 4 * LANES)
        for (int k = 0; k < 4; k++) {
            vf e = add_exp(vload(x + i + k * LANES), most, &sum[k], &ties);
            if (y)
                vstore(y + i + k * LANES, e);
        }
    for (; i + LANES <= n; i += LANES) {
        vf e = add_exp(vload(x + i), most, &sum[0], &ties);
        if (y)
            vstore(y + i, e);
    }
    if (i < n) {
        vf e = add_exp(load_last(x + i, n - i, -__builtin_inff()), most, &sum[1], &ties);
        if (y)
            vstore_part(y + i, e, n - i);
    }
    int count = 0;
    for (int k = 0; k < LANES; k++)
        count -= ties[k];
    return add_lanes((sum[0] + sum[1]) + (sum[2] + sum[3])) + (float)(count > 0 ? count - 1 : 0);
}

/* The sum of a b (n); b NULL: of a. */
static inline float row_sum(const float *a, const float *b, int64_t n) {
    vf sum[4] = { { 0 }, { 0 }, { 0 }, { 0 } };
    int64_t i = 0;
    for (; i + 4 * LANES <= n; i += 4 * LANES)
        for (int k = 0; k < 4; k++)
            if (b)
                sum[k] += vload(a + i + k * LANES) * vload(b + i + k * LANES);
            else
                sum[k] += vload(a + i + k * LANES);
    float total = 0;
    for (; i < n; i++)
        total += b ? a[i] * b[i] : a[i];
    return total + add_lanes((sum[0] + sum[1]) + (sum[2] + sum[3]));
}

#endif
