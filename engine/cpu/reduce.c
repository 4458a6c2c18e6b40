/* reduce.c: sums and means in f32, where the reduced dimensions are neighbours: the input is then
 * (outer, n, inner) and the output (outer, inner). Sums run in f32 over pieces of fixed size and in
 * double over the pieces, so the bits do not depend on the number of threads. */
#include "cpu/half.h"
#include "cpu/isa.h"
#include "cpu/reduce.h"
#include "ops/row.h"

/* Below PARALLEL elements no region is opened: one of a single thread costs half a microsecond. */
enum { PIECE = 1 << 12, ROWS = 64, PARALLEL = 1 << 16 };

typedef struct layout {
    int64_t outer, n, inner;
} layout;

/* false: the reduced dimensions are not neighbours. */
static bool collapse(const call *c, layout *l) {
    const tensor *x = c->in[0];
    const double *dims;
    int count = list_option(c, "dim", &dims), first = x->ndim, last = -1, reduced = 0;
    if (count <= 0 || x->ndim == 0) { /* dimension 1 of a tensor of no dimension is all of it */
        *l = (layout){ 1, x->numel, 1 };
        return true;
    }
    for (int i = 0; i < count; i++) {
        int d = (int)dims[i];
        first = d < first ? d : first;
        last = d > last ? d : last;
        reduced++;
    }
    if (last - first + 1 != reduced)
        return false;
    *l = (layout){ product(first, x->dim), product(reduced, x->dim + first),
                   product(x->ndim - last - 1, x->dim + last + 1) };
    return true;
}

/* Four vectors in flight, added in a fixed order at the end. */
static float sum_piece(const float *x, int64_t n) {
    vf a = vset(0), b = vset(0), c = vset(0), d = vset(0);
    int64_t i = 0;
    for (; i + 4 * LANES <= n; i += 4 * LANES) {
        a += vload(x + i);
        b += vload(x + i + LANES);
        c += vload(x + i + 2 * LANES);
        d += vload(x + i + 3 * LANES);
    }
    vf v = (a + b) + (c + d);
    float lane[LANES];
    vstore(lane, v);
    float sum = 0;
    for (int k = 0; k < LANES; k++)
        sum += lane[k];
    for (; i < n; i++)
        sum += x[i];
    return sum;
}

static double sum_row(const float *x, int64_t n) {
    double sum = 0;
    for (int64_t i = 0; i < n; i += PIECE)
        sum += (double)sum_piece(x + i, n - i < PIECE ? n - i : PIECE);
    return sum;
}

/* One long row: its pieces are summed side by side, and added in order. */
static int sum_all(const float *x, int64_t n, double *total) {
    if (n < PARALLEL) {
        *total = sum_row(x, n);
        return VESTIGE_OK;
    }
    int64_t pieces = (n + PIECE - 1) / PIECE;
    void *p;
    TRY(alloc_scratch(&p, pieces * (int64_t)sizeof(float)));
    float *part = p;
#pragma omp parallel for num_threads(threads()) schedule(static)
    for (int64_t i = 0; i < pieces; i++) {
        int64_t left = n - i * PIECE;
        part[i] = sum_piece(x + i * PIECE, left < PIECE ? left : PIECE);
    }
    *total = 0;
    for (int64_t i = 0; i < pieces; i++)
        *total += (double)part[i];
    free_scratch(p, pieces * (int64_t)sizeof(float));
    return VESTIGE_OK;
}

/* part (inner) = the sum of `rows` rows of x (rows, inner) */
static void add_rows(float *restrict part, const float *restrict x, int64_t rows, int64_t inner) {
    memcpy(part, x, (size_t)inner * sizeof *part);
    for (int64_t r = 1; r < rows; r++)
        for (int64_t i = 0; i < inner; i++)
            part[i] += x[r * inner + i];
}

/* Piece k of ROWS rows of x (n, inner) */
static void add_piece(float *part, const float *x, int64_t n, int64_t inner, int64_t k) {
    int64_t left = n - k * ROWS;
    add_rows(part + k * inner, x + k * ROWS * inner, left < ROWS ? left : ROWS, inner);
}

static float add_pieces(const float *part, int64_t pieces, int64_t inner, int64_t i, double scale) {
    double sum = 0;
    for (int64_t k = 0; k < pieces; k++)
        sum += (double)part[k * inner + i];
    return (float)(sum * scale);
}

/* x (n, inner) to y (inner): pieces of ROWS rows in f32, then double. */
static int sum_columns(float *y, const float *x, int64_t n, int64_t inner, double scale) {
    int64_t pieces = (n + ROWS - 1) / ROWS, bytes = pieces * inner * (int64_t)sizeof(float);
    void *p;
    TRY(alloc_scratch(&p, bytes));
    float *part = p;
    if (n * inner < PARALLEL) {
        for (int64_t k = 0; k < pieces; k++)
            add_piece(part, x, n, inner, k);
        for (int64_t i = 0; i < inner; i++)
            y[i] = add_pieces(part, pieces, inner, i, scale);
    } else {
#pragma omp parallel num_threads(threads())
        {
#pragma omp for schedule(static)
            for (int64_t k = 0; k < pieces; k++)
                add_piece(part, x, n, inner, k);
#pragma omp for schedule(static)
            for (int64_t i = 0; i < inner; i++)
                y[i] = add_pieces(part, pieces, inner, i, scale);
        }
    }
    free_scratch(p, bytes);
    return VESTIGE_OK;
}

int K(cpu_sum)(float *y, const float *x, int64_t outer, int64_t n, int64_t inner, double scale) {
    if (inner == 1 && outer == 1) {
        double total;
        TRY(sum_all(x, n, &total));
        *y = (float)(total * scale);
        return VESTIGE_OK;
    }
    if (inner == 1 && outer * n < PARALLEL) {
        for (int64_t o = 0; o < outer; o++)
            y[o] = (float)(sum_row(x + o * n, n) * scale);
        return VESTIGE_OK;
    }
    if (inner == 1) {
#pragma omp parallel for num_threads(threads()) schedule(static)
        for (int64_t o = 0; o < outer; o++)
            y[o] = (float)(sum_row(x + o * n, n) * scale);
        return VESTIGE_OK;
    }
    for (int64_t o = 0; o < outer; o++)
        TRY(sum_columns(y + o * inner, x + o * n * inner, n, inner, scale));
    return VESTIGE_OK;
}

static int reduce(const call *c, bool mean) {
    layout l;
    if (!collapse(c, &l) || l.n == 0)
        return DECLINED;
    return K(cpu_sum)((float *)c->out[0]->data, (const float *)c->in[0]->data, l.outer, l.n,
                      l.inner, mean ? 1 / (double)l.n : 1);
}

static int sum(const call *c) {
    return reduce(c, false);
}

static int mean(const call *c) {
    return reduce(c, true);
}

IN_F32(sum)
IN_F32(mean)

const kernel_row K(cpu_reduce)[] = {
    { "sum", VESTIGE_F32, sum },
    { "sum", VESTIGE_BF16, sum_bf16 },
    { "mean", VESTIGE_F32, mean },
    { "mean", VESTIGE_BF16, mean_bf16 },
    { 0 },
};
