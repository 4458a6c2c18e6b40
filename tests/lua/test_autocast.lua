-- vestige.autocast: which operators run in which type, gradients at both orders, errors, what is
-- cast once, checkpoints, and training.
local lu = require 'luaunit'
local vestige = require 'vestige'

local T = {}

local function within(got, expected, limit)
  local off = ((got:to 'f64' - expected:to 'f64'):abs():amax() / expected:to 'f64':abs():amax())
  lu.assertTrue(off:item() <= limit, ('off by %g'):format(off:item()))
end

local function same_bits(a, b)
  lu.assertEquals(a:dtype(), b:dtype())
  lu.assertEquals(a:tolist(), b:tolist())
end

-- How often operators of a name ran in a type while fn() did.
local function count(fn, name, dtype)
  for _, row in ipairs(vestige.profile(fn, { print = false })) do
    if row.name == name and row.dtype == dtype then return row.count end
  end
  return 0
end

local function in_scope(f)
  return function() vestige.scope(f) end
end

T.test_types = in_scope(function()
  local x, w = vestige.randn(4, 6), vestige.randn(6, 6)
  local image, kernel = vestige.randn(2, 6, 6, 3), vestige.randn(4, 3, 3, 3)
  local labels = vestige.tensor({ 0, 1, 2, 3 }, { dtype = 'i64' })
  local low, heads = x:to 'bf16', vestige.randn(2, 3, 5, 4)
  local runs = {
    { 'bf16', function() return x:matmul(w) end },
    { 'bf16', function() return vestige.linear(x, w) end },
    { 'bf16', function() return vestige.linear(low, w, w[1]) end },
    { 'bf16', function() return image:conv2d(kernel) end },
    { 'bf16', function() return image:conv_transpose2d(vestige.randn(3, 3, 3, 2)) end },
    { 'bf16', function() return vestige.scaled_dot_product_attention(heads, heads, heads) end },
    { 'f32', function() return low:softmax(-1) end },
    { 'f32', function() return low:layer_norm { 6 } end },
    { 'f32', function() return low:log_softmax(-1) end },
    { 'f32', function() return low:cross_entropy(labels) end },
    { 'f32', function() return low:sum() end },
    { 'f32', function() return low:mean(1) end },
    { 'f32', function() return low:var() end },
    { 'f32', function() return low:norm() end },
    { 'f32', function() return low:mse_loss(x) end },
    { 'f32', function() return x + w[1] end },
    { 'f32', function() return low * x end },
    { 'bf16', function() return low + 1 end },
    { 'bf16', function() return low:relu() end },
    { 'f32', function() return x:relu() end },
    { 'f64', function() return x:to 'f64':matmul(w) end },
    { 'i64', function() return labels:matmul(labels) end },
  }
  for i, run in ipairs(runs) do
    lu.assertEquals(vestige.autocast('bf16', run[2]):dtype(), run[1], i)
  end
  lu.assertEquals(x:matmul(w):dtype(), 'f32')
end)

T.test_what_is_changed_in_place_keeps_its_type = in_scope(function()
  local x, low = vestige.ones(3), vestige.ones(3):to 'bf16'
  vestige.autocast('bf16', function()
    x:add_(low)
    low:add_(x)
  end)
  lu.assertEquals({ x:dtype(), low:dtype() }, { 'f32', 'bf16' })
  lu.assertEquals(low:tolist(), { 3, 3, 3 })
end)

T.test_values_and_results_pass = in_scope(function()
  local a, b, c = vestige.autocast('bf16', function(...) return ... end, 1, nil, 'x')
  lu.assertEquals({ a, b == nil, c }, { 1, true, 'x' })
end)

T.test_it_nests = in_scope(function()
  local x = vestige.randn(3, 3)
  local inner, after
  vestige.autocast('bf16', function()
    inner = vestige.autocast(false, function() return x:matmul(x):dtype() end)
    after = x:matmul(x):dtype()
  end)
  lu.assertEquals({ inner, after, x:matmul(x):dtype() }, { 'f32', 'bf16', 'f32' })
end)

T.test_errors_restore_it = in_scope(function()
  local x = vestige.randn(3, 3)
  local ok, message = pcall(vestige.autocast, 'bf16', function() error('stop', 0) end)
  lu.assertEquals({ ok, message }, { false, 'stop' })
  lu.assertEquals(x:matmul(x):dtype(), 'f32')
  ok = pcall(vestige.autocast, 'bf16', function() return x:matmul(vestige.ones(4)) end)
  lu.assertFalse(ok)
  lu.assertEquals(x:matmul(x):dtype(), 'f32')
  vestige.autocast('bf16', function()
    lu.assertFalse(pcall(vestige.autocast, false, error, 'stop'))
    lu.assertEquals(x:matmul(x):dtype(), 'bf16')
  end)
end)

