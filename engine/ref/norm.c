/* The definition of normalisation. */
#include "ref/ref.h"

const kernel_row ref_norm[] = { { 0 } };
