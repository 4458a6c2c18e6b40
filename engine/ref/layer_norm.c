/* The definition of layer_norm and of its gradient: x is (rows, n). */
#include "ref/ref.h"

/* Element k of a vector of its own type; absent: the number. */
static double vector(const tensor *t, int64_t k, double absent) {
    return t ? get(t->data, t->dtype, k) : absent;
}

ALWAYS_INLINE int layer_norm(const call *c, int t) {
    T x = c->in[0], y = c->out[0], mean = c->out[1], rstd = c->out[2];
    int64_t rows = mean->numel, n = rows ? x->numel / rows : 0;
    double eps = option(c, "eps");
    for (int64_t i = 0; i < rows; i++) {
        double sum = 0, squares = 0;
        for (int64_t k = 0; k < n; k++)
            sum += get(x->data, t, i * n + k);
        double m = sum / (double)n;
        for (int64_t k = 0; k < n; k++) {
            double d = get(x->data, t, i * n + k) - m;
            squares += d * d;
        }
        double r = 1 / sqrt(squares / (double)n + eps);
        put(mean->data, mean->dtype, i, m);
        put(rstd->data, rstd->dtype, i, r);
        for (int64_t k = 0; k < n; k++)
            put(y->data, t, i * n + k,
                (get(x->data, t, i * n + k) - m) * r * vector(c->in[1], k, 1) +
                    vector(c->in[2], k, 0));
    }
    return VESTIGE_OK;
}

ALWAYS_INLINE void input_gradient(const call *c, int t, int64_t i, int64_t n) {
    T g = c->in[0], x = c->in[1], weight = c->in[2];
    double m = vector(c->in[3], i, 0), r = vector(c->in[4], i, 0), plain = 0, scaled = 0;
    for (int64_t k = 0; k < n; k++) {
        double p = get(g->data, t, i * n + k) * vector(weight, k, 1);
        plain += p;
        scaled += p * (get(x->data, t, i * n + k) - m) * r;
    }
    for (int64_t k = 0; k < n; k++) {
        double p = get(g->data, t, i * n + k) * vector(weight, k, 1);
        double h = (get(x->data, t, i * n + k) - m) * r;
        put(c->out[0]->data, t, i * n + k, r * (p - (plain + h * scaled) / (double)n));
    }
}

ALWAYS_INLINE int layer_norm_backward(const call *c, int t) {
    T g = c->in[0], x = c->in[1], dw = c->out[1], db = c->out[2];
    int64_t rows = c->in[3]->numel, n = rows ? x->numel / rows : dw->numel;
    if (option(c, "input") != 0)
        for (int64_t i = 0; i < rows; i++)
            input_gradient(c, t, i, n);
    for (int64_t k = 0; k < n && option(c, "affine") != 0; k++) {
        double plain = 0, scaled = 0;
        for (int64_t i = 0; i < rows; i++) {
            double gi = get(g->data, t, i * n + k);
            plain += gi;
            scaled +=
                gi * (get(x->data, t, i * n + k) - vector(c->in[3], i, 0)) * vector(c->in[4], i, 0);
        }
        put(dw->data, dw->dtype, k, scaled);
        put(db->data, db->dtype, k, plain);
    }
    return VESTIGE_OK;
}

REF_FLOAT(layer_norm)
REF_FLOAT(layer_norm_backward)

const kernel_row ref_layer_norm[] = {
    ROWS_FLOAT("layer_norm", layer_norm),
    ROWS_FLOAT("layer_norm_backward", layer_norm_backward),
    { 0 },
};
