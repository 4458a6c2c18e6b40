/* The definition of constants. */
#include "ref/ref.h"

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

static int arange(const call *c) {
    T y = c->out[0];
    double start = option(c, "start"), step = option(c, "step");
    for (int64_t i = 0; i < y->numel; i++)
        put(y->data, y->dtype, i, start + (double)i * step);
    return VESTIGE_OK;
}

/* From both ends, as PyTorch: the last element is end itself. */
static int linspace(const call *c) {
    T y = c->out[0];
    int64_t n = y->numel;
    double start = option(c, "start"), end = option(c, "end");
    double step = n > 1 ? (end - start) / (double)(n - 1) : 0;
    for (int64_t i = 0; i < n; i++)
        put(y->data, y->dtype, i,
            i < (n + 1) / 2 ? start + (double)i * step : end - (double)(n - 1 - i) * step);
    return VESTIGE_OK;
}

static int eye(const call *c) {
    T y = c->out[0];
    int64_t n = y->dim[0], m = y->dim[1];
    fill_all(c, 0);
    for (int64_t i = 0; i < n && i < m; i++)
        put(y->data, y->dtype, i * m + i, 1);
    return VESTIGE_OK;
}

#define EVERY(name, run)                                                                           \
    { name, VESTIGE_F32, run }, { name, VESTIGE_F64, run }, { name, VESTIGE_BF16, run },           \
        { name, VESTIGE_I64, run }, { name, VESTIGE_I32, run }, { name, VESTIGE_U8, run }, {       \
        name, VESTIGE_BOOL, run                                                                    \
    }

const kernel_row ref_create[] = {
    EVERY("full", full),      EVERY("zeros", zeros),
    EVERY("ones", ones),      EVERY("zeros_like", zeros),
    EVERY("ones_like", ones), EVERY("full_like", full),
    EVERY("arange", arange),  EVERY("linspace", linspace),
    EVERY("eye", eye),        { 0 },
};