function T.test_messages()
  lu.assertErrorMsgContains("autocast: expected 'bf16' or false, got 'f16'", vestige.autocast,
                            'f16', print)
  lu.assertErrorMsgContains("autocast: expected 'bf16' or false, got true", vestige.autocast, true,
                            print)
  lu.assertErrorMsgContains('autocast: expected a function, got nil', vestige.autocast, 'bf16')
end

-- ---- Gradients ----
local function network()
  vestige.manual_seed(3)
  local x, k = vestige.randn(4, 6, 6, 3), vestige.randn(5, 3, 3, 3) * 0.2
  local g, b, w = vestige.ones(5), vestige.zeros(5), vestige.randn(7, 5)
  for _, t in ipairs { k, g, b, w } do t:requires_grad_() end
  local labels = vestige.tensor({ 0, 1, 2, 6 }, { dtype = 'i64' })
  local function loss()
    local y = x:conv2d(k, nil, { padding = 1 })
    y = y:batch_norm(g, b, nil, nil, { training = true }):tanh():mean { 2, 3 }
    return vestige.linear(y, w):cross_entropy(labels)
  end
  return loss, { k, g, b, w }
end

T.test_gradients_have_the_type_of_the_weights = in_scope(function()
  local loss, ws = network()
  local plain = vestige.grad(loss(), ws)
  local l = vestige.autocast('bf16', loss)
  lu.assertEquals(l:dtype(), 'f32')
  for i, got in ipairs(vestige.grad(l, ws)) do
    lu.assertEquals(got:dtype(), 'f32')
    within(got, plain[i], 0.05)
  end
end)

local function second_order(loss, ws, outer)
  local gs = vestige.grad(vestige.autocast('bf16', loss), ws, { create_graph = true })
  local total = outer(function()
    local sum = 0
    for _, g in ipairs(gs) do sum = sum + (g * g):sum() end
    return sum
  end)
  return vestige.grad(total, ws)
end

T.test_second_order = in_scope(function()
  local loss, ws = network()
  local gs, sum = vestige.grad(loss(), ws, { create_graph = true }), 0
  for _, g in ipairs(gs) do sum = sum + (g * g):sum() end
  local plain = vestige.grad(sum, ws)
  for i, got in ipairs(second_order(loss, ws, function(f) return f() end)) do
    lu.assertEquals(got:dtype(), 'f32')
    within(got, plain[i], 0.1)
  end
end)

T.test_a_rule_runs_as_its_operator_did = in_scope(function()
  local loss, ws = network()
  local outside = vestige.grad(vestige.autocast('bf16', loss), ws)
  vestige.autocast('bf16', function()
    for i, g in ipairs(vestige.grad(loss(), ws)) do same_bits(g, outside[i]) end
    local plain = vestige.autocast(false, loss) -- walked inside the mode, in f32
    lu.assertEquals(count(function() vestige.grad(plain, ws) end, 'conv2d_weight', 'bf16'), 0)
  end)
  local one = second_order(loss, ws, function(f) return f() end)
  local two = second_order(loss, ws, function(f) return vestige.autocast('bf16', f) end)
  for i = 1, #ws do same_bits(one[i], two[i]) end
  local l = vestige.autocast('bf16', loss)
  lu.assertEquals(count(function() vestige.grad(l, ws) end, 'conv2d_weight', 'bf16'), 1)
end)

T.test_a_custom_rule_runs_as_its_forward_did = in_scope(function()
  local seen
  local double = vestige.custom {
    forward = function(ctx, x) ctx:save(x) return x * 2 end,
    backward = function(ctx, g)
      local x = ctx:saved()
      seen = x:matmul(x):dtype()
      return g * 2
    end,
  }
  local x = vestige.randn(3, 3):requires_grad_()
  local y = vestige.autocast('bf16', double, x)
  vestige.grad(y:sum(), x)
  lu.assertEquals(seen, 'bf16')
  y = double(x)
  vestige.autocast('bf16', function() vestige.grad(y:sum(), x) end)
  lu.assertEquals(seen, 'f32')
end)

T.test_checkpoint = in_scope(function()
  vestige.manual_seed(4)
  local x, w = vestige.randn(8, 8), (vestige.randn(8, 8) * 0.3):requires_grad_()
  local v = (vestige.randn(8, 8) * 0.3):requires_grad_()
  local function block(h) return h:matmul(w):tanh():matmul(v) end
  local function run(around)
    return function() return around(block, x:matmul(w)):matmul(v):sum() end
  end
  local function checkpointed(...) return vestige.checkpoint(...) end
  local plain = vestige.grad(vestige.autocast('bf16', run(function(f, h) return f(h) end)),
                             { w, v })
  local outside = vestige.grad(vestige.autocast('bf16', run(checkpointed)), { w, v })
  local inside = vestige.autocast('bf16', function()
    return vestige.grad(run(checkpointed)(), { w, v })
  end)
  for i = 1, 2 do
    within(outside[i], plain[i], 0.01)
    same_bits(inside[i], outside[i])
  end
end)

