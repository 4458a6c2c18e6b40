-- Processes side by side, for --jobs: starts them, shows what they print, and stops them together.
--
-- Each has its output and errors in one pipe, whose whole lines are printed as they come; where
-- this process has a terminal, their live lines stand beside each other in one. Each is the head of
-- a process group of its own, so that Ctrl-C reaches this process alone, which passes it on once: a
-- second one would end them before they have written their checkpoints.
local ffi = require 'ffi'
local fail = require 'vestige.fail'
local fs = require 'vestige.fs'
local term = require 'vestige.term'

local in_program, host = pcall(require, 'vestige.host')
if not in_program then host = nil end

ffi.cdef [[
extern char **environ;
int pipe2(int *, int);
int posix_spawnp(int *, const char *, const void *, const void *, char *const *, char *const *);
int posix_spawn_file_actions_init(void *);
int posix_spawn_file_actions_addopen(void *, int, const char *, int, unsigned int);
int posix_spawn_file_actions_adddup2(void *, int, int);
int posix_spawn_file_actions_destroy(void *);
int posix_spawnattr_init(void *);
int posix_spawnattr_setflags(void *, short);
int posix_spawnattr_setpgroup(void *, int);
int posix_spawnattr_destroy(void *);
int waitpid(int, int *, int);
int kill(int, int);
]]

local C = ffi.C
local pollfds = ffi.typeof 'struct { int fd; short events, revents; }[?]'
local CLOEXEC, SETPGROUP, POLLIN, SIGINT = 0x80000, 2, 1, 2

local M = {}

