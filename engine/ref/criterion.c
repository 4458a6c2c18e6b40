/* The definition of losses between two tensors, and of cosine similarity. */
#include "ref/ref.h"
#include "ops/loss.h"

/* Puts the loss of each element, or their sum or mean. */
#define CRITERION(name, value)                                                                     \
    ALWAYS_INLINE int name(const call *c, int ty) {                                                \
        const tensor *ins = c->in[0];                                                              \
        int how = (int)option(c, "reduction");                                                     \
        double sum = 0;                                                                            \
        for (int64_t i = 0; i < ins->numel; i++) {                                                 \
            double x = get(ins->data, ty, i), t = get(c->in[1]->data, ty, i), y = (value);         \
            if (how == EACH)                                                                       \
                put(c->out[0]->data, ty, i, y);                                                    \
            sum += y;                                                                              \
        }                                                                                          \
        return how == EACH ? VESTIGE_OK : put_reduced(c, ty, how, sum);                            \
    }

ALWAYS_INLINE int put_reduced(const call *c, int ty, int how, double sum) {
    const tensor *x = c->in[0];
    double n = how == MEAN         ? (double)x->numel
               : how == BATCH_MEAN ? (double)(x->ndim ? x->dim[0] : 1)
                                   : 1;
    put(c->out[0]->data, ty, 0, sum / n);
    return VESTIGE_OK;
}

static double smooth(double d, double beta) {
    d = fabs(d);
    return d < beta ? 0.5 * d * d / beta : d - 0.5 * beta;
}

static double softplus(double x) {
    return fmax(x, 0) + log1p(exp(-fabs(x)));
}

/* 0 log 0 = 0 */
static double divergence(double x, double t, bool log_target) {
    if (log_target)
        return exp(t) * (t - x);
    return (t == 0 ? 0 : t * log(t)) - t * x;
}

CRITERION(mse, (x - t) * (x - t))
CRITERION(l1, fabs(x - t))
CRITERION(smooth_l1, smooth(x - t, option(c, "beta")))
CRITERION(huber, smooth(x - t, option(c, "delta")) * option(c, "delta"))
CRITERION(kl_div, divergence(x, t, option(c, "log_target") != 0))

ALWAYS_INLINE int binary(const call *c, int ty) {
    const tensor *ins = c->in[0];
    int how = (int)option(c, "reduction");
    double sum = 0;
    cursor k;
    for (cursor_start(&k, ins->ndim, ins->dim, 4, c->in); k.left; cursor_next(&k)) {
        double x = get(ins->data, ty, k.i), t = get(c->in[1]->data, ty, k.i);
        double weight = c->in[2] ? get(c->in[2]->data, ty, k.at[2]) : 1;
        double positive = c->in[3] ? get(c->in[3]->data, ty, k.at[3]) : 1;
        double y = weight * ((1 - t) * softplus(x) + positive * t * softplus(-x));
        if (how == EACH)
            put(c->out[0]->data, ty, k.i, y);
        sum += y;
    }
    return how == EACH ? VESTIGE_OK : put_reduced(c, ty, how, sum);
}

/* Sums of a b, a a, b b along the dimension, for each element of the output. */
ALWAYS_INLINE int cosine(const call *c, int ty) {
    const tensor *a = c->in[0], *b = c->in[1];
    tensor *y = c->out[0];
    int ndim = a->ndim > b->ndim ? a->ndim : b->ndim, dim = (int)option(c, "dim");
    int64_t whole[VESTIGE_MAXDIM], step = 1;
    double eps = option(c, "eps");
    for (int d = 0; d < ndim; d++) {
        int64_t m = d < ndim - a->ndim ? 1 : a->dim[d - ndim + a->ndim];
        int64_t n = d < ndim - b->ndim ? 1 : b->dim[d - ndim + b->ndim];
        whole[d] = m == 1 ? n : m;
    }
    void *scratch;
    TRY(alloc_scratch(&scratch, 3 * y->numel * 8));
    double *ab = scratch, *aa = ab + y->numel, *bb = aa + y->numel;
    memset(scratch, 0, (size_t)(3 * y->numel) * 8);
    cursor k;
    cursor_start(&k, ndim, whole, 3, (T[]){ c->in[0], c->in[1], NULL });
    for (int d = ndim - 1; d >= 0; d--)
        if (d != dim) {
            k.stride[2][d] = step;
            step *= whole[d];
        }
    for (; k.left; cursor_next(&k)) {
        double u = get(a->data, ty, k.at[0]), v = get(b->data, ty, k.at[1]);
        ab[k.at[2]] += u * v;
        aa[k.at[2]] += u * u;
        bb[k.at[2]] += v * v;
    }
    for (int64_t i = 0; i < y->numel; i++)
        put(y->data, ty, i, ab[i] / (fmax(sqrt(aa[i]), eps) * fmax(sqrt(bb[i]), eps)));
    free_scratch(scratch, 3 * y->numel * 8);
    return VESTIGE_OK;
}

REF_FLOAT(mse)
REF_FLOAT(l1)
REF_FLOAT(smooth_l1)
REF_FLOAT(huber)
REF_FLOAT(kl_div)
REF_FLOAT(binary)
REF_FLOAT(cosine)

const kernel_row ref_criterion[] = {
    ROWS_FLOAT("mse_loss", mse),
    ROWS_FLOAT("l1_loss", l1),
    ROWS_FLOAT("smooth_l1_loss", smooth_l1),
    ROWS_FLOAT("huber_loss", huber),
    ROWS_FLOAT("binary_cross_entropy_with_logits", binary),
    ROWS_FLOAT("kl_div", kl_div),
    ROWS_FLOAT("cosine_similarity", cosine),
    { 0 },
};
