/* cifar.c: CIFAR-10's binary files. A record is a label and 32x32 pixels in planes R, G, B; any
 * number of whole records makes a file. */
#include "io/io.h"

enum { SIDE = 32, PLANE = SIDE * SIDE, PIXELS = 3 * PLANE, RECORD = PIXELS + 1, CLASSES = 10 };
enum { BATCH = IO_CHUNK / RECORD };

static int read_records(const source *s, T images, T labels, int64_t at, uint8_t *scratch) {
    uint8_t *raw = scratch, *turned = scratch + BATCH * RECORD;
    int64_t n = s->size / RECORD, label[BATCH];
    for (int64_t i = 0; i < n; i += BATCH) {
        int64_t m = n - i < BATCH ? n - i : BATCH;
        TRY(source_read(s, raw, m * RECORD, i * RECORD, "the records"));
        for (int64_t r = 0; r < m; r++) {
            label[r] = raw[r * RECORD];
            if (label[r] >= CLASSES)
                return fail(VESTIGE_EIO, "%s: record %lld: label: expected 0 to 9, got %lld",
                            s->path, (long long)(i + r + 1), (long long)label[r]);
            transpose_all(turned + r * PIXELS, raw + r * RECORD + 1, 1, 3, PLANE, 1);
        }
        copy_in_at(images, (at + i) * PIXELS, turned, m * PIXELS);
        copy_in_at(labels, (at + i) * 8, label, m * 8);
    }
    return VESTIGE_OK;
}

static int count_records(const char *path, int64_t *total) {
    source s;
    TRY(source_open(&s, path));
    source_close(&s);
    if (s.size == 0)
        return fail(VESTIGE_EIO, "%s: empty: expected CIFAR-10 records", path);
    if (s.size % RECORD != 0)
        return fail(VESTIGE_EIO,
                    "%s: size: %lld bytes is no multiple of %d, a CIFAR-10 record (truncated?)",
                    path, (long long)s.size, RECORD);
    *total += s.size / RECORD;
    return VESTIGE_OK;
}

static int read_files(T images, T labels, int n, const char *const *paths) {
    void *scratch;
    int64_t at = 0, room = BATCH * (RECORD + PIXELS);
    TRY(alloc_scratch(&scratch, room));
    int status = VESTIGE_OK;
    for (int i = 0; i < n && status >= 0; i++) {
        source s;
        status = source_open(&s, paths[i]);
        if (status < 0)
            break;
        if (s.size % RECORD != 0 || at + s.size / RECORD > labels->numel)
            status = fail(VESTIGE_EIO, "%s: the file changed while it was read", paths[i]);
        else
            status = read_records(&s, images, labels, at, scratch);
        at += s.size / RECORD;
        source_close(&s);
    }
    free_scratch(scratch, room);
    if (status >= 0 && at != labels->numel)
        status = fail(VESTIGE_EIO, "%s: the file changed while it was read", paths[n - 1]);
    return status;
}

int vestige_cifar_read(vestige_tensor *images, vestige_tensor *labels, int n,
                       const char *const *paths) {
    clear_error();
    if (n < 1)
        return fail(VESTIGE_EVALUE, "cifar: expected at least one file");
    int64_t total = 0;
    for (int i = 0; i < n; i++)
        TRY(count_records(paths[i], &total));
    T x, y;
    TRY(tensor_new(&x, VESTIGE_U8, VESTIGE_CPU, 4, (int64_t[]){ total, SIDE, SIDE, 3 }));
    int status = tensor_new(&y, VESTIGE_I64, VESTIGE_CPU, 1, &total);
    if (status < 0) {
        tensor_unref(x);
        return status;
    }
    status = read_files(x, y, n, paths);
    if (status < 0) {
        tensor_unref(x);
        tensor_unref(y);
        return status;
    }
    return hand_out_both(images, x, labels, y);
}
