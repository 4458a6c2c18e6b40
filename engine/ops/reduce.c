/* reduce.c: sums, means, variances, extremes, norms over any dimensions. */
#include "ops/rules.h"

/* The output's shape with the dimensions of mask removed, or kept as 1. */
static void reduced(call *c, int out, const tensor *x, unsigned mask, bool keepdim) {
    int64_t dim[VESTIGE_MAXDIM];
    int n = 0;
    for (int d = 0; d < x->ndim; d++)
        if (!(mask & 1u << d))
            dim[n++] = x->dim[d];
        else if (keepdim)
            dim[n++] = 1;
    shape_set(c, out, x->dtype, n, dim);
}

static int infer_reduce(call *c) {
    unsigned mask;
    TRY(dims_option(c, "dim", c->in[0]->ndim, &mask));
    c->type = c->in[0]->dtype;
    reduced(c, 0, c->in[0], mask, option(c, "keepdim") != 0);
    return VESTIGE_OK;
}

static int infer_sum(call *c) {
    if (!is_float(c->in[0]->dtype) && c->in[0]->dtype != VESTIGE_I64)
        TRY(cast_input(c, 0, VESTIGE_I64)); /* as PyTorch: sums of integers are i64 */
    return infer_reduce(c);
}

static int infer_any(call *c) {
    TRY(infer_reduce(c));
    c->shape[0].dtype = VESTIGE_BOOL;
    return VESTIGE_OK;
}

/* An extreme of nothing does not exist. */
static int infer_extreme(call *c) {
    const tensor *x = c->in[0];
    unsigned mask;
    TRY(dims_option(c, "dim", x->ndim, &mask));
    for (int d = 0; d < x->ndim; d++)
        if (mask & 1u << d && x->dim[d] == 0)
            return fail(VESTIGE_ESHAPE, "%s: dimension %d of %s is empty", opname(c), d + 1,
                        describe(x));
    return infer_reduce(c);
}

static int infer_choose(call *c) {
    const tensor *x = c->in[0];
    int dim;
    TRY(dim_option(c, "dim", x->ndim, &dim));
    if (x->ndim && x->dim[dim] == 0)
        return fail(VESTIGE_ESHAPE, "%s: dimension %d of %s is empty", opname(c), dim + 1,
                    describe(x));
    c->type = x->dtype;
    reduced(c, 0, x, 1u << dim, option(c, "keepdim") != 0);
    c->shape[1] = c->shape[0];
    c->shape[1].dtype = VESTIGE_I64;
    return VESTIGE_OK;
}

/* ---- What the rules share ---- */

/* The input's shape with the reduced dimensions as 1, and how many elements make one. */
static shape kept_shape(const grad *g, double *count) {
    shape s = in_shape(g, 0);
    const double *dims;
    int n = opt_list(g, "dim", &dims);
    *count = 1;
    for (int d = 0; d < s.ndim; d++) {
        bool reduced = n <= 0;
        for (int i = 0; i < n; i++)
            reduced |= (int)dims[i] == d;
        if (reduced) {
            *count *= (double)s.dim[d];
            s.dim[d] = 1;
        }
    }
    return s;
}

/* A value of the output's shape with the reduced dimensions put back. */
static V put_back(const grad *g, V y) {
    double count;
    shape s = kept_shape(g, &count);
    return RO(reshape, OPTS({ "size", .list = s.dim, .count = s.ndim }), y);
}

static V to_input_shape(const grad *g, V y) {
    shape s = in_shape(g, 0);
    return RO(expand, OPTS({ "size", .list = s.dim, .count = s.ndim }), y);
}

static V float_of(V mask, V like) {
    return like.t ? RO(to, OPTS({ "dtype", like.t->dtype }), mask) : mask;
}

/* The same dimensions as the call, kept. */
static V sum_kept(const grad *g, V x) {
    int64_t dims[VESTIGE_MAXDIM];
    const double *d;
    int n = opt_list(g, "dim", &d);
    for (int i = 0; i < n; i++)
        dims[i] = (int64_t)d[i];
    return RO(
        sum,
        OPTS({ "dim", n < 0 ? -1 : 0, .list = n < 0 ? NULL : dims, .count = n }, { "keepdim", 1 }),
        x);
}

