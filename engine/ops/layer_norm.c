/* layer_norm.c: normalisation over the last dimensions.
 *
 * With n elements a row, m and r its mean and 1/sqrt(variance + eps), h = (x - m) r, p = g weight:
 *   layer_norm           y = h weight + bias
 *   layer_norm_backward  dx = r (p - mean(p) - h mean(p h)), dw = sum of g h, db = sum of g
 * The first order runs the fused layer_norm_backward, which reads m and r as the forward left them;
 * where a further derivative may follow they are written again in operators, from x. */
#include "ops/rules.h"

/* mean, sums and their kin are not kept in bf16. */
static int statistics_type(int dtype) {
    return dtype == VESTIGE_BF16 ? VESTIGE_F32 : dtype;
}

/* Input i, if it is there, has the n dimensions of a row of x. */
static int check_affine(const call *c, int i, const int64_t *row, int n) {
    const tensor *t = c->in[i];
    if (!t || (t->ndim == n && memcmp(t->dim, row, (size_t)n * sizeof *row) == 0))
        return VESTIGE_OK;
    return fail(VESTIGE_ESHAPE, "%s: %s: expected %s, the normalized_shape, got %s", opname(c),
                param_of(c, i)->name, shape_text(n, row), describe(t));
}

static int infer_layer_norm(call *c) {
    const tensor *x = c->in[0];
    const double *given;
    int64_t row[VESTIGE_MAXDIM];
    int n = list_option(c, "normalized_shape", &given), lead = x->ndim - n;
    bool fits = n > 0 && lead >= 0;
    for (int d = 0; d < n; d++) {
        row[d] = (int64_t)given[d];
        fits = fits && row[d] == x->dim[lead + d];
    }
    if (n < 1)
        return fail(VESTIGE_EVALUE, "layer_norm: normalized_shape: expected one size or more");
    if (!fits)
        return fail(VESTIGE_ESHAPE,
                    "layer_norm: x: expected last dimensions %s, the normalized_shape, got %s",
                    shape_text(n, row), describe(x));
    TRY(check_affine(c, 1, row, n));
    TRY(check_affine(c, 2, row, n));
    c->type = x->dtype;
    shape_like(c, 0, x);
    shape_set(c, 1, statistics_type(x->dtype), lead, x->dim);
    shape_set(c, 2, statistics_type(x->dtype), lead, x->dim);
    return VESTIGE_OK;
}

/* Outputs that nobody asks for are left empty. */
static int infer_backward(call *c) {
    const int64_t none = 0;
    const tensor *g = c->in[0], *x = c->in[1];
    if (g->ndim != x->ndim || memcmp(g->dim, x->dim, (size_t)x->ndim * sizeof *x->dim) != 0)
        return fail(VESTIGE_ESHAPE, "%s: g %s and x %s differ", opname(c), describe(g),
                    describe(x));
    TRY(cast_input(c, 0, x->dtype));
    int lead = c->in[3]->ndim, n = x->ndim - lead, sums = statistics_type(x->dtype);
    if (n < 1 || c->in[4]->ndim != lead)
        return fail(VESTIGE_ESHAPE, "%s: mean %s and rstd %s do not fit x %s", opname(c),
                    describe(c->in[3]), describe(c->in[4]), describe(x));
    TRY(check_affine(c, 2, x->dim + lead, n));
    bool input = option(c, "input") != 0, affine = option(c, "affine") != 0;
    c->type = x->dtype;
    shape_set(c, 0, x->dtype, input ? x->ndim : 1, input ? x->dim : &none);
    for (int k = 1; k <= 2; k++)
        shape_set(c, k, sums, affine ? n : 1, affine ? x->dim + lead : &none);
    return VESTIGE_OK;
}

static V row_mean(V x) {
    const int64_t last = 1;
    return RO(mean, OPTS({ "dim", .list = &last, .count = 1 }, { "keepdim", 1 }), x);
}

static V reshaped(V x, const shape *s) {
    return RO(reshape, OPTS({ "size", .list = s->dim, .count = s->ndim }), x);
}

/* Of any order: x as (rows, n). */
static void give_in_operators(grad *g) {
    shape sx = in_shape(g, 0);
    int lead = out_shape(g, 1).ndim;
    int64_t n = product(sx.ndim - lead, sx.dim + lead);
    shape flat = { .ndim = 2, .dim = { product(lead, sx.dim), n } };
    shape row = { .ndim = 1, .dim = { n } };
    V x = reshaped(in(g, 0), &flat), gy = reshaped(gout(g, 0), &flat);
    V centred = R(sub, x, row_mean(x));
    V r = R(rsqrt, R(add, row_mean(R(square, centred)), num(opt(g, "eps"))));
    V h = R(mul, centred, r);
    if (need(g, 1)) /* the walk sums over the rows */
        give(g, 1, reshaped(R(mul, gy, h), &sx));
    give(g, 2, gout(g, 0));
    if (!need(g, 0))
        return;
    V p = present(g, 1) ? R(mul, gy, reshaped(in(g, 1), &row)) : gy;
    V centred_p = R(sub, R(sub, p, row_mean(p)), R(mul, h, row_mean(R(mul, p, h))));
    give(g, 0, reshaped(R(mul, r, centred_p), &sx));
}

static void grad_layer_norm(grad *g) {
    if (!has_gout(g, 0))
        return;
    if (creating_graph(g)) {
        give_in_operators(g);
        return;
    }
    V d[VESTIGE_MAXOUT];
    const O asked[] = { { "input", need(g, 0) }, { "affine", need(g, 1) || need(g, 2) } };
    rule_apply(OPID(layer_norm_backward),
               (V[]){ gout(g, 0), in(g, 0), in(g, 1), out(g, 1), out(g, 2) }, 5, asked, 2, NULL, d);
    for (int i = 0; i < 3; i++)
        if (need(g, i))
            give(g, i, d[i]);
}

static V layer_norm_again(grad *g) {
    return RRAW(layer_norm, slots(g), in(g, 0), in(g, 1), in(g, 2));
}

const op_row ops_layer_norm[] = {
    { .name = "layer_norm",
      .in = "x:float weight:float? bias:float?",
      .out = "y mean rstd",
      .opts = "normalized_shape:ints eps:float=1e-5",
      .infer = infer_layer_norm,
      .grad = grad_layer_norm,
      .again = layer_norm_again,
      .keeps = KEEP_IN0 | KEEP_IN1 | KEEP_IN2 | KEEP_OUT1 | KEEP_OUT2 | KEEP_AGAIN,
      .flags = ROW_OUT1_FIXED | ROW_OUT2_FIXED,
      .cast = CAST_F32,
      .domain = { -2, 2 },
      .doc =
          "x less the mean over its last dimensions, whose sizes normalized_shape lists, divided "
          "by sqrt(variance + eps), times weight, plus bias, both of normalized_shape." },
    { .name = "layer_norm_backward",
      .in = "g:float x:float weight:float? mean:float rstd:float",
      .out = "dx dw db",
      .opts = "input:bool=true affine:bool=true",
      .infer = infer_backward,
      .flags = ROW_HIDDEN,
      .domain = { 0.5, 2 },
      .doc = "layer_norm's gradients: for x where input is set, for weight and bias where affine "
             "is; the others come out empty." },
    { 0 }
};
