/* autocast.c: the mode in which products run in bf16 and sums in f32. A row's `cast` says which
 * of its inputs change: CAST_LOW takes f32 to the mode's type, CAST_F32 takes bf16 to f32, other
 * rows follow their inputs. Casts are operators, recorded like others, so gradients come back in
 * the type of what was cast.
 *
 * A leaf, such as a weight, is cast once while the mode lasts and it does not change. */
#include "ops/autocast.h"
#include "autograd/autograd.h"

int autocast_type = -1;
static int asked = -1; /* by the caller, not by a walk */

/* The storage is held: another tensor cannot come to lie in its place. */
typedef struct cached {
    storage *store;
    const char *data;
    uint32_t version;
    T low;
} cached;
static cached cache[512];
static int count;

static void forget(void) {
    for (int i = 0; i < count; i++) {
        storage_unref(cache[i].store);
        tensor_unref(cache[i].low);
    }
    count = 0;
}

int vestige_autocast(int dtype) {
    int was = asked;
    if (dtype < 0)
        forget();
    autocast_type = asked = dtype;
    return was;
}

static bool same_dims(const tensor *a, const tensor *b) {
    return a->ndim == b->ndim && memcmp(a->dim, b->dim, (size_t)a->ndim * sizeof *a->dim) == 0;
}

/* A cast that was not recorded cannot serve a call that is. */
static bool serves(const cached *e, const tensor *t) {
    return e->version == t->store->version && e->low->dtype == autocast_type &&
           same_dims(e->low, t) &&
           (!grad_mode || (e->low->node && e->low->node->in[0].edge == t->node));
}

static int cast_once(call *c, int i) {
    T t = c->in[i];
    cached *e = cache;
    while (e < cache + count && (e->store != t->store || e->data != t->data))
        e++;
    bool found = e < cache + count;
    if (found && serves(e, t)) {
        tensor_ref(e->low);
        c->in[i] = e->low;
        return temp_push(e->low);
    }
    TRY(cast_input(c, i, autocast_type));
    if (!found && count == COUNT(cache)) {
        forget();
        e = cache;
    }
    if (found)
        tensor_unref(e->low);
    else {
        count++;
        t->store->refs++;
    }
    tensor_ref(c->in[i]);
    *e = (cached){ t->store, t->data, t->store->version, c->in[i] };
    return VESTIGE_OK;
}

int autocast_inputs(call *c) {
    bool low = c->row->cast == CAST_LOW;
    int from = low ? VESTIGE_F32 : VESTIGE_BF16, to = low ? autocast_type : VESTIGE_F32;
    for (int i = 0; i < c->nin; i++) {
        const tensor *t = c->in[i];
        if (!t || t->dtype != from || param_of(c, i)->flags & VESTIGE_INPLACE)
            continue;
        TRY(low && t->leaf && asked >= 0 ? cast_once(c, i) : cast_input(c, i, to));
    }
    return VESTIGE_OK;
}