static void grad_sum(grad *g) {
    give(g, 0, to_input_shape(g, put_back(g, gout(g, 0))));
}

static void grad_mean(grad *g) {
    double n;
    kept_shape(g, &n);
    give(g, 0, to_input_shape(g, R(div, put_back(g, gout(g, 0)), num(n))));
}

/* x - mean(x) over the call's dimensions */
static V centred(const grad *g, V x) {
    double n;
    kept_shape(g, &n);
    return R(sub, x, R(div, sum_kept(g, x), num(n)));
}

/* y = sum (x - mean)^2 / (n - correction): 2 (x - mean) / (n - correction) */
static void grad_var(grad *g) {
    double n;
    kept_shape(g, &n);
    V scale = R(mul, put_back(g, gout(g, 0)), num(2 / (n - opt(g, "correction"))));
    give(g, 0, R(mul, centred(g, in(g, 0)), scale));
}

/* y = sqrt(var): (x - mean) / ((n - correction) y) */
static void grad_std(grad *g) {
    double n;
    kept_shape(g, &n);
    V scale = R(div, put_back(g, gout(g, 0)),
                R(mul, put_back(g, out(g, 0)), num(n - opt(g, "correction"))));
    give(g, 0, R(mul, centred(g, in(g, 0)), scale));
}

/* Where x reaches the extreme y, divided by how often it does. */
static V share_of_extreme(const grad *g, V x, V y) {
    V at = float_of(R(eq, x, put_back(g, y)), x);
    return R(div, at, sum_kept(g, at));
}

static void grad_extreme(grad *g) {
    give(g, 0, R(mul, share_of_extreme(g, in(g, 0), out(g, 0)), put_back(g, gout(g, 0))));
}

/* The gradient goes to the one element that was chosen. */
static void grad_choose(grad *g) {
    shape s = in_shape(g, 0);
    double dim = opt(g, "dim");
    V index = out(g, 1), go = gout(g, 0);
    if (opt(g, "keepdim") == 0) {
        shape k = s;
        if (k.ndim)
            k.dim[(int)dim] = 1;
        index = RO(reshape, OPTS({ "size", .list = k.dim, .count = k.ndim }), index);
        go = RO(reshape, OPTS({ "size", .list = k.dim, .count = k.ndim }), go);
    }
    V zero = R(zeros_like, in(g, 0));
    give(g, 0, RO(scatter_add, OPTS({ "dim", dim }), zero, index, go));
}

/* 1: sign x; 2: x / y, 0 where y is 0; inf: sign x where |x| is largest */
static void grad_norm(grad *g) {
    double p = opt(g, "ord");
    V x = in(g, 0), go = put_back(g, gout(g, 0));
    if (p == 1) {
        give(g, 0, R(mul, R(sign, x), go));
    } else if (p == 2) {
        V y = put_back(g, out(g, 0));
        V zero = R(eq, y, num(0));
        V unit = R(div, x, R(masked_fill, y, zero, num(1)));
        give(g, 0, R(mul, R(masked_fill, unit, zero, num(0)), go));
    } else {
        V at = share_of_extreme(g, R(abs, x), out(g, 0));
        give(g, 0, R(mul, R(mul, R(sign, x), at), go));
    }
}

static int infer_norm(call *c) {
    double p = option(c, "ord");
    if (p != 1 && p != 2 && !isinf(p))
        return fail(VESTIGE_EVALUE, "norm: option ord: expected 1, 2 or inf, got %g", p);
    return isinf(p) ? infer_extreme(c) : infer_reduce(c);
}

/* exp(x - y); a slice of -inf alone has gradient 0 */
static void grad_logsumexp(grad *g) {
    V y = put_back(g, out(g, 0));
    V safe = R(masked_fill, y, R(eq, y, num(-INFINITY)), num(0));
    give(g, 0, R(mul, R(exp, R(sub, in(g, 0), safe)), put_back(g, gout(g, 0))));
}

static double flops_in(const call *c) {
    return (double)c->in[0]->numel;
}

#define REDUCES .flops = flops_in, .opts = "dim:dims? keepdim:bool=false"

