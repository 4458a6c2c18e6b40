/* The definition of gather, scatter and their kin. */
#include "ref/ref.h"

const kernel_row ref_index[] = { { 0 } };
