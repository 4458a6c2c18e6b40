/* Ctrl-C and its kin.
 *
 * The handler never runs Lua: it sets a count hook, which raises "interrupted" at the next
 * interpreted instruction, and the engine's flag, which makes a long kernel return. Compiled loops
 * do not poll hooks; chunks typed at the prompt are therefore interpreted, and a script that does
 * not come back within a few seconds is ended. Start with on_interrupt and signals_run. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <termios.h>
#include <unistd.h>

#include <lauxlib.h>
#include <lua.h>

#include "program.h"

/* The engine's flag, once the engine is loaded. */
static void (*set_flag)(void);
static void (*clear_flag)(void);

enum {
    GRACE_SECONDS = 3, /* a script in a compiled loop is ended this long after Ctrl-C */
    STUBBORN = 3,      /* from this raise on, pcall in the chunk does not stop the interrupt */
};

static lua_State *state;
static pthread_t main_thread;
static int wake[2] = { -1, -1 };
static struct termios terminal; /* as it was when the program began */
static bool have_terminal;

static volatile sig_atomic_t mode = MODE_START;
static volatile sig_atomic_t pending; /* Ctrl-C came and has not been raised */
static volatile sig_atomic_t seen;    /* Ctrl-C came since this run began */
static volatile sig_atomic_t raised;  /* how often it was raised in this run */
static volatile sig_atomic_t held;    /* holders that want to choose the moment themselves */

static _Noreturn void leave_at_once(void) {
    if (have_terminal)
        tcsetattr(STDIN_FILENO, TCSANOW, &terminal);
    if (write(STDERR_FILENO, "\n", 1) < 0) {
        /* nobody is left to tell */
    }
    _exit(130);
}

static void raise_interrupt(lua_State *L, lua_Debug *where) {
    (void)where;
    pending = 0;
    alarm(0);
    if (++raised < STUBBORN)
        lua_sethook(L, NULL, 0, 0);
    luaL_error(L, "interrupted");
}

static void deliver(void) {
    if (set_flag)
        set_flag();
    lua_sethook(state, raise_interrupt, LUA_MASKCOUNT, 1);
    if (mode == MODE_SCRIPT)
        alarm(GRACE_SECONDS);
}

static void on_interrupt(int sig) {
    int saved = errno;
    if (!pthread_equal(pthread_self(), main_thread)) {
        pthread_kill(main_thread, sig);
        errno = saved;
        return;
    }
    if (mode == MODE_PROMPT) {
        char byte = (char)sig;
        if (write(wake[1], &byte, 1) < 0) {
            /* the pipe is full of signals that the reader has yet to see */
        }
    } else if (mode == MODE_START || pending || (mode == MODE_SCRIPT && seen)) {
        leave_at_once();
    } else {
        pending = seen = 1;
        if (!held)
            deliver();
    }
    errno = saved;
}

static void on_alarm(int sig) {
    (void)sig;
    if (mode == MODE_SCRIPT && pending && !held)
        leave_at_once();
}

/* The signals that matter only while a line is being typed. */
static void on_prompt_signal(int sig) {
    int saved = errno;
    char byte = (char)sig;
    if (write(wake[1], &byte, 1) < 0) {
        /* as above */
    }
    errno = saved;
}

static void handle(int sig, void (*action)(int)) {
    struct sigaction act = { .sa_handler = action, .sa_flags = SA_RESTART };
    sigemptyset(&act.sa_mask);
    sigaction(sig, &act, NULL);
}

static const int prompt_signals[] = { SIGWINCH, SIGTSTP, SIGTERM, SIGHUP, SIGQUIT };
static struct sigaction outside[sizeof prompt_signals / sizeof *prompt_signals];

void signals_init(lua_State *L) {
    state = L;
    main_thread = pthread_self();
    struct sigaction old;
    sigaction(SIGINT, NULL, &old);
    if (old.sa_handler != SIG_IGN) /* started in the background by a shell: leave it so */
        handle(SIGINT, on_interrupt);
    handle(SIGALRM, on_alarm);
}

