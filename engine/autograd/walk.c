/* walk.c: the backward walk. Planning visits every node once, depth first, and gives each a place
 * in post-order: a node stands after all it depends on, so running the places backwards meets each
 * gradient when it is complete. Of several inputs the last is planned first and so run last: where
 * a shortcut joins the main path, what it shares with that path's start is wanted late. A walk can
 * stop before a rule that lives outside C and go on. */
#include <string.h>
#include "autograd/autograd.h"
#include "autograd/grad.h"
#include "ops/autocast.h"

typedef struct place {
    node *n;
    int slot;  /* of its first output's gradient */
    int edges; /* of its first input, in walk.edge */
    bool need, target;
} place;

typedef struct visit {
    node *n;
    int next;
} visit;

/* A growing array of the allocator's blocks. */
typedef struct array {
    void *at;
    int n, room;
} array;

struct vestige_walk {
    array places, edges, slots, stack; /* place, int32_t, T, visit */
    int nout, nin, flags, at;
    bool to_edges; /* a checkpoint's replay: its inputs end the walk, whatever made them */
    T *outs;
    int32_t *result; /* slot of each input, or -1 */
    vestige_walk_stop stop;
    int64_t hook_done;
};

static int push(array *a, size_t size, const void *item) {
    if (a->n == a->room) {
        int room = a->room ? a->room * 2 : 64;
        void *p = block_alloc((size_t)room * size);
        if (!p)
            return error_pending();
        if (a->n)
            memcpy(p, a->at, (size_t)a->n * size);
        block_free(a->at, (size_t)a->room * size);
        a->at = p;
        a->room = room;
    }
    memcpy((char *)a->at + (size_t)a->n++ * size, item, size);
    return VESTIGE_OK;
}

static void empty(array *a, size_t size) {
    block_free(a->at, (size_t)a->room * size);
    *a = (array){ 0 };
}

/* ---- Planning. Marks: 0 unseen, -2 an unseen target, -1 and -3 the same on the stack. What is
 * marked stands on the stack or among the places, where unmark() finds it after a failure. ---- */
static int enter(vestige_walk *w, node *n) {
    bool target = n->mark == -2;
    TRY(push(&w->stack, sizeof(visit), &(visit){ n, target && w->to_edges ? n->nin : 0 }));
    n->mark = target ? -3 : -1;
    return VESTIGE_OK;
}

static int leave(vestige_walk *w, node *n) {
    place p = { .n = n, .slot = w->slots.n, .edges = w->edges.n, .target = n->mark == -3 };
    p.need = p.target || (n->op == -1 && w->flags & VESTIGE_ACCUMULATE);
    for (int i = 0; i < n->nin; i++) {
        int32_t to = -1;
        node *e = n->in[i].edge;
        if (e && !(p.target && w->to_edges)) {
            const place *q = (place *)w->places.at + e->mark - 1;
            if (q->need) {
                to = q->slot + n->in[i].index;
                p.need = true;
            }
        }
        TRY(push(&w->edges, sizeof to, &to));
    }
    for (int k = 0; k < n->nout; k++)
        TRY(push(&w->slots, sizeof(T), &(T){ NULL }));
    TRY(push(&w->places, sizeof p, &p));
    n->mark = w->places.n;
    return VESTIGE_OK;
}

static int plan_from(vestige_walk *w, node *root) {
    if (root->mark > 0)
        return VESTIGE_OK;
    TRY(enter(w, root));
    while (w->stack.n) {
        visit *v = (visit *)w->stack.at + w->stack.n - 1;
        node *n = v->n;
        if (v->next == n->nin) {
            TRY(leave(w, n));
            w->stack.n--;
            continue;
        }
        node *e = n->in[n->nin - 1 - v->next++].edge;
        if (e && (e->mark == 0 || e->mark == -2))
            TRY(enter(w, e));
    }
    return VESTIGE_OK;
}

static void unmark(vestige_walk *w) {
    for (int i = 0; i < w->stack.n; i++)
        ((visit *)w->stack.at)[i].n->mark = 0;
    for (int i = 0; i < w->places.n; i++)
        ((place *)w->places.at)[i].n->mark = 0;
}

