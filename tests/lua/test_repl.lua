--- The prompt, driven through a pseudo-terminal. VESTIGE names the program.
local here = arg[0]:match('^(.*/)') or './'
package.path = here .. '?.lua;' .. package.path
local lu = require 'luaunit'
local pty = require 'pty'

local program = os.getenv('VESTIGE') or 'build/vestige'
local P = 'vestige> '
local C = '      .. '

local folder -- of this test's files

local function shell(command)
  assert(os.execute(command) == 0, command)
end

local function read(path)
  local file = assert(io.open(path))
  local text = file:read('*a')
  file:close()
  return text
end

local function write(path, text)
  local file = assert(io.open(path, 'w'))
  assert(file:write(text))
  file:close()
end

local open = {}

-- A prompt whose history and files are in the test's folder.
local function prompt(args, env)
  local argv = { program }
  for _, word in ipairs(args or {}) do argv[#argv + 1] = word end
  local vars = { TERM = 'xterm', HOME = folder, XDG_STATE_HOME = folder .. '/state',
    LUA_PATH = folder .. '/?.lua;;', PATH = os.getenv('PATH'), LANG = 'C.UTF-8',
    OPENBLAS_CORETYPE = os.getenv('OPENBLAS_CORETYPE') }
  for _, name in ipairs { 'ASAN_OPTIONS', 'LSAN_OPTIONS', 'UBSAN_OPTIONS' } do
    vars[name] = os.getenv(name)
  end
  for name, value in pairs(env or {}) do vars[name] = value end
  local session = pty.start(argv, vars)
  open[#open + 1] = session
  if not args then session:expect(P) end
  return session
end

local function leave(session)
  session:send('\4')
  lu.assertEquals({ session:wait() }, { 'exit', 0 })
  lu.assertTrue(session.output:sub(-2) == '\r\n', 'the prompt leaves on a line of its own')
end

-- Ctrl-C at the prompt: the line goes, a new prompt comes.
local function drop(session)
  session:send('\3')
  session:expect('^C\n')
  session:expect(P)
end

local Test = {}
TestRepl = Test -- luacheck: ignore

function Test.setUp()
  local pipe = io.popen('mktemp -d')
  folder = pipe:read('*l')
  pipe:close()
end

function Test.tearDown()
  for _, session in ipairs(open) do session:close() end
  open = {}
  shell("rm -rf '" .. folder .. "'")
end

function Test.test_values_are_printed()
  local s = prompt()
  lu.assertEquals(s:line('1 + 1', P), '2\n')
  lu.assertEquals(s:line("'a' .. 'b'", P), "'ab'\n")
  lu.assertEquals(s:line('= 6 * 7', P), '42\n')
  lu.assertEquals(s:line('return 5', P), '5\n')
  lu.assertEquals(s:line('nil', P), 'nil\n')
  lu.assertEquals(s:line('x = 3', P), '')
  lu.assertEquals(s:line('x, true', P), '3\ntrue\n')
  lu.assertEquals(s:line("{1, 2, b = {x = 'y'}, a = 1.5}", P),
    "{1, 2, a = 1.5, b = {x = 'y'}}\n")
  lu.assertEquals(s:line('t = {} t.t = t', P), '')
  lu.assertEquals(s:line('t', P), '{t = <the same table, 1 up>}\n')
  lu.assertEquals(s:line('7LL', P), '7LL\n')
  lu.assertEquals(s:line('-- nothing', P), '')
  lu.assertEquals(s:line('', P), '')
  leave(s)
end

function Test.test_lines_until_the_chunk_is_complete()
  local s = prompt()
  s:line('function twice(x)', C)
  s:line('  return 2 * x', C)
  lu.assertEquals(s:line('end', P), '')
  lu.assertEquals(s:line('twice(21)', P), '42\n')
  s:line('1 +', C)
  lu.assertEquals(s:line('2', P), '3\n')
  s:line('text = [[one', C)
  s:line('two]]', P)
  lu.assertEquals(s:line('text', P), "'one\\ntwo'\n")
  s:line('for i = 1, 3 do', C)
  drop(s)
  lu.assertEquals(s:line('11 + 1', P), '12\n')
  leave(s)
end

function Test.test_completion()
  local s = prompt()
  -- A global; a field; a field of a field; a method of a string and through metatables.
  lu.assertEquals(s:line('tostri\t(15) .. "."', P), "'15.'\n")
  lu.assertEquals(s:line('string.rever\t("abc")', P), "'cba'\n")
  s:line("model = {layers = {{weight_decay = 7}}}", P)
  lu.assertEquals(s:line('model.lay\t[1].wei\t + 1', P), '8\n')
  lu.assertEquals(s:line('name = "abc"', P), '')
  lu.assertEquals(s:line('name:rever\t()', P), "'cba'\n")
  s:line('Base = {forward_all = function() return "fw" end}', P)
  s:line('Base.__index = Base', P)
  s:line('Net = setmetatable({}, Base) Net.__index = Net', P)
  s:line('net = setmetatable({}, Net)', P)
  lu.assertEquals(s:line('net:forw\t()', P), "'fw'\n")
  -- A keyword, a command, a name in the lines above.
  s:line('func\t add(first_number, b)', C)
  s:line('retu\t first_nu\t + b', C)
  s:line('end', P)
  lu.assertEquals(s:line('add(4, 5)', P), '9\n')
  -- Several: the common part, then the list.
  s:line('longname_one, longname_two = 1, 2', P)
  s:send('longn\t')
  s:expect('longname_')
  s:send('\t')
  s:expect('longname_one  longname_two')
  s:expect(P .. 'longname_')
  s:send('two\n')
  s:expect('\n')
  lu.assertEquals(s:expect(P), '2\n')
  -- Modules in quotes.
  lu.assertEquals(s:line("reload 'vestige.repl.relo\t", P), '<module vestige.repl.reload>\n')
  leave(s)
end

function Test.test_completion_of_options()
  write(folder .. '/documented.lua', [[
local M = {}
--- Trains. Options: rate=0.1, momentum=0.9, steps=10.
--
-- > train({rate=1, hidden=2})
function M.train(options) return options end
return M
]])
  local s = prompt()
  s:line("d = require 'documented'", P)
  lu.assertEquals(s:line('d.train({rat\t5}).rate', P), '5\n')
  lu.assertEquals(s:line('d.train {rate = 1, mo\t2}.momentum', P), '2\n')
  s:send('d.train{\t')
  s:expect('momentum  rate      steps')
  drop(s)
  leave(s)
end

function Test.test_completion_runs_no_code()
  local s = prompt()
  s:line('hits = 0', P)
  s:line('trap = setmetatable({}, {__index = function() hits = hits + 1 error("x") end})', P)
  s:send('trap.fo\t\21')
  s:send('trap.a.b:c\t\21')
  s:send('trap:\t\21')
  s:line('call().x\t = 1', P)
  lu.assertEquals(s:line('hits', P), '0\n')
  -- A hook that raises is no error either.
  s:line("require('vestige.repl.complete').register(function() error('no') end)", P)
  lu.assertEquals(s:line('string.rever\t("ab")', P), "'ba'\n")
  s:line("require('vestige.repl.complete').register(function(v)", C)
  s:line("return v == trap and {'special_name'} or nil end)", P)
  s:send('trap.spec\t')
  s:expect('trap.special_name')
  drop(s)
  leave(s)
end

function Test.test_ctrl_c_stops_a_loop()
  local s = prompt()
  s:send('print("begin") while true do end\n')
  s:expect('\nbegin\n')
  s:send('\3')
  s:expect('interrupted at prompt[1]:1')
  s:expect(P)
  s:line('function spin(word) print(word) while true do end end', P)
  s:send('pcall(spin, "first") spin("second")\n')
  s:expect('\nfirst\n')
  s:send('\3') -- pcall takes this one
  s:expect('second\n')
  s:send('\3')
  s:expect('interrupted')
  s:expect(P)
  -- A chunk that takes every error is stopped by the third.
  s:send('while true do pcall(spin, "again") end\n')
  s:expect('\nagain\n')
  s:send('\3')
  s:expect('again\n')
  s:send('\3')
  s:expect('again\n')
  s:send('\3')
  s:expect('interrupted')
  s:expect(P)
  lu.assertStrContains(s:line('"alive"', P), "'alive'")
  leave(s)
end

function Test.test_ctrl_c_drops_the_line()
  local s = prompt()
  s:send('some text that is dropped')
  drop(s)
  drop(s)
  lu.assertEquals(s:line('5', P), '5\n')
  leave(s)
end

function Test.test_second_ctrl_c_ends()
  -- The first waits while somebody holds it.
  local s = prompt()
  s:line("host = require 'vestige.host'", P)
  s:send('host.hold() print("begin") while true do end\n')
  s:expect('\nbegin\n')
  s:send('\3')
  s:expect('^C')
  s:taken(2)
  s:send('\3')
  local how, code = s:wait()
  lu.assertEquals(how, 'exit')
  lu.assertTrue(code == 130, 'status ' .. code)
  lu.assertTrue(s:cooked())
end

function Test.test_errors_and_going_on()
  write(folder .. '/shapes.lua', [[
local Shape = {}
Shape.__index = Shape
function Shape.new() return setmetatable({}, Shape) end
function Shape:area()
  local w = self.size.width
  return w
end
function Shape:check() error('check: wrong', 2) end
return Shape
]])
  local s = prompt()
  s:line("Shape = require 'shapes'", P)
  s:line('shape = Shape.new()', P)
  local out = s:line('shape:area()', P)
  lu.assertStrContains(out, "shapes.lua:5: attempt to index field 'size' (a nil value)")
  lu.assertStrContains(out, 'local w = self.size.width')
  lu.assertStrContains(out, "prompt[3]:1: in the main chunk")
  lu.assertNotStrContains(out, 'repl/init.lua')
  lu.assertNotStrContains(out, 'xpcall')
  -- An error at the caller's level names the line typed, also in an expression.
  lu.assertEquals(s:line('shape:check()', P):match('^[^\n]*'),
    'error: prompt[4]:1: check: wrong')
  lu.assertStrContains(s:line('x = = 1', P), 'error: prompt[5]:1: unexpected symbol')
  lu.assertStrContains(s:line('error({})', P), 'error: the error is a table')
  s:line('e = setmetatable({}, {__tostring = function() return "mine" end})', P)
  lu.assertStrContains(s:line('error(e)', P), 'error: mine')
  lu.assertStrContains(s:line('setmetatable({}, {__tostring = function() error("bad") end})', P),
    '__tostring fails')
  lu.assertStrContains(s:line('function deep() return 1 + deep() end', P), '')
  lu.assertStrContains(s:line('deep()', P), 'stack overflow')
  lu.assertEquals(s:line('"alive"', P), "'alive'\n")
  leave(s)
end

function Test.test_history_between_runs()
  local s = prompt()
  s:line('kept = 41', P)
  leave(s)
  local mode = io.popen("stat -c %a '" .. folder .. "/state/vestige/history'")
  lu.assertEquals(mode:read('*l'), '600')
  mode:close()
  s = prompt()
  s:send('\27[A')
  s:expect('kept = 41')
  s:send('\n')
  s:expect(P)
  lu.assertEquals(s:line('kept + 1', P), '42\n')
  leave(s)
  s = prompt(nil, { VESTIGE_HISTORY = folder .. '/deep/er/own' })
  s:line('own = 1', P)
  leave(s)
  lu.assertEquals(read(folder .. '/deep/er/own'), 'own = 1\n')
  -- Where it cannot be written the prompt works without.
  s = prompt({}, { VESTIGE_HISTORY = '/proc/none/history' })
  s:expect('no history: ')
  s:expect(P)
  lu.assertEquals(s:line('2', P), '2\n')
  leave(s)
end

function Test.test_save()
  local s = prompt()
  local path = folder .. '/session.lua'
  s:line('a = 20', P)
  s:line('error("not kept")', P)
  s:line('function half(x)', C)
  s:line('return x / 2 end', P)
  s:line('half(a)', P)
  s:line('a + 1', P)
  s:line('?half', P)
  lu.assertEquals(s:line(':save ' .. path, P), '4 chunks saved in ' .. path .. '\n')
  lu.assertStrContains(s:line(':save ' .. path, P), 'exists')
  lu.assertStrContains(s:line(':save! ' .. path, P), 'saved')
  lu.assertStrContains(s:line(':save /nowhere/x', P), 'cannot save')
  lu.assertStrContains(s:line(':sav x', P), "did you mean ':save'")
  lu.assertStrContains(s:line(':help', P), ':save FILE')
  s:send(':quit\n')
  lu.assertEquals({ s:wait() }, { 'exit', 0 })
  lu.assertEquals(read(path), 'a = 20\nfunction half(x)\nreturn x / 2 end\nhalf(a)\nprint(a + 1)\n')
  local pipe = io.popen(("'%s' '%s'"):format(program, path))
  lu.assertEquals(pipe:read('*a'), '21\n')
  pipe:close()
end

function Test.test_reload()
  local file = folder .. '/counter.lua'
  local code = [[
local M = {}
local Counter = {}
Counter.__index = Counter
M.Counter = Counter
M.%s = true
function M.new() return setmetatable({n = %d}, Counter) end
function Counter:get() return self.n * %d end
function M.is(x) return getmetatable(x) == Counter end
return M
]]
  write(file, code:format('first', 3, 10))
  local s = prompt()
  s:line("m = require 'counter' old = m.new()", P)
  lu.assertEquals(s:line('old:get()', P), '30\n')
  write(file, code:format('second', 4, 100))
  lu.assertEquals(s:line("reload 'counter' == m", P), 'true\n')
  lu.assertEquals(s:line('old:get(), m.new():get()', P), '300\n400\n')
  lu.assertEquals(s:line('m.first, m.second, m.is(old), m.is(m.new())', P),
    'nil\ntrue\ntrue\ntrue\n')
  write(file, 'local M = {} M.broken = = 1')
  lu.assertStrContains(s:line("reload 'counter'", P), 'counter.lua:1:')
  write(file, 'error("at load")')
  lu.assertStrContains(s:line("reload 'counter'", P), 'at load')
  lu.assertEquals(s:line('old:get(), m.second', P), '300\ntrue\n')
  lu.assertStrContains(s:line("reload 'countre'", P), "did you mean 'counter'")
  leave(s)
end

function Test.test_help()
  write(folder .. '/tool.lua', [[
--- A tool for the test. It has two functions.
local M = {}

--- Adds two numbers. It is simple.
--
-- > tool.add(1, 2)
function M.add(a, b) return a + b end

-- Not documented: two dashes.
M.other = function(...) return ... end

return M
]])
  local s = prompt()
  s:line("tool = require 'tool'", P)
  local out = s:line('?tool.add', P)
  lu.assertStrContains(out, 'tool.add(a, b)')
  lu.assertStrContains(out, 'Adds two numbers. It is simple.')
  lu.assertStrContains(out, '> tool.add(1, 2)')
  lu.assertEquals(s:line('help(tool.add)', P), out)
  lu.assertStrContains(s:line('help(tool.other)', P), 'no documentation')
  out = s:line('?tool', P)
  lu.assertStrContains(out, 'A tool for the test. It has two functions.')
  lu.assertStrContains(out, 'tool.add    Adds two numbers.\n')
  lu.assertStrContains(s:line('?tool.ad', P), "did you mean 'tool.add'")
  lu.assertStrContains(s:line("help 'nearst'", P), "did you mean 'nearest'")
  lu.assertStrContains(s:line('?string.format', P), 'Built into LuaJIT')
  lu.assertStrContains(s:line('help()', P), ':save FILE')
  lu.assertStrContains(s:line('?', P), ':save FILE')
  s:line("help.register(tool.other, 'Given.\\nMore.', {name = 'op', options = {'opt_a'}})", P)
  lu.assertStrContains(s:line('?tool.other', P), '  Given.\n  More.')
  lu.assertStrContains(s:line('?op', P), '  Given.\n  More.')
  lu.assertStrContains(s:line('type(tool.other {opt\t4})', P), "'table'")
  s:line('--- Typed here.', P)
  s:line('function typed() end --', P)
  lu.assertStrContains(s:line('?typed', P), 'typed()   ')
  leave(s)
end

function Test.test_with_the_engine()
  if os.execute(("'%s' -e 'vestige.zeros(1)' 2>/dev/null"):format(program)) ~= 0 then
    lu.skip('the program was built without the engine')
  end
  local s = prompt()
  s:line('x = vestige.tensor({{1, 2, 3}, {4, 5, 6}})', P)
  lu.assertEquals(s:line('x', P),
    'tensor([[1., 2., 3.],\n        [4., 5., 6.]])  # f32 (2,3) cpu\n')
  lu.assertStrContains(s:line('{x}', P), '# f32 (2,3) cpu')
  lu.assertEquals(s:line('x:nume\t()', P), '6\n')
  lu.assertEquals(s:line('x:sum({keepd\ttrue}):dim()', P), '2\n')
  lu.assertEquals(s:line('vestige.sum(x, {keepd\ttrue}):dim()', P), '2\n')
  s:line('x:requires_grad_()', P)
  s:line('x:sum():backward()', P)
  lu.assertEquals(s:line('x.grad:nume\t()', P), '6\n')
  for _, asked in ipairs { '?x:exp', '?exp', '?vestige.exp', 'help(vestige.exp)', '?any:exp' } do
    lu.assertStrContains(s:line(asked, P), 'exp(x) -> y   operator\n\n  e to')
  end
  lu.assertStrContains(s:line('?vestige', P), 'vestige.manual_seed')
  lu.assertStrContains(s:line('help(x)', P), ':item')
  -- An error inside a method: one message at the line typed, no frames of the library.
  s:line('function f(t)', C)
  s:line('  local y = t:add(vestige.zeros(5, 7))', C)
  s:line('  return y', C)
  s:line('end', P)
  local out = s:line('f(x)', P)
  lu.assertStrContains(out, 'add: ')
  lu.assertStrContains(out, ']:2: ')
  lu.assertStrContains(out, '    local y = t:add(vestige.zeros(5, 7))\n')
  lu.assertStrContains(out, ": in 'f'\n")
  lu.assertNotStrContains(out, 'call.lua')
  lu.assertStrContains(s:line('x:reshap(6)', P), "did you mean 'reshape'")
  lu.assertStrContains(s:line('show(vestige.rand({2, 4, 4, 3}))', P), '▀▀▀▀ ▀▀▀▀')
  lu.assertStrContains(s:line('plot(vestige.rand(10))', P), '└──')
  leave(s)
end

function Test.test_ctrl_c_in_the_engine()
  if os.execute(("'%s' -e 'vestige.zeros(1)' 2>/dev/null"):format(program)) ~= 0 then
    lu.skip('the program was built without the engine')
  end
  local s = prompt()
  s:line('x = vestige.rand({2048, 2048})', P)
  s:line('function busy() while true do local y = x:mul(x):exp() end end', P)
  s:send('print("begin") busy()\n')
  s:expect('\nbegin\n')
  s:send('\3')
  s:expect('interrupted')
  s:expect(P)
  lu.assertStrContains(s:line('vestige.ones(6):sum():item()', P), '6')
  -- Inside one product of 4096 x 4096: it has no result, and its memory is given back.
  s:line('a = vestige.rand({4096, 4096}) vestige.scope(function() return a[1]:matmul(a) end)', P)
  s:line('function live() collectgarbage() collectgarbage() return vestige.memory().live end', P)
  s:line('before = live()', P)
  s:send('print("begin") product = a:matmul(a) print("whole")\n')
  s:expect('\nbegin\n')
  s:send('\3')
  lu.assertNotStrContains(s:expect('interrupted'), 'whole')
  s:expect(P)
  lu.assertEquals(s:line('product, live() - before', P), 'nil\n0\n')
  leave(s)
end

function Test.test_lines_typed_ahead()
  local s = prompt()
  s:send('for i = 1, 3 do\n  last = i\nend\nlast * 100\n"done"\n')
  s:expect("300\n")
  s:expect("'done'\n")
  s:expect(P)
  leave(s)
end

function Test.test_show_and_plot()
  local s = prompt()
  lu.assertEquals(s:line('show({1})', P), '{1}\n')
  lu.assertStrContains(s:line('plot({1, 4, 9})', P), '└───')
  lu.assertStrContains(s:line("plot({1, 2, 2}, {kind = 'hist', bins = 4})", P), '────')
  lu.assertStrContains(s:line("plot({1, 2}, {tilte = 'x'})", P), "did you mean 'title'")
  lu.assertStrContains(s:line("plot('x')", P), 'prompt[5]:1: plot: y is no list of numbers')
  s:line("draw = require 'vestige.repl.draw'", P)
  s:line('pic = {}', P)
  s:line('draw.register_image(function(v) if v == pic then return {n = 2, h = 4, w = 4, c = 1,', C)
  s:line('get = function(i, y, x, c) return i - 1 end} end end)', P)
  s:send('show(pic)\n')
  s:expect('▀▀▀▀ ▀▀▀▀\n▀▀▀▀ ▀▀▀▀\n')
  s:expect(P)
  lu.assertStrContains(s.output, '\27[38;2;0;0;0;48;2;0;0;0m')
  lu.assertStrContains(s.output, '\27[38;2;255;255;255;48;2;255;255;255m')
  leave(s)
end

function Test.test_terminal()
  local s = prompt()
  lu.assertFalse(s:cooked())
  s:send('1234')
  s:expect('1234')
  s:resize(30, 40)
  s:send('5\n')
  s:expect('\n12345\n')
  s:expect(P)
  s:line("text = 'äöü'", P)
  lu.assertEquals(s:line('#text', P), '6\n')
  s:signal(15)
  lu.assertEquals({ s:wait() }, { 'signal', 15 })
  lu.assertTrue(s:cooked())
end

function Test.test_ctrl_z()
  local s = pty.start({ '/bin/sh', '-i' }, { TERM = 'xterm', HOME = folder, PS1 = 'shell> ' })
  open[#open + 1] = s
  s:expect('shell> ')
  s:send(program .. '\n')
  s:expect(P)
  s:send('67')
  s:expect('67')
  s:send('\26')
  s:expect('shell> ')
  lu.assertTrue(s:cooked())
  s:send('fg\n')
  s:expect('67') -- the line is still there
  s:send('8\n')
  s:expect('\n678\n')
  s:expect(P)
  s:send('\4')
  s:expect('shell> ')
  lu.assertTrue(s:cooked())
end

function Test.test_prompt_after_a_script()
  write(folder .. '/first.lua', 'value = 12 print("ran", ...)')
  local s = prompt({ '-i', folder .. '/first.lua', 'a', 'b' })
  s:expect('ran\ta\tb')
  s:expect(P)
  lu.assertEquals(s:line('value', P), '12\n')
  lu.assertEquals(s:line('arg[2]', P), "'b'\n")
  leave(s)
  s = prompt({ '-i', '-e', 'x = 1 error("oh")' })
  s:expect('oh')
  s:expect(P)
  lu.assertEquals(s:line('x', P), '1\n')
  s:send('quit()\n')
  lu.assertEquals({ s:wait() }, { 'exit', 0 })
end

function Test.test_ctrl_c_in_a_script()
  write(folder .. '/loop.lua', 'jit.off() print("begin") while true do end')
  local s = prompt({ folder .. '/loop.lua' })
  s:expect('begin\n')
  s:send('\3')
  lu.assertEquals({ s:wait() }, { 'exit', 130 })
  lu.assertStrContains(s:text(), 'interrupted at ')
  -- A loop that is compiled is ended a little later.
  write(folder .. '/fast.lua', [[
local i = 0
while true do
  i = i + 1
  if i == 1e6 then print('begin') end
end]])
  s = prompt({ folder .. '/fast.lua' })
  s:expect('begin\n')
  s:send('\3')
  lu.assertEquals({ s:wait() }, { 'exit', 130 })
  -- One who holds finishes first.
  write(folder .. '/held.lua', [[
local host = require 'vestige.host'
host.hold()
print('begin')
jit.off()
while not host.pending() do end
print('step done')
host.release()
while true do end]])
  s = prompt({ folder .. '/held.lua' })
  s:expect('begin\n')
  s:send('\3')
  s:expect('step done\n')
  lu.assertEquals({ s:wait() }, { 'exit', 130 })
end

os.exit(lu.LuaUnit.run())
