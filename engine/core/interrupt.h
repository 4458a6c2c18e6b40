/* Interrupt: one flag, set by a signal handler, polled between tiles by long kernels. */
#ifndef VESTIGE_INTERRUPT_H
#define VESTIGE_INTERRUPT_H

#include <signal.h>
#include <stdbool.h>

extern volatile sig_atomic_t interrupt_flag;

static inline bool interrupted(void) {
    return interrupt_flag != 0;
}

#endif
