/* layer_norm.c: layer_norm and its gradient in f32 and bf16, of which each row is widened by
 * itself, and rounded. A row is read from memory once: the passes for its mean, its variance and
 * the result find it in the first cache. Rows divide among threads in pieces that depend on the
 * shape alone; the gradients of weight and bias are summed for each piece and then over the pieces
 * in order, so the bits do not depend on the number of threads. */
#include <math.h>
#include "cpu/half.h"
#include "cpu/rows.h"
#include "cpu/stream.h"

enum {
    RUN = 4096,      /* elements summed in f32 before double takes over */
    PIECE_ROWS = 16, /* least rows of a piece */
    MAX_PIECES = 64,
    TILE = 512,  /* elements that wait to go past the caches */
    ROWS = 4,    /* taken together where weight's gradient is summed */
    COLUMNS = 64 /* summed together over the pieces */
};

typedef struct job {
    int64_t rows, n, piece, pieces; /* rows of a piece; pieces */
    const void *x, *g;              /* f32, or bf16 where half */
    const float *weight, *bias;
    const float *saved_mean, *saved_rstd;
    void *y; /* dx in the gradient */
    float *mean, *rstd;
    float *sums; /* (pieces, 2, n): of g h and of g */
    double eps;
    bool past; /* y goes past the caches */
    bool half;
    float *wide; /* (threads, 2 ROWS + 1, n) where half: rows of g and x, one of y */
} job;

static const float *floats(const tensor *t) {
    return t ? (const float *)t->data : NULL;
}

/* The first `rows` inputs in one type, the others in f32. */
static bool types_fit(const call *c, int rows) {
    for (int i = 0; i < c->nin; i++)
        if (c->in[i] && c->in[i]->dtype != (i < rows ? c->in[0]->dtype : VESTIGE_F32))
            return false;
    return true;
}

static void cut(job *j) {
    int64_t least = (j->rows + MAX_PIECES - 1) / MAX_PIECES;
    j->piece = least > PIECE_ROWS ? least : PIECE_ROWS;
    j->pieces = (j->rows + j->piece - 1) / j->piece;
    j->past =
        !j->half && j->rows * j->n * 4 >= STREAMED && j->n % 16 == 0 && (uintptr_t)j->y % 64 == 0;
}

static int64_t wide_floats(const job *j) {
    return j->half ? (2 * ROWS + 1) * j->n : 0;
}

static int each_piece(job *j, void (*run)(const job *, int64_t piece, float *wide)) {
    int parts = j->rows * j->n < ROWS_PARALLEL ? 1 : threads();
    int64_t each = wide_floats(j), bytes = parts * each * (int64_t)sizeof(float);
    void *wide = NULL;
    if (j->half)
        TRY(alloc_scratch(&wide, bytes));
    j->wide = wide;
#pragma omp parallel for num_threads(parts)
    for (int t = 0; t < parts; t++)
        for (int64_t i = j->pieces * t / parts; i < j->pieces * (t + 1) / parts; i++)
            if (!interrupted())
                run(j, i, j->half ? j->wide + t * each : NULL);
    if (j->half)
        free_scratch(wide, bytes);
    return interrupted() ? fail(VESTIGE_EINTERRUPTED, "interrupted") : VESTIGE_OK;
}

/* Rows from `row` on as floats, of bf16 in `wide`. */
static const float *read_rows(const job *j, const void *from, int64_t row, int64_t rows,
                              float *wide) {
    if (!j->half)
        return (const float *)from + row * j->n;
    widen(wide, (const uint16_t *)from + row * j->n, rows * j->n);
    return wide;
}

static int64_t piece_end(const job *j, int64_t piece) {
    int64_t end = (piece + 1) * j->piece;
    return end < j->rows ? end : j->rows;
}

