-- How library code raises: the message points at the line of the user's script, not at a line of
-- the library. Every Lua module of Vestige raises through here.

local M = {}

local here = debug.getinfo(1, 'S').source:match '^@(.*/)' or '@?'
local folders = { here }

--- fail.library(folder): counts the files under folder as the library's, for errors to skip.
function M.library(folder)
  folders[#folders + 1] = folder:gsub('/*$', '/')
end

--- fail.is_library(frame): whether a frame (debug.getinfo's table with source and what) is the
-- library's or C's. The engine's generated functions are named =vestige.<operator>.
local function is_library(frame)
  if frame.what == 'C' or frame.source:sub(1, 8) == '=vestige' then return true end
  for i = 1, #folders do
    local folder = folders[i]
    if frame.source:sub(2, #folder + 1) == folder then return true end
  end
  return false
end

--- fail(format, ...): raises an error whose position is the nearest caller outside the library.
-- format, ...: as string.format; a format alone is taken as it is.
-- Errors: always.
-- Example:
-- > local fail = require 'vestige.fail'
-- > local ok, message = pcall(fail, 'lr: expected a number, got %q', 'x')
-- > assert(not ok and message:find('lr: expected a number', 1, true))
local function fail(_, format, ...)
  local message = select('#', ...) > 0 and format:format(...) or format
  for level = 2, 100 do
    local frame = debug.getinfo(level, 'Sl')
    if not frame then break end
    if not is_library(frame) then
      local place = frame.currentline > 0
                    and ('%s:%d: '):format(frame.short_src, frame.currentline) or ''
      error(place .. message, 0)
    end
  end
  error(message, 0)
end

M.is_library = is_library

return setmetatable(M, { __call = fail })
