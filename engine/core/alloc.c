/* alloc.c: the caching allocator.
 *
 * Memory is asked from the system in size classes, four to each power of two, and freed blocks
 * wait in their class's list for the next request: a training step asks the system for nothing
 * after its first round. When the system refuses, everything cached is given back, kept forms too,
 * and the request is made once more. Live, peak and cached bytes count whole classes, as the memory
 * is taken; kept forms are live. */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include "core/core.h"

enum { NCLASSES = 200, MIN_BLOCK = 64, HUGE_BLOCK = 2 << 20 };

/* The free blocks of a class. The list lies beside the blocks, so that neither cold memory nor the
 * closed arena is touched to take or give one. */
typedef struct shelf {
    void **at;
    int64_t n, room;
} shelf;

typedef struct pool {
    shelf shelf[NCLASSES];
    int64_t live, peak, cached;
} pool;

static pool pools[VESTIGE_NDEVICES];
static int64_t limit = (int64_t)256 << 20, roots_limit = 4096, cap, allocations, fail_at;

/* Class sizes: 64, 80, 96, 112, 128, 160, ... */
static int64_t class_bytes(int k) {
    return (int64_t)(4 + k % 4) << (4 + k / 4);
}

static int class_of(int64_t bytes) {
    if (bytes <= MIN_BLOCK)
        return 0;
    int top = 63 - __builtin_clzll((uint64_t)(bytes - 1)); /* 2^top <= bytes - 1 */
    int quarter = (int)(((bytes - 1) >> (top - 2)) & 3);
    return (top - 6) * 4 + quarter + 1;
}

/* ---- The ref device: one reserved arena, closed unless a kernel or a copy of its runs. ---- */
static const int64_t arena_bytes = (int64_t)8 << 30;
static char *arena;
static int64_t arena_used, arena_depth;

/* Whole huge pages change their protection: a few entries however much is in use. */
static int64_t arena_end(void) {
    return (arena_used + HUGE_BLOCK - 1) / HUGE_BLOCK * HUGE_BLOCK;
}

static void arena_protect(int how) {
    if (arena_used)
        mprotect(arena, (size_t)arena_end(), how);
}

