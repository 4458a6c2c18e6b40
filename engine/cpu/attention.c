/* attention.c: attention and its gradient in f32, head by head; threads divide the heads, and a
 * head's sums run in one order, so the bits do not depend on how many threads there are.
 *
 * Everything is a product of tile.h, whose left operand is read through row pointers: heads that
 * lie side by side in packed rows are read where they are. Scores are made for a block of queries
 * at a time, in scratch memory that stays in the cache; nothing of queries x keys is kept.
 *
 * Forward, BQ queries against all keys that they see: scores = q k', exponentials, y = p v.
 * The gradient works on transposed scores, keys down and queries across: NR queries of them are
 * what a tile writes and also, as they lie, the packed right operand of dq' = k' ds. */
#include <math.h>
#include <omp.h>
#include "cpu/half.h"
#include "cpu/rows.h"
#include "cpu/scratch.h"
#include "cpu/tile.h"
#include "ops/attention.h"

enum {
    BQ = 2 * MR,        /* queries of a block, forward */
    BG = 64,            /* queries of a block of the gradient */
    PANELS = BG / NR,   /* of NR of them */
    BK = 16 * MR,       /* keys of one */
    PAD = 16,           /* floats that keep long rows off the same cache sets */
    PARALLEL = 1 << 17, /* multiplications from which a second thread pays */
};

/* One head, and its thread's memory. */
typedef struct job {
    const attention *a;
    const float *q, *k, *v, *g, *y;
    float *out, *lse, *dq, *dk, *dv;                /* out is y, forward */
    int64_t width_panels, value_panels, key_panels; /* of NR columns */
    int64_t row;            /* floats from a row of scores, or of kt, to the next */
    float *zero, *spare;    /* a row of zeros, a row for outputs that nobody reads */
    float *kp, *vp;         /* forward: k' scale and v, packed */
    float *scores;          /* (BQ, row) */
    float *kt;              /* the gradient: k' (width, row) */
    float *qc, *gc;         /* (PANELS, width or values, NR): the block's q scale and g, across */
    float *qr, *gr;         /* (width_ or value_panels, BG, NR): its q and g, down */
    float *p, *ds;          /* (PANELS, BK, NR): transposed */
    float *dqt;             /* (PANELS, width, NR) */
    float dot[BG], log[BG]; /* of each query: the sum of g y, and lse */
    int64_t sees[PANELS];   /* keys of the present key block that a panel sees, whole tiles */
} job;

static int64_t layout(job *j, const attention *a, bool backward, void *base) {
    struct scratch s = scratch_open(base);
    j->a = a;
    j->width_panels = ceil_div(a->width, NR);
    j->value_panels = ceil_div(a->values, NR);
    j->key_panels = ceil_div(a->keys, NR);
    j->row = j->key_panels * NR + PAD;
    int64_t widest = imax(imax(a->width, a->values), BK) + NR;
    j->zero = scratch_take(&s, widest * 4);
    j->spare = scratch_take(&s, widest * 4);
    if (s.base) {
        memset(j->zero, 0, (size_t)widest * 4);
        memset(j->spare, 0, (size_t)widest * 4);
    }
    if (!backward) {
        j->kp = scratch_take(&s, j->key_panels * a->width * NR * 4);
        j->vp = scratch_take(&s, j->value_panels * a->keys * NR * 4);
        j->scores = scratch_take(&s, BQ * j->row * 4);
        return scratch_bytes(&s);
    }
    j->kt = scratch_take(&s, a->width * j->row * 4);
    j->qc = scratch_take(&s, PANELS * a->width * NR * 4);
    j->gc = scratch_take(&s, PANELS * a->values * NR * 4);
    j->qr = scratch_take(&s, j->width_panels * BG * NR * 4);
    j->gr = scratch_take(&s, j->value_panels * BG * NR * 4);
    j->p = scratch_take(&s, PANELS * BK * NR * 4);
    j->ds = scratch_take(&s, PANELS * BK * NR * 4);
    j->dqt = scratch_take(&s, PANELS * a->width * NR * 4);
    return scratch_bytes(&s);
}

static float *floats_at(const attention *a, const heads *h, int64_t i) {
    return h->data ? (float *)h->data + head_at(a, h, i) : NULL;
}

