/* dispatch.c: from a call to its kernel: checks, shapes, outputs, random state, tape, profile. */
#include <stdio.h>
#include <time.h>
#include "ops/row.h"
#include "autograd/autograd.h"
#include "ops/autocast.h"
#include "ops/profile.h"

/* ---- Checks ---- */
static bool type_fits(const char *type, int dtype) {
    switch (type[0]) {
    case 't':
        return true;
    case 'f':
        return type[1] == 'l' ? is_float(dtype) : strcmp(type, vestige_dtype_name(dtype)) == 0;
    case 'b':
        return dtype == VESTIGE_BOOL;
    case 'i':
        return type[1] == 'n' ? dtype == VESTIGE_I64 || dtype == VESTIGE_I32 : /* int */
                   strcmp(type, vestige_dtype_name(dtype)) == 0;
    default:
        return strcmp(type, vestige_dtype_name(dtype)) == 0;
    }
}

static int check_input(const call *c, int i) {
    const vestige_param *p = param_of(c, i);
    const tensor *t = c->in[i];
    if (!t) {
        if (p->flags & VESTIGE_OPTIONAL || (p->flags & VESTIGE_NUMBER && c->num))
            return VESTIGE_OK;
        return fail(VESTIGE_EHANDLE, "%s: %s: expected a tensor, got nil", opname(c), p->name);
    }
    if (UNLIKELY(!type_fits(p->type, t->dtype)))
        return fail(VESTIGE_ETYPE, "%s: %s: expected %s %s tensor, got %s%s", opname(c), p->name,
                    p->type[0] == 'i' ? "an" : "a", p->type, describe(t),
                    strcmp(p->type, "float") == 0 ? "; cast it with :to('f32')" : "");
    if (UNLIKELY(device_of(t) != c->device))
        return fail(VESTIGE_EDEVICE, "%s: inputs are on %s and %s; move one with :to(device)",
                    opname(c), vestige_device_name(c->device), vestige_device_name(device_of(t)));
    if (p->flags & VESTIGE_INPLACE) {
        if (t->node && grad_mode)
            return fail(VESTIGE_EGRAD,
                        "%s: %s requires grad and cannot be changed in place; use "
                        "vestige.no_grad, or the operator without the underscore",
                        opname(c), p->name);
        if (t->flags & FRESH_COPY)
            return fail(VESTIGE_EGRAD,
                        "%s: %s is a copy made by permute, expand, narrow or select, so the "
                        "change would be lost; use slice_scatter, or call :clone() first",
                        opname(c), p->name);
    } else if (UNLIKELY(t->node && grad_mode && op_table[c->op].public.nout == 0)) {
        return fail(VESTIGE_EGRAD,
                    "%s: %s requires grad, and what changes a tensor in place is not recorded; use "
                    "vestige.no_grad, or the operator without the underscore",
                    opname(c), p->name);
    }
    return VESTIGE_OK;
}

static int check_inputs(call *c) {
    bool found = false;
    for (int i = 0; i < c->nin && !found; i++)
        if (c->in[i]) {
            c->device = device_of(c->in[i]);
            found = true;
        }
    for (int i = 0; i < c->nin; i++)
        TRY(check_input(c, i));
    return VESTIGE_OK;
}

static int no_kernel(const call *c) {
    char have[128] = "none";
    int n = 0;
    for (int t = 0; t < VESTIGE_NTYPES; t++)
        if (op_table[c->op].kernel[c->device][t])
            n += snprintf(have + n, sizeof have - (size_t)n, "%s%s", n ? ", " : "",
                          vestige_dtype_name(t));
    return fail(VESTIGE_EKERNEL, "%s: no kernel for %s on %s (there are: %s)", opname(c),
                vestige_dtype_name(c->type), vestige_device_name(c->device), have);
}

/* ---- Outputs ---- */
static int make_outputs(call *c) {
    for (int k = 0; k < c->nout; k++) {
        const shape *s = &c->shape[k];
        int status = tensor_new(&c->out[k], s->dtype, c->device, s->ndim, s->dim);
        if (UNLIKELY(status < 0)) {
            while (k-- > 0)
                tensor_unref(c->out[k]);
            return status;
        }
    }
    return VESTIGE_OK;
}

static void drop_outputs(call *c) {
    for (int k = 0; k < c->nout; k++)
        tensor_unref(c->out[k]);
}

static int run_kernel(call *c) {
    kernel run = op_table[c->op].kernel[c->device][c->type];
    if (UNLIKELY(!run))
        return no_kernel(c);
    if (UNLIKELY(interrupt_flag))
        return fail(VESTIGE_EINTERRUPTED, "interrupted");
    double start = profiling ? profile_clock() : 0;
    int status;
    if (UNLIKELY(c->device == VESTIGE_REF)) {
        ref_open();
        status = run(c);
        ref_close();
    } else {
        status = run(c);
        if (UNLIKELY(status == DECLINED))
            status = op_table[c->op].kernel[VESTIGE_REF][c->type](c);
    }
    if (UNLIKELY(profiling))
        profile_add(c, profile_clock() - start);
    return status;
}

