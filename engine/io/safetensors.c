/* safetensors.c: reading safetensors files.
 *
 * A file is 8 bytes of header length (little-endian), that many bytes of JSON, and the elements of
 * all entries. Opening checks the whole header against the file's size: what open accepted, read
 * can give, unless the file changes in between. An entry must have the type, shape and data_offsets
 * that fit each other, and all entries together must cover the data without gap or overlap. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <jansson.h>
#include "io/safetensors.h"

typedef struct entry {
    const char *name; /* in the header */
    const file_type *type;
    int ndim;
    int64_t dim[VESTIGE_MAXDIM];
    int64_t begin, end; /* from the start of the data */
} entry;

struct vestige_safetensors {
    source file;
    char *path;
    size_t path_room;
    json_t *header; /* owns all names and texts */
    json_t *metadata;
    entry *entry;
    size_t count;
    int64_t data; /* where the data start */
};

/* ---- Checking the header ---- */
static int bad_entry(const vestige_safetensors *f, const entry *e, const char *format, ...)
    __attribute__((format(printf, 3, 4), cold));

static int bad_entry(const vestige_safetensors *f, const entry *e, const char *format, ...) {
    char text[256];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return fail(VESTIGE_EIO, "%s: entry '%s': %s", f->path, shown(e->name), text);
}

static int read_type(const vestige_safetensors *f, entry *e, const json_t *v) {
    const char *name = json_string_value(v);
    if (!name)
        return bad_entry(f, e, "dtype: expected a string");
    for (int i = 0; i < COUNT(file_types); i++)
        if (strcmp(name, file_types[i].name) == 0)
            e->type = &file_types[i];
    if (!e->type)
        return bad_entry(f, e, "dtype: unknown type '%s'", shown(name));
    return VESTIGE_OK;
}

static int read_shape(const vestige_safetensors *f, entry *e, json_t *v) {
    if (!json_is_array(v))
        return bad_entry(f, e, "shape: expected a list of sizes");
    size_t n = json_array_size(v);
    if (n > VESTIGE_MAXDIM)
        return bad_entry(f, e, "shape: %zu dimensions, expected at most %d", n, VESTIGE_MAXDIM);
    e->ndim = (int)n;
    for (size_t i = 0; i < n; i++) {
        const json_t *d = json_array_get(v, i);
        if (!json_is_integer(d))
            return bad_entry(f, e, "shape: dimension %zu is not a whole number", i + 1);
        e->dim[i] = json_integer_value(d);
        if (e->dim[i] < 0)
            return bad_entry(f, e, "shape: dimension %zu is negative: %lld", i + 1,
                             (long long)e->dim[i]);
    }
    return VESTIGE_OK;
}

static int read_offsets(const vestige_safetensors *f, entry *e, json_t *v) {
    const json_t *begin = json_array_get(v, 0), *end = json_array_get(v, 1);
    if (!json_is_array(v) || json_array_size(v) != 2 || !json_is_integer(begin) ||
        !json_is_integer(end))
        return bad_entry(f, e, "data_offsets: expected two whole numbers");
    e->begin = json_integer_value(begin);
    e->end = json_integer_value(end);
    int64_t room = f->file.size - f->data;
    if (e->begin < 0 || e->end < e->begin || e->end > room)
        return bad_entry(f, e, "data_offsets: %lld to %lld is outside the file's data, 0 to %lld",
                         (long long)e->begin, (long long)e->end, (long long)room);
    return VESTIGE_OK;
}

static int read_entry(const vestige_safetensors *f, entry *e, json_t *fields) {
    if (!json_is_object(fields))
        return bad_entry(f, e, "expected an object with dtype, shape and data_offsets");
    const char *key;
    json_t *v;
    int seen = 0;
    json_object_foreach(fields, key, v) {
        if (strcmp(key, "dtype") == 0) {
            TRY(read_type(f, e, v));
            seen |= 1;
        } else if (strcmp(key, "shape") == 0) {
            TRY(read_shape(f, e, v));
            seen |= 2;
        } else if (strcmp(key, "data_offsets") == 0) {
            TRY(read_offsets(f, e, v));
            seen |= 4;
        } else {
            return bad_entry(f, e, "unknown field '%s'", shown(key));
        }
    }
    if (seen != 7)
        return bad_entry(f, e, "%s is missing",
                         !(seen & 1)   ? "dtype"
                         : !(seen & 2) ? "shape"
                                       : "data_offsets");
    /* Also the product of sizes that a zero hides must not overflow: a kernel may multiply them
     * in another order. */
    int64_t largest = e->type->size, count = 1;
    for (int i = 0; i < e->ndim; i++) {
        bool over = __builtin_mul_overflow(largest, e->dim[i] ? e->dim[i] : 1, &largest);
        if (over)
            return bad_entry(f, e, "shape: %s is too large", shape_text(e->ndim, e->dim));
        count *= e->dim[i];
    }
    int64_t bytes = count * e->type->size;
    if (bytes != e->end - e->begin)
        return bad_entry(f, e, "data_offsets: shape %s of %s takes %lld bytes, not %lld",
                         shape_text(e->ndim, e->dim), e->type->name, (long long)bytes,
                         (long long)(e->end - e->begin));
    return VESTIGE_OK;
}

