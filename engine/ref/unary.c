/* The definition of functions of one tensor. */
#include "ref/ref.h"

#define UNARY(name, value)                                                                         \
    ALWAYS_INLINE int name(const call *c, int t) {                                                 \
        T y = c->out[0];                                                                           \
        for (int64_t i = 0; i < y->numel; i++) {                                                   \
            double x = get(c->in[0]->data, t, i);                                                  \
            put(y->data, t, i, value);                                                             \
        }                                                                                          \
        return VESTIGE_OK;                                                                         \
    }

ALWAYS_INLINE int neg_int(const call *c, int t) {
    T y = c->out[0];
    for (int64_t i = 0; i < y->numel; i++)
        put_int(y->data, t, i, (int64_t)-(uint64_t)get_int(c->in[0]->data, t, i));
    return VESTIGE_OK;
}

UNARY(neg, -x)
UNARY(expo, exp(x))
REF_FLOAT(neg)
REF_INT(neg_int)
REF_FLOAT(expo)

const kernel_row ref_unary[] = { ROWS_FLOAT("neg", neg), ROWS_INT("neg", neg_int),
                                 ROWS_FLOAT("exp", expo), { 0 } };
