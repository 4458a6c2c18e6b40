/* fuzz.h: what the fuzzers share. A reader takes a path, so the bytes go into a file in memory
 * whose path is in /proc. Only core/ and io/ are linked; a tape is never made. */
#ifndef VESTIGE_FUZZ_H
#define VESTIGE_FUZZ_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>
#include "core/core.h"

void node_unref(struct node *n);
void node_unref(struct node *n) {
    (void)n;
}

int64_t nodes_live(void);
int64_t nodes_live(void) {
    return 0;
}

/* The path of a file that holds these bytes, the same file at each call. */
static inline const char *as_file(const uint8_t *data, size_t bytes) {
    static int fd = -1;
    static char path[64];
    if (fd < 0) {
        fd = memfd_create("fuzz", 0);
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        vestige_memory_cap((int64_t)1 << 28);
    }
    if (fd < 0 || ftruncate(fd, 0) != 0 || pwrite(fd, data, bytes, 0) != (ssize_t)bytes)
        abort();
    return path;
}

/* Reads every element, and finds a leak at once instead of at the end. */
static void look_and_release(vestige_tensor *t) {
    vestige_tensor_info info;
    if (vestige_describe(t, &info) < 0)
        abort();
    int64_t bytes = info.numel * vestige_dtype_size(info.dtype);
    void *copy = malloc((size_t)bytes + 1);
    if (vestige_to_data(t, copy, bytes) < 0)
        abort();
    free(copy);
    vestige_release(t);
}

static int none_is_left(void) {
    vestige_memory_info info;
    vestige_memory(&info);
    if (info.live || info.tensors || info.roots)
        abort();
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

#endif
