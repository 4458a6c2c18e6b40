/* conv.c: convolution, its input gradient, its weight gradient, and the input gradient as an
 * operator of its own, conv_transpose2d. The first three are each other's gradients: with y = x * w
 * written conv2d(x, w), and gy in y's place,
 *   conv2d(x, w)         x: conv2d_input(gy, w)    w: conv2d_weight(x, gy)
 *   conv2d_input(gy, w)  gy: conv2d(gx, w)         w: conv2d_weight(gx, gy)
 *   conv2d_weight(x, gy) x: conv2d_input(gy, gw)   gy: conv2d(x, gw)
 * so every order asks for exactly the products it needs. */
#include "ops/conv.h"
#include "ops/rules.h"

/* The slots that the three rows share, and the size that two of them add. */
enum { STRIDE, PADDING = 2, DILATION = 4, GROUPS = 6, SIZE = 7, NSLOTS = 9 };
#define SHARED "stride:int2=1 padding:int2=0 dilation:int2=1 groups:int=1"

conv_size conv_size_of(const call *c, const tensor *x, const tensor *w, const tensor *y) {
    const double *stride = c->opt + slot_of(c, "stride");
    const double *padding = c->opt + slot_of(c, "padding");
    const double *dilation = c->opt + slot_of(c, "dilation");
    conv_size s = { .sh = (int64_t)stride[0],
                    .sw = (int64_t)stride[1],
                    .ph = (int64_t)padding[0],
                    .pw = (int64_t)padding[1],
                    .dh = (int64_t)dilation[0],
                    .dw = (int64_t)dilation[1],
                    .groups = (int64_t)option(c, "groups") };
    if (x)
        s.n = x->dim[0], s.h = x->dim[1], s.w = x->dim[2], s.c = x->dim[3];
    if (w)
        s.o = w->dim[0], s.kh = w->dim[1], s.kw = w->dim[2];
    if (y)
        s.n = y->dim[0], s.oh = y->dim[1], s.ow = y->dim[2], s.o = y->dim[3];
    if (w && !x)
        s.c = w->dim[3] * s.groups;
    return s;
}

/* ---- Checks ---- */
static int expect_dims(const call *c, int i, const char *what) {
    if (c->in[i]->ndim == 4)
        return VESTIGE_OK;
    return fail(VESTIGE_ESHAPE, "%s: %s: expected %s, got %s", opname(c), param_of(c, i)->name,
                what, describe(c->in[i]));
}

static int check_options(const call *c, const conv_size *s) {
    if (s->sh < 1 || s->sw < 1)
        return fail(VESTIGE_EVALUE, "%s: stride: expected 1 or more", opname(c));
    if (s->ph < 0 || s->pw < 0)
        return fail(VESTIGE_EVALUE, "%s: padding: expected 0 or more", opname(c));
    if (s->dh < 1 || s->dw < 1)
        return fail(VESTIGE_EVALUE, "%s: dilation: expected 1 or more", opname(c));
    if (s->groups < 1)
        return fail(VESTIGE_EVALUE, "%s: groups: expected 1 or more", opname(c));
    return VESTIGE_OK;
}

/* oh and ow from the image, the kernel and the options. */
static int set_output(const call *c, conv_size *s) {
    int64_t reach_h = s->dh * (s->kh - 1) + 1, reach_w = s->dw * (s->kw - 1) + 1;
    if (s->kh < 1 || s->kw < 1 || s->h + 2 * s->ph < reach_h || s->w + 2 * s->pw < reach_w)
        return fail(VESTIGE_ESHAPE,
                    "%s: a kernel of %lld x %lld with this dilation does not fit an image of "
                    "%lld x %lld with this padding",
                    opname(c), (long long)s->kh, (long long)s->kw, (long long)s->h,
                    (long long)s->w);
    s->oh = (s->h + 2 * s->ph - reach_h) / s->sh + 1;
    s->ow = (s->w + 2 * s->pw - reach_w) / s->sw + 1;
    return VESTIGE_OK;
}

