/* safetensors_write.c: writing safetensors files.
 *
 * The same tensors give the same bytes. The header's names are sorted; the data lie by falling
 * element size, then by name, so that every entry is aligned to its element as readers that map the
 * file expect. */
#include <stdlib.h>
#include <string.h>
#include <jansson.h>
#include "io/safetensors.h"

typedef struct item {
    const char *name;
    T t;
    int layout;
    int64_t begin;
} item;

static int by_size_and_name(const void *a, const void *b) {
    const item *x = a, *y = b;
    int sx = dtype_size(x->t->dtype), sy = dtype_size(y->t->dtype);
    return sx != sy ? sy - sx : strcmp(x->name, y->name);
}

static int64_t bytes_of(const tensor *t) {
    return t->numel * dtype_size(t->dtype);
}

static int take_items(const char *path, item *it, int n, const char *const *names,
                      const vestige_tensor *const *tensors, const int32_t *layout) {
    for (int i = 0; i < n; i++) {
        it[i] = (item){ .name = names[i], .layout = layout ? layout[i] : VESTIGE_MEMORY };
        it[i].t = handle_in(tensors[i], shown(names[i]));
        if (!it[i].t)
            return error_pending();
        if (strcmp(names[i], "__metadata__") == 0)
            return fail(VESTIGE_EVALUE, "%s: the name '__metadata__' is reserved", path);
        if (it[i].layout == VESTIGE_NCHW && it[i].t->ndim != 4)
            return fail(VESTIGE_ESHAPE, "%s: '%s': layout nchw takes 4 dimensions, got %s", path,
                        shown(names[i]), describe(it[i].t));
        if (it[i].layout != VESTIGE_NCHW && it[i].layout != VESTIGE_MEMORY)
            return fail(VESTIGE_EVALUE, "%s: '%s': unknown layout %d", path, shown(names[i]),
                        it[i].layout);
    }
    return VESTIGE_OK;
}

static json_t *shape_json(const item *it) {
    static const int nchw[] = { 0, 3, 1, 2 };
    json_t *list = json_array();
    for (int i = 0; i < it->t->ndim; i++)
        json_array_append_new(list,
                              json_integer(it->t->dim[it->layout == VESTIGE_NCHW ? nchw[i] : i]));
    return list;
}

/* Puts a new value under a new name. */
static int put(json_t *into, const char *path, const char *name, json_t *value) {
    json_t *text = json_string(name); /* checks UTF-8 */
    if (!text) {
        json_decref(value);
        return fail(VESTIGE_EVALUE, "%s: the name '%s' is not UTF-8", path, shown(name));
    }
    json_decref(text);
    if (json_object_get(into, name)) {
        json_decref(value);
        return fail(VESTIGE_EVALUE, "%s: the name '%s' is given twice", path, shown(name));
    }
    if (json_object_set_new(into, name, value) != 0)
        return fail(VESTIGE_EMEMORY, "out of memory: the header of %s", path);
    return VESTIGE_OK;
}

static int put_entries(json_t *header, const char *path, item *it, int n) {
    int64_t at = 0;
    for (int i = 0; i < n; i++) {
        it[i].begin = at;
        at += bytes_of(it[i].t);
        json_t *e = json_object();
        TRY(put(header, path, it[i].name, e));
        json_object_set_new(e, "dtype", json_string(file_types[it[i].t->dtype].name));
        json_object_set_new(e, "shape", shape_json(&it[i]));
        json_object_set_new(e, "data_offsets",
                            json_pack("[I,I]", (json_int_t)it[i].begin, (json_int_t)at));
        if (json_object_size(e) != 3)
            return fail(VESTIGE_EMEMORY, "out of memory: the header of %s", path);
    }
    return VESTIGE_OK;
}

