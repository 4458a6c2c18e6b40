-- What the loop over the registry does not see: calls by position, promotion, ties, kinks,
-- in-place twins, streams, and the gradient of dropout.
local lu = require 'luaunit'
local vestige = require 'vestige'

local function list(t) return t:tolist() end
local nan, inf = 0 / 0, 1 / 0

TestCreate = {}

function TestCreate.test_arange_as_pytorch()
  lu.assertEquals(list(vestige.arange(4)), { 0, 1, 2, 3 })
  lu.assertEquals(vestige.arange(4):dtype(), 'i64')
  lu.assertEquals(list(vestige.arange(1, 2, 0.25)), { 1, 1.25, 1.5, 1.75 })
  lu.assertEquals(vestige.arange(1, 2, 0.25):dtype(), 'f32')
  lu.assertEquals(list(vestige.arange(5, -1, -2)), { 5, 3, 1 })
  lu.assertEquals(vestige.arange(3, { dtype = 'f64' }):dtype(), 'f64')
  lu.assertErrorMsgContains('does not lead to', vestige.arange, 0, 4, -1)
end

function TestCreate.test_eye_and_linspace()
  lu.assertEquals(list(vestige.eye(2)), { 1, 0, 0, 1 })
  lu.assertEquals(list(vestige.linspace(0, 1, 3)), { 0, 0.5, 1 })
end

TestPromotion = {}

function TestPromotion.test_numbers_do_not_widen()
  local x = vestige.arange(3)
  lu.assertEquals((x + 1):dtype(), 'i64')
  lu.assertEquals((x + 0.5):dtype(), 'f32')
  lu.assertEquals((x / 2):dtype(), 'f32')
  lu.assertEquals((x:gt(1) + 1):dtype(), 'i64')
  lu.assertEquals(x:sqrt():dtype(), 'f32')
  lu.assertEquals((x:to 'bf16' * 0.1):dtype(), 'bf16')
end

-- The target keeps its type where it can hold the result, and says so where it cannot.
function TestPromotion.test_in_place_keeps_the_type()
  local x = vestige.ones { 2 }
  x:add_(vestige.ones({ 2 }, { dtype = 'f64' }))
  lu.assertEquals(x:dtype(), 'f32')
  lu.assertEquals(list(x), { 2, 2 })
  local i = vestige.arange(3)
  lu.assertErrorMsgContains('cannot hold', i.div_, i, 2)
  lu.assertErrorMsgContains('cannot hold', i.add_, i, 0.5)
  lu.assertEquals(list(i), { 0, 1, 2 })
  lu.assertErrorMsgContains('cannot hold', x.add_, x, vestige.ones { 3, 2 })
end

function TestPromotion.test_numbers_compare_in_the_tensor_s_precision()
  lu.assertEquals(list(vestige.tensor { 0.1 }:eq(0.1)), { true })
  lu.assertEquals(list(vestige.tensor({ 0.1 }, { dtype = 'bf16' }):eq(0.1)), { true })
end

function TestPromotion.test_where_of_numbers()
  local c = vestige.tensor { true, false }
  lu.assertEquals(vestige.where(c, 1, 0):dtype(), 'i64')
  lu.assertEquals(vestige.where(c, 1.5, 0):dtype(), 'f32')
end

function TestPromotion.test_whole_division()
  local a = vestige.tensor({ -7, 7, -7 }, { dtype = 'i64' })
  local b = vestige.tensor({ 2, -2, -2 }, { dtype = 'i64' })
  lu.assertEquals(list(a:floor_divide(b)), { -4, -4, 3 })
  lu.assertEquals(list(a:remainder(b)), { 1, -1, -1 })
  lu.assertErrorMsgContains('by zero', a.remainder, a, 0)
  lu.assertErrorMsgContains('negative powers', a.pow, a, -1)
end

TestKinks = {}

local function slope(f, values)
  local x = vestige.tensor(values, { requires_grad = true })
  return list(vestige.grad(f(x):sum(), x))
end

function TestKinks.test_gradients_where_pytorch_chooses()
  lu.assertEquals(slope(function(x) return x:relu() end, { -1, 0, 1 }), { 0, 0, 1 })
  lu.assertEquals(slope(function(x) return x:abs() end, { -1, 0, 1 }), { -1, 0, 1 })
  lu.assertEquals(slope(function(x) return x:clamp(0, 1) end, { -1, 0, 1, 2 }), { 0, 1, 1, 0 })
  lu.assertEquals(slope(function(x) return vestige.maximum(x, 1) end, { 0, 1, 2 }), { 0, 0.5, 1 })
  lu.assertEquals(slope(function(x) return vestige.minimum(x, 1) end, { 0, 1, 2 }), { 1, 0.5, 0 })
  lu.assertEquals(slope(function(x) return x:pow(0) end, { 0, 2 }), { 0, 0 })
  lu.assertEquals(slope(function(b) return vestige.pow(0, b) end, { 0, 2 }), { 0, 0 })
  lu.assertEquals(slope(function(x) return x:elu() end, { 1000 }), { 1 })
