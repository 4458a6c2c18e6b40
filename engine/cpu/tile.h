/* The microkernel under every product, and the packing of its right operand.
 *
 * A tile of MR x NR outputs is summed in registers. The left operand is read through MR row
 * pointers a segment (a convolution has one segment a filter tap, a plain product has one), so
 * nothing is copied that already lies in rows; the right operand is packed in panels [k][NR].
 * Outputs go through MR pointers too. A caller with fewer than MR rows points the rest at a row of
 * zeros and at a row nobody reads.
 */
#ifndef VESTIGE_CPU_TILE_H
#define VESTIGE_CPU_TILE_H

#include "cpu/half.h"

#define ALWAYS_INLINE static inline __attribute__((always_inline))

static inline int64_t imin(int64_t a, int64_t b) {
    return a < b ? a : b;
}

static inline int64_t imax(int64_t a, int64_t b) {
    return a > b ? a : b;
}

static inline int64_t ceil_div(int64_t a, int64_t b) {
    return (a + b - 1) / b;
}

/* What a tile adds up: for s < count and t = list[s] (t = s when list is null)
 *   out[m][j] (+)= sum_k rows[t * row_step + m][k] * b[t * b_step + k * NR + j],  k < len      */
struct tile_sum {
    const float *const *rows;
    int64_t row_step; /* pointers from one segment to the next */
    const float *b;
    int64_t b_step; /* floats from one segment's panel to the next */
    int64_t len;
    int64_t k0; /* offset added to every row */
    const uint16_t *list;
    int count;
    int64_t ahead; /* floats from b to a line fetched into the second cache at each k, or 0 */
};

/* What the tiles of one panel fetch, `left` rows before its end, `next` floats before the panel
 * that is read after it. That is as far away as a tile takes, so the last two fetch it: one the
 * even lines, one the odd ones. */
static inline int64_t tile_ahead(int64_t next, int64_t left) {
    return left > 2 * MR ? 0 : next + (left <= MR) * LINE;
}

/* The sums t to out[m] + j, columns below n (n <= NR); add: on top of what is there. */
ALWAYS_INLINE void tile_store(vf t[MR][NV], float *const *out, int64_t j, int64_t n, bool add) {
    if (n == NR) {
#pragma GCC unroll 32
        for (int m = 0; m < MR; m++) {
            float *o = out[m] + j;
            if (add) {
                t[m][0] += vload(o);
                t[m][1] += vload(o + LANES);
            }
            vstore(o, t[m][0]);
            vstore(o + LANES, t[m][1]);
        }
        return;
    }
    if (n == LANES) {
#pragma GCC unroll 32
        for (int m = 0; m < MR; m++) {
            if (add)
                t[m][0] += vload(out[m] + j);
            vstore(out[m] + j, t[m][0]);
        }
        return;
    }
    float edge[MR][NR];
#pragma GCC unroll 32
    for (int m = 0; m < MR; m++) {
        vstore(edge[m], t[m][0]);
        vstore(edge[m] + LANES, t[m][1]);
    }
    for (int m = 0; m < MR; m++)
        for (int64_t x = 0; x < n; x++)
            out[m][j + x] = add ? out[m][j + x] + edge[m][x] : edge[m][x];
}

ALWAYS_INLINE void tile_clear(vf t[MR][NV], float *const *out, int64_t j) {
#pragma GCC unroll 32
    for (int m = 0; m < MR; m++) {
        __builtin_prefetch(out[m] + j, 1);
        if (LANES == LINE)
            __builtin_prefetch(out[m] + j + LANES, 1);
        t[m][0] = vset(0);
        t[m][1] = vset(0);
    }
}

/* One step of a tile: MR rows at k times two vectors of b. */
#if PAIRS
#define TILE_SET(pairs, x) ((pairs) ? vset_pair(&(x)) : vset(x))
#define TILE_ADD(pairs, a, b, t) ((pairs) ? vdot(a, b, t) : vfma(a, b, t))
#else
#define TILE_SET(pairs, x) vset(x)
#define TILE_ADD(pairs, a, b, t) vfma(a, b, t)
#endif

