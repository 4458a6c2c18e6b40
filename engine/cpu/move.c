/* move.c: copies with any steps, see move.h. The array is made as simple as it is (dimensions that
 * run on are joined, a short run becomes one wide element), then one of four loops copies it: runs
 * of bytes, one element repeated, a transposition in blocks, or single elements. */
#include "cpu/move.h"

enum { PARALLEL = 1 << 18 /* bytes from which a second thread pays */ };

/* Elements of 1 to 16 bytes at any address. */
typedef uint8_t e1;
typedef uint16_t e2 __attribute__((may_alias, aligned(1)));
typedef uint32_t e4 __attribute__((may_alias, aligned(1)));
typedef uint64_t e8 __attribute__((may_alias, aligned(1)));
typedef uint32_t e16 __attribute__((vector_size(16), may_alias, aligned(1)));

#define ELEMENT_LOOPS(type)                                                                        \
    static void row_##type(char *to, int64_t ts, const char *from, int64_t fs, int64_t n) {        \
        if (ts == (int64_t)sizeof(type) && fs == 0) {                                              \
            type v = *(const type *)from;                                                          \
            for (int64_t i = 0; i < n; i++)                                                        \
                ((type *)to)[i] = v;                                                               \
        } else if (ts == (int64_t)sizeof(type) && fs == -(int64_t)sizeof(type)) {                  \
            for (int64_t i = 0; i < n; i++)                                                        \
                ((type *)to)[i] = ((const type *)from)[-i];                                        \
        } else {                                                                                   \
            for (int64_t i = 0; i < n; i++)                                                        \
                *(type *)(to + i * ts) = *(const type *)(from + i * fs);                           \
        }                                                                                          \
    }                                                                                              \
    /* to (a, b) = from (b, a): both have unit steps along their last dimension */                 \
    static void block_##type(char *to, int64_t ts, const char *from, int64_t fs, int64_t na,       \
                             int64_t nb) {                                                         \
        for (int64_t a = 0; a < na; a++)                                                           \
            for (int64_t b = 0; b < nb; b++)                                                       \
                ((type *)(to + a * ts))[b] = ((const type *)(from + b * fs))[a];                   \
    }
ELEMENT_LOOPS(e1)
ELEMENT_LOOPS(e2)
ELEMENT_LOOPS(e8)
ELEMENT_LOOPS(e16)
#define block_e4 block_e4_plain
ELEMENT_LOOPS(e4)
#undef block_e4

/* 4-byte elements: 4x4 blocks in registers. */
typedef int32_t v4 __attribute__((vector_size(16)));
typedef int32_t v4_unaligned __attribute__((vector_size(16), may_alias, aligned(1)));

static void block_e4(char *to, int64_t ts, const char *from, int64_t fs, int64_t na, int64_t nb) {
    int64_t a = 0, whole_b = nb / 4 * 4;
    for (; a + 4 <= na; a += 4) {
        for (int64_t b = 0; b < whole_b; b += 4) {
            const char *f = from + b * fs + a * 4;
            char *t = to + a * ts + b * 4;
            v4 r0 = *(const v4_unaligned *)f, r1 = *(const v4_unaligned *)(f + fs);
            v4 r2 = *(const v4_unaligned *)(f + 2 * fs), r3 = *(const v4_unaligned *)(f + 3 * fs);
            v4 p = __builtin_shuffle(r0, r1, (v4){ 0, 4, 1, 5 });
            v4 q = __builtin_shuffle(r0, r1, (v4){ 2, 6, 3, 7 });
            v4 r = __builtin_shuffle(r2, r3, (v4){ 0, 4, 1, 5 });
            v4 s = __builtin_shuffle(r2, r3, (v4){ 2, 6, 3, 7 });
            *(v4_unaligned *)t = __builtin_shuffle(p, r, (v4){ 0, 1, 4, 5 });
            *(v4_unaligned *)(t + ts) = __builtin_shuffle(p, r, (v4){ 2, 3, 6, 7 });
            *(v4_unaligned *)(t + 2 * ts) = __builtin_shuffle(q, s, (v4){ 0, 1, 4, 5 });
            *(v4_unaligned *)(t + 3 * ts) = __builtin_shuffle(q, s, (v4){ 2, 3, 6, 7 });
        }
        if (whole_b < nb)
            block_e4_plain(to + a * ts + whole_b * 4, ts, from + whole_b * fs + a * 4, fs, 4,
                           nb - whole_b);
    }
    if (a < na)
        block_e4_plain(to + a * ts, ts, from + a * 4, fs, na - a, nb);
}

