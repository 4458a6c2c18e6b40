/* compare.c: comparisons, logic on bools, and choosing by a condition. */
#include "cpu/elementwise.h"

/* A number is compared in the tensor's precision: what bf16 does not hold goes the plain way. */
static bool holds_numbers(const call *c) {
    if (c->type != VESTIGE_BF16 || !c->num)
        return true;
    for (int i = 0; i < 2; i++)
        if (!c->in[i] && (double)from_bf16(to_bf16((float)c->num[i])) != c->num[i])
            return false;
    return true;
}

#define COMPARE(name, value)                                                                       \
    TRUTH2(name##_f32_row, value)                                                                  \
    ROW2(name##_f64_row, uint8_t, double, double, value)                                           \
    static int name##_f32(const call *c) {                                                         \
        return holds_numbers(c) ? elementwise(c, 0, 2, &name##_f32_row, VESTIGE_F32, NULL)         \
                                : DECLINED;                                                        \
    }                                                                                              \
    static int name##_f64(const call *c) {                                                         \
        return elementwise(c, 0, 2, &name##_f64_row, VESTIGE_F64, NULL);                           \
    }
COMPARE(equal, a == b)
COMPARE(different, a != b)
COMPARE(less, a < b)
COMPARE(at_most, a <= b)
COMPARE(more, a > b)
COMPARE(at_least, a >= b)

/* i64 labels against i64 labels; a number goes the plain way. */
ROW2(equal_i64_row, uint8_t, int64_t, int64_t, a == b)
ROW2(different_i64_row, uint8_t, int64_t, int64_t, a != b)
static int equal_i64(const call *c) {
    return c->num ? DECLINED : elementwise(c, 0, 2, &equal_i64_row, VESTIGE_I64, NULL);
}
static int different_i64(const call *c) {
    return c->num ? DECLINED : elementwise(c, 0, 2, &different_i64_row, VESTIGE_I64, NULL);
}

ROW2(and_row, uint8_t, uint8_t, uint8_t, a &b)
ROW2(or_row, uint8_t, uint8_t, uint8_t, a | b)
ROW2(xor_row, uint8_t, uint8_t, uint8_t, a ^ b)
ROW1(not_row, uint8_t, uint8_t, a ^ 1)
static int both(const call *c) {
    return elementwise(c, 0, 2, &and_row, VESTIGE_BOOL, NULL);
}
static int either(const call *c) {
    return elementwise(c, 0, 2, &or_row, VESTIGE_BOOL, NULL);
}
static int one_of_two(const call *c) {
    return elementwise(c, 0, 2, &xor_row, VESTIGE_BOOL, NULL);
}
static int negation(const call *c) {
    return elementwise(c, 0, 1, &not_row, VESTIGE_BOOL, NULL);
}

/* ---- y (n) = m[i] ? a : b. Where each may run on or stand still. ---- */
static inline __attribute__((always_inline)) void choose(float *y, const uint8_t *m, const float *a,
                                                         const float *b, int64_t n, bool step_m,
                                                         bool step_a, bool step_b) {
    const bool m0 = *m;
    const float a0 = *a, b0 = *b;
#pragma GCC ivdep
    for (int64_t i = 0; i < n; i++) {
        const float p = step_a ? a[i] : a0, q = step_b ? b[i] : b0;
        y[i] = (step_m ? m[i] : m0) ? p : q;
    }
}

static void choose_row(float *y, const uint8_t *m, const float *a, const float *b, int64_t n,
                       const bool step[3]) {
    if (!step[0])
        choose(y, m, a, b, n, false, step[1], step[2]);
    else if (step[1] && step[2])
        choose(y, m, a, b, n, true, true, true);
    else if (step[1])
        choose(y, m, a, b, n, true, true, false);
    else if (step[2])
        choose(y, m, a, b, n, true, false, true);
    else
        choose(y, m, a, b, n, true, false, false);
}

static void where_wide(void *out, const void *const *in, const bool *step, int64_t n,
                       const float *p) {
    (void)p;
    choose_row(out, in[0], in[1], in[2], n, step);
}
static void masked_fill_wide(void *out, const void *const *in, const bool *step, int64_t n,
                             const float *p) { /* in: x, mask, value */
    (void)p;
    choose_row(out, in[1], in[2], in[0], n, (bool[]){ step[1], step[2], step[0] });
}

static const row_fns where_row = { where_wide, NULL };
static const row_fns masked_fill_row = { masked_fill_wide, NULL };

static int where(const call *c) {
    return elementwise(c, 0, 3, &where_row, VESTIGE_F32, NULL);
}
static int masked_fill(const call *c) {
    return elementwise(c, 0, 3, &masked_fill_row, VESTIGE_F32, NULL);
}

#define ROWS(name, function)                                                                       \
    ROWS_HALF(name, function##_f32), {                                                             \
        name, VESTIGE_F64, function##_f64                                                          \
    }

const kernel_row K(cpu_compare)[] = {
    ROWS("eq", equal),
    ROWS("ne", different),
    ROWS("lt", less),
    ROWS("le", at_most),
    ROWS("gt", more),
    ROWS("ge", at_least),
    { "eq", VESTIGE_I64, equal_i64 },
    { "ne", VESTIGE_I64, different_i64 },
    { "logical_and", VESTIGE_BOOL, both },
    { "logical_or", VESTIGE_BOOL, either },
    { "logical_xor", VESTIGE_BOOL, one_of_two },
    { "logical_not", VESTIGE_BOOL, negation },
    ROWS_HALF("where", where),
    ROWS_HALF("masked_fill", masked_fill),
    { 0 },
};
