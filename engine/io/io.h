/* io.h: what the readers and writers of files share. Start with source and sink. */
#ifndef VESTIGE_IO_H
#define VESTIGE_IO_H

#include "core/core.h"

/* ---- Reading: one regular file. ---- */
typedef struct source {
    const char *path; /* the caller's */
    int fd;
    int64_t size;
} source;

int source_open(source *s, const char *path);
void source_close(source *s);
/* Exactly `bytes` bytes from `offset` on; `what` says what they are when the file ends before. */
int source_read(const source *s, void *dst, int64_t bytes, int64_t offset, const char *what);
/* The same without engine state, for worker threads: 0, or an error number (-1: ended early). */
int source_read_quiet(int fd, void *dst, int64_t bytes, int64_t offset);
/* Opens quietly: 0, or an error number (-1: not a regular file). */
int source_open_quiet(source *s, const char *path);
const char *source_error(int error);

/* ---- Writing: a file that replaces the old one at commit, or leaves no trace. ---- */
typedef struct sink {
    const char *path; /* the caller's */
    char *temporary;
    size_t room;
    int fd;
} sink;

int sink_open(sink *s, const char *path);
int sink_write(sink *s, const void *data, int64_t bytes);
/* Syncs and renames; on failure the temporary file is removed. */
int sink_commit(sink *s);
void sink_abort(sink *s);

/* A name from a file, fit for a message: shortened, control characters replaced. In one of eight
 * rotating buffers. */
const char *shown(const char *name);

/* Gives two new tensors to the caller's handles: both or none. */
int hand_out_both(vestige_tensor *ha, T a, vestige_tensor *hb, T b);

/* ---- Layout ---- */
/* n matrices of (rows,columns) elements of `size` bytes, each transposed. */
void transpose_all(void *dst, const void *src, int64_t n, int64_t rows, int64_t columns, int size);
void half_to_float(float *dst, const uint16_t *src, int64_t n);

enum { IO_CHUNK = 1 << 20 }; /* bytes that go through a scratch buffer at a time */

#endif
