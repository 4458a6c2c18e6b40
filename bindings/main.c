/* The program `vestige`: a LuaJIT state that finds the engine's Lua files beside itself. What it
 * does with its arguments is in lua/vestige/program.lua. */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>

#include "program.h"

/* Many distinct loops stay compiled: with LuaJIT's defaults 600 of them flush the code cache. */
static const char jit_options[] =
    "require('jit.opt').start('maxtrace=10000', 'maxmcode=65536', 'sizemcode=256')";

/* The folder of the executable, without its last slash; "." if it cannot be told. */
static void program_folder(char path[PATH_MAX], char folder[PATH_MAX]) {
    ssize_t n = readlink("/proc/self/exe", path, PATH_MAX - 1);
    path[n > 0 ? n : 0] = '\0';
    strcpy(folder, path);
    char *slash = strrchr(folder, '/');
    if (slash)
        *slash = '\0';
    else
        strcpy(folder, ".");
}

/* Puts our folders before package.path: those of the source and the build when the executable
 * stands in its build folder, those of its own prefix anywhere else. */
static void set_path(lua_State *L) {
    char path[PATH_MAX], folder[PATH_MAX], build[PATH_MAX];
    program_folder(path, folder);
    lua_pushstring(L, path);
    lua_setfield(L, LUA_REGISTRYINDEX, "vestige.program");
    lua_getglobal(L, "package");
    if (realpath(VESTIGE_BINARY_DIR, build) && strcmp(build, folder) == 0)
        lua_pushfstring(L,
                        "%s/lua/?.lua;%s/lua/?/init.lua;%s/bindings/lua/?.lua;"
                        "%s/bindings/lua/?/init.lua;%s/lua/?.lua;%s/lua/?/init.lua;",
                        VESTIGE_SOURCE_DIR, VESTIGE_SOURCE_DIR, VESTIGE_SOURCE_DIR,
                        VESTIGE_SOURCE_DIR, build, build);
    else
        lua_pushfstring(L, "%s/../share/lua/5.1/?.lua;%s/../share/lua/5.1/?/init.lua;", folder,
                        folder);
    lua_getfield(L, -2, "path");
    lua_concat(L, 2);
    lua_setfield(L, -2, "path");
    lua_getfield(L, -1, "preload");
    lua_pushcfunction(L, host_open);
    lua_setfield(L, -2, "vestige.host");
    lua_pop(L, 2);
}

struct arguments {
    int argc;
    char **argv;
    int status;
};

static int protected_main(lua_State *L) {
    struct arguments *a = lua_touserdata(L, 1);
    lua_gc(L, LUA_GCSTOP, 0);
    luaL_openlibs(L);
    lua_gc(L, LUA_GCRESTART, 0);
    if (luaL_dostring(L, jit_options) != 0)
        return lua_error(L);
    set_path(L);
    signals_init(L);
    lua_getglobal(L, "require");
    lua_pushliteral(L, "vestige.program");
    lua_call(L, 1, 1);
    lua_getfield(L, -1, "main");
    lua_createtable(L, a->argc, 1);
    for (int i = 0; i < a->argc; i++) {
        lua_pushstring(L, a->argv[i]);
        lua_rawseti(L, -2, i);
    }
    lua_call(L, 1, 1);
    a->status = (int)lua_tointeger(L, -1);
    return 0;
}

int main(int argc, char **argv) {
    struct arguments a = { argc, argv, 1 };
    lua_State *L = luaL_newstate();
    if (!L) {
        fputs("vestige: not enough memory for a Lua state\n", stderr);
        return 1;
    }
    if (lua_cpcall(L, protected_main, &a) != 0) {
        const char *message = lua_tostring(L, -1);
        fprintf(stderr, "vestige: %s\n", message ? message : "the error is not a string");
        a.status = 1;
    }
    edit_close();
    lua_close(L);
    return a.status;
}
