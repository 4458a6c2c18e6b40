/* The definition of optimiser steps. */
#include "ref/ref.h"

const kernel_row ref_optim[] = { { 0 } };
