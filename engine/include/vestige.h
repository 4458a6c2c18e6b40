/* vestige.h: the public C interface of the Vestige engine, and its manual.
 *
 * A program makes tensors, runs operators on them by number, walks the tape for gradients, and
 * gives tensors back. Every call returns a status: zero or more is success, below zero an error
 * whose text vestige_message() holds until the next call. Nothing here prints, exits or calls back.
 *
 * The engine is used from one thread; it makes and joins its own worker threads.
 * This file parses in LuaJIT's ffi.cdef after `cc -E -P -DVESTIGE_CDEF`. */
#ifndef VESTIGE_H
#define VESTIGE_H

#ifndef VESTIGE_CDEF
#include <stddef.h>
#include <stdint.h>
#define VESTIGE_API __attribute__((visibility("default")))
#else
#define VESTIGE_API
#endif

/* ---- Status ---------------------------------------------------------------------------------
 * ROOT: success, and the handle is a root: the caller keeps it (see Handles).
 * COLLECT: as ROOT, and live memory passed its limit: the caller should drop what it can.
 * NEEDS_LUA: a walk stopped at a rule that lives outside C (see Gradients). */
enum vestige_status {
    VESTIGE_OK = 0,
    VESTIGE_ROOT = 1,
    VESTIGE_COLLECT = 2,
    VESTIGE_NEEDS_LUA = 3,
    VESTIGE_ESHAPE = -1,       /* shapes do not fit */
    VESTIGE_ETYPE = -2,        /* element types do not fit */
    VESTIGE_EDEVICE = -3,      /* devices differ, or the device is not there */
    VESTIGE_EVALUE = -4,       /* an option or a stored value is out of range */
    VESTIGE_EMEMORY = -5,      /* out of memory */
    VESTIGE_EINTERRUPTED = -6, /* vestige_interrupt() was called */
    VESTIGE_EHANDLE = -7,      /* a handle that is released, stale or no tensor */
    VESTIGE_EKERNEL = -8,      /* no kernel for this operator, type and device */
    VESTIGE_EGRAD = -9,        /* the tape cannot give what was asked */
    VESTIGE_EIO = -10          /* a file is missing, damaged or cannot be written */
};

/* The message of the last call that failed. */
VESTIGE_API const char *vestige_message(void);

/* ---- Types and devices ----------------------------------------------------------------------- */
enum vestige_dtype {
    VESTIGE_F32,
    VESTIGE_F64,
    VESTIGE_BF16,
    VESTIGE_I64,
    VESTIGE_I32,
    VESTIGE_U8,
    VESTIGE_BOOL,
    VESTIGE_NTYPES
};
enum vestige_device { VESTIGE_CPU, VESTIGE_REF, VESTIGE_NDEVICES };
enum { VESTIGE_MAXDIM = 8, VESTIGE_MAXOUT = 4, VESTIGE_MAXLIST = 8 };

VESTIGE_API const char *vestige_dtype_name(int dtype);
VESTIGE_API int vestige_dtype_size(int dtype);
VESTIGE_API const char *vestige_device_name(int device);

/* ---- Handles ---------------------------------------------------------------------------------
 * A tensor is known by a handle. _p points into memory that is never unmapped, _gen says which
 * tensor lived there when the handle was made: a handle of a tensor that is gone is found out by
 * every call. _owner says who holds the reference: the scope of that id, or, with the top bit set,
 * the root slot in its other bits. A caller that loses a root handle releases its slot. */
typedef struct vestige_tensor {
    void *_p;
    uint32_t _gen;
    uint32_t _owner;
} vestige_tensor;

typedef struct vestige_tensor_info {
    int32_t dtype, device, ndim;
    int32_t requires_grad, is_leaf;
    uint32_t version;
    int64_t numel;
    int64_t dim[8];
} vestige_tensor_info;

VESTIGE_API int vestige_describe(const vestige_tensor *t, vestige_tensor_info *info);
/* 1 while the handle's tensor lives, else 0. */
VESTIGE_API int vestige_alive(const vestige_tensor *t);
/* Drops the handle's reference and empties the handle. */
VESTIGE_API int vestige_release(vestige_tensor *t);
/* Drops the reference in a root slot whose handle is gone. */
VESTIGE_API int vestige_release_root(uint32_t slot);
/* Another handle of the same tensor, owned by the current scope or a root slot. */
VESTIGE_API int vestige_alias(vestige_tensor *out, const vestige_tensor *t);

/* A scope owns the handles made while it is the innermost one, and drops them when it closes.
 * Scopes close in any order: closing one closes those inside it. */
