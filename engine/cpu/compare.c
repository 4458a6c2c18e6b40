/* compare.c: comparisons, logic, where, at speed. */
#include "cpu/isa.h"
#include "ops/row.h"

const kernel_row K(cpu_compare)[] = { { 0 } };
