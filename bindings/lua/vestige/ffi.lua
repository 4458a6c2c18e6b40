--- The engine's C library: declarations, the handle type, and how a failure becomes a Lua error.
local ffi = require 'ffi'
local fail = require 'vestige.fail'

ffi.cdef(require 'vestige.cdef')

-- A program that is linked with the library has it loaded already, under its soname. Otherwise it
-- lies in the build folder beside the generated declarations, or where the system looks.
local function open()
  local ok, lib = pcall(ffi.load, 'libvestige.so.0')
  if ok then return lib end
  local here = package.searchpath and package.searchpath('vestige.cdef', package.path)
  local beside = here and here:gsub('lua/vestige/cdef%.lua$', 'libvestige.so.0')
  if beside and beside ~= here then
    local found, built = pcall(ffi.load, beside)
    if found then return built end
    lib = built
  end
  error('vestige: cannot load libvestige.so.0: ' .. tostring(lib), 0)
end

local M = { C = open() }
local C = M.C
M.H = ffi.typeof 'vestige_tensor'

-- Errors point at the first line outside the library: the operators' files belong to it.
fail.library(debug.getinfo(1, 'S').source:match '^@(.*)/[^/]*$')
M.raise = fail

--- Raises with the engine's message when status is a failure.
function M.check(status)
  if status < 0 then fail('%s', ffi.string(C.vestige_message())) end
  return status
end

return M
