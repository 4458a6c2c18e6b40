/* data.c: how elements come in and go out. */
#include <string.h>
#include "core/core.h"

void copy_in_at(tensor *t, int64_t at, const void *src, int64_t bytes) {
    bool ref = device_of(t) == VESTIGE_REF;
    if (ref)
        ref_open();
    memcpy(t->data + at, src, (size_t)bytes);
    if (ref)
        ref_close();
}

void copy_out_at(const tensor *t, int64_t at, void *dst, int64_t bytes) {
    bool ref = device_of(t) == VESTIGE_REF;
    if (ref)
        ref_open();
    memcpy(dst, t->data + at, (size_t)bytes);
    if (ref)
        ref_close();
}

static void copy_in(tensor *t, const void *src, int64_t bytes) {
    copy_in_at(t, 0, src, bytes);
}

static void copy_out(const tensor *t, void *dst, int64_t bytes) {
    copy_out_at(t, 0, dst, bytes);
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

/* NaNs leave with no sign and no payload: LuaJIT keeps its type tags in the NaNs of a double and
 * takes some payloads read through its FFI for another type. */
static void plain_nans(int dtype, void *data, int64_t n) {
    if (dtype == VESTIGE_F32) {
        for (int64_t i = 0; i < n; i++)
            if (((float *)data)[i] != ((float *)data)[i])
                ((float *)data)[i] = __builtin_nanf("");
    } else if (dtype == VESTIGE_F64) {
        for (int64_t i = 0; i < n; i++)
            if (((double *)data)[i] != ((double *)data)[i])
                ((double *)data)[i] = __builtin_nan("");
    } else if (dtype == VESTIGE_BF16) {
        for (int64_t i = 0; i < n; i++)
            if ((((uint16_t *)data)[i] & 0x7FFF) > 0x7F80)
                ((uint16_t *)data)[i] = 0x7FC0;
    }
}

int vestige_to_data(const vestige_tensor *h, void *dst, int64_t bytes) {
    clear_error();
    T t = handle_in(h, "to_data");
    if (!t)
        return error_pending();
    TRY(check_bytes("to_data", t, bytes));
    copy_out(t, dst, bytes);
    plain_nans(t->dtype, dst, t->numel);
    return VESTIGE_OK;
}

int vestige_set_data(const vestige_tensor *h, const void *src, int64_t bytes) {
    clear_error();
    T t = handle_in(h, "set_data");
    if (!t)
        return error_pending();
    TRY(check_bytes("set_data", t, bytes));
    copy_in(t, src, bytes);
    storage_changed(t->store);
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
    copy_out(t, &u, dtype_size(t->dtype));
    plain_nans(t->dtype, &u, 1);
    uint16_t half;
    int64_t whole = 0;
    switch (t->dtype) {
    case VESTIGE_F32:
        *value = u.f;
        break;
    case VESTIGE_F64:
        *value = u.d;
        break;
    case VESTIGE_BF16:
        half = u.h;
        u.bits = (uint32_t)half << 16;
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
