-- slow: `vestige try` on what a person might write, told in words.
local lu = require 'luaunit'
local fs = require 'vestige.fs'
local try = require 'vestige.try'

local T = {}

local root
function T.setUp()
  root = os.tmpname()
  os.remove(root)
  fs.mkdir(root)
end
function T.tearDown() fs.remove_tree(root, '/tmp') end

local function run(text)
  local path = root .. '/plugin.lua'
  fs.write(path, text)
  return try.run(path, { quiet = true, epochs = 1 })
end

local function message(text)
  local ok, said = pcall(run, text)
  lu.assertFalse(ok)
  return said
end

-- The code block of CONTRIBUTING.md that begins with `first`.
local function documented(first)
  for block in fs.read('CONTRIBUTING.md'):gmatch('```lua\n(.-)```') do
    if block:find(first, 1, true) then return block end
  end
  error('CONTRIBUTING.md has no such block: ' .. first)
end

function T.test_the_attack_of_contributing()
  local rows, words = run(documented "name = 'label_flip'")
  lu.assertEquals(#rows, 3)
  lu.assertStrMatches(words, 'label_flip: test accuracy [%d.]+ %% poisoned, [%d.]+ %% clean%.')
end

function T.test_the_method_of_contributing()
  local rows, words = run(documented "name = 'gd'")
  lu.assertEquals(#rows, 4)
  lu.assertEquals(rows[4][1], 'gd')
  lu.assertNotStrContains(words, 'moves nothing')
end

function T.test_a_method_that_destroys_the_model()
  local rows, words = run[[local vestige = require 'vestige'
    return { name = 'breaks', defaults = {}, unlearn = function(m)
      vestige.no_grad(function() m.fc.weight:zero_() end)
      return m
    end }]]
  lu.assertEquals({ rows[4][3], rows[4][4] }, { false, 'collapsed' })
  lu.assertStrContains(words, 'The model collapsed: every prediction is class')
end

function T.test_an_attack_that_does_nothing()
  local _, words = run[[return { name = 'idle', places = 'replace', defaults = {},
    poison = function(ds) return { data = ds, forget = { 1, 2 } } end }]]
  lu.assertStrContains(words, 'idle changes nothing')
end

function T.test_a_method_that_does_nothing()
  local _, words = run[[return { name = 'idle', needs = 'retain', defaults = {},
    unlearn = function(model) return model end }]]
  lu.assertStrContains(words, 'idle moves nothing')
end

function T.test_one_that_raises_is_told_with_its_line()
  lu.assertStrMatches(message[[return { name = 'bad', defaults = {},
    poison = function(ds) return ds.none.x end }]], '.*plugin%.lua:2: .*')
  lu.assertStrMatches(message[[return { name = 'bad', defaults = {},
    unlearn = function(model)
      return model.none.x
    end }]], '.*plugin%.lua:3: .*')
end

function T.test_files_that_are_no_plugins()
  lu.assertStrContains(message 'return 5', 'returns a table with poison')
  lu.assertStrContains(message 'return { poison = function() end }', 'expected a table with a name')
  lu.assertStrMatches(message 'return {', '.*plugin%.lua:1: .*')
  lu.assertStrContains(message[[return { name = 'n', defaults = {}, poison = function() end }]],
                       'poison returned no {data')
  local ok, said = pcall(try.run, root .. '/none.lua', { quiet = true })
  lu.assertFalse(ok)
  lu.assertStrContains(said, 'none.lua')
end

os.exit(lu.LuaUnit.new():runSuiteByInstances{ { 'try', T } })
