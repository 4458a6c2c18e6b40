/* data.c: how elements come in and go out. */
#include <string.h>
#include "core/core.h"

static void copy_in(tensor *t, const void *src, int64_t bytes) {
    bool ref = device_of(t) == VESTIGE_REF;
    if (ref)
        ref_open();
    memcpy(t->data, src, (size_t)bytes);
    if (ref)
        ref_close();
}

void tensor_read(const tensor *t, void *dst, int64_t bytes) {
    bool ref = device_of(t) == VESTIGE_REF;
    if (ref)
        ref_open();
    memcpy(dst, t->data, (size_t)bytes);
    if (ref)
        ref_close();
}

static int check_bytes(const char *what, const tensor *t, int64_t bytes) {
    int64_t need = t->numel * dtype_size(t->dtype);
    if (bytes != need)
        return fail(VESTIGE_ESHAPE, "%s: %s takes %lld bytes, got %lld", what, describe(t),
                    (long long)need, (long long)bytes);
    return VESTIGE_OK;
}

int vestige_from_data(vestige_tensor *out, int dtype, int device, int ndim, const int64_t *dim,
                      const void *data, int64_t bytes) {
    clear_error();
    if (dtype < 0 || dtype >= VESTIGE_NTYPES)
        return fail(VESTIGE_ETYPE, "tensor: unknown type %d", dtype);
    if (device < 0 || device >= VESTIGE_NDEVICES)
        return fail(VESTIGE_EDEVICE, "tensor: unknown device %d", device);
    T t;
    TRY(tensor_new(&t, dtype, device, ndim, dim));
    if (data) {
        int status = check_bytes("tensor", t, bytes);
        if (status < 0) {
            tensor_unref(t);
            return status;
        }
        copy_in(t, data, bytes);
    }
    return handle_out(out, t);
}

int vestige_to_data(const vestige_tensor *h, void *dst, int64_t bytes) {
    clear_error();
    T t = handle_in(h, "to_data");
    if (!t)
        return error_pending();
    TRY(check_bytes("to_data", t, bytes));
    tensor_read(t, dst, bytes);
    return VESTIGE_OK;
}

int vestige_set_data(const vestige_tensor *h, const void *src, int64_t bytes) {
    clear_error();
    T t = handle_in(h, "set_data");
    if (!t)
        return error_pending();
    TRY(check_bytes("set_data", t, bytes));
    copy_in(t, src, bytes);
    t->store->version++;
    return VESTIGE_OK;
}

int vestige_item(const vestige_tensor *h, double *value, int64_t *integer) {
    clear_error();
    T t = handle_in(h, "item");
    if (!t)
        return error_pending();
    if (t->numel != 1)
        return fail(VESTIGE_ESHAPE, "item: expected a tensor of one element, got %s", describe(t));
    union {
        float f;
        double d;
        uint16_t h;
        int64_t l;
        int32_t i;
        uint8_t b;
        uint32_t bits;
    } u;
    tensor_read(t, &u, dtype_size(t->dtype));
    int64_t whole = 0;
    switch (t->dtype) {
    case VESTIGE_F32:
        *value = u.f;
        break;
    case VESTIGE_F64:
        *value = u.d;
        break;
    case VESTIGE_BF16:
        u.bits = (uint32_t)u.h << 16;
        *value = u.f;
        break;
    case VESTIGE_I64:
        *value = (double)(whole = u.l);
        break;
    case VESTIGE_I32:
        *value = (double)(whole = u.i);
        break;
    default:
        *value = (double)(whole = u.b);
    }
    *integer = whole;
    return VESTIGE_OK;
}

int vestige_describe(const vestige_tensor *h, vestige_tensor_info *info) {
    clear_error();
    T t = handle_in(h, "tensor");
    if (!t)
        return error_pending();
    info->dtype = t->dtype;
    info->device = device_of(t);
    info->ndim = t->ndim;
    info->requires_grad = t->node != NULL;
    info->is_leaf = !t->node || t->leaf;
    info->version = t->store->version;
    info->numel = t->numel;
    memcpy(info->dim, t->dim, sizeof info->dim);
    return VESTIGE_OK;
}
