/* The definition of draws beyond randn and rand, dropout. */
#include "ref/ref.h"

const kernel_row ref_random[] = { { 0 } };
