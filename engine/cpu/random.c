/* random.c: draws and dropout in f32, by the formulas of core/philox.h on many blocks at once. The
 * bits are the plain loops': this file is compiled without contraction. */
#include "core/philox.h"
#include "cpu/half.h"
#include "cpu/isa.h"
#include "ops/row.h"

enum { BLOCKS = 64, PIECE = 1 << 12, PARALLEL = 1 << 14 }; /* PIECE elements are whole BLOCKS */

/* Words of blocks index to index + BLOCKS - 1; w[k][i] is word k of block i. */
static void draw_words(uint32_t w[4][BLOCKS], uint64_t key, uint64_t index) {
    uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);
    for (int i = 0; i < BLOCKS; i++) {
        uint32_t v[4] = { (uint32_t)(index + (uint64_t)i), (uint32_t)((index + (uint64_t)i) >> 32),
                          0, 0 };
        philox_rounds(v, k0, k1);
        w[0][i] = v[0];
        w[1][i] = v[1];
        w[2][i] = v[2];
        w[3][i] = v[3];
    }
}

/* What a kernel draws, from where; `value` turns the words of BLOCKS blocks into floats. */
typedef struct drawing {
    uint64_t key, offset;
    int each; /* elements of a block */
    void (*value)(float *y, uint32_t w[4][BLOCKS], const float *x, const struct drawing *d);
    float scale;
    uint64_t below;
} drawing;

static void normals(float *y, uint32_t w[4][BLOCKS], const float *x, const drawing *d) {
    float part[4][BLOCKS];
    (void)x, (void)d;
    for (int k = 0; k < 4; k += 2)
        for (int i = 0; i < BLOCKS; i++) {
            double a, b;
            philox_box_muller(w[k][i], w[k + 1][i], &a, &b);
            part[k][i] = (float)a;
            part[k + 1][i] = (float)b;
        }
    for (int i = 0; i < BLOCKS; i++) {
        y[4 * i] = part[0][i];
        y[4 * i + 1] = part[1][i];
        y[4 * i + 2] = part[2][i];
        y[4 * i + 3] = part[3][i];
    }
}

/* The 24 high bits of each pair of words. */
static void uniforms(float *y, uint32_t w[4][BLOCKS], const float *x, const drawing *d) {
    (void)x, (void)d;
    for (int i = 0; i < BLOCKS; i++) {
        y[2 * i] = (float)(int32_t)(w[1][i] >> 8) * 0x1p-24f;
        y[2 * i + 1] = (float)(int32_t)(w[3][i] >> 8) * 0x1p-24f;
    }
}

/* The words as elements take them: block by block. */
static void in_order(uint32_t word[4 * BLOCKS], uint32_t w[4][BLOCKS]) {
    for (int i = 0; i < BLOCKS; i++) {
        word[4 * i] = w[0][i];
        word[4 * i + 1] = w[1][i];
        word[4 * i + 2] = w[2][i];
        word[4 * i + 3] = w[3][i];
    }
}

/* 0 where the word is below `below`, else x times scale. */
static void dropped(float *y, uint32_t w[4][BLOCKS], const float *x, const drawing *d) {
    uint32_t below = (uint32_t)d->below, word[4 * BLOCKS];
    const float scale = d->scale;
    in_order(word, w);
    for (int i = 0; i < 4 * BLOCKS; i++) {
        float kept = x[i] * scale;
        uint32_t bits; /* a choice between floats would branch */
        memcpy(&bits, &kept, 4);
        bits &= word[i] < below ? 0 : UINT32_MAX;
        memcpy(&y[i], &bits, 4);
    }
}

static void ones(float *y, uint32_t w[4][BLOCKS], const float *x, const drawing *d) {
    uint32_t below = (uint32_t)d->below, word[4 * BLOCKS];
    (void)x;
    in_order(word, w);
    for (int i = 0; i < 4 * BLOCKS; i++)
        y[i] = word[i] < below ? 1 : 0;
}

static void draw_piece(const drawing *d, float *y, const float *x, int64_t from, int64_t to) {
    uint32_t w[4][BLOCKS];
    int64_t step = (int64_t)BLOCKS * d->each;
    for (; from < to; from += step) {
        draw_words(w, d->key, d->offset + (uint64_t)(from / d->each));
        if (to - from >= step) {
            d->value(y + from, w, x ? x + from : NULL, d);
            continue;
        }
        float part_x[4 * BLOCKS] = { 0 }, part_y[4 * BLOCKS];
        size_t bytes = (size_t)(to - from) * sizeof *y;
        if (x)
            memcpy(part_x, x + from, bytes);
        d->value(part_y, w, part_x, d);
        memcpy(y + from, part_y, bytes);
    }
}

static int draw(const call *c, const drawing *d) {
    float *y = (float *)c->out[0]->data;
    const float *x = c->nin ? (const float *)c->in[0]->data : NULL;
    int64_t n = c->out[0]->numel, pieces = (n + PIECE - 1) / PIECE;
    int workers = n >= PARALLEL ? threads() : 1;
#pragma omp parallel for num_threads(workers) schedule(static) if (workers > 1)
    for (int64_t i = 0; i < pieces; i++)
        if (!interrupted())
            draw_piece(d, y, x, i * PIECE, i < pieces - 1 ? (i + 1) * PIECE : n);
    return interrupted() ? fail(VESTIGE_EINTERRUPTED, "interrupted") : VESTIGE_OK;
}

static int randn(const call *c) {
    return draw(c, &(drawing){ c->key, c->offset, 4, normals, 0, 0 });
}
static int uniform(const call *c) {
    return draw(c, &(drawing){ c->key, c->offset, 2, uniforms, 0, 0 });
}

/* How many words are below p 2^32; all of them do not fit 32 bits. */
static bool count_below(double p, uint64_t *below) {
    *below = (uint64_t)ceil(p * 0x1p32);
    return *below <= UINT32_MAX;
}

static int bernoulli(const call *c) {
    drawing d = { c->key, c->offset, 4, ones, 0, 0 };
    double p = option(c, "p");
    return isnan(p) || !count_below(p, &d.below) ? DECLINED : draw(c, &d);
}

static int drop(const call *c, uint64_t key, uint64_t offset) {
    double p = option(c, "p");
    drawing d = { key, offset, 4, dropped, (float)(1 / (1 - p)), 0 };
    return count_below(p, &d.below) ? draw(c, &d) : DECLINED;
}
static int dropout(const call *c) {
    return drop(c, c->key, c->offset);
}
static int dropout_replay(const call *c) {
    return drop(c, (uint64_t)option(c, "key_high") << 32 | (uint64_t)option(c, "key_low"),
                (uint64_t)option(c, "offset_high") << 32 | (uint64_t)option(c, "offset_low"));
}

IN_F32(dropout)
IN_F32(dropout_replay)

const kernel_row K(cpu_random)[] = {
    { "randn", VESTIGE_F32, randn },
    { "randn_like", VESTIGE_F32, randn },
    { "rand", VESTIGE_F32, uniform },
    { "rand_like", VESTIGE_F32, uniform },
    { "bernoulli", VESTIGE_F32, bernoulli },
    { "dropout", VESTIGE_F32, dropout },
    { "dropout", VESTIGE_BF16, dropout_bf16 },
    { "dropout_replay", VESTIGE_F32, dropout_replay },
    { "dropout_replay", VESTIGE_BF16, dropout_replay_bf16 },
    { 0 },
};
