/* The definition of products, linear, solving. */
#include "ref/ref.h"

const kernel_row ref_linalg[] = { { 0 } };
