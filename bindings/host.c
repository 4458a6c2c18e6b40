/* The Lua module `vestige.host`: what the Lua half of the program needs from C. It exists only
 * inside the program; code that also runs under a stock luajit asks pcall(require, 'vestige.host').
 *
 *   version, program           strings: the version, the path of the executable
 *   run(mode, f, handler, ...) a protected call that Ctrl-C ends (signals.c)
 *   engine()                   the engine's library has been loaded: Ctrl-C reaches it too
 *   hold(), release()          between them Ctrl-C only sets pending(): a trainer finishes its
 *                              step, writes its checkpoint, then releases, which raises
 *   pending(), interrupted()   Ctrl-C waits; Ctrl-C came since the run began
 *   read(prompt, completer)    a line from the terminal (edit.c)
 *   remember(line)             a line for the arrow keys
 *   columns(), terminal(fd)    the width of the terminal; whether fd is one
 *   list(folder)               its entries without the hidden ones, sorted; nil if unreadable
 *   private_folder(path)       makes path and what is above it, mode 0700; true | nil, message
 *   append_private(path, text) appends to a file that is made with mode 0600; true | nil, message
 *   write_private(path, text)  the same, replacing what was there */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <lauxlib.h>
#include <lua.h>

#include "program.h"

#ifndef VESTIGE_VERSION
#define VESTIGE_VERSION "0.1.0"
#endif

static int columns(lua_State *L) {
    lua_pushinteger(L, terminal_columns());
    return 1;
}

static int terminal(lua_State *L) {
    lua_pushboolean(L, isatty((int)luaL_checkinteger(L, 1)));
    return 1;
}

static int by_name(const struct dirent **a, const struct dirent **b) {
    return strcmp((*a)->d_name, (*b)->d_name);
}

static int visible(const struct dirent *entry) {
    return entry->d_name[0] != '.';
}

static int list(lua_State *L) {
    struct dirent **entries;
    int count = scandir(luaL_checkstring(L, 1), &entries, visible, by_name);
    if (count < 0)
        return 0;
    lua_createtable(L, count, 0);
    for (int i = 0; i < count; i++) {
        lua_pushstring(L, entries[i]->d_name);
        lua_rawseti(L, -2, i + 1);
        free(entries[i]);
    }
    free(entries);
    return 1;
}

static int outcome(lua_State *L, bool ok, const char *path) {
    if (ok) {
        lua_pushboolean(L, 1);
        return 1;
    }
    int code = errno;
    lua_pushnil(L);
    lua_pushfstring(L, "%s: %s", path, strerror(code));
    return 2;
}

static int private_folder(lua_State *L) {
    const char *path = luaL_checkstring(L, 1);
    char partial[PATH_MAX];
    size_t length = strlen(path);
    if (length >= sizeof partial) {
        errno = ENAMETOOLONG;
        return outcome(L, false, path);
    }
    for (size_t i = 1; i <= length; i++) {
        if (path[i] != '/' && path[i] != '\0')
            continue;
        memcpy(partial, path, i);
        partial[i] = '\0';
        if (mkdir(partial, 0700) < 0 && errno != EEXIST)
            return outcome(L, false, partial);
    }
    struct stat info;
    bool folder = stat(path, &info) == 0;
    if (folder && !S_ISDIR(info.st_mode)) {
        errno = ENOTDIR;
        folder = false;
    }
    return outcome(L, folder, path);
}

static int put_private(lua_State *L, int flags) {
    const char *path = luaL_checkstring(L, 1);
    size_t left;
    const char *text = luaL_checklstring(L, 2, &left);
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | flags, 0600);
    bool ok = fd >= 0;
    while (ok && left > 0) {
        ssize_t n = write(fd, text, left);
        if (n < 0 && errno == EINTR)
            continue;
        ok = n > 0;
        if (ok) {
            text += n;
            left -= (size_t)n;
        }
    }
    int code = errno;
    if (fd >= 0)
        close(fd);
    errno = code;
    return outcome(L, ok, path);
}

static int append_private(lua_State *L) {
    return put_private(L, O_APPEND);
}

static int write_private(lua_State *L) {
    return put_private(L, O_TRUNC);
}

int host_open(lua_State *L) {
    static const luaL_Reg functions[] = {
        { "run", signals_run },
        { "engine", signals_engine },
        { "hold", signals_hold },
        { "release", signals_release },
        { "pending", signals_pending },
        { "interrupted", signals_interrupted },
        { "read", edit_read },
        { "remember", edit_remember },
        { "columns", columns },
        { "terminal", terminal },
        { "list", list },
        { "private_folder", private_folder },
        { "append_private", append_private },
        { "write_private", write_private },
        { NULL, NULL },
    };
    lua_newtable(L);
    luaL_register(L, NULL, functions);
    lua_pushliteral(L, VESTIGE_VERSION);
    lua_setfield(L, -2, "version");
    lua_getfield(L, LUA_REGISTRYINDEX, "vestige.program");
    lua_setfield(L, -2, "program");
    return 1;
}
