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

/* VESTIGE_CONV=direct: no convolution by Winograd. Read at start-up (register.c). */
extern bool cpu_conv_direct;

#endif
