/* The definition of attention and of its gradient, for heads apart and packed. */
#include "ops/attention.h"
#include "ref/ref.h"

/* Element j of row t of head i. */
#define AT(h, type, i, t, j) get((h).data, type, head_at(a, &(h), i) + (t) * (h).row + (j))
#define SET(h, type, i, t, j, x) put((h).data, type, head_at(a, &(h), i) + (t) * (h).row + (j), x)

ALWAYS_INLINE double score(const attention *a, int t, int64_t i, int64_t query, int64_t key) {
    double s = 0;
    for (int64_t e = 0; e < a->width; e++)
        s += AT(a->q, t, i, query, e) * AT(a->k, t, i, key, e);
    return s * a->scale;
}

/* p (keys): e^(score - largest). Gives their sum; *most: the largest score. */
ALWAYS_INLINE double exponentials(const attention *a, int t, int64_t i, int64_t query, double *p,
                                  double *most) {
    int64_t n = keys_seen(a, query);
    double sum = 0;
    *most = -INFINITY;
    for (int64_t k = 0; k < n; k++) {
        p[k] = score(a, t, i, query, k);
        if (p[k] > *most || p[k] != p[k])
            *most = p[k];
    }
    for (int64_t k = 0; k < n; k++)
        sum += p[k] = exp(p[k] - *most);
    return sum;
}

ALWAYS_INLINE int attention_any(const call *c, int t) {
    const attention all = attention_of(c), *a = &all;
    void *scratch;
    TRY(alloc_scratch(&scratch, a->keys * 8));
    double *p = scratch;
    for (int64_t i = 0; i < a->count; i++)
        for (int64_t query = 0; query < a->queries; query++) {
            double most, sum = exponentials(a, t, i, query, p, &most);
            put(a->lse->data, a->lse->dtype, i * a->queries + query, most + log(sum));
            for (int64_t e = 0; e < a->values; e++) {
                double y = 0;
                for (int64_t k = 0; k < keys_seen(a, query); k++)
                    y += p[k] * AT(a->v, t, i, k, e);
                SET(a->y, t, i, query, e, sum > 0 || sum != sum ? y / sum : 0); /* 0: no keys */
            }
        }
    free_scratch(scratch, a->keys * 8);
    return VESTIGE_OK;
}

/* What a head's gradients are summed in. */
typedef struct sums {
    double *dq, *dk, *dv; /* (width), (keys, width), (keys, values) */
} sums;

/* Adds what one query gives to dk and dv; dq becomes its own. */
ALWAYS_INLINE void add_query(const attention *a, int t, int64_t i, int64_t query, sums s) {
    double lse = get(a->lse->data, a->lse->dtype, i * a->queries + query), dot = 0;
    for (int64_t e = 0; e < a->values; e++)
        dot += AT(a->g, t, i, query, e) * AT(a->y, t, i, query, e);
    memset(s.dq, 0, (size_t)a->width * sizeof *s.dq);
    for (int64_t k = 0; k < keys_seen(a, query); k++) {
        double p = exp(score(a, t, i, query, k) - lse), dp = 0;
        for (int64_t e = 0; e < a->values; e++) {
            dp += AT(a->g, t, i, query, e) * AT(a->v, t, i, k, e);
            s.dv[k * a->values + e] += p * AT(a->g, t, i, query, e);
        }
        double ds = p * (dp - dot) * a->scale;
        for (int64_t e = 0; e < a->width; e++) {
            s.dq[e] += ds * AT(a->k, t, i, k, e);
            s.dk[k * a->width + e] += ds * AT(a->q, t, i, query, e);
        }
    }
}

ALWAYS_INLINE int backward_any(const call *c, int t) {
    const attention all = attention_of(c), *a = &all;
    int64_t count = a->width + a->keys * (a->width + a->values), bytes = count * 8;
    void *scratch;
    TRY(alloc_scratch(&scratch, bytes));
    sums s = { .dq = scratch };
    s.dk = s.dq + a->width;
    s.dv = s.dk + a->keys * a->width;
    for (int64_t i = 0; i < a->count; i++) {
        memset(scratch, 0, (size_t)bytes);
        for (int64_t query = 0; query < a->queries; query++) {
            add_query(a, t, i, query, s);
            for (int64_t e = 0; e < a->width && a->dq.data; e++)
                SET(a->dq, t, i, query, e, s.dq[e]);
        }
        for (int64_t k = 0; k < a->keys; k++) {
            for (int64_t e = 0; e < a->width && a->dk.data; e++)
                SET(a->dk, t, i, k, e, s.dk[k * a->width + e]);
            for (int64_t e = 0; e < a->values && a->dv.data; e++)
                SET(a->dv, t, i, k, e, s.dv[k * a->values + e]);
        }
    }
    free_scratch(scratch, bytes);
    return VESTIGE_OK;
}

ALWAYS_INLINE int causal_fill(const call *c, int t) {
    T x = c->in[0], y = c->out[0];
    int64_t queries = x->dim[x->ndim - 2], keys = x->dim[x->ndim - 1];
    double value = option(c, "value");
    for (int64_t i = 0; i < x->numel; i++)
        put(y->data, t, i, i % keys > i / keys % queries ? value : get(x->data, t, i));
    return VESTIGE_OK;
}

REF_FLOAT(attention_any)
REF_FLOAT(backward_any)
REF_FLOAT(causal_fill)

const kernel_row ref_attention[] = {
    ROWS_FLOAT("attention", attention_any),
    ROWS_FLOAT("attention_qkv", attention_any),
    ROWS_FLOAT("attention_backward", backward_any),
    ROWS_FLOAT("attention_qkv_backward", backward_any),
    ROWS_FLOAT("causal_fill", causal_fill),
    { 0 },
};
