/* linalg.c: products, linear, solving. */
#include "ops/rules.h"

const op_row ops_linalg[] = { { 0 } };
