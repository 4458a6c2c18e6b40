/* conv.h: the sizes of a 2-D convolution, as shape checks and kernels see them. */
#ifndef VESTIGE_OPS_CONV_H
#define VESTIGE_OPS_CONV_H

#include "ops/row.h"

/* y (n,oh,ow,o) from x (n,h,w,c) and weights (o,kh,kw,c/groups). */
typedef struct conv_size {
    int64_t n, h, w, c;
    int64_t o, kh, kw;
    int64_t oh, ow;
    int64_t sh, sw, ph, pw, dh, dw; /* stride, padding, dilation */
    int64_t groups;
} conv_size;

/* The options of a call, and the sizes of the tensors in the three roles. */
conv_size conv_size_of(const call *c, const tensor *x, const tensor *w, const tensor *y);

/* y += conv(x, w), as the call of conv(x, w) with the output y that its kernels expect. */
typedef struct added_call {
    call call;
    T in[3];
} added_call;
static inline const call *added(const call *c, added_call *k) {
    k->call = *c;
    k->in[0] = c->in[1];
    k->in[1] = c->in[2];
    k->in[2] = NULL;
    k->call.in = k->in;
    k->call.nin = 2;
    return &k->call;
}

#endif
