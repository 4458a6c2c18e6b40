/* compare.c: comparisons, logic, where. */
#include "ops/rules.h"

const op_row ops_compare[] = { { 0 } };
