/* rules.c: running operators inside gradient rules, and what a rule reads of its node. */
#include <string.h>
#include "autograd/grad.h"

static void set_options(call *c, double *slots, const O *opts, int nopts) {
    memcpy(slots, op_table[c->op].preset, sizeof op_table[c->op].preset);
    c->opt = slots;
    for (int i = 0; i < nopts; i++) {
        int slot = slot_of(c, opts[i].name);
        if (slot < 0) {
            fail(VESTIGE_EVALUE, "a gradient rule passes the unknown option %s to %s", opts[i].name,
                 opname(c));
            return;
        }
        if (!opts[i].list) {
            slots[slot] = opts[i].v;
            continue;
        }
        slots[slot] = opts[i].count;
        for (int k = 0; k < opts[i].count; k++)
            slots[slot + 1 + k] = (double)opts[i].list[k];
    }
}

/* Lists: a rule passes all tensors flattened; one list takes what the other inputs leave. */
static void set_lengths(call *c, int32_t *len, int nin) {
    const op_info *info = &op_table[c->op];
    if (info->nlists)
        len[0] = nin - (info->public.nin - info->nlists);
    c->len = len;
}

V rule_apply(int op, const V *in, int nin, const O *opts, int nopts, const double *raw, V *outs) {
    V none = { NULL, 0 };
    for (int k = 0; outs && k < VESTIGE_MAXOUT; k++)
        outs[k] = none;
    if (error_pending())
        return none;
    if (op < 0) {
        fail(VESTIGE_EKERNEL, "a gradient rule names an unknown operator");
        return none;
    }
    T few[16];
    double nums[16], slots[MAX_SLOTS];
    int32_t len[MAX_LISTS];
    T *tensors = nin <= COUNT(few) ? few : block_alloc((size_t)nin * sizeof(T));
    if (!tensors)
        return none;
    bool numbers = false;
    for (int i = 0; i < nin; i++) {
        tensors[i] = in[i].t;
        if (i < COUNT(nums))
            nums[i] = in[i].n;
        numbers |= !in[i].t && in[i].n == in[i].n; /* NONE is not a number */
    }
    call c;
    call_start(&c, op, tensors, nin);
    c.num = numbers ? nums : NULL;
    set_lengths(&c, len, nin);
    if (opts)
        set_options(&c, slots, opts, nopts);
    else
        c.opt = (double *)raw;
    V first = none;
    if (error_pending() >= 0 && dispatch(&c) >= 0) {
        for (int k = 0; k < c.nout; k++) {
            if (temp_push(c.out[k]) >= 0 && outs)
                outs[k].t = c.out[k];
            if (k == 0)
                first.t = error_pending() ? NULL : c.out[0];
        }
    }
    if (tensors != few)
        block_free(tensors, (size_t)nin * sizeof(T));
    return first;
}

V rule_apply_options(int op, const V *in, int nin, rule_options o) {
    return rule_apply(op, in, nin, o.at, o.count, NULL, NULL);
}

/* ---- What a rule is given ---- */
bool need(const grad *g, int i) {
    return i < g->n->nin && g->edge[i] >= 0;
}

V in(grad *g, int i) {
    const node_in *ni = &g->n->in[i];
    if (!ni->present)
        return (V){ NULL, g->n->num ? g->n->num[i] : NAN };
    T t;
    if (error_pending() || node_unpack_in(&t, g->n, i) < 0 || temp_push(t) < 0)
        return (V){ NULL, 0 };
    return tensor_value(t);
}

V out(grad *g, int k) {
    T t;
    if (error_pending() || node_unpack_out(&t, g->n, k) < 0 || temp_push(t) < 0)
        return (V){ NULL, 0 };
    return tensor_value(t);
}

bool has_gout(const grad *g, int k) {
    return g->gout[k] != NULL;
}

V gout(grad *g, int k) {
    return tensor_value(g->gout[k]);
}

void give(grad *g, int i, V gradient) {
    g->gin[i] = gradient;
}

