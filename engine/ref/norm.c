/* The definition of batch_norm and its parts. Channels are last: channel k of row i is i * C + k.
 */
#include "ref/ref.h"

typedef struct layout {
    int64_t rows, channels;
} layout;

static layout layout_of(const tensor *x) {
    int64_t channels = x->dim[x->ndim - 1];
    return (layout){ channels ? x->numel / channels : 0, channels };
}

/* Element k of a vector of its own type; absent: the number. */
static double vector(const tensor *t, int64_t k, double absent) {
    return t ? get(t->data, t->dtype, k) : absent;
}

/* v, element i of the output, with what ends the operator: residual, relu and its bit of the mask
 * (empty without relu, as the mask is). */
typedef struct end {
    const tensor *residual;
    uint8_t *mask;
} end;

static end end_of(const tensor *residual, const tensor *mask, bool relu) {
    if (relu)
        memset(mask->data, 0, (size_t)mask->numel);
    return (end){ residual, relu ? (uint8_t *)mask->data : NULL };
}

ALWAYS_INLINE double ended(end e, int t, int64_t i, double v) {
    if (e.residual)
        v += get(e.residual->data, t, i);
    if (!e.mask)
        return v;
    if (v > 0)
        e.mask[i / 8] |= (uint8_t)(1 << i % 8);
    return v > 0 || v != v ? v : 0;
}

/* Mean and biased variance of channel k. */
ALWAYS_INLINE void moments(const tensor *x, int t, layout l, int64_t k, double *mean, double *var) {
    double sum = 0, squares = 0;
    for (int64_t i = 0; i < l.rows; i++)
        sum += get(x->data, t, i * l.channels + k);
    *mean = sum / (double)l.rows;
    for (int64_t i = 0; i < l.rows; i++) {
        double d = get(x->data, t, i * l.channels + k) - *mean;
        squares += d * d;
    }
    *var = squares / (double)l.rows;
}

static void move(tensor *running, int64_t k, double momentum, double x) {
    double old = get(running->data, running->dtype, k);
    put(running->data, running->dtype, k, (1 - momentum) * old + momentum * x);
}

ALWAYS_INLINE int batch_norm(const call *c, int t) {
    T x = c->in[0], y = c->out[0];
    layout l = layout_of(x);
    bool training = option(c, "training") != 0;
    double eps = option(c, "eps"), momentum = option(c, "momentum");
    bool relu = c->nout > 3;
    end e = relu ? end_of(c->in[5], c->out[3], true) : (end){ 0 };
    for (int64_t k = 0; k < l.channels; k++) {
        double mean, var;
        if (training) {
            moments(x, t, l, k, &mean, &var);
            if (c->in[3]) {
                move(c->in[3], k, momentum, mean);
                move(c->in[4], k, momentum, var * (double)l.rows / (double)(l.rows - 1));
            }
        } else {
            mean = vector(c->in[3], k, 0);
            var = vector(c->in[4], k, 1);
        }
        double invstd = 1 / sqrt(var + eps);
        put(c->out[1]->data, c->out[1]->dtype, k, mean);
        put(c->out[2]->data, c->out[2]->dtype, k, invstd);
        mean = vector(c->out[1], k, 0); /* as batch_norm_apply reads them */
        invstd = vector(c->out[2], k, 1);
        double weight = vector(c->in[1], k, 1), bias = vector(c->in[2], k, 0);
        for (int64_t i = k; i < x->numel; i += l.channels)
            put(y->data, t, i,
                ended(e, t, i, (get(x->data, t, i) - mean) * invstd * weight + bias));
    }
    return VESTIGE_OK;
}

ALWAYS_INLINE int apply(const call *c, int t) {
    T x = c->in[0], y = c->out[0];
    layout l = layout_of(x);
    end e = end_of(c->in[5], c->out[1], option(c, "relu") != 0);
    for (int64_t i = 0; i < x->numel; i++) {
        int64_t k = i % l.channels;
        double h = (get(x->data, t, i) - vector(c->in[1], k, 0)) * vector(c->in[2], k, 1);
        put(y->data, t, i, ended(e, t, i, h * vector(c->in[3], k, 1) + vector(c->in[4], k, 0)));
    }
    return VESTIGE_OK;
}

/* Element i of g where its bit of the mask is set; absent: everywhere. */
ALWAYS_INLINE double masked_get(const tensor *g, const tensor *mask, int t, int64_t i) {
    bool set = !mask || ((const uint8_t *)mask->data)[i / 8] >> i % 8 & 1;
    return set ? get(g->data, t, i) : 0;
}

ALWAYS_INLINE int masked(const call *c, int t) {
    T g = c->in[0];
    for (int64_t i = 0; i < g->numel; i++)
        put(c->out[0]->data, t, i, masked_get(g, c->in[1], t, i));
    return VESTIGE_OK;
}

ALWAYS_INLINE int sums(const call *c, int t) {
    T g = c->in[0], x = c->in[1];
    layout l = layout_of(x);
    for (int64_t k = 0; k < l.channels; k++) {
        double mean = vector(c->in[2], k, 0), invstd = vector(c->in[3], k, 1), dw = 0, db = 0;
        for (int64_t i = k; i < x->numel; i += l.channels) {
            double gi = masked_get(g, c->in[4], t, i);
            dw += gi * (get(x->data, t, i) - mean) * invstd;
            db += gi;
        }
        put(c->out[0]->data, c->out[0]->dtype, k, dw);
        put(c->out[1]->data, c->out[1]->dtype, k, db);
    }
    return VESTIGE_OK;
}

ALWAYS_INLINE int input(const call *c, int t) {
    T g = c->in[0], x = c->in[1], dx = c->out[0];
    layout l = layout_of(g);
    bool training = option(c, "training") != 0;
    for (int64_t i = 0; i < g->numel; i++) {
        int64_t k = i % l.channels;
        double invstd = vector(c->in[4], k, 1), v = masked_get(g, c->in[7], t, i);
        if (training) {
            double h = (get(x->data, t, i) - vector(c->in[3], k, 0)) * invstd;
            v -= (vector(c->in[6], k, 0) + h * vector(c->in[5], k, 0)) / (double)l.rows;
        }
        put(dx->data, t, i, v * invstd * vector(c->in[2], k, 1));
    }
    return VESTIGE_OK;
}

ALWAYS_INLINE int statistics(const call *c, int t) {
    layout l = layout_of(c->in[0]);
    for (int64_t k = 0; k < l.channels; k++) {
        double mean, var;
        moments(c->in[0], t, l, k, &mean, &var);
        put(c->out[0]->data, c->out[0]->dtype, k, mean);
        put(c->out[1]->data, c->out[1]->dtype, k, 1 / sqrt(var + option(c, "eps")));
    }
    return VESTIGE_OK;
}

REF_FLOAT(batch_norm)
REF_FLOAT(apply)
REF_FLOAT(masked)
REF_FLOAT(sums)
REF_FLOAT(input)
REF_FLOAT(statistics)

const kernel_row ref_norm[] = {
    ROWS_FLOAT("batch_norm", batch_norm),
    ROWS_FLOAT("batch_norm_relu", batch_norm),
    ROWS_FLOAT("batch_norm_apply", apply),
    ROWS_FLOAT("masked_by_bits", masked),
    ROWS_FLOAT("batch_norm_sums", sums),
    ROWS_FLOAT("batch_norm_input", input),
    ROWS_FLOAT("batch_norm_statistics", statistics),
    { 0 },
};
