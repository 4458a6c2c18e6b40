/* The definition of parts of tensors: taken, put back, padded. */
#include "ref/ref.h"
#include "ops/slice.h"

/* Copies part's slices from whole, or with `back` into it. */
static void copy_part(const slice *s, char *whole, char *part, int64_t size, bool back) {
    int64_t bytes = s->inner * size;
    for (int64_t o = 0; o < s->outer; o++)
        for (int64_t l = 0; l < s->length; l++) {
            char *w = whole + (o * s->n + s->start + l * s->step) * bytes;
            char *p = part + (o * s->length + l) * bytes;
            memcpy(back ? w : p, back ? p : w, (size_t)bytes);
        }
}

static int take(const call *c) {
    T x = c->in[0], y = c->out[0];
    slice s = slice_of(c, x, y);
    copy_part(&s, x->data, y->data, dtype_size(y->dtype), false);
    return VESTIGE_OK;
}

static int unnarrow(const call *c) {
    T x = c->in[0], y = c->out[0];
    slice s = slice_of(c, y, x);
    memset(y->data, 0, (size_t)(y->numel * dtype_size(y->dtype)));
    copy_part(&s, y->data, x->data, dtype_size(y->dtype), true);
    return VESTIGE_OK;
}

static int replace(const call *c) {
    T x = c->in[0], src = c->in[1], y = c->out[0];
    slice s = slice_of(c, x, src);
    memcpy(y->data, x->data, (size_t)(y->numel * dtype_size(y->dtype)));
    copy_part(&s, y->data, src->data, dtype_size(y->dtype), true);
    return VESTIGE_OK;
}

/* The element of x (the tensor before padding) that fills the cursor's place, or -1. */
static int64_t source(const call *c, const tensor *x, const cursor *k, const int64_t *before) {
    int64_t at = 0;
    for (int d = 0; d < x->ndim; d++) {
        int64_t p =
            pad_source((enum pad_mode)option(c, "mode"), k->index[d] - before[d], x->dim[d]);
        if (p < 0)
            return -1;
        at = at * x->dim[d] + p;
    }
    return at;
}

ALWAYS_INLINE int pad(const call *c, int t) {
    T x = c->in[0], y = c->out[0];
    int64_t before[VESTIGE_MAXDIM], after[VESTIGE_MAXDIM], size = dtype_size(t);
    pads_of(c, x->ndim, before, after);
    cursor k;
    for (cursor_start(&k, y->ndim, y->dim, 0, NULL); k.left; cursor_next(&k)) {
        int64_t from = source(c, x, &k, before);
        if (from < 0)
            put(y->data, t, k.i, option(c, "value"));
        else
            memcpy(y->data + k.i * size, x->data + from * size, (size_t)size);
    }
    return VESTIGE_OK;
}
REF_ALL(pad)

ALWAYS_INLINE int unpad(const call *c, int t) {
    T x = c->in[0], y = c->out[0];
    int64_t before[VESTIGE_MAXDIM], after[VESTIGE_MAXDIM];
    void *p;
    TRY(alloc_scratch(&p, y->numel * 8));
    double *sum = p;
    memset(sum, 0, (size_t)y->numel * 8);
    pads_of(c, x->ndim, before, after);
    cursor k;
    for (cursor_start(&k, x->ndim, x->dim, 0, NULL); k.left; cursor_next(&k)) {
        int64_t to = source(c, y, &k, before);
        if (to >= 0)
            sum[to] += get(x->data, t, k.i);
    }
    for (int64_t i = 0; i < y->numel; i++)
        put(y->data, t, i, sum[i]);
    free_scratch(p, y->numel * 8);
    return VESTIGE_OK;
}
REF_FLOAT(unpad)

const kernel_row ref_slice[] = {
    ROWS_SAME("narrow", take),
    ROWS_SAME("select", take),
    ROWS_SAME("unnarrow", unnarrow),
    ROWS_SAME("slice_scatter", replace),
    ROWS_SAME("select_scatter", replace),
    ROWS_ALL("pad", pad),
    ROWS_FLOAT("unpad", unpad),
    { 0 },
};