/* one: only the first vector of b, for n up to LANES. fetch: s has something ahead. */
ALWAYS_INLINE void tile_sums(const struct tile_sum *s, float *const *out, int64_t j, int64_t n,
                             bool add, const float *bias, const bool pairs, const bool one,
                             const bool fetch) {
    (void)pairs;
    vf t[MR][NV];
    int64_t ahead = s->ahead;
    tile_clear(t, out, j);
    for (int i = 0; i < s->count; i++) {
        int64_t seg = s->list ? s->list[i] : i;
        const float *const *rows = s->rows + seg * s->row_step;
        const float *b = s->b + seg * s->b_step;
        const float *p[MR];
        int64_t len = s->len;
#pragma GCC unroll 32
        for (int m = 0; m < MR; m++)
            p[m] = rows[m] + s->k0;
        for (int64_t k = 0; k < len; k++, b += NR) {
            vf b0 = vload(b), b1 = one ? vset(0) : vload(b + LANES);
            if (fetch)
                __builtin_prefetch(b + ahead, 0, 2);
#pragma GCC unroll 32
            for (int m = 0; m < MR; m++) {
                vf a = TILE_SET(pairs, p[m][k]);
                t[m][0] = TILE_ADD(pairs, a, b0, t[m][0]);
                if (!one)
                    t[m][1] = TILE_ADD(pairs, a, b1, t[m][1]);
            }
        }
    }
    if (bias) {
#pragma GCC unroll 32
        for (int m = 0; m < MR; m++) {
            t[m][0] += vload(bias);
            t[m][1] += vload(bias + LANES);
        }
    }
    tile_store(t, out, j, n, add);
}

/* Runs s and stores; bias (NR floats) may be null. */
ALWAYS_INLINE void tile_any(const struct tile_sum *s, float *const *out, int64_t j, int64_t n,
                            bool add, const float *bias, const bool pairs) {
    if (n <= LANES)
        tile_sums(s, out, j, n, add, bias, pairs, true, false);
    else if (s->ahead)
        tile_sums(s, out, j, n, add, bias, pairs, false, true);
    else
        tile_sums(s, out, j, n, add, bias, pairs, false, false);
}

static __attribute__((noinline, unused)) void tile_run(const struct tile_sum *s, float *const *out,
                                                       int64_t j, int64_t n, bool add,
                                                       const float *bias) {
    tile_any(s, out, j, n, add, bias, false);
}

#if PAIRS
/* The same where each float of rows and b is a pair of bf16 along k. */
static __attribute__((noinline, unused)) void tile_run_pairs(const struct tile_sum *s,
                                                             float *const *out, int64_t j,
                                                             int64_t n, bool add,
                                                             const float *bias) {
    tile_any(s, out, j, n, add, bias, true);
}
#endif

/* A tile turned round, for short sums or few columns: 16 registers hold the weights of one vector
 * of columns, and rows that lie evenly pass by. A product is one instruction, which reads a row's
 * value where it lies; a tile would spend half of its time on its MR rows' pointers. out[m *
 * out_row + j] = sum_k rows[m * row_step + k] * b[k * NR + j],  m < count, j < n len is a multiple
 * of the weights held, n of LANES; rows and out have whole tiles of MR. */
ALWAYS_INLINE int64_t thin_held(bool pairs) {
    return pairs ? 8 : 16;
}

ALWAYS_INLINE bool thin_pays(int64_t len, int64_t n, bool pairs) {
    return LANES == 16 && (n == LANES || len <= thin_held(pairs));
}

ALWAYS_INLINE void thin_sums(const float *rows, int64_t row_step, float *out, int64_t out_row,
                             int64_t count, const float *b, int64_t len, int64_t n,
                             const bool pairs) {
    const int64_t held = thin_held(pairs);
    for (int64_t j = 0; j < n; j += LANES)
        for (int64_t k0 = 0; k0 < len; k0 += held) {
            vf w[16];
#pragma GCC unroll 16
            for (int64_t k = 0; k < held; k++)
                w[k] = vload(b + (k0 + k) * NR + j);
            for (int64_t i = 0; i < count; i += MR) {
                const float *row = rows + i * row_step + k0;
                float *o = out + i * out_row + j;
                vf t[MR];
#pragma GCC unroll 32
                for (int m = 0; m < MR; m++)
                    t[m] = k0 ? vload(o + m * out_row) : vset(0);
#pragma GCC unroll 16
                for (int64_t k = 0; k < held; k++)
#pragma GCC unroll 32
                    for (int m = 0; m < MR; m++)
                        t[m] = TILE_ADD(pairs, TILE_SET(pairs, row[m * row_step + k]), w[k], t[m]);
#pragma GCC unroll 32
                for (int m = 0; m < MR; m++)
                    vstore(o + m * out_row, t[m]);
            }
        }
}

