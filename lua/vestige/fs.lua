-- Files and folders through libc: what experiments need and io does not give.
-- Every failure is one message: what was tried, the path, the reason
-- (`cannot write runs/a/result.json: No space left on device`).

local ffi = require 'ffi'
local fail = require 'vestige.fail'

ffi.cdef [[
char *strerror(int);
int open(const char *, int, ...);
int close(int);
ssize_t read(int, void *, size_t);
ssize_t write(int, const void *, size_t);
int fsync(int);
int ftruncate(int, long);
int rename(const char *, const char *);
int unlink(const char *);
int rmdir(const char *);
int mkdir(const char *, unsigned int);
int statx(int, const char *, int, unsigned int, void *);
void *opendir(const char *);
void *readdir(void *);
int closedir(void *);
char *realpath(const char *, char *);
int flock(int, int);
int getpid(void);
int isatty(int);
int ioctl(int, unsigned long, ...);
int poll(void *, unsigned long, int);
int clock_gettime(int, void *);
int gethostname(char *, size_t);
void free(void *);
]]

local C = ffi.C

-- The kernel's layouts on 64-bit Linux; statx is the same on every processor.
local stat_t = ffi.typeof [[struct {
  uint32_t mask, blksize; uint64_t attributes; uint32_t nlink, uid, gid; uint16_t mode, pad;
  uint64_t ino, size, blocks, attributes_mask;
  struct { int64_t sec; uint32_t nsec; int32_t pad; } atime, btime, ctime, mtime;
  uint8_t rest[128];
}]]
local dirent_p = ffi.typeof(
  'struct { uint64_t ino; int64_t off; uint16_t reclen; uint8_t type; char name[256]; } *')
local time_t = ffi.typeof('struct { int64_t sec; int64_t nsec; }')
local winsize_t = ffi.typeof('struct { unsigned short rows, columns, x, y; }')

local READ, WRITE, CREATE, EXCLUSIVE, APPEND = 0, 1, 0x40, 0x80, 0x400
local CLOEXEC = 0x80000
local HERE, NOFOLLOW, OF_FD = -100, 0x100, 0x1000
local ENOENT, EINTR, EAGAIN, EEXIST = 2, 4, 11, 17
local LOCK_EX, LOCK_NB = 2, 4
local TIOCGWINSZ = 0x5413

local M = {}

local function reason(errno)
  return ffi.string(C.strerror(errno or ffi.errno()))
end

local function open(path, flags)
  local fd
  repeat
    fd = C.open(path, flags + CLOEXEC, ffi.cast('unsigned int', 438)) -- 0666
  until fd >= 0 or ffi.errno() ~= EINTR
  return fd
end

-- Writes all of `text`; returns nil, or the errno.
local function write_all(fd, text)
  local at, left = ffi.cast('const char *', text), #text
  while left > 0 do
    local n = tonumber(C.write(fd, at, left))
    if n < 0 then
      local errno = ffi.errno()
      if errno ~= EINTR then return errno end
    else
      at, left = at + n, left - n
    end
  end
  return nil
end

--- fs.dirname(path): the folder of a path, `.` when it names none.
-- Example:
-- > local fs = require 'vestige.fs'
-- > assert(fs.dirname('a/b.txt') == 'a' and fs.dirname('b.txt') == '.')
function M.dirname(path)
  local dir = path:match('^(.*)/[^/]*$')
  if dir == '' then return '/' end
  return dir or '.'
end

--- fs.basename(path): the last part of a path.
-- Example:
-- > assert(require('vestige.fs').basename('a/b.txt') == 'b.txt')
function M.basename(path)
  return path:match('([^/]+)/*$') or '/'
end

--- fs.stat(path): {kind, size, mtime, inode}, or nil when nothing is there.
-- kind: 'file', 'folder', 'link' (links are not followed) or 'other'; size in bytes; mtime in
-- seconds since 1970. `fs.stat(path, true)` follows links.
-- Errors: any reason other than a missing path.
-- Example:
-- > assert(require('vestige.fs').stat('/').kind == 'folder')
function M.stat(path, follow)
  local s = stat_t()
  if C.statx(HERE, path, follow and 0 or NOFOLLOW, 0x7ff, s) ~= 0 then
    local errno = ffi.errno()
    if errno == ENOENT or errno == 20 then return nil end
    fail('cannot look at %s: %s', path, reason(errno))
  end
  local kinds = { [8] = 'file', [4] = 'folder', [10] = 'link' }
  return {
    kind = kinds[bit.rshift(s.mode, 12)] or 'other',
    size = tonumber(s.size),
    mtime = tonumber(s.mtime.sec) + s.mtime.nsec * 1e-9,
    inode = tonumber(s.ino),
  }
