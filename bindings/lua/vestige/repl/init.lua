--- The prompt: reads chunks, runs them, prints what they give, and goes on after an error.
--
-- A chunk is tried as an expression first, then as statements; one that ends too early (the parser
-- stops at <eof>) gets another line. Chunks run with the compiler off, so that Ctrl-C stops a loop
-- typed here; functions of modules are compiled as ever.
local host = require 'vestige.host'
local trace = require 'vestige.repl.trace'
local show = require 'vestige.repl.show'
local nearest = require 'vestige.nearest'

trace.own_file()

local M = {}

local prompt, continuation = 'vestige> ', '      .. '

-- History

local history_path

local function find_history_path()
  local given = os.getenv('VESTIGE_HISTORY')
  if given then return given ~= '' and given or nil end
  local state = os.getenv('XDG_STATE_HOME')
  if not state or state:sub(1, 1) ~= '/' then
    local home = os.getenv('HOME')
    if not home or home == '' then return nil end
    state = home .. '/.local/state'
  end
  return state .. '/vestige/history'
end

local kept = 5000 -- lines; the file is cut to them when it has twice as many

local function warn(text)
  io.stdout:flush()
  io.stderr:write('vestige: ', text, '\n')
end

local function load_history()
  if not host.terminal(0) then return end
  local path = find_history_path()
  if not path then return end
  local folder = path:match('^(.+)/[^/]*$')
  if folder then
    local ok, problem = host.private_folder(folder)
    if not ok then return warn('no history: ' .. problem) end
  end
  local ok, problem = host.append_private(path, '')
  if not ok then return warn('no history: ' .. problem) end
  history_path = path
  local lines = {}
  for line in io.lines(path) do lines[#lines + 1] = line end
  local first = math.max(1, #lines - kept + 1)
  for i = first, #lines do host.remember(lines[i]) end
  if #lines > 2 * kept then
    local short = path .. '.new'
    if host.write_private(short, table.concat(lines, '\n', first) .. '\n') then
      os.rename(short, path)
    end
  end
end

local last_line

-- A line typed: for the arrow keys, and in the file at once, so that no end of the program
-- loses it.
local function remember(line)
  if not line:find('%S') or line == last_line or not host.terminal(0) then return end
  last_line = line
  host.remember(line)
  if history_path and not host.append_private(history_path, line .. '\n') then
    history_path = nil
  end
end

-- Chunks

local saved = {} -- the chunks that worked, in the form that a script needs
local count = 0 -- chunks typed

-- Compiles text as an expression, else as statements. Gives the chunk and whether it is an
-- expression, or nil, the message, and whether more lines could complete it.
local function compile(text, name)
  local expression = text:match('^%s*=(.*)$') or text
  local chunk, problem = loadstring('return ' .. expression, name)
  if chunk then
    -- The nil keeps a call from being a tail call, which would lose the typed line's frame.
    return loadstring('return nil, ' .. expression, name) or chunk, true, text
  end
  local unfinished = problem:find("<eof>'$")
  chunk, problem = loadstring(text, name)
  if chunk then return chunk, false, text end
  return nil, problem, unfinished or problem:find("<eof>'$")
end

local function script_text(expression, text)
  if not expression or loadstring(text) or not text:find('%S') then return text end
  return 'print(' .. text:gsub('[;%s]+$', '') .. ')'
end

local function print_results(...)
  for i = 2, select('#', ...) do
    local text = show.text((select(i, ...)))
    io.stdout:write(text, '\n')
  end
end

local function report(problem, typed)
  if host.interrupted() then
    local frame = type(problem) == 'table' and problem.at
    local place = frame and frame:match('^(.-):%s') or nil
    io.stdout:write('interrupted', place and ' at ' .. place or '', '\n')
  else
    io.stdout:write('error: ', trace.text(problem, { typed = typed }), '\n')
  end
end

local function run(chunk, expression, text)
  jit.off(chunk, true)
  local ok, problem = host.run('chunk', function()
    if expression then print_results(chunk()) else print_results(nil, chunk()) end
  end, trace.handler)
  if ok then
    if text:find('%S') then saved[#saved + 1] = script_text(expression, text) end
  else
    report(problem, text:match('^%s*(.-)%s*$'))
  end
end

-- Commands

local commands = {}

--- Prints what the prompt understands.
function commands.help()
  require('vestige.help').print()
end

--- Leaves the prompt.
function commands.quit()
  return 'quit'
end

--- Writes the chunks that worked as a script; `:save! FILE` also over a file that exists.
function commands.save(path, force)
  if path == '' then error(':save needs the name of a file', 0) end
  local there = not force and io.open(path)
  if there then
    there:close()
    error(("'%s' exists; :save! %s writes over it"):format(path, path), 0)
  end
  local file, problem = io.open(path .. '.new', 'w')
  if not file then error('cannot save: ' .. problem, 0) end
  local ok
  ok, problem = file:write(table.concat(saved, '\n'), #saved > 0 and '\n' or '')
  local closed, close_problem = file:close()
  if ok and closed then ok, problem = os.rename(path .. '.new', path) end
  if not ok or not closed then
    os.remove(path .. '.new')
    error('cannot save: ' .. tostring(problem or close_problem), 0)
  end
  print(('%d chunk%s saved in %s'):format(#saved, #saved == 1 and '' or 's', path))
end

local function command(line)
  local name, force, rest = line:match('^:(%a*)(!?)%s*(.-)%s*$')
  local f = name and commands[name]
  if not f or (force ~= '' and name ~= 'save') then
    local names = {}
    for known in next, commands do names[#names + 1] = known end
    table.sort(names)
    local hint = nearest.find(name or '', names)
    print(("no command '%s'%s; there are :%s"):format(line:match('^%S*'),
      hint and ("; did you mean ':%s'?"):format(hint) or '', table.concat(names, ' :')))
    return
  end
  local ok, result = host.run('chunk', f, trace.handler, rest, force ~= '')
  if not ok then report(result) end
  return ok and result
end

local function ask(text)
  local ok, problem = host.run('chunk', function() require('vestige.help').ask(text) end,
    trace.handler)
  if not ok then report(problem) end
end

-- The loop

-- Reads one chunk, of several lines if need be. Gives nil and "eof" or "interrupt" without one.
local function read_chunk()
  local text
  local function tab(line)
    return require('vestige.repl.complete').tab(text and text .. '\n' .. line or line)
  end
  while true do
    local line, why = host.read(text and continuation or prompt, tab)
    if not line then
      if why == 'eof' then io.stdout:write('\n') end
      return nil, why
    end
    remember(line)
    if not text and line:find('^%s*[:?]') then return line:match('^%s*(.*)$') end
    text = text and text .. '\n' .. line or line
    local name = ('=prompt[%d]'):format(count + 1)
    local chunk, kind, more = compile(text, name)
    if chunk or not more then return text, chunk, kind, more end
  end
end

-- Loads the engine, so that its names complete from the start.
local function greet()
  local ok, problem = pcall(function() return _G.vestige end)
  local here = ok and problem ~= nil
  if here and package.loaded['vestige.tensor'] then
    require('vestige.repl.engine').connect(problem)
  end
  for _, name in ipairs { 'help', 'reload', 'show', 'plot' } do
    pcall(function() return _G[name] end)
  end
  if not host.terminal(0) then return end
  print(('vestige %s   ?x tells about x, :quit or Ctrl-D leaves'):format(host.version))
  if not ok then
    warn('the engine does not load: ' .. trace.message(problem))
  elseif not here then
    warn("the engine is not installed: there is no module 'vestige'; this is plain LuaJIT")
  end
end

--- Runs the prompt until the input ends, :quit, or quit() and exit() when nobody defined them.
-- Gives the exit status.
function M.start()
  load_history()
  greet()
  while true do
    local text, chunk, kind, source = read_chunk()
    if not text then
      if chunk == 'eof' then return 0 end
    elseif text:find('^:') and not chunk then
      if command(text) == 'quit' then return 0 end
    elseif text:find('^%?') and not chunk then
      ask(text:match('^%?%s*(.-)%s*$'))
    else
      local word = text:match('^%s*(%a+)%s*%(?%s*%)?%s*$')
      if (word == 'quit' or word == 'exit') and rawget(_G, word) == nil then return 0 end
      count = count + 1
      trace.sources[('=prompt[%d]'):format(count)] = text
      if chunk then
        run(chunk, kind, source)
      else
        io.stdout:write('error: ', kind, '\n')
      end
    end
    io.stdout:flush()
  end
end

return M
