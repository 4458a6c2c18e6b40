/* pool.c: max and average pooling of images (n,h,w,c).
 *
 * The maximum of a window is the element at its argmax, and almost everywhere the argmax stands
 * still, so two linear rows carry every order: max_pool2d_backward puts each gradient at its
 * window's argmax, max_pool2d_gather takes what lies there, and each is the other's gradient. They
 * find the argmax again in x: nothing is saved beside it. Averages are linear: the row and its
 * adjoint. */
#include "ops/pool.h"
#include "ops/rules.h"

#define MAX_OPTIONS                                                                                \
    "kernel_size:int2 stride:int2? padding:int2=0 dilation:int2=1 ceil_mode:bool=false"
#define AVG_OPTIONS                                                                                \
    "kernel_size:int2 stride:int2? padding:int2=0 ceil_mode:bool=false "                           \
    "count_include_pad:bool=true divisor_override:float?"

static void read2(const call *c, const char *name, double otherwise, int64_t *a, int64_t *b) {
    int slot = slot_of(c, name);
    bool given = slot >= 0 && !isnan(c->opt[slot]);
    *a = (int64_t)(given ? c->opt[slot] : otherwise);
    *b = (int64_t)(given ? c->opt[slot + 1] : otherwise);
}

pool_size pool_size_of(const call *c, const tensor *x, const tensor *y) {
    pool_size s = { .divisor = NAN };
    if (x)
        s.n = x->dim[0], s.h = x->dim[1], s.w = x->dim[2], s.c = x->dim[3];
    if (y)
        s.n = y->dim[0], s.oh = y->dim[1], s.ow = y->dim[2], s.c = y->dim[3];
    s.adaptive = slot_of(c, "kernel_size") < 0;
    s.dh = s.dw = 1;
    if (s.adaptive)
        return s;
    read2(c, "kernel_size", 0, &s.kh, &s.kw);
    s.sh = s.kh;
    s.sw = s.kw;
    if (!isnan(c->opt[slot_of(c, "stride")]))
        read2(c, "stride", 0, &s.sh, &s.sw);
    read2(c, "padding", 0, &s.ph, &s.pw);
    read2(c, "dilation", 1, &s.dh, &s.dw);
    s.divisor = option(c, "divisor_override");
    s.count_padding = option(c, "count_include_pad") == 1;
    return s;
}

/* ---- Checks ---- */
static int expect_images(const call *c, int i) {
    if (c->in[i]->ndim == 4)
        return VESTIGE_OK;
    return fail(VESTIGE_ESHAPE, "%s: %s: expected images (n,h,w,c), got %s", opname(c),
                param_of(c, i)->name, describe(c->in[i]));
}

static int64_t windows(int64_t size, int64_t k, int64_t s, int64_t p, int64_t d, bool ceil_mode) {
    int64_t room = size + 2 * p - d * (k - 1) - 1;
    if (room < 0)
        return 0;
    int64_t n = (room + (ceil_mode ? s - 1 : 0)) / s + 1;
    return ceil_mode && (n - 1) * s >= size + p ? n - 1 : n; /* none that starts in the padding */
}

/* With a dilation a window can step over a small image. */
static bool some_window_is_empty(const pool_size *s) {
    for (int64_t oy = 0; s->dh > 1 && oy < s->oh; oy++)
        if (window_down(s, oy).from >= window_down(s, oy).to)
            return true;
    for (int64_t ox = 0; s->dw > 1 && ox < s->ow; ox++)
        if (window_across(s, ox).from >= window_across(s, ox).to)
            return true;
    return false;
}

/* Checks the options and sets oh and ow. */
static int set_windows(const call *c, pool_size *s) {
    if (s->kh < 1 || s->kw < 1 || s->sh < 1 || s->sw < 1 || s->dh < 1 || s->dw < 1)
        return fail(VESTIGE_EVALUE, "%s: kernel_size, stride, dilation: expected 1 or more",
                    opname(c));
    if (s->ph < 0 || s->pw < 0 || s->ph > s->kh / 2 || s->pw > s->kw / 2)
        return fail(VESTIGE_EVALUE, "%s: padding: expected 0 to half the kernel size", opname(c));
    if (s->divisor == 0)
        return fail(VESTIGE_EVALUE, "%s: divisor_override: expected a number other than 0",
                    opname(c));
    bool up = option(c, "ceil_mode") != 0;
    s->oh = windows(s->h, s->kh, s->sh, s->ph, s->dh, up);
    s->ow = windows(s->w, s->kw, s->sw, s->pw, s->dw, up);
    if (s->oh < 1 || s->ow < 1 || some_window_is_empty(s))
        return fail(VESTIGE_ESHAPE,
                    "%s: a window of %lld x %lld does not fit images of %lld x %lld", opname(c),
                    (long long)s->kh, (long long)s->kw, (long long)s->h, (long long)s->w);
    return VESTIGE_OK;
}