static void open_head(job *j, int64_t i) {
    const attention *a = j->a;
    j->q = floats_at(a, &a->q, i), j->k = floats_at(a, &a->k, i), j->v = floats_at(a, &a->v, i);
    j->y = j->out = floats_at(a, &a->y, i), j->g = floats_at(a, &a->g, i);
    j->dq = floats_at(a, &a->dq, i), j->dk = floats_at(a, &a->dk, i);
    j->dv = floats_at(a, &a->dv, i);
    j->lse = (float *)a->lse->data + i * a->queries;
}

/* ---- Products of a block ---- */
/* The rows of a left operand from `from` on, and zeros beyond n up to whole tiles. */
static void point(const float **row, const float *from, int64_t step, int64_t n,
                  const float *zero) {
    for (int64_t i = 0; i < ceil_div(n, MR) * MR; i++)
        row[i] = i < n ? from + i * step : zero;
}

static void point_out(float **row, float *from, int64_t step, int64_t n, float *spare) {
    for (int64_t i = 0; i < ceil_div(n, MR) * MR; i++)
        row[i] = i < n ? from + i * step : spare;
}

/* n columns of out (rows) = what s adds up, with s.b at the first panel of NR columns and `step`
 * floats from one to the next; or added to out. */
static void multiply(struct tile_sum s, float *const *out, int64_t rows, int64_t n, int64_t step,
                     bool add) {
    const float *const *first = s.rows;
    for (int64_t j = 0; j < n; j += NR, s.b += step)
        for (int64_t i = 0; i < rows; i += MR) {
            s.rows = first + i;
            tile_run(&s, out + i, j, imin(NR, n - j), add, NULL);
        }
}

/* to (width, to_row) = from (n, from_row), n x width of it, turned: 4 x 4 at a time. */
static void turn(float *to, int64_t to_row, const float *from, int64_t from_row, int64_t n,
                 int64_t width) {
    typedef float v4 __attribute__((vector_size(16), may_alias, aligned(4)));
    typedef int32_t i4 __attribute__((vector_size(16)));
    const i4 low = { 0, 4, 1, 5 }, high = { 2, 6, 3, 7 }, first = { 0, 1, 4, 5 };
    const i4 second = { 2, 3, 6, 7 };
    int64_t whole = n & ~3, wide = width & ~3;
    for (int64_t i = 0; i < whole; i += 4)
        for (int64_t e = 0; e < wide; e += 4) {
            const float *x = from + i * from_row + e;
            v4 a = *(const v4 *)x, b = *(const v4 *)(x + from_row);
            v4 c = *(const v4 *)(x + 2 * from_row), d = *(const v4 *)(x + 3 * from_row);
            v4 ab = __builtin_shuffle(a, b, low), cd = __builtin_shuffle(c, d, low);
            v4 AB = __builtin_shuffle(a, b, high), CD = __builtin_shuffle(c, d, high);
            float *y = to + e * to_row + i;
            *(v4 *)y = __builtin_shuffle(ab, cd, first);
            *(v4 *)(y + to_row) = __builtin_shuffle(ab, cd, second);
            *(v4 *)(y + 2 * to_row) = __builtin_shuffle(AB, CD, first);
            *(v4 *)(y + 3 * to_row) = __builtin_shuffle(AB, CD, second);
        }
    for (int64_t i = 0; i < n; i++)
        for (int64_t e = i < whole ? wide : 0; e < width; e++)
            to[e * to_row + i] = from[i * from_row + e];
}

/* The panel (width, NR) of n rows, across; zeros beyond n. */
static void pack_across(float *panel, const float *from, int64_t row, int64_t n, int64_t width) {
    if (n < NR)
        memset(panel, 0, (size_t)(width * NR) * sizeof *panel);
    turn(panel, NR, from, row, n, width);
}

static void scale_by(float *x, int64_t n, float scale) {
    for (int64_t i = 0; i < n; i++)
        x[i] *= scale;
}

/* ---- Forward ---- */
/* s (n, whole vectors): the first `seen` scores become e^(score - most), the rest 0. Gives 1 /
 * their sum. */
static float exponentials(float *s, int64_t seen, int64_t n, float *lse) {
    for (int64_t i = seen; i < n; i++)
        s[i] = -__builtin_inff();
    vf most = vload(s), sum = { 0 };
    for (int64_t i = LANES; i < n; i += LANES)
        most = vmax(vload(s + i), most);
    float top = most[0];
    for (int k = 1; k < LANES; k++)
        top = most[k] > top ? most[k] : top;
    for (int64_t i = 0; i < n; i += LANES) {
        vf e = vexp_low(vload(s + i) - top);
        sum += e;
        vstore(s + i, e);
    }
    float total = add_lanes(sum);
    *lse = top + logf(total);
    return 1 / total;
}

