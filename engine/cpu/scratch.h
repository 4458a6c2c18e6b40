/* Scratch memory: kernels allocate nothing. A layout function takes pieces off a bump pointer; run
 * with a null base it only measures, so that the size asked for and the pieces used cannot differ.
 */
#ifndef VESTIGE_CPU_SCRATCH_H
#define VESTIGE_CPU_SCRATCH_H

#include <stdint.h>
#include <stddef.h>

#define SCRATCH_ALIGN 64

struct scratch {
    char *base; /* null when measuring */
    int64_t at;
};

/* The caller's pointer needs no alignment: the first piece is aligned here, and the size reported
 * leaves room for it. */
static inline struct scratch scratch_open(void *base) {
    uintptr_t p = ((uintptr_t)base + SCRATCH_ALIGN - 1) & ~(uintptr_t)(SCRATCH_ALIGN - 1);
    return (struct scratch){ .base = (char *)p, .at = 0 };
}

static inline void *scratch_take(struct scratch *s, int64_t bytes) {
    void *p = s->base ? s->base + s->at : NULL;
    s->at += (bytes + SCRATCH_ALIGN - 1) & ~(int64_t)(SCRATCH_ALIGN - 1);
    return p;
}

static inline int64_t scratch_bytes(const struct scratch *s) {
    return s->at + SCRATCH_ALIGN;
}

#endif