static void run(char *to, int64_t ts, const char *from, int64_t fs, int64_t n) {
    (void)ts, (void)fs;
    memcpy(to, from, (size_t)n);
}

typedef void (*row_fn)(char *, int64_t, const char *, int64_t, int64_t);
typedef void (*block_fn)(char *, int64_t, const char *, int64_t, int64_t, int64_t);

static void choose(int64_t size, row_fn *row, block_fn *block) {
    switch (size) {
    case 1:
        *row = row_e1, *block = block_e1;
        break;
    case 2:
        *row = row_e2, *block = block_e2;
        break;
    case 4:
        *row = row_e4, *block = block_e4;
        break;
    case 8:
        *row = row_e8, *block = block_e8;
        break;
    default:
        *row = row_e16, *block = block_e16;
    }
}

/* ---- Simplifying ---- */
static void drop(move *m, int d) {
    m->ndim--;
    for (; d < m->ndim; d++) {
        m->dim[d] = m->dim[d + 1];
        m->to_step[d] = m->to_step[d + 1];
        m->from_step[d] = m->from_step[d + 1];
    }
}

static void simplify(move *m) {
    for (int d = m->ndim - 1; d >= 0; d--)
        if (m->dim[d] == 1)
            drop(m, d);
    for (int d = m->ndim - 2; d >= 0; d--)
        if (m->to_step[d] == m->dim[d + 1] * m->to_step[d + 1] &&
            m->from_step[d] == m->dim[d + 1] * m->from_step[d + 1]) {
            m->dim[d + 1] *= m->dim[d];
            drop(m, d);
        }
    int last = m->ndim - 1;
    if (last >= 0 && m->to_step[last] == m->size && m->from_step[last] == m->size) {
        int64_t bytes = m->dim[last] * m->size;
        if (last > 0 && (bytes == 2 || bytes == 4 || bytes == 8 || bytes == 16)) {
            m->size = bytes;
            drop(m, last);
        } else { /* bytes in a row */
            m->size = m->to_step[last] = m->from_step[last] = 1;
            m->dim[last] = bytes;
        }
    }
}

/* ---- The loops ---- */

/* Where index `i` of the first n dimensions lies. */
static void place(const move *m, int n, int64_t i, int64_t *index, char **to, const char **from) {
    *to = m->to;
    *from = m->from;
    for (int d = n - 1; d >= 0; d--) {
        index[d] = i % m->dim[d];
        i /= m->dim[d];
        *to += index[d] * m->to_step[d];
        *from += index[d] * m->from_step[d];
    }
}

/* Rows first .. end of the last dimension, walking on from one to the next. */
static void move_rows(const move *m, row_fn row, int64_t first, int64_t end) {
    int last = m->ndim - 1;
    int64_t index[VESTIGE_MAXDIM];
    char *to;
    const char *from;
    place(m, last, first, index, &to, &from);
    for (int64_t r = first; r < end; r++) {
        row(to, m->to_step[last], from, m->from_step[last], m->dim[last]);
        for (int d = last - 1; d >= 0; d--) {
            to += m->to_step[d];
            from += m->from_step[d];
            if (++index[d] < m->dim[d])
                break;
            to -= m->to_step[d] * m->dim[d];
            from -= m->from_step[d] * m->dim[d];
            index[d] = 0;
        }
    }
}