static void forward_block(job *j, int64_t q0) {
    const attention *a = j->a;
    const float *row[BQ];
    float *scores[BQ], *y[BQ];
    int64_t queries = imin(BQ, a->queries - q0), keys = keys_seen(a, q0 + queries - 1);
    int64_t whole = ceil_div(keys, NR) * NR;
    point(row, j->q + q0 * a->q.row, a->q.row, queries, j->zero);
    point_out(scores, j->scores, j->row, BQ, NULL);
    multiply((struct tile_sum){ .rows = row, .b = j->kp, .len = a->width, .count = 1 }, scores,
             queries, whole, a->width * NR, false);
    float inverse[BQ];
    for (int64_t i = 0; i < queries; i++)
        inverse[i] = exponentials(scores[i], keys_seen(a, q0 + i), whole, &j->lse[q0 + i]);
    point(row, j->scores, j->row, BQ, NULL);
    point_out(y, j->out + q0 * a->y.row, a->y.row, queries, j->spare);
    multiply((struct tile_sum){ .rows = row, .b = j->vp, .len = keys, .count = 1 }, y, queries,
             a->values, a->keys * NR, false);
    for (int64_t i = 0; i < queries; i++)
        scale_by(y[i], a->values, inverse[i]);
}

static void forward(job *j) {
    const attention *a = j->a;
    for (int64_t p = 0; p < j->key_panels; p++)
        pack_across(j->kp + p * a->width * NR, j->k + p * NR * a->k.row, a->k.row,
                    imin(NR, a->keys - p * NR), a->width);
    scale_by(j->kp, j->key_panels * a->width * NR, (float)a->scale);
    for (int64_t p = 0; p < j->value_panels; p++)
        pack_rows(j->vp + p * a->keys * NR, j->v + p * NR, a->v.row, a->keys,
                  imin(NR, a->values - p * NR));
    for (int64_t q0 = 0; q0 < a->queries && !interrupted(); q0 += BQ)
        forward_block(j, q0);
}

/* ---- The gradient ---- */
/* The block's n rows of x, across (each panel scaled) and, where somebody needs them, down. */
static void pack_queries(float *across, float *down, const float *x, int64_t row, int64_t n,
                         int64_t width, float scale) {
    for (int64_t i = 0, t = 0; i < n; i += NR, t++)
        pack_across(across + t * width * NR, x + i * row, row, imin(NR, n - i), width);
    if (scale != 1)
        scale_by(across, ceil_div(n, NR) * width * NR, scale);
    for (int64_t e = 0; down && e < width; e += NR, down += BG * NR) {
        pack_rows(down, x + e, row, n, imin(NR, width - e));
        memset(down + n * NR, 0, (size_t)((BG - n) * NR) * sizeof *down);
    }
}

/* Scores of panel t become p, and dp becomes ds, for `keys` keys from k0 on; q0: the panel's first
 * query. */
static void bend(job *j, int64_t t, int64_t q0, int64_t k0, int64_t keys) {
    vi lane = { 0 };
    for (int i = 0; i < LANES; i++)
        lane[i] = i;
    const float scale = (float)j->a->scale;
    const float *dot = j->dot + t * NR, *log = j->log + t * NR;
    float *p = j->p + t * BK * NR, *ds = j->ds + t * BK * NR;
    for (int64_t i = 0; i < keys; i++, p += NR, ds += NR) {
        int32_t unseen = j->a->causal ? (int32_t)imin(imax(k0 + i - q0, 0), NR) : 0;
        for (int v = 0; v < NR; v += LANES) {
            vf e = vexp_low(vload(p + v) - vload(log + v));
            e = (vf)((vi)e & (lane + v >= unseen)); /* queries before the key */
            vstore(p + v, e);
            vstore(ds + v, e * (vload(ds + v) - vload(dot + v)) * scale);
        }
    }
}