/* ---- Forward ---- */
static double sum_of(const float *x, int64_t n) {
    double sum = 0;
    for (int64_t i = 0; i < n; i += RUN)
        sum += (double)row_sum(x + i, NULL, n - i < RUN ? n - i : RUN);
    return sum;
}

/* The sum of (x - mean)^2, n <= RUN. */
static float run_squares(const float *x, int64_t n, float mean) {
    vf sum[4] = { { 0 }, { 0 }, { 0 }, { 0 } };
    int64_t i = 0;
    for (; i + 4 * LANES <= n; i += 4 * LANES)
        for (int k = 0; k < 4; k++) {
            vf d = vload(x + i + k * LANES) - mean;
            sum[k] += d * d;
        }
    for (; i + LANES <= n; i += LANES) {
        vf d = vload(x + i) - mean;
        sum[0] += d * d;
    }
    float total = 0;
    for (; i < n; i++)
        total += (x[i] - mean) * (x[i] - mean);
    return total + add_lanes((sum[0] + sum[1]) + (sum[2] + sum[3]));
}

static double squares_of(const float *x, int64_t n, float mean) {
    double sum = 0;
    for (int64_t i = 0; i < n; i += RUN)
        sum += (double)run_squares(x + i, n - i < RUN ? n - i : RUN, mean);
    return sum;
}

/* y (n) = (x - mean) rstd weight + bias; weight and bias may be NULL */
static void write_row(float *restrict y, const float *restrict x, int64_t n, float mean, float rstd,
                      const float *restrict weight, const float *restrict bias) {
    if (weight && bias)
        for (int64_t i = 0; i < n; i++)
            y[i] = (x[i] - mean) * rstd * weight[i] + bias[i];
    else if (weight)
        for (int64_t i = 0; i < n; i++)
            y[i] = (x[i] - mean) * rstd * weight[i];
    else
        for (int64_t i = 0; i < n; i++)
            y[i] = (x[i] - mean) * rstd + (bias ? bias[i] : 0);
}

/* The same for row i of y: by tiles past the caches, where a line that is written whole need not be
 * read first, or rounded from `wide`. */
static void put_row(const job *j, int64_t i, const float *x, float mean, float rstd, float *wide) {
    float tile[TILE];
    const int64_t most = j->past ? TILE : j->n, n = j->n;
    for (int64_t at = 0, m; at < n; at += m) {
        float *y = j->half ? wide : (float *)j->y + i * n + at;
        m = n - at < most ? n - at : most;
        write_row(j->past ? tile : y, x + at, m, mean, rstd, j->weight ? j->weight + at : NULL,
                  j->bias ? j->bias + at : NULL);
        if (j->past)
            stream(y, tile, m * 4);
    }
    if (j->half)
        narrow((uint16_t *)j->y + i * n, wide, n);
}

static void forward_piece(const job *j, int64_t piece, float *wide) {
    double n = (double)j->n;
    for (int64_t i = piece * j->piece; i < piece_end(j, piece); i++) {
        const float *x = read_rows(j, j->x, i, 1, wide);
        double mean = sum_of(x, j->n) / n;
        float near = (float)mean;
        double off = mean - near; /* what rounding the mean adds to each difference */
        double var = squares_of(x, j->n, near) / n - off * off;
        j->mean[i] = near;
        j->rstd[i] = (float)(1 / sqrt(fmax(var, 0) + j->eps));
        put_row(j, i, x, near, j->rstd[i], wide + (j->half ? j->n : 0));
    }
    stream_end();
}

static int layer_norm(const call *c) {
    const tensor *x = c->in[0];
    if (!types_fit(c, 1) || x->numel == 0)
        return DECLINED;
    job j = { .rows = c->out[1]->numel,
              .n = x->numel / c->out[1]->numel,
              .x = x->data,
              .half = x->dtype == VESTIGE_BF16,
              .weight = floats(c->in[1]),
              .bias = floats(c->in[2]),
              .y = c->out[0]->data,
              .mean = (float *)c->out[1]->data,
              .rstd = (float *)c->out[2]->data,
              .eps = option(c, "eps") };
    cut(&j);
    return each_piece(&j, forward_piece);
}

