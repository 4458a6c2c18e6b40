/* rows.h: kernels whose work is one row (a last dimension of n) at a time. */
#ifndef VESTIGE_CPU_ROWS_H
#define VESTIGE_CPU_ROWS_H

#include <math.h>
#include "cpu/both.h"
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

/* By fours: one lane after another would wait longer than a short row takes. */
static inline float add_lanes(vf v) {
    typedef float four __attribute__((vector_size(16)));
    union {
        vf all;
        four part[LANES / 4];
    } u = { v };
    for (int i = LANES / 8; i > 0; i /= 2)
        for (int k = 0; k < i; k++)
            u.part[k] += u.part[k + i];
    return (u.part[0][0] + u.part[0][2]) + (u.part[0][1] + u.part[0][3]);
}

/* The elements of x (n) from i on, fewer than 2 TWO, as floats; of bf16 in `wide`. */
ALWAYS_INLINE const float *rest_of(const void *x, int64_t i, int64_t n, float *wide,
                                   const bool half) {
    if (!half)
        return (const float *)x + i;
    widen(wide, (const uint16_t *)x + i, n - i);
    return wide;
}

/* The largest of x (n), f32 or bf16; a NaN may be passed over. */
ALWAYS_INLINE float most_of(const void *x, int64_t n, const bool half) {
    const vf low = vset(-__builtin_inff());
    vf most[4] = { low, low, low, low };
    int64_t i = 0;
    for (; i + 2 * TWO <= n; i += 2 * TWO) {
        two v = load_two(x, i, half), w = load_two(x, i + TWO, half);
        most[0] = vmax(v.a, most[0]), most[1] = vmax(v.b, most[1]);
        most[2] = vmax(w.a, most[2]), most[3] = vmax(w.b, most[3]);
    }
    float wide[2 * TWO];
    const float *rest = rest_of(x, i, n, wide, half);
    for (n -= i, i = 0; i + LANES <= n; i += LANES)
        most[0] = vmax(vload(rest + i), most[0]);
    if (i < n)
        most[1] = vmax(load_last(rest + i, n - i, -__builtin_inff()), most[1]);
    vf all = vmax(vmax(most[0], most[1]), vmax(most[2], most[3]));
    float top = all[0];
    for (int k = 1; k < LANES; k++)
        top = all[k] > top ? all[k] : top;
    return top;
}
static inline float row_most(const float *x, int64_t n) {
    return most_of(x, n, false);
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

/* sum + e^(x - most), x <= most; ties: counts, down, where they are equal, instead. */
ALWAYS_INLINE vf add_term(vf x, vf most, vf sum, vi *ties) {
    vf d = x - most, scale;
    vi tie = { 0 };
    if (ties) {
        tie = x == most;
        *ties += tie;
        d = (vf)((vi)d & ~tie); /* infinity less infinity */
    }
    vf p = vexp_term(d, &scale);
    return p * (vf)((vi)scale & ~tie) + sum;
}

/* The sum of e^(x - top) over x (n <= BLOCK); but_top: less 1 for a largest element. Fetches what
 * comes two blocks later: block and next ones lie in the first cache. */
enum { BLOCK = 2048 };
ALWAYS_INLINE double block_exp(const void *x, int64_t n, float top, const bool but_top,
                               const bool half) {
    const vf most = vset(top);
    vf sum[4] = { { 0 }, { 0 }, { 0 }, { 0 } };
    vi ties = { 0 }, *tied = but_top ? &ties : NULL;
    int64_t i = 0;
    for (; i + 2 * TWO <= n; i += 2 * TWO) {
        fetch_two(x, i + 2 * BLOCK, half);
        fetch_two(x, i + 2 * BLOCK + TWO, half);
        two v = load_two(x, i, half), w = load_two(x, i + TWO, half);
        sum[0] = add_term(v.a, most, sum[0], tied);
        sum[1] = add_term(v.b, most, sum[1], tied);
        sum[2] = add_term(w.a, most, sum[2], tied);
        sum[3] = add_term(w.b, most, sum[3], tied);
    }
    float wide[2 * TWO];
    const float *rest = rest_of(x, i, n, wide, half);
    for (n -= i, i = 0; i < n; i += LANES)
        sum[0] = add_term(load_last(rest + i, n - i < LANES ? n - i : LANES, -__builtin_inff()),
                          most, sum[0], tied);
    int count = 0;
    for (int k = 0; k < LANES; k++)
        count -= ties[k];
    return (double)add_lanes((sum[0] + sum[1]) + (sum[2] + sum[3])) + (count > 0 ? count - 1 : 0);
}

/* *most = the largest of x (n). Gives the sum of e^(x - *most) over all but one largest element, in
 * one pass over memory: what came before is scaled down where a block holds a larger one. */
ALWAYS_INLINE double row_exp(const void *x, int64_t n, float *most, const bool half) {
    const float none = -__builtin_inff();
    double others = 0;
    *most = none;
    for (int64_t from = 0; from < n; from += BLOCK) {
        int64_t m = n - from < BLOCK ? n - from : BLOCK;
        const char *at = (const char *)x + from * (half ? 2 : 4);
        float top = most_of(at, m, half);
        if (top > *most) {
            others = (others + 1) * exp((double)*most - (double)top);
            others += block_exp(at, m, top, true, half);
            *most = top;
        } else { /* where all is -inf so far, any finite number serves */
            others += block_exp(at, m, *most == none ? 0 : *most, false, half);
        }
    }
    return others;
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
