/* norm.c: normalisation, at speed. */
#include "cpu/isa.h"
#include "ops/row.h"

const kernel_row K(cpu_norm)[] = { { 0 } };