/* ---- The gradient ---- */
/* *plain = the sum of p = g weight, *scaled = the sum of p (x - mean); n <= RUN. */
static void run_products(const float *g, const float *x, const float *weight, int64_t n, float mean,
                         double *plain, double *scaled) {
    vf p0 = { 0 }, p1 = { 0 }, s0 = { 0 }, s1 = { 0 };
    int64_t i = 0;
    for (; i + 2 * LANES <= n; i += 2 * LANES) {
        vf a = vload(g + i), b = vload(g + i + LANES);
        if (weight)
            a *= vload(weight + i), b *= vload(weight + i + LANES);
        p0 += a, p1 += b;
        s0 += a * (vload(x + i) - mean), s1 += b * (vload(x + i + LANES) - mean);
    }
    float p = 0, s = 0;
    for (; i < n; i++) {
        float a = weight ? g[i] * weight[i] : g[i];
        p += a;
        s += a * (x[i] - mean);
    }
    *plain += (double)(p + add_lanes(p0 + p1));
    *scaled += (double)(s + add_lanes(s0 + s1));
}

/* dx (n) = rstd (g weight - shift - (x - mean) slope) */
static void write_gradient(float *restrict dx, const float *restrict g, const float *restrict x,
                           const float *restrict weight, int64_t n, float mean, float rstd,
                           float shift, float slope) {
    if (weight)
        for (int64_t i = 0; i < n; i++)
            dx[i] = rstd * ((g[i] * weight[i] - shift) - (x[i] - mean) * slope);
    else
        for (int64_t i = 0; i < n; i++)
            dx[i] = rstd * ((g[i] - shift) - (x[i] - mean) * slope);
}

/* dw, db (n) += g h, g over up to ROWS rows, so that the sums are read and written once for them.
 */
static void add_affine(float *restrict dw, float *restrict db, const job *j,
                       const float *restrict g, const float *restrict x, int64_t row,
                       int64_t rows) {
    const int64_t n = j->n;
    const float *m = j->saved_mean + row, *r = j->saved_rstd + row;
    if (rows < ROWS) {
        for (int64_t i = 0; i < rows; i++, g += n, x += n)
            for (int64_t k = 0; k < n; k++) {
                dw[k] += g[k] * ((x[k] - m[i]) * r[i]);
                db[k] += g[k];
            }
        return;
    }
    const float m0 = m[0], m1 = m[1], m2 = m[2], m3 = m[3];
    const float r0 = r[0], r1 = r[1], r2 = r[2], r3 = r[3];
    for (int64_t k = 0; k < n; k++) {
        float g0 = g[k], g1 = g[k + n], g2 = g[k + 2 * n], g3 = g[k + 3 * n];
        float a = g0 * ((x[k] - m0) * r0) + g1 * ((x[k + n] - m1) * r1);
        float b = g2 * ((x[k + 2 * n] - m2) * r2) + g3 * ((x[k + 3 * n] - m3) * r3);
        dw[k] += a + b;
        db[k] += (g0 + g1) + (g2 + g3);
    }
}

static void row_gradient(const job *j, int64_t i, const float *g, const float *x, float *wide) {
    int64_t n = j->n;
    float mean = j->saved_mean[i], rstd = j->saved_rstd[i];
    double plain = 0, scaled = 0;
    for (int64_t at = 0; at < n; at += RUN)
        run_products(g + at, x + at, j->weight ? j->weight + at : NULL, n - at < RUN ? n - at : RUN,
                     mean, &plain, &scaled);
    float shift = (float)(plain / (double)n), slope = (float)(scaled * rstd * rstd / (double)n);
    float tile[TILE];
    const int64_t most = j->past ? TILE : n;
    for (int64_t at = 0, m; at < n; at += m) {
        float *dx = j->half ? wide : (float *)j->y + i * n + at;
        m = n - at < most ? n - at : most;
        write_gradient(j->past ? tile : dx, g + at, x + at, j->weight ? j->weight + at : NULL, m,
                       mean, rstd, shift, slope);
        if (j->past)
            stream(dx, tile, m * 4);
    }
    if (j->half)
        narrow((uint16_t *)j->y + i * n, wide, n);
}

