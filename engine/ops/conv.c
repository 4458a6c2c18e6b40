/* conv.c: convolution and its two gradients. */
#include "ops/rules.h"

const op_row ops_conv[] = { { 0 } };
