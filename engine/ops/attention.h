/* attention.h: where the heads of an attention lie in memory, for the kernels. */
#ifndef VESTIGE_ATTENTION_H
#define VESTIGE_ATTENTION_H

#include "ops/row.h"

/* One operand: row t of head h of sample b begins b * sample + h * head + t * row elements after
 * data. data is NULL where the operand is not there, or not asked for. */
typedef struct heads {
    char *data;
    int64_t sample, head, row;
} heads;

/* count = samples * per_sample heads: y (queries, values) = softmax(scale q k') v with q (queries,
 * width), k (keys, width), v (keys, values). causal: query i sees keys 0 .. i. */
typedef struct attention {
    int64_t count, per_sample, queries, keys, width, values;
    bool causal;
    double scale;
    heads q, k, v, y, g, dq, dk, dv; /* g: y's gradient */
    tensor *lse;                     /* (count, queries): the log of each query's sum of e^score */
} attention;

/* The keys that query i sees: the first so many. */
ALWAYS_INLINE int64_t keys_seen(const attention *a, int64_t i) {
    return a->causal && i + 1 < a->keys ? i + 1 : a->keys;
}

/* Elements from an operand's data to head i of all. */
ALWAYS_INLINE int64_t head_at(const attention *a, const heads *h, int64_t i) {
    return i / a->per_sample * h->sample + i % a->per_sample * h->head;
}

/* The attention that a call computes, or whose gradient it computes: of attention and
 * attention_backward, whose heads lie one after the other; of attention_qkv and
 * attention_qkv_backward, whose heads lie side by side in a row. */
attention attention_of(const call *c);

#endif
