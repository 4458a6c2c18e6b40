-- The precision of kernels in bf16. The error of rounding the inputs alone is e, the difference of
-- the f64 result on rounded inputs and that on the originals; a kernel stays within 2 e and one
-- rounding of its output. Winograd on pairs of bf16 (level v4bf16) rounds inside: it stays within
-- 2.5 times the error of an exact result that is rounded.
local lu = require 'luaunit'
local vestige = require 'vestige'

local T = {}
local ROUNDING = 2 ^ -8 -- of an element, half a unit in the last place at most

local PAIRS = vestige.info()['cpu level'] == 'v4bf16' and vestige.info().conv == 'winograd'

-- run(...) in bf16 on tensors of the given shapes, against f64.
local function check(name, run, shapes, winograd)
  vestige.scope(function()
    vestige.manual_seed(6)
    local low, rounded, original = {}, {}, {}
    for i, shape in ipairs(shapes) do
      original[i] = vestige.randn(shape, { dtype = 'f64' })
      low[i] = original[i]:to 'bf16'
      rounded[i] = low[i]:to 'f64'
    end
    local got = run(unpack(low))
    lu.assertEquals(got:dtype(), 'bf16', name)
    got = got:to 'f64'
    local exact, expected = run(unpack(rounded)), run(unpack(original))
    if winograd and PAIRS then
      local direct = (exact:to 'bf16':to 'f64' - expected):abs():amax():item()
      local off = (got - expected):abs():amax():item()
      lu.assertTrue(off <= 2.5 * direct, ('%s: off by %g, direct %g'):format(name, off, direct))
      return
    end
    local e = (exact - expected):abs():amax():item()
    local off = ((got - expected):abs() - exact:abs() * ROUNDING):amax():item()
    lu.assertTrue(off <= 2 * e, ('%s: off by %g, 2 e is %g'):format(name, off, 2 * e))
    -- Sums run in f32: beside the exact result nothing is lost but the rounding.
    off = ((got - exact):abs() - exact:abs() * ROUNDING):amax():item()
    local scale = exact:abs():amax():item()
    lu.assertTrue(off <= 1e-5 * scale, ('%s: off by %g of %g'):format(name, off, scale))
  end)
end

function T.test_matmul()
  for _, size in ipairs { { 1, 1, 1 }, { 5, 7, 3 }, { 33, 17, 65 }, { 130, 97, 300 },
                          { 400, 2700, 9 }, { 64, 64, 1000 }, { 7, 1, 40 } } do
    local m, n, k = unpack(size)
    for _, ta in ipairs { false, true } do
      for _, tb in ipairs { false, true } do
        check(('matmul %dx%dx%d %s %s'):format(m, n, k, ta, tb), function(a, b)
          return vestige.matmul(a, b, { ta = ta, tb = tb })
        end, { ta and { k, m } or { m, k }, tb and { n, k } or { k, n } })
      end
    end
  end
end

function T.test_matmul_of_batches()
  check('batch', vestige.matmul, { { 3, 5, 6, 7 }, { 5, 7, 9 } })
  check('many', vestige.matmul, { { 40, 33, 20 }, { 40, 20, 31 } })
  check('rows', vestige.matmul, { { 4, 50, 20 }, { 20, 31 } })
  check('big', vestige.matmul, { { 2, 150, 90 }, { 2, 90, 70 } })
end

function T.test_linear()
  check('linear', vestige.linear, { { 6, 35, 40 }, { 33, 40 } })
  check('bias', vestige.linear, { { 6, 35, 40 }, { 33, 40 }, { 33 } })
  check('rows of several turns', vestige.linear, { { 900, 24 }, { 2800, 24 }, { 2800 } })
  check('weights as (in,out)', function(x, w, b) return vestige.linear(x, w, b, { tw = true }) end,
        { { 6, 35, 40 }, { 40, 33 }, { 33 } })
end

-- x, w, options; several turns of images in the last ones.
local convolutions = {
  { { 2, 7, 6, 3 }, { 5, 3, 3, 3 }, { padding = 1 } },
  { { 3, 9, 8, 16 }, { 20, 3, 3, 16 }, { padding = 1 } },
  { { 3, 9, 8, 16 }, { 20, 3, 3, 16 }, { padding = 1, stride = 2 } },
  { { 2, 9, 8, 8 }, { 12, 2, 3, 8 }, { padding = 2, dilation = 2 } },
  { { 2, 8, 8, 12 }, { 24, 1, 1, 12 }, {} },
  { { 2, 8, 8, 12 }, { 24, 1, 1, 12 }, { stride = 2 } },
  { { 2, 6, 6, 8 }, { 6, 3, 3, 4 }, { groups = 2 } },
  { { 5, 64, 64, 64 }, { 72, 3, 3, 64 }, { padding = 1 } },
  { { 5, 128, 128, 32 }, { 33, 1, 1, 32 }, {} },
  { { 3, 13, 14, 48 }, { 80, 3, 3, 48 }, { padding = 1 }, winograd = true },
}

