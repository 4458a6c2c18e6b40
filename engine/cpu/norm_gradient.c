/* norm_gradient.c: the gradients of batch_norm: the sums over the rows and the apply pass, through
 * the bits that relu left; norm.h says how. */
#include "cpu/norm.h"

/* Those of g from i on, a multiple of TWO, that have their bit, where there are bits. */
ALWAYS_INLINE two load_gradient(const plan *p, int64_t i, const bool half) {
    two g = load_two(p->g, i, half);
    uint32_t bits = 0;
    if (!p->mask)
        return g;
    memcpy(&bits, p->mask + i / 8, TWO / 8);
    return where_bits(g, bits, half);
}

ALWAYS_INLINE float gradient_at(const plan *p, int64_t i, const bool half) {
    return p->mask && !(p->mask[i / 8] >> i % 8 & 1) ? 0 : element(p->g, i, half);
}

/* ---- Sums of g and g (x - mean) ---- */
/* plain (width) += g, scaled (width) += g (x - mean) */
ALWAYS_INLINE void add_products(const plan *p, float *plain, float *scaled, int64_t at, int64_t end,
                                const bool half) {
    const float *mean = p->wide[0];
    const int64_t w = p->width;
    for (; at + 2 * w <= end; at += 2 * w)
        for (int64_t j = 0; j < w; j += TWO) {
            two g = load_gradient(p, at + j, half), x = load_two(p->x, at + j, half);
            two h = load_gradient(p, at + j + w, half), y = load_two(p->x, at + j + w, half);
            two m = load_two(mean, j, false);
            add_two(plain, j, (two){ g.a + h.a, g.b + h.b });
            add_two(scaled, j,
                    (two){ g.a * (x.a - m.a) + h.a * (y.a - m.a),
                           g.b * (x.b - m.b) + h.b * (y.b - m.b) });
        }
    for (; at < end; at += w) {
        int64_t n = least(w, end - at), j = 0;
        for (; j + TWO <= n; j += TWO) {
            two g = load_gradient(p, at + j, half), x = load_two(p->x, at + j, half);
            two m = load_two(mean, j, false);
            add_two(plain, j, g);
            add_two(scaled, j, (two){ g.a * (x.a - m.a), g.b * (x.b - m.b) });
        }
        for (; j < n; j++) {
            int64_t k = place(p, j, half);
            float g = gradient_at(p, at + j, half);
            plain[k] += g;
            scaled[k] += g * (element(p->x, at + j, half) - mean[k]);
        }
    }
}

static void piece_sums(const plan *p, int64_t i, float *own) {
    float *partial = p->partial + i * 2 * p->channels;
    int64_t at = i * p->piece, end = at + piece_size(p, i), w = p->width;
    memset(own, 0, (size_t)(2 * w) * sizeof *own);
    if (p->half)
        add_products(p, own, own + w, at, end, true);
    else
        add_products(p, own, own + w, at, end, false);
    fold(p, partial, own);
    fold(p, partial + p->channels, own + w);
}

static const uint8_t *bits(const tensor *t) {
    return t ? (const uint8_t *)t->data : NULL;
}

static int sums(const call *c) {
    const tensor *x = c->in[1];
    if (!types_fit(c) || x->numel == 0)
        return DECLINED;
    const float *invstd = floats(c->in[3]);
    float *dw = (float *)c->out[0]->data, *db = (float *)c->out[1]->data;
    plan p;
    TRY(plan_open(&p, x, true));
    p.g = c->in[0]->data;
    p.x = x->data;
    p.mask = bits(c->in[4]);
    repeat(&p, p.wide[0], floats(c->in[2]));
    each_piece(&p, piece_sums);
    for (int64_t k = 0; k < p.channels; k++) {
        double plain = 0, scaled = 0;
        for (int64_t i = 0; i < p.pieces; i++) {
            plain += p.partial[i * 2 * p.channels + k];
            scaled += p.partial[(i * 2 + 1) * p.channels + k];
        }
        dw[k] = (float)(scaled * invstd[k]);
        db[k] = (float)plain;
    }
    plan_close(&p);
    return VESTIGE_OK;
}

/* dx = scale (g - shift - (x - mean) slope) */
ALWAYS_INLINE void input_rows(const plan *p, int64_t at, int64_t end, const bool half,
                              const bool past) {
    const float *mean = p->wide[0], *scale = p->wide[1], *shift = p->wide[2], *slope = p->wide[3];
    for (const int64_t w = p->width; at < end; at += w) {
        int64_t n = least(w, end - at), j = 0;
        for (; j + TWO <= n; j += TWO) {
            two g = load_gradient(p, at + j, half), x = load_two(p->x, at + j, half);
            two m = load_two(mean, j, false), s = load_two(scale, j, false);
            two t = load_two(shift, j, false), u = load_two(slope, j, false);
            g.a = s.a * ((g.a - t.a) - (x.a - m.a) * u.a);
            g.b = s.b * ((g.b - t.b) - (x.b - m.b) * u.b);
            store_two(p->y, at + j, g, half, past);
        }
        for (; j < n; j++) {
            int64_t k = place(p, j, half);
            float x = element(p->x, at + j, half) - mean[k], g = gradient_at(p, at + j, half);
            set_element(p->y, at + j, scale[k] * ((g - shift[k]) - x * slope[k]), half);
        }
    }
}

