/* idx.c: IDX files (MNIST's format), plain or gzipped.
 *
 * Two zero bytes, the type, the number of dimensions, each dimension in 4 bytes and the elements,
 * all big-endian. zlib reads both kinds of file. The size that the header claims is compared with
 * the file's before memory is asked for: a plain file must match exactly, and deflate makes no more
 * than 1,032 bytes of one. */
#include <errno.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>
#include "io/io.h"

typedef struct idx {
    source file;
    gzFile gz;
    bool packed;
    uint8_t type;
    int size, ndim; /* size: bytes of an element in the file */
    int64_t dim[VESTIGE_MAXDIM];
    int64_t numel;
} idx;

static int gz_failed(const idx *x, const char *what, int got) {
    int error = 0;
    const char *text = gzerror(x->gz, &error);
    if (error == Z_ERRNO)
        return fail(VESTIGE_EIO, "%s: cannot read %s: %s", x->file.path, what, source_error(errno));
    if (error == Z_MEM_ERROR)
        return fail(VESTIGE_EMEMORY, "out of memory: unpacking %s", x->file.path);
    if (error == Z_BUF_ERROR || got >= 0)
        return fail(VESTIGE_EIO, "%s: truncated: the file ends inside %s", x->file.path, what);
    return fail(VESTIGE_EIO, "%s: gzip: %s in %s", x->file.path, shown(text), what);
}

static int take(const idx *x, void *dst, unsigned bytes, const char *what) {
    int got = gzread(x->gz, dst, bytes);
    return got == (int)bytes ? VESTIGE_OK : gz_failed(x, what, got);
}

static int read_sizes(idx *x) {
    uint8_t head[4], size[4];
    TRY(take(x, head, 4, "the header"));
    x->packed = !gzdirect(x->gz);
    if (head[0] || head[1])
        return fail(VESTIGE_EIO, "%s: header: an IDX file begins with two zero bytes, got %d %d",
                    x->file.path, head[0], head[1]);
    static const uint8_t sizes[] = {
        [0x08] = 1, [0x09] = 1, [0x0B] = 2, [0x0C] = 4, [0x0D] = 4, [0x0E] = 8
    };
    x->type = head[2];
    x->size = x->type < COUNT(sizes) ? sizes[x->type] : 0;
    if (!x->size)
        return fail(VESTIGE_EIO, "%s: type: unknown type 0x%02X", x->file.path, x->type);
    x->ndim = head[3];
    if (x->ndim < 1 || x->ndim > VESTIGE_MAXDIM)
        return fail(VESTIGE_EIO, "%s: dimensions: expected 1 to %d, got %d", x->file.path,
                    VESTIGE_MAXDIM, x->ndim);
    int64_t bytes = x->size;
    x->numel = 1;
    for (int i = 0; i < x->ndim; i++) {
        TRY(take(x, size, 4, "the sizes of dimensions"));
        x->dim[i] = (int64_t)size[0] << 24 | size[1] << 16 | size[2] << 8 | size[3];
        if (__builtin_mul_overflow(bytes, x->dim[i], &bytes))
            return fail(VESTIGE_EIO, "%s: dimensions: %s is too large", x->file.path,
                        shape_text(i + 1, x->dim));
        x->numel *= x->dim[i];
    }
    int64_t head_bytes = 4 + 4 * x->ndim, room = x->file.size;
    if (!x->packed && bytes != room - head_bytes)
        return fail(VESTIGE_EIO, "%s: dimensions: %s takes %lld bytes, but the file has %lld",
                    x->file.path, shape_text(x->ndim, x->dim), (long long)bytes,
                    (long long)(room - head_bytes));
    if (x->packed && bytes / 1032 > room)
        return fail(VESTIGE_EIO,
                    "%s: dimensions: %s takes %lld bytes, more than %lld gzipped bytes can hold",
                    x->file.path, shape_text(x->ndim, x->dim), (long long)bytes, (long long)room);
    return VESTIGE_OK;
}

/* Big-endian elements to the tensor's, both in the scratch buffer. */
static void convert(const idx *x, const uint8_t *raw, void *to, int64_t n) {
    for (int64_t i = 0; i < n; i++, raw += x->size) {
        uint64_t v = 0;
        for (int b = 0; b < x->size; b++)
            v = v << 8 | raw[b];
        uint32_t word = (uint32_t)v;
        if (x->type == 0x09)
            ((int32_t *)to)[i] = (int8_t)v;
        else if (x->type == 0x0B)
            ((int32_t *)to)[i] = (int16_t)v;
        else if (x->size == 4)
            memcpy((uint32_t *)to + i, &word, 4);
        else
            memcpy((uint64_t *)to + i, &v, 8);
    }
}

static int read_elements(const idx *x, T t) {
    enum { PART = IO_CHUNK / 8 }; /* elements */
    int to = dtype_size(t->dtype);
    void *scratch;
    TRY(alloc_scratch(&scratch, 2 * IO_CHUNK));
    uint8_t *raw = scratch, *ready = raw + IO_CHUNK;
    int status = VESTIGE_OK;
    for (int64_t i = 0; i < x->numel && status >= 0; i += PART) {
        int64_t n = x->numel - i < PART ? x->numel - i : PART;
        status = take(x, raw, (unsigned)(n * x->size), "the elements");
        if (status >= 0 && interrupted())
            status = fail(VESTIGE_EINTERRUPTED, "interrupted");
        if (status < 0)
            break;
        if (x->type != 0x08)
            convert(x, raw, ready, n);
        copy_in_at(t, i * to, x->type == 0x08 ? raw : ready, n * to);
    }
    if (status >= 0) { /* reading on checks gzip's sum */
        int got = gzread(x->gz, raw, 1);
        if (got > 0)
            status = fail(VESTIGE_EIO, "%s: dimensions: more elements follow than %s has",
                          x->file.path, shape_text(x->ndim, x->dim));
        int error = Z_OK;
        gzerror(x->gz, &error);
        if (status >= 0 && (got < 0 || (error != Z_OK && error != Z_STREAM_END)))
            status = gz_failed(x, "the elements", got);
    }
    free_scratch(scratch, 2 * IO_CHUNK);
    return status;
}

static int read_idx(vestige_tensor *out, idx *x) {
    static const uint8_t dtype[] = {
        [0x08] = VESTIGE_U8,  [0x09] = VESTIGE_I32, [0x0B] = VESTIGE_I32,
        [0x0C] = VESTIGE_I32, [0x0D] = VESTIGE_F32, [0x0E] = VESTIGE_F64
    };
    TRY(read_sizes(x));
    T t;
    TRY(tensor_new(&t, dtype[x->type], VESTIGE_CPU, x->ndim, x->dim));
    int status = read_elements(x, t);
    if (status < 0) {
        tensor_unref(t);
        return status;
    }
    return handle_out(out, t);
}

int vestige_idx_read(vestige_tensor *out, const char *path) {
    clear_error();
    idx x = { 0 };
    TRY(source_open(&x.file, path));
    int fd = dup(x.file.fd); /* gzclose closes the one it has */
    x.gz = fd >= 0 ? gzdopen(fd, "rb") : NULL;
    int status;
    if (x.gz) {
        status = read_idx(out, &x);
        gzclose(x.gz);
    } else {
        status = fail(VESTIGE_EMEMORY, "out of memory: opening %s", path);
        if (fd >= 0)
            close(fd);
    }
    source_close(&x.file);
    return status;
}
