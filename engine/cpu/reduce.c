/* reduce.c: sums and means, and extremes in f32 and bf16, where the reduced dimensions are
 * neighbours: the input is then (outer, n, inner) and the output (outer, inner). Sums run in f32
 * over pieces of fixed size and in double over the pieces (all in double in f64), so the bits do
 * not depend on the number of threads. */
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

/* What is summed: floats, or bf16. */
typedef struct source {
    const void *x;
    bool half;
} source;

static source from(source s, int64_t i) {
    return (source){ (const char *)s.x + i * (s.half ? 2 : 4), s.half };
}

/* n up to PIECE */
static float sum_source(source s, int64_t n) {
    if (!s.half)
        return sum_piece(s.x, n);
    float wide[PIECE];
    widen(wide, s.x, n);
    return sum_piece(wide, n);
}

static double sum_row(source x, int64_t n) {
    double sum = 0;
    for (int64_t i = 0; i < n; i += PIECE)
        sum += (double)sum_source(from(x, i), n - i < PIECE ? n - i : PIECE);
    return sum;
}

/* One long row: its pieces are summed side by side, and added in order. */
static int sum_all(source x, int64_t n, double *total) {
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
        part[i] = sum_source(from(x, i * PIECE), left < PIECE ? left : PIECE);
    }
    *total = 0;
    for (int64_t i = 0; i < pieces; i++)
        *total += (double)part[i];
    free_scratch(p, pieces * (int64_t)sizeof(float));
    return VESTIGE_OK;
}

/* part (inner) = the sum of `rows` rows of x (rows, inner), row by row. */
ALWAYS_INLINE void add_rows(float *restrict part, const void *restrict x, int64_t rows,
                            int64_t inner, const bool half) {
#define AT(r, i)                                                                                   \
    (half ? from_bf16(((const uint16_t *)x)[(r)*inner + (i)]) : ((const float *)x)[(r)*inner + (i)])
    int64_t r = 1;
    for (int64_t i = 0; i < inner; i++)
        part[i] = AT(0, i);
    for (; r + 4 <= rows; r += 4)
        for (int64_t i = 0; i < inner; i++)
            part[i] = (((part[i] + AT(r, i)) + AT(r + 1, i)) + AT(r + 2, i)) + AT(r + 3, i);
    for (; r < rows; r++)
        for (int64_t i = 0; i < inner; i++)
            part[i] += AT(r, i);
#undef AT
}

/* Piece k of ROWS rows of x (n, inner) */
static void add_piece(float *part, source x, int64_t n, int64_t inner, int64_t k) {
    int64_t rows = n - k * ROWS < ROWS ? n - k * ROWS : ROWS;
    x = from(x, k * ROWS * inner);
    if (x.half)
        add_rows(part, x.x, rows, inner, true);
    else
        add_rows(part, x.x, rows, inner, false);
}

static float add_pieces(const float *part, int64_t pieces, int64_t inner, double scale) {
    double sum = 0;
    for (int64_t k = 0; k < pieces; k++)
        sum += (double)part[k * inner];
    return (float)(sum * scale);
}

/* x (outer, n, inner) to y (outer, inner): pieces of ROWS rows in f32, then double. */
static int sum_columns(float *y, source x, int64_t outer, int64_t n, int64_t inner, double scale) {
    int64_t pieces = (n + ROWS - 1) / ROWS, bytes = outer * pieces * inner * (int64_t)sizeof(float);
    int workers = outer * n * inner < PARALLEL ? 1 : threads();
    float *part = y; /* one piece is summed in its place */
    void *scratch = NULL;
    if (pieces > 1) {
        TRY(alloc_scratch(&scratch, bytes));
        part = scratch;
    }
#pragma omp parallel num_threads(workers) if (workers > 1)
    {
#pragma omp for schedule(static) collapse(2)
        for (int64_t o = 0; o < outer; o++)
            for (int64_t k = 0; k < pieces; k++)
                add_piece(part + (o * pieces + k) * inner, from(x, o * n * inner), n, inner, k);
#pragma omp for schedule(static)
        for (int64_t i = 0; i < outer * inner; i++)
            y[i] = add_pieces(part + i / inner * pieces * inner + i % inner, pieces, inner, scale);
    }
    if (scratch)
        free_scratch(scratch, bytes);
    return VESTIGE_OK;
}

static int sum_source_over(float *y, source x, int64_t outer, int64_t n, int64_t inner,
                           double scale) {
    if (inner == 1 && outer == 1) {
        double total;
        TRY(sum_all(x, n, &total));
        *y = (float)(total * scale);
        return VESTIGE_OK;
    }
    if (inner > 1)
        return sum_columns(y, x, outer, n, inner, scale);
    int workers = outer * n < PARALLEL ? 1 : threads();
#pragma omp parallel for num_threads(workers) schedule(static) if (workers > 1)
    for (int64_t o = 0; o < outer; o++)
        y[o] = (float)(sum_row(from(x, o * n), n) * scale);
    return VESTIGE_OK;
}

int K(cpu_sum)(float *y, const float *x, int64_t outer, int64_t n, int64_t inner, double scale) {
    return sum_source_over(y, (source){ x, false }, outer, n, inner, scale);
}

static int reduce(const call *c, bool mean) {
    layout l;
    if (!collapse(c, &l) || l.n == 0)
        return DECLINED;
    tensor *y = c->out[0];
    const bool rounds = y->dtype == VESTIGE_BF16;
    int64_t bytes = y->numel * (int64_t)sizeof(float);
    void *wide = y->data;
    if (rounds)
        TRY(alloc_scratch(&wide, bytes));
    source x = { c->in[0]->data, c->in[0]->dtype == VESTIGE_BF16 };
    int status = sum_source_over(wide, x, l.outer, l.n, l.inner, mean ? 1 / (double)l.n : 1);
    if (rounds) {
        K(cpu_to_bf16)((uint16_t *)y->data, wide, y->numel);
        free_scratch(wide, bytes);
    }
    return status;
}

