/* again.c: outputs that are cheap to make again are not kept for the rules that read them.
 *
 * The output of a row with KEEP_AGAIN is, while a tensor holds it, known to its node (`made`). A
 * node that wants it saved notes only that (`again`, and readers of the maker). When its rule asks,
 * it gets the storage that still lives, or the maker's `again` runs once on what the maker kept and
 * the result stays with the maker until the last reader leaves. So the rules of a network hold the
 * results of convolutions, and what norms and activations make of them is made on the way back. */
#include "autograd/autograd.h"
#include "autograd/grad.h"
#include "ops/autocast.h"

static const char *maker_name(const node *n) {
    return op_table[n->op].row->name;
}

void again_offer(node *n, const tensor *y) {
    node_out *o = &n->out[0];
    n->made = y->store;
    y->store->known = &n->made;
    o->data = y->data;
    o->version = y->store->version;
}

void again_forget(node *n) {
    if (n->made)
        n->made->known = NULL;
}

bool again_take(node_in *ni, const tensor *t) {
    node *n = t->node;
    if (!n || n->op < 0 || t->out_index != 0 || !op_table[n->op].row->again)
        return false;
    const node_out *o = &n->out[0];
    if ((t->store != n->made && t->store != o->saved) || t->data != o->data ||
        t->store->version != o->version)
        return false;
    ni->again = true;
    n->readers++;
    return true;
}

/* Output 0 of n stays with it. */
static int make_again(node *n) {
    grad g = { .n = n };
    size_t mark = temp_mark();
    bool was = grad_mode;
    int was_type = autocast_type;
    grad_mode = false;
    autocast_type = -1;
    V y = op_table[n->op].row->again(&g);
    grad_mode = was;
    autocast_type = was_type;
    int status = error_pending();
    if (status >= 0) {
        node_out *o = &n->out[0];
        o->saved = y.t->store;
        o->data = y.t->data;
        o->version = y.t->store->version;
        o->saved->refs++;
    }
    temp_drop(mark);
    return status;
}

int again_unpack(T *t, const node_in *ni) {
    node *n = ni->edge;
    const node_out *o = &n->out[0];
    if (!o->saved && !n->made) {
        if (n->freed)
            return fail(VESTIGE_EGRAD, "backward: the output of %s was used up", maker_name(n));
        TRY(make_again(n));
    }
    storage *s = o->saved ? o->saved : n->made;
    if (s->version != o->version)
        return fail(VESTIGE_EGRAD,
                    "backward: the output of %s was changed in place after it was used (version "
                    "%u, expected %u)",
                    maker_name(n), s->version, o->version);
    TRY(tensor_over(t, s, o->data, ni->dtype, ni->ndim, ni->dim));
    (*t)->node = n;
    (*t)->out_index = 0;
    n->refs++;
    return VESTIGE_OK;
}

void again_leave(node_in *ni) {
    if (!ni->again)
        return;
    ni->again = false;
    node *n = ni->edge;
    if (--n->readers == 0 && n->out[0].saved) {
        storage_unref(n->out[0].saved);
        n->out[0].saved = NULL;
    }
}

int again_settle(node *n) {
    if (n->readers == 0 || n->freed || n->out[0].saved)
        return VESTIGE_OK;
    if (!n->made)
        return make_again(n);
    n->out[0].saved = n->made;
    n->made->refs++;
    return VESTIGE_OK;
}
