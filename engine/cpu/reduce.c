/* reduce.c: reductions, at speed. */
#include "cpu/isa.h"
#include "ops/row.h"

const kernel_row K(cpu_reduce)[] = { { 0 } };
