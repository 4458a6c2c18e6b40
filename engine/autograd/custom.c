/* custom.c: what the outside sees of the tape: leaves, .grad, detaching, hooks, and nodes whose
 * rule lives outside C (vestige.custom, vestige.checkpoint). */
#include <stdlib.h>
#include <string.h>
#include "autograd/grad.h"

int vestige_grad_mode(int on) {
    int was = grad_mode;
    grad_mode = on != 0;
    return was;
}

int vestige_grad_enabled(void) {
    return grad_mode;
}

int vestige_requires_grad(const vestige_tensor *h, int on) {
    clear_error();
    T t = handle_in(h, "requires_grad_");
    if (!t)
        return error_pending();
    if (on && !t->node) {
        if (!is_float(t->dtype))
            return fail(VESTIGE_ETYPE, "requires_grad_: expected a float tensor, got %s",
                        describe(t));
        return leaf_node(t);
    }
    if (!on && t->node) {
        if (!t->leaf)
            return fail(VESTIGE_EGRAD, "requires_grad_: only a leaf's can be switched off; use "
                                       ":detach()");
        node_unref(t->node);
        t->node = NULL;
        t->leaf = 0;
    }
    return VESTIGE_OK;
}

int vestige_detach(vestige_tensor *out, const vestige_tensor *h) {
    clear_error();
    T t = handle_in(h, "detach"), d;
    if (!t)
        return error_pending();
    TRY(tensor_view(&d, t, 0, t->ndim, t->dim));
    return handle_out(out, d);
}

int vestige_grad_get(vestige_tensor *out, const vestige_tensor *h) {
    clear_error();
    T t = handle_in(h, "grad");
    if (!t)
        return error_pending();
    *out = (vestige_tensor){ 0 };
    if (!t->grad)
        return VESTIGE_OK;
    tensor_ref(t->grad);
    return handle_out(out, t->grad);
}

int vestige_grad_set(const vestige_tensor *h, const vestige_tensor *value) {
    clear_error();
    T t = handle_in(h, "grad"), g = NULL;
    if (!t || (value && !(g = handle_in(value, "grad"))))
        return error_pending();
    if (g) {
        if (g == t)
            return fail(VESTIGE_EGRAD, "grad: a tensor cannot be its own gradient");
        if (g->ndim != t->ndim || memcmp(g->dim, t->dim, sizeof *g->dim * g->ndim) ||
            g->dtype != t->dtype)
            return fail(VESTIGE_ESHAPE, "grad: expected %s, got %s", describe(t), describe(g));
        if (device_of(g) != device_of(t))
            return fail(VESTIGE_EDEVICE, "grad: expected a tensor on %s, got one on %s",
                        vestige_device_name(device_of(t)), vestige_device_name(device_of(g)));
        tensor_ref(g);
    }
    T old = t->grad;
    t->grad = g;
    if (old)
        tensor_unref(old);
    return VESTIGE_OK;
}

/* ---- Outside nodes, found by number, and the numbers that nobody can ask for any more ---- */
static node **table;
static int table_count, table_room;
static int64_t next_id = 1;
static int64_t *gone;
static int gone_count, gone_room;

node *custom_find(int64_t id) {
    for (int i = table_count; i-- > 0;)
        if (table[i]->lua_id == id)
            return table[i];
    return NULL;
}

static int table_add(node *n) {
    if (table_count == table_room) {
        int room = table_room ? table_room * 2 : 64;
        node **p = allocation_fails() ? NULL : realloc(table, (size_t)room * sizeof *p);
        if (!p)
            return fail(VESTIGE_EMEMORY, "out of memory: the table of custom functions");
        table = p;
        table_room = room;
    }
    n->place = table_count;
    table[table_count++] = n;
    return VESTIGE_OK;
}

void custom_remove(const node *n) {
    if (n->place < table_count && table[n->place] == n) { /* not when it was never added */
        table[n->place] = table[--table_count];
        table[n->place]->place = n->place;
    }
    outside_died(n->lua_id);
}

void outside_died(int64_t id) {
    if (gone_count == gone_room) {
        int room = gone_room ? gone_room * 2 : 64;
        int64_t *p = realloc(gone, (size_t)room * sizeof *p);
        if (!p)
            return; /* the closure stays in Lua's table: a leak, not an error */
        gone = p;
        gone_room = room;
    }
    gone[gone_count++] = id;
}

