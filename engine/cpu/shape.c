/* shape.c: copies and casts, at speed. */
#include "cpu/isa.h"
#include "ops/row.h"

const kernel_row K(cpu_shape)[] = { { 0 } };