int signals_enter_prompt(void) {
    if (wake[0] < 0) {
        if (pipe2(wake, O_CLOEXEC | O_NONBLOCK) < 0)
            return -1;
        have_terminal = tcgetattr(STDIN_FILENO, &terminal) == 0;
        handle(SIGINT, on_interrupt);
    }
    for (size_t i = 0; i < sizeof prompt_signals / sizeof *prompt_signals; i++) {
        struct sigaction act = { .sa_handler = on_prompt_signal, .sa_flags = SA_RESTART };
        sigemptyset(&act.sa_mask);
        sigaction(prompt_signals[i], NULL, &outside[i]);
        if (outside[i].sa_handler != SIG_IGN)
            sigaction(prompt_signals[i], &act, NULL);
    }
    mode = MODE_PROMPT;
    return wake[0];
}

void signals_leave_prompt(void) {
    for (size_t i = 0; i < sizeof prompt_signals / sizeof *prompt_signals; i++)
        sigaction(prompt_signals[i], &outside[i], NULL);
}

void signals_end_prompt(void) {
    mode = MODE_START;
}

void signals_suspend(void) {
    handle(SIGTSTP, SIG_DFL);
    pthread_kill(pthread_self(), SIGTSTP);
    handle(SIGTSTP, on_prompt_signal);
}

void signals_die(int sig) {
    handle(sig, SIG_DFL);
    pthread_kill(pthread_self(), sig);
}

static void disarm(lua_State *L) {
    lua_sethook(L, NULL, 0, 0);
    pending = 0;
    alarm(0);
}

/* A C function, so that no instruction runs between the error and the end of the hook. */
static int message_handler(lua_State *L) {
    disarm(L);
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_pushvalue(L, 1);
    if (lua_pcall(L, 1, 1, 0) != 0)
        lua_settop(L, 1);
    return 1;
}

/* run(mode, f, handler, ...): calls f(...) in mode "script" or "chunk" and gives true and its
 * results, or false and what handler made of the error. Ctrl-C meanwhile raises "interrupted". */
int signals_run(lua_State *L) {
    static const char *const names[] = { "script", "chunk", NULL };
    static const enum run_mode modes[] = { MODE_SCRIPT, MODE_CHUNK };
    enum run_mode wanted = modes[luaL_checkoption(L, 1, NULL, names)];
    luaL_checktype(L, 2, LUA_TFUNCTION);
    luaL_checktype(L, 3, LUA_TFUNCTION);
    int args = lua_gettop(L) - 3;
    lua_pushvalue(L, 3);
    lua_pushcclosure(L, message_handler, 1);
    lua_replace(L, 1); /* handler, f, _, ... */
    lua_remove(L, 3);

    sig_atomic_t before = mode;
    pending = seen = raised = held = 0;
    if (clear_flag)
        clear_flag();
    mode = (sig_atomic_t)wanted;
    int status = lua_pcall(L, args, LUA_MULTRET, 1);
    mode = before;
    disarm(L);
    held = 0;
    if (clear_flag)
        clear_flag();

    lua_pushboolean(L, status == 0);
    lua_replace(L, 1);
    return lua_gettop(L);
}

int signals_engine(lua_State *L) {
    (void)L;
    clear_flag = (void (*)(void))dlsym(RTLD_DEFAULT, "vestige_clear_interrupt");
    set_flag = (void (*)(void))dlsym(RTLD_DEFAULT, "vestige_interrupt");
    return 0;
}

int signals_hold(lua_State *L) {
    (void)L;
    held++;
    return 0;
}

int signals_release(lua_State *L) {
    (void)L;
    if (held > 0 && --held == 0 && pending)
        deliver();
    return 0;
}

int signals_pending(lua_State *L) {
    lua_pushboolean(L, pending);
    return 1;
}

int signals_interrupted(lua_State *L) {
    lua_pushboolean(L, seen);
    return 1;
}
