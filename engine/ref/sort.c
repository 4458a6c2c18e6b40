/* The definition of orders, choices, counts. */
#include "ref/ref.h"

const kernel_row ref_sort[] = { { 0 } };