static bool wants_node(const call *c) {
    if (!grad_mode || !c->row->grad)
        return false;
    for (int i = 0; i < c->nin; i++)
        if (c->in[i] && c->in[i]->node)
            return true;
    return false;
}

static void count_changes(const call *c) {
    for (int i = 0; i < c->nin; i++)
        if (c->in[i] && param_of(c, i)->flags & VESTIGE_INPLACE)
            storage_changed(c->in[i]->store);
}

/* A random row draws from the current stream, which then moves past its draws. */
static void draw_from_stream(call *c) {
    c->key = current_stream.key;
    c->offset = current_stream.offset;
}

static void advance_stream(const call *c) { /* two words an element are enough for all */
    current_stream.offset += (uint64_t)(c->out[0]->numel + 1) / 2 + 1;
}

/* An input that shares storage with the one that is written over is read before. */
static int part_from_target(call *c) {
    for (int i = 1; i < c->nin; i++) {
        if (!c->in[i] || c->in[i]->store != c->in[0]->store ||
            param_of(c, i)->flags & VESTIGE_INPLACE)
            continue;
        call k = { .op = OPID(clone), .nin = 1, .in = &c->in[i] };
        k.row = op_table[k.op].row;
        TRY(dispatch(&k));
        c->in[i] = k.out[0];
        TRY(temp_push(k.out[0]));
    }
    return VESTIGE_OK;
}

/* An in-place row without outputs of its own: the kernel writes over its first input. */
static int run_inplace(call *c) {
    if (c->nin == 0)
        return fail(VESTIGE_EVALUE, "%s: expected at least one tensor", opname(c));
    const T t = c->in[0]; /* infer may put a cast in its place */
    TRY(part_from_target(c));
    if (c->row->infer) {
        TRY(c->row->infer(c));
        if (c->shape[0].ndim >= 0) { /* the twin's infer: its output must be input 0 */
            const shape *s = &c->shape[0];
            if (s->ndim != t->ndim || memcmp(s->dim, t->dim, sizeof *s->dim * t->ndim) ||
                s->dtype != t->dtype)
                return fail(VESTIGE_ESHAPE, "%s: the result would be %s %s, which %s cannot hold",
                            opname(c), vestige_dtype_name(s->dtype), shape_text(s->ndim, s->dim),
                            describe(t));
        }
    }
    c->out[0] = t;
    if (c->row->flags & ROW_RANDOM)
        draw_from_stream(c);
    count_changes(c); /* also when the kernel is interrupted half way */
    if (c->in[0] != t)
        storage_changed(t->store);
    TRY(run_kernel(c));
    if (c->row->flags & ROW_RANDOM)
        advance_stream(c);
    return VESTIGE_OK;
}

static int check_required(const call *c, uint64_t required) {
    for (; required; required &= required - 1) {
        int slot = __builtin_ctzll(required);
        if (!isnan(c->opt[slot]))
            continue;
        const vestige_op *o = &op_table[c->op].public;
        for (int i = 0; i < o->nopt; i++)
            if (o->options[i].slot == slot)
                return fail(VESTIGE_EVALUE, "%s: option %s is missing", opname(c),
                            o->options[i].name);
    }
    return VESTIGE_OK;
}

int dispatch(call *c) {
    const op_info *info = &op_table[c->op];
    double slots[MAX_SLOTS];
    TRY(check_inputs(c));
    if (UNLIKELY(autocast_type >= 0) && c->row->cast != CAST_NONE)
        TRY(autocast_inputs(c));
    if (info->public.nslot) {
        memcpy(slots, c->opt ? c->opt : info->preset, (size_t)info->public.nslot * sizeof *slots);
        c->opt = slots;
        if (info->required)
            TRY(check_required(c, info->required));
    }
    c->nout = info->public.nout;
    c->view = false;
    if (UNLIKELY(c->nout == 0)) {
        c->shape[0].ndim = -1;
        return run_inplace(c);
    }
    TRY(c->row->infer(c));
    if (c->view) {
        const shape *s = &c->shape[0];
        TRY(tensor_view(&c->out[0], c->in[0], c->view_offset, s->ndim, s->dim));
    } else {
        if (UNLIKELY(c->row->flags & ROW_RANDOM))
            draw_from_stream(c);
        TRY(make_outputs(c));
        if (UNLIKELY(info->changes))
            count_changes(c);
        int status = run_kernel(c);
        if (UNLIKELY(status < 0)) {
            drop_outputs(c);
            return status;
        }
        if (UNLIKELY(c->row->flags & ROW_COPIES_VIEW))
            c->out[0]->flags = FRESH_COPY;
    }
    if (wants_node(c)) {
        int status = record(c);
        if (UNLIKELY(status < 0)) {
            drop_outputs(c);
            return status;
        }
    }
    if (UNLIKELY(c->row->flags & ROW_RANDOM && !c->view))
        advance_stream(c); /* last: a call that fails and is made again draws the same */
    return VESTIGE_OK;
}

