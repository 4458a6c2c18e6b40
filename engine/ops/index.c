/* index.c: gather, scatter and their kin. */
#include "ops/rules.h"

const op_row ops_index[] = { { 0 } };
