/* scope.c: who holds the tensors that calls make.
 *
 * `owned` is one stack of references. A scope owns the part from its base up to the next scope's;
 * above the innermost scope's part lie the temporaries of the C call that is running. Outside all
 * scopes a handle's reference lies in a root slot. */
#include <stdlib.h>
#include <string.h>
#include "core/core.h"

enum { ROOT = 0x80000000u };
#define KEPT ((uintptr_t)1) /* in an entry: goes to the scope outside when its own closes */

typedef struct scope {
    uint32_t id;
    size_t base;
} scope;

static uintptr_t *owned;
static size_t owned_count, owned_room;
static scope *scopes;
static size_t scope_count, scope_room;
static uint32_t next_id = 1;

static T *roots;
static uint32_t roots_used, roots_room;
static uint32_t *roots_free, roots_free_count;
static int64_t roots_count;

/* A test asks the n-th allocation to fail; growth of these tables is an allocation like others. */
static int grow(void **array, size_t *room, size_t need, size_t size) {
    if (need <= *room)
        return VESTIGE_OK;
    size_t n = *room ? *room * 2 : 256;
    void *p = realloc(*array, n * size);
    if (!p)
        return fail(VESTIGE_EMEMORY, "out of memory: the table of handles cannot grow");
    *array = p;
    *room = n;
    return VESTIGE_OK;
}

static T entry(size_t i) {
    return (T)(owned[i] & ~KEPT);
}

size_t temp_mark(void) {
    return owned_count;
}

int temp_push(T t) {
    int status = grow((void **)&owned, &owned_room, owned_count + 1, sizeof *owned);
    if (UNLIKELY(status < 0)) {
        tensor_unref(t);
        return status;
    }
    owned[owned_count++] = (uintptr_t)t;
    return VESTIGE_OK;
}

void temp_drop(size_t mark) {
    while (owned_count > mark) {
        T t = entry(--owned_count);
        if (t)
            tensor_unref(t);
    }
}

/* ---- Roots ---- */
static int root_take(uint32_t *slot, T t) {
    if (roots_free_count) {
        *slot = roots_free[--roots_free_count];
    } else {
        if (roots_used == roots_room) {
            uint32_t n = roots_room ? roots_room * 2 : 256;
            T *p = realloc(roots, n * sizeof *roots);
            if (p)
                roots = p;
            uint32_t *q = p ? realloc(roots_free, n * sizeof *roots_free) : NULL;
            if (!q)
                return fail(VESTIGE_EMEMORY, "out of memory: the table of handles cannot grow");
            roots_free = q;
            roots_room = n;
        }
        *slot = roots_used++;
    }
    roots[*slot] = t;
    roots_count++;
    return memory_over_limit() ? VESTIGE_COLLECT : VESTIGE_ROOT;
}

static void root_give(uint32_t slot) {
    T t = roots[slot];
    roots[slot] = NULL;
    roots_free[roots_free_count++] = slot;
    roots_count--;
    tensor_unref(t);
}

int vestige_release_root(uint32_t slot) {
    clear_error();
    if (slot >= roots_used || !roots[slot])
        return fail(VESTIGE_EHANDLE, "release: root %u is empty", slot);
    root_give(slot);
    return VESTIGE_OK;
}

int64_t roots_live(void) {
    return roots_count;
}

/* ---- Handles ---- */
int handle_out(vestige_tensor *h, T t) {
    if (LIKELY(scope_count)) {
        TRY(temp_push(t));
        *h = (vestige_tensor){ t, t->gen, scopes[scope_count - 1].id };
        return VESTIGE_OK;
    }
    uint32_t slot;
    int status = root_take(&slot, t);
    if (status < 0) {
        tensor_unref(t);
        return status;
    }
    *h = (vestige_tensor){ t, t->gen, ROOT | slot };
    return status;
}

bool slot_known(const void *p);

T handle_in(const vestige_tensor *h, const char *what) {
    if (UNLIKELY(!h)) {
        fail(VESTIGE_EHANDLE, "%s: expected a tensor, got nil", what);
        return NULL;
    }
    T t = h->_p;
    if (LIKELY(t && t->gen == h->_gen))
        return t;
    if (!t)
        fail(VESTIGE_EHANDLE, "%s: the tensor was released", what);
    else if (!slot_known(t))
        fail(VESTIGE_EHANDLE, "%s: not a tensor", what);
    else
        fail(VESTIGE_EHANDLE,
             "%s: the tensor is gone: its scope was closed; return it from the scope or keep it "
             "with vestige.keep",
             what);
    return NULL;
}

