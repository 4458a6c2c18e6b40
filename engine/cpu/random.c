/* random.c: draws beyond randn and rand, dropout, at speed. */
#include "cpu/isa.h"
#include "ops/row.h"

const kernel_row K(cpu_random)[] = { { 0 } };