/* Panel of NR columns from a matrix whose rows run along n: b[k][x] = src[k * ld + x], x < n; the
 * rest of the NR columns is zero. */
ALWAYS_INLINE void pack_rows_of(float *b, const void *src, int64_t ld, int64_t k, int64_t n,
                                const bool half) {
    if (n == NR && !half) {
        const float *row = src;
        for (int64_t i = 0; i < k; i++, b += NR, row += ld) {
            vstore(b, vload(row));
            vstore(b + LANES, vload(row + LANES));
        }
        return;
    }
    if (n == NR) {
        for (int64_t i = 0; i < k; i++, b += NR)
            widen(b, (const uint16_t *)src + i * ld, NR);
        return;
    }
    for (int64_t i = 0; i < k; i++, b += NR)
        for (int64_t x = 0; x < NR; x++)
            b[x] = x < n ? element(src, i * ld + x, half) : 0;
}

static inline void pack_rows(float *b, const float *src, int64_t ld, int64_t k, int64_t n) {
    pack_rows_of(b, src, ld, k, n, false);
}

typedef float v4 __attribute__((vector_size(16), may_alias, aligned(4)));
typedef int32_t v4i __attribute__((vector_size(16)));

/* to[k * step + x] = src[x * ld + k] for k, x < 4. */
ALWAYS_INLINE void transpose4(float *to, int64_t step, const float *src, int64_t ld) {
    v4 r0 = *(const v4 *)src, r1 = *(const v4 *)(src + ld);
    v4 r2 = *(const v4 *)(src + 2 * ld), r3 = *(const v4 *)(src + 3 * ld);
    v4 a = __builtin_shuffle(r0, r1, (v4i){ 0, 4, 1, 5 });
    v4 c = __builtin_shuffle(r0, r1, (v4i){ 2, 6, 3, 7 });
    v4 d = __builtin_shuffle(r2, r3, (v4i){ 0, 4, 1, 5 });
    v4 e = __builtin_shuffle(r2, r3, (v4i){ 2, 6, 3, 7 });
    *(v4 *)to = __builtin_shuffle(a, d, (v4i){ 0, 1, 4, 5 });
    *(v4 *)(to + step) = __builtin_shuffle(a, d, (v4i){ 2, 3, 6, 7 });
    *(v4 *)(to + 2 * step) = __builtin_shuffle(c, e, (v4i){ 0, 1, 4, 5 });
    *(v4 *)(to + 3 * step) = __builtin_shuffle(c, e, (v4i){ 2, 3, 6, 7 });
}

/* The same from a matrix whose rows run along k: b[k][x] = src[x * ld + k]. Cut in runs of 16 k,
 * a cache line of each source row at a time. */
ALWAYS_INLINE void pack_columns_of(float *b, const void *src, int64_t ld, int64_t k, int64_t n,
                                   const bool half) {
    for (int64_t k0 = 0; k0 < k; k0 += 16) {
        int64_t len = imin(16, k - k0), x = 0;
        for (; len == 16 && !half && x + 4 <= n; x += 4) {
            const float *from = (const float *)src + x * ld + k0;
#pragma GCC unroll 4
            for (int64_t i = 0; i < 16; i += 4)
                transpose4(b + (k0 + i) * NR + x, NR, from + i, ld);
        }
        for (; x < n; x++) {
            int64_t at = x * ld + k0;
            float *d = b + k0 * NR + x;
            if (len == 16) {
#pragma GCC unroll 16
                for (int64_t i = 0; i < 16; i++)
                    d[i * NR] = element(src, at + i, half);
            } else {
                for (int64_t i = 0; i < len; i++)
                    d[i * NR] = element(src, at + i, half);
            }
        }
        for (int64_t i = 0; i < len; i++)
            for (int64_t x = n; x < NR; x++)
                b[(k0 + i) * NR + x] = 0;
    }
}

static inline void pack_columns(float *b, const float *src, int64_t ld, int64_t k, int64_t n) {
    pack_columns_of(b, src, ld, k, n, false);
}

/* Floats of n known only at run time, often a few: no call, and nothing past the end. */
static inline void copy_floats(float *to, const float *from, int64_t n) {
    if (n < 4) {
        for (int64_t i = 0; i < n; i++)
            to[i] = from[i];
        return;
    }
    for (int64_t i = 0; i + 4 < n; i += 4)
        *(v4 *)(to + i) = *(const v4 *)(from + i);
    *(v4 *)(to + n - 4) = *(const v4 *)(from + n - 4);
}

#endif
