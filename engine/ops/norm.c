/* norm.c: normalisation. */
#include "ops/rules.h"

const op_row ops_norm[] = { { 0 } };
