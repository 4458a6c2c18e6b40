-- Weights in the form that a convolution makes of them, kept while they do not change.
local lu = require 'luaunit'
local ffi = require 'ffi'
local fs = require 'vestige.fs'
local models = require 'vestige.models'
local optim = require 'vestige.optim'
local vestige = require 'vestige'

local T = {}

local info = vestige.info()
-- Nothing is transformed without the fast kernels, or by direct convolutions.
local transforms = info.conv == 'winograd'
local BUDGET = 320 * 2^20
local root

local function kept() return vestige.memory().kept end

function T.setUp()
  root = os.tmpname()
  os.remove(root)
  fs.mkdir(root)
  vestige.empty_cache()
  vestige.set_weight_cache(BUDGET)
end
function T.tearDown()
  fs.remove_tree(root, '/tmp')
  vestige.set_weight_cache(BUDGET)
end

-- What the operators that transform weights make of w (32,3,3,16): the output, the gradient of the
-- images, and that of the transposed convolution, in the type of w.
local function uses(w)
  local g = vestige.generator(1, 'weights')
  local function draw(shape) return vestige.randn(shape, { generator = g }):to(w:dtype()) end
  local x, gy, bias = draw{ 3, 9, 10, 16 }, draw{ 3, 9, 10, 32 }, draw{ 32 }
  return vestige.no_grad(function()
    return { vestige.conv2d(x, w, bias, { padding = 1 }),
             vestige.conv2d_input(gy, w, { padding = 1, size = { 9, 10 } }),
             vestige.conv_transpose2d(gy, w, nil, { padding = 1 }) }
  end)
end

local function weights(dtype)
  local w = vestige.randn({ 32, 3, 3, 16 }, { generator = vestige.generator(2, 'w') })
  return w:to(dtype or 'f32')
end

local function assert_same(a, b, what)
  for i = 1, #a do lu.assertTrue(vestige.equal(a[i], b[i]), ('%s: result %d'):format(what, i)) end
end

function T.test_bits_are_the_same_kept_or_not()
  local threads = vestige.get_num_threads()
  for _, dtype in ipairs{ 'f32', 'bf16' } do
    vestige.scope(function()
      vestige.set_weight_cache(0)
      local w = weights(dtype)
      local once = uses(w)
      assert_same(uses(w), once, 'off')
      lu.assertEquals(kept(), 0)
      vestige.set_weight_cache(BUDGET)
      for n = 1, 2 do
        vestige.set_num_threads(n)
        for time = 1, 4 do assert_same(uses(w), once, ('%s, time %d'):format(dtype, time)) end
      end
      lu.assertEquals(kept() > 0, transforms)
    end)
  end
  vestige.set_num_threads(threads)
  lu.assertEquals(kept(), 0) -- the weights are gone
end

-- ---- Everything that can write into a tensor ----
local writers = {
  add_ = function(w) w:add_(1) end,
  copy_ = function(w) w:copy_(w * 2) end,
  fill_ = function(w) w:fill_(0.5) end,
  normal_ = function(w) w:normal_() end,
  masked_fill_ = function(w) w:masked_fill_(w:gt(0), 0) end,
  index_add_ = function(w) w:index_add_(1, vestige.tensor({ 3 }, { dtype = 'i64' }),
                                        vestige.ones{ 1, 3, 3, 16 }) end,
  clip_norm_ = function(w)
    local list = { w }
    vestige.clip_norm_(list, vestige.total_norm(list), { max_norm = 0.1 })
  end,
  element = function(w) w[3] = 2 end,
  view = function(w) w:reshape(32 * 9, 16)[5]:fill_(1) end,
  set_data = function(w)
    local n = w:numel()
    local data = ffi.new('float[?]', n)
    for i = 0, n - 1 do data[i] = i % 7 end
    w:set_data(data)
  end,
  sgd = function(w)
    w:requires_grad_()
    local opt = optim.SGD({ w }, { lr = 0.1, momentum = 0.9 })
    opt:step{ vestige.ones_like(w) }
    w:requires_grad_(false)
  end,
  adamw = function(w)
    w:requires_grad_()
    local opt = optim.AdamW({ w }, { lr = 0.1 })
    opt:step{ vestige.ones_like(w) }
    w:requires_grad_(false)
  end,
}

function T.test_whatever_writes_is_noticed()
  for name, write in pairs(writers) do
    vestige.scope(function()
      local w = weights()
      uses(w)
      local before = uses(w)
      lu.assertEquals(kept() > 0, transforms)
      write(w)
      lu.assertEquals(kept(), 0, name)
      local after = uses(w)
      lu.assertFalse(vestige.equal(before[1], after[1]), name)
      assert_same(after, uses(w:clone()), name)
      assert_same(uses(w), after, name)
    end)
  end
end

