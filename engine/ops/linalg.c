/* linalg.c: matmul, linear, linalg_solve, linalg_cholesky. */
#include "ops/product.h"
#include "ops/rules.h"

/* The broadcast of the first na dimensions of a and nb of b, whose matrices have size[0], size[1]
 * elements. */
static int batch_of(const call *c, batch *p, int na, int nb, const int64_t *size) {
    const tensor *a = c->in[0], *b = c->in[1];
    int n = na > nb ? na : nb;
    int64_t step[2] = { size[0], size[1] };
    *p = (batch){ .ndim = n, .count = 1 };
    for (int d = n - 1; d >= 0; d--) {
        int ia = d - (n - na), ib = d - (n - nb);
        int64_t da = ia >= 0 ? a->dim[ia] : 1, db = ib >= 0 ? b->dim[ib] : 1;
        if (da != db && da != 1 && db != 1)
            return fail(VESTIGE_ESHAPE, "%s: leading dimensions do not broadcast: %s and %s",
                        opname(c), describe(a), describe(b));
        p->dim[d] = da == 1 ? db : da;
        p->step[0][d] = da == 1 ? 0 : step[0];
        p->step[1][d] = db == 1 ? 0 : step[1];
        step[0] *= da;
        step[1] *= db;
        p->count *= p->dim[d];
    }
    return VESTIGE_OK;
}

static V reshaped(V x, int ndim, const int64_t *dim) {
    return RO(reshape, OPTS({ "size", .list = dim, .count = ndim }), x);
}

/* x (..., columns) as one matrix. */
static V matrix_of(V x, shape s) {
    int64_t columns = s.dim[s.ndim - 1];
    int64_t dim[2] = { product(s.ndim - 1, s.dim), columns };
    return s.ndim == 2 ? x : reshaped(x, 2, dim);
}

/* ---- matmul ---- */
int matmul_product(const call *c, matrix_product *p) {
    const tensor *a = c->in[0], *b = c->in[1];
    if (a->ndim == 0 || b->ndim == 0)
        return fail(VESTIGE_ESHAPE,
                    "matmul: expected tensors of one dimension or more, got %s and %s", describe(a),
                    describe(b));
    bool ta = option(c, "ta") != 0, tb = option(c, "tb") != 0;
    bool va = a->ndim == 1, vb = b->ndim == 1;
    if ((va && ta) || (vb && tb))
        return fail(VESTIGE_EVALUE, "matmul: %s transposes a matrix, but %s is the vector %s",
                    va && ta ? "ta" : "tb", va && ta ? "a" : "b", describe(va && ta ? a : b));
    int64_t a0 = va ? 1 : a->dim[a->ndim - 2], a1 = a->dim[a->ndim - 1];
    int64_t b0 = vb ? b->dim[0] : b->dim[b->ndim - 2], b1 = vb ? 1 : b->dim[b->ndim - 1];
    int64_t kb = tb ? b1 : b0;
    *p = (matrix_product){
        .m = ta ? a1 : a0, .k = ta ? a0 : a1, .n = tb ? b0 : b1, .ta = ta, .tb = tb
    };
    if (p->k != kb)
        return fail(VESTIGE_ESHAPE,
                    "matmul: a %s%s has rows of %lld elements, b %s%s has columns of %lld",
                    describe(a), ta ? " transposed" : "", (long long)p->k, describe(b),
                    tb ? " transposed" : "", (long long)kb);
    TRY(batch_of(c, &p->batch, va ? 0 : a->ndim - 2, vb ? 0 : b->ndim - 2,
                 (int64_t[]){ a0 * a1, b0 * b1 }));
    if (!ta && b->ndim <= 2) { /* one product: the rows of all matrices follow each other */
        p->m *= p->batch.count;
        p->batch = (batch){ .count = 1 };
    }
    return VESTIGE_OK;
}

static int infer_matmul(call *c) {
    TRY(promote(c));
    matrix_product p;
    TRY(matmul_product(c, &p));
    const tensor *a = c->in[0], *b = c->in[1];
    int64_t dim[VESTIGE_MAXDIM];
    int n = p.batch.ndim;
    memcpy(dim, p.batch.dim, sizeof dim);
    if (!p.ta && b->ndim <= 2) {
        n = a->ndim - 1; /* 0 for a vector */
        memcpy(dim, a->dim, (size_t)n * sizeof *dim);
    } else if (a->ndim > 1) {
        dim[n++] = p.m;
    }
    if (b->ndim > 1)
        dim[n++] = p.n;
    shape_set(c, 0, c->type, n, dim);
    return VESTIGE_OK;
}

