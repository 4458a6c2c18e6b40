/* grad.h: what the walk and the language of rules share. */
#ifndef VESTIGE_GRAD_H
#define VESTIGE_GRAD_H

#include "autograd/autograd.h"
#include "ops/rules.h"

struct grad {
    node *n;
    T *gout;             /* one for each output, NULL where none arrived */
    V *gin;              /* what the rule gives */
    const int32_t *edge; /* where it goes among `slots`; below zero: not wanted */
    T *slots;            /* gradients that are there already */
    bool create;
};

/* *slot += g; the slot takes its own reference. */
int grad_accumulate(T *slot, T g, bool create_graph);
/* g summed and cast to a shape and type; NULL after an error. A temporary, or g itself. */
T grad_fit(T g, int dtype, int ndim, const int64_t *dim);
/* Whether g's shape is dim, or broadcast from it. */
bool grad_fits(const tensor *g, int ndim, const int64_t *dim);
node *custom_find(int64_t id);

#endif
