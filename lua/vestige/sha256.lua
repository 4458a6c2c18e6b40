-- SHA-256 by libmd: of strings, of memory, of files, and piece by piece.
-- Digests are 64 lower-case hexadecimal digits.

local ffi = require 'ffi'
local fail = require 'vestige.fail'

ffi.cdef [[
void SHA256Init(void *);
void SHA256Update(void *, const uint8_t *, size_t);
void SHA256Final(uint8_t *, void *);
]]

local md = ffi.load('libmd.so.0')
-- SHA2_CTX of <sha2.h>.
local context_t = ffi.typeof(
  'struct { uint64_t state[8]; uint64_t bits[2]; uint8_t block[128]; }')
local digest_t = ffi.typeof('uint8_t[32]')

local M = {}

local Hash = {}
Hash.__index = Hash

--- sha256.new(): a running hash with `h:update(data[, bytes])` and `h:hex()`.
-- update takes a string, or a pointer and a count of bytes, and returns the hash;
-- hex ends it, and a hash that has ended raises.
-- Example:
-- > local sha256 = require 'vestige.sha256'
-- > assert(sha256.new():update('ab'):update('c'):hex() == sha256.of('abc'))
function M.new()
  local hash = setmetatable({ context = context_t() }, Hash)
  md.SHA256Init(hash.context)
  return hash
end

function Hash:update(data, bytes)
  if not self.context then fail('sha256: update after hex()') end
  md.SHA256Update(self.context, ffi.cast('const uint8_t *', data), bytes or #data)
  return self
end

function Hash:hex()
  if not self.context then fail('sha256: hex() was already called') end
  local digest = digest_t()
  md.SHA256Final(digest, self.context)
  self.context = nil
  return (ffi.string(digest, 32):gsub('.', function(c) return ('%02x'):format(c:byte()) end))
end

--- sha256.of(text): the digest of a string.
-- Example:
-- > assert(require('vestige.sha256').of('abc'):sub(1, 8) == 'ba7816bf')
function M.of(text)
  return M.new():update(text):hex()
end

--- sha256.memory(pointer, bytes): the digest of `bytes` bytes at an FFI pointer.
-- Example:
-- > local sha256 = require 'vestige.sha256'
-- > assert(sha256.memory(require('ffi').new('char[3]', 'abc'), 3) == sha256.of('abc'))
function M.memory(pointer, bytes)
  return M.new():update(pointer, bytes):hex()
end

--- sha256.file(path): the digest of a file, read in pieces of 1 MiB.
-- Errors: the path and the reason when the file cannot be read.
-- Example:
-- > assert(#require('vestige.sha256').file('/dev/null') == 64)
function M.file(path)
  local file, why = io.open(path, 'rb')
  if not file then fail('cannot read %s', why) end
  local hash = M.new()
  while true do
    local piece, reason = file:read(2 ^ 20)
    if reason then
      file:close()
      fail('cannot read %s: %s', path, reason)
    end
    if not piece then break end
    hash:update(piece)
  end
  file:close()
  return hash:hex()
end

return M
