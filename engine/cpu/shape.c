/* shape.c: copies, other orders, joining and sums over broadcast dimensions, at speed. */
#include "cpu/half.h"
#include "cpu/isa.h"
#include "cpu/move.h"
#include "cpu/reduce.h"
#include "ops/row.h"

static int clone_any(const call *c) {
    move_bytes(c->out[0]->data, c->in[0]->data, c->out[0]->numel * dtype_size(c->out[0]->dtype));
    return VESTIGE_OK;
}

static int expand(const call *c) {
    const tensor *x = c->in[0];
    move m = move_into(c->out[0]);
    m.from = x->data;
    int64_t step[VESTIGE_MAXDIM];
    move_steps(x->ndim, x->dim, m.size, step);
    for (int d = 0, from = x->ndim - m.ndim; d < m.ndim; d++, from++)
        m.from_step[d] = from < 0 || x->dim[from] == 1 ? 0 : step[from];
    K(cpu_move)(m);
    return VESTIGE_OK;
}

static int permute(const call *c) {
    const tensor *x = c->in[0];
    const double *dims;
    list_option(c, "dims", &dims);
    move m = move_into(c->out[0]);
    m.from = x->data;
    int64_t step[VESTIGE_MAXDIM];
    move_steps(x->ndim, x->dim, m.size, step);
    for (int d = 0; d < m.ndim; d++)
        m.from_step[d] = step[(int)dims[d]];
    K(cpu_move)(m);
    return VESTIGE_OK;
}

static int transpose(const call *c) {
    const tensor *x = c->in[0];
    int a = (int)option(c, "dim0"), b = (int)option(c, "dim1");
    move m = move_into(c->out[0]);
    m.from = x->data;
    int64_t step[VESTIGE_MAXDIM];
    move_steps(x->ndim, x->dim, m.size, step);
    for (int d = 0; d < m.ndim; d++)
        m.from_step[d] = step[d == a ? b : d == b ? a : d];
    K(cpu_move)(m);
    return VESTIGE_OK;
}

static int flip(const call *c) {
    const tensor *x = c->in[0];
    const double *dims;
    int n = list_option(c, "dims", &dims);
    if (x->numel == 0)
        return VESTIGE_OK;
    move m = move_into(c->out[0]);
    m.from = x->data;
    memcpy(m.from_step, m.to_step, sizeof m.to_step);
    for (int i = 0; i < n && x->ndim > 0; i++) { /* a number accepts dimension 1 */
        int d = (int)dims[i];
        m.from += m.to_step[d] * (x->dim[d] - 1);
        m.from_step[d] = -m.to_step[d];
    }
    K(cpu_move)(m);
    return VESTIGE_OK;
}

/* cat and stack: y is (outer, bytes of all inputs), each input (outer, its bytes). */
static int join(const call *c) {
    const tensor *y = c->out[0];
    if (y->numel == 0)
        return VESTIGE_OK;
    int64_t outer = product((int)option(c, "dim"), y->dim), size = dtype_size(y->dtype);
    int64_t row = y->numel / outer * size, at = 0;
    for (int i = 0; i < c->nin; i++) {
        int64_t n = c->in[i]->numel / outer;
        K(cpu_move)
        ((move){ .ndim = 2,
                 .size = size,
                 .dim = { outer, n },
                 .to_step = { row, size },
                 .from_step = { n * size, size },
                 .to = y->data + at,
                 .from = c->in[i]->data });
        at += n * size;
    }
    return VESTIGE_OK;
}

/* ---- sum_to: each group of neighbouring dimensions that were broadcast, the last first ---- */
typedef struct group {
    int64_t outer, n, inner;
} group;

static int groups_of(const tensor *x, const tensor *y, group *g) {
    int count = 0, lead = x->ndim - y->ndim;
    int64_t dim[VESTIGE_MAXDIM];
    memcpy(dim, x->dim, sizeof dim);
    bool inside = false;
    for (int d = x->ndim - 1; d >= 0; d--) {
        bool reduced = d < lead || (y->dim[d - lead] == 1 && x->dim[d] != 1);
        if (!reduced && dim[d] == 1)
            continue; /* stands in nobody's way */
        if (reduced && !inside)
            g[count++] = (group){ 1, 1, product(x->ndim - d - 1, dim + d + 1) };
        if (reduced) {
            g[count - 1].n *= dim[d];
            g[count - 1].outer = product(d, dim);
            dim[d] = 1;
        }
        inside = reduced;
    }
    return count;
}

