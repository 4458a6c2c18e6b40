/* What the files of the program share. The program owns the Lua state: it alone calls Lua from C
 * and sets hooks; the engine's library does neither.
 *
 * main.c     state, package.path, hand over to vestige/program.lua
 * host.c     the Lua module `vestige.host`: what the Lua half of the program needs from C
 * signals.c  Ctrl-C and its kin, protected runs that Ctrl-C ends
 * edit.c     one line from the terminal: libedit, completion by Tab, history */
#ifndef VESTIGE_PROGRAM_H
#define VESTIGE_PROGRAM_H

#include <lua.h>

/* What Ctrl-C means depends on what is running. */
enum run_mode {
    MODE_START,  /* nothing yet, or nothing any more: exit 130 */
    MODE_SCRIPT, /* a script or a subcommand: raise "interrupted", the second time exit 130 */
    MODE_CHUNK,  /* a chunk typed at the prompt: raise "interrupted", back to the prompt */
    MODE_PROMPT, /* a line is being typed: wake the reader, which drops the line */
};

/* Installs the handlers for `L`; the calling thread is the one that Lua runs in. */
void signals_init(lua_State *L);

/* From here until signals_leave_prompt, signals come as bytes through the file descriptor
 * returned, so that a reader can poll it beside its input. A Ctrl-C between two lines waits there
 * for the next; signals_end_prompt ends that. */
int signals_enter_prompt(void);
void signals_leave_prompt(void);
void signals_end_prompt(void);

/* Stops the process the way the terminal's Ctrl-Z does; returns when it is continued. */
void signals_suspend(void);

/* Ends the process by `sig` with its default action. */
void signals_die(int sig);

/* Lua: run(mode, f, handler, ...) -> true, results... | false, handler(message). */
int signals_run(lua_State *L);
/* Lua: engine(): see host.c. */
int signals_engine(lua_State *L);
/* Lua: hold(), release(), pending(), interrupted(): see host.c. */
int signals_hold(lua_State *L);
int signals_release(lua_State *L);
int signals_pending(lua_State *L);
int signals_interrupted(lua_State *L);

/* Lua: read(prompt, completer) -> line | nil, "eof" | nil, "interrupt" | nil, message. */
int edit_read(lua_State *L);
/* Lua: remember(line): puts a line in the history that the arrow keys walk. */
int edit_remember(lua_State *L);
/* Puts the terminal back as libedit found it and frees the editor. Safe to call twice. */
void edit_close(void);

/* Columns of the terminal on standard output, or of COLUMNS, or 80. */
int terminal_columns(void);

int host_open(lua_State *L);

#endif