static double flops_matmul(const call *c) {
    matrix_product p;
    matmul_product(c, &p);
    return 2.0 * (double)p.batch.count * (double)p.m * (double)p.n * (double)p.k;
}

/* y = op(a) op(b); da is gy op(b)' or its transpose, db is op(a)' gy or its transpose. */
static void grad_matmul(grad *g) {
    shape sa = in_shape(g, 0), sb = in_shape(g, 1), sy = out_shape(g, 0);
    bool ta = opt(g, "ta") != 0, tb = opt(g, "tb") != 0;
    V gy = gout(g, 0);
    V a = need(g, 1) ? in(g, 0) : NONE, b = need(g, 0) ? in(g, 1) : NONE;
    if (sa.ndim == 1 || sb.ndim == 1) { /* gy gets its dimensions of 1 back */
        if (sa.ndim == 1) {
            if (sb.ndim > 1)
                sy.dim[sy.ndim] = sy.dim[sy.ndim - 1];
            sy.dim[sy.ndim - (sb.ndim > 1)] = 1;
            sy.ndim++;
            if (a.t)
                a = reshaped(a, 2, (int64_t[]){ 1, sa.dim[0] });
        }
        if (sb.ndim == 1) { /* a column lies in memory as a row, transposed */
            sy.dim[sy.ndim++] = 1;
            if (b.t)
                b = reshaped(b, 2, (int64_t[]){ 1, sb.dim[0] });
            tb = true;
        }
        gy = reshaped(gy, sy.ndim, sy.dim);
    }
    bool one = !ta && sa.ndim > 2 && sb.ndim <= 2; /* as one product: no sum over the batch */
    if (one) {
        if (a.t)
            a = matrix_of(a, sa);
        gy = matrix_of(gy, sy);
    }
    if (need(g, 0)) {
        V da = ta ? RO(matmul, OPTS({ "ta", tb }, { "tb", 1 }), b, gy)
                  : RO(matmul, OPTS({ "ta", 0 }, { "tb", !tb }), gy, b);
        give(g, 0, one ? reshaped(da, sa.ndim, sa.dim) : da);
    }
    if (need(g, 1))
        give(g, 1,
             tb ? RO(matmul, OPTS({ "ta", 1 }, { "tb", ta }), gy, a)
                : RO(matmul, OPTS({ "ta", !ta }, { "tb", 0 }), a, gy));
}

/* ---- linear ---- */
void linear_product(const call *c, matrix_product *p) {
    const tensor *x = c->in[0], *w = c->in[1];
    bool tw = option(c, "tw") != 0;
    *p = (matrix_product){ .m = product(x->ndim - 1, x->dim),
                           .k = w->dim[!tw],
                           .n = w->dim[tw],
                           .tb = !tw,
                           .batch.count = 1 };
}

static int infer_linear(call *c) {
    TRY(promote(c));
    const tensor *x = c->in[0], *w = c->in[1], *bias = c->in[2];
    bool tw = option(c, "tw") != 0;
    if (w->ndim != 2)
        return fail(VESTIGE_ESHAPE, "linear: w: expected %s, got %s", tw ? "(in,out)" : "(out,in)",
                    describe(w));
    int64_t in = w->dim[!tw], out = w->dim[tw];
    if (x->ndim == 0 || x->dim[x->ndim - 1] != in)
        return fail(VESTIGE_ESHAPE,
                    "linear: x: expected a last dimension of %lld for w %s%s, got %s",
                    (long long)in, describe(w), tw ? " transposed" : "", describe(x));
    if (bias && (bias->ndim != 1 || bias->dim[0] != out))
        return fail(VESTIGE_ESHAPE, "linear: bias: expected (%lld), got %s", (long long)out,
                    describe(bias));
    shape_set(c, 0, c->type, x->ndim, x->dim);
    c->shape[0].dim[x->ndim - 1] = out;
    return VESTIGE_OK;
}

static double flops_linear(const call *c) {
    matrix_product p;
    linear_product(c, &p);
    return 2.0 * (double)p.m * (double)p.n * (double)p.k;
}