/* dx (keys from k0 on, width) += the transposed block b times the queries' rows, down. */
static void add_keys(const job *j, float *dx, int64_t row, const float *b, const float *down,
                     int64_t panels, int64_t width) {
    const float *rows[PANELS * BK];
    float *out[BK];
    int64_t keys = j->sees[panels - 1];
    for (int64_t t = 0; t < panels; t++)
        point(rows + t * BK, b + t * BK * NR, NR, keys, j->zero);
    point_out(out, dx, row, keys, j->spare);
    int64_t t = 0; /* the first panel that sees key i */
    for (int64_t i = 0; i < keys; i += MR) {
        while (j->sees[t] <= i)
            t++;
        struct tile_sum s = { .rows = rows + t * BK + i,
                              .row_step = BK,
                              .b = down + t * NR * NR,
                              .b_step = NR * NR,
                              .len = NR,
                              .count = (int)(panels - t) };
        for (int64_t e = 0; e < width; e += NR, s.b += BG * NR)
            tile_run(&s, out + i, e, imin(NR, width - e), true, NULL);
    }
}

/* dq' (width, queries) of each panel += k' ds, for the keys from k0 on that it sees. */
static void add_queries(const job *j, int64_t panels, int64_t k0) {
    int64_t width = j->a->width;
    for (int64_t e = 0; e < width; e += MR) {
        const float *row[MR];
        float *out[MR];
        int64_t n = imin(MR, width - e);
        point(row, j->kt + e * j->row + k0, j->row, n, j->zero);
        for (int64_t t = 0; t < panels; t++) {
            struct tile_sum s = {
                .rows = row, .b = j->ds + t * BK * NR, .len = j->sees[t], .count = 1
            };
            point_out(out, j->dqt + (t * width + e) * NR, NR, n, j->spare);
            if (s.len)
                tile_run(&s, out, 0, NR, k0 > 0, NULL);
        }
    }
}

/* How many of `keys` keys from k0 on the last of the panel's queries sees. */
static int64_t sees(const attention *a, int64_t q0, int64_t k0, int64_t keys) {
    int64_t n = keys_seen(a, q0 + NR - 1) - k0;
    return n > 0 ? imin(ceil_div(n, MR) * MR, keys) : 0;
}

/* The transposed products x q' of the keys' rows with panel t of the queries. */
static void transposed(const job *j, float *to, const float *const *x, const float *across,
                       int64_t t, int64_t width) {
    float *out[BK];
    point_out(out, to + t * BK * NR, NR, BK, NULL);
    multiply((struct tile_sum){ .rows = x, .b = across + t * width * NR, .len = width, .count = 1 },
             out, j->sees[t], NR, 0, false);
}

/* `panels` panels of queries from q0 on with `keys` keys from k0 on. */
static void key_block(job *j, int64_t q0, int64_t panels, int64_t k0, int64_t keys) {
    const attention *a = j->a;
    const float *k[BK], *v[BK];
    point(k, j->k + k0 * a->k.row, a->k.row, keys, j->zero);
    point(v, j->v + k0 * a->v.row, a->v.row, keys, j->zero);
    for (int64_t t = 0; t < panels; t++) {
        j->sees[t] = sees(a, q0 + t * NR, k0, keys);
        transposed(j, j->p, k, j->qc, t, a->width);
        transposed(j, j->ds, v, j->gc, t, a->values);
        bend(j, t, q0 + t * NR, k0, j->sees[t]);
    }
    if (j->dv)
        add_keys(j, j->dv + k0 * a->dv.row, a->dv.row, j->p, j->gr, panels, a->values);
    if (j->dk)
        add_keys(j, j->dk + k0 * a->dk.row, a->dk.row, j->ds, j->qr, panels, a->width);
    if (j->dq)
        add_queries(j, panels, k0);
}

/* BG queries from q0 on. */
static void backward_block(job *j, int64_t q0) {
    const attention *a = j->a;
    int64_t n = imin(BG, a->queries - q0), panels = ceil_div(n, NR);
    int64_t keys = keys_seen(a, q0 + n - 1);
    const float *q = j->q + q0 * a->q.row, *g = j->g + q0 * a->g.row, *y = j->y + q0 * a->y.row;
    pack_queries(j->qc, j->dk ? j->qr : NULL, q, a->q.row, n, a->width, (float)a->scale);
    pack_queries(j->gc, j->dv ? j->gr : NULL, g, a->g.row, n, a->values, 1);
    for (int64_t i = 0; i < panels * NR; i++) {
        j->dot[i] = i < n ? row_sum(g + i * a->g.row, y + i * a->y.row, a->values) : 0;
        j->log[i] = i < n ? j->lse[q0 + i] : __builtin_inff(); /* p is 0 */
    }
    for (int64_t k0 = 0; k0 < keys; k0 += BK)
        key_block(j, q0, panels, k0, imin(BK, keys - k0));
    for (int64_t t = 0; j->dq && t < panels; t++)
        turn(j->dq + (q0 + t * NR) * a->dq.row, a->dq.row, j->dqt + t * a->width * NR, NR, a->width,
             imin(NR, n - t * NR));
}

