/* interrupt.c: the flag that a signal handler sets and kernels poll. */
#include "core/core.h"

volatile sig_atomic_t interrupt_flag;

void vestige_interrupt(void) {
    interrupt_flag = 1;
}

void vestige_clear_interrupt(void) {
    interrupt_flag = 0;
}

int vestige_interrupt_pending(void) {
    return interrupt_flag;
}
