/* create.c: tensors from nothing. */
#include "ops/rules.h"

static int size_and_type(call *c) {
    c->type = (int)option(c, "dtype");
    return size_option(c, 0, c->type);
}

static int infer_like(call *c) {
    c->type = c->in[0]->dtype;
    shape_like(c, 0, c->in[0]);
    return VESTIGE_OK;
}

/* Without a type: whole numbers make i64, others f32, as in PyTorch. */
static int infer_arange(call *c) {
    double start = option(c, "start"), end = option(c, "end"), step = option(c, "step");
    if (step == 0 || !isfinite(step) || (end - start) / step < 0)
        return fail(VESTIGE_EVALUE, "arange: from %g a step of %g does not lead to %g", start, step,
                    end);
    double n = ceil((end - start) / step);
    if (!(n < 0x1p53))
        return fail(VESTIGE_EVALUE, "arange: %g elements are too many", n);
    bool all_whole = start == floor(start) && end == floor(end) && step == floor(step);
    c->type = (int)option(c, "dtype");
    if (c->type < 0)
        c->type = all_whole ? VESTIGE_I64 : VESTIGE_F32;
    shape_set(c, 0, c->type, 1, (int64_t[]){ (int64_t)n });
    return VESTIGE_OK;
}

static int check_count(const call *c, const char *name, double n) {
    if (n >= 0 && n < 0x1p53 && n == floor(n))
        return VESTIGE_OK;
    return fail(VESTIGE_EVALUE, "%s: %s: expected a whole number from 0 on, got %g", opname(c),
                name, n);
}

static int infer_linspace(call *c) {
    double n = option(c, "steps");
    TRY(check_count(c, "steps", n));
    c->type = (int)option(c, "dtype");
    shape_set(c, 0, c->type, 1, (int64_t[]){ (int64_t)n });
    return VESTIGE_OK;
}

static int infer_eye(call *c) {
    double n = option(c, "n"), m = option(c, "m");
    if (isnan(m))
        m = n;
    TRY(check_count(c, "n", n));
    TRY(check_count(c, "m", m));
    c->type = (int)option(c, "dtype");
    shape_set(c, 0, c->type, 2, (int64_t[]){ (int64_t)n, (int64_t)m });
    return VESTIGE_OK;
}

const op_row ops_create[] = {
    { .name = "full",
      .out = "y",
      .opts = "size:size value:float dtype:dtype=0",
      .infer = size_and_type,
      .doc = "A tensor of the given size filled with value." },
    { .name = "zeros",
      .out = "y",
      .opts = "size:size dtype:dtype=0",
      .infer = size_and_type,
      .doc = "A tensor of zeros." },
    { .name = "ones",
      .out = "y",
      .opts = "size:size dtype:dtype=0",
      .infer = size_and_type,
      .doc = "A tensor of ones." },
    { .name = "zeros_like",
      .in = "x",
      .out = "y",
      .infer = infer_like,
      .doc = "Zeros of x's shape and type." },
    { .name = "ones_like",
      .in = "x",
      .out = "y",
      .infer = infer_like,
      .doc = "Ones of x's shape and type." },
    { .name = "full_like",
      .in = "x",
      .out = "y",
      .opts = "value:float",
      .infer = infer_like,
      .doc = "A tensor of x's shape and type filled with value." },
    { .name = "arange",
      .out = "y",
      .opts = "start:float end:float step:float=1 dtype:dtype?",
      .infer = infer_arange,
      .doc = "start, start + step, ... below end: i64 of whole numbers, else f32." },
    { .name = "linspace",
      .out = "y",
      .opts = "start:float end:float steps:int dtype:dtype=0",
      .infer = infer_linspace,
      .doc = "steps numbers, evenly spaced from start to end." },
    { .name = "eye",
      .out = "y",
      .opts = "n:int m:int? dtype:dtype=0",
      .infer = infer_eye,
      .doc = "n rows and m columns (default n) with ones on the diagonal, else zeros." },
    { 0 }
};
