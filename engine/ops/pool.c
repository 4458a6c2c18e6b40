/* pool.c: pooling. */
#include "ops/rules.h"

const op_row ops_pool[] = { { 0 } };
