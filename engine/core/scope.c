/* scope.c: who holds the tensors that calls make.
 *
 * `owned` is one stack of references. A scope owns the part from its base up to the next scope's;
 * above the innermost scope's part lie the temporaries of the C call that is running. A reference
 * that was kept stays where it is and counts the scopes that it is to leave: each that closes lets
 * it sink by one. Outside all scopes a handle's reference lies in a root slot. */
#include <stdlib.h>
#include <string.h>
#include "core/core.h"

enum { ROOT = 0x80000000u };
/* The low bits of an entry: how many scopes it leaves. Tensors stand on 128 bytes. */
#define LEAVES ((uintptr_t)127)

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

static int grow(void **array, size_t *room, size_t need, size_t size) {
    if (LIKELY(need <= *room))
        return VESTIGE_OK;
    size_t n = *room ? *room * 2 : 256;
    void *p = allocation_fails() ? NULL : realloc(*array, n * size);
    if (!p)
        return fail(VESTIGE_EMEMORY, "out of memory: the table of handles cannot grow");
    *array = p;
    *room = n;
    return VESTIGE_OK;
}

static T entry(size_t i) {
    return (T)(owned[i] & ~LEAVES);
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
            T *p = allocation_fails() ? NULL : realloc(roots, n * sizeof *roots);
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

/* Finds the reference to t that the scope at a level owns, also among those that inner scopes are
 * to let sink to it; the newest are looked at first. */
static bool find_owned(long level, T t, size_t *at, long *lies_in) {
    long inner = (long)scope_count - 1;
    for (size_t i = owned_count; level >= 0 && i-- > scopes[level].base;) {
        while (i < scopes[inner].base)
            inner--;
        if (entry(i) == t && inner - (long)(owned[i] & LEAVES) == level) {
            *at = i;
            *lies_in = inner;
            return true;
        }
    }
    return false;
}

int vestige_release(vestige_tensor *h) {
    clear_error();
    T t = handle_in(h, "release");
    if (!t)
        return error_pending();
    size_t at;
    long inner;
    uint32_t slot = h->_owner & ~(uint32_t)ROOT;
    if (h->_owner & ROOT) {
        if (slot < roots_used && roots[slot] == t)
            root_give(slot);
    } else if (find_owned(find_scope(h->_owner), t, &at, &inner)) {
        owned[at] = 0;
        tensor_unref(t);
    } /* else its scope closed and gave the reference back: nothing is left to drop */
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

/* Makes the scope at level `to` the owner of a handle that a scope further in owns, or has owned;
 * -1: a root slot. */
static int move_out(vestige_tensor *h, T t, long to) {
    long level = find_scope(h->_owner), inner = (long)scope_count - 1;
    if (level >= 0 && level <= to)
        return VESTIGE_OK;
    size_t at = owned_count;
    bool found = find_owned(level, t, &at, &inner);
    if (!found)
        tensor_ref(t);                         /* its scope is gone, someone else holds it */
    if (to < 0 || inner - to > (long)LEAVES) { /* more scopes than an entry counts: a root too */
        uint32_t slot;
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
    if (!found)
        TRY(temp_push(t));
    owned[at] = (uintptr_t)t | (uintptr_t)(inner - to);
    h->_owner = scopes[to].id;
    return VESTIGE_OK;
}

static int keep_at(vestige_tensor *h, long to) {
    T t = handle_in(h, "keep");
    if (!t)
        return error_pending();
    return h->_owner & ROOT ? VESTIGE_OK : move_out(h, t, to);
}

int vestige_keep(vestige_tensor *h, uint32_t scope) {
    clear_error();
    long level = find_scope(scope);
    if (level < 0)
        return fail(VESTIGE_EHANDLE, "keep: the scope is closed");
    return keep_at(h, level - 1);
}

int vestige_keep_root(vestige_tensor *h) {
    clear_error();
    return keep_at(h, -1);
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
    /* What was kept sinks to the outer scope's part. Dropping a tensor never makes one. */
    for (size_t i = base; i < end; i++)
        if (owned[i] & LEAVES)
            owned[to++] = owned[i] - 1;
        else if (owned[i])
            tensor_unref(entry(i));
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
