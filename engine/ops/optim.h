/* optim.h: the inputs and numbers of an optimiser's step, as its kernels read them. */
#ifndef VESTIGE_OPTIM_H
#define VESTIGE_OPTIM_H

#include "ops/row.h"

/* The lists of a call lie one after another in c->in. */
static inline T list_item(const call *c, int list, int i) {
    if (c->len[list] == 0)
        return NULL;
    for (int k = 0; k < list; k++)
        i += c->len[k];
    return c->in[i];
}

enum sgd_lists { SGD_P, SGD_G, SGD_M, SGD_MASK };
enum adam_lists { ADAM_P, ADAM_G, ADAM_M, ADAM_V, ADAM_MOST, ADAM_MASK };

typedef struct sgd_numbers {
    double lr, momentum, dampening, weight_decay;
    bool nesterov, maximize, first;
} sgd_numbers;

static inline sgd_numbers sgd_read(const call *c) {
    return (sgd_numbers){
        option(c, "lr"),           option(c, "momentum"),      option(c, "dampening"),
        option(c, "weight_decay"), option(c, "nesterov") != 0, option(c, "maximize") != 0,
        option(c, "first") != 0
    };
}

typedef struct adam_numbers {
    double keep;  /* what decoupled weight decay leaves of a parameter */
    double decay; /* what is added to the gradient otherwise */
    double beta1, beta2, eps;
    double step_size, correction; /* lr / (1 - beta1^step), sqrt(1 - beta2^step) */
    bool maximize;
} adam_numbers;

static inline adam_numbers adam_read(const call *c) {
    double lr = option(c, "lr"), decay = option(c, "weight_decay"), step = option(c, "step");
    bool decoupled = option(c, "decoupled") != 0;
    adam_numbers n = { .keep = decoupled ? 1 - lr * decay : 1,
                       .decay = decoupled ? 0 : decay,
                       .beta1 = option(c, "beta1"),
                       .beta2 = option(c, "beta2"),
                       .eps = option(c, "eps"),
                       .maximize = option(c, "maximize") != 0 };
    n.step_size = lr / (1 - pow(n.beta1, step));
    n.correction = sqrt(1 - pow(n.beta2, step));
    return n;
}

/* What a list of norm total is multiplied by. */
static inline double clip_scale(const call *c, double total) {
    double scale = option(c, "max_norm") / (total + 1e-6);
    return scale >= 1 ? 1 : scale;
}

#endif
