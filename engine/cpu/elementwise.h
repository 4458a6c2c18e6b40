/* elementwise.h: how element-by-element kernels walk over their operands. A row function computes
 * n elements, along which each operand either runs on (step true) or stands still. A result is one
 * row where the shapes agree; under broadcasting, dimensions that all operands share are joined
 * and each last row is one call. Large results are cut into pieces of a fixed size, so the bits do
 * not depend on the number of threads.
 *
 * An operator on floats has two row functions from one definition (vrows.h), for f32 and for bf16,
 * which is widened and rounded in registers. Where there is only the first it serves bf16 too:
 * run_half() widens what it reads and rounds what it writes, a few hundred elements at a time. */
#ifndef VESTIGE_CPU_ELEMENTWISE_H
#define VESTIGE_CPU_ELEMENTWISE_H

#include "cpu/half.h"
#include "cpu/stream.h"

enum { PARALLEL = 1 << 16, PIECE = 1 << 14, TILED = 512, TILE = 256 };

/* y (n) from in[j] (n, or 1 where !step[j]); p: parameters of the operator. */
typedef void (*row_fn)(void *y, const void *const *in, const bool *step, int64_t n, const float *p);

/* The row functions of an operator on f32, or on the one type that it has, and on bf16, NULL where
 * that goes by the first. The second finds f32 where an operand stands still. */
typedef struct row_fns {
    row_fn wide, half;
} row_fns;

/* An operand: its elements, their size, 0 for one that is a single element. */
typedef struct operand {
    const char *at;
    int size;
    bool one, half; /* half: bf16, for a row function that reads f32 */
    float f32;
    double f64;
} operand;

typedef struct job {
    row_fn row;
    const float *p;
    char *y;
    int nin, size;     /* of y's elements */
    bool half, narrow; /* some operand is bf16; y is */
    bool direct;       /* row reads bf16 where operands run on, and rounds what it writes */
    operand in[3];
    /* Under broadcasting: rows of n elements, numbered over the outer dimensions. */
    int outer;
    int64_t n, rows, dim[VESTIGE_MAXDIM], stride[3][VESTIGE_MAXDIM];
    bool step[3];
} job;

/* A number takes the type that its row function reads. Beside a result of n elements, one element
 * stands still. */
static inline void take_operand(job *k, int j, const tensor *t, int64_t n, double number,
                                int type) {
    operand *o = &k->in[j];
    if (t) {
        o->at = t->data;
        o->size = dtype_size(t->dtype);
        o->one = t->numel == 1 && n != 1;
        o->half = t->dtype == VESTIGE_BF16 && type == VESTIGE_F32;
        return;
    }
    o->half = false;
    o->f64 = number;
    o->f32 = (float)number;
    o->at = type == VESTIGE_F64 ? (const char *)&o->f64 : (const char *)&o->f32;
    o->size = dtype_size(type);
    o->one = true;
}

static inline bool same_shape(const tensor *a, const tensor *y) {
    if (a->ndim != y->ndim)
        return false;
    for (int d = 0; d < a->ndim; d++)
        if (a->dim[d] != y->dim[d])
            return false;
    return true;
}

/* A row of bf16: what the row function wants wide is widened, tile by tile. */
static void run_half(const job *k, char *y, const void *const *in, const bool *step, int64_t n) {
    float wide[3][TILE], to[TILE];
    const bool rounds = k->narrow && !k->direct;
    const int64_t tile = k->direct ? n : TILE;
    for (int64_t i = 0; i < n; i += tile) {
        int64_t m = n - i < tile ? n - i : tile;
        const void *at[3];
        for (int j = 0; j < k->nin; j++) {
            at[j] = (const char *)in[j] + (step[j] ? i * k->in[j].size : 0);
            if (!k->in[j].half || (k->direct && step[j]))
                continue;
            widen(wide[j], at[j], step[j] ? m : 1);
            at[j] = wide[j];
        }
        char *y_at = y + i * k->size;
        k->row(rounds ? (void *)to : y_at, at, step, m, k->p);
        if (rounds)
            narrow((uint16_t *)y_at, to, m);
    }
}

