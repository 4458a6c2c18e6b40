/* optim.c: optimiser steps. */
#include "ops/rules.h"

const op_row ops_optim[] = { { 0 } };