static int by_offset(const void *a, const void *b) {
    const entry *x = a, *y = b;
    if (x->begin != y->begin)
        return x->begin < y->begin ? -1 : 1;
    return x->end < y->end ? -1 : x->end > y->end;
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const entry *)a)->name, ((const entry *)b)->name);
}

static int check_cover(const vestige_safetensors *f) {
    int64_t at = 0;
    for (size_t i = 0; i < f->count; i++) {
        const entry *e = &f->entry[i];
        if (e->begin < at)
            return bad_entry(f, e, "data_offsets: overlaps entry '%s', which ends at %lld",
                             shown(f->entry[i - 1].name), (long long)at);
        if (e->begin > at)
            return bad_entry(f, e,
                             "data_offsets: no entry has the bytes from %lld to %lld before it",
                             (long long)at, (long long)e->begin);
        at = e->end;
    }
    int64_t room = f->file.size - f->data;
    if (at != room)
        return fail(VESTIGE_EIO, "%s: no entry has the last %lld bytes", f->path,
                    (long long)(room - at));
    return VESTIGE_OK;
}

static int check_metadata(const vestige_safetensors *f) {
    if (!json_is_object(f->metadata))
        return fail(VESTIGE_EIO, "%s: __metadata__: expected an object of strings", f->path);
    const char *key;
    json_t *v;
    json_object_foreach(f->metadata, key, v) {
        if (!json_is_string(v))
            return fail(VESTIGE_EIO, "%s: __metadata__: '%s' is not a string", f->path, shown(key));
    }
    return VESTIGE_OK;
}

static int parse_header(vestige_safetensors *f, const char *text, int64_t bytes) {
    json_error_t error;
    f->header = json_loadb(text, (size_t)bytes, JSON_REJECT_DUPLICATES, &error);
    if (!f->header && json_error_code(&error) == json_error_out_of_memory)
        return fail(VESTIGE_EMEMORY, "out of memory: the header of %s", f->path);
    if (!f->header)
        return fail(VESTIGE_EIO, "%s: header: %s (byte %d)", f->path, shown(error.text),
                    error.position);
    if (!json_is_object(f->header))
        return fail(VESTIGE_EIO, "%s: header: expected an object", f->path);
    f->metadata = json_object_get(f->header, "__metadata__");
    if (f->metadata)
        TRY(check_metadata(f));
    f->count = json_object_size(f->header) - (f->metadata != NULL);
    if (f->count) {
        f->entry = block_alloc(f->count * sizeof *f->entry);
        if (!f->entry)
            return error_pending();
    }
    const char *name;
    json_t *fields;
    size_t n = 0;
    json_object_foreach(f->header, name, fields) {
        if (fields == f->metadata)
            continue;
        f->entry[n] = (entry){ .name = name };
        TRY(read_entry(f, &f->entry[n], fields));
        n++;
    }
    if (f->count)
        qsort(f->entry, f->count, sizeof *f->entry, by_offset);
    TRY(check_cover(f));
    if (f->count)
        qsort(f->entry, f->count, sizeof *f->entry, by_name);
    return VESTIGE_OK;
}

static int read_header(vestige_safetensors *f) {
    uint8_t head[8];
    if (f->file.size < 8)
        return fail(VESTIGE_EIO, "%s: truncated: %lld bytes, no room for the header's length",
                    f->path, (long long)f->file.size);
    TRY(source_read(&f->file, head, 8, 0, "the header's length"));
    uint64_t n = 0;
    for (int i = 7; i >= 0; i--)
        n = n << 8 | head[i];
    if (n > (uint64_t)(f->file.size - 8) && memcmp(head, "PK\3\4", 4) == 0)
        return fail(VESTIGE_EIO, "%s: a zip archive, not a safetensors file", f->path);
    if (n > (uint64_t)(f->file.size - 8))
        return fail(VESTIGE_EIO,
                    "%s: header length: %llu bytes, but %lld follow (truncated, or not a "
                    "safetensors file)",
                    f->path, (unsigned long long)n, (long long)(f->file.size - 8));
    if (n < 2 || n > MAX_HEADER)
        return fail(VESTIGE_EIO, "%s: header length: %llu bytes, expected 2 to %d", f->path,
                    (unsigned long long)n, MAX_HEADER);
    f->data = 8 + (int64_t)n;
    void *text;
    TRY(alloc_scratch(&text, (int64_t)n));
    int status = source_read(&f->file, text, (int64_t)n, 8, "the header");
    if (status >= 0)
        status = parse_header(f, text, (int64_t)n);
    free_scratch(text, (int64_t)n);
    return status;
}

int vestige_safetensors_open(vestige_safetensors **out, const char *path) {
    clear_error();
    *out = NULL;
    vestige_safetensors *f = block_alloc(sizeof *f);
    if (!f)
        return error_pending();
    *f = (vestige_safetensors){ .file.fd = -1, .path_room = strlen(path) + 1 };
    f->path = block_alloc(f->path_room);
    if (f->path) {
        memcpy(f->path, path, f->path_room);
        if (source_open(&f->file, f->path) >= 0 && read_header(f) >= 0) {
            *out = f;
            return VESTIGE_OK;
        }
    }
    vestige_safetensors_close(f);
    return error_pending();
}

