/* random.c: draws beyond randn and rand, dropout. */
#include "ops/rules.h"

const op_row ops_random[] = { { 0 } };
