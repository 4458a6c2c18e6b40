/* conv_rows.c: the convolution operators in f32 and bf16, by the f32 kernels of conv.c and
 * conv_weights.c. */
#include "cpu/f32.h"
#include "cpu/half.h"
#include "cpu/pairs.h"
#include "cpu/strided.h"
#include "cpu/winograd.h"
#include "ops/conv.h"

static struct cpu_conv sizes(const call *c, const tensor *x, const tensor *w, const tensor *y) {
    conv_size s = conv_size_of(c, x, w, y);
    return (struct cpu_conv){ s.n,
                              s.h,
                              s.w,
                              s.c,
                              s.o,
                              s.kh,
                              s.kw,
                              s.oh,
                              s.ow,
                              s.sh,
                              s.sw,
                              s.ph,
                              s.pw,
                              s.dh,
                              s.dw,
                              s.groups,
                              c->row->flags & ROW_ADDS };
}

/* Where the transform of the weights w is kept, which takes so many bytes. Transforms of the same
 * elements are told apart by outputs, stride and type. */
static struct cpu_conv with_kept(struct cpu_conv g, const tensor *w, bool back, bool pairs,
                                 int64_t bytes) {
    int64_t shape = g.sh > 1 ? g.o << 32 : g.o;
    if (bytes)
        g.u = keep_form(w->store, w->data, back, pairs ? -shape : shape, bytes);
    return g;
}

static struct cpu_conv f32_kept(struct cpu_conv g, const tensor *w, bool back) {
    int64_t bytes = K(cpu_winograd_form)(&g, back);
    return with_kept(g, w, back, false, bytes ? bytes : K(cpu_strided_form)(&g, back));
}

static float *floats(const tensor *t) {
    return t ? (float *)t->data : NULL;
}

/* Gives scratch back and makes a status of what the kernel answered. */
static int finish(int code, void *scratch, int64_t bytes) {
    free_scratch(scratch, bytes);
    return code == CPU_OK             ? VESTIGE_OK
           : code == CPU_UNPROFITABLE ? DECLINED
                                      : fail(VESTIGE_EINTERRUPTED, "interrupted");
}

/* A kernel of one pixel makes y (pixels,o) = x (pixels,c) w' and gx = gy w. */
static bool is_product(const struct cpu_conv *g) {
    return g->kh * g->kw * g->sh * g->sw == 1 && g->ph + g->pw == 0 && g->groups == 1;
}

static int multiply(float *y, const float *x, const float *w, int64_t columns, int64_t k, bool tb,
                    const struct cpu_conv *g) {
    struct cpu_gemm m = { .m = g->n * g->h * g->w,
                          .n = columns,
                          .k = k,
                          .lda = k,
                          .ldb = tb ? k : columns,
                          .ldc = columns,
                          .tb = tb,
                          .add = g->add };
    int64_t bytes = K(cpu_gemm_scratch)(&m);
    void *scratch;
    TRY(alloc_scratch(&scratch, bytes));
    return finish(K(cpu_gemm)(y, x, w, &m, scratch), scratch, bytes);
}

/* ---- The three in f32; bias may be NULL ---- */
static int forward(float *y, const float *x, const float *w, const float *bias,
                   const struct cpu_conv *g) {
    if (is_product(g) && !bias)
        return multiply(y, x, w, g->o, g->c, true, g);
    int64_t bytes = K(cpu_conv_forward_scratch)(g);
    void *scratch;
    if (bytes < 0)
        return DECLINED;
    TRY(alloc_scratch(&scratch, bytes));
    return finish(K(cpu_conv_forward)(y, x, w, bias, g, scratch), scratch, bytes);
}

static int input(float *gx, const float *gy, const float *w, const float *bias,
                 const struct cpu_conv *g) {
    if (is_product(g) && !bias)
        return multiply(gx, gy, w, g->c, g->o, false, g);
    int64_t bytes = K(cpu_conv_input_grad_scratch)(g);
    void *scratch;
    if (bytes < 0)
        return DECLINED;
    TRY(alloc_scratch(&scratch, bytes));
    int status = finish(K(cpu_conv_input_grad)(gx, gy, w, g, scratch), scratch, bytes);
    if (bias && status == VESTIGE_OK)
        for (int64_t i = 0; i < g->n * g->h * g->w; i++, gx += g->c)
            for (int64_t j = 0; j < g->c; j++)
                gx[j] += bias[j];
    return status;
}

