/* attention.c: softmax(scale q k') v for the heads of a transformer, without mask or dropout (with
 * them it is made of matmul, softmax and their kin, see composites.lua), and the same for heads
 * packed side by side, as one product gives them.
 *
 * With p = softmax(scale q k'), g the gradient of y = p v, and dp = g v':
 *   dv = p' g,  ds = p (dp - sum(dp p)),  dq = scale ds k,  dk = scale ds' q
 * The first order runs fused: p is made again, a block at a time, from q, k and the saved logarithm
 * of its denominators. Where a further derivative may follow, the formulas run in operators. */
#include "ops/attention.h"
#include "ops/rules.h"

enum { DQ = 1, DK = 2, DV = 4 }; /* what attention_backward is asked for */

/* ---- Where the heads lie ---- */
/* One after the other: t is (..., rows, width). */
static heads apart(const tensor *t) {
    int64_t row = t->dim[t->ndim - 1];
    return (heads){ t->data, t->dim[t->ndim - 2] * row, 0, row };
}

/* Side by side: row t of a sample holds `parts` runs of heads; this is run number `part`. */
static heads beside(const tensor *t, int64_t width, int parts, int part) {
    int64_t row = t->dim[2], from = row / parts * part;
    return (heads){ t->data + from * dtype_size(t->dtype), t->dim[1] * row, width, row };
}

static attention apart_of(const call *c, int first) {
    const tensor *q = c->in[first], *k = c->in[first + 1], *v = c->in[first + 2];
    return (attention){ .count = product(q->ndim - 2, q->dim),
                        .per_sample = 1,
                        .queries = q->dim[q->ndim - 2],
                        .keys = k->dim[k->ndim - 2],
                        .width = q->dim[q->ndim - 1],
                        .values = v->dim[v->ndim - 1],
                        .q = apart(q),
                        .k = apart(k),
                        .v = apart(v) };
}

static attention beside_of(const call *c, int i) {
    const tensor *qkv = c->in[i];
    int64_t n = (int64_t)option(c, "heads"), width = qkv->dim[2] / 3 / n;
    return (attention){ .count = qkv->dim[0] * n,
                        .per_sample = n,
                        .queries = qkv->dim[1],
                        .keys = qkv->dim[1],
                        .width = width,
                        .values = width,
                        .q = beside(qkv, width, 3, 0),
                        .k = beside(qkv, width, 3, 1),
                        .v = beside(qkv, width, 3, 2) };
}

/* Output k, the gradient of what lies as h, if it is asked for. */
static heads gradient(const call *c, int k, heads h, bool asked) {
    h.data = asked ? c->out[k]->data : NULL;
    return h;
}

attention attention_of(const call *c) {
    attention a;
    if (c->op == OPID(attention)) {
        a = apart_of(c, 0);
        a.y = apart(c->out[0]);
        a.lse = c->out[1];
    } else if (c->op == OPID(attention_qkv)) {
        a = beside_of(c, 0);
        a.y = beside(c->out[0], a.width, 1, 0);
        a.lse = c->out[1];
    } else if (c->op == OPID(attention_backward)) {
        int parts = (int)option(c, "parts");
        a = apart_of(c, 1);
        a.g = apart(c->in[0]);
        a.y = apart(c->in[4]);
        a.lse = c->in[5];
        a.dq = gradient(c, 0, a.q, parts & DQ);
        a.dk = gradient(c, 1, a.k, parts & DK);
        a.dv = gradient(c, 2, a.v, parts & DV);
    } else {
        a = beside_of(c, 1);
        a.g = beside(c->in[0], a.width, 1, 0);
        a.y = beside(c->in[2], a.width, 1, 0);
        a.lse = c->in[3];
        a.dq = beside(c->out[0], a.width, 3, 0);
        a.dk = beside(c->out[0], a.width, 3, 1);
        a.dv = beside(c->out[0], a.width, 3, 2);
    }
    double scale = option(c, "scale");
    a.causal = option(c, "is_causal") != 0;
    a.scale = isnan(scale) ? 1 / sqrt((double)a.width) : scale;
    return a;
}

