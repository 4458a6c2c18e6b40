/* grad.h: what the walk and the language of rules share. */
#ifndef VESTIGE_GRAD_H
#define VESTIGE_GRAD_H

#include "autograd/autograd.h"
#include "ops/rules.h"

struct grad {
    node *n;
    T *gout;             /* one for each output, NULL where none arrived */
    V *gin;              /* what the rule gives */
    const int32_t *edge; /* below zero: not wanted */
    bool create;
};

/* *slot += g; the slot takes its own reference. */
int grad_accumulate(T *slot, T g, bool create_graph);
/* g summed and cast to an input's shape and type; NULL after an error. A temporary. */
T grad_fit(T g, const node_in *to);
node *custom_find(int64_t id);
void custom_died(int64_t id);

#endif
