/* The three operators of a 2-D convolution in f32: images (n,h,w,c), weights
 * (o,kh,kw,c/groups), outputs (n,oh,ow,o). See f32.h for the tables by level. */
#ifndef VESTIGE_CPU_CONV_H
#define VESTIGE_CPU_CONV_H

#include <stdbool.h>
#include <stdint.h>

/* oh and ow are the caller's: oh = (h + 2 ph - dh (kh - 1) - 1) / sh + 1 or less. */
struct cpu_conv {
    int64_t n, h, w, c; /* input */
    int64_t o, kh, kw;  /* weights (o,kh,kw,c/groups) */
    int64_t oh, ow;     /* output */
    int64_t sh, sw;     /* stride */
    int64_t ph, pw;     /* padding */
    int64_t dh, dw;     /* dilation */
    int64_t groups;
    bool add;            /* forward without bias and input gradient: to what y or dx holds */
    struct kept_form *u; /* the weights in Winograd's form: made, or to be made; NULL: in scratch */
};

/* The product that a convolution is: forward from x to y, or (back) from dy to dx. Stride 1 both
 * ways is the same sum, with the weights flipped and turned round when it goes back. */
struct conv_ends {
    int64_t ci, co;       /* channels that are summed, that are made */
    int64_t h, w;         /* of the image that is made */
    int64_t in_h, in_w;   /* of the one that is read */
    int64_t pad_y, pad_x; /* around it, at stride 1 */
};

static inline struct conv_ends conv_ends_of(const struct cpu_conv *g, bool back) {
    if (!back)
        return (struct conv_ends){ g->c, g->o, g->oh, g->ow, g->h, g->w, g->ph, g->pw };
    int64_t pad_y = (g->kh - 1) * g->dh - g->ph, pad_x = (g->kw - 1) * g->dw - g->pw;
    return (struct conv_ends){ g->o, g->c, g->h, g->w, g->oh, g->ow, pad_y, pad_x };
}

/* VESTIGE_CONV=direct: no convolution by Winograd. Read at start-up (register.c). */
extern bool cpu_conv_direct;

#endif
