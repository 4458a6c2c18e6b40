--- How tests start the program: through a shell, or on a terminal (pty.lua).
local pty = require 'tests.lua.pty'

local M = {}

--- The program under test.
M.program = os.getenv 'VESTIGE' or 'build/vestige'

--- A list of words, each quoted, as a command line.
function M.line(argv)
  local words = {}
  for i, word in ipairs(argv) do words[i] = "'" .. word .. "'" end
  return table.concat(words, ' ')
end

--- Runs a command line: what it wrote to standard output, and its exit status. Errors go there too,
-- unless the line sends them elsewhere.
function M.run(line)
  local pipe = io.popen(('{ %s\n} 2>&1; echo "status $?"'):format(line))
  local text, status = pipe:read('*a'):match '^(.*)status (%d+)\n$'
  pipe:close()
  return text, tonumber(status)
end

--- Starts a list of words on a terminal of its own, with `home` as the home folder.
function M.on_terminal(argv, home)
  return pty.start(argv, { TERM = 'xterm-256color', COLORTERM = 'truecolor', LANG = 'C.UTF-8',
                           LUA_PATH = os.getenv 'LUA_PATH' or ';;', HOME = home,
                           PATH = os.getenv 'PATH', ASAN_OPTIONS = 'detect_leaks=0' })
end

return M
