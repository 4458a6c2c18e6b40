/* optim.c: optimiser steps, at speed. */
#include "cpu/isa.h"
#include "ops/row.h"

const kernel_row K(cpu_optim)[] = { { 0 } };
