/* criterion.c: squared error and cosine similarity in f32, sums over pieces of long rows: what
 * matching of gradients and features spends its time on. Other losses have the plain loops. */
#include <math.h>
#include "cpu/half.h"
#include "cpu/rows.h"
#include "ops/loss.h"

enum { PIECE = 1 << 14 };

/* A row is (n); partial gets three sums of each of its pieces. */
typedef struct sums {
    const float *a, *b;
    int64_t n, pieces;
    double *partial; /* (rows, pieces, 3): a b, a a, b b; or the first: (a - b)^2 */
} sums;

/* (a - b)^2 summed */
static float squared_error(const float *a, const float *b, int64_t n) {
    vf sum[4] = {
        { 0 },
        { 0 },
        { 0 },
        { 0 },
    };
    int64_t i = 0;
    for (; i + 4 * LANES <= n; i += 4 * LANES)
        for (int k = 0; k < 4; k++) {
            vf d = vload(a + i + k * LANES) - vload(b + i + k * LANES);
            sum[k] += d * d;
        }
    float total = 0;
    for (; i < n; i++)
        total += (a[i] - b[i]) * (a[i] - b[i]);
    return total + add_lanes((sum[0] + sum[1]) + (sum[2] + sum[3]));
}

static void error_piece(const row_job *job, int64_t i) {
    const sums *s = job->more;
    int64_t from = i * PIECE, n = s->n - from < PIECE ? s->n - from : PIECE;
    s->partial[i] = (double)squared_error(s->a + from, s->b + from, n);
}

static void cosine_piece(const row_job *job, int64_t i) {
    const sums *s = job->more;
    int64_t row = i / s->pieces, from = i % s->pieces * PIECE;
    int64_t n = s->n - from < PIECE ? s->n - from : PIECE;
    const float *a = s->a + row * s->n + from, *b = s->b + row * s->n + from;
    s->partial[3 * i] = (double)row_sum(a, b, n);
    s->partial[3 * i + 1] = (double)row_sum(a, a, n);
    s->partial[3 * i + 2] = (double)row_sum(b, b, n);
}

static bool same_shape_f32(const call *c) {
    const tensor *a = c->in[0], *b = c->in[1];
    return a->ndim == b->ndim && memcmp(a->dim, b->dim, (size_t)a->ndim * sizeof *a->dim) == 0 &&
           a->dtype == VESTIGE_F32 && b->dtype == VESTIGE_F32 && a->numel > 0;
}

static int mse_loss(const call *c) {
    int how = (int)option(c, "reduction");
    if (how == EACH || !same_shape_f32(c))
        return DECLINED;
    int64_t n = c->in[0]->numel, pieces = (n + PIECE - 1) / PIECE, bytes = pieces * 8;
    void *scratch;
    TRY(alloc_scratch(&scratch, bytes));
    sums s = { (const float *)c->in[0]->data, (const float *)c->in[1]->data, n, pieces, scratch };
    row_job job = { .rows = pieces, .n = PIECE, .more = &s };
    int status = each_row(&job, error_piece);
    double total = 0;
    for (int64_t i = 0; i < pieces; i++)
        total += s.partial[i];
    *(float *)c->out[0]->data = (float)(how == MEAN ? total / (double)n : total);
    free_scratch(scratch, bytes);
    return status;
}

static int cosine_similarity(const call *c) {
    const tensor *a = c->in[0];
    int dim = (int)option(c, "dim");
    if (!same_shape_f32(c) || (a->ndim > 0 && dim != a->ndim - 1))
        return DECLINED;
    int64_t n = a->ndim ? a->dim[dim] : 1, rows = a->numel / n, pieces = (n + PIECE - 1) / PIECE;
    int64_t bytes = rows * pieces * 3 * 8;
    double eps = option(c, "eps");
    void *scratch;
    TRY(alloc_scratch(&scratch, bytes));
    sums s = { (const float *)a->data, (const float *)c->in[1]->data, n, pieces, scratch };
    row_job job = { .rows = rows * pieces, .n = n < PIECE ? n : PIECE, .more = &s };
    int status = each_row(&job, cosine_piece);
    for (int64_t row = 0; row < rows; row++) {
        double ab = 0, aa = 0, bb = 0;
        for (const double *p = s.partial + row * pieces * 3, *end = p + pieces * 3; p < end; p += 3)
            ab += p[0], aa += p[1], bb += p[2];
        ((float *)c->out[0]->data)[row] = (float)(ab / (fmax(sqrt(aa), eps) * fmax(sqrt(bb), eps)));
    }
    free_scratch(scratch, bytes);
    return status;
}

IN_F32(mse_loss)
IN_F32(cosine_similarity)

const kernel_row K(cpu_criterion)[] = {
    { "mse_loss", VESTIGE_F32, mse_loss },
    { "mse_loss", VESTIGE_BF16, mse_loss_bf16 },
    { "cosine_similarity", VESTIGE_F32, cosine_similarity },
    { "cosine_similarity", VESTIGE_BF16, cosine_similarity_bf16 },
    { 0 },
};
