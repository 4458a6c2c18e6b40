--- What the program `vestige` does with its arguments: scripts, -e, subcommands, the prompt.
--
-- A subcommand `vestige NAME ...` is the module vestige.cli.NAME: a new one adds one file. The
-- module gives a function, or a table with `run`; it is called with the list of arguments, and a
-- number that it returns is the exit status. The first sentence of its file is its line in --help.
local host = require 'vestige.host'
local trace = require 'vestige.repl.trace'

trace.own_file()

local M = {}

local usage = [[
usage: vestige [options] [script.lua | subcommand | -] [arguments]

  (nothing)      the prompt; when the input is not a terminal, its text is run as a script
  script.lua     runs a script; its arguments are in the table `arg`
  -              runs the script on the standard input
  -e CODE        runs CODE; may be given several times, before a script
  -l NAME        requires the module NAME
  -i             goes to the prompt after the script or code
  --version      the version
  --help         this text
]]

-- Globals that are modules of ours, loaded when they are first used.
local lazy = {
  vestige = 'vestige',
  help = 'vestige.help',
  reload = 'vestige.repl.reload',
  show = 'vestige.repl.draw',
  plot = 'vestige.repl.draw',
}

local function lazy_value(name)
  local ok, module = pcall(require, lazy[name])
  if not ok then
    local absent = ("module '%s' not found"):format(lazy[name])
    if tostring(module):sub(1, #absent) == absent then return nil end
    error(module, 0)
  end
  if name == 'vestige' or name == 'help' then return module end
  return module[name]
end

--- Gives scripts and the prompt the globals vestige, help, reload, show and plot, each loaded when
-- it is first used, so that a script which needs none starts at once.
function M.globals()
  local meta = debug.getmetatable(_G) or {}
  local before = meta.__index
  function meta.__index(t, name)
    if lazy[name] then
      local value = lazy_value(name)
      if value ~= nil then rawset(t, name, value) end
      return value
    end
    if type(before) == 'function' then return before(t, name) end
    return type(before) == 'table' and before[name] or nil
  end
  debug.setmetatable(_G, meta)
end

--- Names the globals that M.globals gives.
function M.global_names()
  local names = {}
  for name in next, lazy do names[#names + 1] = name end
  table.sort(names)
  return names
end

local function complain(text)
  io.stdout:flush()
  io.stderr:write(text, '\n')
end

-- Runs a chunk. Gives the exit status and its first result.
local function run(chunk, ...)
  local result = { host.run('script', chunk, trace.handler, ...) }
  if result[1] then return 0, result[2] end
  if host.interrupted() then
    local report = result[2]
    local where = type(report) == 'table' and report.at
    complain('vestige: interrupted' .. (where and ' at ' .. where or ''))
    return 130
  end
  complain('vestige: ' .. trace.text(result[2]))
  return 1
end

local function run_text(text, name, ...)
  trace.sources[name] = text
  local chunk, problem = loadstring(text, name)
  if chunk then return run(chunk, ...) end
  complain('vestige: ' .. problem)
  return 1
end

local function exists(path)
  local file = io.open(path)
  if file then file:close() end
  return file ~= nil
end

-- The subcommands that package.path holds: a sorted list of names, and name -> path.
local function subcommands()
  local names, paths = {}, {}
  for template in package.path:gmatch('[^;]+') do
    local folder = template:match('^(.*)/%?%.lua$')
    for _, entry in ipairs(folder and host.list(folder .. '/vestige/cli') or {}) do
      local name = entry:match('^([%w_-]+)%.lua$')
      if name and not paths[name] then
        names[#names + 1] = name
        paths[name] = folder .. '/vestige/cli/' .. entry
      end
    end
  end
  table.sort(names)
  return names, paths
end

local function print_usage()
  io.write(usage)
  local names, paths = subcommands()
  if #names > 0 then io.write('\nsubcommands:\n') end
  for _, name in ipairs(names) do
    io.write(('  %-14s %s\n'):format(name, require('vestige.help').summary(paths[name])))
  end
end

local function run_subcommand(name, args)
  local status, code = run(function()
    local module = require('vestige.cli.' .. name)
    local f = type(module) == 'table' and module.run or module
    return f(args)
  end)
  return status ~= 0 and status or tonumber(code) or 0
end

local function unknown(name)
  local names = subcommands()
  local folder, base = name:match('^(.*/)([^/]*)$')
  local near = {}
  if not folder then
    for _, known in ipairs(names) do near[#near + 1] = known end
  end
  for _, entry in ipairs(host.list(folder or '.') or {}) do
    if entry:find('%.lua$') then near[#near + 1] = entry end
  end
  local hint = require('vestige.nearest').hint(base or name, near)
  complain(("vestige: no file and no subcommand '%s'%s"):format(name, hint))
  return 1
end

-- Runs the first word after the options: a script, a subcommand, or '-'.
local function run_target(name, arg)
  if name == '-' then
    local text = io.read('*a')
    return run_text(text:sub(1, 1) == '#' and '--' .. text or text, '=stdin', unpack(arg))
  end
  local plain = not name:find('[/.]')
  if plain and package.searchpath('vestige.cli.' .. name, package.path) then
    return run_subcommand(name, arg)
  end
  if not exists(name) then return unknown(name) end
  local chunk, problem = loadfile(name)
  if chunk then return run(chunk, unpack(arg)) end
  complain('vestige: ' .. problem)
  return 1
end

-- Reads the options: {code = list of {kind, text}, prompt =, target = index in argv}.
local function parse(argv)
  local options = { code = {} }
  local i = 1
  while argv[i] do
    local word = argv[i]
    if word == '--version' or word == '-v' then
      options.version = true
    elseif word == '--help' or word == '-h' then
      options.help = true
    elseif word == '-i' then
      options.prompt = true
    elseif word == '-e' or word == '-l' then
      i = i + 1
      if not argv[i] then return nil, ("'%s' needs an argument"):format(word) end
      table.insert(options.code, { word, argv[i] })
    elseif word == '--' then
      i = i + 1
      break
    elseif word:sub(1, 1) == '-' and word ~= '-' then
      return nil, ("unknown option '%s'%s"):format(word, require('vestige.nearest').hint(word,
        { '--version', '--help', '-e', '-l', '-i' }))
    else
      break
    end
    i = i + 1
  end
  options.target = argv[i] and i
  return options
end

--- Does what the command line `argv` says (argv[0] is the program) and gives the exit status.
function M.main(argv)
  local options, problem = parse(argv)
  if not options then
    complain('vestige: ' .. problem .. '\ntry vestige --help')
    return 1
  end
  if options.version then
    print('vestige ' .. host.version)
    return 0
  end
  if options.help then
    print_usage()
    return 0
  end
  local arg = {}
  local shift = options.target or #argv + 1
  for i = 0, #argv do arg[i - shift] = argv[i] end
  if not options.target then arg[0] = argv[0] end
  _G.arg = arg
  M.globals()
  local status = 0
  for _, code in ipairs(options.code) do
    if code[1] == '-e' then
      status = run_text(code[2], '=(command line)')
    else
      status = run(function() _G[code[2]] = require(code[2]) end)
    end
    if status ~= 0 and not options.prompt then return status end
  end
  local target = options.target and argv[options.target]
  if not target and not options.prompt and #options.code == 0 then
    if host.terminal(0) then options.prompt = true else target = '-' end
  end
  if target then status = run_target(target, arg) end
  if options.prompt then status = require('vestige.repl').start() end
  return status
end

return M
