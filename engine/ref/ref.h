/* ref.h: how the plain loops are written: one body for all types, in double, rounded once at the
 * end. The type is a constant in each instance, so its tests fold away. */
#ifndef VESTIGE_REF_H
#define VESTIGE_REF_H

#include <math.h>
#include <string.h>
#include "ops/row.h"
#include "ops/cursor.h"

ALWAYS_INLINE double bf16_get(uint16_t h) {
    uint32_t bits = (uint32_t)h << 16;
    float f;
    memcpy(&f, &bits, 4);
    return (double)f;
}

/* To nearest, ties to even, in one rounding from double. */
ALWAYS_INLINE uint16_t bf16_put(double x) {
    float f = (float)x;
    uint32_t bits;
    memcpy(&bits, &f, 4);
    if (f != f)
        return (uint16_t)(bits >> 16 | 0x40);
    uint32_t low = bits & 0xffff;
    bits &= 0xffff0000u;
    float down;
    memcpy(&down, &bits, 4);
    if (low == 0x8000) { /* the float is halfway: x itself decides */
        double ax = fabs(x), af = fabs((double)f);
        if (ax > af || (ax == af && bits >> 16 & 1))
            bits += 0x10000;
    } else if (low > 0x8000) {
        bits += 0x10000;
    }
    return (uint16_t)(bits >> 16);
}

ALWAYS_INLINE double get(const void *p, int type, int64_t i) {
    switch (type) {
    case VESTIGE_F32:
        return (double)((const float *)p)[i];
    case VESTIGE_F64:
        return ((const double *)p)[i];
    case VESTIGE_BF16:
        return bf16_get(((const uint16_t *)p)[i]);
    case VESTIGE_I64:
        return (double)((const int64_t *)p)[i];
    case VESTIGE_I32:
        return ((const int32_t *)p)[i];
    default:
        return ((const uint8_t *)p)[i];
    }
}

/* A float that is stored in an integer type is cut, as C casts; NaN and overflow give 0. */
ALWAYS_INLINE int64_t whole(double x) {
    return x > -0x1p63 && x < 0x1p63 ? (int64_t)x : 0;
}

ALWAYS_INLINE void put(void *p, int type, int64_t i, double x) {
    switch (type) {
    case VESTIGE_F32:
        ((float *)p)[i] = (float)x;
        break;
    case VESTIGE_F64:
        ((double *)p)[i] = x;
        break;
    case VESTIGE_BF16:
        ((uint16_t *)p)[i] = bf16_put(x);
        break;
    case VESTIGE_I64:
        ((int64_t *)p)[i] = whole(x);
        break;
    case VESTIGE_I32:
        ((int32_t *)p)[i] = (int32_t)whole(x);
        break;
    case VESTIGE_U8:
        ((uint8_t *)p)[i] = (uint8_t)whole(x);
        break;
    default:
        ((uint8_t *)p)[i] = x != 0;
    }
}

/* Integers beyond 2^53 keep their digits. */
ALWAYS_INLINE int64_t get_int(const void *p, int type, int64_t i) {
    switch (type) {
    case VESTIGE_I64:
        return ((const int64_t *)p)[i];
    case VESTIGE_I32:
        return ((const int32_t *)p)[i];
    default:
        return ((const uint8_t *)p)[i];
    }
}

ALWAYS_INLINE void put_int(void *p, int type, int64_t i, int64_t x) {
    switch (type) {
    case VESTIGE_I64:
        ((int64_t *)p)[i] = x;
        break;
    case VESTIGE_I32:
        ((int32_t *)p)[i] = (int32_t)x;
        break;
    case VESTIGE_U8:
        ((uint8_t *)p)[i] = (uint8_t)x;
        break;
    default:
        ((uint8_t *)p)[i] = x != 0;
    }
}

/* Input i's places as i64, each checked to lie in 0 .. n-1; an error names the first that does
 * not. */
int ref_places(const call *c, int i, int64_t n, const int64_t **index);

/* Element of input j: a tensor's at the cursor, or the number. */
ALWAYS_INLINE double operand(const call *c, int j, int type, const cursor *k) {
    return c->in[j] ? get(c->in[j]->data, type, k->at[j]) : c->num[j];
}
ALWAYS_INLINE int64_t operand_int(const call *c, int j, int type, const cursor *k) {
    return c->in[j] ? get_int(c->in[j]->data, type, k->at[j]) : whole(c->num[j]);
}

/* ---- Instances. body(c, type) is ALWAYS_INLINE and returns a status. ---- */
#define REF_FN(body, suffix, type)                                                                 \
    static int body##_##suffix(const call *c) {                                                    \
        return body(c, type);                                                                      \
    }
#define REF_FLOAT(body)                                                                            \
    REF_FN(body, f32, VESTIGE_F32) REF_FN(body, f64, VESTIGE_F64) REF_FN(body, bf16, VESTIGE_BF16)
#define REF_INT(body)                                                                              \
    REF_FN(body, i64, VESTIGE_I64) REF_FN(body, i32, VESTIGE_I32) REF_FN(body, u8, VESTIGE_U8)
#define REF_BOOL(body) REF_FN(body, bool, VESTIGE_BOOL)
#define REF_ALL(body) REF_FLOAT(body) REF_INT(body) REF_BOOL(body)
/* The rows of a kernel: name is the operator's. */
#define ROWS_FLOAT(name, body)                                                                     \
    { name, VESTIGE_F32, body##_f32 }, { name, VESTIGE_F64, body##_f64 }, {                        \
        name, VESTIGE_BF16, body##_bf16                                                            \
    }
#define ROWS_INT(name, body)                                                                       \
    { name, VESTIGE_I64, body##_i64 }, { name, VESTIGE_I32, body##_i32 }, {                        \
        name, VESTIGE_U8, body##_u8                                                                \
    }
#define ROWS_BOOL(name, body)                                                                      \
    { name, VESTIGE_BOOL, body##_bool }
#define ROWS_ALL(name, body) ROWS_FLOAT(name, body), ROWS_INT(name, body), ROWS_BOOL(name, body)

#endif