VESTIGE_API int vestige_scope_open(uint32_t *id);
VESTIGE_API int vestige_scope_close(uint32_t id);
VESTIGE_API uint32_t vestige_scope_current(void); /* 0: none is open */
/* Makes a handle outlive a scope: if that one owns it, or one inside it, it moves to the scope
 * outside, or becomes a root; the status tells which. */
VESTIGE_API int vestige_keep(vestige_tensor *t, uint32_t scope);
/* Moves a handle to a root slot, out of all scopes. */
VESTIGE_API int vestige_keep_root(vestige_tensor *t);

/* ---- Data ------------------------------------------------------------------------------------ */
/* A new tensor from `bytes` bytes in row-major order; data NULL: uninitialised. */
VESTIGE_API int vestige_from_data(vestige_tensor *out, int dtype, int device, int ndim,
                                  const int64_t *dim, const void *data, int64_t bytes);
/* Copies all elements to dst, which holds `bytes` bytes. A NaN loses its sign and payload. */
VESTIGE_API int vestige_to_data(const vestige_tensor *t, void *dst, int64_t bytes);
/* Copies src over t's elements, in place. */
VESTIGE_API int vestige_set_data(const vestige_tensor *t, const void *src, int64_t bytes);
/* The only element as a double, and as an integer for integer types. */
VESTIGE_API int vestige_item(const vestige_tensor *t, double *value, int64_t *integer);

/* ---- Operators -------------------------------------------------------------------------------
 * Each operator is one row. An input is a tensor, a list of tensors, or a number where the row
 * says tensor|number. Options lie in one flat array of doubles at each option's slot. */
enum vestige_kind {
    VESTIGE_TENSOR, /* inputs and outputs */
    VESTIGE_LIST,
    VESTIGE_INT,  /* 1 slot */
    VESTIGE_INT2, /* 2 slots */
    VESTIGE_INTS, /* count and up to 8 values, 9 slots; count -1: absent */
    VESTIGE_DIM,  /* 1 slot, counts from 0, negative from the end; NaN: absent */
    VESTIGE_DIMS, /* as INTS */
    VESTIGE_POSITION,
    VESTIGE_SIZE,  /* as INTS */
    VESTIGE_FLOAT, /* 1 slot; NaN: absent */
    VESTIGE_BOOLEAN,
    VESTIGE_ENUM, /* 1 slot: index into choices */
    VESTIGE_DTYPE /* 1 slot: a vestige_dtype; -1: absent */
};
enum vestige_param_flag {
    VESTIGE_OPTIONAL = 1, /* may be absent */
    VESTIGE_NUMBER = 2,   /* a tensor or a number */
    VESTIGE_INPLACE = 4   /* changed in place, and returned */
};
typedef struct vestige_param {
    char name[24];
    char type[16];    /* the constraint on element types, as written: float, f64, int, ... */
    char choices[96]; /* of an enum, as written: a|b|c */
    char preset[24];  /* the default as written, empty when required */
    int32_t kind, flags, slot, width;
} vestige_param;

enum vestige_op_flag {
    VESTIGE_OP_RANDOM = 1,
    VESTIGE_OP_SYNC = 2,           /* the size of the result depends on data */
    VESTIGE_OP_DIFFERENTIABLE = 4, /* has a gradient rule */
    VESTIGE_OP_HIDDEN = 8          /* serves other rows; not offered as a function */
};
typedef struct vestige_op {
    const char *name, *in, *out, *opts, *doc;
    int32_t nin, nout, nopt, nslot, flags;
    const vestige_param *ins, *outs, *options;
    const double *presets; /* the slots of a call without options; NaN where one is required */
    double domain[2];      /* where tests draw the inputs from */
} vestige_op;

VESTIGE_API int vestige_op_count(void);
VESTIGE_API int vestige_op_find(const char *name); /* its number, or -1 */
VESTIGE_API const vestige_op *vestige_op_row(int op);
/* Which kernel serves an operator: "ref", "v2", "v3", ... or NULL when there is none. */
VESTIGE_API const char *vestige_kernel_level(int op, int device, int dtype);

typedef struct vestige_call {
    int32_t op, nin, nout;
    int32_t device;            /* for operators without tensor inputs */
    const vestige_tensor **in; /* nin of them, lists flattened; NULL: absent, or a number */
    const double *num;         /* where in[i] is a number; may be NULL when there is none */
    const int32_t *len;        /* the length of each list input, in order */
    const double *opt;         /* the row's slots; NULL: all defaults */
    vestige_tensor *out[4];    /* one for each output; in-place results are not written */
} vestige_call;