/* y = x w' + bias, or with tw x w + bias */
static void grad_linear(grad *g) {
    shape sx = in_shape(g, 0);
    bool tw = opt(g, "tw") != 0;
    V gy = matrix_of(gout(g, 0), out_shape(g, 0));
    if (need(g, 0)) {
        V dx = RO(matmul, OPTS({ "tb", tw }), gy, in(g, 1));
        give(g, 0, reshaped(dx, sx.ndim, sx.dim));
    }
    if (need(g, 1)) {
        V x = matrix_of(in(g, 0), sx);
        give(g, 1, RO(matmul, OPTS({ "ta", 1 }), tw ? x : gy, tw ? gy : x));
    }
    if (need(g, 2))
        give(g, 2, gout(g, 0)); /* the walk sums it */
}

/* ---- linalg_solve ---- */
static bool is_square(const tensor *a) {
    return a->ndim >= 2 && a->dim[a->ndim - 1] == a->dim[a->ndim - 2];
}

int solve_system(const call *c, matrix_system *s) {
    const tensor *a = c->in[0], *b = c->in[1];
    *s = (matrix_system){ .left = option(c, "left") != 0, .ta = option(c, "ta") != 0 };
    if (!is_square(a))
        return fail(VESTIGE_ESHAPE, "linalg_solve: a: expected square matrices, got %s",
                    describe(a));
    s->n = a->dim[a->ndim - 1];
    s->vector = b->ndim == 1 || (b->ndim == a->ndim - 1 &&
                                 memcmp(a->dim, b->dim, (size_t)b->ndim * sizeof *a->dim) == 0);
    if (s->vector && !s->left)
        return fail(VESTIGE_ESHAPE, "linalg_solve: left=false: b: expected matrices, got %s",
                    describe(b));
    int tail = s->vector ? 1 : 2;
    int64_t rows = b->ndim >= tail ? b->dim[b->ndim - tail] : -1;
    int64_t columns = s->vector ? 1 : b->ndim >= 2 ? b->dim[b->ndim - 1] : -1;
    if ((s->left ? rows : columns) != s->n)
        return fail(VESTIGE_ESHAPE, "linalg_solve: b: expected %lld %s for a %s, got %s",
                    (long long)s->n, s->left ? "rows" : "columns", describe(a), describe(b));
    s->k = s->left ? columns : rows;
    return batch_of(c, &s->batch, a->ndim - 2, b->ndim - tail,
                    (int64_t[]){ s->n * s->n, s->n * s->k });
}

static int infer_solve(call *c) {
    TRY(promote(c));
    matrix_system s;
    TRY(solve_system(c, &s));
    int n = s.batch.ndim;
    int64_t *dim = s.batch.dim;
    dim[n++] = s.left ? s.n : s.k;
    if (!s.vector)
        dim[n++] = s.left ? s.k : s.n;
    shape_set(c, 0, c->type, n, dim);
    return VESTIGE_OK;
}

static double flops_solve(const call *c) {
    matrix_system s;
    solve_system(c, &s);
    double n = (double)s.n;
    return (double)s.batch.count * (2.0 / 3.0 * n * n * n + 2.0 * n * n * (double)s.k);
}

/* op(a) y = b: db solves the transposed system, da = -db y' (or the transpose of it). */
static void grad_solve(grad *g) {
    shape sb = in_shape(g, 1), sy = out_shape(g, 0), sa = in_shape(g, 0);
    bool left = opt(g, "left") != 0, ta = opt(g, "ta") != 0;
    V y = out(g, 0);
    V db = RO(linalg_solve, OPTS({ "left", left }, { "ta", !ta }), in(g, 0), gout(g, 0));
    if (need(g, 1))
        give(g, 1, db);
    if (!need(g, 0))
        return;
    bool vector = sb.ndim == 1 || (sb.ndim == sa.ndim - 1 &&
                                   memcmp(sa.dim, sb.dim, (size_t)sb.ndim * sizeof *sa.dim) == 0);
    V db_columns = db;
    if (vector) {
        sy.dim[sy.ndim++] = 1;
        y = reshaped(y, sy.ndim, sy.dim);
        db_columns = reshaped(db, sy.ndim, sy.dim);
    }
    V first = ta == left ? y : db_columns, second = ta == left ? db_columns : y;
    give(g, 0,
         R(neg, left ? RO(matmul, OPTS({ "tb", 1 }), first, second)
                     : RO(matmul, OPTS({ "ta", 1 }), first, second)));
}

int fail_singular(int64_t i) {
    return fail(VESTIGE_EVALUE, "linalg_solve: matrix %lld of a is singular", (long long)i + 1);
}

