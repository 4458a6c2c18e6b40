/* error.c: the message and status of the last failure. */
#include <stdarg.h>
#include <stdio.h>
#include "core/core.h"

static char message[1024]; /* the engine is used from one thread */
static int pending;

int fail(int status, const char *format, ...) {
    /* The first failure explains those that follow from it. */
    if (pending)
        return pending;
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    return pending = status;
}

int error_pending(void) {
    return pending;
}

void clear_error(void) {
    pending = 0;
}

const char *vestige_message(void) {
    return message;
}