static inline void run_row(const job *k, char *y, const void *const *in, const bool *step,
                           int64_t n) {
    if (UNLIKELY(k->half))
        run_half(k, y, in, step, n);
    else
        k->row(y, in, step, n, k->p);
}

/* Elements from `from` on, to y. */
static inline void run_flat(const job *k, char *y, int64_t from, int64_t n) {
    const void *in[3];
    bool step[3];
    for (int j = 0; j < k->nin; j++) {
        step[j] = !k->in[j].one;
        in[j] = k->in[j].at + (step[j] ? from * k->in[j].size : 0);
    }
    run_row(k, y, in, step, n);
}

/* The same past the caches, for a result that they would not hold: a line that is written whole
 * need not be read first. */
static void run_past(const job *k, int64_t from, int64_t n) {
    char tile[TILE * 8] __attribute__((aligned(64)));
    for (int64_t i = from; i < from + n; i += TILE) {
        int64_t m = from + n - i < TILE ? from + n - i : TILE;
        run_flat(k, tile, i, m);
        stream(k->y + i * k->size, tile, m * k->size);
    }
    stream_end();
}

/* What is changed in place lies in the caches already. */
static bool goes_past(const job *k, int64_t n) {
    bool in_place = false;
    for (int j = 0; j < k->nin; j++)
        in_place |= k->in[j].at == k->y;
    return n * k->size >= STREAMED && !in_place && (uintptr_t)k->y % 64 == 0;
}

static int stopped(void) {
    return interrupted() ? fail(VESTIGE_EINTERRUPTED, "interrupted") : VESTIGE_OK;
}

static int flat_parallel(const job *k, int64_t n) {
    int64_t pieces = (n + PIECE - 1) / PIECE;
    const bool past = goes_past(k, n);
#pragma omp parallel for num_threads(threads()) schedule(static)
    for (int64_t i = 0; i < pieces; i++) {
        int64_t m = i < pieces - 1 ? PIECE : n - i * PIECE;
        if (interrupted())
            continue;
        if (past)
            run_past(k, i * PIECE, m);
        else
            run_flat(k, k->y + i * PIECE * k->size, i * PIECE, m);
    }
    return stopped();
}

static inline int flat(const job *k, int64_t n) {
    if (UNLIKELY(n >= PARALLEL))
        return flat_parallel(k, n);
    run_flat(k, k->y, 0, n);
    return VESTIGE_OK;
}

/* ---- Broadcasting ---- */
/* Joins y's dimensions where every operand either runs through both or stands still in both. */
static void join_dims(job *k, const tensor *y, const T *t) {
    int at = -1; /* dimension joined last, from the innermost */
    int64_t dim[VESTIGE_MAXDIM] = { 1 }, stride[3][VESTIGE_MAXDIM] = { 0 }, full[3] = { 1, 1, 1 };
    for (int d = y->ndim - 1; d >= 0; d--) {
        if (y->dim[d] == 1)
            continue;
        int64_t s[3];
        bool joins = at >= 0;
        for (int j = 0; j < k->nin; j++) {
            int e = t[j] ? d - (y->ndim - t[j]->ndim) : -1;
            s[j] = e >= 0 && t[j]->dim[e] != 1 ? full[j] : 0;
            if (s[j])
                full[j] *= t[j]->dim[e];
            joins =
                joins && (s[j] ? stride[j][at] && s[j] == stride[j][at] * dim[at] : !stride[j][at]);
        }
        if (joins) {
            dim[at] *= y->dim[d];
            continue;
        }
        dim[++at] = y->dim[d];
        for (int j = 0; j < k->nin; j++)
            stride[j][at] = s[j];
    }
    /* dim[0] is the row; the rest, outermost first, numbers the rows. */
    k->n = dim[0];
    k->outer = at;
    k->rows = 1;
    for (int j = 0; j < k->nin; j++)
        k->step[j] = stride[j][0] != 0;
    for (int o = 0; o < at; o++) {
        k->dim[o] = dim[at - o];
        k->rows *= k->dim[o];
        for (int j = 0; j < k->nin; j++)
            k->stride[j][o] = stride[j][at - o];
    }
}