static int set_adaptive(const call *c, pool_size *s) {
    read2(c, "output_size", 0, &s->oh, &s->ow);
    if (s->oh < 1 || s->ow < 1)
        return fail(VESTIGE_EVALUE, "%s: output_size: expected 1 or more", opname(c));
    if (s->h < 1 || s->w < 1)
        return fail(VESTIGE_ESHAPE, "%s: images without pixels", opname(c));
    return VESTIGE_OK;
}

static int check_gradient(const call *c, int gy, const pool_size *s) {
    const tensor *t = c->in[gy];
    if (t->dim[1] == s->oh && t->dim[2] == s->ow && (!s->c || t->dim[3] == s->c))
        return VESTIGE_OK;
    return fail(VESTIGE_ESHAPE, "%s: gy: expected (n,%lld,%lld,c) for these sizes, got %s",
                opname(c), (long long)s->oh, (long long)s->ow, describe(t));
}

/* ---- Shapes ---- */
static int infer_pool(call *c) {
    TRY(expect_images(c, 0));
    pool_size s = pool_size_of(c, c->in[0], NULL);
    TRY(s.adaptive ? set_adaptive(c, &s) : set_windows(c, &s));
    c->type = c->in[0]->dtype;
    shape_set(c, 0, c->type, 4, (int64_t[]){ s.n, s.oh, s.ow, s.c });
    return VESTIGE_OK;
}

/* gy and x, or v and x, both rows of max pooling's gradients */
static int infer_max_backward(call *c) {
    TRY(promote(c));
    TRY(expect_images(c, 0));
    TRY(expect_images(c, 1));
    pool_size s = pool_size_of(c, c->in[1], NULL);
    TRY(set_windows(c, &s));
    TRY(check_gradient(c, 0, &s));
    shape_like(c, 0, c->in[1]);
    return VESTIGE_OK;
}

static int infer_max_gather(call *c) {
    TRY(promote(c));
    TRY(expect_images(c, 1));
    const tensor *v = c->in[0], *x = c->in[1];
    if (v->ndim != x->ndim || memcmp(v->dim, x->dim, sizeof *v->dim * x->ndim))
        return fail(VESTIGE_ESHAPE, "%s: v %s and x %s differ in shape", opname(c), describe(v),
                    describe(x));
    pool_size s = pool_size_of(c, x, NULL);
    TRY(set_windows(c, &s));
    shape_set(c, 0, c->type, 4, (int64_t[]){ s.n, s.oh, s.ow, s.c });
    return VESTIGE_OK;
}

static int infer_avg_backward(call *c) {
    TRY(expect_images(c, 0));
    pool_size s = pool_size_of(c, NULL, c->in[0]);
    read2(c, "size", 0, &s.h, &s.w);
    TRY(s.adaptive ? set_adaptive(c, &s) : set_windows(c, &s));
    TRY(check_gradient(c, 0, &s));
    c->type = c->in[0]->dtype;
    shape_set(c, 0, c->type, 4, (int64_t[]){ s.n, s.h, s.w, s.c });
    return VESTIGE_OK;
}

/* ---- Gradients ---- */
static void grad_max(grad *g) {
    give(g, 0, RRAW(max_pool2d_backward, slots(g), gout(g, 0), in(g, 0)));
}
static void grad_max_backward(grad *g) {
    if (need(g, 0))
        give(g, 0, RRAW(max_pool2d_gather, slots(g), gout(g, 0), in(g, 1)));
}
static void grad_max_gather(grad *g) {
    if (need(g, 0))
        give(g, 0, RRAW(max_pool2d_backward, slots(g), gout(g, 0), in(g, 1)));
}

