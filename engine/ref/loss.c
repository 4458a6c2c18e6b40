/* The definition of nll_loss, cross_entropy and their gradients. */
#include "ref/ref.h"
#include "ops/loss.h"

/* The target of a loss: see ops/loss.c for its t_ij. */
typedef struct goal {
    const tensor *target, *weight;
    int64_t rows, classes, ignore;
    bool soft;
    int reduction;
    double smoothing;
    double scale; /* 1 / c */
} goal;

static double weight_of(const goal *k, int64_t j) {
    return k->weight ? get(k->weight->data, k->weight->dtype, j) : 1;
}

static int64_t label_of(const goal *k, int64_t i) {
    return get_int(k->target->data, k->target->dtype, i);
}

static bool ignored(const goal *k, int64_t i) {
    return !k->soft && label_of(k, i) == k->ignore;
}

static double t_of(const goal *k, int64_t i, int64_t j) {
    double even = k->smoothing / (double)k->classes;
    if (k->soft)
        return weight_of(k, j) *
               ((1 - k->smoothing) * get(k->target->data, k->target->dtype, i * k->classes + j) +
                even);
    return weight_of(k, j) * (even + (j == label_of(k, i) ? 1 - k->smoothing : 0));
}

/* Checks the labels and finds the divisor of a mean. */
static int goal_open(goal *k, const call *c, int64_t classes, double smoothing) {
    const tensor *target = c->in[1];
    bool soft = is_float(target->dtype);
    *k = (goal){ .target = target,
                 .weight = c->in[2],
                 .classes = classes,
                 .soft = soft,
                 .rows = soft ? (classes ? target->numel / classes : 0) : target->numel,
                 .ignore = (int64_t)option(c, "ignore_index"),
                 .reduction = (int)option(c, "reduction"),
                 .smoothing = smoothing,
                 .scale = 1 };
    double total = 0;
    for (int64_t i = 0; i < k->rows; i++) {
        if (ignored(k, i))
            continue;
        int64_t label = soft ? 0 : label_of(k, i);
        if (label < 0 || label >= classes)
            return bad_label(c, target, i, label, classes);
        total += soft ? 1 : weight_of(k, label);
    }
    if (k->reduction == MEAN)
        k->scale = 1 / total;
    return VESTIGE_OK;
}

static int64_t last_dim(const tensor *x) {
    return x->dim[x->ndim - 1];
}

/* The loss of all rows: their sum, mean (NaN over nothing), or each. */
ALWAYS_INLINE void put_loss(const goal *k, tensor *y, int t, int64_t i, double loss, double *sum) {
    if (k->reduction == EACH)
        put(y->data, t, i, loss);
    *sum += loss;
}
ALWAYS_INLINE void put_sum(const goal *k, tensor *y, int t, double sum) {
    if (k->reduction != EACH)
        put(y->data, t, 0, k->reduction == MEAN ? sum * k->scale : sum);
}

ALWAYS_INLINE int nll_loss(const call *c, int t) {
    const tensor *x = c->in[0];
    goal k;
    TRY(goal_open(&k, c, last_dim(x), 0));
    double sum = 0;
    for (int64_t i = 0; i < k.rows; i++) {
        double loss = 0;
        if (!ignored(&k, i)) {
            int64_t y = label_of(&k, i);
            loss = -weight_of(&k, y) * get(x->data, t, i * k.classes + y);
        }
        put_loss(&k, c->out[0], t, i, loss, &sum);
    }
    put_sum(&k, c->out[0], t, sum);
    return VESTIGE_OK;
}

ALWAYS_INLINE int cross_entropy(const call *c, int t) {
    const tensor *x = c->in[0];
    tensor *mosts = c->out[1], *logsums = c->out[2];
    goal k;
    TRY(goal_open(&k, c, last_dim(x), option(c, "label_smoothing")));
    double sum = 0;
    for (int64_t i = 0; i < k.rows; i++) {
        double most = -INFINITY, others = 0, loss = 0;
        int64_t at = 0;
        for (int64_t j = 0; j < k.classes; j++) {
            double v = get(x->data, t, i * k.classes + j);
            if (v > most || v != v)
                most = v, at = j;
        }
        for (int64_t j = 0; j < k.classes; j++) /* without 1 for the largest: no digit is lost */
            others += j == at ? 0 : exp(get(x->data, t, i * k.classes + j) - most);
        double logsum = log1p(others);
        put(mosts->data, mosts->dtype, i, most);
        put(logsums->data, logsums->dtype, i, logsum);
        for (int64_t j = 0; j < k.classes && !ignored(&k, i); j++) {
            double tij = t_of(&k, i, j);
            if (tij != 0) /* 0 times the logarithm of 0 is 0 */
                loss -= tij * (get(x->data, t, i * k.classes + j) - most - logsum);
        }
        put_loss(&k, c->out[0], t, i, loss, &sum);
    }
    put_sum(&k, c->out[0], t, sum);
    return VESTIGE_OK;
}

/* dx_ij = g (T_i p_ij - t_ij) / c, T_i the sum of t_ij. At the label T (p - 1) + (T - t) keeps the
 * digits of 1 - p. */
ALWAYS_INLINE int cross_entropy_backward(const call *c, int t) {
    const tensor *g = c->in[0], *x = c->in[1], *mosts = c->in[4], *logsums = c->in[5];
    tensor *dx = c->out[0];
    call as_forward = *c;
    as_forward.in = c->in + 1;
    goal k;
    TRY(goal_open(&k, &as_forward, last_dim(x), option(c, "label_smoothing")));
    for (int64_t i = 0; i < k.rows; i++) {
        double gi = get(g->data, t, k.reduction == EACH ? i : 0) * k.scale, total = 0;
        double most = get(mosts->data, mosts->dtype, i),
               log = get(logsums->data, logsums->dtype, i);
        for (int64_t j = 0; j < k.classes; j++)
            total += t_of(&k, i, j);
        for (int64_t j = 0; j < k.classes; j++) {
            int64_t at = i * k.classes + j;
            double logp = get(x->data, t, at) - most - log, tij = t_of(&k, i, j);
            double d = logp > -0.5 ? total * expm1(logp) + (total - tij) : total * exp(logp) - tij;
            put(dx->data, t, at, ignored(&k, i) ? 0 : gi * d);
        }
    }
    return VESTIGE_OK;
}

ALWAYS_INLINE int class_slope(const call *c, int t) {
    const tensor *g = c->in[0];
    goal k;
    TRY(goal_open(&k, c, last_dim(c->out[0]), option(c, "label_smoothing")));
    for (int64_t i = 0; i < k.rows; i++) {
        double gi = get(g->data, t, k.reduction == EACH ? i : 0) * k.scale;
        for (int64_t j = 0; j < k.classes; j++)
            put(c->out[0]->data, t, i * k.classes + j, ignored(&k, i) ? 0 : -gi * t_of(&k, i, j));
    }
    return VESTIGE_OK;
}

REF_FLOAT(nll_loss)
REF_FLOAT(cross_entropy)
REF_FLOAT(cross_entropy_backward)
REF_FLOAT(class_slope)

const kernel_row ref_loss[] = {
    ROWS_FLOAT("nll_loss", nll_loss),
    ROWS_FLOAT("cross_entropy", cross_entropy),
    ROWS_FLOAT("cross_entropy_backward", cross_entropy_backward),
    ROWS_FLOAT("class_slope", class_slope),
    { 0 },
};
