-- Work is done only for what is asked: convolution-sized products are counted by vestige.profile.
local lu = require 'luaunit'
local vestige = require 'vestige'

local T = {}

-- How many of the three convolution products fn() runs, as {forward, input, weight}.
local function count(fn)
  local n = { conv2d = 0, conv2d_input = 0, conv2d_weight = 0 }
  for _, row in ipairs(vestige.profile(fn, { print = false })) do
    local name = row.name:gsub('_add_$', '') -- one that is added to a gradient in place counts too
    if n[name] then n[name] = n[name] + row.count end
  end
  return { n.conv2d, n.conv2d_input, n.conv2d_weight }
end

local function weight(out, k, c)
  return (vestige.randn(out, k, k, c) * (2 / (k * k * c)) ^ 0.5):requires_grad_()
end

-- Three convolutions with bias; x (n,h,w,c).
local function small_stack()
  local w = { weight(4, 3, 3), weight(6, 3, 4), weight(5, 1, 6) }
  local b = { vestige.zeros(4), vestige.zeros(6), vestige.zeros(5) }
  for i = 1, 3 do b[i]:requires_grad_() end
  local x = vestige.randn(2, 8, 8, 3):requires_grad_()
  local function loss()
    local y = vestige.relu(vestige.conv2d(x, w[1], b[1], { padding = 1 }))
    y = vestige.relu(vestige.conv2d(y, w[2], b[2], { stride = 2, padding = 1 }))
    return (vestige.conv2d(y, w[3], b[3]) ^ 2):sum()
  end
  return loss, x, w, b
end

function T.test_gradient_of_the_input_alone()
  vestige.scope(function()
    local loss, x = small_stack()
    lu.assertEquals(count(function() vestige.grad(loss(), x) end), { 3, 3, 0 })
  end)
end

function T.test_gradient_of_the_weights_alone()
  vestige.scope(function()
    local loss, _, w = small_stack()
    lu.assertEquals(count(function() vestige.grad(loss(), w) end), { 3, 2, 3 })
  end)
end

function T.test_gradient_of_one_layer()
  vestige.scope(function()
    local loss, _, w, b = small_stack()
    lu.assertEquals(count(function() vestige.grad(loss(), w[2]) end), { 3, 1, 1 })
    lu.assertEquals(count(function() vestige.grad(loss(), b[3]) end), { 3, 0, 0 })
  end)
end

function T.test_frozen_weights_need_no_gradient()
  vestige.scope(function()
    local loss, x, w, b = small_stack()
    for i = 1, 3 do
      w[i]:requires_grad_(false)
      b[i]:requires_grad_(false)
    end
    local l = loss()
    lu.assertEquals(count(function() l:backward() end), { 0, 3, 0 })
    lu.assertEquals(x.grad:shape(), x:shape())
  end)
end

function T.test_linear_too()
  vestige.scope(function()
    local x = vestige.randn(3, 4):requires_grad_()
    local w = vestige.randn(5, 4):requires_grad_()
    local function products(...)
      local inputs, n = { ... }, 0
      local y = vestige.linear(x, w):sum()
      for _, row in ipairs(vestige.profile(function() vestige.grad(y, inputs) end,
                                           { print = false })) do
        if row.name == 'matmul' then n = n + row.count end
      end
      return n
    end
    lu.assertEquals(products(x), 1)
    lu.assertEquals(products(w), 1)
    lu.assertEquals(products(x, w), 2)
  end)
end