/* ---- Shapes ---- */
/* The logarithms are not kept in bf16. */
static int statistics_type(int dtype) {
    return dtype == VESTIGE_BF16 ? VESTIGE_F32 : dtype;
}

/* Inputs first, first + 1 and first + 2 are q, k and v. */
static int check_apart(const call *c, int first) {
    const tensor *q = c->in[first], *k = c->in[first + 1], *v = c->in[first + 2];
    int n = q->ndim;
    bool fits = n >= 2 && k->ndim == n && v->ndim == n;
    for (int d = 0; fits && d < n - 2; d++)
        fits = q->dim[d] == k->dim[d] && q->dim[d] == v->dim[d];
    if (fits && q->dim[n - 1] == k->dim[n - 1] && k->dim[n - 2] == v->dim[n - 2])
        return VESTIGE_OK;
    return fail(VESTIGE_ESHAPE,
                "%s: expected q (...,L,E), k (...,S,E), v (...,S,Ev) of equal leading dimensions, "
                "got %s, %s, %s",
                opname(c), describe(q), describe(k), describe(v));
}

static int check_beside(const call *c, int i) {
    const tensor *qkv = c->in[i];
    double n = option(c, "heads");
    if (n < 1)
        return fail(VESTIGE_EVALUE, "%s: heads: expected 1 or more, got %g", opname(c), n);
    if (qkv->ndim != 3 || qkv->dim[2] % (3 * (int64_t)n) != 0)
        return fail(VESTIGE_ESHAPE, "%s: qkv: expected (B,T,3*heads*width) with %lld heads, got %s",
                    opname(c), (long long)n, describe(qkv));
    return VESTIGE_OK;
}

static int infer_attention(call *c) {
    TRY(check_apart(c, 0));
    TRY(promote(c));
    const tensor *q = c->in[0];
    shape_like(c, 0, q);
    c->shape[0].dim[q->ndim - 1] = c->in[2]->dim[q->ndim - 1];
    shape_set(c, 1, statistics_type(c->type), q->ndim - 1, q->dim);
    return VESTIGE_OK;
}

static int infer_qkv(call *c) {
    TRY(check_beside(c, 0));
    const tensor *qkv = c->in[0];
    int64_t n = (int64_t)option(c, "heads");
    c->type = qkv->dtype;
    shape_set(c, 0, qkv->dtype, 3, (int64_t[]){ qkv->dim[0], qkv->dim[1], qkv->dim[2] / 3 });
    shape_set(c, 1, statistics_type(c->type), 3, (int64_t[]){ qkv->dim[0], n, qkv->dim[1] });
    return VESTIGE_OK;
}

/* Parts that nobody asks for are left empty. */
static int infer_attention_backward(call *c) {
    const int64_t none = 0;
    TRY(check_apart(c, 1));
    c->type = c->in[1]->dtype;
    TRY(cast_input(c, 0, c->type));
    int parts = (int)option(c, "parts");
    for (int k = 0; k < 3; k++)
        if (parts & 1 << k)
            shape_like(c, k, c->in[k + 1]);
        else
            shape_set(c, k, c->type, 1, &none);
    return VESTIGE_OK;
}

static int infer_qkv_backward(call *c) {
    TRY(check_beside(c, 1));
    c->type = c->in[1]->dtype;
    TRY(cast_input(c, 0, c->type));
    shape_like(c, 0, c->in[1]);
    return VESTIGE_OK;
}

/* Of one multiplication for each pair of query and key that see each other, in all heads. */
static double pair_flops(const call *c, attention a) {
    double q = (double)a.queries, k = (double)a.keys, both = q < k ? q : k;
    double pairs = option(c, "is_causal") == 0 ? q * k : both * (both + 1) / 2 + (q - both) * k;
    return 2.0 * (double)a.count * pairs;
}

