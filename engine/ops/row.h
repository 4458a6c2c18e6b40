/* row.h: what an operator is, what a call of one carries, and how a kernel is registered.
 *
 * A family file in ops/ ends in an array of rows; registry.c lists the families. The row is the
 * only place where an operator is described: shape check, dispatch, tape, Lua function, help,
 * golden data and tests all read it. See CONTRIBUTING.md, "Add an operator". */
#ifndef VESTIGE_ROW_H
#define VESTIGE_ROW_H

#include <math.h>
#include <string.h>
#include "core/core.h"

struct grad;
struct op_row;

/* A value in a call: a tensor, or a number where the row says tensor|number, or absent. */
typedef struct value {
    T t;
    double n;
} V;

typedef struct shape {
    int dtype, ndim;
    int64_t dim[VESTIGE_MAXDIM];
} shape;

enum { MAX_INPUTS = 8, MAX_SLOTS = 48, MAX_LISTS = 6 };

/* One call of an operator: given to its infer function, its kernel, and kept by the tape.
 * infer may replace in[i] (by promote()), normalise opt[], and fills shape[], type and view. */
typedef struct call {
    const struct op_row *row;
    int op, nin, nout, device;
    T *in;              /* lists flattened; NULL: absent, or the number num[i] */
    double *num;        /* NULL when no input is a number */
    const int32_t *len; /* of each list input */
    double *opt;        /* a private copy of the slots */
    T out[VESTIGE_MAXOUT];
    shape shape[VESTIGE_MAXOUT];
    int type;  /* the element type that chooses the kernel */
    bool view; /* out[0] shares in[0]'s storage from element view_offset on */
    int64_t view_offset;
    uint64_t key, offset; /* of a random row */
} call;

enum keeps { /* what the tape saves for the gradient rule */
             KEEP_NONE = 0,
             KEEP_IN0 = 1,
             KEEP_IN1 = 2,
             KEEP_IN2 = 4,
             KEEP_IN3 = 8,
             KEEP_IN = 0xff, /* all inputs */
             KEEP_OUT0 = 0x100,
             KEEP_OUT1 = 0x200,
             KEEP_OUT2 = 0x400,
             KEEP_OUT3 = 0x800,
             KEEP_OUT = 0xf00,
             KEEP_AGAIN = 0x1000 /* whoever else wants output 0 kept has it made again by the
                                    row's `again`, from what is kept here */
};

enum row_flags { /* beyond vestige_op_flag */
                 ROW_RANDOM = VESTIGE_OP_RANDOM,
                 ROW_SYNC = VESTIGE_OP_SYNC,
                 ROW_HIDDEN = VESTIGE_OP_HIDDEN,
                 ROW_OUT1_FIXED = 32, /* output 1 carries no gradient, likewise 2 */
                 ROW_OUT2_FIXED = 64,
                 ROW_COPIES_VIEW =
                     128, /* a view in PyTorch: a result that is a copy is not changed in place */
                 ROW_PRODUCT = 256, /* each of inputs 0 and 1 is kept for the other's gradient */
                 ROW_ADDS = 512     /* an operator of inputs 1 and 2, added to input 0 in place */
};

enum cast { CAST_NONE, CAST_LOW, CAST_F32 }; /* under autocast: to bf16, to f32 */

typedef struct op_row {
    const char *name;
    const char *in;   /* "x:float w:float bias:float?"; "x @dim index:int": the option dim stands
                         second when arguments are given by place, as in PyTorch */
    const char *out;  /* "y" or "values indices:i64" */
    const char *opts; /* "stride:int2=1 groups:int=1"; dimensions count from 1 here too */
    const char *doc;
    int (*infer)(call *c);
    void (*grad)(struct grad *g);   /* NULL: not differentiable */
    V (*again)(struct grad *g);     /* output 0 from what is kept, the same bits; see KEEP_AGAIN */
    int (*kept)(const call *c);     /* what to keep, where `keeps` does not tell */
    double (*flops)(const call *c); /* NULL: one for each element of the output */
    int keeps, flags, cast;
    double domain[2];
} op_row;

/* ---- Kernels ---- */
/* A kernel that does not pay for this call answers DECLINED, before it writes anything: the plain
 * loop runs instead. */
