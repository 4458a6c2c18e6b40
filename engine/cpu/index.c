/* index.c: gathering and adding up by index, at speed. Sums run in the order of the index, each
 * thread over columns or slices of its own: the bits do not depend on how many there are. */
#include "cpu/half.h"
#include "cpu/isa.h"
#include "cpu/move.h"
#include "ref/ref.h"

enum { PARALLEL = 1 << 16, COLUMNS = 64 };

/* Whole (outer, n, inner), part (outer, m, inner); the index has m places, or one for each element
 * of the part. */
typedef struct layout {
    int64_t outer, n, inner, m;
    const int64_t *index;
    int parts; /* threads */
} layout;

static int layout_of(const call *c, const tensor *whole, const tensor *part, int i, layout *l) {
    int dim = (int)option(c, "dim");
    *l = (layout){ 1, 1, 1, 1, NULL, 1 };
    if (whole->ndim)
        *l = (layout){ product(dim, whole->dim),
                       whole->dim[dim],
                       product(whole->ndim - dim - 1, whole->dim + dim + 1),
                       part->dim[dim],
                       NULL,
                       part->numel >= PARALLEL ? threads() : 1 };
    return ref_places(c, i, l->n, &l->index);
}

/* Is every size of part whole's, but along dim? */
static bool full(const call *c, const tensor *whole, const tensor *part) {
    int dim = (int)option(c, "dim");
    for (int d = 0; d < whole->ndim; d++)
        if (d != dim && part->dim[d] != whole->dim[d])
            return false;
    return true;
}

/* ---- index_select: copies of slices ---- */
static int index_select(const call *c) {
    const tensor *x = c->in[0], *y = c->out[0];
    layout l;
    if (x->ndim == 0)
        return DECLINED;
    TRY(layout_of(c, x, y, 1, &l));
    int64_t bytes = l.inner * dtype_size(y->dtype);
    const char *from = x->data;
    char *to = y->data;
#pragma omp parallel for num_threads(l.parts) schedule(static)
    for (int64_t r = 0; r < l.outer * l.m; r++) {
        const char *slice = from + (r / l.m * l.n + l.index[r % l.m]) * bytes;
        if (bytes == 4)
            memcpy(to + r * 4, slice, 4);
        else
            memcpy(to + r * bytes, slice, (size_t)bytes);
    }
    return VESTIGE_OK;
}

/* ---- gather: elements of 4 or 8 bytes ---- */
enum { PIECE = 2048 };

#define GATHER(type)                                                                               \
    static void gather_##type(const layout *l, type *y, const type *x) {                           \
        int64_t run = l->m * l->inner, inner = l->inner;                                           \
        _Pragma("omp parallel for collapse(2) num_threads(l->parts) schedule(static)") for (       \
            int64_t o = 0; o < l->outer; o++) for (int64_t from = 0; from < l->m; from += PIECE) { \
            int64_t end = from + PIECE < l->m ? from + PIECE : l->m;                               \
            const type *at = x + o * l->n * inner;                                                 \
            const int64_t *index = l->index + o * run;                                             \
            type *to = y + o * run;                                                                \
            if (inner == 1)                                                                        \
                for (int64_t m = from; m < end; m++)                                               \
                    to[m] = at[index[m]];                                                          \
            else                                                                                   \
                for (int64_t m = from; m < end; m++)                                               \
                    for (int64_t i = 0; i < inner; i++)                                            \
                        to[m * inner + i] = at[index[m * inner + i] * inner + i];                  \
        }                                                                                          \
    }
GATHER(uint32_t)
GATHER(uint64_t)

static int gather(const call *c) {
    const tensor *x = c->in[0], *y = c->out[0];
    int64_t size = dtype_size(y->dtype);
    layout l;
    if (size < 4 || !full(c, x, y))
        return DECLINED;
    TRY(layout_of(c, x, y, 1, &l));
    if (size == 4)
        gather_uint32_t(&l, (uint32_t *)y->data, (const uint32_t *)x->data);
    else
        gather_uint64_t(&l, (uint64_t *)y->data, (const uint64_t *)x->data);
    return VESTIGE_OK;
}

/* ---- Sums ---- */

/* to (n) += alpha from (n) */
static void add_row(float *restrict to, const float *restrict from, int64_t n, float alpha) {
    for (int64_t i = 0; i < n; i++)
        to[i] += alpha * from[i];
}