static void backward_piece(const job *j, int64_t piece, float *wide) {
    int64_t n = j->n, end = piece_end(j, piece);
    float *dw = j->sums ? j->sums + piece * 2 * n : NULL;
    if (dw)
        memset(dw, 0, (size_t)(2 * n) * sizeof *dw);
    for (int64_t i = piece * j->piece; i < end; i += ROWS) {
        int64_t rows = end - i < ROWS ? end - i : ROWS;
        const float *g = read_rows(j, j->g, i, rows, wide);
        const float *x = read_rows(j, j->x, i, rows, wide + (j->half ? ROWS * n : 0));
        for (int64_t k = 0; j->y && k < rows; k++)
            row_gradient(j, i + k, g + k * n, x + k * n, wide + (j->half ? 2 * ROWS * n : 0));
        if (dw)
            add_affine(dw, dw + n, j, g, x, i, rows);
    }
    stream_end();
}

/* to (n) = the sums of the pieces, in order, in double */
static void join(const job *j, float *to, int which) {
    double sum[COLUMNS];
    for (int64_t from = 0; from < j->n; from += COLUMNS) {
        int64_t n = j->n - from < COLUMNS ? j->n - from : COLUMNS;
        memset(sum, 0, sizeof sum);
        for (int64_t p = 0; p < j->pieces; p++) {
            const float *part = j->sums + (2 * p + which) * j->n + from;
            for (int64_t k = 0; k < n; k++)
                sum[k] += (double)part[k];
        }
        for (int64_t k = 0; k < n; k++)
            to[from + k] = (float)sum[k];
    }
}

static int layer_norm_backward(const call *c) {
    const tensor *x = c->in[1], *mean = c->in[3];
    if (!types_fit(c, 2) || x->numel == 0)
        return DECLINED;
    job j = { .rows = mean->numel,
              .n = x->numel / mean->numel,
              .g = c->in[0]->data,
              .x = x->data,
              .half = x->dtype == VESTIGE_BF16,
              .weight = floats(c->in[2]),
              .saved_mean = floats(mean),
              .saved_rstd = floats(c->in[4]) };
    if (option(c, "input") != 0)
        j.y = c->out[0]->data;
    cut(&j);
    int64_t bytes = option(c, "affine") != 0 ? j.pieces * 2 * j.n * (int64_t)sizeof(float) : 0;
    if (bytes) {
        void *scratch;
        TRY(alloc_scratch(&scratch, bytes));
        j.sums = scratch;
    }
    int status = each_piece(&j, backward_piece);
    if (bytes) {
        join(&j, (float *)c->out[1]->data, 0);
        join(&j, (float *)c->out[2]->data, 1);
        free_scratch(j.sums, bytes);
    }
    return status;
}

/* All but x, y and their gradients is small. */
static int layer_norm_bf16(const call *c) {
    return K(cpu_in_f32)(c, layer_norm, 1, 1);
}
static int layer_norm_backward_bf16(const call *c) {
    return K(cpu_in_f32)(c, layer_norm_backward, 3, 1);
}

const kernel_row K(cpu_layer_norm)[] = {
    { "layer_norm", VESTIGE_F32, layer_norm },
    { "layer_norm", VESTIGE_BF16, layer_norm_bf16 },
    { "layer_norm_backward", VESTIGE_F32, layer_norm_backward },
    { "layer_norm_backward", VESTIGE_BF16, layer_norm_backward_bf16 },
    { 0 },
};