enum { DECLINED = 100 };
typedef int (*kernel)(const call *c);
typedef struct kernel_row {
    const char *name;
    int type; /* a vestige_dtype */
    kernel run;
} kernel_row;

/* One function for all types: what moves elements asks only for their size. */
#define ROWS_SAME(name, run)                                                                       \
    { name, VESTIGE_F32, run }, { name, VESTIGE_F64, run }, { name, VESTIGE_BF16, run },           \
        { name, VESTIGE_I64, run }, { name, VESTIGE_I32, run }, { name, VESTIGE_U8, run }, {       \
        name, VESTIGE_BOOL, run                                                                    \
    }

/* ---- Registry ---- */
typedef struct op_info {
    vestige_op public;
    const op_row *row;
    vestige_param *param; /* inputs, outputs, options */
    double preset[MAX_SLOTS];
    kernel kernel[VESTIGE_NDEVICES][VESTIGE_NTYPES];
    const char *level[VESTIGE_NDEVICES][VESTIGE_NTYPES];
    int nlists;
    int in_lists;      /* bit i: input parameter i is a list */
    bool changes;      /* some input is changed in place */
    uint64_t required; /* bit s: the option at slot s has no default */
} op_info;

int registry_open(void); /* parses the rows and fills the kernel tables, once */
extern op_info *op_table;
int op_find(const char *name);
#ifdef __cppcheck__ /* which cannot read statement expressions */
#define OPID(name) op_find(#name)
#else
#define OPID(name)                                                                                 \
    ({                                                                                             \
        static int id_ = -1;                                                                       \
        if (UNLIKELY(id_ < 0))                                                                     \
            id_ = op_find(#name);                                                                  \
        id_;                                                                                       \
    })
#endif

/* ---- Dispatch ---- */
/* What a caller sets before dispatch(); num, len and opt may follow. The rest of a call is large
 * and not cleared: dispatch and infer fill what they use. */
ALWAYS_INLINE void call_start(call *c, int op, T *in, int nin) {
    c->row = op_table[op].row;
    c->op = op;
    c->nin = nin;
    c->nout = 0;
    c->device = VESTIGE_CPU;
    c->in = in;
    c->num = NULL;
    c->len = NULL;
    c->opt = NULL;
    c->key = c->offset = 0;
}
/* Runs a call whose row, in, num, len and opt are set; out[] get one reference each. */
int dispatch(call *c);

/* ---- For infer functions ---- */
const vestige_param *param_of(const call *c, int i); /* of flattened input i */
const char *opname(const call *c);
/* The slot of an option, by name (cached by its caller where speed matters). */
int slot_of(const call *c, const char *name);
double option(const call *c, const char *name);
/* The option of kind dim, checked against ndim and made non-negative. */
int dim_option(call *c, const char *name, int ndim, int *dim);
/* The option of kind dims as a bit mask; absent: all. */
int dims_option(call *c, const char *name, int ndim, unsigned *mask);
/* A list option: its count (-1: absent) and values. */
int list_option(const call *c, const char *name, const double **values);
/* shape[out] from the option size. */
int size_option(call *c, int out, int dtype);
void shape_like(call *c, int out, const tensor *t);
void shape_set(call *c, int out, int dtype, int ndim, const int64_t *dim);
/* shape[out] becomes the broadcast of all tensor inputs. */
int shape_broadcast(call *c, int out);
/* Casts every tensor input to the widest type among them (recorded), sets c->type. */
int promote(call *c);
/* The same from input `first` on. */
int promote_from(call *c, int first);
/* After promote(), or with c->type set: integers become f32, inputs are cast to it. */
int promote_float(call *c);
/* All tensor inputs have the shape of the first. */
int same_shapes(const call *c);
/* Casts input i to a type, recorded on the tape. */
int cast_input(call *c, int i, int dtype);
int need_float(const call *c, int i);
/* Input i has the element type of input 0. */
int same_type(const call *c, int i);
/* The size of a result that depends on data (ROW_SYNC): runs an operator that makes one i64 of t,
 * waits for it and reads it. The kernel then finds its output allocated, like any other. */
int count_of(int op, T t, int64_t *count);
/* The flops of rows that only move elements. */
double flops_none(const call *c);

#endif