/* One row, or a few long ones: each is cut among the threads. */
static void move_long_rows(const move *m, row_fn row, int64_t rows, int parts) {
    int last = m->ndim - 1;
    int64_t n = m->dim[last], ts = m->to_step[last], fs = m->from_step[last];
    for (int64_t r = 0; r < rows; r++) {
        int64_t index[VESTIGE_MAXDIM];
        char *to;
        const char *from;
        place(m, last, r, index, &to, &from);
#pragma omp parallel for num_threads(parts)
        for (int p = 0; p < parts; p++) {
            int64_t a = n * p / parts, b = n * (p + 1) / parts;
            row(to + a * ts, ts, from + a * fs, fs, b - a);
        }
    }
}

enum { BLOCK = 64, TILE = 8192 };

/* A block by way of the stack: rows far apart by a power of two share cache lines' places, so each
 * is read and written once, as a whole. (4-byte elements do without: they move in registers.) */
static void block_near(block_fn block, int64_t size, char *to, int64_t ts, const char *from,
                       int64_t fs, int64_t na, int64_t nb) {
    char in[TILE], out[TILE] __attribute__((aligned(64)));
    for (int64_t b = 0; b < nb; b++)
        memcpy(in + b * na * size, from + b * fs, (size_t)(na * size));
    block(out, nb * size, in, na * size, na, nb);
    for (int64_t a = 0; a < na; a++)
        memcpy(to + a * ts, out + a * nb * size, (size_t)(nb * size));
}

/* The last dimension runs on in `to`, dimension t in `from`: blocks that stay in the first cache.
 */
static void move_blocks(move m, int t, block_fn block, int parts) {
    int last = m.ndim - 1;
    int64_t na = m.dim[t], nb = m.dim[last], ts = m.to_step[t], fs = m.from_step[last];
    drop(&m, last);
    drop(&m, t);
    int64_t side = m.size <= 2 ? BLOCK : m.size == 16 ? BLOCK / 4 : BLOCK / 2;
    int64_t blocks_a = (na + side - 1) / side, blocks_b = (nb + side - 1) / side;
    int64_t total = product(m.ndim, m.dim) * blocks_a * blocks_b;
#pragma omp parallel for num_threads(parts) schedule(static)
    for (int64_t i = 0; i < total; i++) {
        int64_t a = i / blocks_b % blocks_a * side, b = i % blocks_b * side;
        int64_t wide_a = na - a < side ? na - a : side, wide_b = nb - b < side ? nb - b : side;
        int64_t index[VESTIGE_MAXDIM];
        char *to;
        const char *from;
        place(&m, m.ndim, i / (blocks_a * blocks_b), index, &to, &from);
        to += a * ts + b * m.size;
        from += b * fs + a * m.size;
        if (m.size != 4 && wide_a * m.size >= 64 && wide_b * m.size >= 64)
            block_near(block, m.size, to, ts, from, fs, wide_a, wide_b);
        else
            block(to, ts, from, fs, wide_a, wide_b);
    }
}

void K(cpu_move)(move m) {
    for (int d = 0; d < m.ndim; d++)
        if (m.dim[d] == 0)
            return;
    simplify(&m);
    row_fn row;
    block_fn block;
    choose(m.size, &row, &block);
    int last = m.ndim - 1;
    if (last < 0) {
        row(m.to, 0, m.from, 0, 1);
        return;
    }
    int64_t bytes = product(m.ndim, m.dim) * m.size;
    int parts = bytes >= PARALLEL ? threads() : 1;
    if (m.size == 1 && m.to_step[last] == 1 && m.from_step[last] == 1)
        row = run;
    else if (m.to_step[last] == m.size)
        for (int t = 0; t < last; t++)
            if (m.from_step[t] == m.size && m.dim[t] > 1 && m.dim[last] > 1) {
                move_blocks(m, t, block, parts);
                return;
            }
    int64_t rows = product(last, m.dim);
    if (parts > 1 && rows < 4 * parts) {
        move_long_rows(&m, row, rows, parts);
        return;
    }
#pragma omp parallel for num_threads(parts)
    for (int p = 0; p < parts; p++)
        move_rows(&m, row, rows * p / parts, rows * (p + 1) / parts);
}
