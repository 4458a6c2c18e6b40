/* file.c: opening, reading and replacing files, and how their names look in messages. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "io/io.h"

const char *source_error(int error) {
    if (error == -1)
        return "not a regular file";
    const char *text = strerrordesc_np(error); /* strerror is not for threads */
    return text ? text : "unknown error";
}

int source_open_quiet(source *s, const char *path) {
    /* O_NONBLOCK: opening a pipe would wait for its writer. */
    *s = (source){ .path = path, .fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK) };
    if (s->fd < 0)
        return errno;
    struct stat st;
    int error = fstat(s->fd, &st) != 0 ? errno
                : S_ISDIR(st.st_mode)  ? EISDIR
                : S_ISREG(st.st_mode)  ? 0
                                       : -1;
    if (error) {
        source_close(s);
        return error;
    }
    s->size = st.st_size;
    return 0;
}

int source_open(source *s, const char *path) {
    int error = source_open_quiet(s, path);
    if (error)
        return fail(VESTIGE_EIO, "%s: cannot read: %s", path, source_error(error));
    return VESTIGE_OK;
}

void source_close(source *s) {
    if (s->fd >= 0)
        close(s->fd);
    s->fd = -1;
}

int source_read_quiet(int fd, void *dst, int64_t bytes, int64_t offset) {
    char *at = dst;
    while (bytes > 0) {
        ssize_t n = pread(fd, at, (size_t)(bytes < 1 << 30 ? bytes : 1 << 30), offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno;
        if (n == 0)
            return -1;
        at += n;
        offset += n;
        bytes -= n;
    }
    return 0;
}

int source_read(const source *s, void *dst, int64_t bytes, int64_t offset, const char *what) {
    int error = source_read_quiet(s->fd, dst, bytes, offset);
    if (error == -1)
        return fail(VESTIGE_EIO, "%s: truncated: the file ends inside %s (bytes %lld to %lld)",
                    s->path, what, (long long)offset, (long long)(offset + bytes));
    if (error)
        return fail(VESTIGE_EIO, "%s: cannot read %s: %s", s->path, what, source_error(error));
    return VESTIGE_OK;
}

static int folder_length(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? (int)(slash - path) + 1 : 0;
}

int sink_open(sink *s, const char *path) {
    int folder = folder_length(path);
    *s = (sink){ .path = path, .fd = -1, .room = (size_t)folder + 64 };
    if (!path[folder])
        return fail(VESTIGE_EIO, "%s: cannot write: expected the name of a file", path);
    s->temporary = block_alloc(s->room);
    if (!s->temporary)
        return error_pending();
    static unsigned count;
    int error = EEXIST;
    for (int tries = 0; error == EEXIST && tries < 100; tries++) {
        snprintf(s->temporary, s->room, "%.*s.vestige-%ld-%u.tmp", folder, path, (long)getpid(),
                 count++);
        s->fd = open(s->temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        error = s->fd < 0 ? errno : 0;
    }
    if (error) {
        fail(VESTIGE_EIO, "%s: cannot create a file in '%.*s': %s", path, folder ? folder : 1,
             folder ? path : ".", source_error(error));
        sink_abort(s);
        return error_pending();
    }
    return VESTIGE_OK;
}

int sink_write(sink *s, const void *data, int64_t bytes) {
    const char *at = data;
    while (bytes > 0) {
        ssize_t n = write(s->fd, at, (size_t)(bytes < 1 << 30 ? bytes : 1 << 30));
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return fail(VESTIGE_EIO, "%s: cannot write: %s", s->path,
                        source_error(n < 0 ? errno : ENOSPC));
        at += n;
        bytes -= n;
    }
    return VESTIGE_OK;
}

void sink_abort(sink *s) {
    if (s->fd >= 0) {
        close(s->fd);
        unlink(s->temporary);
    }
    s->fd = -1;
    block_free(s->temporary, s->room);
    s->temporary = NULL;
}

/* The new name is safe on disk once its folder is; some file systems cannot sync a folder. */
static void sync_folder(const char *path) {
    char folder[4096];
    int n = folder_length(path);
    if (n >= (int)sizeof folder)
        return;
    snprintf(folder, sizeof folder, "%.*s", n ? n : 1, n ? path : ".");
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return;
    (void)fsync(fd);
    close(fd);
}

int sink_commit(sink *s) {
    int error = fsync(s->fd) != 0 ? errno : 0;
    int fd = s->fd;
    s->fd = -1;
    if (close(fd) != 0 && !error)
        error = errno;
    if (!error && rename(s->temporary, s->path) != 0)
        error = errno;
    if (error) {
        unlink(s->temporary);
        fail(VESTIGE_EIO, "%s: cannot write: %s", s->path, source_error(error));
        sink_abort(s);
        return error_pending();
    }
    sync_folder(s->path);
    sink_abort(s);
    return VESTIGE_OK;
}

const char *shown(const char *name) {
    static char text[8][72];
    static unsigned turn;
    char *to = text[turn++ % 8];
    size_t n = 0;
    for (; n < 64 && name[n]; n++)
        to[n] = (unsigned char)name[n] < 32 || name[n] == 127 ? '?' : name[n];
    if (name[n]) {
        while (n > 0 && ((unsigned char)name[n] & 0xC0) == 0x80)
            n--; /* not inside a character */
        memcpy(to + n, "...", 3);
        n += 3;
    }
    to[n] = 0;
    return to;
}

int hand_out_both(vestige_tensor *ha, T a, vestige_tensor *hb, T b) {
    int first = handle_out(ha, a);
    if (first < 0) {
        tensor_unref(b);
        return first;
    }
    int second = handle_out(hb, b);
    if (second < 0) {
        vestige_tensor gone = *ha;
        int status = error_pending();
        vestige_release(&gone); /* clears the error, whose text stays */
        *ha = (vestige_tensor){ 0 };
        return status;
    }
    return first > second ? first : second;
}
