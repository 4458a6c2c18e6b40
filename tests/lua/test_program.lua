--- The program's command line: scripts, -e, arguments, exit codes, subcommands. VESTIGE names it.
local lu = require 'luaunit'

local program = os.getenv('VESTIGE') or 'build/vestige'
local folder

local function write(name, text)
  local file = assert(io.open(folder .. '/' .. name, 'w'))
  assert(file:write(text))
  file:close()
  return folder .. '/' .. name
end

-- Runs the program in the test's folder with a command line for the shell. Gives what it wrote on
-- standard output and error, and its exit status.
local function run(line, input)
  write('stdin', input or '')
  local command = ("cd '%s' && '%s' %s <stdin >out 2>err; echo $?"):format(folder, program, line)
  local pipe = io.popen(command)
  local status = tonumber(pipe:read('*a'))
  pipe:close()
  local function content(name)
    local file = assert(io.open(folder .. '/' .. name))
    local text = file:read('*a')
    file:close()
    return text
  end
  return content('out'), content('err'), status
end

local Test = {}
TestProgram = Test -- luacheck: ignore

function Test.setUp()
  local pipe = io.popen('mktemp -d')
  folder = pipe:read('*l')
  pipe:close()
  if program:sub(1, 1) ~= '/' then
    pipe = io.popen('pwd')
    program = pipe:read('*l') .. '/' .. program
    pipe:close()
  end
end

function Test.tearDown()
  os.execute("rm -rf '" .. folder .. "'")
end

function Test.test_scripts_and_arguments()
  write('s.lua', '#!/usr/bin/env vestige\nprint(arg[0], arg[1], #arg, ...)')
  lu.assertEquals({ run('s.lua one "two three"') }, { 's.lua\tone\t2\tone\ttwo three\n', '', 0 })
  lu.assertEquals({ run('s.lua -i') }, { 's.lua\t-i\t1\t-i\n', '', 0 })
  lu.assertEquals({ run('- a', 'print(arg[0], ...)') }, { '-\ta\n', '', 0 })
  lu.assertEquals({ run('', '#!x\nprint("in")') }, { 'in\n', '', 0 })
end

function Test.test_code()
  lu.assertEquals({ run("-e 'x = 2' -e 'print(x, arg[0] ~= nil)'") }, { '2\ttrue\n', '', 0 })
  write('s.lua', 'print(x, arg[1])')
  lu.assertEquals({ run("-e 'x = 2' s.lua b") }, { '2\tb\n', '', 0 })
  lu.assertEquals({ run("-e ''") }, { '', '', 0 })
  write('helper.lua', 'return {value = 9}')
  lu.assertEquals({ run("-l helper -e 'print(helper.value)'") }, { '9\n', '', 0 })
  local _, err, status = run('-e')
  lu.assertEquals(status, 1)
  lu.assertStrContains(err, "'-e' needs an argument")
end

function Test.test_errors_of_scripts()
  write('bad.lua', [[
local function inner(t)
  local v = t.x.y
  return v
end
print('before')
inner({})
]])
  local out, err, status = run('bad.lua')
  lu.assertEquals({ out, status }, { 'before\n', 1 })
  lu.assertEquals(err, [[
vestige: bad.lua:2: attempt to index field 'x' (a nil value)
    local v = t.x.y
traceback:
  bad.lua:2: in 'inner'
  bad.lua:6: in the main chunk
]])
  write('syntax.lua', 'x = = 1')
  lu.assertEquals({ run('syntax.lua') },
    { '', "vestige: syntax.lua:1: unexpected symbol near '='\n", 1 })
  lu.assertEquals({ run('try syntax.lua') },
    { '', "vestige: syntax.lua:1: unexpected symbol near '='\n    x = = 1\n", 1 })
  out, err, status = run("-e 'error({code = 2})' -e 'print(1)'")
  lu.assertEquals({ out, status }, { '', 1 })
  lu.assertStrContains(err, 'the error is a table')
  lu.assertEquals({ run("-e 'os.exit(7)'") }, { '', '', 7 })
  out, err, status = run("-e 'require \"no.such.module\"'")
  lu.assertEquals({ out, status }, { '', 1 })
  lu.assertStrContains(err, "module 'no.such.module' not found")
end

function Test.test_unknown_words()
  write('train.lua', '')
  local out, err, status = run('trian.lua')
  lu.assertEquals({ out, err, status },
    { '', "vestige: no file and no subcommand 'trian.lua'; did you mean 'train.lua'?\n", 1 })
  out, err, status = run('inof')
  lu.assertEquals({ out, status }, { '', 1 })
  lu.assertStrContains(err, "did you mean 'info'?")
  out, err, status = run('--versoin')
  lu.assertEquals({ out, status }, { '', 1 })
  lu.assertStrContains(err, "unknown option '--versoin'; did you mean '--version'?")
  out, err, status = run('.')
  lu.assertEquals({ out, status }, { '', 1 })
  lu.assertStrContains(err, 'vestige: ')
end

function Test.test_subcommands()
  os.execute("mkdir -p '" .. folder .. "/vestige/cli'")
  write('vestige/cli/greet.lua', [[
--- Greets the world. Then ends.
return { run = function(args)
  print('hello', args[0], args[1])
  return 3
end }]])
  lu.assertEquals({ run('greet you') }, { 'hello\tgreet\tyou\n', '', 3 })
  local out, err, status = run('--help')
  lu.assertEquals({ err, status }, { '', 0 })
  lu.assertStrContains(out, 'usage: vestige')
  lu.assertStrContains(out, 'greet          Greets the world.\n')
  out, err, status = run('help nearest')
  lu.assertEquals({ err, status }, { '', 0 })
  lu.assertStrContains(out, 'vestige.nearest')
  write('vestige/cli/fails.lua', 'return function() error("cannot do it", 0) end')
  out, err, status = run('fails')
  lu.assertEquals({ out, err, status }, { '', 'vestige: cannot do it\n', 1 })
end

function Test.test_version()
  local out, err, status = run('--version')
  lu.assertStrMatches(out, 'vestige %d+%.%d+%.%d+\n')
  lu.assertEquals({ err, status }, { '', 0 })
end

function Test.test_piped_prompt()
  local out, err, status = run('-i', 'x = 4\nx + 1\nerror("e")\n')
  lu.assertEquals({ err, status }, { '', 0 })
  lu.assertEquals(out, 'vestige> vestige> 5\nvestige> error: prompt[3]:1: e\nvestige> \n')
end

function Test.test_the_programs_own_paths()
  local out = run([[-e 'print(package.searchpath("vestige.help", package.path))']])
  lu.assertStrMatches(out, '/.*vestige/help.lua\n')
  out = run([[-e 'print(type(help), type(reload), type(show), type(plot), x)']])
  lu.assertEquals(out, 'table\tfunction\tfunction\tfunction\tnil\n')
end

-- Bound to cores, the first thread may run on one only; the others are still there.
function Test.test_bound_threads_are_counted()
  local function count(setting)
    local pipe = io.popen(("env -u OMP_NUM_THREADS %s '%s' -e 'print(vestige.get_num_threads())'")
                          :format(setting, program))
    local n = tonumber(pipe:read '*a')
    pipe:close()
    return n
  end
  local cores = count '-u OMP_PROC_BIND'
  lu.assertTrue(cores >= 1)
  lu.assertEquals(count 'OMP_PROC_BIND=true', cores)
end

os.exit(lu.LuaUnit.run())
