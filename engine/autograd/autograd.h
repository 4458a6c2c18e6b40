/* autograd.h: the tape. A node is one recorded call: it knows the nodes that made its inputs and
 * keeps what its gradient rule reads, as storage and version, never as tensors. */
#ifndef VESTIGE_AUTOGRAD_H
#define VESTIGE_AUTOGRAD_H

#include "core/core.h"

struct call;

typedef struct node_in {
    struct node *edge; /* holds a reference; NULL: this input needs no gradient */
    storage *saved;    /* NULL: not kept */
    char *data;
    const int64_t *dim;
    uint32_t version;
    uint8_t index; /* which output of edge */
    uint8_t dtype, ndim;
    uint8_t present; /* a tensor was given */
    bool again;      /* kept by name: `edge` hands it out, or makes it again */
} node_in;
enum { OWN_OUTPUT = 2 }; /* node_in.present: output `index` of this node, saved without a cycle */

typedef struct node_out {
    storage *saved;
    char *data;
    const int64_t *dim;
    uint32_t version;
    uint8_t dtype, ndim, device;
} node_out;

typedef struct hook {
    int64_t id;
    int out;
    struct hook *next;
} hook;

typedef struct node {
    int32_t refs, op; /* op -1: a leaf, -2: a node whose rule lives outside C */
    uint32_t bytes;
    int32_t mark; /* used while a walk is planned: its place + 1, else 0 */
    uint64_t sequence;
    int32_t nin, nout, nsaved;
    int32_t readers; /* inputs elsewhere that ask for output 0 again */
    storage *made;   /* output 0 of a row that can make it again, while others hold it */
    bool freed;      /* a walk used up what was saved */
    int8_t autocast; /* the mode it was recorded in */
    T leaf;          /* of a leaf: its tensor, not held */
    uint32_t leaf_gen;
    int32_t place; /* of an outside node: in the table of them */
    int64_t lua_id;
    struct node *next_dead;
    hook *hooks;
    uint64_t key, offset;
    double *opt, *num;
    int32_t *len;
    node_in *in; /* nin inputs, then nsaved tensors kept for an outside rule */
    node_out *out;
} node;

extern bool grad_mode;
int record(const struct call *c);
void node_unref(node *n);
int leaf_node(T t);
/* Makes a node without inputs' data: for outside rules. in[] and out[] are to be filled. */
node *node_new(int nin, int nsaved, int nout, size_t extra_dims, int nslot, int nlen);
/* Remembers t in a node's slot for it; with keep, its storage too. */
int64_t *node_take_in(node_in *ni, const tensor *t, bool keep, int64_t *dims);
int64_t *node_take_out(node_out *no, const tensor *t, bool keep, int64_t *dims);
int node_unpack_in(T *t, node *n, int i);
int node_unpack_out(T *t, node *n, int k);
/* Frees what the rule of n has read; what others still ask of it is made before. */
int node_drop_saved(node *n);

/* ---- Outputs that are made again instead of kept (again.c) ---- */
/* Output 0 of n, which its row can make again, was just made. */
void again_offer(node *n, const tensor *y);
/* Whether t is such an output: then ni asks its node for it later, and keeps no storage. */
bool again_take(node_in *ni, const tensor *t);
int again_unpack(T *t, const node_in *ni);
void again_leave(node_in *ni);
/* While readers remain: makes output 0 now, before what it is made from goes. */
int again_settle(node *n);
void again_forget(node *n); /* n is freed */
int64_t nodes_live(void);
/* An outside node leaves the table; the number of one, or of a hook, is told to the outside. */
void custom_remove(const node *n);
void outside_died(int64_t id);

#endif
