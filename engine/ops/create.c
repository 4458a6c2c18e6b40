/* create.c: tensors from nothing: constants and random draws. */
#include "ops/rules.h"

static int size_and_type(call *c) {
    const double *size;
    int n = list_option(c, "size", &size);
    if (n < 0)
        return fail(VESTIGE_EVALUE, "%s: expected a size", opname(c));
    int64_t dim[VESTIGE_MAXDIM];
    for (int i = 0; i < n; i++) {
        if (!(size[i] >= 0 && size[i] < 0x1p53) || size[i] != floor(size[i]))
            return fail(VESTIGE_ESHAPE, "%s: dimension %d of size: expected a whole number from "
                                        "0 on, got %g",
                        opname(c), i + 1, size[i]);
        dim[i] = (int64_t)size[i];
    }
    c->type = (int)option(c, "dtype");
    shape_set(c, 0, c->type, n, dim);
    return VESTIGE_OK;
}

static int infer_like(call *c) {
    c->type = c->in[0]->dtype;
    shape_like(c, 0, c->in[0]);
    return VESTIGE_OK;
}

static int infer_random(call *c) {
    TRY(size_and_type(c));
    if (!is_float(c->type))
        return fail(VESTIGE_ETYPE, "%s: expected a float type, got %s", opname(c),
                    vestige_dtype_name(c->type));
    return VESTIGE_OK;
}

const op_row ops_create[] = {
    { .name = "full", .out = "y", .opts = "size:size value:float dtype:dtype=0",
      .infer = size_and_type, .doc = "A tensor of the given size filled with value." },
    { .name = "zeros", .out = "y", .opts = "size:size dtype:dtype=0", .infer = size_and_type,
      .doc = "A tensor of zeros." },
    { .name = "ones", .out = "y", .opts = "size:size dtype:dtype=0", .infer = size_and_type,
      .doc = "A tensor of ones." },
    { .name = "zeros_like", .in = "x", .out = "y", .infer = infer_like,
      .doc = "Zeros of x's shape and type." },
    { .name = "ones_like", .in = "x", .out = "y", .infer = infer_like,
      .doc = "Ones of x's shape and type." },
    { .name = "randn", .out = "y", .opts = "size:size dtype:dtype=0", .infer = infer_random,
      .flags = ROW_RANDOM, .doc = "Independent draws from N(0,1)." },
    { .name = "rand", .out = "y", .opts = "size:size dtype:dtype=0", .infer = infer_random,
      .flags = ROW_RANDOM, .doc = "Independent uniform draws from [0,1)." },
    { 0 }
};