function T.test_a_loaded_state_is_noticed()
  local a = models.resnet18{ width = 16 }:eval()
  local x = vestige.rand{ 2, 32, 32, 3 }
  vestige.no_grad(function()
    a(x)
    a(x)
    lu.assertEquals(kept() > 0, transforms)
    local path = root .. '/model.safetensors'
    local b = models.resnet18{ width = 16 }:eval()
    local want = b(x)
    vestige.save(path, b:state_dict())
    a:load_state_dict(vestige.load(path))
    lu.assertTrue(vestige.equal(a(x), want))
  end)
end

-- Two views of as many bytes that mean different convolutions.
function T.test_shapes_of_one_storage_are_told_apart()
  vestige.no_grad(vestige.scope, function()
    local w = vestige.randn{ 32, 3, 3, 16 }
    local v = w:reshape(16, 3, 3, 32)
    local x, y = vestige.randn{ 2, 8, 8, 16 }, vestige.randn{ 2, 8, 8, 32 }
    vestige.set_weight_cache(0)
    local a, b = x:conv2d(w, nil, 1, 1), y:conv2d(v, nil, 1, 1)
    vestige.set_weight_cache(BUDGET)
    for _ = 1, 3 do
      lu.assertTrue(vestige.equal(x:conv2d(w, nil, 1, 1), a))
      lu.assertTrue(vestige.equal(y:conv2d(v, nil, 1, 1), b))
    end
  end)
end

-- ---- Memory ----
function T.test_a_train_step_keeps_nothing()
  local m = models.resnet18{ width = 16 }
  local opt = optim.SGD(m, { lr = 0.01, momentum = 0.9 })
  local x, y = vestige.rand{ 4, 32, 32, 3 }, vestige.randint(0, 10, { 4 })
  local peaks = {}
  for round, budget in ipairs{ 0, BUDGET } do
    vestige.set_weight_cache(budget)
    for _ = 1, 3 do
      vestige.reset_peak()
      local live = vestige.memory().live
      vestige.scope(function()
        local gs = vestige.grad(m(x):cross_entropy(y), opt:parameters())
        lu.assertEquals(kept(), 0)
        opt:step(gs)
      end)
      peaks[round] = vestige.memory().peak - live
    end
  end
  lu.assertEquals(peaks[2], peaks[1])
end

function T.test_an_attack_on_a_frozen_model_keeps_and_gives_back()
  local before = kept()
  vestige.scope(function()
    local m = models.resnet18{ width = 16 }:eval()
    local x, y = vestige.rand{ 4, 32, 32, 3 }, vestige.randint(0, 10, { 4 })
    local function step()
      return vestige.scope(function()
        local delta = x:detach():requires_grad_()
        return vestige.grad(m(delta):cross_entropy(y), delta)
      end)
    end
    local first, live = step(), vestige.memory().live
    lu.assertEquals(kept(), before)
    lu.assertTrue(vestige.equal(step(), first))
    local used = kept() - before
    lu.assertEquals(used > 0, transforms)
    lu.assertTrue(vestige.memory().live - live >= used) -- they are counted
    lu.assertTrue(vestige.equal(step(), first))
    lu.assertEquals(kept() - before, used)
    vestige.set_weight_cache(used / 2)
    lu.assertTrue(vestige.equal(step(), first))
    lu.assertTrue(kept() <= used / 2)
    vestige.set_weight_cache(BUDGET)
    vestige.empty_cache()
    lu.assertEquals(kept(), before)
    lu.assertTrue(vestige.equal(step(), first))
  end)
  collectgarbage()
  collectgarbage()
  lu.assertEquals(kept(), 0)
end

-- ---- The setting ----
local function run(setting, code)
  fs.write(root .. '/code.lua', code)
  local program = os.getenv 'VESTIGE' or 'build/vestige'
  local pipe = io.popen(('VESTIGE_WEIGHT_CACHE=%s %s %s/code.lua 2>&1'):format(setting, program,
                                                                              root))
  local text = pipe:read '*a'
  pipe:close()
  return text
end

function T.test_the_environment_sets_it()
  local code = [[
local vestige = require 'vestige'
local x, w = vestige.ones{ 2, 8, 8, 16 }, vestige.ones{ 16, 3, 3, 16 }
for _ = 1, 3 do x:conv2d(w, nil, 1, 1) end
print(vestige.info()['weight cache'], vestige.memory().kept > 0)
]]
  lu.assertEquals(run('0', code), '0 MiB\tfalse\n')
  lu.assertEquals(run('7', code), ('7 MiB\t%s\n'):format(transforms))
  lu.assertEquals(run("''", code), ('320 MiB\t%s\n'):format(transforms))
  lu.assertStrContains(run('many', code),
                       "VESTIGE_WEIGHT_CACHE: expected MiB from 0 on, got 'many'")
  lu.assertStrContains(run('-1', code), 'expected MiB from 0 on')
end

function T.test_a_wrong_size_is_told()
  for _, bad in ipairs{ -1, 0/0, 'much' } do
    lu.assertErrorMsgContains('set_weight_cache: expected bytes from 0 on',
                              vestige.set_weight_cache, bad)
  end
end

os.exit(lu.LuaUnit.new():runSuiteByInstances{ { 'weight_cache', T } })
