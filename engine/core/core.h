/* core.h: what every layer of the engine shares: tensors, storage, errors, scopes, allocation.
 * Nothing here knows operators. Start with struct tensor. */
#ifndef VESTIGE_CORE_H
#define VESTIGE_CORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "include/vestige.h"
#include "core/interrupt.h"
#include "core/threads.h"

#define ALWAYS_INLINE static inline __attribute__((always_inline))
#define LIKELY(x) __builtin_expect(!!(x), 1)
#define UNLIKELY(x) __builtin_expect(!!(x), 0)
#define COUNT(array) ((int)(sizeof(array) / sizeof((array)[0])))

/* ---- Errors: fail() keeps the message and returns the status, TRY() passes one on. ---- */
int fail(int status, const char *format, ...) __attribute__((format(printf, 2, 3), cold));
/* The status of the last failure since clear_error(), or 0: inside a gradient rule an error is
 * sticky, and every operator after it does nothing. */
int error_pending(void);
void clear_error(void);
#define TRY(call)                                                                                  \
    do {                                                                                           \
        int status_ = (call);                                                                      \
        if (UNLIKELY(status_ < 0))                                                                 \
            return status_;                                                                        \
    } while (0)

/* ---- Storage: one block of memory on one device, shared by views. ---- */
struct node;
enum { KEPT_FORMS = 4 };

typedef struct storage {
    void *data;
    int64_t bytes;
    struct storage **known; /* a pointer to this that does not hold it: cleared when it is freed */
    struct kept_form *kept; /* the first of its kept forms */
    uint32_t asked[KEPT_FORMS]; /* when each form was asked for since the last change, or 0 */
    int32_t refs;
    uint32_t version; /* counts in-place changes */
    uint8_t device, size_class;
} storage;
_Static_assert(sizeof(storage) <= 64, "a storage is one block of the smallest class");

/* ---- Kept forms: what a kernel made of data that does not change (kept.c). ---- */
enum { KEPT_BUDGET = 320 << 20 }; /* a ResNet-18 of width 64 takes 288 MiB, both ways */

typedef struct kept_form {
    storage *of;
    struct kept_form *next;          /* of the same storage */
    struct kept_form *newer, *older; /* by their last use */
    const void *from;
    int64_t shape, bytes;
    uint32_t used;
    uint8_t form;
    bool made; /* set by the kernel that has filled it */
} kept_form;

/* The form of data in s that starts at `from`, or NULL: the caller makes it in scratch memory.
 * shape tells apart what takes as many bytes. It stays until the next call of keep_form(), at
 * least. */
kept_form *keep_form(storage *s, const void *from, int form, int64_t shape, int64_t bytes);
void *kept_data(kept_form *k);
void drop_kept(storage *s);
/* All but the last one asked for, which a kernel may be reading; true when there were any. */
bool drop_unused(void);
int64_t kept_bytes(void);

/* Whoever writes into a storage that others may have read says so. */
ALWAYS_INLINE void storage_changed(storage *s) {
    s->version++;
    for (int i = 0; i < KEPT_FORMS; i++)
        s->asked[i] = 0;
    if (UNLIKELY(s->kept))
        drop_kept(s);
}

/* ---- Tensor: 128 bytes, in a slab that is never unmapped. ---- */
typedef struct tensor {
    uint32_t gen; /* raised when the slot is freed */
    int32_t refs;
    uint8_t dtype, ndim, out_index, leaf;
    uint32_t flags;
    storage *store;
    int64_t numel;
    struct node *node; /* NULL: requires no gradient; holds a reference */
    int64_t dim[VESTIGE_MAXDIM];
    char *data;
    struct tensor *grad; /* of a leaf; holds a reference */
    int64_t row;         /* elements from one row of the last dimension to the next */
} tensor;
_Static_assert(sizeof(tensor) == 128, "a tensor fills two cache lines");
typedef tensor *T;
enum { FRESH_COPY = 1 }; /* tensor.flags: a view in PyTorch, a copy here */

ALWAYS_INLINE int device_of(const tensor *t) {
    return t->store->device;
}
ALWAYS_INLINE bool is_float(int dtype) {
    return dtype <= VESTIGE_BF16;
}
ALWAYS_INLINE int dtype_size(int dtype) {
    static const uint8_t size[] = { 4, 8, 2, 8, 4, 1, 1 };
    return size[dtype];
}
int64_t product(int ndim, const int64_t *dim); /* -1 when it does not fit */
/* "f32 (2,3)", in one of eight rotating buffers. */
const char *describe(const tensor *t);
const char *shape_text(int ndim, const int64_t *dim);

/* New tensors have one reference, the caller's. */
int tensor_new(T *out, int dtype, int device, int ndim, const int64_t *dim);
/* A tensor over t's storage, from element `offset` of t on. */
int tensor_view(T *out, const tensor *t, int64_t offset, int ndim, const int64_t *dim);
int tensor_over(T *out, storage *s, char *data, int dtype, int ndim, const int64_t *dim);
void tensor_ref(T t);
void tensor_unref(T t);
void storage_unref(storage *s);
int64_t tensors_live(void);

/* Copies `bytes` bytes into, or out of, a tensor's elements from byte `at` on: how files are read
 * and written piece by piece. Neither checks its range. */
void copy_in_at(tensor *t, int64_t at, const void *src, int64_t bytes);
void copy_out_at(const tensor *t, int64_t at, void *dst, int64_t bytes);

/* ---- Allocation ---- */
int storage_new(storage **out, int device, int64_t bytes);
/* Scratch memory of a kernel: from the same cache, given back by free_scratch. */
int alloc_scratch(void **out, int64_t bytes);
void free_scratch(void *p, int64_t bytes);
/* Small host blocks for nodes and plans, counted and failing like all others. */
void *block_alloc(size_t bytes);
void block_free(void *p, size_t bytes);
/* The same for what can be done without: NULL when there is none, and no error. */
void *block_spare(size_t bytes);
/* How many bytes a block of so many takes. */
int64_t block_bytes(int64_t bytes);
/* Counts an allocation that this file's callers make themselves; true when a test fails it. */
bool allocation_fails(void);
bool memory_over_limit(void);

/* The ref device's memory is closed except between these two. */
void ref_open(void);
void ref_close(void);

/* ---- Scopes: the C side keeps tensors that rules and calls make until they end. ---- */
size_t temp_mark(void);
/* Hands t's reference to the innermost temporary region. */
int temp_push(T t);
void temp_drop(size_t mark);
/* Hands t's reference to the caller's handle; the status tells whether it became a root. */
int handle_out(vestige_tensor *h, T t);
/* The tensor behind a handle, or NULL with an error that names `what`. */
T handle_in(const vestige_tensor *h, const char *what);
int64_t roots_live(void);

/* ---- Random streams ---- */
extern vestige_stream current_stream;

#endif