void vestige_safetensors_close(vestige_safetensors *f) {
    if (!f)
        return;
    source_close(&f->file);
    json_decref(f->header);
    block_free(f->entry, f->count * sizeof *f->entry);
    block_free(f->path, f->path_room);
    block_free(f, sizeof *f);
}

/* ---- Looking ---- */
int vestige_safetensors_count(const vestige_safetensors *f) {
    return (int)f->count;
}

static const entry *find(const vestige_safetensors *f, int i) {
    if (i >= 0 && (size_t)i < f->count)
        return &f->entry[i];
    fail(VESTIGE_EVALUE, "%s: entry %d: the file has %zu", f->path, i, f->count);
    return NULL;
}

int vestige_safetensors_entry(const vestige_safetensors *f, int i, vestige_entry *out) {
    clear_error();
    const entry *e = find(f, i);
    if (!e)
        return error_pending();
    *out = (vestige_entry){
        .name = e->name, .dtype = e->type->dtype, .ndim = e->ndim, .bytes = e->end - e->begin
    };
    strcpy(out->type, e->type->name);
    memcpy(out->dim, e->dim, sizeof out->dim);
    return VESTIGE_OK;
}

int vestige_safetensors_metadata(const vestige_safetensors *f, int i, const char **key,
                                 const char **value) {
    clear_error();
    json_t *v;
    int n = 0;
    json_object_foreach(f->metadata, *key, v) {
        if (n++ == i) {
            *value = json_string_value(v);
            return VESTIGE_OK;
        }
    }
    return fail(VESTIGE_EVALUE, "%s: metadata %d: the file has %d", f->path, i, n);
}

/* ---- Reading an entry ---- */
static int check_bools(const vestige_safetensors *f, const entry *e, const uint8_t *p, int64_t n) {
    for (int64_t i = 0; i < n; i++)
        if (p[i] > 1)
            return bad_entry(f, e, "data: a BOOL is 0 or 1, got %d", p[i]);
    return VESTIGE_OK;
}

/* Reads through a scratch buffer in parts: one for what the file holds, one for each conversion. */
static int read_elements(const vestige_safetensors *f, const entry *e, T t, int layout) {
    int64_t unit = 1, planes = 1, plane = 1; /* elements of the smallest part */
    if (layout == VESTIGE_NCHW) {
        planes = e->dim[1];
        plane = e->dim[2] * e->dim[3];
        unit = planes * plane;
    }
    int size = e->type->size, to = dtype_size(t->dtype);
    int64_t units = t->numel / unit, part = IO_CHUNK / (unit * size);
    part = part < 1 ? 1 : part > units ? units : part;
    int64_t room = part * unit * (2 * size + to);
    void *scratch;
    TRY(alloc_scratch(&scratch, room));
    int status = VESTIGE_OK;
    for (int64_t i = 0; i < units && status >= 0; i += part) {
        int64_t m = i + part < units ? part : units - i, n = m * unit;
        char *raw = scratch, *turned = raw + part * unit * size,
             *wide = turned + part * unit * size;
        if (interrupted())
            status = fail(VESTIGE_EINTERRUPTED, "interrupted");
        if (status >= 0)
            status = source_read(&f->file, raw, n * size, f->data + e->begin + i * unit * size,
                                 shown(e->name));
        if (status >= 0 && t->dtype == VESTIGE_BOOL)
            status = check_bools(f, e, (uint8_t *)raw, n);
        if (status < 0)
            break;
        if (layout == VESTIGE_NCHW) {
            transpose_all(turned, raw, m, planes, plane, size);
            raw = turned;
        }
        if (size != to) {
            half_to_float((void *)wide, (const void *)raw, n);
            raw = wide;
        }
        copy_in_at(t, i * unit * to, raw, n * to);
    }
    free_scratch(scratch, room);
    return status;
}

int vestige_safetensors_read(vestige_tensor *out, const vestige_safetensors *f, int i, int layout) {
    clear_error();
    const entry *e = find(f, i);
    if (!e)
        return error_pending();
    if (e->type->dtype < 0)
        return bad_entry(f, e, "dtype: no tensor has the type %s", e->type->name);
    int64_t dim[VESTIGE_MAXDIM];
    memcpy(dim, e->dim, sizeof dim);
    if (layout == VESTIGE_NCHW) {
        if (e->ndim != 4)
            return bad_entry(f, e, "shape: layout nchw takes 4 dimensions, got %s",
                             shape_text(e->ndim, e->dim));
        dim[1] = e->dim[2];
        dim[2] = e->dim[3];
        dim[3] = e->dim[1];
    }
    T t;
    TRY(tensor_new(&t, e->type->dtype, VESTIGE_CPU, e->ndim, dim));
    if (t->numel) {
        int status = read_elements(f, e, t, layout);
        if (status < 0) {
            tensor_unref(t);
            return status;
        }
    }
    return handle_out(out, t);
}
