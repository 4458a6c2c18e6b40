/* profile.c: the table behind vestige.profile, one row an operator, type and device. */
#include <time.h>
#include "ops/profile.h"

enum { MAX_ROWS = 1024 };

bool profiling;
static vestige_profile_row rows[MAX_ROWS];
static int count;

double profile_clock(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static double bytes_of(const tensor *t) {
    return t ? (double)t->numel * dtype_size(t->dtype) : 0;
}

void profile_add(const call *c, double seconds) {
    int i = 0;
    while (i < count &&
           (rows[i].op != c->op || rows[i].dtype != c->type || rows[i].device != c->device))
        i++;
    if (i == count) {
        if (count == MAX_ROWS)
            return;
        rows[count++] = (vestige_profile_row){ .op = c->op, .dtype = c->type, .device = c->device };
    }
    vestige_profile_row *r = &rows[i];
    r->count++;
    r->seconds += seconds;
    for (int k = 0; k < c->nin; k++)
        r->bytes += bytes_of(c->in[k]);
    for (int k = 0; k < (c->nout ? c->nout : 1); k++)
        r->bytes += bytes_of(c->out[k]);
    r->flops += c->row->flops ? c->row->flops(c) : (double)c->out[0]->numel;
}

int vestige_profile(int on) {
    int before = profiling;
    if (on > 0)
        count = 0;
    if (on >= 0)
        profiling = on != 0;
    return before;
}

int vestige_profile_get(int i, vestige_profile_row *row) {
    clear_error();
    if (i < 0 || i >= count)
        return fail(VESTIGE_EVALUE, "profile: row %d of %d", i, count);
    *row = rows[i];
    return VESTIGE_OK;
}