/* ---- linalg_cholesky ---- */
static int infer_cholesky(call *c) {
    const tensor *a = c->in[0];
    if (!is_square(a))
        return fail(VESTIGE_ESHAPE, "%s: a: expected square matrices, got %s", opname(c),
                    describe(a));
    c->type = a->dtype;
    shape_like(c, 0, a);
    return VESTIGE_OK;
}

static double flops_cholesky(const call *c) {
    const tensor *a = c->in[0];
    return (double)a->numel * (double)a->dim[a->ndim - 1] / 3;
}

/* a = l l': da = l'^-1 phi(l' gl) l^-1, phi the lower triangle mirrored upwards, halved. For upper,
 * l' is what was returned. (I. Murray, Differentiation of the Cholesky decomposition, 2016.) */
static void grad_cholesky(grad *g) {
    bool upper = opt(g, "upper") != 0;
    V l = out(g, 0);
    V p = upper ? RO(matmul, OPTS({ "tb", 1 }), l, gout(g, 0))
                : RO(matmul, OPTS({ "ta", 1 }), l, gout(g, 0));
    V phi = R(mirror_lower, p);
    V half = RO(linalg_solve, OPTS({ "ta", !upper }), l, phi);
    give(g, 0, RO(linalg_solve, OPTS({ "left", 0 }, { "ta", upper }), l, half));
}

static void grad_mirror(grad *g) {
    bool adjoint = opt(g, "adjoint") != 0;
    give(g, 0, RO(mirror_lower, OPTS({ "adjoint", !adjoint }), gout(g, 0)));
}

int fail_indefinite(int64_t i) {
    return fail(VESTIGE_EVALUE, "linalg_cholesky: matrix %lld of a is not positive definite",
                (long long)i + 1);
}

const op_row ops_linalg[] = {
    { .name = "matmul",
      .in = "a b",
      .out = "y",
      .opts = "ta:bool=false tb:bool=false",
      .infer = infer_matmul,
      .grad = grad_matmul,
      .flops = flops_matmul,
      .keeps = KEEP_IN,
      .flags = ROW_PRODUCT,
      .cast = CAST_LOW,
      .domain = { -1, 1 },
      .doc = "The matrix product of a (...,m,k) and b (...,k,n), leading dimensions broadcast. A "
             "vector a is a row, a vector b a column, and the result has no such dimension. ta, "
             "tb: a lies as (...,k,m), b as (...,n,k); nothing is permuted." },
    { .name = "linear",
      .in = "x:float w:float bias:float?",
      .out = "y",
      .opts = "tw:bool=false",
      .infer = infer_linear,
      .grad = grad_linear,
      .flops = flops_linear,
      .keeps = KEEP_IN0 | KEEP_IN1,
      .flags = ROW_PRODUCT,
      .cast = CAST_LOW,
      .domain = { -1, 1 },
      .doc =
          "x (...,in) times the transpose of w (out,in), plus bias (out). tw: w lies as (in,out); "
          "nothing is permuted." },
    { .name = "linalg_solve",
      .in = "a:float b:float",
      .out = "y",
      .opts = "left:bool=true ta:bool=false",
      .infer = infer_solve,
      .grad = grad_solve,
      .flops = flops_solve,
      .keeps = KEEP_IN0 | KEEP_OUT0,
      .domain = { -1, 1 },
      .doc =
          "The solution y of a y = b, or with left=false of y a = b; a (...,n,n), b (...,n,k) or "
          "(...,n), leading dimensions broadcast. ta: a is transposed. A singular a is an "
          "error." },
    { .name = "linalg_cholesky",
      .in = "a:float",
      .out = "y",
      .opts = "upper:bool=false",
      .infer = infer_cholesky,
      .grad = grad_cholesky,
      .flops = flops_cholesky,
      .keeps = KEEP_OUT0,
      .domain = { -1, 1 },
      .doc = "The lower triangular l with l l' = a (...,n,n), or with upper its transpose. Of a "
             "the symmetric part is taken; one that is not positive definite is an error." },
    { .name = "mirror_lower",
      .in = "x:float",
      .out = "y",
      .opts = "adjoint:bool=false",
      .infer = infer_cholesky,
      .grad = grad_mirror,
      .flags = ROW_HIDDEN,
      .domain = { -1, 1 },
      .doc = "Half the lower triangle, mirrored upwards: y_ij = x_max(i,j),min(i,j) / 2; or the "
             "adjoint of it. Serves the gradient of linalg_cholesky." },
    { 0 }
};
