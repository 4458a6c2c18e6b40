-- Results of 16 MB go past the caches: the rows of a large tensor are those of its parts, to the
-- bit, and what sums over all rows agrees with f64, which has plain loops.
local lu = require 'luaunit'
local vestige = require 'vestige'
local ffi = require 'ffi'

local SIZES = { f32 = 4, bf16 = 2 }

local function bits(t)
  local data, n = t:data()
  return ffi.string(data, n * SIZES[t:dtype()])
end

-- f gives a tensor of rows from tensors of rows (one, or a list).
local function assert_rows(f, ...)
  local whole, inputs, parts = f(...), { ... }, {}
  local rows = whole:shape()[1]
  for from = 1, rows, math.ceil(rows / 3) do
    local some = {}
    for i, t in ipairs(inputs) do
      some[i] = t:narrow(1, from, math.min(math.ceil(rows / 3), rows - from + 1))
    end
    parts[#parts + 1] = bits(f(unpack(some)))
  end
  lu.assertTrue(bits(whole) == table.concat(parts))
end

local function gradient(f, g, x, ...)
  x = x:detach():requires_grad_()
  return vestige.grad(f(x, ...), { x }, { grad_outputs = g })[1]
end

local function near(a, b, tolerance)
  local most = (a:to 'f64' - b):abs():amax():item() / b:abs():amax():item()
  lu.assertTrue(most < tolerance, most)
end

TestStreamed = {}

-- 64 channels, and 24, of which three rows make a wide one.
for _, case in ipairs { { 'f32', 67, 64 }, { 'f32', 177, 24 }, { 'bf16', 131, 64 } } do
  local dtype, n, c = unpack(case)
  local name = ('%s_%d_channels'):format(dtype, c)
  local function images() return vestige.randn{ n, 32, 32, c }:to(dtype) end

  TestStreamed['test_batch_norm_' .. name] = function()
    local w, b = vestige.randn(c), vestige.randn(c)
    local mean, var = vestige.randn(c), vestige.rand(c) + 0.5
    local function relu(x, r) return (vestige.batch_norm_relu(x, w, b, mean, var, r)) end
    local function norm(x) return (vestige.batch_norm(x, w, b, mean, var)) end
    local x, g = images(), images()
    assert_rows(norm, x)
    assert_rows(relu, x)
    assert_rows(relu, x, g)
    assert_rows(function(some, gs) return gradient(norm, gs, some) end, x, g)
    assert_rows(function(some, gs) return gradient(relu, gs, some) end, x, g)
  end

  TestStreamed['test_batch_norm_in_training_' .. name] = function()
    local w = vestige.rand(c) + 0.5
    local function norm(x)
      return (vestige.batch_norm(x, w:to(x:dtype() == 'f64' and 'f64' or 'f32'), nil, nil, nil,
                                 { training = true }))
    end
    local x, g = images(), images()
    local tolerance = dtype == 'f32' and 1e-6 or 1e-2
    near(norm(x), norm(x:to 'f64'), tolerance)
    near(gradient(norm, g, x), gradient(norm, g:to 'f64', x:to 'f64'), tolerance)
  end
end

function TestStreamed.test_layer_norm()
  local w, b = vestige.randn(1040), vestige.randn(1040)
  local function norm(x) return (vestige.layer_norm(x, { 1040 }, w, b)) end
  local x, g = vestige.randn{ 4100, 1040 }, vestige.randn{ 4100, 1040 }
  assert_rows(norm, x)
  assert_rows(function(some, gs) return gradient(norm, gs, some) end, x, g)
end

-- Rows begin anywhere in a line.
function TestStreamed.test_cross_entropy()
  local x, y = vestige.randn{ 450, 10001 }, vestige.randint(0, 10001, { 450 })
  local function loss(some, labels)
    return vestige.cross_entropy(some, labels, { reduction = 'sum' })
  end
  assert_rows(function(some, labels) return gradient(loss, nil, some, labels) end, x, y)
end

os.exit(lu.LuaUnit.run())