end

--- fs.exists(path): whether a file or folder is there (through links).
-- Example:
-- > assert(require('vestige.fs').exists('/') and not require('vestige.fs').exists('/no/such'))
function M.exists(path)
  return M.stat(path, true) ~= nil
end

--- fs.mkdir(path): makes a folder and its parents; one that is there is fine.
-- Errors: the path and the reason.
-- Example:
-- > require('vestige.fs').mkdir('/tmp')
function M.mkdir(path)
  if C.mkdir(path, 511) == 0 then return end -- 0777
  local errno = ffi.errno()
  if errno == ENOENT and M.dirname(path) ~= path then
    M.mkdir(M.dirname(path))
    if C.mkdir(path, 511) == 0 then return end
    errno = ffi.errno()
  end
  if errno == EEXIST then
    local there = M.stat(path, true)
    if there and there.kind == 'folder' then return end
  end
  fail('cannot make the folder %s: %s', path, reason(errno))
end

--- fs.read(path): the whole content of a file.
-- Errors: the path and the reason.
-- Example:
-- > assert(require('vestige.fs').read('/dev/null') == '')
function M.read(path)
  local fd = open(path, READ)
  if fd < 0 then fail('cannot read %s: %s', path, reason()) end
  local buffer, pieces = ffi.new('char[?]', 65536), {}
  while true do
    local n = tonumber(C.read(fd, buffer, 65536))
    if n > 0 then
      pieces[#pieces + 1] = ffi.string(buffer, n)
    elseif n == 0 then
      break
    elseif ffi.errno() ~= EINTR then
      local why = reason()
      C.close(fd)
      fail('cannot read %s: %s', path, why)
    end
  end
  C.close(fd)
  return table.concat(pieces)
end

-- A rename is on disk once its folder is; file systems that cannot sync a folder are let be.
local function sync_folder(dir)
  local fd = open(dir, READ)
  if fd < 0 then return end
  C.fsync(fd)
  C.close(fd)
end

--- fs.replace(path, make): writes a file atomically by a function.
-- make(temporary): writes the content to that name, in the same folder; it is then synced and
-- renamed to path. When make raises or a step fails, path is as it was and nothing else is left.
-- Errors: make's own; the path and the reason.
-- Example:
-- > local fs, path = require 'vestige.fs', os.tmpname()
-- > fs.replace(path, function(name) local f = io.open(name, 'w'); f:write('x'); f:close() end)
-- > assert(fs.read(path) == 'x'); os.remove(path)
function M.replace(path, make)
  local dir = M.dirname(path)
  local temporary = ('%s/.%s.%d'):format(dir, M.basename(path), C.getpid())
  local ok, err = pcall(make, temporary)
  if ok then
    local fd, why = open(temporary, READ), nil
    if fd < 0 or C.fsync(fd) ~= 0 then why = reason() end
    if fd >= 0 then C.close(fd) end
    if not why and C.rename(temporary, path) ~= 0 then why = reason() end
    if not why then return sync_folder(dir) end
    C.unlink(temporary)
    fail('cannot write %s: %s', path, why)
  end
  C.unlink(temporary)
  error(err, 0)
end

--- fs.write(path, text): writes a file atomically (temporary name, sync, rename).
-- A reader sees the old content or the new, never a part; after an error, the old.
-- Errors: the path and the reason (folder missing, read-only, disk full).
-- Example:
-- > local fs, path = require 'vestige.fs', os.tmpname()
-- > fs.write(path, 'text'); assert(fs.read(path) == 'text'); os.remove(path)
function M.write(path, text)
  M.replace(path, function(temporary)
    local fd = open(temporary, WRITE + CREATE + EXCLUSIVE)
    if fd < 0 and ffi.errno() == EEXIST then -- left by a killed process that had our pid
      C.unlink(temporary)
      fd = open(temporary, WRITE + CREATE + EXCLUSIVE)
    end
    if fd < 0 then fail('cannot write %s: %s', path, reason()) end
    local errno = write_all(fd, text)
    if C.close(fd) ~= 0 then errno = errno or ffi.errno() end
    if errno then fail('cannot write %s: %s', path, reason(errno)) end
  end)
end

--- fs.append(path, text): adds text to the end of a file in one write, making the file if needed.
-- Errors: the path and the reason.
-- Example:
-- > local fs, path = require 'vestige.fs', os.tmpname()
-- > fs.append(path, 'a\n'); fs.append(path, 'b\n')
-- > assert(fs.read(path) == 'a\nb\n'); os.remove(path)
function M.append(path, text)
  local fd = open(path, WRITE + CREATE + APPEND)
  if fd < 0 then fail('cannot write %s: %s', path, reason()) end
  local errno = write_all(fd, text)
  if C.close(fd) ~= 0 then errno = errno or ffi.errno() end
  if errno then fail('cannot write %s: %s', path, reason(errno)) end
end

--- fs.list(path): the names in a folder, sorted, without `.` and `..`.
-- Errors: the path and the reason.
-- Example:
-- > assert(#require('vestige.fs').list('/') > 0)
function M.list(path)
  local dir = C.opendir(path)
  if dir == nil then fail('cannot list %s: %s', path, reason()) end
  local names = {}
  while true do
    local entry = C.readdir(dir)
    if entry == nil then break end
    local name = ffi.string(ffi.cast(dirent_p, entry).name)
    if name ~= '.' and name ~= '..' then names[#names + 1] = name end
  end
  C.closedir(dir)
  table.sort(names)
  return names
end

--- fs.realpath(path): the absolute path with links resolved.
-- Errors: the path and the reason.
-- Example:
-- > assert(require('vestige.fs').realpath('/./') == '/')
function M.realpath(path)
  local p = C.realpath(path, nil)
  if p == nil then fail('cannot find %s: %s', path, reason()) end
  local out = ffi.string(p)
  C.free(p)
  return out
end

--- fs.remove(path): removes a file; one that is not there is fine.
-- Errors: the path and the reason.
-- Example:
-- > require('vestige.fs').remove('/tmp/no-such-file-here')
function M.remove(path)
  if C.unlink(path) == 0 then return end
  local errno = ffi.errno()
  if errno ~= ENOENT then fail('cannot remove %s: %s', path, reason(errno)) end
end

--- fs.rename(from, to): gives a file or folder another name on the same file system, atomically.
-- Errors: both paths and the reason.
-- Example:
-- > local fs, path = require 'vestige.fs', os.tmpname()
-- > fs.rename(path, path .. '.b'); assert(not fs.exists(path)); os.remove(path .. '.b')
function M.rename(from, to)
  if C.rename(from, to) ~= 0 then fail('cannot rename %s to %s: %s', from, to, reason()) end
end

local function remove_all(path)
  local there = M.stat(path)
  if not there then return end
  if there.kind ~= 'folder' then return M.remove(path) end
  for _, name in ipairs(M.list(path)) do remove_all(path .. '/' .. name) end
  if C.rmdir(path) ~= 0 then fail('cannot remove %s: %s', path, reason()) end
end

--- fs.remove_tree(path, root): removes a folder with all it holds, only when it lies below root.
-- Links inside are removed, never followed; a path that is not there is fine.
-- Errors: the path is root itself or outside it; the path and the reason.
-- Example:
-- > local fs, root = require "vestige.fs", os.tmpname()
-- > os.remove(root); fs.mkdir(root .. "/a/b")
-- > fs.remove_tree(root .. '/a', root); assert(not fs.exists(root .. '/a'))
-- > assert(not pcall(fs.remove_tree, '/', root)); os.remove(root)
function M.remove_tree(path, root)
  if not M.stat(path) then return end
  local base, above = M.basename(path), M.realpath(root)
  local full = M.realpath(M.dirname((path:gsub('/+$', '')))) .. '/' .. base
  if above == '/' or base == '..' or base == '.' or full:sub(1, #above + 1) ~= above .. '/' then
    fail('will not remove %s: it is not below %s', path, root)
  end
  remove_all(full)
end

--- fs.sleep(seconds): waits; a signal ends it early.
-- Example:
-- > require('vestige.fs').sleep(0.001)
function M.sleep(seconds)
  C.poll(nil, 0, math.ceil(seconds * 1000))
end

local Lock = {}
Lock.__index = Lock

-- Whether the path still names the open file.
local function is_named(path, fd)
  local held, named = stat_t(), stat_t()
  return C.statx(fd, '', OF_FD, 0x7ff, held) == 0 and C.statx(HERE, path, 0, 0x7ff, named) == 0
    and held.ino == named.ino
end

--- fs.lock(path, options): an exclusive lock (flock) on a file, which is made if needed.
-- Returns a lock with `lock:release()`; the end of the process, of any kind, releases it too.
-- options: wait (true): false returns nil at once when another process holds it.
-- on_wait(seconds, holder): called about five times a second while waiting, with the seconds waited
-- and what the holder wrote in the file (`pid 12 on host`); an error raised there ends the wait.
-- A file that was removed meanwhile is made again with its folder: its lock would keep nobody out.
-- Errors: the path and the reason.
-- Example:
-- > local fs, path = require 'vestige.fs', os.tmpname()
-- > local lock = fs.lock(path); assert(fs.lock(path, { wait = false }) == nil)
-- > lock:release(); fs.lock(path):release(); os.remove(path)
function M.lock(path, options)
  options = options or {}
  local fd = open(path, 2 + CREATE)
  if fd < 0 then fail('cannot lock %s: %s', path, reason()) end
  local lock = setmetatable({ fd = fd, path = path }, Lock)
  local start = M.monotonic()
  while C.flock(fd, LOCK_EX + LOCK_NB) ~= 0 do
    local errno = ffi.errno()
    if errno ~= EAGAIN and errno ~= EINTR then
      lock:release()
      fail('cannot lock %s: %s', path, reason(errno))
    end
    if errno == EAGAIN then
      if options.wait == false then return lock:release() end
      if options.on_wait then
        local holder = M.read(path):gsub('%s+$', '')
        local ok, err = pcall(options.on_wait, M.monotonic() - start, holder)
        if not ok then
          lock:release()
          error(err, 0)
        end
      end
      M.sleep(0.2)
    end
  end
  if not is_named(path, fd) then
    lock:release()
    M.mkdir(M.dirname(path))
    return M.lock(path, options)
  end
  C.ftruncate(fd, 0)
  write_all(fd, ('pid %d on %s\n'):format(C.getpid(), M.hostname()))
  return lock
end

function Lock:release()
  if self.fd then C.close(self.fd) end
  self.fd = nil
end

--- fs.hostname(): the machine's name.
-- Example:
-- > assert(#require('vestige.fs').hostname() > 0)
function M.hostname()
  local name = ffi.new('char[256]')
  if C.gethostname(name, 255) ~= 0 then return 'unknown' end
  return ffi.string(name)
end

local function clock(id)
  local t = time_t()
  C.clock_gettime(id, t)
  return tonumber(t.sec) + tonumber(t.nsec) * 1e-9
end

--- fs.monotonic(): seconds of a clock that never jumps, for durations.
-- Example:
-- > local fs = require 'vestige.fs'; assert(fs.monotonic() <= fs.monotonic())
function M.monotonic()
  return clock(1)
end

--- fs.now(): seconds since 1970 with their fraction, for dates.
-- Example:
-- > assert(math.abs(require('vestige.fs').now() - os.time()) < 5)
function M.now()
  return clock(0)
end

--- fs.isatty(fd): whether a descriptor (0 input, 1 output, 2 errors) is a terminal.
-- Example:
-- > assert(type(require('vestige.fs').isatty(1)) == 'boolean')
function M.isatty(fd)
  return C.isatty(fd) == 1
end

--- fs.columns(fd): the width of the terminal behind a descriptor, or nil.
-- Example:
-- > local width = require('vestige.fs').columns(1); assert(width == nil or width > 0)
function M.columns(fd)
  local size = winsize_t()
  if C.ioctl(fd, TIOCGWINSZ, size) ~= 0 or size.columns == 0 then return nil end
  return size.columns
end

return M
