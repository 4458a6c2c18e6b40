-- Outputs that are made again for the backward pass instead of kept: the same gradients, less
-- memory.
local lu = require 'luaunit'
local nn = require 'vestige.nn'
local vestige = require 'vestige'

local T = {}

local function scoped(f) return function() vestige.scope(f) end end

local function live() return vestige.memory().live end

local function bits(t)
  local data, n = t:data()
  return require('ffi').string(data, n * 4)
end

local function images(...) return vestige.randn(...) end

-- Each maker: inputs (the first is x), and y from them.
local makers = {
  batch_norm = function()
    local x, w, b = images(16, 6, 6, 16):requires_grad_(), images(16), images(16)
    return { x, w:requires_grad_(), b:requires_grad_() }, function()
      return (vestige.batch_norm_relu(x, w, b, nil, nil, { training = true }))
    end
  end,
  residual = function()
    local x, w, r = images(16, 6, 6, 16):requires_grad_(), images(16), images(16, 6, 6, 16)
    return { x, w:requires_grad_(), r:requires_grad_() }, function()
      return (vestige.batch_norm_relu(x, w, nil, nil, nil, r, { training = true }))
    end
  end,
  layer_norm = function()
    local x, w, b = images(16, 6, 6, 16):requires_grad_(), images(16), images(16)
    return { x, w:requires_grad_(), b:requires_grad_() }, function()
      return (vestige.layer_norm(x, { 16 }, w, b))
    end
  end,
  gelu = function()
    local x = images(16, 6, 6, 16):requires_grad_()
    return { x }, function() return vestige.gelu(x) end
  end,
}

-- The gradients of a convolution of y, with y's handle held, or released before the walk.
local function gradients(inputs, make, k, held, options)
  local y = make()
  local loss = (vestige.conv2d(y, k, { padding = 1 }) ^ 2):sum()
  if not held then vestige.release(y) end
  local all = { k, unpack(inputs) }
  local gs = vestige.grad(loss, all, options)
  return gs
end

for name, maker in pairs(makers) do
  T['test_same_bits_' .. name] = scoped(function()
    local inputs, make = maker()
    local k = images(8, 3, 3, 16):requires_grad_()
    local kept, made = gradients(inputs, make, k, true), gradients(inputs, make, k, false)
    for i = 1, #kept do lu.assertTrue(bits(kept[i]) == bits(made[i]), name .. ' ' .. i) end
  end)

  T['test_second_order_' .. name] = scoped(function()
    local inputs, make = maker()
    local k = images(8, 3, 3, 16):requires_grad_()
    local function second(held)
      local gs = gradients(inputs, make, k, held, { create_graph = true })
      local total = (gs[1] ^ 2):sum() + (gs[2] ^ 2):sum()
      return vestige.grad(total, { k, inputs[1] })
    end
    local kept, made = second(true), second(false)
    for i = 1, 2 do lu.assertTrue(bits(kept[i]) == bits(made[i])) end
  end)

  T['test_releasing_frees_' .. name] = scoped(function()
    local _, make = maker()
    local y = make()
    local bytes = y:numel() * 4
    local z = vestige.conv2d(y, images(8, 3, 3, 16):requires_grad_(), { padding = 1 })
    local before = live()
    vestige.release(y)
    lu.assertTrue(before - live() >= bytes)
    lu.assertTrue(z:requires_grad())
  end)
end

-- Every type, on the plain loops as well, and the seam of autocast.
function T.test_same_bits_of_every_type_and_device()
  for _, c in ipairs{ { 'f32', 'ref' }, { 'f64', 'ref' }, { 'bf16', 'ref' }, { 'f64', 'cpu' },
                      { 'bf16', 'cpu' }, { 'f32', 'cpu', autocast = true } } do
    vestige.scope(function()
      local dtype, device = c[1], c[2]
      local function leaf(t, type) return t:to(type or dtype):to(device):requires_grad_() end
      local x, r = leaf(images(4, 6, 6, 17)), leaf(images(4, 6, 6, 17))
      local w, k = leaf(images(17), dtype == 'f64' and 'f64' or 'f32'), leaf(images(5, 3, 3, 17))
      local all = { x, r, w, k }
      local function gradients_of(held)
        local y
        local function loss()
          y = vestige.batch_norm_relu(x, w, nil, nil, nil, r, { training = true })
          return (vestige.conv2d(y, k, { padding = 1 }) ^ 2):mean()
        end
        local l = c.autocast and vestige.autocast('bf16', loss) or loss()
        if not held then vestige.release(y) end
        return vestige.grad(l, all)
      end
      local kept, made = gradients_of(true), gradients_of(false)
      for i = 1, #all do
        lu.assertTrue(bits(kept[i]:to('cpu'):to 'f32') == bits(made[i]:to('cpu'):to 'f32'),
                      ('%s on %s, gradient %d'):format(dtype, device, i))
      end
    end)
  end
end

-- How often the backward pass of a loss applies a norm.
local function applied(loss, inputs)
  local n = 0
  for _, row in ipairs(vestige.profile(function() vestige.grad(loss, inputs) end,
                                       { print = false })) do
    if row.name == 'batch_norm_apply' then n = n + row.count end
  end
  return n
end