static int put_metadata(json_t *header, const char *path, int n, const char *const *keys,
                        const char *const *values) {
    if (n == 0)
        return VESTIGE_OK;
    json_t *m = json_object();
    TRY(put(header, path, "__metadata__", m));
    for (int i = 0; i < n; i++) {
        json_t *text = json_string(values[i]);
        if (!text)
            return fail(VESTIGE_EVALUE, "%s: metadata '%s': the value is not UTF-8", path,
                        shown(keys[i]));
        TRY(put(m, path, keys[i], text));
    }
    return VESTIGE_OK;
}

static int write_header(sink *s, json_t *header) {
    char *text = json_dumps(header, JSON_COMPACT | JSON_SORT_KEYS);
    if (!text)
        return fail(VESTIGE_EMEMORY, "out of memory: the header of %s", s->path);
    size_t n = strlen(text), padded = (n + 7) / 8 * 8;
    uint8_t length[8];
    for (int i = 0; i < 8; i++)
        length[i] = (uint8_t)((uint64_t)padded >> 8 * i);
    int status = padded > MAX_HEADER
                     ? fail(VESTIGE_EVALUE, "%s: the names take %zu bytes, expected at most %d",
                            s->path, padded, MAX_HEADER)
                     : sink_write(s, length, 8);
    if (status >= 0)
        status = sink_write(s, text, (int64_t)n);
    if (status >= 0)
        status = sink_write(s, "       ", (int64_t)(padded - n));
    free(text);
    return status;
}

static int write_elements(sink *s, const item *it) {
    const tensor *t = it->t;
    int64_t unit = 1, plane = 1, planes = 1;
    if (it->layout == VESTIGE_NCHW) {
        plane = t->dim[1] * t->dim[2];
        planes = t->dim[3];
        unit = plane * planes;
    }
    if (t->numel == 0)
        return VESTIGE_OK;
    int size = dtype_size(t->dtype);
    int64_t units = t->numel / unit, part = IO_CHUNK / (unit * size);
    part = part < 1 ? 1 : part > units ? units : part;
    int64_t room = 2 * part * unit * size;
    void *scratch;
    TRY(alloc_scratch(&scratch, room));
    int status = VESTIGE_OK;
    for (int64_t i = 0; i < units && status >= 0; i += part) {
        int64_t m = i + part < units ? part : units - i;
        char *raw = scratch, *turned = raw + part * unit * size;
        copy_out_at(t, i * unit * size, raw, m * unit * size);
        if (it->layout == VESTIGE_NCHW) {
            transpose_all(turned, raw, m, plane, planes, size);
            raw = turned;
        }
        status = sink_write(s, raw, m * unit * size);
    }
    free_scratch(scratch, room);
    return status;
}

static int write_file(const char *path, item *it, int n, json_t *header) {
    sink s;
    TRY(sink_open(&s, path));
    int status = write_header(&s, header);
    for (int i = 0; i < n && status >= 0; i++)
        status = write_elements(&s, &it[i]);
    if (status < 0) {
        sink_abort(&s);
        return status;
    }
    return sink_commit(&s);
}

int vestige_safetensors_write(const char *path, int n, const char *const *names,
                              const vestige_tensor *const *tensors, const int32_t *layout,
                              int nmeta, const char *const *keys, const char *const *values) {
    clear_error();
    void *items;
    int64_t room = (int64_t)n * (int64_t)sizeof(item);
    TRY(alloc_scratch(&items, room));
    json_t *header = json_object();
    int status = header ? take_items(path, items, n, names, tensors, layout)
                        : fail(VESTIGE_EMEMORY, "out of memory: the header of %s", path);
    if (status >= 0) {
        qsort(items, (size_t)n, sizeof(item), by_size_and_name);
        status = put_entries(header, path, items, n);
    }
    if (status >= 0)
        status = put_metadata(header, path, nmeta, keys, values);
    if (status >= 0)
        status = write_file(path, items, n, header);
    json_decref(header);
    free_scratch(items, room);
    return status;
}
