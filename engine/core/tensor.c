/* tensor.c: tensor headers, in a slab that is reserved once and never unmapped, so that a stale
 * handle can always be looked at. */
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include "core/core.h"
#include "autograd/autograd.h"

enum { SLAB_TENSORS = 1 << 24 };

static tensor *slab, *slab_free;
static int64_t slab_used, live;
int64_t slab_limit = SLAB_TENSORS; /* a test lowers it */

/* LeakSanitizer does not scan mapped memory by itself. */
extern void __lsan_register_root_region(const void *p, size_t n) __attribute__((weak));

static T slot_take(void) {
    if (slab_free) {
        T t = slab_free;
        slab_free = t->grad; /* free slots are linked through it */
        return t;
    }
    if (!slab) {
        size_t bytes = (size_t)SLAB_TENSORS * sizeof(tensor);
        void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (p == MAP_FAILED) {
            fail(VESTIGE_EMEMORY, "out of memory: %zu bytes of address space for tensors", bytes);
            return NULL;
        }
        slab = p;
        if (__lsan_register_root_region)
            __lsan_register_root_region(p, bytes);
    }
    if (slab_used >= slab_limit) {
        fail(VESTIGE_EMEMORY, "out of memory: %lld tensors are alive", (long long)live);
        return NULL;
    }
    return &slab[slab_used++];
}

static void slot_give(T t) {
    t->gen++;
    t->grad = slab_free;
    slab_free = t;
}

bool slot_known(const void *p) {
    return slab && p >= (void *)slab && p < (void *)(slab + slab_used) &&
           ((const char *)p - (const char *)slab) % sizeof(tensor) == 0;
}

int64_t tensors_live(void) {
    return live;
}

int64_t product(int ndim, const int64_t *dim) {
    int64_t n = 1;
    for (int i = 0; i < ndim; i++)
        if (__builtin_mul_overflow(n, dim[i], &n))
            return -1;
    return n;
}

static int make(T *out, storage *s, char *data, int dtype, int ndim, const int64_t *dim) {
    T t = slot_take();
    if (UNLIKELY(!t))
        return error_pending();
    live++;
    t->refs = 1;
    t->dtype = (uint8_t)dtype;
    t->ndim = (uint8_t)ndim;
    t->out_index = t->leaf = 0;
    t->flags = 0;
    t->store = s;
    int64_t n = 1;
    for (int i = 0; i < ndim; i++) {
        t->dim[i] = dim[i];
        n *= dim[i];
    }
    t->numel = n;
    t->node = NULL;
    t->data = data;
    t->grad = NULL;
    t->row = ndim ? dim[ndim - 1] : 1;
    *out = t;
    return VESTIGE_OK;
}

int tensor_new(T *out, int dtype, int device, int ndim, const int64_t *dim) {
    if (UNLIKELY(ndim > VESTIGE_MAXDIM))
        return fail(VESTIGE_ESHAPE, "a tensor has at most %d dimensions, got %d", VESTIGE_MAXDIM,
                    ndim);
    int64_t bytes = dtype_size(dtype);
    for (int i = 0; i < ndim; i++) {
        if (UNLIKELY(dim[i] < 0))
            return fail(VESTIGE_ESHAPE, "a dimension is negative: %s", shape_text(ndim, dim));
        if (UNLIKELY(__builtin_mul_overflow(bytes, dim[i], &bytes)))
            return fail(VESTIGE_EMEMORY, "out of memory: a tensor of shape %s is too large",
                        shape_text(ndim, dim));
    }
    storage *s;
    TRY(storage_new(&s, device, bytes));
    int status = make(out, s, s->data, dtype, ndim, dim);
    if (status < 0)
        storage_unref(s);
    return status;
}

int tensor_over(T *out, storage *s, char *data, int dtype, int ndim, const int64_t *dim) {
    TRY(make(out, s, data, dtype, ndim, dim));
    s->refs++;
    return VESTIGE_OK;
}

int tensor_view(T *out, const tensor *t, int64_t offset, int ndim, const int64_t *dim) {
    TRY(tensor_over(out, t->store, t->data + offset * dtype_size(t->dtype), t->dtype, ndim, dim));
    (*out)->flags = t->flags; /* a view of a fresh copy is no better than the copy */
    return VESTIGE_OK;
}

void tensor_ref(T t) {
    t->refs++;
}

void tensor_unref(T t) {
    while (t && --t->refs == 0) {
        T grad = t->grad;
        node *n = t->node;
        storage *s = t->store;
        live--;
        slot_give(t);
        storage_unref(s);
        if (n)
            node_unref(n);
        t = grad; /* a chain of .grad unwinds without recursion */
    }
}

/* ---- Text for messages ---- */
static char *next_text(void) {
    static char text[8][160];
    static unsigned turn;
    return text[turn++ % 8];
}

static int put_shape(char *at, size_t room, int ndim, const int64_t *dim) {
    int n = snprintf(at, room, "(");
    for (int i = 0; i < ndim && n < (int)room - 24; i++)
        n += snprintf(at + n, room - (size_t)n, i ? ",%lld" : "%lld", (long long)dim[i]);
    return n + snprintf(at + n, room - (size_t)n, ")");
}

const char *shape_text(int ndim, const int64_t *dim) {
    char *text = next_text();
    put_shape(text, 160, ndim, dim);
    return text;
}

const char *describe(const tensor *t) {
    char *text = next_text();
    int n = snprintf(text, 160, "%s ", vestige_dtype_name(t->dtype));
    put_shape(text + n, 160 - (size_t)n, t->ndim, t->dim);
    return text;
}

const char *vestige_dtype_name(int dtype) {
    static const char *const name[] = { "f32", "f64", "bf16", "i64", "i32", "u8", "bool" };
    return dtype >= 0 && dtype < VESTIGE_NTYPES ? name[dtype] : "unknown type";
}

int vestige_dtype_size(int dtype) {
    return dtype >= 0 && dtype < VESTIGE_NTYPES ? dtype_size(dtype) : 0;
}

const char *vestige_device_name(int device) {
    static const char *const name[] = { "cpu", "ref" };
    return device >= 0 && device < VESTIGE_NDEVICES ? name[device] : "unknown device";
}
