/* autocast.h: products in a narrower type than the tensors they are given (see autocast.c). */
#ifndef VESTIGE_AUTOCAST_H
#define VESTIGE_AUTOCAST_H

#include "ops/row.h"

/* What products run in, or -1. A walk sets it to what it was when a node was recorded. */
extern int autocast_type;
/* Casts a call's inputs as its row says; for rows whose cast is not CAST_NONE. */
int autocast_inputs(call *c);

#endif
