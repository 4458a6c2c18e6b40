/* The definition of comparisons, logic, where. */
#include "ref/ref.h"

const kernel_row ref_compare[] = { { 0 } };
