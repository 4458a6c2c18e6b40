/* linalg.c: products, linear, solving, at speed. */
#include "cpu/isa.h"
#include "ops/row.h"

const kernel_row K(cpu_linalg)[] = { { 0 } };
