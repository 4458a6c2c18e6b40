/* loss.c: softmax and losses. */
#include "ops/rules.h"

const op_row ops_loss[] = { { 0 } };