static void clear_rows(float *x, int64_t row, int64_t n, int64_t width) {
    for (int64_t i = 0; x && i < n; i++)
        memset(x + i * row, 0, (size_t)width * sizeof *x);
}

static void backward(job *j) {
    const attention *a = j->a;
    clear_rows(j->dk, a->dk.row, a->keys, a->width);
    clear_rows(j->dv, a->dv.row, a->keys, a->values);
    if (j->dq)
        turn(j->kt, j->row, j->k, a->k.row, a->keys, a->width);
    for (int64_t q0 = 0; q0 < a->queries && !interrupted(); q0 += BG)
        backward_block(j, q0);
}

/* ---- All heads ---- */
static int each_head(const attention *a, bool gradient) {
    job j;
    int64_t each = layout(&j, a, gradient, NULL);
    int64_t work = a->count * a->queries * a->keys * (a->width + a->values);
    int workers = work < PARALLEL ? 1 : (int)imin(threads(), a->count);
    void *scratch;
    TRY(alloc_scratch(&scratch, each * workers));
#pragma omp parallel private(j) num_threads(workers)
    {
        layout(&j, a, gradient, (char *)scratch + omp_get_thread_num() * each);
#pragma omp for schedule(dynamic)
        for (int64_t i = 0; i < a->count; i++)
            if (!interrupted()) {
                open_head(&j, i);
                (gradient ? backward : forward)(&j);
            }
    }
    free_scratch(scratch, each * workers);
    return interrupted() ? fail(VESTIGE_EINTERRUPTED, "interrupted") : VESTIGE_OK;
}

static int run(const call *c, bool gradient) {
    for (int i = 0; i < c->nin; i++)
        if (c->in[i]->dtype != VESTIGE_F32)
            return DECLINED;
    const attention a = attention_of(c);
    if (a.count * a.queries * a.keys * a.width * a.values == 0)
        return DECLINED;
    return each_head(&a, gradient);
}

static int attention_forward(const call *c) {
    return run(c, false);
}
static int attention_backward(const call *c) {
    return run(c, true);
}

/* ---- causal_fill ---- */
static int causal_fill(const call *c) {
    const tensor *x = c->in[0];
    int64_t queries = x->dim[x->ndim - 2], keys = x->dim[x->ndim - 1];
    int64_t rows = keys ? x->numel / keys : 0;
    const float *from = (const float *)x->data;
    float *to = (float *)c->out[0]->data, value = (float)option(c, "value");
    int parts = x->numel < PARALLEL ? 1 : threads();
#pragma omp parallel for num_threads(parts) schedule(static)
    for (int64_t i = 0; i < rows; i++) {
        int64_t seen = imin(i % queries + 1, keys);
        memcpy(to + i * keys, from + i * keys, (size_t)seen * sizeof *to);
        for (int64_t k = seen; k < keys; k++)
            to[i * keys + k] = value;
    }
    return VESTIGE_OK;
}

IN_F32(attention_forward)
IN_F32(attention_backward)
IN_F32(causal_fill)

const kernel_row K(cpu_attention)[] = {
    { "attention", VESTIGE_F32, attention_forward },
    { "attention", VESTIGE_BF16, attention_forward_bf16 },
    { "attention_qkv", VESTIGE_F32, attention_forward },
    { "attention_qkv", VESTIGE_BF16, attention_forward_bf16 },
    { "attention_backward", VESTIGE_F32, attention_backward },
    { "attention_backward", VESTIGE_BF16, attention_backward_bf16 },
    { "attention_qkv_backward", VESTIGE_F32, attention_backward },
    { "attention_qkv_backward", VESTIGE_BF16, attention_backward_bf16 },
    { "causal_fill", VESTIGE_F32, causal_fill },
    { "causal_fill", VESTIGE_BF16, causal_fill_bf16 },
    { 0 },
};