static double flops(const call *c) {
    attention a = c->op == OPID(attention) ? apart_of(c, 0) : beside_of(c, 0);
    return pair_flops(c, a) * (double)(a.width + a.values);
}

/* Scores again, dp, dv, dq, dk. */
static double flops_backward(const call *c) {
    attention a = c->op == OPID(attention_backward) ? apart_of(c, 1) : beside_of(c, 1);
    return pair_flops(c, a) * (double)(3 * a.width + 2 * a.values);
}

/* ---- Gradients in operators ---- */
typedef struct triple {
    V q, k, v;
} triple;

static double scale_of(grad *g, int64_t width) {
    double scale = opt(g, "scale");
    return isnan(scale) ? 1 / sqrt((double)width) : scale;
}

/* Of (..., rows, width) operands, whatever the order; what is not asked for is left out. */
static triple in_operators(triple x, V gy, bool causal, double scale, int parts) {
    triple d = { NONE, NONE, NONE };
    V s = RO(matmul, OPTS({ "tb", 1 }), R(mul, x.q, num(scale)), x.k);
    if (causal)
        s = RO(causal_fill, OPTS({ "value", -INFINITY }), s);
    V p = RO(softmax, OPTS({ "dim", -1 }), s);
    if (parts & DV)
        d.v = RO(matmul, OPTS({ "ta", 1 }), p, gy);
    if (!(parts & (DQ | DK)))
        return d;
    V dp = RO(matmul, OPTS({ "tb", 1 }), gy, x.v);
    V ds = R(mul, RO(softmax_backward, OPTS({ "dim", -1 }), dp, p), num(scale));
    if (parts & DQ)
        d.q = R(matmul, ds, x.k);
    if (parts & DK)
        d.k = RO(matmul, OPTS({ "ta", 1 }), ds, x.q);
    return d;
}

static void grad_attention(grad *g) {
    if (!has_gout(g, 0))
        return;
    shape s = in_shape(g, 0);
    bool causal = opt(g, "is_causal") != 0;
    double scale = scale_of(g, s.dim[s.ndim - 1]);
    int parts = (need(g, 0) ? DQ : 0) | (need(g, 1) ? DK : 0) | (need(g, 2) ? DV : 0);
    V d[VESTIGE_MAXOUT];
    if (creating_graph(g)) {
        triple t = in_operators((triple){ in(g, 0), in(g, 1), in(g, 2) }, gout(g, 0), causal, scale,
                                parts);
        d[0] = t.q, d[1] = t.k, d[2] = t.v;
    } else {
        const O o[] = { { "is_causal", causal }, { "scale", scale }, { "parts", parts } };
        rule_apply(OPID(attention_backward),
                   (V[]){ gout(g, 0), in(g, 0), in(g, 1), in(g, 2), out(g, 0), out(g, 1) }, 6, o, 3,
                   NULL, d);
    }
    for (int i = 0; i < 3; i++)
        if (need(g, i))
            give(g, i, d[i]);
}

static V reshaped(V x, int ndim, const int64_t *dim) {
    return RO(reshape, OPTS({ "size", .list = dim, .count = ndim }), x);
}

static V permuted(V x, int ndim, const int64_t *dims) {
    return RO(permute, OPTS({ "dims", .list = dims, .count = ndim }), x);
}

/* qkv (B,T,3HD) as three (B,H,T,D), and the gradients back as one. */
static V qkv_in_operators(grad *g) {
    shape s = in_shape(g, 0);
    int64_t n = (int64_t)opt(g, "heads"), width = s.dim[2] / 3 / n;
    const int64_t split[] = { s.dim[0], s.dim[1], 3, n, width };
    const int64_t split_y[] = { s.dim[0], s.dim[1], n, width };
    V parts = permuted(reshaped(in(g, 0), 5, split), 5, (int64_t[]){ 2, 0, 3, 1, 4 });
    V gy = permuted(reshaped(gout(g, 0), 4, split_y), 4, (int64_t[]){ 0, 2, 1, 3 });
    V x[3];
    for (int i = 0; i < 3; i++)
        x[i] = RO(select, OPTS({ "dim", 0 }, { "index", i }), parts);
    triple d = in_operators((triple){ x[0], x[1], x[2] }, gy, opt(g, "is_causal") != 0,
                            scale_of(g, width), DQ | DK | DV);
    V all = permuted(R(stack, d.q, d.k, d.v), 5, (int64_t[]){ 1, 3, 0, 2, 4 });
    return reshaped(all, s.ndim, s.dim);
}

