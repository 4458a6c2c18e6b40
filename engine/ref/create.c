/* The definition of constants and random draws. */
#include "ref/ref.h"
#include "core/philox.h"

static void fill_all(const call *c, double x) {
    T y = c->out[0];
    for (int64_t i = 0; i < y->numel; i++)
        put(y->data, y->dtype, i, x);
}

static int zeros(const call *c) {
    fill_all(c, 0);
    return VESTIGE_OK;
}

static int ones(const call *c) {
    fill_all(c, 1);
    return VESTIGE_OK;
}

static int full(const call *c) {
    fill_all(c, option(c, "value"));
    return VESTIGE_OK;
}

static int randn(const call *c) {
    T y = c->out[0];
    for (int64_t i = 0; i < y->numel; i++)
        put(y->data, y->dtype, i, philox_normal(c->key, c->offset, (uint64_t)i));
    return VESTIGE_OK;
}

/* As many bits as the type holds, so that 1 is never drawn by rounding. */
static int uniform(const call *c) {
    T y = c->out[0];
    for (int64_t i = 0; i < y->numel; i++) {
        uint64_t w = philox_word64(c->key, c->offset, (uint64_t)i);
        double u = y->dtype == VESTIGE_F64   ? (double)(w >> 11) * 0x1p-53
                   : y->dtype == VESTIGE_F32 ? (double)(w >> 40) * 0x1p-24
                                             : (double)(w >> 56) * 0x1p-8;
        put(y->data, y->dtype, i, u);
    }
    return VESTIGE_OK;
}

#define EVERY(name, run)                                                                           \
    { name, VESTIGE_F32, run }, { name, VESTIGE_F64, run }, { name, VESTIGE_BF16, run },           \
        { name, VESTIGE_I64, run }, { name, VESTIGE_I32, run }, { name, VESTIGE_U8, run },         \
    {                                                                                              \
        name, VESTIGE_BOOL, run                                                                    \
    }
#define FLOAT(name, run)                                                                           \
    { name, VESTIGE_F32, run }, { name, VESTIGE_F64, run },                                        \
    {                                                                                              \
        name, VESTIGE_BF16, run                                                                    \
    }

const kernel_row ref_create[] = { EVERY("full", full),
                                  EVERY("zeros", zeros),
                                  EVERY("ones", ones),
                                  EVERY("zeros_like", zeros),
                                  EVERY("ones_like", ones),
                                  FLOAT("randn", randn),
                                  FLOAT("rand", uniform),
                                  { 0 } };
