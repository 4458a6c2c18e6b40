/* How rows become tasks: each worker has an equal share of them, a multiple of `step`, in blocks of
 * at most `most` (a multiple of step as well). Tasks go through the shares in turn, and each share
 * ends in its smallest block: whoever is faster takes more, and the last tasks are short. */
#ifndef VESTIGE_CPU_CUT_H
#define VESTIGE_CPU_CUT_H

#include "cpu/tile.h"

struct cut {
    int64_t rows;
    int64_t share; /* of a worker, if all are as fast */
    int64_t block; /* of a task, at most */
    int64_t tasks;
    int workers;
};

static inline struct cut cut_rows(int64_t rows, int workers, int64_t most, int64_t step) {
    int64_t share = imax(step, ceil_div(ceil_div(rows, workers), step) * step);
    int64_t blocks = ceil_div(share, most);
    return (struct cut){ .rows = rows,
                         .share = share,
                         .block = ceil_div(ceil_div(share, blocks), step) * step,
                         .tasks = workers * blocks,
                         .workers = workers };
}

/* How many rows task i has, from `from` on; none where its share is shorter. */
static inline int64_t cut_task(const struct cut *c, int64_t i, int64_t *from) {
    int64_t first = i % c->workers * c->share;
    *from = first + i / c->workers * c->block;
    return imax(0, imin(c->block, imin(c->rows, first + c->share) - *from));
}

#endif
