/* embedding.c: rows of a table, by their 0-based places. Taking rows and adding them up (index_sum)
 * are each other's gradients, so any order works. */
#include "ops/rules.h"

static int infer_embedding(call *c) {
    TRY(cast_input(c, 0, VESTIGE_I64));
    const tensor *input = c->in[0], *weight = c->in[1];
    if (weight->ndim != 2)
        return fail(VESTIGE_ESHAPE, "embedding: weight: expected (rows,width), got %s",
                    describe(weight));
    if (input->ndim == VESTIGE_MAXDIM)
        return fail(VESTIGE_ESHAPE, "embedding: input: %s has no room for another dimension",
                    describe(input));
    c->type = weight->dtype;
    shape_set(c, 0, weight->dtype, input->ndim, input->dim);
    c->shape[0].dim[c->shape[0].ndim++] = weight->dim[1];
    return VESTIGE_OK;
}

static V reshaped(V x, int ndim, const int64_t *dim) {
    return RO(reshape, OPTS({ "size", .list = dim, .count = ndim }), x);
}

static void grad_embedding(grad *g) {
    shape ids = in_shape(g, 0), table = in_shape(g, 1);
    int64_t rows[2] = { product(ids.ndim, ids.dim), table.dim[1] };
    give(g, 1,
         RO(index_sum, OPTS({ "size", .list = table.dim, .count = 2 }, { "dim", 0 }),
            reshaped(in(g, 0), 1, rows), reshaped(gout(g, 0), 2, rows)));
}

const op_row ops_embedding[] = {
    { .name = "embedding",
      .in = "input:int weight:float",
      .out = "y",
      .infer = infer_embedding,
      .grad = grad_embedding,
      .flops = flops_none,
      .keeps = KEEP_IN0,
      .domain = { -2, 2 },
      .doc = "The rows of weight (rows,width) whose places (0-based) input lists: of shape (.., "
             "width)." },
    { 0 }
};