TILE_OF(tile_input, input_rows)

/* In evaluation dx = scale g. */
ALWAYS_INLINE void scale_rows(const plan *p, int64_t at, int64_t end, const bool half,
                              const bool past) {
    const float *scale = p->wide[1];
    for (const int64_t w = p->width; at < end; at += w) {
        int64_t n = least(w, end - at), j = 0;
        for (; j + TWO <= n; j += TWO) {
            two g = load_gradient(p, at + j, half), s = load_two(scale, j, false);
            store_two(p->y, at + j, (two){ s.a * g.a, s.b * g.b }, half, past);
        }
        for (; j < n; j++)
            set_element(p->y, at + j, scale[place(p, j, half)] * gradient_at(p, at + j, half),
                        half);
    }
}

TILE_OF(tile_scale, scale_rows)

static int input(const call *c) {
    const tensor *g = c->in[0], *x = c->in[1];
    if (!types_fit(c) || g->numel == 0)
        return DECLINED;
    const float *weight = floats(c->in[2]), *invstd = floats(c->in[4]);
    const float *dw = floats(c->in[5]), *db = floats(c->in[6]);
    plan p;
    TRY(plan_open(&p, g, false));
    p.g = g->data;
    p.x = x ? x->data : NULL;
    p.y = c->out[0]->data;
    p.mask = bits(c->in[7]);
    FILL(&p, p.wide[1], weight ? invstd[i] * weight[i] : invstd[i]);
    if (option(c, "training") != 0) {
        float rows = (float)(p.n / p.channels);
        repeat(&p, p.wide[0], floats(c->in[3]));
        FILL(&p, p.wide[2], db[i] / rows);
        FILL(&p, p.wide[3], invstd[i] * dw[i] / rows);
        each_tile(&p, tile_input);
    } else {
        each_tile(&p, tile_scale);
    }
    plan_close(&p);
    return VESTIGE_OK;
}

/* ---- g where a bit is set ---- */
static void masked_floats(float *y, const float *g, const uint8_t *mask, int64_t n) {
    int64_t i = 0;
    for (; i + 16 <= n; i += 16) {
        unsigned bits = mask[i / 8] | (unsigned)mask[i / 8 + 1] << 8;
#pragma GCC unroll 4
        for (int l = 0; l < 16; l += LANES)
            vstore(y + i + l, (vf)((vi)vload(g + i + l) & lanes_of_bits(bits >> l)));
    }
    for (; i < n; i++)
        y[i] = mask[i / 8] >> i % 8 & 1 ? g[i] : 0;
}

static void masked_halves(uint16_t *y, const uint16_t *g, const uint8_t *mask, int64_t n) {
    typedef uint16_t halves __attribute__((vector_size(32), may_alias, aligned(2)));
    halves lane = { 0 };
    int64_t i = 0;
    for (int l = 0; l < 16; l++)
        lane[l] = (uint16_t)(1 << l);
    for (; i + 16 <= n; i += 16) {
        const uint16_t bits = (uint16_t)(mask[i / 8] | mask[i / 8 + 1] << 8);
        *(halves *)(y + i) = *(const halves *)(g + i) & (halves)((lane & bits) == lane);
    }
    for (; i < n; i++)
        y[i] = mask[i / 8] >> i % 8 & 1 ? g[i] : 0;
}

static int masked(const call *c) {
    const tensor *g = c->in[0];
    const uint8_t *mask = (const uint8_t *)c->in[1]->data;
    char *y = c->out[0]->data;
    int64_t size = c->type == VESTIGE_BF16 ? 2 : 4, pieces = (g->numel + PIECE - 1) / PIECE;
#pragma omp parallel for num_threads(g->numel < PARALLEL ? 1 : threads())
    for (int64_t i = 0; i < pieces; i++) {
        int64_t at = i * PIECE, n = g->numel - at < PIECE ? g->numel - at : PIECE;
        if (size == 2)
            masked_halves((uint16_t *)(y + at * 2), (const uint16_t *)(g->data + at * 2),
                          mask + at / 8, n);
        else
            masked_floats((float *)(y + at * 4), (const float *)(g->data + at * 4), mask + at / 8,
                          n);
    }
    return VESTIGE_OK;
}

const kernel_row K(cpu_norm_gradient)[] = {
    { "masked_by_bits", VESTIGE_F32, masked },
    { "masked_by_bits", VESTIGE_BF16, masked },
    { "batch_norm_sums", VESTIGE_F32, sums },
    { "batch_norm_sums", VESTIGE_BF16, sums },
    { "batch_norm_input", VESTIGE_F32, input },
    { "batch_norm_input", VESTIGE_BF16, input },
    { 0 },
};