static void *arena_take(int64_t bytes) {
    if (!arena) {
        void *p = mmap(NULL, (size_t)arena_bytes + HUGE_BLOCK, PROT_NONE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (p == MAP_FAILED)
            return NULL;
        arena = (char *)(((uintptr_t)p + HUGE_BLOCK - 1) / HUGE_BLOCK * HUGE_BLOCK);
        madvise(arena, (size_t)arena_bytes, MADV_HUGEPAGE);
    }
    bytes = (bytes + 63) / 64 * 64;
    if (arena_used + bytes > arena_bytes)
        return NULL;
    char *p = arena + arena_used;
    arena_used += bytes;
    if (arena_depth) /* already open: open the new end too */
        arena_protect(PROT_READ | PROT_WRITE);
    return p;
}

void ref_open(void) {
    if (arena_depth++ == 0)
        arena_protect(PROT_READ | PROT_WRITE);
}

void ref_close(void) {
    if (--arena_depth == 0)
        arena_protect(PROT_NONE);
}

static void *pop(pool *p, int k) {
    shelf *s = &p->shelf[k];
    if (!s->n)
        return NULL;
    p->cached -= class_bytes(k);
    return s->at[--s->n];
}

static bool push(pool *p, int k, void *data) {
    shelf *s = &p->shelf[k];
    if (s->n == s->room) {
        int64_t room = s->room ? s->room * 2 : 64;
        void **at = realloc(s->at, (size_t)room * sizeof *at);
        if (!at)
            return false;
        s->at = at;
        s->room = room;
    }
    s->at[s->n++] = data;
    p->cached += class_bytes(k);
    return true;
}

static void *system_alloc(int device, int64_t bytes) {
    if (device == VESTIGE_REF)
        return arena_take(bytes);
    if (bytes < HUGE_BLOCK)
        return aligned_alloc(64, (size_t)((bytes + 63) / 64 * 64));
    void *p = mmap(NULL, (size_t)bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        return NULL;
    madvise(p, (size_t)bytes, MADV_HUGEPAGE);
    return p;
}

static void system_free(void *p, int64_t bytes) {
    if (bytes < HUGE_BLOCK)
        free(p);
    else
        munmap(p, (size_t)bytes);
}

static void empty_shelves(void) {
    pool *p = &pools[VESTIGE_CPU]; /* the arena keeps what it has */
    for (int k = 0; k < NCLASSES; k++) {
        shelf *s = &p->shelf[k];
        while (s->n)
            system_free(s->at[--s->n], class_bytes(k));
    }
    p->cached = 0;
}

int vestige_empty_cache(void) {
    vestige_weight_cache(vestige_weight_cache(0));
    empty_shelves();
    return VESTIGE_OK;
}

bool allocation_fails(void) {
    allocations++;
    return fail_at && --fail_at == 0;
}

/* A block of class k, if there is one within the cap. */
ALWAYS_INLINE void *take_class(int device, int k) {
    pool *p = &pools[device];
    int64_t whole = class_bytes(k);
    if (cap && p->live + whole > cap)
        return NULL;
    void *data = pop(p, k);
    if (!data)
        data = system_alloc(device, whole);
    if (!data)
        return NULL;
    p->live += whole;
    if (p->live > p->peak)
        p->peak = p->live;
    return data;
}

static __attribute__((noinline, cold)) void *take_after_all(int device, int k) {
    if (device != VESTIGE_CPU)
        return NULL;
    drop_unused();
    empty_shelves();
    return take_class(device, k);
}

static void *take(int device, int64_t bytes, int *size_class) {
    if (allocation_fails() || bytes > (int64_t)1 << 46)
        return NULL;
    int k = *size_class = class_of(bytes);
    void *data = take_class(device, k);
    return LIKELY(data) ? data : take_after_all(device, k);
}

static void give(int device, void *data, int k) {
    pool *p = &pools[device];
    p->live -= class_bytes(k);
    /* When the shelf cannot grow the block goes back to the system, the arena's is lost. */
    if (!push(p, k, data) && device == VESTIGE_CPU)
        system_free(data, class_bytes(k));
}

static int out_of_memory(int64_t bytes, int device) {
    return fail(VESTIGE_EMEMORY, "out of memory on %s: %lld bytes asked, %lld live, %lld cached%s",
                vestige_device_name(device), (long long)bytes, (long long)pools[device].live,
                (long long)pools[device].cached, cap ? " (a cap is set)" : "");
}

/* ---- Small host blocks: storage headers, nodes, plans. ---- */
void *block_alloc(size_t bytes) {
    int k;
    void *p = take(VESTIGE_CPU, (int64_t)bytes, &k);
    if (!p)
        out_of_memory((int64_t)bytes, VESTIGE_CPU);
    return p;
}

void block_free(void *p, size_t bytes) {
    if (p)
        give(VESTIGE_CPU, p, class_of((int64_t)bytes));
}

int64_t block_bytes(int64_t bytes) {
    return class_bytes(class_of(bytes));
}

void *block_spare(size_t bytes) {
    return take_class(VESTIGE_CPU, class_of((int64_t)bytes));
}

int alloc_scratch(void **out, int64_t bytes) {
    *out = block_alloc((size_t)(bytes > 0 ? bytes : 1));
    return *out ? VESTIGE_OK : error_pending();
}

void free_scratch(void *p, int64_t bytes) {
    block_free(p, (size_t)(bytes > 0 ? bytes : 1));
}

/* ---- Storage ---- */
int storage_new(storage **out, int device, int64_t bytes) {
    storage *s = block_alloc(sizeof *s);
    if (!s)
        return error_pending();
    int k;
    void *data = take(device, bytes, &k);
    if (!data) {
        block_free(s, sizeof *s);
        return out_of_memory(bytes, device);
    }
    *s = (storage){
        .data = data, .bytes = bytes, .refs = 1, .device = (uint8_t)device, .size_class = (uint8_t)k
    };
    *out = s;
    return VESTIGE_OK;
}

void storage_unref(storage *s) {
    if (--s->refs > 0)
        return;
    if (s->known)
        *s->known = NULL;
    if (UNLIKELY(s->kept))
        drop_kept(s);
    give(s->device, s->data, s->size_class);
    block_free(s, sizeof *s);
}

bool memory_over_limit(void) {
    int64_t held = pools[VESTIGE_CPU].live + pools[VESTIGE_REF].live - kept_bytes();
    return held > limit || roots_live() > roots_limit;
}

int vestige_memory_limit(int64_t bytes, int64_t roots) {
    limit = bytes;
    roots_limit = roots;
    return VESTIGE_OK;
}

int vestige_memory_cap(int64_t bytes) {
    cap = bytes;
    return VESTIGE_OK;
}

int vestige_fail_allocation(int64_t n) {
    fail_at = n;
    return VESTIGE_OK;
}

int vestige_reset_peak(void) {
    for (int d = 0; d < VESTIGE_NDEVICES; d++)
        pools[d].peak = pools[d].live;
    return VESTIGE_OK;
}

int64_t nodes_live(void);

int vestige_memory(vestige_memory_info *info) {
    *info = (vestige_memory_info){ .limit = limit,
                                   .kept = kept_bytes(),
                                   .tensors = tensors_live(),
                                   .roots = roots_live(),
                                   .nodes = nodes_live(),
                                   .allocations = allocations };
    for (int d = 0; d < VESTIGE_NDEVICES; d++) {
        info->live += pools[d].live;
        info->peak += pools[d].peak;
        info->cached += pools[d].cached;
    }
    return VESTIGE_OK;
}
