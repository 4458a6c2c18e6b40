/* slice.c: parts of tensors, at speed: each is one move, or a copy of the whole and one move. */
#include "cpu/isa.h"
#include "cpu/move.h"
#include "ops/row.h"
#include "ops/slice.h"

/* Between whole (outer, n, inner) and part (outer, length, inner); to and from are still to set. */
static move slices(const slice *s, int64_t size, bool back) {
    int64_t slice = s->inner * size;
    move m = { .ndim = 3, .size = size, .dim = { s->outer, s->length, s->inner } };
    int64_t whole[3] = { s->n * slice, s->step * slice, size };
    int64_t part[3] = { s->length * slice, slice, size };
    memcpy(m.to_step, back ? whole : part, sizeof whole);
    memcpy(m.from_step, back ? part : whole, sizeof whole);
    return m;
}

static int take(const call *c) {
    const tensor *x = c->in[0], *y = c->out[0];
    slice s = slice_of(c, x, y);
    int64_t size = dtype_size(y->dtype);
    move m = slices(&s, size, false);
    m.to = y->data;
    m.from = x->data + s.start * s.inner * size;
    K(cpu_move)(m);
    return VESTIGE_OK;
}

static void put_back(const slice *s, const tensor *y, const tensor *part) {
    int64_t size = dtype_size(y->dtype);
    move m = slices(s, size, true);
    m.to = y->data + s->start * s->inner * size;
    m.from = part->data;
    K(cpu_move)(m);
}

static int unnarrow(const call *c) {
    const tensor *x = c->in[0], *y = c->out[0];
    slice s = slice_of(c, y, x);
    memset(y->data, 0, (size_t)(y->numel * dtype_size(y->dtype)));
    put_back(&s, y, x);
    return VESTIGE_OK;
}

static int replace(const call *c) {
    const tensor *x = c->in[0], *src = c->in[1], *y = c->out[0];
    slice s = slice_of(c, x, src);
    move_bytes(y->data, x->data, y->numel * dtype_size(y->dtype));
    put_back(&s, y, src);
    return VESTIGE_OK;
}

/* Between the elements that x and its padded form share: into y, the one of both that is made. */
static void shared_part(const call *c, const tensor *x, const tensor *padded, bool into_padded) {
    int64_t before[VESTIGE_MAXDIM], after[VESTIGE_MAXDIM], size = dtype_size(x->dtype);
    int64_t xs[VESTIGE_MAXDIM], ps[VESTIGE_MAXDIM];
    pads_of(c, x->ndim, before, after);
    move_steps(x->ndim, x->dim, size, xs);
    move_steps(x->ndim, padded->dim, size, ps);
    move m = { .ndim = x->ndim, .size = size };
    char *in_x = x->data, *in_padded = padded->data;
    for (int d = 0; d < x->ndim; d++) {
        int64_t first = before[d] < 0 ? -before[d] : 0; /* of x, the first that is kept */
        int64_t end = x->dim[d] + (after[d] < 0 ? after[d] : 0);
        m.dim[d] = end > first ? end - first : 0;
        in_x += first * xs[d];
        in_padded += (first + before[d]) * ps[d];
    }
    memcpy(m.to_step, into_padded ? ps : xs, sizeof ps);
    memcpy(m.from_step, into_padded ? xs : ps, sizeof ps);
    m.to = into_padded ? in_padded : in_x;
    m.from = into_padded ? in_x : in_padded;
    K(cpu_move)(m);
}

static int pad(const call *c) {
    const tensor *x = c->in[0], *y = c->out[0];
    double value = option(c, "value");
    if ((int)option(c, "mode") != PAD_CONSTANT || (value != 0 && y->dtype != VESTIGE_F32))
        return DECLINED;
    if (value == 0) {
        memset(y->data, 0, (size_t)(y->numel * dtype_size(y->dtype)));
    } else {
        float *at = (float *)y->data, f = (float)value;
        for (int64_t i = 0; i < y->numel; i++)
            at[i] = f;
    }
    shared_part(c, x, y, true);
    return VESTIGE_OK;
}

static int unpad(const call *c) {
    const tensor *x = c->in[0], *y = c->out[0];
    if ((int)option(c, "mode") != PAD_CONSTANT)
        return DECLINED;
    memset(y->data, 0, (size_t)(y->numel * dtype_size(y->dtype)));
    shared_part(c, y, x, false);
    return VESTIGE_OK;
}

const kernel_row K(cpu_slice)[] = {
    ROWS_SAME("narrow", take),
    ROWS_SAME("select", take),
    ROWS_SAME("unnarrow", unnarrow),
    ROWS_SAME("slice_scatter", replace),
    ROWS_SAME("select_scatter", replace),
    ROWS_SAME("pad", pad),
    { "unpad", VESTIGE_F32, unpad },
    { "unpad", VESTIGE_F64, unpad },
    { "unpad", VESTIGE_BF16, unpad },
    { 0 },
};
