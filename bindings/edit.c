/* One line from the terminal: libedit when there is one, a plain reader otherwise (a pipe, a dumb
 * terminal). libedit's own signal handling is off: every signal comes through a pipe that the
 * reader polls beside its input, so nothing is done inside a handler. Start with edit_read. */
#include <errno.h>
#include <fcntl.h>
#include <histedit.h>
#include <langinfo.h>
#include <locale.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <wchar.h>

#include <lauxlib.h>
#include <lua.h>

#include "program.h"

enum { HISTORY_LINES = 5000 };

static EditLine *editor;
static History *past;
static int wake_fd = -1;
static int input_fd = STDIN_FILENO; /* of next_byte */
static bool interrupted;            /* Ctrl-C came while this line was typed */
static const char *prompt_text = "";
static lua_State *completer_state; /* the completer is at index 2 of its stack; NULL: none */

int terminal_columns(void) {
    struct winsize size;
    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0)
        return size.ws_col;
    const char *columns = getenv("COLUMNS");
    int n = columns ? atoi(columns) : 0;
    return n > 0 ? n : 80;
}

/* Waits for a byte of input and takes it; meanwhile acts on signals. Returns 1, 0 at the end of
 * the input, -1 with errno on an error and with `interrupted` set on Ctrl-C. */
static int next_byte(char *byte) {
    for (;;) {
        struct pollfd fds[2] = { { input_fd, POLLIN, 0 }, { wake_fd, POLLIN, 0 } };
        if (poll(fds, 2, -1) < 0) {
            if (errno == EINTR)
                continue;
            return -1;
        }
        char sig;
        if (fds[1].revents && read(wake_fd, &sig, 1) == 1) {
            switch (sig) {
            case SIGINT:
                interrupted = true;
                errno = EINTR;
                return -1;
            case SIGWINCH:
                if (editor)
                    el_resize(editor);
                break;
            case SIGTSTP:
                if (editor)
                    el_set(editor, EL_PREP_TERM, 0);
                signals_suspend();
                if (editor) {
                    el_set(editor, EL_PREP_TERM, 1);
                    el_resize(editor);
                    el_set(editor, EL_REFRESH);
                }
                break;
            default:
                if (editor)
                    el_set(editor, EL_PREP_TERM, 0);
                signals_die(sig);
            }
            continue;
        }
        if (fds[0].revents) {
            ssize_t n = read(input_fd, byte, 1);
            if (n >= 0)
                return (int)n;
            if (errno != EINTR && errno != EAGAIN)
                return -1;
        }
    }
}

/* libedit's reader of one character. A byte that is no UTF-8 is dropped. */
static int next_char(EditLine *el, wchar_t *out) {
    (void)el;
    mbstate_t part = { 0 };
    for (;;) {
        char byte;
        int n = next_byte(&byte);
        if (n != 1)
            return n;
        size_t used = mbrtowc(out, &byte, 1, &part);
        if (used == (size_t)-1)
            memset(&part, 0, sizeof part);
        else if (used != (size_t)-2)
            return 1;
    }
}

static char *prompt_now(EditLine *el) {
    (void)el;
    return (char *)prompt_text;
}

static int utf8_width(const char *s) {
    int n = 0;
    for (; *s; s++)
        n += ((unsigned char)*s & 0xC0) != 0x80;
    return n;
}

/* Prints the names in the table on top of the stack in columns, downwards as ls does. */
static void list_names(lua_State *L) {
    int count = (int)lua_objlen(L, -1), widest = 1;
    for (int i = 1; i <= count; i++) {
        lua_rawgeti(L, -1, i);
        const char *name = lua_tostring(L, -1);
        int width = name ? utf8_width(name) : 0;
        widest = width > widest ? width : widest;
        lua_pop(L, 1);
    }
    int columns = terminal_columns() / (widest + 2);
    columns = columns < 1 ? 1 : columns;
    int rows = (count + columns - 1) / columns;
    putchar('\n');
    for (int y = 0; y < rows; y++) {
        for (int x = 0; x < columns && x * rows + y < count; x++) {
            lua_rawgeti(L, -1, x * rows + y + 1);
            const char *name = lua_tostring(L, -1);
            bool last = (x + 1) * rows + y >= count || x + 1 == columns;
            fputs(name ? name : "", stdout);
            for (int pad = last ? 0 : widest + 2 - utf8_width(name ? name : ""); pad > 0; pad--)
                putchar(' ');
            lua_pop(L, 1);
        }
        putchar('\n');
    }
    fflush(stdout);
}

/* Tab: the completer gets the line up to the cursor and gives what to insert and, when the choice
 * is open, the names to show. An error in it is silent: a line is being typed. */
