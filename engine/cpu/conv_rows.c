/* conv_rows.c: the convolution operators in f32, by the kernels of conv.c and conv_weights.c. What
 * those decline (groups) the plain loops do. */
#include "cpu/f32.h"
#include "ops/conv.h"

static struct cpu_conv sizes(const call *c, const tensor *x, const tensor *w, const tensor *y) {
    conv_size s = conv_size_of(c, x, w, y);
    return (struct cpu_conv){ s.n,  s.h,  s.w,  s.c,  s.o,  s.kh, s.kw, s.oh,
                              s.ow, s.sh, s.sw, s.ph, s.pw, s.dh, s.dw, s.groups };
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
                          .tb = tb };
    int64_t bytes = K(cpu_gemm_scratch)(&m);
    void *scratch;
    TRY(alloc_scratch(&scratch, bytes));
    return finish(K(cpu_gemm)(y, x, w, &m, scratch), scratch, bytes);
}

static int conv(const call *c) {
    struct cpu_conv g = sizes(c, c->in[0], c->in[1], c->out[0]);
    if (is_product(&g) && !c->in[2])
        return multiply(floats(c->out[0]), floats(c->in[0]), floats(c->in[1]), g.o, g.c, true, &g);
    int64_t bytes = K(cpu_conv_forward_scratch)(&g);
    void *scratch;
    if (bytes < 0)
        return DECLINED;
    TRY(alloc_scratch(&scratch, bytes));
    return finish(K(cpu_conv_forward)(floats(c->out[0]), floats(c->in[0]), floats(c->in[1]),
                                      floats(c->in[2]), &g, scratch),
                  scratch, bytes);
}

/* conv2d_input, and conv_transpose2d, which has a bias. */
static int input(const call *c) {
    struct cpu_conv g = sizes(c, c->out[0], c->in[1], c->in[0]);
    const float *bias = c->nin > 2 ? floats(c->in[2]) : NULL;
    if (is_product(&g) && !bias)
        return multiply(floats(c->out[0]), floats(c->in[0]), floats(c->in[1]), g.c, g.o, false, &g);
    int64_t bytes = K(cpu_conv_input_grad_scratch)(&g);
    void *scratch;
    if (bytes < 0)
        return DECLINED;
    TRY(alloc_scratch(&scratch, bytes));
    float *y = floats(c->out[0]);
    int status = finish(K(cpu_conv_input_grad)(y, floats(c->in[0]), floats(c->in[1]), &g, scratch),
                        scratch, bytes);
    if (bias && status == VESTIGE_OK)
        for (int64_t i = 0; i < g.n * g.h * g.w; i++, y += g.c)
            for (int64_t j = 0; j < g.c; j++)
                y[j] += bias[j];
    return status;
}

static int weight(const call *c) {
    struct cpu_conv g = sizes(c, c->in[0], c->out[0], c->in[1]);
    int64_t bytes = K(cpu_conv_weight_grad_scratch)(&g);
    void *scratch;
    if (bytes < 0)
        return DECLINED;
    TRY(alloc_scratch(&scratch, bytes));
    return finish(
        K(cpu_conv_weight_grad)(floats(c->out[0]), floats(c->in[1]), floats(c->in[0]), &g, scratch),
        scratch, bytes);
}

const kernel_row K(cpu_conv)[] = {
    { "conv2d", VESTIGE_F32, conv },
    { "conv2d_input", VESTIGE_F32, input },
    { "conv2d_weight", VESTIGE_F32, weight },
    { "conv_transpose2d", VESTIGE_F32, input },
    { 0 },
};