VESTIGE_API int vestige_run(vestige_call *call);
/* The same without options, for one output: the short ways that small operators take. */
VESTIGE_API int vestige_run1(int op, vestige_tensor *out, const vestige_tensor *a);
VESTIGE_API int vestige_run2(int op, vestige_tensor *out, const vestige_tensor *a,
                             const vestige_tensor *b);
VESTIGE_API int vestige_run2n(int op, vestige_tensor *out, const vestige_tensor *a, double b);
VESTIGE_API int vestige_runn2(int op, vestige_tensor *out, double a, const vestige_tensor *b);

/* ---- Gradients ------------------------------------------------------------------------------- */
VESTIGE_API int vestige_requires_grad(const vestige_tensor *t, int on);
VESTIGE_API int vestige_grad_mode(int on); /* returns the mode before */
VESTIGE_API int vestige_grad_enabled(void);
/* Products run in a type, VESTIGE_BF16 or -1 for that of their inputs, and sums in f32; weights
 * are cast once until it is set to -1. Returns what was set before. A gradient rule runs as its
 * operator did. */
VESTIGE_API int vestige_autocast(int dtype);
/* The same elements without history. */
VESTIGE_API int vestige_detach(vestige_tensor *out, const vestige_tensor *t);
/* .grad: out is empty (its _p NULL) when there is none; set with NULL removes it. */
VESTIGE_API int vestige_grad_get(vestige_tensor *out, const vestige_tensor *t);
VESTIGE_API int vestige_grad_set(const vestige_tensor *t, const vestige_tensor *g);

/* A walk from outputs back to inputs. It runs until it is done or stands before a rule that lives
 * outside C: then vestige_walk_run returns NEEDS_LUA, vestige_walk_lua says which, the caller hands
 * the gradients back with vestige_walk_answer and calls vestige_walk_run again. */
typedef struct vestige_walk vestige_walk;
enum vestige_walk_flag {
    VESTIGE_CREATE_GRAPH = 1,
    VESTIGE_RETAIN_GRAPH = 2,
    VESTIGE_ALLOW_UNUSED = 4,
    VESTIGE_ACCUMULATE = 8 /* add into .grad of the leaves; inputs are not given */
};
VESTIGE_API int vestige_walk_new(vestige_walk **walk, int nout, const vestige_tensor **outs,
                                 const vestige_tensor **grad_outs, int nin,
                                 const vestige_tensor **ins, int flags);
/* A walk to the edges of the outside node `id` (a checkpoint's replay). */
VESTIGE_API int vestige_walk_new_edges(vestige_walk **walk, int nout, const vestige_tensor **outs,
                                       const vestige_tensor **grad_outs, int64_t id, int flags);
VESTIGE_API int vestige_walk_run(vestige_walk *walk);
/* Gradient of input i after the walk is done; its _p is NULL where nothing arrived. */
VESTIGE_API int vestige_walk_result(vestige_walk *walk, int i, vestige_tensor *out);
VESTIGE_API void vestige_walk_free(vestige_walk *walk);

typedef struct vestige_walk_stop {
    int32_t kind; /* 1: an outside node's rule; 2: a hook on an output's gradient */
    int32_t nin, nout, nsaved;
    int64_t id; /* of the node, or of the hook */
} vestige_walk_stop;
VESTIGE_API int vestige_walk_lua(vestige_walk *walk, vestige_walk_stop *stop);
/* At a stop: the gradient of output i, the saved tensor i, whether input i's gradient is wanted. */
VESTIGE_API int vestige_walk_gradient(vestige_walk *walk, int i, vestige_tensor *out);
VESTIGE_API int vestige_walk_saved(vestige_walk *walk, int i, vestige_tensor *out);
VESTIGE_API int vestige_walk_needs(vestige_walk *walk, int i);
VESTIGE_API int vestige_walk_answer(vestige_walk *walk, int n, const vestige_tensor **grads);

/* Makes `outs` the results of an outside node whose rule the caller runs when a walk stops there.
 * `saved` tensors are held by the node. *id is its number, never used twice. */
VESTIGE_API int vestige_custom(int nin, const vestige_tensor **ins, int nout,
                               const vestige_tensor **outs, int nsaved,
                               const vestige_tensor **saved, int64_t *id);
/* The same with the edges that the graph of outs reached beyond `since` (vestige_tape_mark); each
 * of outs gets the new node instead of its own. The number of edges is returned. */
VESTIGE_API int vestige_custom_edges(uint64_t since, int nout, const vestige_tensor **outs,
                                     int nsaved, const vestige_tensor **saved, int64_t *id);
