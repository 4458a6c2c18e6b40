/* loss.h: what the kernels of the class losses share. */
#ifndef VESTIGE_LOSS_H
#define VESTIGE_LOSS_H

#include "ops/row.h"

enum reduction { MEAN, SUM, EACH, BATCH_MEAN }; /* the order of the option's choices */

/* The error for element `at` of the class targets, of which `classes` are known. */
int bad_label(const call *c, const tensor *target, int64_t at, int64_t label, int64_t classes);

#endif