static void run_rows(const job *k, int64_t from, int64_t to) {
    for (int64_t r = from; r < to; r++) {
        int64_t at[3] = { 0, 0, 0 }, left = r;
        for (int o = k->outer - 1; o >= 0; o--) {
            int64_t i = o ? left % k->dim[o] : left;
            left = o ? left / k->dim[o] : 0;
            for (int j = 0; j < k->nin; j++)
                at[j] += i * k->stride[j][o];
        }
        const void *in[3];
        for (int j = 0; j < k->nin; j++)
            in[j] = k->in[j].at + at[j] * k->in[j].size;
        run_row(k, k->y + r * k->n * k->size, in, k->step, k->n);
    }
}

/* (rows, n) with a short (n): the short operands are repeated, so that one call does many rows.
 * *rows: how many one call does, 1 where this does not fit; *scratch is to be freed. */
static int repeat_short(job *k, int64_t *rows, char **scratch, int64_t *bytes) {
    int64_t times = TILED / k->n;
    *rows = 1;
    if (k->outer != 1 || times < 2 || k->rows < 2 * times)
        return VESTIGE_OK;
    *bytes = 0;
    for (int j = 0; j < k->nin; j++) {
        if (!k->in[j].one && !k->step[j])
            return VESTIGE_OK;
        if (!k->in[j].one && !k->stride[j][0])
            *bytes += times * k->n * 8;
    }
    void *p;
    TRY(alloc_scratch(&p, *bytes));
    *scratch = p;
    char *at = p;
    for (int j = 0; j < k->nin; j++) {
        operand *o = &k->in[j];
        if (o->one || k->stride[j][0])
            continue;
        for (int64_t i = 0; i < times; i++)
            memcpy(at + i * k->n * o->size, o->at, (size_t)(k->n * o->size));
        o->at = at;
        at += times * k->n * 8;
    }
    *rows = times;
    return VESTIGE_OK;
}

static int broadcast(job *k, const tensor *y, const T *t) {
    char *scratch = NULL;
    int64_t bytes = 0, times;
    join_dims(k, y, t);
    TRY(repeat_short(k, &times, &scratch, &bytes));
    job wide = *k;
    int64_t rows = k->rows / times;
    wide.n *= times;
    wide.rows = wide.dim[0] = rows;
    for (int j = 0; j < k->nin; j++)
        wide.stride[j][0] *= times;
    const job *w = times > 1 ? &wide : k;
    int64_t few = PIECE / w->n > 0 ? PIECE / w->n : 1, pieces = (rows + few - 1) / few;
    int workers = y->numel >= PARALLEL ? threads() : 1;
#pragma omp parallel for num_threads(workers) schedule(static) if (workers > 1)
    for (int64_t i = 0; i < pieces; i++)
        if (!interrupted())
            run_rows(w, i * few, i < pieces - 1 ? (i + 1) * few : rows);
    if (times > 1) {
        run_rows(k, rows * times, k->rows); /* the repeated operands begin as the short ones */
        free_scratch(scratch, bytes);
    }
    return stopped();
}

/* Runs row functions over inputs [first, first + nin) of a call. type is what numbers become; p:
 * two parameters of the operator, or NULL. */