static void grad_qkv(grad *g) {
    if (!has_gout(g, 0))
        return;
    give(g, 0,
         creating_graph(g)
             ? qkv_in_operators(g)
             : RRAW(attention_qkv_backward, slots(g), gout(g, 0), in(g, 0), out(g, 0), out(g, 1)));
}

/* ---- causal_fill ---- */
static int infer_causal_fill(call *c) {
    const tensor *x = c->in[0];
    if (x->ndim < 2)
        return fail(VESTIGE_ESHAPE, "causal_fill: x: expected (...,queries,keys), got %s",
                    describe(x));
    c->type = x->dtype;
    shape_like(c, 0, x);
    return VESTIGE_OK;
}

static void grad_causal_fill(grad *g) {
    give(g, 0, RO(causal_fill, OPTS({ "value", 0 }), gout(g, 0)));
}

const op_row ops_attention[] = {
    { .name = "attention",
      .in = "q:float k:float v:float",
      .out = "y lse",
      .opts = "is_causal:bool=false scale:float?",
      .infer = infer_attention,
      .grad = grad_attention,
      .flops = flops,
      .keeps = KEEP_IN | KEEP_OUT0 | KEEP_OUT1,
      .flags = ROW_HIDDEN | ROW_OUT1_FIXED,
      .cast = CAST_LOW,
      .domain = { -2, 2 },
      .doc = "scaled_dot_product_attention without mask or dropout, and the logarithm of each "
             "query's sum of exponentials." },
    { .name = "attention_backward",
      .in = "g:float q:float k:float v:float y:float lse:float",
      .out = "dq dk dv",
      .opts = "is_causal:bool=false scale:float? parts:int=7",
      .infer = infer_attention_backward,
      .flops = flops_backward,
      .flags = ROW_HIDDEN,
      .domain = { -2, 2 },
      .doc =
          "attention's gradients for q (parts has the bit 1), k (2) and v (4); what is not asked "
          "for is empty." },
    { .name = "attention_qkv",
      .in = "qkv:float",
      .out = "y lse",
      .opts = "heads:int is_causal:bool=false scale:float?",
      .infer = infer_qkv,
      .grad = grad_qkv,
      .flops = flops,
      .keeps = KEEP_IN0 | KEEP_OUT0 | KEEP_OUT1,
      .flags = ROW_OUT1_FIXED,
      .cast = CAST_LOW,
      .domain = { -2, 2 },
      .doc = "scaled_dot_product_attention of packed heads: qkv (B,T,3*heads*width) holds in each "
             "row the queries of all heads, then their keys, then their values; the result is "
             "(B,T,heads*width). With is_causal query i sees keys 1 to i. scale defaults to "
             "1/sqrt(width)." },
    { .name = "attention_qkv_backward",
      .in = "g:float qkv:float y:float lse:float",
      .out = "dqkv",
      .opts = "heads:int is_causal:bool=false scale:float?",
      .infer = infer_qkv_backward,
      .flops = flops_backward,
      .flags = ROW_HIDDEN,
      .domain = { -2, 2 },
      .doc = "attention_qkv's gradient." },
    { .name = "causal_fill",
      .in = "x:float",
      .out = "y",
      .opts = "value:float",
      .infer = infer_causal_fill,
      .grad = grad_causal_fill,
      .flops = flops_none,
      .flags = ROW_HIDDEN,
      .domain = { -2, 2 },
      .doc = "value above the diagonal of x (...,queries,keys), where a key comes after the query; "
             "x elsewhere." },
    { 0 }
};
