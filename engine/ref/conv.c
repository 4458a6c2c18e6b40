/* The definition of convolution and its two gradients. */
#include "ref/ref.h"

const kernel_row ref_conv[] = { { 0 } };
