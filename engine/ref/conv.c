/* The definition of convolution and its two gradients: seven loops each, sums in double. */
#include "ops/conv.h"
#include "ref/ref.h"

ALWAYS_INLINE int64_t at4(const int64_t n[4], int64_t a, int64_t b, int64_t c, int64_t d) {
    return ((a * n[1] + b) * n[2] + c) * n[3] + d;
}

/* y[n,oy,ox,o] = bias[o] + sum over ky,kx,i of x[n,iy,ix,i] w[o,ky,kx,i] */
ALWAYS_INLINE int conv(const call *c, int t) {
    const tensor *x = c->in[0], *w = c->in[1], *bias = c->in[2];
    T y = c->out[0];
    conv_size s = conv_size_of(c, x, w, y);
    bool adds = c->row->flags & ROW_ADDS;
    int64_t ci = s.c / s.groups, co = s.o / s.groups, at = 0;
    for (int64_t n = 0; n < s.n; n++)
        for (int64_t oy = 0; oy < s.oh; oy++)
            for (int64_t ox = 0; ox < s.ow; ox++)
                for (int64_t o = 0; o < s.o; o++) {
                    double sum = adds ? get(y->data, t, at) : bias ? get(bias->data, t, o) : 0;
                    for (int64_t ky = 0; ky < s.kh; ky++)
                        for (int64_t kx = 0; kx < s.kw; kx++) {
                            int64_t iy = oy * s.sh - s.ph + ky * s.dh;
                            int64_t ix = ox * s.sw - s.pw + kx * s.dw;
                            if (iy < 0 || iy >= s.h || ix < 0 || ix >= s.w)
                                continue;
                            int64_t from = at4(x->dim, n, iy, ix, o / co * ci);
                            int64_t weight = at4(w->dim, o, ky, kx, 0);
                            for (int64_t i = 0; i < ci; i++)
                                sum += get(x->data, t, from + i) * get(w->data, t, weight + i);
                        }
                    put(y->data, t, at++, sum);
                }
    return VESTIGE_OK;
}
REF_FLOAT(conv)

/* Which output row meets input row i at tap k, or -1. */
ALWAYS_INLINE int64_t meets(int64_t i, int64_t k, int64_t stride, int64_t padding, int64_t dilation,
                            int64_t size) {
    int64_t o = i + padding - k * dilation;
    return o >= 0 && o % stride == 0 && o / stride < size ? o / stride : -1;
}

/* gx[n,iy,ix,c] = bias[c] + sum over ky,kx,o of gy[n,oy,ox,o] w[o,ky,kx,c] */
ALWAYS_INLINE int input(const call *c, int t) {
    const tensor *gy = c->in[0], *w = c->in[1], *bias = c->nin > 2 ? c->in[2] : NULL;
    T gx = c->out[0];
    conv_size s = conv_size_of(c, gx, w, gy);
    bool adds = c->row->flags & ROW_ADDS;
    int64_t ci = s.c / s.groups, co = s.o / s.groups, at = 0;
    for (int64_t n = 0; n < s.n; n++)
        for (int64_t iy = 0; iy < s.h; iy++)
            for (int64_t ix = 0; ix < s.w; ix++)
                for (int64_t i = 0; i < s.c; i++) {
                    double sum = adds ? get(gx->data, t, at) : bias ? get(bias->data, t, i) : 0;
                    for (int64_t ky = 0; ky < s.kh; ky++)
                        for (int64_t kx = 0; kx < s.kw; kx++) {
                            int64_t oy = meets(iy, ky, s.sh, s.ph, s.dh, s.oh);
                            int64_t ox = meets(ix, kx, s.sw, s.pw, s.dw, s.ow);
                            if (oy < 0 || ox < 0)
                                continue;
                            int64_t first = i / ci * co;
                            int64_t from = at4(gy->dim, n, oy, ox, 0);
                            for (int64_t o = first; o < first + co; o++)
                                sum += get(gy->data, t, from + o) *
                                       get(w->data, t, at4(w->dim, o, ky, kx, i % ci));
                        }
                    put(gx->data, t, at++, sum);
                }
    return VESTIGE_OK;
}
REF_FLOAT(input)

/* gw[o,ky,kx,i] = sum over n,oy,ox of x[n,iy,ix,i] gy[n,oy,ox,o] */
ALWAYS_INLINE int weight(const call *c, int t) {
    const tensor *x = c->in[0], *gy = c->in[1];
    T gw = c->out[0];
    conv_size s = conv_size_of(c, x, gw, gy);
    int64_t ci = s.c / s.groups, co = s.o / s.groups, at = 0;
    for (int64_t o = 0; o < s.o; o++)
        for (int64_t ky = 0; ky < s.kh; ky++)
            for (int64_t kx = 0; kx < s.kw; kx++)
                for (int64_t i = 0; i < ci; i++) {
                    double sum = 0;
                    for (int64_t n = 0; n < s.n; n++)
                        for (int64_t oy = 0; oy < s.oh; oy++)
                            for (int64_t ox = 0; ox < s.ow; ox++) {
                                int64_t iy = oy * s.sh - s.ph + ky * s.dh;
                                int64_t ix = ox * s.sw - s.pw + kx * s.dw;
                                if (iy < 0 || iy >= s.h || ix < 0 || ix >= s.w)
                                    continue;
                                sum += get(x->data, t, at4(x->dim, n, iy, ix, o / co * ci + i)) *
                                       get(gy->data, t, at4(gy->dim, n, oy, ox, o));
                            }
                    put(gw->data, t, at++, sum);
                }
    return VESTIGE_OK;
}
REF_FLOAT(weight)

ALWAYS_INLINE int conv_add(const call *c, int t) {
    added_call k;
    return conv(added(c, &k), t);
}
REF_FLOAT(conv_add)

ALWAYS_INLINE int input_add(const call *c, int t) {
    added_call k;
    return input(added(c, &k), t);
}
REF_FLOAT(input_add)

const kernel_row ref_conv[] = {
    ROWS_FLOAT("conv2d_add_", conv_add),
    ROWS_FLOAT("conv2d_input_add_", input_add),
    ROWS_FLOAT("conv2d", conv),
    ROWS_FLOAT("conv2d_input", input),
    ROWS_FLOAT("conv2d_weight", weight),
    ROWS_FLOAT("conv_transpose2d", input),
    { 0 },
};
