-- VESTIGE_CONV: convolutions with and without Winograd, each in a process of its own.
local lu = require 'luaunit'
local fs = require 'vestige.fs'
local study = require 'vestige.study'
local vestige = require 'vestige'

local T = {}

local program = os.getenv 'VESTIGE' or 'build/vestige'
local root

function T.setUp()
  root = os.tmpname()
  os.remove(root)
  fs.mkdir(root)
end
function T.tearDown() fs.remove_tree(root, '/tmp') end

-- Runs Lua code in a process with a setting: what it wrote on both streams, and its exit status.
local function run(setting, code)
  fs.write(root .. '/code.lua', code)
  local pipe = io.popen(('VESTIGE_CONV=%s %s %s/code.lua 2>&1; echo "status $?"'):format(setting,
                                                                          program, root))
  local text, status = pipe:read '*a':match '^(.*)status (%d+)\n$'
  pipe:close()
  return text, tonumber(status)
end

-- A layer of 16 channels that Winograd takes: its output and both gradients, f32 on the cpu, and
-- the same by the plain loops.
local layer = [[
local vestige = require 'vestige'
local g = vestige.generator(1, 'layer')
local function draw(shape) return vestige.randn(shape, { generator = g }) end
local x, w, dy = draw{ 2, 8, 8, 16 }, draw{ 16, 3, 3, 16 }, draw{ 2, 8, 8, 16 }
local out = {}
for _, device in ipairs{ 'cpu', 'ref' } do
  local a = x:detach():to(device):requires_grad_()
  local b = w:detach():to(device):requires_grad_()
  local y = a:conv2d(b, nil, { padding = 1 })
  local da, db = unpack(vestige.grad(y, { a, b }, { grad_outputs = dy:to(device) }))
  out[device .. '.y'], out[device .. '.x'] = y:detach():to 'cpu', da:to 'cpu'
  out[device .. '.w'] = db:to 'cpu'
end
vestige.save(arg[0]:gsub('code.lua$', '') .. 'SETTING.safetensors', out)
print(vestige.info().conv)
]]

local function layer_of(setting)
  local text, status = run(setting, (layer:gsub('SETTING', setting)))
  lu.assertEquals(status, 0, text)
  return vestige.load(root .. '/' .. setting .. '.safetensors'), text:match '%a+'
end

function T.test_both_are_right_and_differ_in_their_last_bits()
  local has_kernels = vestige.info()['cpu level'] ~= 'ref'
  local direct, said = layer_of 'direct'
  lu.assertEquals(said, 'direct')
  local winograd
  winograd, said = layer_of 'winograd'
  lu.assertEquals(said, has_kernels and 'winograd' or 'direct')
  for _, name in ipairs{ 'y', 'x', 'w' } do
    local ref = direct['ref.' .. name]
    lu.assertTrue(vestige.equal(ref, winograd['ref.' .. name]))
    for setting, got in pairs{ direct = direct, winograd = winograd } do
      local off = (got['cpu.' .. name] - ref):abs():amax() / ref:abs():amax()
      lu.assertTrue(off:item() < 4e-6, ('%s %s: off by %g'):format(setting, name, off:item()))
    end
    lu.assertEquals(vestige.equal(direct['cpu.' .. name], winograd['cpu.' .. name]),
                    not has_kernels, name)
  end
end

function T.test_an_unknown_setting_is_told()
  local text, status = run('winogard', "print(require('vestige').ones{ 2 } + 1)")
  lu.assertEquals(status, 1, text)
  lu.assertStrContains(text, "VESTIGE_CONV: expected winograd or direct, got 'winogard'")
  text, status = run("''", "print(require('vestige').info().conv)")
  lu.assertEquals(status, 0, text)
end

function T.test_the_program_tells()
  local pipe = io.popen(('VESTIGE_CONV=direct %s info 2>&1'):format(program))
  local text = pipe:read '*a'
  pipe:close()
  lu.assertStrMatches(text, '.*conv[^\n]*direct.*')
end

-- A stage that ran with Winograd does not serve one without.
local stage = [[
local study = require 'vestige.study'
local s = study.new{ root = arg[0]:gsub('/code.lua$', '') .. '/runs', quiet = true }
local r = s:run(study.stage{ name = 'one', run = function() return {} end }, {})
print(r.ran, r.result.conv)
]]

function T.test_results_of_the_two_are_kept_apart()
  if vestige.info()['cpu level'] == 'ref' then return end
  lu.assertEquals(run('winograd', stage), 'true\twinograd\n')
  lu.assertEquals(run('direct', stage), 'true\tdirect\n')
  lu.assertEquals(run('direct', stage), 'false\tdirect\n')
  lu.assertEquals(run('winograd', stage), 'false\twinograd\n')
  lu.assertEquals(#study.list(root .. '/runs'), 2)
end

os.exit(lu.LuaUnit.new():runSuiteByInstances{ { 'conv_switch', T } })
