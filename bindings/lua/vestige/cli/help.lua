--- Prints the documentation of a name, as ?name does at the prompt.
local help = require 'vestige.help'

return function(args)
  pcall(require, 'vestige')
  if not args[1] then return help.print() end
  local text, problem = help.text(args[1])
  if not text then error(problem, 0) end
  print(text)
end
