/* The definition of comparisons, logic, and choosing by a condition. */
#include "ref/ref.h"

/* A number is compared in the tensor's precision, as PyTorch does: f32 0.1 equals 0.1. */
ALWAYS_INLINE double compared(const call *c, int j, int type, const cursor *k) {
    double x = operand(c, j, type, k);
    return c->in[j] || type == VESTIGE_F64 ? x
           : type == VESTIGE_F32           ? (float)x
                                           : bf16_get(bf16_put(x));
}

#define COMPARE(name, value)                                                                       \
    ALWAYS_INLINE int name(const call *c, int t) {                                                 \
        T y = c->out[0];                                                                           \
        cursor k;                                                                                  \
        for (cursor_start(&k, y->ndim, y->dim, 2, c->in); k.left; cursor_next(&k)) {               \
            if (is_float(t)) {                                                                     \
                double a = compared(c, 0, t, &k), b = compared(c, 1, t, &k);                       \
                put_int(y->data, VESTIGE_BOOL, k.i, value);                                        \
            } else {                                                                               \
                int64_t a = operand_int(c, 0, t, &k), b = operand_int(c, 1, t, &k);                \
                put_int(y->data, VESTIGE_BOOL, k.i, value);                                        \
            }                                                                                      \
        }                                                                                          \
        return VESTIGE_OK;                                                                         \
    }                                                                                              \
    REF_ALL(name)

COMPARE(equal, a == b)
COMPARE(different, a != b)
COMPARE(less, a < b)
COMPARE(at_most, a <= b)
COMPARE(more, a > b)
COMPARE(at_least, a >= b)
COMPARE(both, a &&b)
COMPARE(either, a || b)
COMPARE(one_of_two, (a != 0) != (b != 0))

ALWAYS_INLINE int negation(const call *c, int t) {
    T y = c->out[0];
    for (int64_t i = 0; i < y->numel; i++)
        put_int(y->data, VESTIGE_BOOL, i, get(c->in[0]->data, t, i) == 0);
    return VESTIGE_OK;
}
REF_ALL(negation)

/* Element k of the output from input j: copied bit by bit, or the number. */
ALWAYS_INLINE void choose(const call *c, int j, int t, const cursor *k) {
    T y = c->out[0];
    int64_t size = dtype_size(t);
    if (c->in[j])
        memmove(y->data + k->i * size, c->in[j]->data + k->at[j] * size, (size_t)size);
    else
        put(y->data, t, k->i, c->num[j]);
}

ALWAYS_INLINE int where(const call *c, int t) {
    T y = c->out[0];
    cursor k;
    for (cursor_start(&k, y->ndim, y->dim, 3, c->in); k.left; cursor_next(&k))
        choose(c, get_int(c->in[0]->data, VESTIGE_BOOL, k.at[0]) ? 1 : 2, t, &k);
    return VESTIGE_OK;
}
REF_ALL(where)

ALWAYS_INLINE int masked_fill(const call *c, int t) {
    T y = c->out[0];
    cursor k;
    for (cursor_start(&k, y->ndim, y->dim, 3, c->in); k.left; cursor_next(&k))
        choose(c, get_int(c->in[1]->data, VESTIGE_BOOL, k.at[1]) ? 2 : 0, t, &k);
    return VESTIGE_OK;
}
REF_ALL(masked_fill)

const kernel_row ref_compare[] = {
    ROWS_ALL("eq", equal),
    ROWS_ALL("ne", different),
    ROWS_ALL("lt", less),
    ROWS_ALL("le", at_most),
    ROWS_ALL("gt", more),
    ROWS_ALL("ge", at_least),
    ROWS_ALL("logical_and", both),
    ROWS_ALL("logical_or", either),
    ROWS_ALL("logical_xor", one_of_two),
    ROWS_ALL("logical_not", negation),
    ROWS_ALL("where", where),
    ROWS_ALL("masked_fill", masked_fill),
    { 0 },
};