static int sum_to(const call *c) {
    const tensor *x = c->in[0], *y = c->out[0];
    group g[VESTIGE_MAXDIM];
    int count = groups_of(x, y, g);
    if (x->numel == 0)
        return DECLINED;
    if (count == 0)
        return clone_any(c);
    int64_t bytes = 0;
    void *scratch = NULL;
    if (count > 1) {
        bytes = g[0].outer * g[0].inner * 4 * 2;
        TRY(alloc_scratch(&scratch, bytes));
    }
    float *half[2] = { scratch, (float *)scratch + bytes / 8 };
    const float *from = (const float *)x->data;
    int status = VESTIGE_OK;
    for (int i = 0; i < count && status >= 0; i++) {
        float *to = i == count - 1 ? (float *)y->data : half[i & 1];
        status = K(cpu_sum)(to, from, g[i].outer, g[i].n, g[i].inner, 1);
        from = to;
    }
    if (scratch)
        free_scratch(scratch, bytes);
    return status;
}

/* ---- Casts ---- */
enum { PARALLEL = 1 << 16, PIECE = 1 << 14 };

#define CAST_LOOP(name, from_type, to_type, value)                                                 \
    static void name##_piece(to_type *restrict y, const from_type *restrict x, int64_t n) {        \
        for (int64_t i = 0; i < n; i++)                                                            \
            y[i] = value;                                                                          \
    }                                                                                              \
    static int name(const call *c) {                                                               \
        to_type *y = (to_type *)c->out[0]->data;                                                   \
        const from_type *x = (const from_type *)c->in[0]->data;                                    \
        int64_t n = c->out[0]->numel;                                                              \
        int count = n >= PARALLEL ? threads() : 1;                                                 \
        for_pieces(count, n, name##_piece(y + at, x + at, length));                                \
        return VESTIGE_OK;                                                                         \
    }
#define PRAGMA(text) _Pragma(#text)
#define for_pieces(count, n, body)                                                                 \
    PRAGMA(omp parallel for num_threads(count) schedule(static))                                   \
    for (int64_t at = 0; at < n; at += PIECE) {                                                    \
        int64_t length = n - at < PIECE ? n - at : PIECE;                                          \
        body;                                                                                      \
    }

/* Cut as C cuts; NaN and overflow give 0, as the plain loop says. */
static inline int64_t whole(float x) {
    return x > -0x1p63f && x < 0x1p63f ? (int64_t)x : 0;
}

CAST_LOOP(f32_f64, float, double, (double)x[i])
CAST_LOOP(f64_f32, double, float, (float)x[i])
CAST_LOOP(f32_bf16, float, uint16_t, to_bf16(x[i]))
CAST_LOOP(bf16_f32, uint16_t, float, from_bf16(x[i]))
CAST_LOOP(bf16_f64, uint16_t, double, (double)from_bf16(x[i]))
CAST_LOOP(u8_f32, uint8_t, float, (float)x[i])
CAST_LOOP(i64_f32, int64_t, float, (float)(double)x[i])
CAST_LOOP(i64_f64, int64_t, double, (double)x[i])
CAST_LOOP(i32_f32, int32_t, float, (float)x[i])
CAST_LOOP(i32_i64, int32_t, int64_t, x[i])
CAST_LOOP(u8_i64, uint8_t, int64_t, x[i])
CAST_LOOP(f32_u8, float, uint8_t, (uint8_t)whole(x[i]))
CAST_LOOP(f32_i64, float, int64_t, whole(x[i]))

/* bool holds 0 and 1, so it is read as u8 is. */
static const kernel cast_table[VESTIGE_NTYPES][VESTIGE_NTYPES] = {
    [VESTIGE_F32] = { [VESTIGE_F64] = f32_f64,
                      [VESTIGE_BF16] = f32_bf16,
                      [VESTIGE_U8] = f32_u8,
                      [VESTIGE_I64] = f32_i64 },
    [VESTIGE_F64] = { [VESTIGE_F32] = f64_f32 },
    [VESTIGE_BF16] = { [VESTIGE_F32] = bf16_f32, [VESTIGE_F64] = bf16_f64 },
    [VESTIGE_I64] = { [VESTIGE_F32] = i64_f32, [VESTIGE_F64] = i64_f64 },
    [VESTIGE_I32] = { [VESTIGE_F32] = i32_f32, [VESTIGE_I64] = i32_i64 },
    [VESTIGE_U8] = { [VESTIGE_F32] = u8_f32, [VESTIGE_I64] = u8_i64 },
    [VESTIGE_BOOL] = { [VESTIGE_F32] = u8_f32, [VESTIGE_I64] = u8_i64 },
};

static int cast(const call *c) {
    int from = c->in[0]->dtype, to = c->out[0]->dtype;
    if (from == to)
        return clone_any(c);
    kernel run = cast_table[from][to];
    return run ? run(c) : DECLINED;
}

IN_F32(sum_to)

const kernel_row K(cpu_shape)[] = {
    ROWS_SAME("to", cast),
    ROWS_SAME("clone", clone_any),
    ROWS_SAME("expand", expand),
    ROWS_SAME("permute", permute),
    ROWS_SAME("transpose", transpose),
    ROWS_SAME("flip", flip),
    ROWS_SAME("cat", join),
    ROWS_SAME("stack", join),
    { "sum_to", VESTIGE_F32, sum_to },
    { "sum_to", VESTIGE_BF16, sum_to_bf16 },
    { 0 },
};