/* x's channels against w (o,kh,kw,c/groups). */
static int check_channels(const call *c, int x, const conv_size *s) {
    const tensor *w = c->in[1];
    if (w->dim[3] * s->groups != c->in[x]->dim[3])
        return fail(VESTIGE_ESHAPE,
                    "%s: w %s in %lld groups expects %lld channels, %s has %lld (images are "
                    "n,h,w,c, weights out,kh,kw,in)",
                    opname(c), describe(w), (long long)s->groups,
                    (long long)(w->dim[3] * s->groups), param_of(c, x)->name,
                    (long long)c->in[x]->dim[3]);
    return VESTIGE_OK;
}

static int check_groups(const call *c, const conv_size *s) {
    if (s->o % s->groups != 0 || s->c % s->groups != 0)
        return fail(VESTIGE_ESHAPE,
                    "%s: %lld groups do not divide %lld input and %lld output channels", opname(c),
                    (long long)s->groups, (long long)s->c, (long long)s->o);
    return VESTIGE_OK;
}

static int check_bias(const call *c, int64_t channels) {
    const tensor *bias = c->in[2];
    if (bias && (bias->ndim != 1 || bias->dim[0] != channels))
        return fail(VESTIGE_ESHAPE, "%s: bias: expected (%lld), got %s", opname(c),
                    (long long)channels, describe(bias));
    return VESTIGE_OK;
}

/* gy has o channels, and the height and width that the sizes give. */
static int check_gradient(const call *c, int gy, const conv_size *s) {
    const tensor *t = c->in[gy];
    if (t->dim[1] != s->oh || t->dim[2] != s->ow || t->dim[3] != s->o)
        return fail(VESTIGE_ESHAPE, "%s: %s: expected (n,%lld,%lld,%lld) for these sizes, got %s",
                    opname(c), param_of(c, gy)->name, (long long)s->oh, (long long)s->ow,
                    (long long)s->o, describe(t));
    return VESTIGE_OK;
}

/* ---- Shapes ---- */
static int infer_conv(call *c) {
    TRY(promote(c));
    TRY(expect_dims(c, 0, "images (n,h,w,c)"));
    TRY(expect_dims(c, 1, "weights (out,kh,kw,in)"));
    conv_size s = conv_size_of(c, c->in[0], c->in[1], NULL);
    TRY(check_options(c, &s));
    TRY(check_channels(c, 0, &s));
    TRY(check_groups(c, &s));
    TRY(check_bias(c, s.o));
    TRY(set_output(c, &s));
    shape_set(c, 0, c->type, 4, (int64_t[]){ s.n, s.oh, s.ow, s.o });
    return VESTIGE_OK;
}

static int infer_input(call *c) {
    TRY(promote(c));
    TRY(expect_dims(c, 0, "a gradient (n,h,w,out)"));
    TRY(expect_dims(c, 1, "weights (out,kh,kw,in)"));
    conv_size s = conv_size_of(c, NULL, c->in[1], NULL);
    s.h = (int64_t)c->opt[SIZE];
    s.w = (int64_t)c->opt[SIZE + 1];
    TRY(check_options(c, &s));
    TRY(check_groups(c, &s));
    TRY(set_output(c, &s));
    TRY(check_gradient(c, 0, &s));
    shape_set(c, 0, c->type, 4, (int64_t[]){ c->in[0]->dim[0], s.h, s.w, s.c });
    return VESTIGE_OK;
}

static int infer_weight(call *c) {
    TRY(promote(c));
    TRY(expect_dims(c, 0, "images (n,h,w,c)"));
    TRY(expect_dims(c, 1, "a gradient (n,h,w,out)"));
    conv_size s = conv_size_of(c, c->in[0], NULL, NULL);
    s.kh = (int64_t)c->opt[SIZE];
    s.kw = (int64_t)c->opt[SIZE + 1];
    s.o = c->in[1]->dim[3];
    TRY(check_options(c, &s));
    TRY(check_groups(c, &s));
    TRY(set_output(c, &s));
    TRY(check_gradient(c, 1, &s));
    if (c->in[1]->dim[0] != s.n)
        return fail(VESTIGE_ESHAPE, "%s: x %s and gy %s differ in their number of images",
                    opname(c), describe(c->in[0]), describe(c->in[1]));
    shape_set(c, 0, c->type, 4, (int64_t[]){ s.o, s.kh, s.kw, s.c / s.groups });
    return VESTIGE_OK;
}

