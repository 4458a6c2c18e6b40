/* The definition of random draws and dropout. */
#include "ref/ref.h"
#include "core/philox.h"

#define FLOAT(name, run)                                                                           \
    { name, VESTIGE_F32, run }, { name, VESTIGE_F64, run }, {                                      \
        name, VESTIGE_BF16, run                                                                    \
    }
#define EVERY(name, run)                                                                           \
    FLOAT(name, run), { name, VESTIGE_I64, run }, { name, VESTIGE_I32, run },                      \
        { name, VESTIGE_U8, run }, {                                                               \
        name, VESTIGE_BOOL, run                                                                    \
    }

static int randn(const call *c) {
    T y = c->out[0];
    for (int64_t i = 0; i < y->numel; i++)
        put(y->data, y->dtype, i, philox_normal(c->key, c->offset, (uint64_t)i));
    return VESTIGE_OK;
}

static int normal(const call *c) {
    T y = c->out[0];
    double mean = option(c, "mean"), std = option(c, "std");
    for (int64_t i = 0; i < y->numel; i++)
        put(y->data, y->dtype, i, mean + std * philox_normal(c->key, c->offset, (uint64_t)i));
    return VESTIGE_OK;
}

/* As many bits as the type holds, so that 1 is never drawn by rounding. */
static double unit(const call *c, int type, int64_t i) {
    uint64_t w = philox_word64(c->key, c->offset, (uint64_t)i);
    return type == VESTIGE_F64   ? (double)(w >> 11) * 0x1p-53
           : type == VESTIGE_F32 ? (double)(w >> 40) * 0x1p-24
                                 : (double)(w >> 56) * 0x1p-8;
}

static int uniform(const call *c) {
    T y = c->out[0];
    for (int64_t i = 0; i < y->numel; i++)
        put(y->data, y->dtype, i, unit(c, y->dtype, i));
    return VESTIGE_OK;
}

static int uniform_range(const call *c) {
    T y = c->out[0];
    double from = option(c, "from"), span = option(c, "to") - from;
    for (int64_t i = 0; i < y->numel; i++)
        put(y->data, y->dtype, i, from + span * unit(c, y->dtype, i));
    return VESTIGE_OK;
}

/* 1 where a word is below p 2^32. */
static bool chance(const call *c, int64_t i, double p) {
    return (double)philox_word(c->key, c->offset, (uint64_t)i) < p * 0x1p32;
}

static int bernoulli(const call *c) {
    T x = c->in[0], y = c->out[0];
    double p = option(c, "p");
    for (int64_t i = 0; i < y->numel; i++) {
        double q = isnan(p) ? get(x->data, x->dtype, i) : p;
        if (!(q >= 0 && q <= 1))
            return fail(VESTIGE_EVALUE, "bernoulli: x: expected probabilities from 0 to 1, got %g",
                        q);
        put(y->data, y->dtype, i, chance(c, i, q));
    }
    return VESTIGE_OK;
}

static int bernoulli_in_place(const call *c) {
    T y = c->out[0];
    cursor k;
    for (cursor_start(&k, y->ndim, y->dim, 2, c->in); k.left; cursor_next(&k))
        put(y->data, y->dtype, k.i, chance(c, k.i, operand(c, 1, VESTIGE_F32, &k)));
    return VESTIGE_OK;
}

/* Fisher and Yates's shuffle, from the end. */
static int randperm(const call *c) {
    T y = c->out[0];
    int64_t n = y->numel;
    void *p;
    TRY(alloc_scratch(&p, n * 8));
    int64_t *order = p;
    for (int64_t i = 0; i < n; i++)
        order[i] = i;
    for (int64_t i = n - 1; i > 0; i--) {
        uint64_t word = philox_word64(c->key, c->offset, (uint64_t)i);
        int64_t j = (int64_t)philox_below(word, (uint64_t)i + 1), kept = order[i];
        order[i] = order[j];
        order[j] = kept;
    }
    for (int64_t i = 0; i < n; i++)
        put(y->data, y->dtype, i, (double)order[i]);
    free_scratch(p, n * 8);
    return VESTIGE_OK;
}

static int randint(const call *c) {
    T y = c->out[0];
    double low = option(c, "low"), span = option(c, "high") - low;
    for (int64_t i = 0; i < y->numel; i++) {
        uint64_t word = philox_word64(c->key, c->offset, (uint64_t)i);
        put(y->data, y->dtype, i, low + (double)philox_below(word, (uint64_t)span));
    }
    return VESTIGE_OK;
}

/* ---- dropout: an element is dropped where its word is below p 2^32 ---- */
static void drop(const call *c) {
    T x = c->in[0], y = c->out[0];
    double p = option(c, "p"), scale = 1 / (1 - p);
    for (int64_t i = 0; i < y->numel; i++)
        put(y->data, y->dtype, i, chance(c, i, p) ? 0 : get(x->data, x->dtype, i) * scale);
}

static int dropout(const call *c) {
    drop(c);
    return VESTIGE_OK;
}

static int dropout_replay(const call *c) {
    call earlier = *c;
    earlier.key = (uint64_t)option(c, "key_high") << 32 | (uint64_t)option(c, "key_low");
    earlier.offset = (uint64_t)option(c, "offset_high") << 32 | (uint64_t)option(c, "offset_low");
    drop(&earlier);
    return VESTIGE_OK;
}

const kernel_row ref_random[] = {
    FLOAT("randn", randn),
    FLOAT("randn_like", randn),
    FLOAT("normal_", normal),
    FLOAT("rand", uniform),
    FLOAT("rand_like", uniform),
    FLOAT("uniform_", uniform_range),
    FLOAT("bernoulli", bernoulli),
    EVERY("bernoulli_", bernoulli_in_place),
    EVERY("randperm", randperm),
    EVERY("randint", randint),
    FLOAT("dropout", dropout),
    FLOAT("dropout_replay", dropout_replay),
    { 0 },
};