/* Whether nobody but its slot sees a gradient, so that it can be added to in place. */
static bool sole(const tensor *t, bool create_graph) {
    return !create_graph && t->refs == 1 && t->store->refs == 1 && !t->node;
}

void give_sum(grad *g, int i, int op, int op_add, const double *raw, V a, V b) {
    const node_in *ni = &g->n->in[i];
    T have = g->slots[g->edge[i]];
    if (have && sole(have, g->create) && have->dtype == ni->dtype && error_pending() >= 0) {
        have->flags = 0;
        rule_apply(op_add, (V[]){ { have, 0 }, a, b }, 3, NULL, 0, raw, NULL);
        return;
    }
    give(g, i, rule_apply(op, (V[]){ a, b, NONE }, op_table[op].public.nin, NULL, 0, raw, NULL));
}

const double *slots(const grad *g) {
    return g->n->opt;
}

double opt(const grad *g, const char *name) {
    call c;
    call_start(&c, g->n->op, NULL, 0);
    c.opt = g->n->opt;
    return option(&c, name);
}

int opt_list(const grad *g, const char *name, const double **values) {
    call c;
    call_start(&c, g->n->op, NULL, 0);
    c.opt = g->n->opt;
    return list_option(&c, name, values);
}

int nin(const grad *g) {
    return g->n->nin;
}

const int32_t *lens(const grad *g) {
    return g->n->len;
}

vestige_stream draw(const grad *g) {
    return (vestige_stream){ g->n->key, g->n->offset };
}

bool present(const grad *g, int i) {
    return g->n->in[i].present;
}

shape in_shape(const grad *g, int i) {
    const node_in *ni = &g->n->in[i];
    shape s = { .dtype = ni->dtype, .ndim = ni->ndim };
    memcpy(s.dim, ni->dim, sizeof *s.dim * ni->ndim);
    return s;
}

shape out_shape(const grad *g, int k) {
    const node_out *no = &g->n->out[k];
    shape s = { .dtype = no->dtype, .ndim = no->ndim };
    memcpy(s.dim, no->dim, sizeof *s.dim * no->ndim);
    return s;
}

bool creating_graph(const grad *g) {
    return g->create;
}

/* ---- Between rules ---- */
int grad_accumulate(T *slot, T g, bool create_graph) {
    if (!*slot) {
        tensor_ref(g);
        *slot = g;
        return VESTIGE_OK;
    }
    size_t mark = temp_mark();
    T have = *slot;
    if (sole(have, create_graph)) {
        have->flags = 0; /* nobody else sees it */
        rule_apply(OPID(add_), (V[]){ { have, 0 }, { g, 0 } }, 2, NULL, 0, NULL, NULL);
        return error_pending();
    }
    V sum = rule_apply(OPID(add), (V[]){ { have, 0 }, { g, 0 } }, 2, NULL, 0, NULL, NULL);
    if (sum.t) {
        tensor_ref(sum.t);
        tensor_unref(have);
        *slot = sum.t;
    }
    temp_drop(mark);
    return error_pending();
}

bool grad_fits(const tensor *g, int ndim, const int64_t *dim) {
    bool fits = ndim <= g->ndim;
    for (int d = 1; d <= ndim && fits; d++)
        fits = dim[ndim - d] == g->dim[g->ndim - d] || dim[ndim - d] == 1;
    return fits;
}

T grad_fit(T g, int dtype, int ndim, const int64_t *dim) {
    if (g->ndim != ndim || memcmp(g->dim, dim, sizeof *dim * (size_t)ndim)) {
        O size = { "size", .list = dim, .count = ndim };
        g = rule_apply(OPID(sum_to), &(V){ g, 0 }, 1, &size, 1, NULL, NULL).t;
    }
    if (g && g->dtype != dtype) {
        O type = { "dtype", .v = dtype };
        g = rule_apply(OPID(to), &(V){ g, 0 }, 1, &type, 1, NULL, NULL).t;
    }
    return g;
}