int vestige_alive(const vestige_tensor *h) {
    T t = h->_p;
    return t && t->gen == h->_gen;
}

/* The scope's place in the stack, or -1. */
static long find_scope(uint32_t id) {
    for (size_t i = scope_count; i-- > 0;)
        if (scopes[i].id == id)
            return (long)i;
    return -1;
}

/* Finds t among a scope's references; the newest are looked at first. */
static bool find_owned(size_t level, T t, size_t *at) {
    size_t end = level + 1 < scope_count ? scopes[level + 1].base : owned_count;
    for (size_t i = end; i-- > scopes[level].base;)
        if (entry(i) == t) {
            *at = i;
            return true;
        }
    return false;
}

int vestige_release(vestige_tensor *h) {
    clear_error();
    T t = handle_in(h, "release");
    if (!t)
        return error_pending();
    if (h->_owner & ROOT) {
        root_give(h->_owner & ~(uint32_t)ROOT);
    } else {
        long level = find_scope(h->_owner);
        size_t at;
        /* A scope that closed gave its references back: nothing is left to drop. */
        if (level >= 0 && find_owned((size_t)level, t, &at)) {
            owned[at] = 0;
            tensor_unref(t);
        }
    }
    h->_p = NULL;
    return VESTIGE_OK;
}

int vestige_alias(vestige_tensor *out, const vestige_tensor *h) {
    clear_error();
    T t = handle_in(h, "alias");
    if (!t)
        return error_pending();
    tensor_ref(t);
    return handle_out(out, t);
}

static int keep_at(vestige_tensor *h, bool root) {
    clear_error();
    T t = handle_in(h, "keep");
    if (!t)
        return error_pending();
    if (h->_owner & ROOT)
        return VESTIGE_OK;
    long level = find_scope(h->_owner);
    size_t at = 0;
    bool found = level >= 0 && find_owned((size_t)level, t, &at);
    if (!found && !root && scope_count) { /* its scope closed, something else holds it */
        tensor_ref(t);
        return handle_out(h, t);
    }
    if (found && level > 0 && !root) {
        owned[at] |= KEPT;
        h->_owner = scopes[level - 1].id;
        return VESTIGE_OK;
    }
    uint32_t slot;
    if (!found)
        tensor_ref(t);
    int status = root_take(&slot, t);
    if (status < 0) {
        if (!found)
            tensor_unref(t);
        return status;
    }
    if (found)
        owned[at] = 0;
    h->_owner = ROOT | slot;
    return status;
}

int vestige_keep(vestige_tensor *h) {
    return keep_at(h, false);
}

int vestige_keep_root(vestige_tensor *h) {
    return keep_at(h, true);
}

/* ---- Scopes ---- */
int vestige_scope_open(uint32_t *id) {
    clear_error();
    TRY(grow((void **)&scopes, &scope_room, scope_count + 1, sizeof *scopes));
    *id = next_id;
    scopes[scope_count++] = (scope){ next_id, owned_count };
    next_id = (next_id + 1) & ~(uint32_t)ROOT;
    if (!next_id)
        next_id = 1;
    return VESTIGE_OK;
}

static void close_innermost(void) {
    size_t base = scopes[--scope_count].base, to = base, end = owned_count;
    /* Kept entries sink to the outer scope's part. Dropping a tensor never makes one. */
    for (size_t i = base; i < end; i++) {
        if (owned[i] & KEPT) {
            uintptr_t e = owned[i] & ~KEPT;
            owned[to++] = e;
        } else if (owned[i]) {
            tensor_unref(entry(i));
        }
    }
    owned_count = to;
}

int vestige_scope_close(uint32_t id) {
    clear_error();
    long level = find_scope(id);
    if (level < 0)
        return fail(VESTIGE_EHANDLE, "scope: it was closed already, by the end of a scope outside "
                                     "it; a coroutine must not yield across a scope");
    while ((long)scope_count > level)
        close_innermost();
    return VESTIGE_OK;
}

uint32_t vestige_scope_current(void) {
    return scope_count ? scopes[scope_count - 1].id : 0;
}
