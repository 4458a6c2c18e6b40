--- Tells the version, the devices and what was chosen for this machine.
local host = require 'vestige.host'
local show = require 'vestige.repl.show'

return function()
  print('vestige ' .. host.version .. '   ' .. host.program)
  local ok, vestige = pcall(require, 'vestige')
  if not ok then error('the engine is not there: ' .. tostring(vestige):match('^[^\n]*'), 0) end
  local info = vestige.info()
  if info ~= nil then print(type(info) == 'string' and info or show.text(info)) end
end
