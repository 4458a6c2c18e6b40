/* profile.h: counts, time, bytes and operations of kernels while vestige.profile runs. */
#ifndef VESTIGE_PROFILE_H
#define VESTIGE_PROFILE_H

#include "ops/row.h"

extern bool profiling;
double profile_clock(void);
void profile_add(const call *c, double seconds);

#endif