static unsigned char complete(EditLine *el, int key) {
    (void)key;
    lua_State *L = completer_state;
    if (!L)
        return CC_ERROR;
    const LineInfo *line = el_line(el);
    int top = lua_gettop(L);
    unsigned char result = CC_ERROR;
    lua_pushvalue(L, 2);
    lua_pushlstring(L, line->buffer, (size_t)(line->cursor - line->buffer));
    if (lua_pcall(L, 1, 2, 0) == 0) {
        const char *insert = lua_tostring(L, -2);
        if (insert && *insert)
            result = el_insertstr(el, insert) == 0 ? CC_REFRESH : CC_ERROR;
        if (lua_istable(L, -1) && lua_objlen(L, -1) > 0) {
            list_names(L);
            result = CC_REDISPLAY;
        }
    }
    lua_settop(L, top);
    return result;
}

static bool plain_terminal(void) {
    const char *term = getenv("TERM");
    return !isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO) || !term || !*term ||
           strcmp(term, "dumb") == 0;
}

/* Opens the terminal once more, for reads that do not wait: Ctrl-C throws away what was typed, also
 * between a poll that saw it and the read, which would then wait for another key. The descriptor
 * that the shell shares stays as it is. */
static void open_input(void) {
    if (input_fd != STDIN_FILENO || !isatty(STDIN_FILENO))
        return;
    int fd = open("/proc/self/fd/0", O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (fd >= 0)
        input_fd = fd;
}

static bool open_editor(void) {
    if (editor)
        return true;
    if (!past) {
        HistEvent event;
        past = history_init();
        if (!past)
            return false;
        history(past, &event, H_SETSIZE, HISTORY_LINES);
        history(past, &event, H_SETUNIQUE, 1);
    }
    if (plain_terminal())
        return false;
    if (!setlocale(LC_CTYPE, "") || strcmp(nl_langinfo(CODESET), "UTF-8") != 0)
        setlocale(LC_CTYPE, "C.UTF-8");
    editor = el_init("vestige", stdin, stdout, stderr);
    if (!editor)
        return false;
    atexit(edit_close);
    el_set(editor, EL_SIGNAL, 0);
    el_set(editor, EL_EDITOR, "emacs");
    el_set(editor, EL_PROMPT, prompt_now);
    el_set(editor, EL_GETCFN, next_char);
    el_set(editor, EL_HIST, history, past);
    el_set(editor, EL_ADDFN, "vestige-complete", "Complete the name before the cursor", complete);
    static const char *const keys[][2] = {
        { "^I", "vestige-complete" },        { "^R", "em-inc-search-prev" },
        { "\\e[3~", "ed-delete-next-char" }, { "\\e[1~", "ed-move-to-beg" },
        { "\\e[4~", "ed-move-to-end" },      { "\\e[1;5C", "em-next-word" },
        { "\\e[1;5D", "ed-prev-word" },      { "\\e[H", "ed-move-to-beg" },
        { "\\e[F", "ed-move-to-end" },
    };
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        el_set(editor, EL_BIND, keys[i][0], keys[i][1], NULL);
    el_source(editor, NULL);
    return true;
}

void edit_close(void) {
    if (editor)
        el_end(editor);
    if (past)
        history_end(past);
    editor = NULL;
    past = NULL;
    signals_end_prompt();
}

/* A line without an editor: the terminal's own, or a pipe's. */
static int read_plain(lua_State *L) {
    luaL_Buffer line;
    luaL_buffinit(L, &line);
    fputs(prompt_text, stdout);
    fflush(stdout);
    char byte;
    int n;
    bool any = false;
    while ((n = next_byte(&byte)) == 1 && byte != '\n') {
        luaL_addchar(&line, byte);
        any = true;
    }
    luaL_pushresult(&line);
    return n == 1 || (n == 0 && any);
}

/* read(prompt, completer | nil): one line without its newline; nil and "eof" at the end of the
 * input; nil and "interrupt" after Ctrl-C. */
int edit_read(lua_State *L) {
    prompt_text = luaL_checkstring(L, 1);
    lua_settop(L, 2);
    bool rich = open_editor();
    open_input();
    wake_fd = signals_enter_prompt();
    if (wake_fd < 0)
        return luaL_error(L, "no pipe for signals: %s", strerror(errno));
    interrupted = false;
    fflush(stdout);
    bool got = false;
    if (rich) {
        int length = 0;
        completer_state = lua_isfunction(L, 2) ? L : NULL;
        el_set(editor, EL_PREP_TERM, 1); /* before the prompt is seen: no key is echoed twice */
        const char *line = el_gets(editor, &length);
        completer_state = NULL;
        if (line && length > 0) {
            got = true;
            lua_pushlstring(L, line, (size_t)(length - (line[length - 1] == '\n')));
        }
    } else {
        got = read_plain(L);
    }
    signals_leave_prompt();
    if (got)
        return 1;
    if (interrupted)
        fputs("^C\n", stdout);
    lua_pushnil(L);
    lua_pushstring(L, interrupted ? "interrupt" : "eof");
    return 2;
}

int edit_remember(lua_State *L) {
    const char *line = luaL_checkstring(L, 1);
    open_editor();
    HistEvent event;
    if (past)
        history(past, &event, H_ENTER, line);
    return 0;
}