static int weight(float *gw, const float *gy, const float *x, const struct cpu_conv *g) {
    int64_t bytes = K(cpu_conv_weight_grad_scratch)(g);
    void *scratch;
    if (bytes < 0)
        return DECLINED;
    TRY(alloc_scratch(&scratch, bytes));
    return finish(K(cpu_conv_weight_grad)(gw, gy, x, g, scratch), scratch, bytes);
}

static int conv2d(const call *c) {
    struct cpu_conv g = f32_kept(sizes(c, c->in[0], c->in[1], c->out[0]), c->in[1], false);
    return forward(floats(c->out[0]), floats(c->in[0]), floats(c->in[1]), floats(c->in[2]), &g);
}

/* conv2d_input, and conv_transpose2d, which has a bias. */
static int conv2d_input(const call *c) {
    struct cpu_conv g = f32_kept(sizes(c, c->out[0], c->in[1], c->in[0]), c->in[1], true);
    return input(floats(c->out[0]), floats(c->in[0]), floats(c->in[1]),
                 c->nin > 2 ? floats(c->in[2]) : NULL, &g);
}

static int conv2d_weight(const call *c) {
    struct cpu_conv g = sizes(c, c->in[0], c->out[0], c->in[1]);
    return weight(floats(c->out[0]), floats(c->in[1]), floats(c->in[0]), &g);
}

/* ---- The same in bf16: on pairs where the processor multiplies them. Otherwise a few images at a
 * time are widened, convolved in f32 and rounded, so that what is wide stays in the last cache.
 * Where Winograd's transforms run, they run in f32. ---- */
enum { WIDE = 2 << 20 }; /* floats */

/* Images of a turn, which depends on shapes alone. */
static int64_t turn(int64_t n, int64_t floats_of_one) {
    int64_t few = WIDE / (floats_of_one + 1);
    return few < 1 ? 1 : few < n ? few : n;
}

static const uint16_t *halves(const tensor *t) {
    return (const uint16_t *)t->data;
}

/* forward, or input (back): y and x hold images, w and bias are the same for all. */
static int by_images(const call *c, struct cpu_conv g, bool back) {
    const tensor *x = c->in[0], *w = c->in[1], *bias = c->nin > 2 ? c->in[2] : NULL;
    tensor *y = c->out[0];
    int64_t n = g.n;
    if (n == 0 || x->numel == 0)
        return DECLINED;
    int64_t in = x->numel / n, out = y->numel / n, images = turn(n, in + out);
    int64_t bytes = 4 * (images * (in + out) + w->numel + (bias ? bias->numel : 0));
    void *scratch;
    TRY(alloc_scratch(&scratch, bytes));
    g.n = images;
    g = f32_kept(g, w, back);
    float *fx = scratch, *fy = fx + images * in, *fw = fy + images * out, *fb = NULL;
    K(cpu_to_f32)(fw, halves(w), w->numel);
    if (bias)
        K(cpu_to_f32)(fb = fw + w->numel, halves(bias), bias->numel);
    int status = VESTIGE_OK;
    for (int64_t i = 0; i < n && status == VESTIGE_OK; i += images) {
        g.n = n - i < images ? n - i : images;
        K(cpu_to_f32)(fx, halves(x) + i * in, g.n * in);
        if (g.add)
            K(cpu_to_f32)(fy, halves(y) + i * out, g.n * out);
        status = (back ? input : forward)(fy, fx, fw, fb, &g);
        if (status == VESTIGE_OK)
            K(cpu_to_bf16)((uint16_t *)y->data + i * out, fy, g.n * out);
    }
    free_scratch(scratch, bytes);
    return status;
}

/* forward or (back) input, or DECLINED. */
static int by_pairs(const call *c, struct cpu_conv g, bool back) {
#if PAIRS
    const tensor *bias = c->nin > 2 ? c->in[2] : NULL;
    g = with_kept(g, c->in[1], back, true, K(cpu_pairs_form)(&g, back));
    int64_t bytes = K(cpu_pairs_scratch)(&g, back);
    void *scratch;
    if (bytes < 0)
        return DECLINED;
    TRY(alloc_scratch(&scratch, bytes));
    return finish(K(cpu_pairs)((uint16_t *)c->out[0]->data, halves(c->in[0]), halves(c->in[1]),
                               bias ? halves(bias) : NULL, &g, back, scratch),
                  scratch, bytes);
#else
    (void)c, (void)g, (void)back;
    return DECLINED;
#endif
}