-- ---- What is cast once ----
T.test_a_weight_is_cast_once = in_scope(function()
  local w, x = vestige.randn(4, 4):requires_grad_(), vestige.randn(4, 4):to 'bf16'
  local function thrice() return x:matmul(w) + x:matmul(w) + vestige.linear(x, w) end
  lu.assertEquals(count(function() vestige.autocast('bf16', thrice) end, 'to', 'f32'), 1)
  lu.assertEquals(count(function()
    vestige.autocast('bf16', thrice)
    vestige.autocast('bf16', thrice)
  end, 'to', 'f32'), 2)
end)

T.test_a_changed_weight_is_cast_again = in_scope(function()
  local w, x = vestige.ones(2, 2):requires_grad_(), vestige.ones(2, 2):to 'bf16'
  vestige.autocast('bf16', function()
    lu.assertEquals(x:matmul(w):tolist(), { 2, 2, 2, 2 })
    vestige.no_grad(function() w:mul_(3) end)
    lu.assertEquals(x:matmul(w):tolist(), { 6, 6, 6, 6 })
    lu.assertEquals(x:matmul(w:reshape(4):reshape(2, 2)):tolist(), { 6, 6, 6, 6 })
  end)
end)

T.test_a_cast_without_history_serves_no_gradient = in_scope(function()
  local w, x = vestige.ones(2, 2):requires_grad_(), vestige.ones(2, 2):to 'bf16'
  vestige.autocast('bf16', function()
    vestige.no_grad(function() return x:matmul(w) end)
    lu.assertEquals(vestige.grad(x:matmul(w):sum(), w):tolist(), { 2, 2, 2, 2 })
    lu.assertEquals(vestige.grad(x:matmul(w):sum(), w):tolist(), { 2, 2, 2, 2 }) -- again
  end)
end)

function T.test_nothing_is_held_afterwards()
  collectgarbage()
  collectgarbage()
  local function round()
    vestige.scope(function()
      for _ = 1, 3 do
        local ws = {}
        vestige.autocast('bf16', function()
          for i = 1, 600 do -- more than are remembered
            ws[i] = vestige.ones(2, 2):requires_grad_()
            lu.assertEquals(ws[i]:matmul(ws[i]):dtype(), 'bf16')
          end
          error('leave')
        end)
      end
    end)
  end
  local before = vestige.memory()
  lu.assertFalse(pcall(round))
  local after = vestige.memory()
  lu.assertEquals({ after.live, after.tensors, after.nodes },
                  { before.live, before.tensors, before.nodes })
end

T.test_failing_allocations = in_scope(function()
  local base, handle = require 'vestige.ffi', require 'vestige.handle'
  local loss, ws = network()
  local before = vestige.memory()
  local n, ok, message = 0
  repeat
    n = n + 1
    handle.no_retry = true
    base.C.vestige_fail_allocation(n)
    ok, message = pcall(vestige.scope, function()
      vestige.grad(vestige.autocast('bf16', loss), ws)
    end)
    base.C.vestige_fail_allocation(0)
    handle.no_retry = nil
    if not ok then lu.assertStrContains(message, 'out of memory') end
    local after = vestige.memory()
    lu.assertEquals({ after.live, after.tensors, after.nodes },
                    { before.live, before.tensors, before.nodes }, n)
  until ok or n > 1000
  lu.assertTrue(ok)
end)

-- ---- Training ----
T.test_resnet18_learns = in_scope(function()
  vestige.manual_seed(5)
  local model = vestige.models.resnet18 { width = 4 }
  local params = {}
  for _, p in model:named_parameters() do params[#params + 1] = p end
  local x = vestige.randn(16, 32, 32, 3)
  local labels = {}
  for i = 1, 16 do labels[i] = i % 4 end
  local y = vestige.tensor(labels, { dtype = 'i64' })
  local first, last
  for _ = 1, 12 do
    vestige.scope(function()
      local loss = vestige.autocast('bf16', function() return model(x):cross_entropy(y) end)
      local gs = vestige.grad(loss, params)
      vestige.no_grad(function()
        for i, p in ipairs(params) do p:sub_(gs[i] * 0.05) end
      end)
      last = loss:item()
      first = first or last
    end)
  end
  lu.assertTrue(last < 0.5 * first, ('loss %g, then %g'):format(first, last))
end)

os.exit(lu.LuaUnit.new():runSuiteByInstances{ { 'Autocast', T } })