static int seed(vestige_walk *w, T out, T given) {
    T g = given;
    size_t mark = temp_mark();
    if (!g) {
        if (out->numel != 1)
            return fail(VESTIGE_EGRAD,
                        "grad: an output of more than one element needs grad_outputs; got %s",
                        describe(out));
        V one = rule_apply(OPID(ones_like), &(V){ out, 0 }, 1, NULL, 0, NULL, NULL);
        g = one.t;
        if (!g)
            return error_pending();
    } else if (g->ndim != out->ndim || memcmp(g->dim, out->dim, sizeof *g->dim * g->ndim)) {
        return fail(VESTIGE_ESHAPE, "grad: grad_outputs %s does not fit the output %s", describe(g),
                    describe(out));
    }
    T *slot = (T *)w->slots.at + ((place *)w->places.at)[out->node->mark - 1].slot + out->out_index;
    g = grad_fit(g, out->dtype, out->ndim, out->dim);
    int status = g ? grad_accumulate(slot, g, w->flags & VESTIGE_CREATE_GRAPH) : error_pending();
    temp_drop(mark);
    return status;
}

typedef struct target {
    node *n;
    int index;
} target;

/* Plans the walk from outs to the targets; afterwards all marks are 0 again. */
static int plan(vestige_walk *w, T *given, const target *to) {
    for (int i = 0; i < w->nin; i++)
        if (to[i].n)
            to[i].n->mark = -2;
    int status = VESTIGE_OK;
    for (int i = 0; i < w->nout && status >= 0; i++)
        status = plan_from(w, w->outs[i]->node);
    for (int i = 0; i < w->nin && status >= 0; i++) {
        bool seen = to[i].n && to[i].n->mark > 0;
        w->result[i] = seen ? ((place *)w->places.at)[to[i].n->mark - 1].slot + to[i].index : -1;
    }
    bool was = grad_mode;
    grad_mode = w->flags & VESTIGE_CREATE_GRAPH;
    for (int i = 0; i < w->nout && status >= 0; i++)
        status = seed(w, w->outs[i], given[i]);
    grad_mode = was;
    unmark(w);
    for (int i = 0; i < w->nin; i++)
        if (to[i].n)
            to[i].n->mark = 0;
    w->at = w->places.n;
    empty(&w->stack, sizeof(visit));
    return status;
}

void vestige_walk_free(vestige_walk *w) {
    if (!w)
        return;
    for (int i = 0; i < w->slots.n; i++) {
        T g = ((T *)w->slots.at)[i];
        if (g)
            tensor_unref(g);
    }
    empty(&w->places, sizeof(place));
    empty(&w->edges, sizeof(int32_t));
    empty(&w->slots, sizeof(T));
    empty(&w->stack, sizeof(visit));
    for (int i = 0; i < w->nout; i++)
        if (w->outs[i])
            tensor_unref(w->outs[i]);
    block_free(w->outs, (size_t)w->nout * sizeof(T) + 1);
    block_free(w->result, (size_t)w->nin * sizeof(int32_t) + 1);
    block_free(w, sizeof *w);
}

static vestige_walk *walk_alloc(int nout, int nin, int flags) {
    vestige_walk *w = block_alloc(sizeof *w);
    if (!w)
        return NULL;
    memset(w, 0, sizeof *w);
    w->flags = flags;
    w->outs = block_alloc((size_t)nout * sizeof(T) + 1);
    if (w->outs) {
        memset(w->outs, 0, (size_t)nout * sizeof(T));
        w->nout = nout;
        w->result = block_alloc((size_t)nin * sizeof(int32_t) + 1);
        if (w->result)
            w->nin = nin;
    }
    if (!w->outs || !w->result) {
        block_free(w->outs, (size_t)nout * sizeof(T) + 1);
        block_free(w, sizeof *w);
        return NULL;
    }
    return w;
}

static int take_outs(vestige_walk *w, const vestige_tensor **outs, const vestige_tensor **gs,
                     T *given) {
    for (int i = 0; i < w->nout; i++) {
        T t = handle_in(outs[i], "grad");
        if (!t)
            return error_pending();
        if (!t->node)
            return fail(VESTIGE_EGRAD,
                        "grad: output %d does not require grad: nothing it was made from does, or "
                        "it was made under no_grad",
                        i + 1);
        w->outs[i] = t;
        tensor_ref(t);
        given[i] = NULL;
        if (gs && gs[i] && !(given[i] = handle_in(gs[i], "grad: grad_outputs")))
            return error_pending();
    }
    return VESTIGE_OK;
}