static inline int elementwise(const call *c, int first, int nin, const row_fns *row, int type,
                              const float *p) {
    static const float none[2];
    const tensor *y = c->out[0];
    job k;
    k.p = p ? p : none;
    k.y = y->data;
    k.nin = nin;
    k.size = dtype_size(y->dtype);
    k.half = k.narrow = y->dtype == VESTIGE_BF16 && type == VESTIGE_F32;
    k.direct = row->half && y->dtype != VESTIGE_F32;
    bool fits = true;
    for (int j = 0; j < nin; j++) {
        const tensor *t = c->in[first + j];
        take_operand(&k, j, t, y->numel, t ? 0 : c->num[first + j], type);
        k.half |= k.in[j].half;
        k.direct &= k.in[j].half || k.in[j].one;
        if (!k.in[j].one && y->numel != 1)
            fits = fits && same_shape(t, y);
    }
    k.direct &= k.half;
    k.row = k.direct ? row->half : row->wide;
    if (LIKELY(fits))
        return flat(&k, y->numel);
    return y->numel ? broadcast(&k, y, c->in + first) : VESTIGE_OK;
}

/* ---- Row functions of other types; those of floats are in vrows.h ---- */
/* The rows of a kernel whose row functions read f32. */
#define ROWS_HALF(name, run)                                                                       \
    { name, VESTIGE_F32, run }, {                                                                  \
        name, VESTIGE_BF16, run                                                                    \
    }
/* y = value of a[i] as `a`; in place too. */
#define ROW1(name, TY, TA, value)                                                                  \
    static void name##_wide(void *out, const void *const *in, const bool *step, int64_t n,         \
                            const float *p) {                                                      \
        TY *y = out;                                                                               \
        const TA *x = in[0];                                                                       \
        (void)step, (void)p;                                                                       \
        _Pragma("GCC ivdep") for (int64_t i = 0; i < n; i++) {                                     \
            const TA a = x[i];                                                                     \
            y[i] = (TY)(value);                                                                    \
        }                                                                                          \
    }                                                                                              \
    static const row_fns name = { name##_wide, NULL };
/* y = value of a[i] as `a` and b[i] as `b`, got from elements of TA and TB; ONE_A and ONE_B are the
 * types of an operand that stands still. */
#define ROW2_AS(name, TY, TA, TB, ONE_A, ONE_B, get, value)                                        \
    static void name(void *out, const void *const *in, const bool *step, int64_t n,                \
                     const float *p) {                                                             \
        TY *y = out;                                                                               \
        const TA *pa = in[0];                                                                      \
        const TB *pb = in[1];                                                                      \
        (void)p;                                                                                   \
        if (step[0] && step[1]) {                                                                  \
            _Pragma("GCC ivdep") for (int64_t i = 0; i < n; i++) {                                 \
                const ONE_A a = get(pa[i]);                                                        \
                const ONE_B b = get(pb[i]);                                                        \
                y[i] = (TY)(value);                                                                \
            }                                                                                      \
        } else if (step[0]) {                                                                      \
            const ONE_B b = *(const ONE_B *)in[1];                                                 \
            _Pragma("GCC ivdep") for (int64_t i = 0; i < n; i++) {                                 \
                const ONE_A a = get(pa[i]);                                                        \
                y[i] = (TY)(value);                                                                \
            }                                                                                      \
        } else {                                                                                   \
            const ONE_A a = *(const ONE_A *)in[0];                                                 \
            _Pragma("GCC ivdep") for (int64_t i = 0; i < n; i++) {                                 \
                const ONE_B b = get(pb[i]);                                                        \
                y[i] = (TY)(value);                                                                \
            }                                                                                      \
        }                                                                                          \
    }
#define ROW2(name, TY, TA, TB, value)                                                              \
    ROW2_AS(name##_wide, TY, TA, TB, TA, TB, , value)                                              \
    static const row_fns name = { name##_wide, NULL };
/* A comparison of floats. */
#define TRUTH2(name, value)                                                                        \
    ROW2_AS(name##_wide, uint8_t, float, float, float, float, , value)                             \
    ROW2_AS(name##_half, uint8_t, uint16_t, uint16_t, float, float, from_bf16, value)              \
    static const row_fns name = { name##_wide, name##_half };

#endif