static int infer_transpose(call *c) {
    TRY(promote(c));
    TRY(expect_dims(c, 0, "images (n,h,w,c)"));
    TRY(expect_dims(c, 1, "weights (in,kh,kw,out/groups)"));
    conv_size s = conv_size_of(c, NULL, c->in[1], c->in[0]);
    const double *more = c->opt + slot_of(c, "output_padding");
    TRY(check_options(c, &s));
    if (c->in[1]->dim[0] != s.o)
        return fail(VESTIGE_ESHAPE,
                    "%s: w %s expects %lld channels, x has %lld (images are "
                    "n,h,w,c, weights in,kh,kw,out/groups)",
                    opname(c), describe(c->in[1]), (long long)c->in[1]->dim[0], (long long)s.o);
    TRY(check_groups(c, &s));
    TRY(check_bias(c, s.c));
    if (more[0] < 0 || more[1] < 0 || more[0] >= s.sh || more[1] >= s.sw)
        return fail(VESTIGE_EVALUE, "%s: output_padding: expected less than the stride", opname(c));
    s.h = (s.oh - 1) * s.sh - 2 * s.ph + s.dh * (s.kh - 1) + (int64_t)more[0] + 1;
    s.w = (s.ow - 1) * s.sw - 2 * s.pw + s.dw * (s.kw - 1) + (int64_t)more[1] + 1;
    if (s.oh < 1 || s.ow < 1 || s.h < 1 || s.w < 1)
        return fail(VESTIGE_ESHAPE, "%s: the output of %s would have no pixels", opname(c),
                    describe(c->in[0]));
    shape_set(c, 0, c->type, 4, (int64_t[]){ s.n, s.h, s.w, s.c });
    return VESTIGE_OK;
}

/* The shape of what is added; promote() may have cast it. */
static int infer_added(call *c, int (*infer)(call *c)) {
    added_call k;
    added(c, &k);
    TRY(infer(&k.call));
    c->in[1] = k.in[0];
    c->in[2] = k.in[1];
    c->shape[0] = k.call.shape[0];
    c->type = k.call.type;
    return VESTIGE_OK;
}
static int infer_conv_added(call *c) {
    return infer_added(c, infer_conv);
}
static int infer_input_added(call *c) {
    return infer_added(c, infer_input);
}

/* All of them multiply each output pixel of the convolution with a kernel. */
static double flops(const conv_size *s) {
    return 2.0 * (double)(s->n * s->oh * s->ow) * (double)(s->o * s->kh * s->kw) *
           ((double)s->c / (double)s->groups);
}
static double flops_conv(const call *c) {
    conv_size s = conv_size_of(c, c->in[0], c->in[1], c->out[0]);
    return flops(&s);
}
static double flops_input(const call *c) {
    conv_size s = conv_size_of(c, c->out[0], c->in[1], c->in[0]);
    return flops(&s);
}
static double flops_conv_added(const call *c) {
    conv_size s = conv_size_of(c, c->in[1], c->in[2], c->in[0]);
    return flops(&s);
}
static double flops_input_added(const call *c) {
    conv_size s = conv_size_of(c, c->in[0], c->in[2], c->in[1]);
    return flops(&s);
}
static double flops_weight(const call *c) {
    conv_size s = conv_size_of(c, c->in[0], c->out[0], c->in[1]);
    return flops(&s);
}

/* ---- Gradients ---- */
typedef struct raw_slots {
    double at[NSLOTS];
} raw_slots;

/* The shared slots of g's call with another size. */
static raw_slots sized(const grad *g, shape s) {
    raw_slots r;
    memcpy(r.at, slots(g), SIZE * sizeof *r.at);
    r.at[SIZE] = (double)s.dim[1];
    r.at[SIZE + 1] = (double)s.dim[2];
    return r;
}

static void grad_conv(grad *g) {
    if (need(g, 1)) /* first: it takes the most scratch */
        give(g, 1, RRAW(conv2d_weight, sized(g, in_shape(g, 1)).at, in(g, 0), gout(g, 0)));
    if (need(g, 0))
        GIVE_SUM(g, 0, conv2d_input, sized(g, in_shape(g, 0)).at, gout(g, 0), in(g, 1));
    if (need(g, 2))
        give(g, 2, gout(g, 0)); /* the walk sums it */
}

static void grad_input(grad *g) {
    if (need(g, 0))
        GIVE_SUM(g, 0, conv2d, slots(g), gout(g, 0), in(g, 1));
    if (need(g, 1))
        give(g, 1, RRAW(conv2d_weight, sized(g, in_shape(g, 1)).at, gout(g, 0), in(g, 0)));
}