static int sum(const call *c) {
    return reduce(c, false);
}

static int mean(const call *c) {
    return reduce(c, true);
}

/* ---- f64 ---- */
static double sum_row_f64(const double *x, int64_t n) {
    enum { SUMS = 4 * LANES }; /* as many as hide the time that an addition takes */
    double part[SUMS] = { 0 };
    int64_t i = 0;
    for (; i + SUMS <= n; i += SUMS)
        for (int k = 0; k < SUMS; k++)
            part[k] += x[i + k];
    for (; i < n; i++)
        part[0] += x[i];
    for (int k = SUMS / 2; k > 0; k /= 2)
        for (int j = 0; j < k; j++)
            part[j] += part[j + k];
    return part[0];
}

/* y (count) from x, `n` rows that lie `inner` apart, in order. */
static void sum_columns_f64(double *restrict y, const double *restrict x, int64_t n, int64_t inner,
                            int64_t count, double by) {
    memset(y, 0, (size_t)count * 8);
    for (int64_t r = 0; r < n; r++)
        for (int64_t i = 0; i < count; i++)
            y[i] += x[r * inner + i];
    for (int64_t i = 0; i < count; i++)
        y[i] /= by;
}

static int reduce_f64(const call *c, bool mean) {
    enum { COUNT = 512 };
    layout l;
    if (!collapse(c, &l) || l.n == 0)
        return DECLINED;
    const double *x = (const double *)c->in[0]->data;
    double *y = (double *)c->out[0]->data, by = mean ? (double)l.n : 1;
    int64_t parts = (l.inner + COUNT - 1) / COUNT;
    int workers = c->in[0]->numel < PARALLEL ? 1 : threads();
#pragma omp parallel for num_threads(workers) schedule(static) if (workers > 1)
    for (int64_t k = 0; k < l.outer * parts; k++) {
        int64_t o = k / parts, i = k % parts * COUNT;
        const double *from = x + o * l.n * l.inner + i;
        if (l.inner == 1)
            y[o] = sum_row_f64(from, l.n) / by;
        else
            sum_columns_f64(y + o * l.inner + i, from, l.n, l.inner,
                            l.inner - i < COUNT ? l.inner - i : COUNT, by);
    }
    return VESTIGE_OK;
}

static int sum_f64(const call *c) {
    return reduce_f64(c, false);
}

static int mean_f64(const call *c) {
    return reduce_f64(c, true);
}

/* ---- Extremes; a NaN stays ---- */
ALWAYS_INLINE float further(float a, float x, const bool largest) {
    return (largest ? x > a : x < a) || x != x ? x : a;
}

/* y (count) from x, `n` rows that lie `inner` apart. */
ALWAYS_INLINE void extreme_columns(float *restrict y, const float *restrict x, int64_t n,
                                   int64_t inner, int64_t count, const bool largest) {
    memcpy(y, x, (size_t)count * 4);
    for (int64_t r = 1; r < n; r++)
        for (int64_t i = 0; i < count; i++)
            y[i] = further(y[i], x[r * inner + i], largest);
}

/* A row's elements as columns of LANES, then those. */
ALWAYS_INLINE float extreme_row(const float *x, int64_t n, const bool largest) {
    float lane[LANES], y;
    int64_t rows = n / LANES;
    if (rows > 0) {
        extreme_columns(lane, x, rows, LANES, LANES, largest);
        extreme_columns(&y, lane, LANES, 1, 1, largest);
    } else {
        y = x[0];
    }
    for (int64_t i = rows * LANES; i < n; i++)
        y = further(y, x[i], largest);
    return y;
}

ALWAYS_INLINE int extreme(const call *c, const bool largest) {
    enum { COUNT = 1024 };
    layout l;
    if (!collapse(c, &l) || l.n == 0)
        return DECLINED;
    const float *x = (const float *)c->in[0]->data;
    float *y = (float *)c->out[0]->data;
    int64_t parts = (l.inner + COUNT - 1) / COUNT;
    int workers = c->in[0]->numel < PARALLEL ? 1 : threads();
#pragma omp parallel for num_threads(workers) schedule(static) if (workers > 1)
    for (int64_t k = 0; k < l.outer * parts; k++) {
        int64_t o = k / parts, i = k % parts * COUNT;
        int64_t count = l.inner - i < COUNT ? l.inner - i : COUNT;
        const float *from = x + o * l.n * l.inner + i;
        if (l.inner == 1)
            y[o] = extreme_row(from, l.n, largest);
        else
            extreme_columns(y + o * l.inner + i, from, l.n, l.inner, count, largest);
    }
    return VESTIGE_OK;
}

static int amax(const call *c) {
    return extreme(c, true);
}
static int amin(const call *c) {
    return extreme(c, false);
}
IN_F32(amax)
IN_F32(amin)

const kernel_row K(cpu_reduce)[] = {
    { "sum", VESTIGE_F32, sum },
    { "sum", VESTIGE_F64, sum_f64 },
    { "sum", VESTIGE_BF16, sum },
    { "mean", VESTIGE_F32, mean },
    { "mean", VESTIGE_F64, mean_f64 },
    { "mean", VESTIGE_BF16, mean },
    { "amax", VESTIGE_F32, amax },
    { "amax", VESTIGE_BF16, amax_bf16 },
    { "amin", VESTIGE_F32, amin },
    { "amin", VESTIGE_BF16, amin_bf16 },
    { 0 },
};