function T.test_convolutions()
  for i, c in ipairs(convolutions) do
    local x, w, o = unpack(c)
    check('conv2d ' .. i, function(a, b) return a:conv2d(b, nil, o) end, { x, w },
          c.winograd)
    local y = vestige.scope(function()
      return vestige.zeros(x):conv2d(vestige.zeros(w), nil, o):shape()
    end)
    local back = { stride = o.stride, padding = o.padding, dilation = o.dilation,
                   groups = o.groups, size = { x[2], x[3] } }
    check('conv2d_input ' .. i, function(a, b) return vestige.conv2d_input(a, b, back) end,
          { y, w }, c.winograd)
    back.size = { w[2], w[3] }
    check('conv2d_weight ' .. i, function(a, b) return vestige.conv2d_weight(a, b, back) end,
          { x, y }, c.winograd)
  end
end

function T.test_convolutions_with_bias()
  check('conv2d', function(x, w, b) return x:conv2d(w, b, { padding = 1 }) end,
        { { 2, 7, 6, 16 }, { 18, 3, 3, 16 }, { 18 } })
  check('conv2d in threes', function(x, w, b) return x:conv2d(w, b, { padding = 1 }) end,
        { { 2, 7, 6, 16 }, { 32, 3, 3, 16 }, { 32 } }, true)
  check('conv_transpose2d', function(x, w, b) return x:conv_transpose2d(w, b, { stride = 2 }) end,
        { { 2, 7, 6, 5 }, { 5, 3, 3, 18 }, { 18 } })
end

-- Under autocast images are bf16 and the vectors of channels f32; the plain loops are the measure.
function T.test_batch_norm_of_mixed_types()
  for _, shape in ipairs { { 4, 5, 5, 3 }, { 32, 16, 16, 64 }, { 8, 33, 37, 130 } } do
    for _, training in ipairs { true, false } do
      vestige.scope(function()
        local results = {}
        for _, device in ipairs { 'cpu', 'ref' } do
          vestige.manual_seed(7)
          local function make(size, dtype) return vestige.randn(size):to(dtype):to(device) end
          local x, g = make(shape, 'bf16'):requires_grad_(), make(shape, 'bf16')
          local vectors = {}
          for i = 1, 4 do vectors[i] = make({ shape[4] }, 'f32') end
          local w, b, mean, var = unpack(vectors)
          var = var:abs() + 0.5
          w:requires_grad_()
          b:requires_grad_()
          local y = vestige.batch_norm(x, w, b, mean, var, { training = training })
          local gs = vestige.grad(y, { x, w, b }, { grad_outputs = g })
          results[device] = { y, gs[1], gs[2], gs[3], mean, var }
        end
        for k, got in ipairs(results.cpu) do
          local expected = results.ref[k]:detach():to 'cpu'
          lu.assertEquals(got:dtype(), expected:dtype())
          lu.assertEquals(got:dtype(), k <= 2 and 'bf16' or 'f32')
          local off = (got:detach():to 'f64' - expected:to 'f64'):abs():amax():item()
          local scale = expected:to 'f64':abs():amax():item()
          lu.assertTrue(off <= (k <= 2 and 2 ^ -7 or 2e-5) * scale, ('%d: %g'):format(k, off))
        end
      end)
    end
  end
end

-- Sums that lie between two bf16 go to the even one; NaN, infinity and overflow come through; in
-- every place of a vector and in a row's rest, with an operand that stands still on either side.
function T.test_rounding_of_elementwise_kernels()
  local inf, nan = 1 / 0, 0 / 0
  local most = (2 - 2 ^ -7) * 2 ^ 127
  local values = { 1, 1 + 2 ^ -7, -1, -1 - 2 ^ -7, most, nan, inf, -inf, 0, 2 ^ -130 }
  local others = { 2 ^ -8, 3 * 2 ^ -9, 2 ^ -8 + 2 ^ -12, 2 ^ 127, -inf, 1 }
  local ops = {
    add = vestige.add, sub = vestige.sub, mul = vestige.mul, maximum = vestige.maximum,
    relu = function(a, b) return vestige.relu(a) + b end,
    addcmul = function(a, b) return vestige.addcmul(a, b, b:sign()) end,
    gt = function(a, b) return a:gt(b):to 'f32' end,
  }
  for _, n in ipairs { 1, 15, 16, 17, 33, 70, 130 } do
    local left, right = {}, {}
    for i = 1, n do
      left[i] = values[(i - 1) % #values + 1]
      right[i] = others[(i * 7 + math.floor(i / 10)) % #others + 1]
    end
    for name, op in pairs(ops) do
      for _, shape in ipairs { 'both', 'left', 'right' } do
        local results = {}
        for _, device in ipairs { 'cpu', 'ref' } do
          local a = vestige.tensor(left, { dtype = 'bf16' }):to(device)
          local b = vestige.tensor(right, { dtype = 'bf16' }):to(device)
          if shape == 'left' then b = b[1] elseif shape == 'right' then a = a[1] end
          results[#results + 1] = op(a, b):to('cpu'):reshape(-1):tolist()
        end
        for i = 1, #results[1] do
          local x, y = results[1][i], results[2][i]
          lu.assertTrue(x == y or (x ~= x and y ~= y),
                        ('%s %s of %d: element %d is %g, not %g'):format(name, shape, n, i, x, y))
        end
      end
    end
  end
end

os.exit(lu.LuaUnit.new():runSuiteByInstances{ { 'Bf16', T } })
