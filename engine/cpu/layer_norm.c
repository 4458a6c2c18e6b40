/* layer_norm.c: layer_norm and its gradient in f32 and bf16. A row is read from memory once: the
 * passes for its mean, its variance and the result find it in the first cache, and meanwhile
 * one that comes later is fetched. Rows divide among threads in pieces that depend on the shape
 * alone; the gradients of weight and bias are summed for each piece and then over the pieces in
 * order, so the bits do not depend on the number of threads. */
#include <math.h>
#include "cpu/both.h"
#include "cpu/rows.h"

enum {
    RUN = 4096,      /* elements summed in f32 before double takes over */
    PIECE_ROWS = 16, /* least rows of a piece */
    MAX_PIECES = 64,
    AHEAD = 2,   /* rows: what comes so much later is fetched */
    COLUMNS = 64 /* summed together over the pieces */
};

typedef struct job {
    int64_t rows, n, piece, pieces; /* rows of a piece; pieces */
    const char *x, *g;              /* f32, or bf16 where half */
    const float *weight, *bias;     /* dealt; never NULL */
    const float *saved_mean, *saved_rstd;
    char *y; /* dx in the gradient; or NULL */
    float *mean, *rstd;
    float *sums; /* (pieces, 2, n), dealt: of g h and of g; or NULL */
    double eps;
    bool past; /* y goes past the caches */
    bool half;
    void *scratch;
    int64_t bytes, size; /* of the scratch; of an element */
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

/* A vector of the columns, dealt as the rows are read: from, or in to (n); `absent` where from is
 * NULL. */
static const float *vector_of(const job *j, float *to, const float *from, float absent) {
    if (from && !j->half)
        return from;
    for (int64_t i = 0; i < j->n; i++)
        to[i] = from ? from[i] : absent;
    deal(to, j->n);
    return to;
}

/* Cuts the rows in pieces, and makes room for sums (or not). */
static int open(job *j, const tensor *x, int64_t rows, bool sums) {
    j->rows = rows;
    j->n = x->numel / rows;
    j->x = x->data;
    j->half = x->dtype == VESTIGE_BF16;
    j->size = j->half ? 2 : 4;
    int64_t least = (j->rows + MAX_PIECES - 1) / MAX_PIECES, row_bytes = j->n * j->size;
    j->piece = least > PIECE_ROWS ? least : PIECE_ROWS;
    j->pieces = (j->rows + j->piece - 1) / j->piece;
    j->past = j->rows * row_bytes >= STREAMED && row_bytes % 64 == 0 && (uintptr_t)j->y % 64 == 0;
    j->bytes = (2 + (sums ? 2 * j->pieces : 0)) * j->n * (int64_t)sizeof(float);
    TRY(alloc_scratch(&j->scratch, j->bytes));
    float *own = j->scratch;
    j->weight = vector_of(j, own, j->weight, 1);
    j->bias = vector_of(j, own + j->n, j->bias, 0);
    j->sums = sums ? own + 2 * j->n : NULL;
    return VESTIGE_OK;
}

static int each_piece(const job *j, void (*run)(const job *, int64_t piece)) {
    int parts = j->rows * j->n < ROWS_PARALLEL ? 1 : threads();
#pragma omp parallel for num_threads(parts)
    for (int t = 0; t < parts; t++) {
        for (int64_t i = j->pieces * t / parts; i < j->pieces * (t + 1) / parts; i++)
            if (!interrupted())
                run(j, i);
        stream_end();
    }
    return interrupted() ? fail(VESTIGE_EINTERRUPTED, "interrupted") : VESTIGE_OK;
}

static int64_t piece_end(const job *j, int64_t piece) {
    int64_t end = (piece + 1) * j->piece;
    return end < j->rows ? end : j->rows;
}

static int64_t run_of(int64_t left) {
    return left < RUN ? left : RUN;
}

/* ---- Forward ---- */
/* The sum of x (n <= RUN). */
ALWAYS_INLINE float run_sum(const char *x, int64_t n, const bool half) {
    vf sum[4] = { { 0 }, { 0 }, { 0 }, { 0 } };
    int64_t i = 0;
    for (; i + 2 * TWO <= n; i += 2 * TWO) {
        two v = load_two(x, i, half), w = load_two(x, i + TWO, half);
        sum[0] += v.a, sum[1] += v.b;
        sum[2] += w.a, sum[3] += w.b;
    }
    float total = 0;
    for (; i < n; i++)
        total += element(x, i, half);
    return total + add_lanes((sum[0] + sum[1]) + (sum[2] + sum[3]));
}

/* The sum of (x - mean)^2. */
ALWAYS_INLINE float run_squares(const char *x, int64_t n, float mean, const bool half) {
    vf sum[4] = { { 0 }, { 0 }, { 0 }, { 0 } };
    int64_t i = 0;
    for (; i + 2 * TWO <= n; i += 2 * TWO) {
        two v = load_two(x, i, half), w = load_two(x, i + TWO, half);
        v.a -= mean, v.b -= mean, w.a -= mean, w.b -= mean;
        sum[0] += v.a * v.a, sum[1] += v.b * v.b;
        sum[2] += w.a * w.a, sum[3] += w.b * w.b;
    }
    float total = 0;
    for (; i < n; i++) {
        float d = element(x, i, half) - mean;
        total += d * d;
    }
    return total + add_lanes((sum[0] + sum[1]) + (sum[2] + sum[3]));
}

/* y (n) = (x - mean) rstd weight + bias */
ALWAYS_INLINE void write_row(const job *j, char *y, const char *x, float mean, float rstd,
                             const bool half, const bool past) {
    const float *weight = j->weight, *bias = j->bias;
    const int64_t n = j->n;
    int64_t i = 0;
    for (; i + TWO <= n; i += TWO) {
        fetch_two(x, i + AHEAD * n, half);
        two v = load_two(x, i, half), w = load_two(weight, i, false), b = load_two(bias, i, false);
        v.a = (v.a - mean) * rstd * w.a + b.a;
        v.b = (v.b - mean) * rstd * w.b + b.b;
        store_two(y, i, v, half, past);
    }
    for (; i < n; i++)
        set_element(y, i, (element(x, i, half) - mean) * rstd * weight[i] + bias[i], half);
}

ALWAYS_INLINE void forward_rows(const job *j, int64_t piece, const bool half, const bool past) {
    const int64_t n = j->n, size = half ? 2 : 4;
    for (int64_t i = piece * j->piece; i < piece_end(j, piece); i++) {
        const char *x = j->x + i * n * size;
        double sum = 0, squares = 0;
        for (int64_t at = 0; at < n; at += RUN)
            sum += (double)run_sum(x + at * size, run_of(n - at), half);
        double mean = sum / (double)n;
        float near = (float)mean;
        for (int64_t at = 0; at < n; at += RUN)
            squares += (double)run_squares(x + at * size, run_of(n - at), near, half);
        double off = mean - near; /* what rounding the mean adds to each difference */
        double var = squares / (double)n - off * off;
        j->mean[i] = near;
        j->rstd[i] = (float)(1 / sqrt(fmax(var, 0) + j->eps));
        write_row(j, j->y + i * n * size, x, near, j->rstd[i], half, past);
    }
}

static void forward_piece(const job *j, int64_t piece) {
    if (j->half)
        j->past ? forward_rows(j, piece, true, true) : forward_rows(j, piece, true, false);
    else
        j->past ? forward_rows(j, piece, false, true) : forward_rows(j, piece, false, false);
}

static int layer_norm(const call *c) {
    const tensor *x = c->in[0];
    if (!types_fit(c, 1) || x->numel == 0)
        return DECLINED;
    job j = { .weight = floats(c->in[1]),
              .bias = floats(c->in[2]),
              .y = c->out[0]->data,
              .mean = (float *)c->out[1]->data,
              .rstd = (float *)c->out[2]->data,
              .eps = option(c, "eps") };
    TRY(open(&j, x, c->out[1]->numel, false));
    int status = each_piece(&j, forward_piece);
    free_scratch(j.scratch, j.bytes);
    return status;
}

/* ---- The gradient ---- */
/* *plain = the sum of p = g weight, *scaled = the sum of p (x - mean); n <= RUN. */
ALWAYS_INLINE void run_products(const char *g, const char *x, const float *weight, int64_t n,
                                float mean, double *plain, double *scaled, const bool half) {
    vf p0 = { 0 }, p1 = { 0 }, s0 = { 0 }, s1 = { 0 };
    int64_t i = 0;
    for (; i + TWO <= n; i += TWO) {
        two p = load_two(g, i, half), v = load_two(x, i, half), w = load_two(weight, i, false);
        p.a *= w.a, p.b *= w.b;
        p0 += p.a, p1 += p.b;
        s0 += p.a * (v.a - mean), s1 += p.b * (v.b - mean);
    }
    float p = 0, s = 0;
    for (; i < n; i++) {
        float a = element(g, i, half) * weight[i];
        p += a;
        s += a * (element(x, i, half) - mean);
    }
    *plain += (double)(p + add_lanes(p0 + p1));
    *scaled += (double)(s + add_lanes(s0 + s1));
}

/* With h = (x - mean) rstd, of one row: dw (n) += g h, db (n) += g, and
 * dx (n) = rstd (g weight - shift) - h slope; dw and db, or dx, may be NULL. */
ALWAYS_INLINE void write_gradient(float *restrict dw, float *restrict db, char *restrict dx,
                                  const char *restrict g, const char *restrict x,
                                  const float *restrict weight, int64_t n, float mean, float rstd,
                                  float shift, float slope, const bool half, const bool past) {
    int64_t i = 0;
    for (; i + TWO <= n; i += TWO) {
        two p = load_two(g, i, half), h = load_two(x, i, half), w = load_two(weight, i, false);
        fetch_two(g, i + AHEAD * n, half);
        fetch_two(x, i + AHEAD * n, half);
        h.a = (h.a - mean) * rstd, h.b = (h.b - mean) * rstd;
        if (dw) {
            two s = load_two(dw, i, false), t = load_two(db, i, false);
            store_two(dw, i, (two){ s.a + p.a * h.a, s.b + p.b * h.b }, false, false);
            store_two(db, i, (two){ t.a + p.a, t.b + p.b }, false, false);
        }
        p.a = (p.a * w.a - shift) * rstd - h.a * slope;
        p.b = (p.b * w.b - shift) * rstd - h.b * slope;
        if (dx)
            store_two(dx, i, p, half, past);
    }
    for (; i < n; i++) {
        float p = element(g, i, half), h = (element(x, i, half) - mean) * rstd;
        if (dw) {
            dw[i] += p * h;
            db[i] += p;
        }
        if (dx)
            set_element(dx, i, (p * weight[i] - shift) * rstd - h * slope, half);
    }
}

ALWAYS_INLINE void backward_rows(const job *j, int64_t piece, const bool half, const bool past) {
    const int64_t n = j->n, size = half ? 2 : 4;
    float *dw = j->sums ? j->sums + piece * 2 * n : NULL;
    if (dw)
        memset(dw, 0, (size_t)(2 * n) * sizeof *dw);
    for (int64_t i = piece * j->piece; i < piece_end(j, piece); i++) {
        const char *g = j->g + i * n * size, *x = j->x + i * n * size;
        float mean = j->saved_mean[i], rstd = j->saved_rstd[i];
        double plain = 0, scaled = 0;
        for (int64_t at = 0; j->y && at < n; at += RUN)
            run_products(g + at * size, x + at * size, j->weight + at, run_of(n - at), mean, &plain,
                         &scaled, half);
        float shift = (float)(plain / (double)n);
        float slope = (float)(scaled * rstd * rstd / (double)n);
        write_gradient(dw, dw ? dw + n : NULL, j->y ? j->y + i * n * size : NULL, g, x, j->weight,
                       n, mean, rstd, shift, slope, half, past);
    }
}

static void backward_piece(const job *j, int64_t piece) {
    if (j->half)
        j->past ? backward_rows(j, piece, true, true) : backward_rows(j, piece, true, false);
    else
        j->past ? backward_rows(j, piece, false, true) : backward_rows(j, piece, false, false);
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
            to[from + k] = (float)sum[j->half ? dealt(from + k, j->n) - from : k];
    }
}

static int layer_norm_backward(const call *c) {
    const tensor *x = c->in[1], *mean = c->in[3];
    if (!types_fit(c, 2) || x->numel == 0)
        return DECLINED;
    job j = { .g = c->in[0]->data,
              .weight = floats(c->in[2]),
              .saved_mean = floats(mean),
              .saved_rstd = floats(c->in[4]) };
    if (option(c, "input") != 0)
        j.y = c->out[0]->data;
    TRY(open(&j, x, mean->numel, option(c, "affine") != 0));
    int status = each_piece(&j, backward_piece);
    if (j.sums) {
        join(&j, (float *)c->out[1]->data, 0);
        join(&j, (float *)c->out[2]->data, 1);
    }
    free_scratch(j.scratch, j.bytes);
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