/* Slices of src added to y's, by columns: a thread owns all slices' columns of one group. */
static void add_slices(const layout *l, float *y, const float *src, float alpha) {
    int64_t groups = (l->inner + COLUMNS - 1) / COLUMNS;
    if (l->outer >= l->parts || groups == 1) { /* whole slices; the outer ones stand apart */
#pragma omp parallel for num_threads(l->parts) schedule(static)
        for (int64_t o = 0; o < l->outer; o++)
            for (int64_t m = 0; m < l->m; m++)
                add_row(y + (o * l->n + l->index[m]) * l->inner, src + (o * l->m + m) * l->inner,
                        l->inner, alpha);
        return;
    }
#pragma omp parallel for num_threads(l->parts) schedule(static)
    for (int p = 0; p < l->parts; p++) {
        int64_t from = groups * p / l->parts * COLUMNS;
        int64_t end = groups * (p + 1) / l->parts * COLUMNS;
        int64_t n = (end < l->inner ? end : l->inner) - from;
        for (int64_t o = 0; o < l->outer; o++)
            for (int64_t m = 0; m < l->m; m++)
                add_row(y + (o * l->n + l->index[m]) * l->inner + from,
                        src + (o * l->m + m) * l->inner + from, n, alpha);
    }
}

static void start(const call *c, const tensor *x) {
    const tensor *y = c->out[0];
    if (!x)
        memset(y->data, 0, (size_t)y->numel * 4);
    else if (x->data != y->data)
        move_bytes(y->data, x->data, y->numel * 4);
}

/* One element a slice is left to the plain loop, which sums in double. */
static int sum_slices(const call *c, const tensor *x, int i, const tensor *src, double alpha) {
    layout l;
    if (c->out[0]->ndim == 0)
        return DECLINED;
    TRY(layout_of(c, c->out[0], src, i, &l));
    if (l.inner == 1)
        return DECLINED;
    start(c, x);
    add_slices(&l, (float *)c->out[0]->data, (const float *)src->data, (float)alpha);
    return VESTIGE_OK;
}

static int index_add(const call *c) {
    return sum_slices(c, c->in[0], 1, c->in[2], option(c, "alpha"));
}

static int index_sum(const call *c) {
    return sum_slices(c, NULL, 0, c->in[1], 1);
}

/* Elements of src added to y's: the outer slices stand apart, one alone is left to the plain loop.
 */
static int sum_elements(const call *c, const tensor *x, int i, const tensor *src) {
    const tensor *y = c->out[0], *index = c->in[i];
    layout l;
    if (y->ndim == 0 || !full(c, y, index) ||
        memcmp(src->dim, index->dim, sizeof *src->dim * src->ndim))
        return DECLINED;
    TRY(layout_of(c, y, index, i, &l));
    if (l.outer * l.inner == 1 || l.m > 4 * l.n + 64) /* many terms an element: sum in double */
        return DECLINED;
    start(c, x);
    float *to = (float *)y->data;
    const float *from = (const float *)src->data;
#pragma omp parallel for num_threads(l.parts) schedule(static)
    for (int64_t o = 0; o < l.outer; o++)
        for (int64_t m = 0; m < l.m; m++)
            for (int64_t j = 0; j < l.inner; j++) {
                int64_t at = (o * l.m + m) * l.inner + j;
                to[(o * l.n + l.index[at]) * l.inner + j] += from[at];
            }
    return VESTIGE_OK;
}

static int scatter_add(const call *c) {
    return sum_elements(c, c->in[0], 1, c->in[2]);
}

static int scatter_sum(const call *c) {
    return sum_elements(c, NULL, 0, c->in[1]);
}

IN_F32(index_add)
IN_F32(index_sum)
IN_F32(scatter_add)
IN_F32(scatter_sum)

const kernel_row K(cpu_index)[] = {
    ROWS_SAME("index_select", index_select),
    ROWS_SAME("gather", gather),
    { "index_add", VESTIGE_F32, index_add },
    { "index_add", VESTIGE_BF16, index_add_bf16 },
    { "index_sum", VESTIGE_F32, index_sum },
    { "index_sum", VESTIGE_BF16, index_sum_bf16 },
    { "scatter_add", VESTIGE_F32, scatter_add },
    { "scatter_add", VESTIGE_BF16, scatter_add_bf16 },
    { "scatter_sum", VESTIGE_F32, scatter_sum },
    { "scatter_sum", VESTIGE_BF16, scatter_sum_bf16 },
    { 0 },
};
