/* The definition of the optimisers' steps, in the order of PyTorch's arithmetic. Tensors of one
 * call may be of different types. */
#include "ref/ref.h"
#include "ops/optim.h"

static double at(const tensor *t, int64_t j) {
    return get(t->data, t->dtype, j);
}

static bool held(const tensor *mask, int64_t j) {
    return mask && at(mask, j) == 0;
}

static int sgd_step(const call *c) {
    sgd_numbers n = sgd_read(c);
    for (int i = 0; i < c->len[0]; i++) {
        T p = list_item(c, SGD_P, i), g = list_item(c, SGD_G, i), m = list_item(c, SGD_M, i);
        T mask = list_item(c, SGD_MASK, i);
        for (int64_t j = 0; j < p->numel; j++) {
            if (held(mask, j))
                continue;
            double d = n.maximize ? -at(g, j) : at(g, j);
            d += n.weight_decay * at(p, j);
            if (n.momentum != 0) {
                double v = n.first ? d : n.momentum * at(m, j) + (1 - n.dampening) * d;
                put(m->data, m->dtype, j, v);
                d = n.nesterov ? d + n.momentum * v : v;
            }
            put(p->data, p->dtype, j, at(p, j) - n.lr * d);
        }
    }
    return VESTIGE_OK;
}

static int adamw_step(const call *c) {
    adam_numbers n = adam_read(c);
    for (int i = 0; i < c->len[0]; i++) {
        T p = list_item(c, ADAM_P, i), g = list_item(c, ADAM_G, i), m = list_item(c, ADAM_M, i);
        T v = list_item(c, ADAM_V, i), most = list_item(c, ADAM_MOST, i);
        T mask = list_item(c, ADAM_MASK, i);
        for (int64_t j = 0; j < p->numel; j++) {
            if (held(mask, j))
                continue;
            double d = (n.maximize ? -at(g, j) : at(g, j)) + n.decay * at(p, j);
            double mean = at(m, j) + (1 - n.beta1) * (d - at(m, j));
            double square = n.beta2 * at(v, j) + (1 - n.beta2) * d * d;
            put(m->data, m->dtype, j, mean);
            put(v->data, v->dtype, j, square);
            if (most) {
                square = fmax(at(most, j), square);
                put(most->data, most->dtype, j, square);
            }
            double denominator = sqrt(square) / n.correction + n.eps;
            put(p->data, p->dtype, j, n.keep * at(p, j) - n.step_size * mean / denominator);
        }
    }
    return VESTIGE_OK;
}

static int total_norm(const call *c) {
    double type = option(c, "norm_type"), total = 0;
    for (int i = 0; i < c->nin; i++)
        for (int64_t j = 0; j < c->in[i]->numel; j++) {
            double x = fabs(at(c->in[i], j));
            if (type == 1)
                total += x;
            else if (type == 2)
                total += x * x;
            else if (!(x <= total)) /* NaN stays */
                total = total != total ? total : x;
        }
    put(c->out[0]->data, c->out[0]->dtype, 0, type == 2 ? sqrt(total) : total);
    return VESTIGE_OK;
}

static int clip_norm(const call *c) {
    double scale = clip_scale(c, at(c->in[c->nin - 1], 0));
    for (int i = 0; i < c->len[0]; i++)
        for (int64_t j = 0; j < c->in[i]->numel; j++)
            put(c->in[i]->data, c->in[i]->dtype, j, at(c->in[i], j) * scale);
    return VESTIGE_OK;
}

#define FLOATS(name, run)                                                                          \
    { name, VESTIGE_F32, run }, { name, VESTIGE_F64, run }, {                                      \
        name, VESTIGE_BF16, run                                                                    \
    }

const kernel_row ref_optim[] = {
    FLOATS("sgd_step_", sgd_step),
    FLOATS("adamw_step_", adamw_step),
    FLOATS("total_norm", total_norm),
    FLOATS("clip_norm_", clip_norm),
    { 0 },
};
