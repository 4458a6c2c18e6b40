--- The engine's C library: declarations, the handle type, and how a failure becomes a Lua error.
local ffi = require 'ffi'
local fail = require 'vestige.fail'

ffi.cdef(require 'vestige.cdef')

ffi.cdef 'int setenv(const char *name, const char *value, int overwrite);'

-- libgomp's threads spin where they wait for each other, by default for milliseconds: beside
-- another busy process that takes more time than it saves (a train step 1.5 times as long). It
-- reads this when the library is loaded.
if not os.getenv 'OMP_WAIT_POLICY' then ffi.C.setenv('GOMP_SPINCOUNT', '2000', 0) end

-- The library lies above the generated declarations, in the build folder or in the lib of an
-- installed prefix, or where the system looks.
local function open()
  local cdef = package.searchpath('vestige.cdef', package.path)
  local root = cdef and cdef:match '^(.*)/lua/vestige/cdef%.lua$'
    or cdef and cdef:match '^(.*)/share/lua/5%.1/vestige/cdef%.lua$'
  local name, problem = 'libvestige.so.0', nil
  local places = root and { root .. '/' .. name, root .. '/lib/' .. name, name } or { name }
  for _, path in ipairs(places) do
    local ok, lib = pcall(ffi.load, path, true)
    if ok then return lib end
    problem = problem or lib
  end
  error('vestige: cannot load libvestige.so.0: ' .. tostring(problem), 0)
end

local M = { C = open() }
local C = M.C
local in_program, host = pcall(require, 'vestige.host')
if in_program then host.engine() end
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
