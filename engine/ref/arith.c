/* The definition of add, sub, mul, div. */
#include "ref/ref.h"

#define BINARY(name, float_value, int_value)                                                       \
    ALWAYS_INLINE int name(const call *c, int t) {                                                 \
        T y = c->out[0];                                                                           \
        cursor k;                                                                                  \
        for (cursor_start(&k, y->ndim, y->dim, 2, c->in); k.left; cursor_next(&k)) {               \
            if (is_float(t)) {                                                                     \
                double a = operand(c, 0, t, &k), b = operand(c, 1, t, &k);                         \
                put(y->data, t, k.i, float_value);                                                 \
            } else {                                                                               \
                int64_t a = operand_int(c, 0, t, &k), b = operand_int(c, 1, t, &k);                \
                put_int(y->data, t, k.i, int_value);                                               \
            }                                                                                      \
        }                                                                                          \
        return VESTIGE_OK;                                                                         \
    }

/* Integers wrap. */
#define WRAP(op) (int64_t)((uint64_t)a op(uint64_t) b)
BINARY(add, a + b, WRAP(+))
BINARY(sub, a - b, WRAP(-))
BINARY(mul, a *b, WRAP(*))
BINARY(divide, a / b, b ? a / b : 0)
REF_ALL(add)
REF_ALL(sub)
REF_ALL(mul)
REF_FLOAT(divide)

const kernel_row ref_arith[] = { ROWS_ALL("add", add), ROWS_ALL("sub", sub), ROWS_ALL("mul", mul),
                                 ROWS_FLOAT("div", divide), { 0 } };
