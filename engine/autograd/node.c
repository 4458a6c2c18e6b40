/* node.c: recording a call on the tape, unpacking what it kept, and freeing graphs. */
#include <string.h>
#include "autograd/autograd.h"
#include "ops/autocast.h"

bool grad_mode = true;
static uint64_t sequence = 1;
static int64_t live;

int64_t nodes_live(void) {
    return live;
}

uint64_t vestige_tape_mark(void) {
    return sequence;
}

node *node_new(int nin, int nsaved, int nout, size_t ndims, int nslot, int nlen) {
    size_t bytes = sizeof(node) + (size_t)(nin + nsaved) * sizeof(node_in) +
                   (size_t)nout * sizeof(node_out) + ndims * sizeof(int64_t) +
                   (size_t)nslot * sizeof(double) + (size_t)nlen * sizeof(int32_t);
    node *n = block_alloc(bytes);
    if (!n)
        return NULL;
    live++;
    n->refs = 1; /* field by field: clearing it whole costs as much as the rest of recording */
    n->op = 0;
    n->bytes = (uint32_t)bytes;
    n->mark = 0;
    n->sequence = sequence++;
    n->nin = nin;
    n->nout = nout;
    n->nsaved = nsaved;
    n->readers = 0;
    n->made = NULL;
    n->freed = false;
    n->autocast = (int8_t)autocast_type;
    n->leaf = NULL;
    n->leaf_gen = 0;
    n->lua_id = 0;
    n->next_dead = NULL;
    n->hooks = NULL;
    n->key = n->offset = 0;
    n->num = NULL;
    n->in = (node_in *)(n + 1);
    n->out = (node_out *)(n->in + nin + nsaved);
    double *at = (double *)((int64_t *)(n->out + nout) + ndims);
    n->opt = nslot ? at : NULL;
    n->len = nlen ? (int32_t *)(at + nslot) : NULL;
    for (int i = 0; i < nin + nsaved; i++)
        n->in[i] = (node_in){ 0 };
    for (int k = 0; k < nout; k++)
        n->out[k] = (node_out){ 0 };
    return n;
}

int64_t *node_take_in(node_in *ni, const tensor *t, bool keep, int64_t *dims) {
    ni->present = 1;
    ni->dtype = t->dtype;
    ni->ndim = t->ndim;
    ni->dim = dims;
    for (int d = 0; d < t->ndim; d++)
        dims[d] = t->dim[d];
    if (t->node) {
        ni->edge = t->node;
        ni->index = t->out_index;
        t->node->refs++;
    }
    if (keep && !again_take(ni, t)) {
        ni->saved = t->store;
        ni->data = t->data;
        ni->version = t->store->version;
        t->store->refs++;
    }
    return dims + t->ndim;
}

int64_t *node_take_out(node_out *no, const tensor *t, bool keep, int64_t *dims) {
    no->dtype = t->dtype;
    no->ndim = t->ndim;
    no->device = (uint8_t)device_of(t);
    no->dim = dims;
    for (int d = 0; d < t->ndim; d++)
        dims[d] = t->dim[d];
    if (keep) {
        no->saved = t->store;
        no->data = t->data;
        no->version = t->store->version;
        t->store->refs++;
    }
    return dims + t->ndim;
}

/* Does output k carry no gradient? */
static bool fixed(const op_row *row, int k) {
    return (k == 1 && row->flags & ROW_OUT1_FIXED) || (k == 2 && row->flags & ROW_OUT2_FIXED);
}

static void give_history(T t, node *n, int index) {
    t->node = n;
    t->out_index = (uint8_t)index;
    t->leaf = n->op == -1;
    n->refs++;
}

/* A product reads one factor for the gradient of the other. */
static int kept(const call *c) {
    if (c->row->kept)
        return c->row->kept(c);
    int keeps = c->row->keeps;
    if (c->row->flags & ROW_PRODUCT) {
        if (!c->in[1] || !c->in[1]->node)
            keeps &= ~KEEP_IN0;
        if (!c->in[0] || !c->in[0]->node)
            keeps &= ~KEEP_IN1;
    }
    return keeps;
}

int record(const call *c) {
    const op_info *info = &op_table[c->op];
    size_t ndims = 0;
    for (int i = 0; i < c->nin; i++)
        if (c->in[i])
            ndims += c->in[i]->ndim;
    for (int k = 0; k < c->nout; k++)
        ndims += c->out[k]->ndim;
    int nnum = c->num ? c->nin : 0;
    node *n = node_new(c->nin, 0, c->nout, ndims, info->public.nslot + nnum, info->nlists);
    if (!n)
        return error_pending();
    n->op = c->op;
    n->key = c->key;
    n->offset = c->offset;
    if (info->public.nslot)
        memcpy(n->opt, c->opt, (size_t)info->public.nslot * sizeof(double));
    if (nnum) {
        n->num = n->opt + info->public.nslot;
        memcpy(n->num, c->num, (size_t)nnum * sizeof(double));
    }
    if (info->nlists)
        memcpy(n->len, c->len, (size_t)info->nlists * sizeof(int32_t));
    int keeps = kept(c);
    int64_t *dims = (int64_t *)(n->out + c->nout);
    for (int i = 0; i < c->nin; i++)
        if (c->in[i])
            dims = node_take_in(&n->in[i], c->in[i], keeps & (1 << (i < 7 ? i : 7)), dims);
    for (int k = 0; k < c->nout; k++) {
        T y = c->out[k];
        dims = node_take_out(&n->out[k], y, keeps & (KEEP_OUT0 << k), dims);
        if (is_float(y->dtype) && !fixed(c->row, k)) {
            y->node = n;
            y->out_index = (uint8_t)k;
            y->leaf = 0;
            n->refs++;
        }
    }
    if (keeps & KEEP_AGAIN)
        again_offer(n, c->out[0]);
    node_unref(n); /* the outputs hold it */
    return VESTIGE_OK;
}

