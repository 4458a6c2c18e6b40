/* optim.c: steps of optimisers over all parameters at once, the norm of a list of tensors, and
 * scaling a list to a norm. Each step is one call that checks everything first, allocates nothing
 * and cannot fail half way. The numbers are those of one group of parameters. */
#include "ops/optim.h"
#include "ops/rules.h"

static int check_count(const call *c, int list, bool may_be_empty) {
    const vestige_param *p = &op_table[c->op].public.ins[list];
    if (c->len[list] == c->len[0] || (may_be_empty && c->len[list] == 0))
        return VESTIGE_OK;
    return fail(VESTIGE_ESHAPE, "%s: %s: expected %d tensors, one for each of %s, got %d",
                opname(c), p->name, c->len[0], op_table[c->op].public.ins[0].name, c->len[list]);
}

/* Every tensor of a list has the shape and, but for masks, the type of its parameter. */
static int check_list(const call *c, int list, bool same_type) {
    const vestige_op *o = &op_table[c->op].public;
    for (int i = 0; i < c->len[list]; i++) {
        const tensor *p = list_item(c, 0, i), *t = list_item(c, list, i);
        if (t->ndim != p->ndim || memcmp(t->dim, p->dim, (size_t)p->ndim * sizeof *p->dim) != 0 ||
            (same_type && t->dtype != p->dtype))
            return fail(VESTIGE_ESHAPE, "%s: %s[%d] is %s, but %s[%d] is %s", opname(c),
                        o->ins[list].name, i + 1, describe(t), o->ins[0].name, i + 1, describe(p));
    }
    return VESTIGE_OK;
}

static int check_first(call *c) {
    if (c->len[0] == 0)
        return fail(VESTIGE_EVALUE, "%s: %s: expected at least one tensor", opname(c),
                    op_table[c->op].public.ins[0].name);
    c->type = c->in[0]->dtype;
    return VESTIGE_OK;
}

/* A number from low on; what NaN is not. */
static int check_number(const call *c, const char *name, double low, double below) {
    double x = option(c, name);
    if (x >= low && x < below)
        return VESTIGE_OK;
    return fail(VESTIGE_EVALUE, "%s: %s: expected a number from %g on%s, got %g", opname(c), name,
                low, below < INFINITY ? " and below 1" : "", x);
}

static int infer_sgd(call *c) {
    TRY(check_first(c));
    TRY(check_count(c, SGD_G, false));
    TRY(check_count(c, SGD_M, option(c, "momentum") == 0));
    TRY(check_count(c, SGD_MASK, true));
    for (int list = SGD_G; list <= SGD_MASK; list++)
        TRY(check_list(c, list, list != SGD_MASK));
    TRY(check_number(c, "lr", 0, INFINITY));
    TRY(check_number(c, "momentum", 0, INFINITY));
    TRY(check_number(c, "weight_decay", 0, INFINITY));
    if (option(c, "nesterov") != 0 && !(option(c, "momentum") > 0 && option(c, "dampening") == 0))
        return fail(VESTIGE_EVALUE, "sgd_step_: nesterov needs a momentum and no dampening");
    return VESTIGE_OK;
}

static int infer_adamw(call *c) {
    TRY(check_first(c));
    for (int list = ADAM_G; list <= ADAM_MASK; list++) {
        TRY(check_count(c, list, list >= ADAM_MOST));
        TRY(check_list(c, list, list != ADAM_MASK));
    }
    TRY(check_number(c, "step", 1, INFINITY));
    TRY(check_number(c, "lr", 0, INFINITY));
    TRY(check_number(c, "beta1", 0, 1));
    TRY(check_number(c, "beta2", 0, 1));
    TRY(check_number(c, "eps", 0, INFINITY));
    TRY(check_number(c, "weight_decay", 0, INFINITY));
    return VESTIGE_OK;
}

/* ---- Norms over a list ---- */
static int infer_total_norm(call *c) {
    TRY(check_first(c));
    double p = option(c, "norm_type");
    if (!(p == 1 || p == 2 || p == INFINITY))
        return fail(VESTIGE_EVALUE, "total_norm: norm_type: expected 1, 2 or inf, got %g", p);
    for (int i = 0; i < c->nin; i++)
        if (c->in[i]->dtype != c->type)
            c->type = c->type == VESTIGE_F64 || c->in[i]->dtype == VESTIGE_F64 ? VESTIGE_F64
                                                                               : VESTIGE_F32;
    shape_set(c, 0, c->type, 0, NULL);
    return VESTIGE_OK;
}

/* x / y for the 2-norm, and 0 where all is 0. */
static void grad_total_norm(grad *g) {
    if (opt(g, "norm_type") != 2) {
        fail(VESTIGE_EGRAD, "total_norm: only norm_type 2 has a gradient");
        return;
    }
    V scale = R(div, gout(g, 0), R(maximum, out(g, 0), num(1e-30)));
    for (int i = 0; i < nin(g); i++)
        if (need(g, i))
            give(g, i, R(mul, in(g, i), scale));
}

static int infer_clip_norm(call *c) {
    TRY(check_first(c));
    const tensor *total = c->in[c->nin - 1];
    if (total->numel != 1)
        return fail(VESTIGE_ESHAPE, "clip_norm_: total: expected one number, got %s",
                    describe(total));
    return check_number(c, "max_norm", 0, INFINITY);
}

#define STEP_DOC                                                                                   \
    " Where a mask holds 0 nothing moves. Each list has one tensor for each of ps; masks may be "  \
    "left out."

const op_row ops_optim[] = {
    { .name = "sgd_step_",
      .in = "ps:float*! gs:float* ms:float*?! masks:tensor*?",
      .opts = "lr:float momentum:float=0 dampening:float=0 weight_decay:float=0 "
              "nesterov:bool=false maximize:bool=false first:bool=false",
      .infer = infer_sgd,
      .doc = "One step of stochastic gradient descent on all of ps with gradients gs and momentum "
             "buffers ms (left out without momentum), which the first step sets." STEP_DOC },
    { .name = "adamw_step_",
      .in = "ps:float*! gs:float* ms:float*! vs:float*! mosts:float*?! masks:tensor*?",
      .opts = "step:float lr:float=0.001 beta1:float=0.9 beta2:float=0.999 eps:float=1e-8 "
              "weight_decay:float=0.01 decoupled:bool=true maximize:bool=false",
      .infer = infer_adamw,
      .doc = "Step number `step` (from 1) of AdamW, or of Adam when weight decay is not decoupled, "
             "on all of ps with gradients gs, means ms and vs of the gradient and its square, and "
             "for AMSGrad the largest vs so far." STEP_DOC },
    { .name = "total_norm",
      .in = "xs:float*",
      .out = "y",
      .opts = "norm_type:float=2",
      .infer = infer_total_norm,
      .grad = grad_total_norm,
      .keeps = KEEP_IN | KEEP_OUT0,
      .domain = { -2, 2 },
      .doc = "The norm of all elements of all tensors: norm_type 2, 1 or inf." },
    { .name = "clip_norm_",
      .in = "xs:float*! total:float",
      .opts = "max_norm:float",
      .infer = infer_clip_norm,
      .doc = "Scales all of xs, whose norm is total, by max_norm / (total + 1e-6) when that is "
             "below 1." },
    { 0 }
};
