--- The engine's C library: declarations, the handle type, and how a failure becomes a Lua error.
local ffi = require 'ffi'

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

-- Files of the library: an error points at the first line outside them.
local here = debug.getinfo(1, 'S').source:match '^@(.*)/[^/]*$'
local inside = { [here] = true }

--- Names a folder whose Lua files belong to the library, for errors to skip.
function M.library_folder(path)
  inside[path] = true
end

local function is_library(source)
  if source:sub(1, 8) == '=vestige' or source == '=[C]' then return true end
  local dir = source:match '^@(.*)/[^/]*$'
  while dir do
    if inside[dir] then return true end
    dir = dir:match '^(.*)/[^/]*$'
  end
  return false
end

--- Raises message at the first line of the caller that is outside the library.
function M.raise(message)
  for level = 2, 60 do
    local at = debug.getinfo(level, 'Sl')
    if not at then break end
    if at.currentline > 0 and not is_library(at.source) then
      error(('%s:%d: %s'):format(at.short_src, at.currentline, message), 0)
    end
  end
  error(message, 0)
end

--- Raises with the engine's message when status is a failure.
function M.check(status)
  if status < 0 then M.raise(ffi.string(C.vestige_message())) end
  return status
end

return M