int leaf_node(T t) {
    node *n = node_new(0, 0, 1, t->ndim, 0, 0);
    if (!n)
        return error_pending();
    n->op = -1;
    n->leaf = t;
    n->leaf_gen = t->gen;
    node_take_out(&n->out[0], t, false, (int64_t *)(n->out + 1));
    t->node = n;
    t->out_index = 0;
    t->leaf = 1;
    return VESTIGE_OK;
}

/* ---- Unpacking: a tensor as the rule sees it, with its history. ---- */
static int check_version(const storage *s, uint32_t version, const node *n, const char *which,
                         int i) {
    if (s->version == version)
        return VESTIGE_OK;
    return fail(VESTIGE_EGRAD,
                "backward: %s %d of %s was changed in place after it was used (version %u, "
                "expected %u)",
                which, i + 1, n->op >= 0 ? op_table[n->op].row->name : "a custom function",
                s->version, version);
}

/* What is not there was used up, or never kept. */
static int not_saved(const node *n, const char *which, int i) {
    const char *name = n->op >= 0 ? op_table[n->op].row->name : "a custom function";
    if (n->freed)
        return fail(VESTIGE_EGRAD,
                    "backward: the graph of %s was used up by an earlier walk; pass "
                    "retain_graph=true to that one",
                    name);
    return fail(VESTIGE_EGRAD, "backward: %s %d of %s was not kept", which, i + 1, name);
}

int node_unpack_in(T *t, node *n, int i) {
    const node_in *ni = &n->in[i];
    bool kept_beside = i >= n->nin; /* by an outside function */
    const char *which = kept_beside ? "saved tensor" : "input";
    int place = kept_beside ? i - n->nin : i;
    if (ni->again)
        return again_unpack(t, ni);
    if (!ni->saved)
        return not_saved(n, which, place);
    TRY(check_version(ni->saved, ni->version, n, which, place));
    TRY(tensor_over(t, ni->saved, ni->data, ni->dtype, ni->ndim, ni->dim));
    if (ni->edge)
        give_history(*t, ni->edge, ni->index);
    else if (ni->present == OWN_OUTPUT)
        give_history(*t, n, ni->index);
    return VESTIGE_OK;
}

int node_unpack_out(T *t, node *n, int k) {
    const node_out *no = &n->out[k];
    if (!no->saved)
        return not_saved(n, "output", k);
    TRY(check_version(no->saved, no->version, n, "output", k));
    TRY(tensor_over(t, no->saved, no->data, no->dtype, no->ndim, no->dim));
    if (is_float(no->dtype) && !(n->op >= 0 && fixed(op_table[n->op].row, k))) {
        (*t)->node = n;
        (*t)->out_index = (uint8_t)k;
        n->refs++;
    }
    return VESTIGE_OK;
}

static void drop_inputs(node *n) {
    for (int i = 0; i < n->nin + n->nsaved; i++) {
        again_leave(&n->in[i]);
        if (n->in[i].saved) {
            storage_unref(n->in[i].saved);
            n->in[i].saved = NULL;
        }
    }
}

static void drop_outputs(node *n, int from) {
    for (int k = from; k < n->nout; k++)
        if (n->out[k].saved) {
            storage_unref(n->out[k].saved);
            n->out[k].saved = NULL;
        }
}

int node_drop_saved(node *n) {
    int status = again_settle(n);
    drop_inputs(n);
    drop_outputs(n, n->readers ? 1 : 0);
    n->freed = true;
    return status;
}

/* ---- Freeing: a list instead of recursion, for a graph may be a million nodes deep. ---- */
static node *dead;
static bool freeing;

static void bury(node *n) {
    drop_inputs(n);
    drop_outputs(n, 0);
    again_forget(n);
    for (int i = 0; i < n->nin + n->nsaved; i++) {
        node *e = n->in[i].edge;
        if (e && --e->refs == 0) {
            e->next_dead = dead;
            dead = e;
        }
    }
    for (hook *h = n->hooks, *next; h; h = next) {
        next = h->next;
        outside_died(h->id);
        block_free(h, sizeof *h);
    }
    if (n->op == -2)
        custom_remove(n);
    live--;
    block_free(n, n->bytes);
}

void node_unref(node *n) {
    if (--n->refs > 0)
        return;
    n->next_dead = dead;
    dead = n;
    if (freeing)
        return;
    freeing = true;
    while (dead) {
        node *next = dead;
        dead = next->next_dead;
        bury(next);
    }
    freeing = false;
}