static int start(vestige_walk **walk, int nout, const vestige_tensor **outs,
                 const vestige_tensor **gs, int nin, const target *to, bool to_edges, int flags) {
    if (flags & VESTIGE_CREATE_GRAPH)
        flags |= VESTIGE_RETAIN_GRAPH;
    vestige_walk *w = walk_alloc(nout, nin, flags);
    if (!w)
        return error_pending();
    w->to_edges = to_edges;
    T *given = block_alloc((size_t)nout * sizeof(T) + 1);
    int status = given ? take_outs(w, outs, gs, given) : error_pending();
    if (status >= 0)
        status = plan(w, given, to);
    block_free(given, (size_t)nout * sizeof(T) + 1);
    if (status < 0) {
        vestige_walk_free(w);
        return status;
    }
    *walk = w;
    return VESTIGE_OK;
}

int vestige_walk_new(vestige_walk **walk, int nout, const vestige_tensor **outs,
                     const vestige_tensor **grad_outs, int nin, const vestige_tensor **ins,
                     int flags) {
    clear_error();
    TRY(registry_open());
    target *to = block_alloc((size_t)nin * sizeof *to + 1);
    if (!to)
        return error_pending();
    int status = VESTIGE_OK;
    for (int i = 0; i < nin && status >= 0; i++) {
        T t = handle_in(ins[i], "grad: inputs");
        if (!t)
            status = error_pending();
        else if (!t->node)
            status = fail(VESTIGE_EGRAD, "grad: input %d does not require grad", i + 1);
        else
            to[i] = (target){ t->node, t->out_index };
    }
    if (status >= 0)
        status = start(walk, nout, outs, grad_outs, nin, to, false, flags);
    block_free(to, (size_t)nin * sizeof *to + 1);
    return status;
}

int vestige_walk_new_edges(vestige_walk **walk, int nout, const vestige_tensor **outs,
                           const vestige_tensor **grad_outs, int64_t id, int flags) {
    clear_error();
    const node *n = custom_find(id);
    if (!n)
        return fail(VESTIGE_EGRAD, "checkpoint: its node is gone");
    target *to = block_alloc((size_t)n->nin * sizeof *to + 1);
    if (!to)
        return error_pending();
    for (int i = 0; i < n->nin; i++)
        to[i] = (target){ n->in[i].edge, n->in[i].index };
    int status = start(walk, nout, outs, grad_outs, n->nin, to, true, flags | VESTIGE_ALLOW_UNUSED);
    block_free(to, (size_t)n->nin * sizeof *to + 1);
    return status;
}

/* ---- Running ---- */
/* Adds g into a leaf's .grad, in place, as who holds that tensor expects. */
static int to_leaf(node *n, T g) {
    T leaf = n->leaf;
    if (leaf->gen != n->leaf_gen)
        return VESTIGE_OK; /* the tensor is gone, nobody can ask for its .grad */
    T have = leaf->grad;
    size_t mark = temp_mark();
    bool was = grad_mode;
    grad_mode = false;
    if (have && !have->node) {
        have->flags = 0;
        rule_apply(OPID(add_), (V[]){ { have, 0 }, { g, 0 } }, 2, NULL, 0, NULL, NULL);
    } else {
        V sum = tensor_value(g);
        if (have)
            sum = R(add, tensor_value(have), sum);
        else if (g->refs > 1 || g->store->refs > 1 || g->node) /* someone else sees g's storage */
            sum = R(clone, sum);
        if (sum.t) {
            sum.t->flags = 0;
            tensor_ref(sum.t);
            leaf->grad = sum.t;
            if (have)
                tensor_unref(have);
        }
    }
    grad_mode = was;
    temp_drop(mark);
    return error_pending();
}

static int hand_on(vestige_walk *w, const place *p, V *gradient) {
    const int32_t *edge = (int32_t *)w->edges.at + p->edges;
    T *slots = w->slots.at;
    for (int i = 0; i < p->n->nin; i++) {
        if (edge[i] < 0 || !gradient[i].t)
            continue;
        const node_in *ni = &p->n->in[i];
        T g = grad_fit(gradient[i].t, ni->dtype, ni->ndim, ni->dim);
        if (!g)
            return error_pending();
        TRY(grad_accumulate(&slots[edge[i]], g, w->flags & VESTIGE_CREATE_GRAPH));
    }
    return error_pending();
}