static void grad_weight(grad *g) {
    if (need(g, 0))
        GIVE_SUM(g, 0, conv2d_input, sized(g, in_shape(g, 0)).at, in(g, 1), gout(g, 0));
    if (need(g, 1))
        GIVE_SUM(g, 1, conv2d, slots(g), in(g, 0), gout(g, 0));
}

static void grad_transpose(grad *g) {
    const double *o = slots(g); /* stride, padding, output_padding, groups, dilation */
    shape w = in_shape(g, 1);
    double raw[NSLOTS] = {
        o[0], o[1], o[2], o[3], o[7], o[8], o[6], (double)w.dim[1], (double)w.dim[2]
    };
    if (need(g, 0))
        give(g, 0, RRAW(conv2d, raw, gout(g, 0), in(g, 1), NONE));
    if (need(g, 1))
        give(g, 1, RRAW(conv2d_weight, raw, gout(g, 0), in(g, 0)));
    if (need(g, 2))
        give(g, 2, gout(g, 0));
}

const op_row ops_conv[] = {
    { .name = "conv2d",
      .in = "x:float w:float bias:float?",
      .out = "y",
      .opts = SHARED,
      .infer = infer_conv,
      .grad = grad_conv,
      .flops = flops_conv,
      .keeps = KEEP_IN0 | KEEP_IN1,
      .flags = ROW_PRODUCT,
      .cast = CAST_LOW,
      .domain = { -1, 1 },
      .doc = "The convolution of images x (n,h,w,c) with w (out,kh,kw,c/groups), plus bias (out): "
             "(n,oh,ow,out)." },
    { .name = "conv2d_input",
      .in = "gy:float w:float",
      .out = "gx",
      .opts = SHARED " size:int2",
      .infer = infer_input,
      .grad = grad_input,
      .flops = flops_input,
      .keeps = KEEP_IN,
      .flags = ROW_PRODUCT,
      .cast = CAST_LOW,
      .domain = { -1, 1 },
      .doc = "The gradient of conv2d for its images, whose height and width is size; gy "
             "(n,oh,ow,out), w (out,kh,kw,c/groups)." },
    { .name = "conv2d_weight",
      .in = "x:float gy:float",
      .out = "gw",
      .opts = SHARED " size:int2",
      .infer = infer_weight,
      .grad = grad_weight,
      .flops = flops_weight,
      .keeps = KEEP_IN,
      .flags = ROW_PRODUCT,
      .cast = CAST_LOW,
      .domain = { -1, 1 },
      .doc = "The gradient of conv2d for its weights, whose height and width is size; x (n,h,w,c), "
             "gy (n,oh,ow,out)." },
    { .name = "conv2d_add_",
      .in = "y:float! x:float w:float",
      .opts = SHARED,
      .infer = infer_conv_added,
      .flops = flops_conv_added,
      .flags = ROW_HIDDEN | ROW_ADDS,
      .domain = { -1, 1 },
      .doc = "Adds conv2d(x, w) to y, in the pass that makes it." },
    { .name = "conv2d_input_add_",
      .in = "y:float! gy:float w:float",
      .opts = SHARED " size:int2",
      .infer = infer_input_added,
      .flops = flops_input_added,
      .flags = ROW_HIDDEN | ROW_ADDS,
      .domain = { -1, 1 },
      .doc = "Adds conv2d_input(gy, w) to y, in the pass that makes it." },
    { .name = "conv_transpose2d",
      .in = "x:float w:float bias:float?",
      .out = "y",
      .opts = "stride:int2=1 padding:int2=0 output_padding:int2=0 groups:int=1 dilation:int2=1",
      .infer = infer_transpose,
      .grad = grad_transpose,
      .flops = flops_input,
      .keeps = KEEP_IN0 | KEEP_IN1,
      .flags = ROW_PRODUCT,
      .cast = CAST_LOW,
      .domain = { -1, 1 },
      .doc =
          "The transposed convolution of images x (n,h,w,in) with w (in,kh,kw,out/groups), plus "
          "bias (out): what conv2d's input gradient does to x. w lies as in conv2d, whose output "
          "channels are the input's here. output_padding is less than the stride." },
    { 0 }
};