-- A NULL-terminated array of strings, and what keeps them.
local function strings(list)
  local array, kept = ffi.new('char *[?]', #list + 1), {}
  for i, text in ipairs(list) do
    kept[i] = ffi.new('char[?]', #text + 1, text)
    array[i - 1] = kept[i]
  end
  return array, kept
end

-- This process's environment with other values of some names.
local function environment(changed)
  local list, i = {}, 0
  while C.environ[i] ~= nil do
    local entry = ffi.string(C.environ[i])
    if changed[entry:match '^[^=]*'] == nil then list[#list + 1] = entry end
    i = i + 1
  end
  for name, value in pairs(changed) do list[#list + 1] = ('%s=%s'):format(name, value) end
  return list
end

-- Starts argv: {pid, fd}, fd the end of the pipe from which its output is read.
local function start(argv, changed)
  local ends, pid = ffi.new 'int[2]', ffi.new 'int[1]'
  if C.pipe2(ends, CLOEXEC) ~= 0 then fail('jobs: no pipe: errno %d', ffi.errno()) end
  local actions, attributes = ffi.new 'char[512]', ffi.new 'char[512]' -- glibc's take 80 and 336
  C.posix_spawn_file_actions_init(actions)
  C.posix_spawn_file_actions_addopen(actions, 0, '/dev/null', 0, 0)
  C.posix_spawn_file_actions_adddup2(actions, ends[1], 1)
  C.posix_spawn_file_actions_adddup2(actions, ends[1], 2)
  C.posix_spawnattr_init(attributes)
  C.posix_spawnattr_setflags(attributes, SETPGROUP)
  C.posix_spawnattr_setpgroup(attributes, 0)
  local args, kept_args = strings(argv)
  local env, kept_env = strings(environment(changed))
  local errno = C.posix_spawnp(pid, argv[1], actions, attributes, args, env)
  C.posix_spawnattr_destroy(attributes)
  C.posix_spawn_file_actions_destroy(actions)
  C.close(ends[1])
  if errno ~= 0 or not (kept_args and kept_env) then
    C.close(ends[0])
    fail('jobs: cannot start %s: errno %d', argv[1], errno)
  end
  return { pid = pid[0], fd = ends[0], text = '', live = '' }
end

-- ---- What they print ----

-- A line as it looks once all of it is written: what stands after the last clearing of the line.
local function settled(text) return (text:gsub('^.*\27%[K', ''):gsub('\r', '')) end

local function print_lines(job, stream)
  local line, rest = job.text:match '^([^\n]*)\n(.*)$'
  while line do
    stream:write(settled(line), '\n')
    job.text = rest
    line, rest = rest:match '^([^\n]*)\n(.*)$'
  end
  job.live = settled(job.text)
end

local function live_line(list)
  local parts = {}
  for _, job in ipairs(list) do
    if job.fd and job.live ~= '' then parts[#parts + 1] = job.live end
  end
  return term.fit(table.concat(parts, ' | '), term.columns(2) - 1)
end

local function show(list, screen)
  if not screen.live then return end
  local now = fs.monotonic()
  if now - screen.drawn < 0.1 then return end
  screen.drawn = now
  screen.stream:write('\r\27[K', live_line(list))
  screen.stream:flush()
end

-- ---- Until they end ----

local buffer = ffi.new 'char[8192]'

-- The exit status as a shell has it: 128 and the signal for a process that one ended.
local function wait(job)
  local status = ffi.new 'int[1]'
  while C.waitpid(job.pid, status, 0) ~= job.pid do
    if ffi.errno() ~= 4 then return 1 end -- EINTR
  end
  local signal = bit.band(status[0], 0x7f)
  return signal ~= 0 and 128 + signal or bit.band(bit.rshift(status[0], 8), 0xff)
end

-- Waits up to 0.2 s for output and prints it. False when all have ended.
local function pump(list, screen)
  local fds, open = pollfds(#list), 0
  for i, job in ipairs(list) do
    fds[i - 1].fd, fds[i - 1].events = job.fd or -1, POLLIN
    if job.fd then open = open + 1 end
  end
  if open == 0 then return false end
  if C.poll(fds, #list, 200) > 0 then
    if screen.live then screen.stream:write '\r\27[K' end
    for i, job in ipairs(list) do
      if fds[i - 1].revents ~= 0 then
        local n = tonumber(C.read(job.fd, buffer, 8192))
        if n > 0 then
          job.text = job.text .. ffi.string(buffer, n)
        elseif n == 0 or ffi.errno() ~= 4 then
          if job.text ~= '' then job.text = job.text .. '\n' end
          C.close(job.fd)
          job.fd, job.status = nil, wait(job)
        end
        print_lines(job, screen.stream)
      end
    end
  end
  show(list, screen)
  return true
end

--- jobs.command(arg): the words of this process's command line, from the table `arg`.
function M.command(arg)
  local first, words = 0, {}
  while arg[first - 1] do first = first - 1 end
  for i = first, #arg do words[#words + 1] = arg[i] end
  if host then words[1] = host.program end
  return words
end

--- jobs.run(t): runs processes side by side until all have ended. t: argv, the words of the
-- command; count; environment(k), a table of the variables that the k-th has otherwise.
-- Their live lines, as term.bar draws them, stand in one line of a terminal; all else is printed
-- to standard error as it comes. Ctrl-C, and the failure of one, stop all, by one SIGINT each.
-- Errors: 'interrupted'; a process that cannot be started or that failed.
function M.run(t)
  local live = fs.isatty(2) and os.getenv 'TERM' ~= 'dumb'
  local screen = { stream = io.stderr, live = live, drawn = -math.huge }
  local width = math.floor((term.columns(2) - 1) / t.count) - 3
  local list, stopped, failed = {}, false, false
  local function stop()
    if stopped then return end
    stopped = true
    for _, job in ipairs(list) do
      if job.fd then C.kill(job.pid, SIGINT) end
    end
  end
  if host then host.hold() end
  local ok, err = pcall(function()
    for k = 1, t.count do
      local changed = t.environment(k)
      if live then changed.VESTIGE_LIVE = math.max(24, width) end
      list[k] = start(t.argv, changed)
    end
    while pump(list, screen) do
      if host and host.pending() then stop() end
      for _, job in ipairs(list) do
        failed = failed or not stopped and job.status ~= nil and job.status ~= 0
      end
      if failed then stop() end
    end
  end)
  stop()
  if live then io.stderr:write '\r\27[K' end
  if host then host.release() end -- raises when Ctrl-C came
  if not ok then error(err, 0) end
  if failed then error('--jobs: a process failed; what it said stands above', 0) end
end

return M