static int run_rule(vestige_walk *w, const place *p) {
    node *n = p->n;
    V few[MAX_INPUTS];
    V *gin = n->nin <= COUNT(few) ? few : block_alloc((size_t)n->nin * sizeof *gin);
    if (!gin)
        return error_pending();
    memset(gin, 0, (size_t)n->nin * sizeof *gin);
    grad g = { .n = n,
               .gout = (T *)w->slots.at + p->slot,
               .gin = gin,
               .edge = (int32_t *)w->edges.at + p->edges,
               .slots = w->slots.at,
               .create = w->flags & VESTIGE_CREATE_GRAPH };
    size_t mark = temp_mark();
    bool was = grad_mode;
    int was_type = autocast_type;
    grad_mode = g.create;
    autocast_type = n->autocast;
    op_table[n->op].row->grad(&g);
    int status = error_pending();
    if (status >= 0)
        status = hand_on(w, p, gin);
    grad_mode = was;
    autocast_type = was_type;
    temp_drop(mark);
    if (gin != few)
        block_free(gin, (size_t)n->nin * sizeof *gin);
    return status;
}

static bool next_hook(vestige_walk *w, const place *p) {
    const hook *best = NULL;
    for (const hook *h = p->n->hooks; h; h = h->next)
        if (h->id > w->hook_done && (!best || h->id < best->id) &&
            ((T *)w->slots.at)[p->slot + h->out])
            best = h;
    if (!best)
        return false;
    w->stop = (vestige_walk_stop){ .kind = 2, .nin = best->out, .nout = 1, .id = best->id };
    return true;
}

static void drop_slots(vestige_walk *w, const place *p) {
    T *slots = (T *)w->slots.at + p->slot;
    for (int k = 0; k < p->n->nout; k++)
        if (slots[k]) {
            tensor_unref(slots[k]);
            slots[k] = NULL;
        }
}

/* ran: the node's rule was run, so that what it kept is used up. */
static int done_with(vestige_walk *w, const place *p, bool ran) {
    int status = VESTIGE_OK;
    if (ran && !(w->flags & VESTIGE_RETAIN_GRAPH))
        status = node_drop_saved(p->n);
    if (!p->target)
        drop_slots(w, p);
    w->hook_done = 0;
    w->at--;
    return status;
}

/* Whether a gradient arrived here, and is wanted here or further on. */
static bool has_work(const vestige_walk *w, const place *p) {
    bool any = false;
    for (int k = 0; k < p->n->nout && p->need; k++)
        any |= ((T *)w->slots.at)[p->slot + k] != NULL;
    return any;
}

static bool leads_further(const vestige_walk *w, const place *p) {
    bool further = false;
    for (int i = 0; i < p->n->nin; i++)
        further |= ((int32_t *)w->edges.at)[p->edges + i] >= 0;
    return further;
}

int vestige_walk_run(vestige_walk *w) {
    clear_error();
    while (w->at > 0) {
        const place *p = (place *)w->places.at + w->at - 1;
        bool ran = false;
        if (has_work(w, p)) {
            bool ends =
                p->target && w->to_edges; /* the walk outside runs the hooks, on the whole */
            if (p->n->hooks && !ends && next_hook(w, p))
                return VESTIGE_NEEDS_LUA;
            if (p->n->op == -1) {
                if (w->flags & VESTIGE_ACCUMULATE)
                    TRY(to_leaf(p->n, ((T *)w->slots.at)[p->slot]));
            } else if (leads_further(w, p)) {
                if (p->n->op == -2) {
                    w->stop = (vestige_walk_stop){ .kind = 1,
                                                   .nin = p->n->nin,
                                                   .nout = p->n->nout,
                                                   .nsaved = p->n->nsaved,
                                                   .id = p->n->lua_id };
                    return VESTIGE_NEEDS_LUA;
                }
                TRY(run_rule(w, p));
                ran = true;
            }
        }
        TRY(done_with(w, p, ran));
    }
    return VESTIGE_OK;
}

int vestige_walk_result(vestige_walk *w, int i, vestige_tensor *out) {
    clear_error();
    T g = w->result[i] < 0 ? NULL : ((T *)w->slots.at)[w->result[i]];
    *out = (vestige_tensor){ 0 };
    if (!g) {
        if (w->flags & VESTIGE_ALLOW_UNUSED)
            return VESTIGE_OK;
        return fail(VESTIGE_EGRAD,
                    "grad: input %d was not used to make the outputs; pass allow_unused=true to "
                    "get nil for it",
                    i + 1);
    }
    if (g->node ? w->flags & VESTIGE_CREATE_GRAPH : !g->flags) {
        tensor_ref(g);
        return handle_out(out, g);
    }
    T plain; /* without history, and nobody's lost copy */
    TRY(tensor_over(&plain, g->store, g->data, g->dtype, g->ndim, g->dim));
    return handle_out(out, plain);
}