-- ---- ResNet-18: 20 convolutions, batch norm in eval mode, narrow ----
local function resnet18(width)
  local w = {}
  local function conv(k, c, out, stride)
    w[#w + 1] = weight(out, k, c)
    local mine = w[#w]
    local scale, shift = vestige.rand(out) + 0.5, vestige.randn(out) * 0.1
    local mean, var = vestige.randn(out) * 0.1, vestige.rand(out) + 0.5
    return function(x)
      local y = vestige.conv2d(x, mine, { stride = stride, padding = (k - 1) / 2 })
      return (vestige.batch_norm(y, scale, shift, mean, var))
    end
  end
  local function block(c, out, stride)
    local first, second = conv(3, c, out, stride), conv(3, out, out, 1)
    local short = (stride > 1 or c ~= out) and conv(1, c, out, stride)
    return function(x)
      local y = second(vestige.relu(first(x)))
      return vestige.relu(y + (short and short(x) or x))
    end
  end
  local layers, c = { conv(3, 3, width, 1), vestige.relu }, width
  for stage = 1, 4 do
    local out = width * 2 ^ (stage - 1)
    layers[#layers + 1] = block(c, out, stage > 1 and 2 or 1)
    layers[#layers + 1] = block(out, out, 1)
    c = out
  end
  local last = vestige.randn(10, c) * c ^ -0.5
  return function(x)
    for _, layer in ipairs(layers) do x = layer(x) end
    return vestige.linear(vestige.adaptive_avg_pool2d(x, 1):reshape(-1, c), last)
  end, w
end

-- 1 - cos(g, v) over lists
local function distance(g, v)
  local gv, gg, vv = 0, 0, 0
  for i = 1, #g do
    gv = gv + (g[i] * v[i]):sum()
    gg = gg + (g[i] * g[i]):sum()
    vv = vv + (v[i] * v[i]):sum()
  end
  return 1 - gv / (gg:sqrt() * vv:sqrt())
end

-- Forward 20. Its gradient for the 20 weights: 20 weight products, 19 input products (none for the
-- image). Back through that gradient: for each layer one forward product by v, one input product
-- by v, and 19 forward products by the weights; back through the forward pass 20 input products.
-- 59 forward, 59 input, 20 weight: seven a layer, five for the first.
function T.test_gradient_matching_of_resnet18_takes_138_products()
  vestige.scope(function()
    vestige.manual_seed(1)
    local net, w = resnet18(4)
    lu.assertEquals(#w, 20)
    local x = vestige.rand(2, 16, 16, 3):requires_grad_()
    local labels = vestige.tensor({ 3, 7 }, { dtype = 'i64' })
    local v = {}
    for i = 1, #w do v[i] = vestige.randn(w[i]:shape()) end
    local dx
    local n = count(function()
      local loss = vestige.cross_entropy(net(x), labels)
      local g = vestige.grad(loss, w, { create_graph = true })
      dx = vestige.grad(distance(g, v), x)
    end)
    lu.assertEquals(n, { 59, 59, 20 })
    lu.assertEquals(n[1] + n[2] + n[3], 138)
    lu.assertEquals(dx:shape(), x:shape())
    lu.assertTrue((dx * dx):sum():item() > 0)
  end)
end

-- A step of the weights alone: no input product for the image.
function T.test_step_of_resnet18_takes_59_products()
  vestige.scope(function()
    local net, w = resnet18(4)
    local labels = vestige.tensor({ 3, 7 }, { dtype = 'i64' })
    local x = vestige.rand(2, 16, 16, 3)
    lu.assertEquals(count(function()
      vestige.grad(vestige.cross_entropy(net(x), labels), w)
    end), { 20, 19, 20 })
  end)
end

function T.test_coverage()
  local list = vestige.kernels()
  local text = tostring(list)
  lu.assertStrContains(text, ('%d operators'):format(#vestige.ops()))
  for _, k in ipairs(list) do
    if k.device == 'cpu' and k.name == 'mul' and k.dtype == 'i64' then
      lu.assertEquals(k.level, 'ref')
    end
  end
end

function T.test_profile()
  local list = vestige.profile(function()
    vestige.matmul(vestige.ones(4, 3), vestige.ones(3, 2))
  end, { print = false })
  local row
  for _, r in ipairs(list) do
    if r.name == 'matmul' then row = r end
  end
  lu.assertEquals(row.count, 1)
  lu.assertEquals(row.flops, 48)
  lu.assertEquals(row.bytes, 4 * (12 + 6 + 8))
  lu.assertTrue(row.seconds > 0)
  lu.assertErrorMsgContains('another one', function()
    vestige.profile(function() vestige.profile(function() end) end, { print = false })
  end)
  lu.assertErrorMsgContains('inside', function() vestige.profile(function() error 'inside' end) end)
  lu.assertErrorMsgContains('unknown option', function()
    vestige.profile(function() end, { prnt = false })
  end)
end

os.exit(lu.LuaUnit.new():runSuiteByInstances{ { 'Counts', T } })
