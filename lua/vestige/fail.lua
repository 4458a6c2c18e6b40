-- How library code raises: the message points at the line of the user's script,
-- not at a line of lua/vestige. Every module under lua/vestige raises through here.

local here = debug.getinfo(1, 'S').source:match('^@(.*/)') or '@?'

--- fail(format, ...): raises an error whose position is the nearest caller outside lua/vestige.
-- format, ...: as string.format.
-- Errors: always.
-- Example:
-- > local fail = require 'vestige.fail'
-- > local ok, message = pcall(fail, 'lr: expected a number, got %q', 'x')
-- > assert(not ok and message:find('lr: expected a number', 1, true))
local function fail(format, ...)
  local message = select('#', ...) > 0 and format:format(...) or format
  local level = 2
  while true do
    local frame = debug.getinfo(level, 'S')
    if not frame then error(message, 0) end
    local source = frame.source
    if frame.what ~= 'C' and source:sub(2, #here + 1) ~= here then error(message, level) end
    level = level + 1
  end
end

return fail