/* ---- At a stop ---- */
static const place *stopped(const vestige_walk *w) {
    return (place *)w->places.at + w->at - 1;
}

int vestige_walk_lua(vestige_walk *w, vestige_walk_stop *stop) {
    *stop = w->stop;
    return VESTIGE_OK;
}

int vestige_walk_gradient(vestige_walk *w, int i, vestige_tensor *out) {
    clear_error();
    int k = w->stop.kind == 2 ? w->stop.nin : i;
    T g = ((T *)w->slots.at)[stopped(w)->slot + k];
    *out = (vestige_tensor){ 0 };
    if (!g)
        return VESTIGE_OK;
    tensor_ref(g);
    return handle_out(out, g);
}

int vestige_walk_saved(vestige_walk *w, int i, vestige_tensor *out) {
    clear_error();
    T t;
    TRY(node_unpack_in(&t, stopped(w)->n, stopped(w)->n->nin + i));
    return handle_out(out, t);
}

int vestige_walk_needs(vestige_walk *w, int i) {
    return ((int32_t *)w->edges.at)[stopped(w)->edges + i] >= 0;
}

/* A hook's gradient takes the place of the one that it was given. */
static int answer_hook(vestige_walk *w, const place *p, const vestige_tensor *given) {
    T *slot = (T *)w->slots.at + p->slot + w->stop.nin;
    T g = handle_in(given, "gradient hook");
    if (!g)
        return error_pending();
    if (g->ndim != (*slot)->ndim || memcmp(g->dim, (*slot)->dim, sizeof *g->dim * g->ndim))
        return fail(VESTIGE_ESHAPE, "gradient hook: expected %s, got %s", describe(*slot),
                    describe(g));
    g = grad_fit(g, (*slot)->dtype, g->ndim, g->dim);
    if (!g)
        return error_pending();
    tensor_ref(g);
    tensor_unref(*slot);
    *slot = g;
    return VESTIGE_OK;
}

static int read_gradients(const place *p, int n, const vestige_tensor **grads, V *gin) {
    if (n != p->n->nin)
        return fail(VESTIGE_EGRAD, "custom: backward gave %d gradients for %d tensors", n,
                    p->n->nin);
    for (int i = 0; i < n; i++) {
        const node_in *ni = &p->n->in[i];
        if (!grads[i])
            continue;
        T g = gin[i].t = handle_in(grads[i], "custom: backward's gradient");
        if (!g)
            return error_pending();
        if (!grad_fits(g, ni->ndim, ni->dim) || !is_float(g->dtype))
            return fail(VESTIGE_ESHAPE, "custom: backward's gradient %d: expected %s %s, got %s",
                        i + 1, vestige_dtype_name(ni->dtype), shape_text(ni->ndim, ni->dim),
                        describe(g));
    }
    return VESTIGE_OK;
}

static int answer_rule(vestige_walk *w, const place *p, int n, const vestige_tensor **grads) {
    size_t bytes = (size_t)p->n->nin * sizeof(V) + 1;
    V *gin = block_alloc(bytes);
    if (!gin)
        return error_pending();
    memset(gin, 0, bytes);
    int status = read_gradients(p, n, grads, gin);
    if (status >= 0)
        status = hand_on(w, p, gin);
    block_free(gin, bytes);
    return status;
}

int vestige_walk_answer(vestige_walk *w, int n, const vestige_tensor **grads) {
    clear_error();
    const place *p = stopped(w);
    size_t mark = temp_mark();
    bool was = grad_mode;
    grad_mode = w->flags & VESTIGE_CREATE_GRAPH;
    int status = VESTIGE_OK;
    if (w->stop.kind == 2) {
        w->hook_done = w->stop.id;
        if (n > 0 && grads[0])
            status = answer_hook(w, p, grads[0]);
    } else {
        status = answer_rule(w, p, n, grads);
        if (status >= 0)
            status = done_with(w, p, true);
    }
    grad_mode = was;
    temp_drop(mark);
    return status;
}