function T.test_the_output_is_made_once_for_all_readers()
  vestige.scope(function()
    local inputs, make = makers.batch_norm()
    local a, b = images(8, 3, 3, 16):requires_grad_(), images(8, 1, 1, 16):requires_grad_()
    local y = make()
    local loss = (vestige.conv2d(y, a, { padding = 1 }) * vestige.conv2d(y, b)):sum()
    vestige.release(y)
    lu.assertEquals(applied(loss, { a, b, inputs[1] }), 1)
  end)
end

function T.test_nothing_is_made_that_no_rule_reads()
  vestige.scope(function()
    local inputs, make = makers.batch_norm()
    local k = images(8, 3, 3, 16)
    local y = make()
    local loss = (vestige.conv2d(y, k, { padding = 1 }) ^ 2):sum()
    vestige.release(y)
    lu.assertEquals(applied(loss, inputs), 0)
  end)
end

-- A walk that ends uses up the maker; a reader that it did not reach still finds its input.
function T.test_a_reader_outlives_the_makers_graph()
  vestige.scope(function()
    local inputs, make = makers.batch_norm()
    local a, b = images(8, 3, 3, 16):requires_grad_(), images(8, 1, 1, 16):requires_grad_()
    local y = make()
    local first = (vestige.conv2d(y, a, { padding = 1 }) ^ 2):sum()
    local second = (vestige.conv2d(y, b) ^ 2):sum()
    local expected = vestige.grad(second, { b }, { retain_graph = true })[1]:clone()
    vestige.release(y)
    vestige.grad(first, inputs)
    lu.assertTrue(bits(vestige.grad(second, { b })[1]) == bits(expected))
  end)
end

function T.test_a_used_graph_says_so()
  vestige.scope(function()
    local inputs, make = makers.batch_norm()
    local k = images(8, 3, 3, 16):requires_grad_()
    local y = make()
    local loss = (vestige.conv2d(y, k, { padding = 1 }) ^ 2):sum()
    vestige.release(y)
    vestige.grad(loss, inputs)
    lu.assertErrorMsgContains('used up by an earlier walk', vestige.grad, loss, inputs)
  end)
end

function T.test_a_change_in_place_is_told()
  vestige.scope(function()
    local _, make = makers.gelu()
    local k = images(8, 3, 3, 16):requires_grad_()
    local y = make()
    local loss = (vestige.conv2d(y, k, { padding = 1 }) ^ 2):sum()
    vestige.no_grad(function() y:mul_(2) end)
    lu.assertErrorMsgContains('changed in place', vestige.grad, loss, { k })
  end)
end

-- What was changed before it is read is read as it is.
function T.test_a_change_before_the_use_counts()
  vestige.scope(function()
    local _, make = makers.gelu()
    local k = images(8, 3, 3, 16):requires_grad_()
    local y = make()
    vestige.no_grad(function() y:mul_(2) end)
    local copy = y:detach():clone()
    local function grad_of(input)
      return vestige.grad((vestige.conv2d(input, k, { padding = 1 }) ^ 2):sum(), { k })[1]
    end
    local expected = grad_of(copy)
    local z = (vestige.conv2d(y, k, { padding = 1 }) ^ 2):sum()
    vestige.release(y)
    lu.assertTrue(bits(vestige.grad(z, { k })[1]) == bits(expected))
  end)
end

-- ---- Products keep a factor only for the other's gradient ----
function T.test_frozen_factors_let_go()
  vestige.scope(function()
    local w = images(16, 3, 3, 16)
    local x = images(16, 6, 6, 16):requires_grad_()
    local y = x * 2
    local z = vestige.conv2d(y, w, { padding = 1 })
    local before = live()
    vestige.release(y)
    lu.assertTrue(before - live() >= 4 * 16 * 6 * 6 * 16)
    lu.assertEquals(vestige.grad(z:sum(), { x })[1]:shape(), { 16, 6, 6, 16 })
  end)
end

function T.test_a_frozen_norm_in_evaluation_keeps_no_image()
  vestige.scope(function()
    local bn = nn.BatchNorm2d(16):eval():requires_grad_(false)
    local x = images(16, 6, 6, 16):requires_grad_()
    local before = live()
    local y = nn.consume(x * 2, vestige.relu)
    y = nn.consume(y, nn.norm_relu, bn)
    local z = nn.consume(y, vestige.sum)
    -- relu keeps its output, the norm a bit an element
    lu.assertTrue(live() - before < 4 * 16 * 6 * 6 * 16 * 1.3)
    lu.assertEquals(vestige.grad(z, { x })[1]:shape(), { 16, 6, 6, 16 })
  end)
end

-- ---- norm_relu is the three operators ----
function T.test_norm_relu()
  vestige.scope(function()
    local x, r = images(16, 6, 6, 16), images(16, 6, 6, 16)
    for _, train in ipairs { true, false } do
      local bn = nn.BatchNorm2d(16):train(train)
      lu.assertTrue(bits(nn.norm_relu(x, bn)) == bits(vestige.relu((bn(x)))))
      lu.assertTrue(bits(nn.norm_relu(x, bn, r)) == bits(vestige.relu(bn(x) + r)))
      local both = nn.Sequential(bn, nn.ReLU())
      lu.assertTrue(bits(both(x)) == bits(vestige.relu((bn(x)))))
    end
    local identity = nn.norm_relu(x, nn.Identity(), r)
    lu.assertTrue(bits(identity) == bits(vestige.relu(x + r)))
  end)
end

os.exit(lu.LuaUnit.new():runSuiteByInstances{ { 'Again', T } })
