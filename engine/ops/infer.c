/* infer.c: what infer functions use: options by name, shapes, promotion of types. */
#include "ops/row.h"
#include "autograd/autograd.h"

const char *opname(const call *c) {
    return c->row->name;
}

const vestige_param *param_of(const call *c, int i) {
    const op_info *info = &op_table[c->op];
    if (!info->in_lists)
        return &info->public.ins[i];
    int list = 0;
    for (int p = 0; p < info->public.nin; p++) {
        int n = info->in_lists >> p & 1 ? c->len[list++] : 1;
        if (i < n)
            return &info->public.ins[p];
        i -= n;
    }
    return &info->public.ins[0];
}

static const vestige_param *find_option(const call *c, const char *name) {
    const vestige_op *o = &op_table[c->op].public;
    for (int i = 0; i < o->nopt; i++)
        if (strcmp(o->options[i].name, name) == 0)
            return &o->options[i];
    return NULL;
}

int slot_of(const call *c, const char *name) {
    const vestige_param *p = find_option(c, name);
    return p ? p->slot : -1;
}

double option(const call *c, const char *name) {
    const vestige_param *p = find_option(c, name);
    return p ? c->opt[p->slot] : NAN;
}

static int check_dim(const call *c, const char *name, double given, int ndim, int *dim) {
    int room = ndim > 0 ? ndim : 1; /* a tensor of no dimension accepts dimension 1, as PyTorch */
    if (!(given >= -room && given < room) || given != floor(given))
        return fail(VESTIGE_EVALUE, "%s: %s is out of range: expected %d to %d or 1 to %d, got %g",
                    opname(c), name, -room, -1, room, given < 0 ? given : given + 1);
    *dim = (int)(given < 0 ? given + room : given);
    return VESTIGE_OK;
}

int dim_option(call *c, const char *name, int ndim, int *dim) {
    int slot = slot_of(c, name);
    if (isnan(c->opt[slot]))
        return fail(VESTIGE_EVALUE, "%s: option %s is missing", opname(c), name);
    TRY(check_dim(c, name, c->opt[slot], ndim, dim));
    c->opt[slot] = *dim;
    return VESTIGE_OK;
}

int dims_option(call *c, const char *name, int ndim, unsigned *mask) {
    double *list = &c->opt[slot_of(c, name)];
    *mask = 0;
    if (list[0] < 0) {
        *mask = (1u << ndim) - 1;
        return VESTIGE_OK;
    }
    for (int i = 0; i < (int)list[0]; i++) {
        int d = 0;
        TRY(check_dim(c, name, list[1 + i], ndim, &d));
        if (*mask & 1u << d)
            return fail(VESTIGE_EVALUE, "%s: dimension %d stands twice in %s", opname(c), d + 1,
                        name);
        *mask |= 1u << d;
        list[1 + i] = d;
    }
    if (list[0] == 0)
        *mask = (1u << ndim) - 1;
    return VESTIGE_OK;
}

int list_option(const call *c, const char *name, const double **values) {
    const double *list = &c->opt[slot_of(c, name)];
    *values = list + 1;
    return (int)list[0];
}

void shape_set(call *c, int out, int dtype, int ndim, const int64_t *dim) {
    shape *s = &c->shape[out];
    s->dtype = dtype;
    s->ndim = ndim;
    if (ndim) /* else dim may be NULL */
        memcpy(s->dim, dim, (size_t)ndim * sizeof *dim);
}

void shape_like(call *c, int out, const tensor *t) {
    shape_set(c, out, t->dtype, t->ndim, t->dim);
}

int size_option(call *c, int out, int dtype) {
    const double *size;
    int n = list_option(c, "size", &size);
    if (n < 0)
        return fail(VESTIGE_EVALUE, "%s: expected a size", opname(c));
    int64_t dim[VESTIGE_MAXDIM];
    for (int i = 0; i < n; i++) {
        if (!(size[i] >= 0 && size[i] < 0x1p53) || size[i] != floor(size[i]))
            return fail(VESTIGE_ESHAPE,
                        "%s: dimension %d of size: expected a whole number from "
                        "0 on, got %g",
                        opname(c), i + 1, size[i]);
        dim[i] = (int64_t)size[i];
    }
    shape_set(c, out, dtype, n, dim);
    return VESTIGE_OK;
}

