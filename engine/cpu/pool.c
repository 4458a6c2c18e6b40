/* pool.c: pooling, at speed. */
#include "cpu/isa.h"
#include "ops/row.h"

const kernel_row K(cpu_pool)[] = { { 0 } };