int64_t vestige_custom_dead(void) {
    return gone_count ? gone[--gone_count] : -1;
}

/* Gives each of outs the node instead of its own history. What cannot carry a gradient, or has a
 * history that is older than `since` (a checkpoint's own input), stays as it is. */
static void adopt(node *n, int nout, T *outs, uint64_t since) {
    for (int k = 0; k < nout; k++) {
        const node *own = outs[k]->node;
        if (!is_float(outs[k]->dtype) || (own && own != n && own->sequence < since))
            continue;
        n->refs++;
        if (outs[k]->node)
            node_unref(outs[k]->node);
        outs[k]->node = n;
        outs[k]->out_index = (uint8_t)k;
        outs[k]->leaf = 0;
    }
}

static int take_all(const vestige_tensor **h, int n, T *t, const char *what, size_t *ndims) {
    for (int i = 0; i < n; i++) {
        if (!(t[i] = handle_in(h[i], what)))
            return error_pending();
        *ndims += t[i]->ndim;
    }
    return VESTIGE_OK;
}

enum { MANY = 64 };

int vestige_custom(int nin, const vestige_tensor **ins, int nout, const vestige_tensor **outs,
                   int nsaved, const vestige_tensor **saved, int64_t *id) {
    clear_error();
    TRY(registry_open());
    if (nin > MANY || nout > MANY || nsaved > MANY)
        return fail(VESTIGE_EVALUE, "custom: at most %d inputs, outputs and saved tensors", MANY);
    T in_t[MANY], out_t[MANY], saved_t[MANY];
    size_t ndims = 0;
    TRY(take_all(ins, nin, in_t, "custom: input", &ndims));
    TRY(take_all(outs, nout, out_t, "custom: forward's result", &ndims));
    TRY(take_all(saved, nsaved, saved_t, "custom: saved tensor", &ndims));
    for (int k = 0; k < nout; k++)
        if (out_t[k]->node)
            return fail(VESTIGE_EGRAD, "custom: forward's result %d has a history of its own",
                        k + 1);
    node *n = node_new(nin, nsaved, nout, ndims, 0, 0);
    if (!n)
        return error_pending();
    n->op = -2;
    n->lua_id = *id = next_id++;
    int64_t *dims = (int64_t *)(n->out + nout);
    for (int i = 0; i < nin; i++)
        dims = node_take_in(&n->in[i], in_t[i], false, dims);
    for (int i = 0; i < nsaved; i++) {
        dims = node_take_in(&n->in[nin + i], saved_t[i], true, dims);
        for (int k = 0; k < nout; k++)
            if (saved_t[i] == out_t[k] && is_float(out_t[k]->dtype)) {
                n->in[nin + i].present = OWN_OUTPUT;
                n->in[nin + i].index = (uint8_t)k;
            }
    }
    for (int k = 0; k < nout; k++)
        dims = node_take_out(&n->out[k], out_t[k], false, dims);
    int status = table_add(n);
    if (status >= 0)
        adopt(n, nout, out_t, 0);
    node_unref(n);
    return status;
}

/* ---- Checkpoint: the edges that a graph reached beyond its start ---- */
typedef struct edges {
    node_in *at;
    int n, room;
} edges;

static int add_edge(edges *e, node *to, int index, const node_out *no) {
    for (int i = 0; i < e->n; i++)
        if (e->at[i].edge == to && e->at[i].index == index)
            return VESTIGE_OK;
    if (e->n == e->room) {
        int room = e->room ? e->room * 2 : 16;
        node_in *p = realloc(e->at, (size_t)room * sizeof *p);
        if (!p)
            return fail(VESTIGE_EMEMORY, "out of memory: checkpoint");
        e->at = p;
        e->room = room;
    }
    e->at[e->n++] = (node_in){ .edge = to,
                               .index = (uint8_t)index,
                               .dtype = no->dtype,
                               .ndim = no->ndim,
                               .dim = no->dim,
                               .present = 1 };
    return VESTIGE_OK;
}

