/* grid.c: images sampled at places of a grid, by bilinear interpolation.
 *
 * Between pixels a sample is linear in the height and in the width of its place, so its derivative
 * along either is once more a weighted sum of the same four pixels, and the second along one is 0.
 * `order` says which derivative a row takes: with it the row and its adjoint, which spreads
 * gradients over the pixels, are closed under differentiation. */
#include "ops/grid.h"
#include "ops/rules.h"

#define OPTIONS "align_corners:bool=false order:int2=0"

grid_size grid_size_of(const call *c, const tensor *x, const tensor *y) {
    int order = slot_of(c, "order");
    return (grid_size){ .n = x->dim[0],
                        .h = x->dim[1],
                        .w = x->dim[2],
                        .c = x->dim[3],
                        .oh = y->dim[1],
                        .ow = y->dim[2],
                        .align = option(c, "align_corners") != 0,
                        .order = { (int)c->opt[order], (int)c->opt[order + 1] } };
}

/* Inputs 0, images or gradients of samples (n,..,..,c), and 1, the grid (n,oh,ow,2). */
static int check(call *c) {
    TRY(promote(c));
    const tensor *x = c->in[0], *grid = c->in[1];
    if (x->ndim != 4)
        return fail(VESTIGE_ESHAPE, "%s: %s: expected images (n,h,w,c), got %s", opname(c),
                    param_of(c, 0)->name, describe(x));
    if (grid->ndim != 4 || grid->dim[3] != 2 || grid->dim[0] != x->dim[0])
        return fail(VESTIGE_ESHAPE, "%s: grid: expected (%lld,h,w,2), got %s", opname(c),
                    (long long)x->dim[0], describe(grid));
    int order = slot_of(c, "order");
    for (int i = 0; i < 2; i++)
        if (c->opt[order + i] != 0 && c->opt[order + i] != 1)
            return fail(VESTIGE_EVALUE, "%s: order: expected 0 or 1, got %g", opname(c),
                        c->opt[order + i]);
    return VESTIGE_OK;
}

static int infer_sample(call *c) {
    TRY(check(c));
    const tensor *x = c->in[0], *grid = c->in[1];
    shape_set(c, 0, c->type, 4, (int64_t[]){ x->dim[0], grid->dim[1], grid->dim[2], x->dim[3] });
    return VESTIGE_OK;
}

static int infer_spread(call *c) {
    TRY(check(c));
    const tensor *gy = c->in[0], *grid = c->in[1];
    int size = slot_of(c, "size");
    double h = c->opt[size], w = c->opt[size + 1];
    if (gy->dim[1] != grid->dim[1] || gy->dim[2] != grid->dim[2])
        return fail(VESTIGE_ESHAPE, "%s: gy %s and grid %s differ in height or width", opname(c),
                    describe(gy), describe(grid));
    if (!(h >= 0 && w >= 0))
        return fail(VESTIGE_EVALUE, "%s: size: expected 0 or more, got %g and %g", opname(c), h, w);
    shape_set(c, 0, c->type, 4, (int64_t[]){ gy->dim[0], (int64_t)h, (int64_t)w, gy->dim[3] });
    return VESTIGE_OK;
}

/* ---- Gradients ---- */
enum { ALIGN, DOWN, ACROSS, SAMPLE_SLOTS, SIZE = SAMPLE_SLOTS };

/* The gradient of sum(gy * sample(x, grid)) with respect to the grid. */
static V slope(grad *g, V gy, V x) {
    V sum = NONE;
    for (int i = 0; i < 2; i++) { /* a place is (x, y): the width first */
        double raw[SAMPLE_SLOTS];
        memcpy(raw, slots(g), sizeof raw);
        int64_t channels = -1, pad[] = { i, 1 - i };
        int along = i == 0 ? ACROSS : DOWN;
        if (raw[along] == 1)
            continue;
        raw[along] = 1;
        V part = R(mul, gy, RRAW(grid_sample, raw, x, in(g, 1)));
        part = RO(sum, OPTS({ "dim", .list = &channels, .count = 1 }, { "keepdim", 1 }), part);
        part = RO(pad, OPTS({ "pad", .list = pad, .count = 2 }), part);
        sum = sum.t ? R(add, sum, part) : part;
    }
    return sum;
}

static void give_slope(grad *g, V gy, V x) {
    V s = need(g, 1) ? slope(g, gy, x) : NONE;
    if (s.t)
        give(g, 1, s);
}

static void grad_sample(grad *g) {
    if (need(g, 0)) {
        shape s = in_shape(g, 0);
        double raw[MAX_SLOTS];
        memcpy(raw, slots(g), SAMPLE_SLOTS * sizeof *raw);
        raw[SIZE] = (double)s.dim[1];
        raw[SIZE + 1] = (double)s.dim[2];
        give(g, 0, RRAW(grid_sample_input, raw, gout(g, 0), in(g, 1)));
    }
    give_slope(g, gout(g, 0), need(g, 1) ? in(g, 0) : NONE);
}

static void grad_spread(grad *g) {
    if (need(g, 0))
        give(g, 0, RRAW(grid_sample, slots(g), gout(g, 0), in(g, 1)));
    give_slope(g, need(g, 1) ? in(g, 0) : NONE, gout(g, 0));
}

static double flops_grid(const call *c) {
    return 8.0 * (double)c->in[1]->numel / 2 * (double)c->in[0]->dim[3];
}

#define SHARED .flops = flops_grid, .cast = CAST_F32, .domain = { -1.3, 1.3 }

const op_row ops_grid[] = {
    { .name = "grid_sample",
      .in = "x:float grid:float",
      .out = "y",
      .opts = OPTIONS,
      .infer = infer_sample,
      .grad = grad_sample,
      .keeps = KEEP_IN,
      SHARED,
      .doc = "Images x (n,h,w,c) at the places of grid (n,oh,ow,2), each (x, y) in -1 to 1, by "
             "bilinear interpolation; zeros lie outside. -1 and 1 are the centres of the outer "
             "pixels with align_corners, else their outer edges. order {y, x}: 1 takes the "
             "derivative along the height, the width of the place." },
    { .name = "grid_sample_input",
      .in = "gy:float grid:float",
      .out = "gx",
      .opts = OPTIONS " size:int2",
      .infer = infer_spread,
      .grad = grad_spread,
      .keeps = KEEP_IN,
      SHARED,
      .flags = ROW_HIDDEN,
      .doc = "gy (n,oh,ow,c) spread over images of height and width size: the adjoint of "
             "grid_sample." },
    { 0 },
};