int shape_broadcast(call *c, int out) {
    shape *s = &c->shape[out];
    s->ndim = -1;
    for (int i = 0; i < c->nin; i++) {
        const tensor *t = c->in[i];
        if (!t)
            continue;
        if (s->ndim < 0) {
            s->dtype = t->dtype;
            s->ndim = t->ndim;
            for (int d = 0; d < t->ndim; d++)
                s->dim[d] = t->dim[d];
            continue;
        }
        while (s->ndim < t->ndim) {
            memmove(s->dim + 1, s->dim, (size_t)s->ndim * sizeof *s->dim);
            s->dim[0] = 1;
            s->ndim++;
        }
        for (int d = 1; d <= t->ndim; d++) {
            int64_t a = s->dim[s->ndim - d], b = t->dim[t->ndim - d];
            if (a != b && a != 1 && b != 1)
                return fail(VESTIGE_ESHAPE, "%s: shapes do not broadcast: %s and %s", opname(c),
                            shape_text(s->ndim, s->dim), describe(t));
            if (a == 1)
                s->dim[s->ndim - d] = b;
        }
    }
    return VESTIGE_OK;
}

int cast_input(call *c, int i, int dtype) {
    T t = c->in[i];
    if (!t || t->dtype == dtype)
        return VESTIGE_OK;
    double slots[1] = { dtype };
    call k;
    call_start(&k, OPID(to), &t, 1);
    k.opt = slots;
    TRY(dispatch(&k));
    c->in[i] = k.out[0];
    return temp_push(k.out[0]);
}

/* float beats int beats bool; among each the widest. bf16 with f32 gives f32. */
static int wider(int a, int b) {
    static const uint8_t rank[] = { 6, 7, 5, 4, 3, 2, 1 };
    if (rank[b] > rank[a]) {
        int s = a;
        a = b;
        b = s;
    }
    return a;
}

/* A number never widens a float, but makes a float of an integer tensor when it is not whole, and
 * an integer of a bool. */
static int with_numbers(const call *c, int first, int type) {
    for (int i = first; i < c->nin; i++)
        if (!c->in[i])
            type = !(fabs(c->num[i]) < 0x1p63) || c->num[i] != floor(c->num[i]) ? VESTIGE_F32
                   : type == VESTIGE_BOOL                                       ? VESTIGE_I64
                                                                                : type;
    return type;
}

/* 2: float, 1: integer, 0: bool. */
static int category(int type) {
    return is_float(type) ? 2 : type != VESTIGE_BOOL;
}

int promote_from(call *c, int first) {
    int type = -1;
    for (int i = first; i < c->nin; i++)
        if (c->in[i])
            type = type < 0 ? c->in[i]->dtype : wider(type, c->in[i]->dtype);
    if (UNLIKELY(type < 0))
        return fail(VESTIGE_ETYPE, "%s: expected at least one tensor", opname(c));
    if (c->num && !is_float(type))
        type = with_numbers(c, first, type);
    /* What is changed in place keeps its type where it can hold the result. */
    if (UNLIKELY(c->nout == 0) && category(type) <= category(c->in[0]->dtype))
        type = c->in[0]->dtype;
    c->type = type;
    for (int i = first; i < c->nin; i++)
        if (UNLIKELY(c->in[i] && c->in[i]->dtype != type))
            TRY(cast_input(c, i, type));
    return VESTIGE_OK;
}

int promote(call *c) {
    return promote_from(c, 0);
}

int promote_float(call *c) {
    if (!is_float(c->type))
        c->type = VESTIGE_F32;
    for (int i = 0; i < c->nin; i++)
        TRY(cast_input(c, i, c->type));
    return VESTIGE_OK;
}

int same_shapes(const call *c) {
    const tensor *a = c->in[0];
    for (int i = 1; i < c->nin; i++) {
        const tensor *b = c->in[i];
        if (b && (b->ndim != a->ndim || memcmp(a->dim, b->dim, sizeof *a->dim * a->ndim)))
            return fail(VESTIGE_ESHAPE, "%s: expected equal shapes, got %s and %s", opname(c),
                        describe(a), describe(b));
    }
    return VESTIGE_OK;
}

int count_of(int op, T t, int64_t *count) {
    call k = { .row = op_table[op].row, .op = op, .nin = 1, .in = &t };
    TRY(dispatch(&k));
    copy_out_at(k.out[0], 0, count, sizeof *count);
    tensor_unref(k.out[0]);
    return VESTIGE_OK;
}

double flops_none(const call *c) {
    (void)c;
    return 0;
}

int same_type(const call *c, int i) {
    if (c->in[i]->dtype == c->in[0]->dtype)
        return VESTIGE_OK;
    return fail(VESTIGE_ETYPE, "%s: %s is %s, expected the type of %s", opname(c),
                param_of(c, i)->name, describe(c->in[i]), describe(c->in[0]));
}

int need_float(const call *c, int i) {
    if (is_float(c->in[i]->dtype))
        return VESTIGE_OK;
    return fail(VESTIGE_ETYPE, "%s: %s: expected a float tensor, got %s; cast it with :to('f32')",
                opname(c), param_of(c, i)->name, describe(c->in[i]));
}
