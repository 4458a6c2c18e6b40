--- Completion and printing on arbitrary input: neither raises nor runs code. VESTIGE names the
-- program, in which this file runs itself.
local program = os.getenv('VESTIGE') or 'build/vestige'
if not package.loaded['vestige.host'] and not pcall(require, 'vestige.host') then
  os.exit(os.execute(("'%s' '%s'"):format(program, arg[0])) == 0 and 0 or 1)
end

local lu = require 'luaunit'
local complete = require 'vestige.repl.complete'
local show = require 'vestige.repl.show'

local Test = {}
TestComplete = Test -- luacheck: ignore

local pieces = { 'string', '.', ':', '(', ')', '{', '}', '[', ']', ',', '=', '"', "'", '[[', ']]',
  '--', '--[[', '\n', ' ', '1', '0x', '..', '...', 'require', 'reload', 'trap', 'for', 'x', '?',
  '\\', '\0', '\255', 'ä', 'options', '~=', ';', '_G', 'a.b', "['k']", 'function', 'end' }

function Test.test_any_text()
  local calls = 0
  _G.trap = setmetatable({}, { -- luacheck: ignore
    __index = function() calls = calls + 1 error('run') end,
    __call = function() calls = calls + 1 error('run') end,
    __tostring = function() calls = calls + 1 error('run') end,
  })
  math.randomseed(7)
  for _ = 1, 10000 do
    local parts = {}
    for i = 1, math.random(12) do parts[i] = pieces[math.random(#pieces)] end
    local text = table.concat(parts)
    local ok, insert, list = pcall(complete.tab, text)
    lu.assertTrue(ok, ('%q: %s'):format(text, tostring(insert)))
    lu.assertTrue(insert == nil or type(insert) == 'string')
    lu.assertTrue(list == nil or (insert == nil and #list > 1))
  end
  lu.assertEquals(calls, 0)
  _G.trap = nil -- luacheck: ignore
end

function Test.test_names()
  lu.assertEquals(complete.tab('string.rever'), 'se')
  lu.assertEquals(complete.tab('("x"):rever'), 'se')
  lu.assertEquals(complete.tab("require('vestige.nearest').dist"), 'ance')
  lu.assertEquals(complete.tab("package.loaded['vestige.nearest'].dist"), 'ance')
  lu.assertEquals(complete.tab('-- string.rever'), nil)
  lu.assertEquals(complete.tab('"string.rever'), nil)
  lu.assertEquals(complete.tab('f().rever'), nil)
  lu.assertEquals(complete.tab('nothing.here'), nil)
  lu.assertEquals(complete.tab(':sa'), 've ')
  lu.assertEquals(complete.tab('?string.rever'), 'se')
  lu.assertEquals(complete.tab('?'), nil)
  lu.assertEquals(complete.tab('math.co'), 's')
  lu.assertEquals(complete.tab('local weights = 1\nwei'), 'ghts')
  local _, list = complete.tab('math.cos')
  lu.assertEquals(list, { 'cos', 'cosh' })
end

function Test.test_text_of_values()
  local function text(value) return show.text(value, { width = 40 }) end
  lu.assertEquals(text({}), '{}')
  lu.assertEquals(text({ 1, nil, 3 }), '{1, [3] = 3}')
  lu.assertEquals(text({ ['end'] = 1, [true] = 2, [1.5] = 3 }),
    "{[true] = 2, [1.5] = 3, ['end'] = 1}")
  lu.assertEquals(text('it\'s "quoted"\n'), [['it\'s "quoted"\n']])
  lu.assertEquals(text("it's"), [["it's"]])
  lu.assertEquals(text({ { { { { 1 } } } } }), '{{{{{...}}}}}')
  lu.assertStrContains(text({ ('x'):rep(1000) }), '... 800 more bytes')
  local long = {}
  for i = 1, 250 do long[i] = i end
  local shown = text(long)
  lu.assertStrContains(shown, '... 150 more')
  for line in shown:gmatch('[^\n]+') do lu.assertTrue(#line <= 40, line) end
  local t = { a = {} }
  t.a.up = t
  t.a.self = t.a
  lu.assertEquals(text(t), '{\n  a = {\n    self = <the same table, 1 up>,\n' ..
    '    up = <the same table, 2 up>\n  }\n}')
  lu.assertEquals(text(setmetatable({}, { __index = error, __pairs = error })), '{}')
end

-- The examples in the doc comments: lines that start with > are one chunk a block.
function Test.test_examples()
  local count = 0
  for _, name in ipairs { 'help', 'repl.complete', 'repl.show', 'repl.reload', 'repl.picture' } do
    local path = package.searchpath('vestige.' .. name, package.path)
    local lines = {}
    for line in io.lines(path) do
      local code = line:match('^%-%- > (.*)')
      if code then
        lines[#lines + 1] = code
      elseif #lines > 0 then
        local ok, problem = pcall(assert(loadstring(table.concat(lines, '\n'), '=' .. name)))
        lu.assertTrue(ok, tostring(problem))
        lines, count = {}, count + 1
      end
    end
  end
  lu.assertTrue(count >= 7)
end

function Test.test_written_options()
  local help = require 'vestige.help'
  help.register(print, 'f(x, options): does it.\noptions: bins (30); low, high (the\n' ..
    'range, or so), width (a, b). Values go out.\nReturns {low, n}.\nExample:\n> f{no=1}\n' ..
    'Also rate=0.1 where x == 2.', { name = 'print' })
  lu.assertEquals(help.options(print), { 'bins', 'low', 'high', 'width', 'rate' })
end

os.exit(lu.LuaUnit.run())
