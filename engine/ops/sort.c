/* sort.c: orders, choices, counts. */
#include "ops/rules.h"

const op_row ops_sort[] = { { 0 } };
