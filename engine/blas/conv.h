/* conv.h: the convolution operators in f64. */
#ifndef VESTIGE_BLAS_CONV_H
#define VESTIGE_BLAS_CONV_H

#include "ops/row.h"

int blas_conv(const call *c);
int blas_conv_input(const call *c); /* and conv_transpose2d */
int blas_conv_weight(const call *c);
int blas_conv_add(const call *c); /* conv2d_add_ */
int blas_conv_input_add(const call *c);

#endif