/* Collects into e what lies beyond the part of the graph that is younger than since. */
static int reach(edges *e, uint64_t since, T *outs, int nout) {
    node **seen = NULL;
    int n = 0, room = 0, status = VESTIGE_OK;
    for (int k = 0; k < nout + n && status >= 0; k++) {
        node *at = k < nout ? outs[k]->node : seen[k - nout];
        if (k < nout) {
            if (!at || at->mark)
                continue;
            if (at->op == -1 || at->sequence < since) {
                status = add_edge(e, at, outs[k]->out_index, &at->out[outs[k]->out_index]);
                continue;
            }
        }
        if (k < nout || at->mark == 1) {
            at->mark = 2;
            for (int i = 0; i < at->nin && status >= 0; i++) {
                node *to = at->in[i].edge;
                if (!to || to->mark)
                    continue;
                if (to->op == -1 || to->sequence < since) {
                    status = add_edge(e, to, at->in[i].index, &to->out[at->in[i].index]);
                    continue;
                }
                if (n == room) {
                    room = room ? room * 2 : 64;
                    node **p = realloc(seen, (size_t)room * sizeof *p);
                    if (!p) {
                        status = fail(VESTIGE_EMEMORY, "out of memory: checkpoint");
                        break;
                    }
                    seen = p;
                }
                to->mark = 1;
                seen[n++] = to;
            }
        }
    }
    for (int i = 0; i < n; i++)
        seen[i]->mark = 0;
    for (int k = 0; k < nout; k++)
        if (outs[k]->node)
            outs[k]->node->mark = 0;
    free(seen);
    return status;
}

int vestige_custom_edges(uint64_t since, int nout, const vestige_tensor **outs, int nsaved,
                         const vestige_tensor **saved, int64_t *id) {
    clear_error();
    TRY(registry_open());
    if (nout > MANY || nsaved > MANY)
        return fail(VESTIGE_EVALUE, "checkpoint: at most %d inputs and results", MANY);
    T out_t[MANY], saved_t[MANY];
    size_t ndims = 0;
    TRY(take_all(outs, nout, out_t, "checkpoint: result", &ndims));
    TRY(take_all(saved, nsaved, saved_t, "checkpoint: input", &ndims));
    edges e = { 0 };
    int status = reach(&e, since, out_t, nout);
    for (int i = 0; i < e.n; i++)
        ndims += e.at[i].ndim;
    node *n = status >= 0 ? node_new(e.n, nsaved, nout, ndims, 0, 0) : NULL;
    if (!n) {
        free(e.at);
        return error_pending();
    }
    n->op = -2;
    n->lua_id = *id = next_id++;
    int64_t *dims = (int64_t *)(n->out + nout);
    for (int i = 0; i < e.n; i++) {
        n->in[i] = e.at[i];
        memcpy(dims, e.at[i].dim, e.at[i].ndim * sizeof *dims);
        n->in[i].dim = dims;
        dims += e.at[i].ndim;
        n->in[i].edge->refs++;
    }
    for (int i = 0; i < nsaved; i++)
        dims = node_take_in(&n->in[e.n + i], saved_t[i], true, dims);
    for (int k = 0; k < nout; k++)
        dims = node_take_out(&n->out[k], out_t[k], false, dims);
    int count = e.n;
    free(e.at);
    status = table_add(n);
    if (status >= 0)
        adopt(n, nout, out_t, since);
    node_unref(n);
    return status < 0 ? status : count;
}

int vestige_custom_edge_count(int64_t id) {
    const node *n = custom_find(id);
    return n ? n->nin : 0;
}

/* ---- Hooks ---- */
int vestige_hook(const vestige_tensor *h, int64_t *id) {
    clear_error();
    T t = handle_in(h, "register_hook");
    if (!t)
        return error_pending();
    if (!t->node)
        return fail(VESTIGE_EGRAD, "register_hook: the tensor does not require grad");
    hook *k = block_alloc(sizeof *k);
    if (!k)
        return error_pending();
    *k = (hook){ .id = *id = next_id++, .out = t->out_index, .next = t->node->hooks };
    t->node->hooks = k;
    return VESTIGE_OK;
}

int vestige_unhook(const vestige_tensor *h, int64_t id) {
    clear_error();
    T t = handle_in(h, "unhook");
    if (!t || !t->node)
        return error_pending();
    for (hook **k = &t->node->hooks; *k; k = &(*k)->next)
        if ((*k)->id == id) {
            hook *found = *k;
            *k = found->next;
            block_free(found, sizeof *found);
            outside_died(id);
            break;
        }
    return VESTIGE_OK;
}
