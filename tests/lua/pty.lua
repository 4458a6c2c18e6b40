--- Drives a program through a pseudo-terminal, for tests: start, send keys, wait for output.
-- Nothing here sleeps: every wait is for output, with a limit that only a hang reaches. A test that
-- presses Ctrl-C gives the program some 5 s of work left: on a busy machine a key takes seconds.
local ffi = require 'ffi'
local bit = require 'bit'

ffi.cdef [[
typedef int pid_t;
struct pty_winsize { unsigned short rows, columns, x, y; };
struct pty_pollfd { int fd; short events, revents; };
pid_t forkpty(int *fd, char *name, const void *termios, const struct pty_winsize *size);
int execve(const char *path, char *const argv[], char *const envp[]);
int poll(struct pty_pollfd *fds, unsigned long n, int timeout);
long read(int fd, void *buffer, size_t n);
long write(int fd, const void *buffer, size_t n);
int close(int fd);
int kill(pid_t pid, int sig);
pid_t waitpid(pid_t pid, int *status, int options);
int ioctl(int fd, unsigned long request, ...);
int tcgetattr(int fd, void *termios);
void _exit(int status);
]]
local util = pcall(function() return ffi.C.forkpty end) and ffi.C or ffi.load('util')

local M = {}
local Session = {}
Session.__index = Session

local function strings(list)
  local array = ffi.new('char *[?]', #list + 1)
  local keep = {}
  for i, s in ipairs(list) do
    keep[i] = ffi.new('char[?]', #s + 1, s)
    array[i - 1] = keep[i]
  end
  return array, keep
end

--- Starts `argv` (argv[1] is the path of the program) with the environment `env` alone, a table
-- of names and values, on a terminal of 24 x 120.
function M.start(argv, env)
  local list = {}
  for name, value in pairs(env) do list[#list + 1] = name .. '=' .. value end
  local args, keep_args = strings(argv)
  local vars, keep_vars = strings(list)
  local fd = ffi.new('int[1]')
  local size = ffi.new('struct pty_winsize', 24, 120, 0, 0)
  local pid = util.forkpty(fd, nil, nil, size)
  if pid == 0 then
    ffi.C.execve(argv[1], args, vars)
    ffi.C._exit(127)
  end
  assert(pid > 0 and keep_args and keep_vars, 'forkpty failed')
  return setmetatable({ pid = pid, fd = fd[0], output = '', at = 1 }, Session)
end

local buffer = ffi.new('char[4096]')

-- Adds what the program wrote within `ms`; false at its end or when nothing came.
function Session:pump(ms)
  local fds = ffi.new('struct pty_pollfd', self.fd, 1, 0)
  local ready = ffi.C.poll(fds, 1, ms)
  if ready <= 0 then return false end
  local n = tonumber(ffi.C.read(self.fd, buffer, 4096))
  if n <= 0 then
    self.ended = true
    return false
  end
  self.output = self.output .. ffi.string(buffer, n)
  return true
end

-- The output without escape sequences and carriage returns, and a function that gives the place in
-- `s` of a place in it. An escape sequence that is not complete yet is left out too.
local function plain(s)
  local parts, places = {}, {} -- places: {place in the text, place in s} where each part begins
  local at, length = 1, 0
  while at <= #s do
    local stop = s:find('[\27\r]', at) or #s + 1
    if stop > at then
      parts[#parts + 1] = s:sub(at, stop - 1)
      places[#places + 1] = { length + 1, at }
      length = length + stop - at
    end
    if stop > #s then break end
    local last = select(2, s:find('^\r', stop)) or select(2, s:find('^\27%[[%d;?]*%a', stop)) or
      select(2, s:find('^\27[()].', stop)) or select(2, s:find('^\27[=>78]', stop))
    if not last then break end
    at = last + 1
  end
  return table.concat(parts), function(place)
    for i = #places, 1, -1 do
      if places[i][1] <= place then return places[i][2] + place - places[i][1] end
    end
  end
end

--- Waits until the plain text `want` comes after what was seen so far, and passes it. Gives what
-- stood before it. Raises after `seconds` (20) or at the program's end.
function Session:expect(want, seconds)
  local limit = os.time() + (seconds or 20)
  while true do
    local text, place = plain(self.output:sub(self.at))
    local first, last = text:find(want, 1, true)
    if first then
      self.at = self.at + place(last)
      return text:sub(1, first - 1)
    end
    if self.ended then
      error(("the program ended before it wrote '%s'; it wrote:\n%s"):format(want, text), 2)
    end
    if os.time() > limit then
      error(("no '%s' in time; there is:\n%s"):format(want, text), 2)
    end
    self:pump(1000)
  end
end

--- Types `keys`: control characters are written as they are, '\3' is Ctrl-C.
function Session:send(keys)
  local done = 0
  while done < #keys do
    local n = tonumber(ffi.C.write(self.fd, keys:sub(done + 1), #keys - done))
    assert(n > 0, 'the terminal takes no input')
    done = done + n
  end
end

--- Types a line, waits for the next `prompt`, and gives what was printed between.
function Session:line(text, prompt)
  self:send(text .. '\n')
  self:expect('\n')
  return self:expect(prompt)
end

--- Sets the size of the terminal, which sends SIGWINCH.
function Session:resize(rows, columns)
  local size = ffi.new('struct pty_winsize', rows, columns, 0, 0)
  ffi.C.ioctl(self.fd, 0x5414, size)
end

--- Whether the terminal is in canonical mode with echo, as a shell left it.
function Session:cooked()
  local termios = ffi.new('unsigned int[32]') -- c_iflag, c_oflag, c_cflag, c_lflag, ...
  assert(ffi.C.tcgetattr(self.fd, termios) == 0)
  return bit.band(termios[3], 0x2) ~= 0 and bit.band(termios[3], 0x8) ~= 0
end

--- Sends a signal to the program.
function Session:signal(number)
  ffi.C.kill(self.pid, number)
end

--- Waits until the program has taken signal `number`, so that the next is not merged with it.
function Session:taken(number)
  local limit = os.time() + 20
  repeat
    local file = assert(io.open(('/proc/%d/status'):format(self.pid)))
    local pending = file:read('*a'):match('ShdPnd:%s*(%x+)')
    file:close()
    assert(os.time() <= limit, 'the signal stays pending')
  until bit.band(tonumber(pending:sub(-8), 16), bit.lshift(1, number - 1)) == 0
end

--- Waits for the program's end: "exit", code or "signal", number. Reads its output meanwhile;
-- kills it after 20 s.
function Session:wait()
  local status = ffi.new('int[1]')
  local limit = os.time() + 20
  while ffi.C.waitpid(self.pid, status, 1) ~= self.pid do
    if os.time() > limit then
      self:close()
      error('the program did not end in time; it wrote:\n' .. self:text(), 2)
    end
    if not self:pump(20) then ffi.C.poll(nil, 0, 5) end
  end
  while self:pump(50) do end -- what is still in the terminal
  self.over = true
  local sig = bit.band(status[0], 0x7f)
  if sig ~= 0 then return 'signal', sig end
  return 'exit', bit.band(bit.rshift(status[0], 8), 0xff)
end

--- Ends a program that still runs and closes its terminal.
function Session:close()
  if not self.over then
    ffi.C.kill(self.pid, 9)
    ffi.C.waitpid(self.pid, ffi.new('int[1]'), 0)
    self.over = true
  end
  if self.fd then ffi.C.close(self.fd) end
  self.fd = nil
end

--- All output so far without escape sequences.
function Session:text()
  return (plain(self.output))
end

return M
