-- slow: --jobs as a person uses it: seeds and methods side by side, Ctrl-C, the same command again.
local lu = require 'luaunit'
local fs = require 'vestige.fs'
local shell = require 'tests.lua.shell'
local study = require 'vestige.study'
local tiny = require 'tests.lua.tiny'

local T = {}

local root

function T.setUp()
  root = os.tmpname()
  os.remove(root)
  tiny.write(root .. '/data')
end
function T.tearDown() fs.remove_tree(root, '/tmp') end

local function words(runs, more)
  local line = ('%s experiments/gaussian.lua %s --share 0.3 --data %s/data --runs %s/%s %s'):format(
    shell.program, tiny.options, root, root, runs, more)
  local argv = {}
  for word in line:gmatch '%S+' do argv[#argv + 1] = word end
  return argv
end

local function run(runs, more) return shell.run(shell.line(words(runs, more))) end
local function on_terminal(runs, more) return shell.on_terminal(words(runs, more), root) end

-- The weights of every trained and unlearned model by its folder's name.
local function models(runs)
  local out = {}
  for _, r in ipairs(study.list(root .. '/' .. runs)) do
    if r.stage == 'train' or r.stage == 'unlearn' then
      out[fs.basename(r.dir)] = fs.read(r:path 'model.safetensors')
    end
  end
  return out
end

local function assert_same_models(a, b)
  local whole, other = models(a), models(b)
  lu.assertTrue(next(whole) ~= nil)
  for name, bytes in pairs(whole) do lu.assertTrue(bytes == other[name], name) end
end

function T.test_side_by_side_on_a_terminal_gives_the_same_bits()
  local more = '--seeds 2 --methods retrain,gd --train.epochs 30'
  local s = on_terminal('two', more .. ' --jobs 2')
  s:expect 'seed 1 '
  s:expect 'over seeds'
  s:expect 'report: '
  lu.assertEquals({ s:wait() }, { 'exit', 0 })
  local text, status = run('one', more)
  lu.assertEquals(status, 0, text)
  assert_same_models('one', 'two')
end

function T.test_ctrl_c_stops_all_and_the_same_command_goes_on()
  local more = '--seeds 2 --methods gd --train.epochs 1500 --jobs 2'
  local s = on_terminal('cut', more)
  s:expect 'left'
  s:send '\3'
  s:expect 'interrupted at step'
  s:expect 'vestige: interrupted at'
  lu.assertEquals({ s:wait() }, { 'exit', 130 })
  local stopped = 0
  for _, name in ipairs(fs.list(root .. '/cut')) do
    local state = study.status(root .. '/cut/' .. name)
    lu.assertNotEquals(state, 'running')
    if state == 'interrupted' then stopped = stopped + 1 end
  end
  lu.assertTrue(stopped >= 1)
  local text, status = run('cut', more)
  lu.assertEquals(status, 0, text)
  lu.assertStrContains(text, 'continues from its checkpoint')
  text, status = run('whole', more)
  lu.assertEquals(status, 0, text)
  assert_same_models('whole', 'cut')
end

function T.test_what_fails_in_one_is_told_once_and_stops_all()
  fs.mkdir(root .. '/runs')
  fs.write(root .. '/options.json', '{"euk": {"k": 99}}')
  local text, status = run('runs', ('--methods euk,gd --jobs 2 --method-options %s/options.json')
    :format(root))
  lu.assertEquals(status, 1, text)
  lu.assertStrContains(text, 'last_layers: k: expected 1 to ')
  lu.assertStrContains(text, '--jobs: a process failed')
end

os.exit(lu.LuaUnit.new():runSuiteByInstances{ { 'side_by_side', T } })