const op_row ops_reduce[] = {
    { .name = "sum",
      .in = "x",
      .out = "y",
      REDUCES,
      .cast = CAST_F32,
      .infer = infer_sum,
      .grad = grad_sum,
      .domain = { -2, 2 },
      .doc = "The sum over the dimensions dim (default: all)." },
    { .name = "mean",
      .in = "x:float",
      .out = "y",
      REDUCES,
      .cast = CAST_F32,
      .infer = infer_reduce,
      .grad = grad_mean,
      .domain = { -2, 2 },
      .doc = "The mean over the dimensions dim (default: all)." },
    { .name = "var",
      .in = "x:float",
      .out = "y",
      .flops = flops_in,
      .opts = "dim:dims? correction:float=1 keepdim:bool=false",
      .cast = CAST_F32,
      .infer = infer_reduce,
      .grad = grad_var,
      .keeps = KEEP_IN0,
      .domain = { -2, 2 },
      .doc = "The variance over the dimensions dim (default: all): the sum of squared distances "
             "to the mean, divided by n - correction." },
    { .name = "std",
      .in = "x:float",
      .out = "y",
      .flops = flops_in,
      .opts = "dim:dims? correction:float=1 keepdim:bool=false",
      .cast = CAST_F32,
      .infer = infer_reduce,
      .grad = grad_std,
      .keeps = KEEP_IN0 | KEEP_OUT0,
      .domain = { -2, 2 },
      .doc = "The square root of var." },
    { .name = "amax",
      .in = "x",
      .out = "y",
      REDUCES,
      .infer = infer_extreme,
      .grad = grad_extreme,
      .keeps = KEEP_IN0 | KEEP_OUT0,
      .domain = { -2, 2 },
      .doc = "The largest element over the dimensions dim (default: all). Equal ones share the "
             "gradient." },
    { .name = "amin",
      .in = "x",
      .out = "y",
      REDUCES,
      .infer = infer_extreme,
      .grad = grad_extreme,
      .keeps = KEEP_IN0 | KEEP_OUT0,
      .domain = { -2, 2 },
      .doc = "The smallest element over the dimensions dim (default: all). Equal ones share the "
             "gradient." },
    { .name = "max_dim",
      .in = "x",
      .out = "values indices:i64",
      .flops = flops_in,
      .opts = "dim:dim keepdim:bool=false",
      .infer = infer_choose,
      .grad = grad_choose,
      .keeps = KEEP_IN0 | KEEP_OUT1,
      .flags = ROW_OUT1_FIXED,
      .domain = { -2, 2 },
      .doc = "The largest element along dimension dim, and its 0-based place; of equal ones the "
             "first." },
    { .name = "min_dim",
      .in = "x",
      .out = "values indices:i64",
      .flops = flops_in,
      .opts = "dim:dim keepdim:bool=false",
      .infer = infer_choose,
      .grad = grad_choose,
      .keeps = KEEP_IN0 | KEEP_OUT1,
      .flags = ROW_OUT1_FIXED,
      .domain = { -2, 2 },
      .doc = "The smallest element along dimension dim, and its 0-based place; of equal ones the "
             "first." },
    { .name = "norm",
      .in = "x:float",
      .out = "y",
      .flops = flops_in,
      .opts = "ord:float=2 dim:dims? keepdim:bool=false",
      .cast = CAST_F32,
      .infer = infer_norm,
      .grad = grad_norm,
      .keeps = KEEP_IN0 | KEEP_OUT0,
      .domain = { -2, 2 },
      .doc = "The 1-, 2- or inf-norm over the dimensions dim (default: all). The gradient of the "
             "2-norm at 0 is 0." },
    { .name = "logsumexp",
      .in = "x:float",
      .out = "y",
      REDUCES,
      .cast = CAST_F32,
      .infer = infer_reduce,
      .grad = grad_logsumexp,
      .keeps = KEEP_IN0 | KEEP_OUT0,
      .domain = { -2, 2 },
      .doc = "log(sum(exp(x))) over the dimensions dim (default: all), without overflow." },
    { .name = "any",
      .in = "x",
      .out = "y",
      REDUCES,
      .infer = infer_any,
      .doc = "Whether any element over the dimensions dim (default: all) is not 0." },
    { .name = "all",
      .in = "x",
      .out = "y",
      REDUCES,
      .infer = infer_any,
      .doc = "Whether all elements over the dimensions dim (default: all) are not 0." },
    { 0 }
};