/* ---- Entry points ---- */
static int finish_call(call *c, size_t mark, int status, vestige_tensor *const *out) {
    if (UNLIKELY(status < 0)) {
        temp_drop(mark);
        return status;
    }
    temp_drop(mark);
    for (int k = 0; k < c->nout; k++) {
        int s = handle_out(out[k], c->out[k]);
        if (UNLIKELY(s < 0)) {
            for (int j = k + 1; j < c->nout; j++)
                tensor_unref(c->out[j]);
            while (k-- > 0)
                vestige_release(out[k]);
            return s;
        }
        if (s > status)
            status = s;
    }
    return status;
}

ALWAYS_INLINE int run_small(int op, vestige_tensor *out, T *in, double *num, int nin) {
    size_t mark = temp_mark();
    call c;
    call_start(&c, op, in, nin);
    c.num = num;
    int status = dispatch(&c);
    return finish_call(&c, mark, status, &out);
}

int vestige_run1(int op, vestige_tensor *out, const vestige_tensor *a) {
    clear_error();
    T in[1] = { handle_in(a, op_table[op].row->name) };
    if (UNLIKELY(!in[0]))
        return error_pending();
    return run_small(op, out, in, NULL, 1);
}

int vestige_run2(int op, vestige_tensor *out, const vestige_tensor *a, const vestige_tensor *b) {
    clear_error();
    const char *name = op_table[op].row->name;
    T in[2] = { handle_in(a, name), handle_in(b, name) };
    if (UNLIKELY(!in[0] || !in[1]))
        return error_pending();
    return run_small(op, out, in, NULL, 2);
}

int vestige_run2n(int op, vestige_tensor *out, const vestige_tensor *a, double b) {
    clear_error();
    T in[2] = { handle_in(a, op_table[op].row->name), NULL };
    double num[2] = { 0, b };
    if (UNLIKELY(!in[0]))
        return error_pending();
    return run_small(op, out, in, num, 2);
}

int vestige_runn2(int op, vestige_tensor *out, double a, const vestige_tensor *b) {
    clear_error();
    T in[2] = { NULL, handle_in(b, op_table[op].row->name) };
    double num[2] = { a, 0 };
    if (UNLIKELY(!in[1]))
        return error_pending();
    return run_small(op, out, in, num, 2);
}

/* Lua has looked at the options already; whoever calls from C is told here. */
static int check_slots(const op_info *info, const double *slot) {
    for (int i = 0; slot && i < info->public.nopt; i++) {
        const vestige_param *p = &info->public.options[i];
        const double *v = slot + p->slot;
        int width = p->width;
        if (p->kind == VESTIGE_FLOAT || isnan(*v))
            continue; /* a number that is missing is found later */
        if (width == 9) {
            if (*v < -1 || *v > VESTIGE_MAXLIST || *v != floor(*v))
                return fail(VESTIGE_EVALUE, "%s: option %s: expected at most 8 numbers",
                            info->row->name, p->name);
            width = *v > 0 ? 1 + (int)*v : 1;
        }
        for (int k = 0; k < width; k++)
            if (!(fabs(v[k]) <= 0x1p53) || v[k] != floor(v[k]))
                return fail(VESTIGE_EVALUE, "%s: option %s: expected a whole number, got %g",
                            info->row->name, p->name, v[k]);
    }
    return VESTIGE_OK;
}

int vestige_run(vestige_call *v) {
    clear_error();
    const op_info *info = &op_table[v->op];
    TRY(check_slots(info, v->opt));
    size_t mark = temp_mark();
    T few[16];
    T *in = few;
    double *nums = NULL;
    if (v->nin > COUNT(few)) {
        in = block_alloc((size_t)v->nin * sizeof *in);
        if (!in)
            return error_pending();
    }
    double some[16];
    if (v->num && v->nin <= COUNT(some)) {
        memcpy(some, v->num, (size_t)v->nin * sizeof *some);
        nums = some;
    }
    int status = VESTIGE_OK;
    for (int i = 0; i < v->nin && status >= 0; i++) {
        in[i] = v->in[i] ? handle_in(v->in[i], info->row->name) : NULL;
        if (v->in[i] && !in[i])
            status = error_pending();
    }
    call c;
    call_start(&c, v->op, in, v->nin);
    c.num = nums;
    c.len = v->len;
    c.opt = (double *)v->opt;
    c.device = v->device;
    if (status >= 0)
        status = dispatch(&c);
    status = finish_call(&c, mark, status, v->out);
    if (in != few)
        block_free(in, (size_t)v->nin * sizeof *in);
    return status;
}