end

-- NaN goes through as in PyTorch; the tail keeps its digits where 1 + erf has none left.
function TestKinks.test_limits()
  local x = vestige.tensor { nan, -inf, inf }
  for _, op in ipairs { 'relu', 'exp', 'tanh', 'sigmoid', 'abs' } do
    local y = list(x[op](x))
    lu.assertTrue(y[1] ~= y[1], op)
    lu.assertFalse(y[2] ~= y[2] or y[3] ~= y[3], op)
  end
  lu.assertTrue(vestige.maximum(x, 1):isnan():tolist()[1])
  lu.assertTrue(x:clamp(0, 1):isnan():tolist()[1])
  -- Wherever it stands among others: in a row, in a column, in a window.
  for _, n in ipairs { 3, 16, 50 } do
    for _, at in ipairs { 1, 2, n } do
      local row = vestige.arange(n):to 'f32'
      local y = vestige.where(row:eq(at - 1), row * nan, row)
      for _, dim in ipairs { 1, 2 } do
        local t = dim == 1 and y:reshape(n, 1):expand(n, 2) or y:reshape(1, n):expand(2, n)
        lu.assertTrue(t:amax(dim):isnan():all():item())
        lu.assertTrue(t:amin(dim):isnan():all():item())
      end
    end
  end
  local image = vestige.tensor { 1, nan, 2, 0 }:reshape(1, 2, 2, 1):expand(1, 2, 2, 20)
  lu.assertTrue(vestige.max_pool2d(image, 2):isnan():all():item())
  local signs = vestige.tensor { -inf, -inf }
  lu.assertEquals({ signs:amax():item(), (-signs):amin():item() }, { -inf, inf })
  local far = vestige.tensor { -5 }:gelu():item()
  lu.assertAlmostEquals(far / -1.4332580e-06, 1, 1e-5)
  lu.assertEquals(list(vestige.tensor { 0, 1, 0.5 }:normal_icdf()), { -inf, inf, 0 })
end

TestRandom = {}

function TestRandom.test_a_draw_is_the_stream_s_alone()
  local function draw(n)
    return list(vestige.randn({ n }, { generator = vestige.generator(5, 'noise') }))
  end
  local few, many = draw(10), draw(20000)
  for i = 1, 10 do lu.assertTrue(few[i] == many[i]) end
end

function TestRandom.test_permutation_and_integers()
  local p = list(vestige.randperm(50))
  table.sort(p)
  for i = 1, 50 do lu.assertEquals(p[i], i - 1) end
  local x = vestige.randint(-2, 3, { 1000 })
  lu.assertEquals({ x:amin():item(), x:amax():item() }, { -2, 2 })
  lu.assertEquals(vestige.randint(7, { 1000 }):amax():item(), 6)
end

function TestRandom.test_in_place_draws_move_the_stream()
  vestige.manual_seed(1)
  local a, b = vestige.zeros { 100 }, vestige.zeros { 100 }
  a:normal_()
  b:normal_()
  lu.assertFalse(list(a)[1] == list(b)[1])
  a:uniform_(2, 3)
  lu.assertTrue(a:amin():item() >= 2 and a:amax():item() <= 3)
end

-- The gradient drops what the forward dropped, at both orders and after other draws.
function TestRandom.test_dropout_replays_its_mask()
  vestige.manual_seed(3)
  local x = vestige.ones({ 4000 }, { requires_grad = true })
  local y = x:dropout(0.25)
  vestige.randn { 10 }
  local v = vestige.ones({ 4000 }, { requires_grad = true })
  local g = vestige.grad(y, x, { grad_outputs = v, create_graph = true })
  lu.assertEquals(list(g), list(y))
  lu.assertEquals(list(vestige.grad(g:sum(), v)), list(y))
  local kept = y:ne(0):to('f32'):mean():item()
  lu.assertTrue(math.abs(kept - 0.75) < 0.03)
  lu.assertEquals(list(x:dropout(1)), list(vestige.zeros { 4000 }))
end

os.exit(lu.LuaUnit.run())
