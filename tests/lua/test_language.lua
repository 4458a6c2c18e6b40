-- What a transformer is made of, beyond the registry loop: masks, dropout, packed heads, layers,
-- derivatives of third order, what is computed and kept, messages.
local lu = require 'luaunit'
local nn = require 'vestige.nn'
local vestige = require 'vestige'

local T = {}

local function in_scope(f)
  return function() vestige.scope(f) end
end

local function draw(shape, name, dtype)
  local t = vestige.rand(shape, { dtype = dtype or 'f64', generator = vestige.generator(5, name) })
  return (t * 2 - 1):detach():requires_grad_()
end

local function fails(text, f, ...)
  local ok, message = pcall(f, ...)
  lu.assertFalse(ok)
  lu.assertStrContains(message, text)
end

local function near(a, b, tolerance)
  lu.assertTrue(vestige.allclose(a, b, { rtol = 0, atol = tolerance or 1e-12 }))
end

local sdpa = vestige.scaled_dot_product_attention

-- softmax(scale q k' + bias) v, word for word.
local function plainly(q, k, v, bias, scale)
  local scores = vestige.matmul(q, k, { tb = true }) * (scale or 1 / math.sqrt(q:size(-1)))
  if bias then scores = scores + bias end
  return vestige.matmul(vestige.softmax(scores, -1), v)
end

local function heads(dtype)
  return draw({ 2, 2, 3, 4 }, 'q', dtype), draw({ 2, 2, 5, 4 }, 'k', dtype),
         draw({ 2, 2, 5, 2 }, 'v', dtype)
end

T.test_attention_is_its_formula = in_scope(function()
  local q, k, v = heads()
  near(sdpa(q, k, v), plainly(q, k, v))
  near(sdpa(q, k, v, { scale = 2 }), plainly(q, k, v, nil, 2))
  near(sdpa(q, k, v, nil, 0, false, 2), plainly(q, k, v, nil, 2))
  local far = -math.huge
  local causal = vestige.tensor({ { 0, far, far, far, far }, { 0, 0, far, far, far },
                                  { 0, 0, 0, far, far } }, { dtype = 'f64' })
  near(sdpa(q, k, v, { is_causal = true }), plainly(q, k, v, causal))
  near(sdpa(q, k, v, causal), plainly(q, k, v, causal))
  near(sdpa(q, k, v, causal:eq(0)), plainly(q, k, v, causal))
  local bias = draw({ 2, 1, 3, 5 }, 'bias')
  near(sdpa(q, k, v, bias), plainly(q, k, v, bias))
  local one = k:narrow(1, 1, 1) -- leading dimensions broadcast
  near(sdpa(q, one, v:narrow(1, 1, 1)), plainly(q, one, v:narrow(1, 1, 1)))
end)

T.test_masks_have_gradients_of_second_order = in_scope(function()
  local q, k, v = draw({ 2, 2 }, 'q'), draw({ 3, 2 }, 'k'), draw({ 3, 2 }, 'v')
  local see = vestige.tensor({ { 1, 0, 1 }, { 0, 0, 0 } }, { dtype = 'bool' })
  local function by_bool(...)
    local q1, k1, v1 = ...
    return sdpa(q1, k1, v1, see)
  end
  local function by_float(q1, k1, v1, bias) return sdpa(q1, k1, v1, bias) end
  local bias = draw({ 2, 3 }, 'bias')
  vestige.gradcheck(by_bool, { q, k, v })
  vestige.gradgradcheck(by_bool, { q, k, v })
  vestige.gradcheck(by_float, { q, k, v, bias })
  vestige.gradgradcheck(by_float, { q, k, v, bias })
end)

T.test_a_query_that_sees_nothing_gives_zero = in_scope(function()
  local q, k, v = heads()
  local see = vestige.tensor({ { 1, 1, 0, 0, 1 }, { 0, 0, 0, 0, 0 }, { 0, 1, 0, 0, 0 } },
                             { dtype = 'bool' })
  local bias = vestige.zeros({ 3, 5 }, { dtype = 'f64' }):masked_fill(see:logical_not(), -math.huge)
  for _, mask in ipairs { see, bias } do
    local y = sdpa(q, k, v, mask)
    lu.assertEquals(y:select(3, 2):abs():sum():item(), 0)
    near(y:select(3, 3), v:select(3, 2))
    for _, g in ipairs(vestige.grad((y * y):sum(), { q, k, v })) do
      lu.assertTrue(g:abs():sum():item() < math.huge)
    end
  end
end)

T.test_attention_drops_weights = in_scope(function()
  local q, k = draw({ 1, 1, 64, 8 }, 'q'), draw({ 1, 1, 64, 8 }, 'k')
  local v = draw({ 1, 1, 64, 64 }, 'v')
  local unit = vestige.eye(64, { dtype = 'f64' }):reshape(1, 1, 64, 64) -- y is the weights
  local whole = sdpa(q, k, unit, { is_causal = true })
  local y = sdpa(q, k, unit, { is_causal = true, dropout_p = 0.25 })
  local dropped = y:eq(0):sum():item() - 64 * 63 / 2
  lu.assertTrue(math.abs(dropped / (64 * 65 / 2) - 0.25) < 0.05)
  near(y, vestige.where(y:eq(0), 0, whole / 0.75))
  local g = vestige.grad(sdpa(q, k, v, { dropout_p = 0.25 }):sum(), { q, k, v })
  for i = 1, 3 do lu.assertTrue(g[i]:abs():sum():item() > 0) end
end)

T.test_packed_heads_are_heads_apart = in_scope(function()
  for _, dtype in ipairs { 'f32', 'f64' } do
    local qkv = draw({ 2, 37, 3 * 3 * 8 }, 'qkv', dtype)
    local apart = qkv:reshape(2, 37, 3, 3, 8):permute{ 3, 1, 4, 2, 5 }
    local function joined(o)
      return sdpa(apart[1], apart[2], apart[3], o):permute{ 1, 3, 2, 4 }:reshape(2, 37, 24)
    end
    for _, causal in ipairs { true, false } do
      local y, z = vestige.attention_qkv(qkv, 3, causal), joined{ is_causal = causal }
      lu.assertTrue(vestige.equal(y, z)) -- the same kernel reads them where they are
      local w = draw({ 2, 37, 24 }, 'w', dtype)
      local dy, dz = vestige.grad((y * w):sum(), qkv), vestige.grad((z * w):sum(), qkv,
                                                                   { retain_graph = true })
      lu.assertTrue(vestige.equal(dy, dz))
    end
    near(vestige.attention_qkv(qkv, { heads = 3, scale = 0.5 }), joined{ scale = 0.5 }, 1e-6)
    local function dropping(f, o)
      o.dropout_p = 0.5
      return vestige.with_generator(vestige.generator(1, 'drop'), f, o)
    end
    near(dropping(function(o) return vestige.attention_qkv(qkv, 3, o) end, { is_causal = true }),
         dropping(joined, { is_causal = true }))
  end
end)

T.test_third_order = in_scope(function()
  local function of_gradient(f)
    local function first_order(...)
      local ins, total = { ... }, 0
      local y = f(...)
      for _, g in ipairs(vestige.grad((y * y):sum(), ins, { create_graph = true })) do
        total = total + (g * g):sum()
      end
      return total
    end
    return function(...) return vestige.enable_grad(first_order, ...) end
  end
  local x, w, b = draw({ 2, 3 }, 'x'), draw({ 3 }, 'w'), draw({ 3 }, 'b')
  local norm = of_gradient(function(t, weight, bias)
    return vestige.layer_norm(t, { 3 }, weight, bias)
  end)
  vestige.gradcheck(norm, { x, w, b })
  vestige.gradgradcheck(norm, { x, w, b })
  local qkv = draw({ 1, 3, 6 }, 'qkv')
  local attention = of_gradient(function(t) return vestige.attention_qkv(t, 1, true) end)
  vestige.gradcheck(attention, { qkv })
  vestige.gradgradcheck(attention, { qkv })
end)

-- Only the gradients that are asked for are computed, and the weights are never kept whole.
T.test_attention_keeps_no_weights = in_scope(function()
  local n = 512
  local q, k, v = draw({ 1, 4, n, 8 }, 'q', 'f32'), draw({ 1, 4, n, 8 }, 'k', 'f32'),
                  draw({ 1, 4, n, 8 }, 'v', 'f32')
  vestige.collect()
  vestige.reset_peak()
  local before = vestige.memory().live
  local y = sdpa(q, k, v, { is_causal = true })
  vestige.grad(y:sum(), { q, k, v })
  lu.assertTrue(vestige.memory().peak - before < 4 * n * n * 4)
end)

T.test_layers = in_scope(function()
  local norm = nn.LayerNorm({ 3, 4 }, { eps = 1e-3 })
  local x = vestige.randn{ 5, 3, 4 }
  local y = norm(x)
  near(y:reshape(5, 12):mean(2), vestige.zeros{ 5 }, 1e-6)
  near(y, vestige.layer_norm(x, { 3, 4 }, { eps = 1e-3 }), 1e-6)
  lu.assertEquals(norm:state_dict().bias:shape(), { 3, 4 })
  lu.assertNil(nn.LayerNorm(4, { bias = false }):state_dict().bias)
  lu.assertNil(nn.LayerNorm(4, { elementwise_affine = false }):state_dict().weight)
  lu.assertStrContains(tostring(norm), 'LayerNorm(3, 4)')

  local table = nn.Embedding(6, 3)
  local ids = vestige.tensor({ { 1, 5 }, { 1, 0 } }, { dtype = 'i64' })
  lu.assertTrue(vestige.equal(table(ids)[1][2], table.weight[6]))
  local g = vestige.grad(table(ids):sum(), table.weight)
  lu.assertEquals(g:sum(2):tolist(), { 3, 6, 0, 0, 0, 3 })
  lu.assertStrContains(tostring(table), 'Embedding(6, 3)')

  lu.assertTrue(vestige.equal(nn.GELU 'tanh'(x), vestige.gelu(x, 'tanh')))
  lu.assertTrue(vestige.equal(nn.GELU()(x), vestige.gelu(x)))
end)

T.test_messages = in_scope(function()
  local x = vestige.ones{ 2, 3 }
  lu.assertEquals(select('#', vestige.layer_norm(x, 3)), 1)
  fails('last dimensions (4), the normalized_shape, got f32 (2,3)', vestige.layer_norm, x, { 4 })
  fails('weight: expected (3), the normalized_shape', vestige.layer_norm, x, { 3 },
        vestige.ones{ 2 })
  fails('option normalized_shape is missing', vestige.layer_norm, x)
  fails("unknown option 'epsilon'", vestige.layer_norm, x, { 3 },
        { epsilon = 1 })
  local ids = vestige.tensor({ 0, 3 }, { dtype = 'i64' })
  fails('input: element 2 is 3, expected 0 to 2', vestige.embedding, ids, vestige.ones{ 3, 2 })
  fails('weight: expected (rows,width)', vestige.embedding, ids, vestige.ones{ 3 })
  fails('expected an int tensor', vestige.embedding, x, vestige.ones{ 3, 2 })
  fails('with 2 heads, got f32 (1,3,8)', vestige.attention_qkv, vestige.ones{ 1, 3, 8 }, 2)
  fails('heads: expected 1 or more', vestige.attention_qkv, vestige.ones{ 1, 3, 6 }, 0)
  fails('expected q (...,L,E), k (...,S,E), v (...,S,Ev)', sdpa, x, vestige.ones{ 2, 4 }, x)
  fails('exclude each other', sdpa, x, x, x, vestige.ones({ 2, 2 }, { dtype = 'bool' }),
        { is_causal = true })
  fails("unknown option 'causal'", sdpa, x, x, x, { causal = true })
  fails('expected a tensor', sdpa, x, x)
end)

os.exit(lu.LuaUnit.new():runSuiteByInstances{ { 'Language', T } })