VESTIGE_API int vestige_custom_edge_count(int64_t id);
VESTIGE_API uint64_t vestige_tape_mark(void);
/* The number of a node that died since the last call, or -1. */
VESTIGE_API int64_t vestige_custom_dead(void);
/* A hook on t's gradient; *id names it. */
VESTIGE_API int vestige_hook(const vestige_tensor *t, int64_t *id);
VESTIGE_API int vestige_unhook(const vestige_tensor *t, int64_t id);

/* ---- Memory, random state, threads, interrupts ------------------------------------------------
 */
typedef struct vestige_memory_info {
    int64_t live, peak, cached, limit;
    int64_t kept; /* of live: forms of weights that wait to be used again */
    int64_t tensors, roots, nodes;
    int64_t allocations; /* asked for since the start, those from the cache too */
} vestige_memory_info;
VESTIGE_API int vestige_memory(vestige_memory_info *info);
VESTIGE_API int vestige_reset_peak(void);
/* Gives what is cached back to the system, kept forms of weights too. */
VESTIGE_API int vestige_empty_cache(void);
/* At most so many bytes of forms of weights are kept, such as those that Winograd's convolutions
 * make, from the second time on that weights are used without having changed; 0: none, below 0:
 * as before. Returns what was set before. Results are the same. */
VESTIGE_API int64_t vestige_weight_cache(int64_t bytes);
/* Past these many live bytes or root handles a new root answers COLLECT. */
VESTIGE_API int vestige_memory_limit(int64_t bytes, int64_t roots);
/* Allocations above this many live bytes fail; 0: no cap. */
VESTIGE_API int vestige_memory_cap(int64_t bytes);
/* The n-th allocation from now fails (1: the next); 0: none. For tests. */
VESTIGE_API int vestige_fail_allocation(int64_t n);

/* Philox streams. The current stream is what random operators draw from. */
typedef struct vestige_stream {
    uint64_t key, offset;
} vestige_stream;
VESTIGE_API uint64_t vestige_stream_key(uint64_t seed, const char *name);
VESTIGE_API int vestige_stream_get(vestige_stream *s);
VESTIGE_API int vestige_stream_set(const vestige_stream *s);
/* One block of four words at (key, counter): the generator itself, for checks. */
VESTIGE_API void vestige_philox(uint32_t word[4], const uint32_t counter[4], const uint32_t key[2]);

VESTIGE_API int vestige_threads(void);
VESTIGE_API int vestige_set_threads(int n);

VESTIGE_API void vestige_interrupt(void); /* safe in a signal handler */
VESTIGE_API void vestige_clear_interrupt(void);
VESTIGE_API int vestige_interrupt_pending(void);

/* What was built and chosen: version, processor level, convolutions, BLAS, as lines of
 * "name: value". */
VESTIGE_API const char *vestige_build_info(void);

/* ---- Files -----------------------------------------------------------------------------------
 * Readers make tensors on the cpu device; every size is checked before memory is asked for, and an
 * error (EIO) names the file and the field. Only regular files are read, with read calls and never
 * mapped. A writer fills a file of another name, syncs it and renames it over the old one.
 * Images are N,H,W,C in memory. VESTIGE_NCHW: a 4-D tensor lies in the file as N,C,H,W, and a
 * convolution's weight out,kh,kw,in as out,in,kh,kw (the same exchange). */
enum vestige_layout { VESTIGE_MEMORY, VESTIGE_NCHW };

/* safetensors: an open file, whose whole header was checked, and its entries sorted by name. */
typedef struct vestige_safetensors vestige_safetensors;
typedef struct vestige_entry {
    const char *name; /* lives as long as the open file */
    char type[16];    /* as written in the file: F32, F16, ... */
    int32_t dtype;    /* of the tensor that reading it gives (F16 gives f32); -1: none */
    int32_t ndim;
    int64_t dim[8];
    int64_t bytes; /* in the file */
} vestige_entry;
VESTIGE_API int vestige_safetensors_open(vestige_safetensors **out, const char *path);
VESTIGE_API int vestige_safetensors_count(const vestige_safetensors *f);
/* Entry i, or EVALUE past the end. */
VESTIGE_API int vestige_safetensors_entry(const vestige_safetensors *f, int i, vestige_entry *e);
/* Pair i of the file's metadata, or EVALUE past the end. */
VESTIGE_API int vestige_safetensors_metadata(const vestige_safetensors *f, int i, const char **key,
                                             const char **value);