/* The adjoint's slots are the row's, then the images' size. */
static V adjoint(grad *g, int op) {
    double raw[MAX_SLOTS];
    shape s = in_shape(g, 0);
    int n = op_table[op].public.nslot;
    memcpy(raw, slots(g), (size_t)(n - 2) * sizeof *raw);
    raw[n - 2] = (double)s.dim[1];
    raw[n - 1] = (double)s.dim[2];
    return rule_apply(op, (V[]){ gout(g, 0) }, 1, NULL, 0, raw, NULL);
}
static void grad_avg(grad *g) {
    give(g, 0, adjoint(g, OPID(avg_pool2d_backward)));
}
static void grad_avg_backward(grad *g) {
    give(g, 0, RRAW(avg_pool2d, slots(g), gout(g, 0)));
}
static void grad_adaptive(grad *g) {
    give(g, 0, adjoint(g, OPID(adaptive_avg_pool2d_backward)));
}
static void grad_adaptive_backward(grad *g) {
    give(g, 0, RRAW(adaptive_avg_pool2d, slots(g), gout(g, 0)));
}

/* One for each element of a window. */
static double flops_pool(const call *c) {
    pool_size s = pool_size_of(c, NULL, c->out[0]);
    return s.adaptive ? (double)c->in[0]->numel : (double)c->out[0]->numel * (double)(s.kh * s.kw);
}

const op_row ops_pool[] = {
    { .name = "max_pool2d",
      .in = "x:float",
      .out = "y",
      .opts = MAX_OPTIONS,
      .infer = infer_pool,
      .grad = grad_max,
      .flops = flops_pool,
      .keeps = KEEP_IN0,
      .domain = { -2, 2 },
      .doc = "The maximum over windows of images x (n,h,w,c). stride is kernel_size unless given; "
             "padding never wins. With ties the first element gets the gradient." },
    { .name = "max_pool2d_backward",
      .in = "gy:float x:float",
      .out = "gx",
      .opts = MAX_OPTIONS,
      .infer = infer_max_backward,
      .grad = grad_max_backward,
      .keeps = KEEP_IN1,
      .flags = ROW_HIDDEN,
      .domain = { -2, 2 },
      .doc = "gy (n,oh,ow,c) added at each window's argmax in x: the gradient of max_pool2d." },
    { .name = "max_pool2d_gather",
      .in = "v:float x:float",
      .out = "y",
      .opts = MAX_OPTIONS,
      .infer = infer_max_gather,
      .grad = grad_max_gather,
      .keeps = KEEP_IN1,
      .flags = ROW_HIDDEN,
      .domain = { -2, 2 },
      .doc = "The elements of v at each window's argmax in x: the gradient of "
             "max_pool2d_backward." },
    { .name = "avg_pool2d",
      .in = "x:float",
      .out = "y",
      .opts = AVG_OPTIONS,
      .infer = infer_pool,
      .grad = grad_avg,
      .flops = flops_pool,
      .keeps = KEEP_NONE,
      .domain = { -2, 2 },
      .doc = "The mean over windows of images x (n,h,w,c). stride is kernel_size unless given; "
             "count_include_pad: zeros in the padding count; divisor_override: divide by this." },
    { .name = "avg_pool2d_backward",
      .in = "gy:float",
      .out = "gx",
      .opts = AVG_OPTIONS " size:int2",
      .infer = infer_avg_backward,
      .grad = grad_avg_backward,
      .keeps = KEEP_NONE,
      .flags = ROW_HIDDEN,
      .domain = { -2, 2 },
      .doc = "The adjoint of avg_pool2d over images of height and width size." },
    { .name = "adaptive_avg_pool2d",
      .in = "x:float",
      .out = "y",
      .opts = "output_size:int2",
      .infer = infer_pool,
      .grad = grad_adaptive,
      .keeps = KEEP_NONE,
      .domain = { -2, 2 },
      .doc = "Images x (n,h,w,c) cut into output_size parts each way, the mean of each; 1 is the "
             "mean of the image." },
    { .name = "adaptive_avg_pool2d_backward",
      .in = "gy:float",
      .out = "gx",
      .opts = "output_size:int2 size:int2",
      .infer = infer_avg_backward,
      .grad = grad_adaptive_backward,
      .keeps = KEEP_NONE,
      .flags = ROW_HIDDEN,
      .domain = { -2, 2 },
      .doc = "The adjoint of adaptive_avg_pool2d over images of height and width size." },
    { 0 }
};