static int conv2d_bf16(const call *c) {
    struct cpu_conv g = sizes(c, c->in[0], c->in[1], c->out[0]);
    int status = by_pairs(c, g, false);
    return status == DECLINED ? by_images(c, g, false) : status;
}

static int conv2d_input_bf16(const call *c) {
    struct cpu_conv g = sizes(c, c->out[0], c->in[1], c->in[0]);
    int status = by_pairs(c, g, true);
    return status == DECLINED ? by_images(c, g, true) : status;
}

static int weight_by_pairs(const call *c, const struct cpu_conv *g) {
#if PAIRS
    int64_t bytes = K(cpu_pairs_weights_scratch)(g);
    void *scratch;
    if (bytes < 0)
        return DECLINED;
    TRY(alloc_scratch(&scratch, bytes));
    return finish(K(cpu_pairs_weights)((uint16_t *)c->out[0]->data, halves(c->in[1]),
                                       halves(c->in[0]), g, scratch),
                  scratch, bytes);
#else
    (void)c, (void)g;
    return DECLINED;
#endif
}

/* The gradients of the turns are added in f32. */
static int conv2d_weight_bf16(const call *c) {
    const tensor *x = c->in[0], *gy = c->in[1];
    tensor *gw = c->out[0];
    struct cpu_conv g = sizes(c, x, gw, gy);
    int by = weight_by_pairs(c, &g);
    if (by != DECLINED)
        return by;
    int64_t n = g.n, size = gw->numel;
    if (n == 0 || x->numel == 0)
        return DECLINED;
    int64_t in = x->numel / n, out = gy->numel / n, images = turn(n, in + out);
    int64_t bytes = 4 * (images * (in + out) + 2 * size);
    void *scratch;
    TRY(alloc_scratch(&scratch, bytes));
    float *fx = scratch, *fy = fx + images * in, *sum = fy + images * out, *part = sum + size;
    int status = VESTIGE_OK;
    for (int64_t i = 0; i < n && status == VESTIGE_OK; i += images) {
        g.n = n - i < images ? n - i : images;
        K(cpu_to_f32)(fx, halves(x) + i * in, g.n * in);
        K(cpu_to_f32)(fy, halves(gy) + i * out, g.n * out);
        status = weight(i ? part : sum, fy, fx, &g);
        for (int64_t k = 0; k < size && i && status == VESTIGE_OK; k++)
            sum[k] += part[k];
    }
    if (status == VESTIGE_OK)
        K(cpu_to_bf16)((uint16_t *)gw->data, sum, size);
    free_scratch(scratch, bytes);
    return status;
}

/* ---- Added to what is there ---- */
#define ADDED(run)                                                                                 \
    static int run##_added(const call *c) {                                                        \
        added_call k;                                                                              \
        return run(added(c, &k));                                                                  \
    }
ADDED(conv2d)
ADDED(conv2d_bf16)
ADDED(conv2d_input)
ADDED(conv2d_input_bf16)

const kernel_row K(cpu_conv)[] = {
    { "conv2d_add_", VESTIGE_F32, conv2d_added },
    { "conv2d_add_", VESTIGE_BF16, conv2d_bf16_added },
    { "conv2d_input_add_", VESTIGE_F32, conv2d_input_added },
    { "conv2d_input_add_", VESTIGE_BF16, conv2d_input_bf16_added },
    { "conv2d", VESTIGE_F32, conv2d },
    { "conv2d", VESTIGE_BF16, conv2d_bf16 },
    { "conv2d_input", VESTIGE_F32, conv2d_input },
    { "conv2d_input", VESTIGE_BF16, conv2d_input_bf16 },
    { "conv2d_weight", VESTIGE_F32, conv2d_weight },
    { "conv2d_weight", VESTIGE_BF16, conv2d_weight_bf16 },
    { "conv_transpose2d", VESTIGE_F32, conv2d_input },
    { "conv_transpose2d", VESTIGE_BF16, conv2d_input_bf16 },
    { 0 },
};