VESTIGE_API int vestige_safetensors_read(vestige_tensor *out, const vestige_safetensors *f, int i,
                                         int layout);
VESTIGE_API void vestige_safetensors_close(vestige_safetensors *f); /* NULL: nothing */
/* Writes n tensors under their names. layout: one for each, or NULL for all as in memory. */
VESTIGE_API int vestige_safetensors_write(const char *path, int n, const char *const *names,
                                          const vestige_tensor *const *tensors,
                                          const int32_t *layout, int nmeta, const char *const *keys,
                                          const char *const *values);

/* PNG and JPEG to u8 (H,W,C). channels: 1 to 4, or 0 for as many as the image has. */
VESTIGE_API int vestige_image_read(vestige_tensor *out, const char *path, int channels);
VESTIGE_API int vestige_image_decode(vestige_tensor *out, const void *data, int64_t bytes,
                                     int channels);
/* n images of one size to u8 (n,H,W,C), decoded on `workers` threads (0: one a core). */
VESTIGE_API int vestige_image_read_all(vestige_tensor *out, int n, const char *const *paths,
                                       int channels, int workers);
/* PNG from (H,W) or (H,W,C) with 1 to 4 channels: u8, or a float type in [0,1] (clamped). */
VESTIGE_API int vestige_image_write(const char *path, const vestige_tensor *t);
/* The same as bytes: a u8 tensor of one dimension. */
VESTIGE_API int vestige_image_encode(vestige_tensor *out, const vestige_tensor *t);

/* CIFAR-10's binary files, one after the other: u8 (N,32,32,3) and i64 (N). */
VESTIGE_API int vestige_cifar_read(vestige_tensor *images, vestige_tensor *labels, int n,
                                   const char *const *paths);
/* An IDX file, gzipped or not. Type 0x08 gives u8, 0x09 (signed bytes), 0x0B (16 bits) and 0x0C
 * i32, 0x0D f32, 0x0E f64. */
VESTIGE_API int vestige_idx_read(vestige_tensor *out, const char *path);
/* Numbers, comma-separated (or by another `separator`), to f64 (rows,columns); *names gets the
 * header's fields as u8, each ended by a zero byte, none without a header. header: 1 the first line
 * is one, 0 it is not, -1 it is when none of its fields is a number. */
VESTIGE_API int vestige_csv_read(vestige_tensor *out, vestige_tensor *names, const char *path,
                                 int header, int separator);

/* ---- Profile --------------------------------------------------------------------------------- */
typedef struct vestige_profile_row {
    int32_t op, dtype, device;
    int64_t count;
    double seconds, bytes, flops;
} vestige_profile_row;
/* On (1) clears the table, off (0) leaves it, -1 changes nothing; returns whether it was on. */
VESTIGE_API int vestige_profile(int on);
/* Row i of the table, or EVALUE past its end. */
VESTIGE_API int vestige_profile_get(int i, vestige_profile_row *row);

/* ---- Loader ----------------------------------------------------------------------------------
 * Batches of one column of a data set, made ahead by threads of the loader's own, which never
 * compute. Bytes come out as f32 in [0,1] (value / 255), other types as they are. Images (N,H,W,C)
 * can be moved at random: the draws count by (key, epoch, id), so the same bits come out for any
 * number of threads. The loader copies the column. */
typedef struct vestige_loader vestige_loader;
typedef struct vestige_pass {
    int64_t count;       /* of rows */
    const int64_t *rows; /* which, counted from 0, in the order wanted; copied */
    const int64_t *ids;  /* their samples' ids; NULL: the rows' numbers */
    int64_t batch;       /* rows a batch; the last has what is left */
    uint64_t key;        /* of the stream that draws (vestige_stream_key) */
    int64_t epoch;
    int32_t crop; /* padded by so many zero pixels and cut back at random; 0: off */
    int32_t flip; /* left and right change places for half the images */
    double shift; /* moved by up to so many pixels, bilinear, zeros outside; 0: off */
} vestige_pass;
/* threads 0: vestige_loader_next makes the batch itself. */
VESTIGE_API int vestige_loader_new(vestige_loader **loader, const vestige_tensor *x, int threads);
/* Begins a pass; one that is running ends. After a failure there is none. */
VESTIGE_API int vestige_loader_start(vestige_loader *loader, const vestige_pass *pass);
/* The next batch; out is empty (its _p NULL) when the pass is over. */
VESTIGE_API int vestige_loader_next(vestige_loader *loader, vestige_tensor *out);
VESTIGE_API void vestige_loader_free(vestige_loader *loader); /* NULL: nothing */

#endif
