-- Gradients as a script sees them: walks, accumulation, custom functions, checkpoints, hooks, and
-- what is left when any of them fails.
local lu = require 'luaunit'
local counts = require 'tests.lua.counts'
local vestige = require 'vestige'
local base = require 'vestige.ffi'
local handle = require 'vestige.handle'

local C = base.C
local T = {}

local function f64(values)
  return vestige.tensor(values, { dtype = 'f64', requires_grad = true })
end

local function near(t, values, limit)
  local got = t:tolist()
  lu.assertEquals(#got, #values)
  for i, v in ipairs(values) do
    lu.assertTrue(math.abs(got[i] - v) <= (limit or 1e-12), ('%s, expected %s'):format(got[i], v))
  end
end

-- The message of an error, which must point at this file.
local function message_of(f, ...)
  local ok, message = pcall(f, ...)
  lu.assertFalse(ok)
  lu.assertStrContains(message, 'test_autograd.lua:')
  return message
end

-- ---- Walks ----
function T.test_shared_subexpressions_and_the_same_input_twice()
  local x = f64{ 2, 3 }
  local s = x * x
  local y = (s * s + s + s):sum()
  near(vestige.grad(y, x), { 4 * 8 + 4 * 2, 4 * 27 + 4 * 3 })
  local y2 = (x * x):sum()
  local both = vestige.grad(y2, { x, x })
  near(both[1], { 4, 6 })
  near(both[2], { 4, 6 })
  near(vestige.grad(x:sum(), x), { 1, 1 })
end

function T.test_an_output_as_its_own_input()
  local x = f64{ 2 }
  local y = x * x
  near(vestige.grad(y, y), { 1 })
  near(vestige.grad(x, x), { 1 })
  local g = vestige.grad({ y, y }, x, { grad_outputs = { y:detach(), y:detach() } })
  near(g, { 2 * 4 * 4 })
end

function T.test_grad_outputs()
  local x, v = f64{ 1, 2 }, f64{ 3, 5 }
  local y = x * x
  near(vestige.grad(y, x, { grad_outputs = v, retain_graph = true }), { 6, 20 })
  -- Twice the same output: the gradients add up, and each keeps its history.
  local g = vestige.grad({ y, y }, x, { grad_outputs = { v, v }, create_graph = true })
  near(vestige.grad(g:sum(), v, { retain_graph = true }), { 4, 8 })
  -- A gradient takes the type of what it is the gradient of.
  local one = vestige.ones{ 2 }
  lu.assertEquals(vestige.grad(y, y, { grad_outputs = one, retain_graph = true }):dtype(), 'f64')
  lu.assertEquals(vestige.grad(y, x, { grad_outputs = one }):dtype(), 'f64')
  lu.assertStrContains(message_of(vestige.grad, x * x, x), 'needs grad_outputs')
  lu.assertStrContains(message_of(vestige.grad, x * x, x, { grad_outputs = vestige.ones{ 3 } }),
                       'does not fit')
  -- Without create_graph nothing has history, whatever the gradients given.
  lu.assertFalse(vestige.grad(x * x, x, { grad_outputs = v }):requires_grad())
end

function T.test_retain_graph_and_used_up_graphs()
  local x = f64{ 3 }
  local y = (x * x):sum()
  near(vestige.grad(y, x, { retain_graph = true }), { 6 })
  near(vestige.grad(y, x), { 6 })
  local message = message_of(vestige.grad, y, x)
  lu.assertStrContains(message, 'the graph of mul was used up by an earlier walk')
  lu.assertStrContains(message, 'retain_graph=true')
end

function T.test_a_walk_uses_up_only_what_it_runs()
  local x = f64{ 3 }
  local h = x * x
  local y = h * h
  near(vestige.grad(y, h), { 18 })
  near(vestige.grad(h, x), { 6 }) -- h's own node was not run
end

function T.test_allow_unused()
  local x, z = f64{ 3 }, f64{ 1 }
  local list = vestige.grad((x * x):sum(), { x, z }, { allow_unused = true })
  near(list[1], { 6 })
  lu.assertFalse(list[2])
  lu.assertNil(vestige.grad(x:sum(), z, { allow_unused = true }))
  lu.assertStrContains(message_of(vestige.grad, (x * x):sum(), { x, z }), 'input 2 was not used')
end

function T.test_messages()
  local x, plain = f64{ 3 }, vestige.ones{ 1 }
  lu.assertStrContains(message_of(vestige.grad, plain, x), 'output 1 does not require grad')
  lu.assertStrContains(message_of(vestige.grad, x * x, plain), 'input 1 does not require grad')
  lu.assertStrContains(message_of(vestige.grad, 3, x), 'grad: outputs: expected a tensor')
  lu.assertStrContains(message_of(vestige.grad, x, 3), 'grad: inputs: expected a tensor')
  lu.assertStrContains(message_of(vestige.grad, x, { 3 }), 'grad: input 1: expected a tensor')
  lu.assertStrContains(message_of(vestige.grad, x, x, { creat_graph = true }),
                       "did you mean 'create_graph'?")
  lu.assertStrContains(message_of(vestige.grad, x, x, { 7 }), "unknown option '1'")
  lu.assertStrContains(message_of(vestige.grad, x, x, 7), 'expected a table of options')
  lu.assertStrContains(message_of(x.backward, x, { create_graph = true }), 'first order')
end

function T.test_versions()
  local x = f64{ 2, 3 }
  local h = x * 2
  local y = (h * h):sum()
  vestige.no_grad(function() h:mul_(3) end)
  local message = message_of(vestige.grad, y, x)
  lu.assertStrContains(message, 'of mul was changed in place after it was used')
  lu.assertStrContains(message, 'version 1, expected 0')
end

function T.test_in_place_is_refused_where_it_would_lose_gradients()
  local x = f64{ 2, 3 }
  local h = x * 2
  lu.assertStrContains(message_of(h.add_, h, 1), 'add_: a requires grad')
  lu.assertStrContains(message_of(x.add_, x, 1), 'add_: a requires grad')
  local plain = vestige.zeros({ 2 }, { dtype = 'f64' })
  lu.assertStrContains(message_of(plain.add_, plain, x), 'add_: b requires grad')
  vestige.no_grad(function() plain:add_(x) end)
  near(plain, { 2, 3 })
  near(h, { 4, 6 })
end

function T.test_through_views()
  local x = f64{ { 1, 2 }, { 3, 4 } }
  local y = (x:reshape(4) * vestige.tensor({ 1, 2, 3, 4 }, { dtype = 'f64' })):sum()
  near(vestige.grad(y, x), { 1, 2, 3, 4 })
  -- A gradient is nobody's lost copy: it may be changed in place.
  local g = vestige.grad(x:sum(), x)
  g:mul_(2)
  near(g, { 2, 2, 2, 2 })
end

-- ---- Accumulation ----
function T.test_backward_accumulates_in_place()
  local x = f64{ 2, 3 }
  lu.assertNil(x.grad);
  (x * x):sum():backward()
  local g = x.grad
  near(g, { 4, 6 });
  (x * 10):sum():backward()
  near(x.grad, { 14, 16 })
  near(g, { 14, 16 }) -- the same tensor, as in PyTorch
  g:zero_()
  near(x.grad, { 0, 0 })
  x.grad = nil
  lu.assertNil(x.grad)
  near(g, { 0, 0 })
  x:sum():backward()
  x.grad:mul_(3)
  near(x.grad, { 3, 3 })
end

function T.test_grad_has_its_own_storage()
  local x, z, v = f64{ 2, 3 }, f64{ 0, 0 }, f64{ 1, 1 };
  (x + z):backward(v) -- one gradient passes to both
  x.grad:add_(5)
  near(z.grad, { 1, 1 })
  near(v, { 1, 1 })
  lu.assertFalse(x.grad:requires_grad())
  lu.assertFalse(z.grad:requires_grad())
end

function T.test_grad_can_be_set()
  local x = f64{ 2, 3 }
  x.grad = vestige.tensor({ 1, 1 }, { dtype = 'f64' });
  (x * x):sum():backward()
  near(x.grad, { 5, 7 })
  lu.assertStrContains(message_of(function() x.grad = vestige.ones{ 2 } end),
                       'grad: expected f64 (2), got f32 (2)')
  lu.assertStrContains(message_of(function() x.grad = x end), 'its own gradient')
  lu.assertStrContains(message_of(function() x.grad = 3 end), 'expected a tensor or nil')
  lu.assertStrContains(message_of(function() x.grad = x.grad:to 'ref' end), 'on cpu')
end

function T.test_leaves_that_are_gone_get_nothing()
  local x = f64{ 2 }
  local y
  do
    local z = f64{ 3 }
    y = (x * z):sum()
    z:release()
  end
  y:backward()
  near(x.grad, { 3 })
end

function T.test_backward_with_a_gradient()
  local x = f64{ 2, 3 };
  (x * x):backward(vestige.tensor({ 1, 10 }, { dtype = 'f64' }))
  near(x.grad, { 4, 60 })
  local y = x * x
  y:backward(vestige.ones({ 2 }, { dtype = 'f64' }), { retain_graph = true })
  y:backward(vestige.ones({ 2 }, { dtype = 'f64' }))
  near(x.grad, { 12, 72 })
  lu.assertStrContains(message_of(y.backward, y, 3), 'expected a tensor, got number')
end

function T.test_other_devices()
  local x = f64{ 2, 3 }
  local y = (x:to 'ref' * 5):to 'cpu'
  near(vestige.grad(y:sum(), x), { 5, 5 })
  lu.assertEquals(vestige.grad((x:to 'ref' * 5):sum(), x):device(), 'cpu')
  lu.assertTrue(x:to 'cpu':is_leaf())
end

-- ---- Modes ----
function T.test_modes_nest_and_survive_errors()
  local x = f64{ 2 }
  lu.assertTrue(vestige.is_grad_enabled())
  vestige.no_grad(function()
    lu.assertFalse((x * 2):requires_grad())
    vestige.enable_grad(function()
      lu.assertTrue((x * 2):requires_grad())
      lu.assertFalse(pcall(vestige.no_grad, error, 'stop'))
      lu.assertTrue(vestige.is_grad_enabled())
    end)
    lu.assertFalse(pcall(vestige.enable_grad, error, 'stop'))
    lu.assertFalse(vestige.is_grad_enabled())
  end)
  lu.assertTrue(vestige.is_grad_enabled())
  lu.assertEquals({ vestige.no_grad(function(...) return ... end, 1, nil, 3) }, { 1, nil, 3 })
end

function T.test_detach_and_requires_grad()
  local x = f64{ 2 }
  local y = x * x
  local d = y:detach()
  lu.assertFalse(d:requires_grad())
  lu.assertTrue(d:is_leaf())
  lu.assertStrContains(message_of(y.requires_grad_, y, false), 'only a leaf')
  x:requires_grad_(false)
  lu.assertFalse((x * x):requires_grad())
  local i = vestige.tensor({ 1 }, { dtype = 'i64' })
  lu.assertStrContains(message_of(i.requires_grad_, i), 'expected a float tensor')
end

-- ---- Hooks ----
function T.test_hooks_run_in_order_and_replace()
  local x = f64{ 2 }
  local h = x * x
  local seen = {}
  h:register_hook(function(g) seen[#seen + 1] = g:item() return g * 10 end)
  local remove = h:register_hook(function(g) seen[#seen + 1] = g:item() end)
  h:register_hook(function(g) seen[#seen + 1] = g:item() return g + 1 end)
  x:register_hook(function(g) seen[#seen + 1] = -g:item() end)
  local y = (h * 3 + h * 4):sum()
  near(vestige.grad(y, x, { retain_graph = true }), { 71 * 4 })
  lu.assertEquals(seen, { 7, 70, 70, -284 }) -- each once, on the whole gradient
  remove()
  remove()
  seen = {}
  near(vestige.grad(y, x), { 71 * 4 })
  lu.assertEquals(seen, { 7, 70, -284 })
end

function T.test_a_hook_on_the_input_that_is_asked_for()
  local x = f64{ 2 }
  local h = x * x
  h:register_hook(function(g) return g * 2 end)
  near(vestige.grad(h * 3, h), { 6 })
end

function T.test_hooks_on_leaves_change_what_is_accumulated()
  local x = f64{ 2, 3 }
  x:register_hook(function(g) return g * 0 + 7 end);
  (x * x):sum():backward()
  near(x.grad, { 7, 7 })
end

function T.test_a_hook_may_keep_its_gradient_and_remove_itself()
  local x = f64{ 2 }
  local kept, remove
  vestige.scope(function()
    local h = x * x
    remove = h:register_hook(function(g)
      kept = g
      remove()
    end)
    local y = h * 5
    near(vestige.grad(y, x, { retain_graph = true }), { 20 })
    near(kept, { 5 })
    kept = nil
    near(vestige.grad(y, x), { 20 })
    lu.assertNil(kept)
  end)
  remove() -- its tensor is gone
end

function T.test_hooks_under_create_graph()
  local x = f64{ 2 }
  local h = x * x
  local modes = {}
  local remove = h:register_hook(function(g)
    modes[#modes + 1] = vestige.is_grad_enabled()
    return g * x
  end)
  local g = vestige.grad(h * h, x, { create_graph = true }) -- 2 h x 2x = 4 x^4
  near(g, { 64 })
  remove()
  near(vestige.grad(g, x, { retain_graph = true }), { 16 * 8 })
  h:register_hook(function() modes[#modes + 1] = vestige.is_grad_enabled() end)
  vestige.grad(h * h, x)
  lu.assertEquals(modes, { true, false })
end

function T.test_hooks_fail_with_a_message()
  local x = f64{ 2, 3 }
  local y = x * x
  local remove = y:register_hook(function() return 3 end)
  lu.assertStrContains(message_of(vestige.grad, y:sum(), x), 'gradient hook: result 1: expected a')
  remove()
  y = x * x
  remove = y:register_hook(function() return vestige.ones{ 3 } end)
  lu.assertStrContains(message_of(vestige.grad, y:sum(), x), 'gradient hook: expected f64 (2)')
  remove()
  y = x * x
  y:register_hook(function(g) return g:to 'f32' end)
  lu.assertEquals(vestige.grad(y:sum(), x):dtype(), 'f64')
  lu.assertStrContains(message_of(x.register_hook, x), 'expected a function')
  local plain = vestige.ones{ 1 }
  lu.assertStrContains(message_of(plain.register_hook, plain, print), 'does not require grad')
end

-- ---- Custom functions ----
local function cube()
  return vestige.custom{
    forward = function(ctx, x)
      ctx:save(x)
      return x * x * x
    end,
    backward = function(ctx, g)
      local x = ctx:saved()
      return g * 3 * x * x
    end,
  }
end

function T.test_custom_at_every_order()
  local f, x = cube(), f64{ 2, 3 }
  vestige.gradcheck(f, { x })
  vestige.gradgradcheck(f, { x })
  local g = vestige.grad(f(x):sum(), x, { create_graph = true })
  local h = vestige.grad(g:sum(), x, { create_graph = true })
  near(vestige.grad(h:sum(), x), { 6, 6 })
end

function T.test_custom_saves_its_own_result()
  local exp = vestige.custom{
    forward = function(ctx, x)
      local y = x:exp()
      ctx:save(y)
      return y
    end,
    backward = function(ctx, g) return g * ctx:saved() end,
  }
  local before = counts()
  vestige.scope(function()
    local x = f64{ 0.5, -1 }
    vestige.gradcheck(exp, { x })
    vestige.gradgradcheck(exp, { x })
  end)
  lu.assertEquals(counts(), before) -- no cycle
end

function T.test_custom_with_several_arguments_and_results()
  local asked
  local f = vestige.custom{
    forward = function(ctx, a, k, b)
      ctx:save(a, b)
      ctx.k = k
      return a * b * k, a + b, (a:gt(b))
    end,
    backward = function(ctx, g1, g2, g3)
      asked = { g1 ~= nil, g2 ~= nil, g3 ~= nil, ctx.needs[1], ctx.needs[2] }
      local a, b = ctx:saved()
      local da = g1 and g1 * b * ctx.k
      local db = g1 and g1 * a * ctx.k
      if g2 then
        da = da and da + g2 or g2
        db = db and db + g2 or g2
      end
      return da, db
    end,
  }
  local a, b = f64{ 2, 3 }, f64{ 5, 1 }
  local y, s, larger = f(a, 10, b)
  lu.assertFalse(larger:requires_grad())
  lu.assertEquals(larger:tolist(), { false, true })
  local g = vestige.grad({ y:sum(), s:sum() }, { a, b }, { retain_graph = true })
  near(g[1], { 51, 11 })
  near(g[2], { 21, 31 })
  lu.assertEquals(asked, { true, true, false, true, true })
  near(vestige.grad(s:sum(), a), { 1, 1 })
  lu.assertEquals(asked, { false, true, false, true, false })
  vestige.gradgradcheck(function(u, v) return (f(u, 10, v)) end, { a, b })
end

function T.test_custom_gives_nil_for_what_has_no_gradient()
  local f = vestige.custom{
    forward = function(_, a, b) return a + b end,
    backward = function(_, g) return nil, g end,
  }
  local a, b = f64{ 2 }, f64{ 5 }
  local list = vestige.grad(f(a, b), { a, b }, { allow_unused = true })
  lu.assertFalse(list[1])
  near(list[2], { 1 })
end

function T.test_custom_results_that_are_arguments_or_twice_the_same()
  local f = vestige.custom{
    forward = function(_, x)
      local y = x * 2
      return x, y, y
    end,
    backward = function(_, g1, g2, g3)
      local sum
      for _, pair in ipairs{ { g1, 1 }, { g2, 2 }, { g3, 2 } } do
        if pair[1] then sum = (sum or 0) + pair[1] * pair[2] end
      end
      return sum
    end,
  }
  local x = f64{ 3 }
  local same, y, z = f(x)
  lu.assertTrue(x:is_leaf())
  near(vestige.grad(same * 10 + y * 100 + z * 1000, x), { 10 + 200 + 2000 })
end

function T.test_custom_sums_and_casts_its_gradient()
  local f = vestige.custom{
    forward = function(_, x) return x + vestige.zeros({ 3, 2 }, { dtype = 'f64' }) end,
    backward = function(_, g) return g:to 'f32' end, -- (3,2) for an argument (2)
  }
  local x = f64{ 1, 2 }
  local g = vestige.grad(f(x):sum(), x)
  near(g, { 3, 3 })
  lu.assertEquals(g:dtype(), 'f64')
end

function T.test_custom_without_recording()
  local f = cube()
  lu.assertFalse(f(vestige.ones{ 2 }):requires_grad())
  local x = f64{ 2 }
  vestige.no_grad(function() lu.assertFalse(f(x):requires_grad()) end)
  lu.assertFalse(vestige.grad(f(x), x):requires_grad())
end

local function custom_message(forward, backward)
  local f = vestige.custom{ forward = forward, backward = backward }
  local x = f64{ 2, 3 }
  return message_of(function() vestige.grad(f(x):sum(), x) end)
end

function T.test_custom_fails_with_a_message()
  local function double(_, x) return x * 2 end
  lu.assertStrContains(message_of(vestige.custom, { forward = print }), 'custom: expected')
  lu.assertStrContains(custom_message(function() return 3 end, double), 'forward: result 1: expec')
  lu.assertStrContains(custom_message(double, function() error 'here' end), 'here')
  lu.assertStrContains(custom_message(double, function(_, g) return g, g end),
                       'backward gave 2 gradients for 1 tensors')
  lu.assertStrContains(custom_message(double, function() end),
                       'backward gave 0 gradients for 1 tensors')
  lu.assertStrContains(custom_message(double, function() return 5 end),
                       "custom: backward's gradient 1: expected a tensor, got number")
  lu.assertStrContains(custom_message(double, function() return vestige.ones{ 3 } end),
                       "custom: backward's gradient 1: expected f64 (2), got f32 (3)")
  lu.assertStrContains(custom_message(function(ctx, x)
    ctx:save(x, nil, x)
    return x * 2
  end, double), 'saved tensor 2: expected a tensor, got nil')
  local w = f64{ 1, 1 } * 1
  lu.assertStrContains(custom_message(function() return w end, double), 'history of its own')
end

function T.test_custom_and_versions()
  local f, x = cube(), f64{ 2 }
  local h = x * 1
  local y = f(h)
  vestige.no_grad(function() h:add_(1) end)
  lu.assertStrContains(message_of(vestige.grad, y, x), 'saved tensor 1 of a custom function was ch')
  y = f(x)
  vestige.grad(y, x)
  lu.assertStrContains(message_of(vestige.grad, y, x), 'used up by an earlier walk')
end

function T.test_custom_functions_that_nobody_differentiates_are_forgotten()
  local f, x = cube(), f64{ 2 }
  for _ = 1, 100 do f(x) end
  collectgarbage()
  collectgarbage()
  vestige.memory()
  local before = collectgarbage 'count'
  for _ = 1, 3000 do f(x) end
  vestige.memory()
  collectgarbage()
  collectgarbage()
  vestige.memory()
  collectgarbage()
  lu.assertTrue(collectgarbage 'count' - before < 100)
end

-- ---- Checkpoints ----
-- y = f(inputs) plain and through a checkpoint: the same value, gradients and second gradients.
local function compare(f, make)
  local function run(wrap)
    vestige.manual_seed(5)
    local inputs = make()
    local y = wrap(f, unpack(inputs))
    local wanted = {}
    for _, x in ipairs(inputs) do
      if x:requires_grad() then wanted[#wanted + 1] = x end
    end
    local total = (y * y):sum()
    local g = vestige.grad(total, wanted, { create_graph = true, allow_unused = true })
    local m
    for _, t in ipairs(g) do
      if t and t:requires_grad() then m = (m or 0) + (t * t):sum() end
    end
    local h = m and vestige.grad(m, wanted, { allow_unused = true }) or {}
    local list = { y:tolist(), total:item(), vestige.rand({ 1 }):item() }
    for i = 1, #wanted do
      list[#list + 1] = g[i] and g[i]:tolist() or 'none'
      list[#list + 1] = h[i] and h[i]:tolist() or 'none'
    end
    return list
  end
  -- Sums may be added up in another order.
  lu.assertAlmostEquals(run(vestige.checkpoint), run(function(fn, ...) return fn(...) end), 1e-12)
end

function T.test_checkpoint_equals_the_plain_call_at_both_orders()
  compare(function(x) return x * x * x end, function() return { f64{ 2, 3 } } end)
  compare(function(x, w) return (x * w):tanh() * x end,
          function() return { f64{ 2, 3 }, f64{ 0.5, -1 } } end)
  compare(function(x, w) return x * w * w end, -- an argument without gradient
          function() return { f64{ 2, 3 }, vestige.tensor({ 4, 5 }, { dtype = 'f64' }) } end)
end

function T.test_checkpoint_of_what_was_computed_before()
  local x = f64{ 2, 3 }
  local h = x * x
  -- h is made from x: the checkpoint's walk must stop at h, and leave its node as it was.
  local y = vestige.checkpoint(function(a, b) return a * b end, h, x)
  near(vestige.grad(y:sum(), x), { 12, 27 })
  local z = (x * x):tanh()
  local w = vestige.checkpoint(function(a) return a * a end, z)
  local t = math.tanh(4)
  near(vestige.grad(w:sum(), x), { 2 * t * (1 - t * t) * 4,
                                   2 * math.tanh(9) * (1 - math.tanh(9) ^ 2) * 6 }, 1e-10)
end

function T.test_checkpoint_runs_hooks_once()
  local x = f64{ 2 }
  local h = x * x
  local seen = {}
  h:register_hook(function(g) seen[#seen + 1] = g:item() end)
  local y = vestige.checkpoint(function(a) return a * 3 end, h) + h * 4
  near(vestige.grad(y, x), { 28 })
  lu.assertEquals(seen, { 7 })
end

function T.test_checkpoint_replays_its_draws()
  compare(function(x) return x * vestige.rand({ 2 }, { dtype = 'f64' }) end,
          function() return { f64{ 2, 3 } } end)
  local g = vestige.generator(1, 'noise')
  local function f(x) return x * x * vestige.rand({ 2 }, { dtype = 'f64', generator = g }) end
  local x = f64{ 2, 3 }
  local y = vestige.checkpoint(f, x)
  local stood = g:state()
  vestige.rand({ 7 }, { generator = g })
  local moved = g:state()
  local d = vestige.grad(y:sum(), x)
  lu.assertEquals(g:state(), moved) -- as if nothing had been replayed
  lu.assertNotEquals(stood, moved)
  near(d * x, (y * 2):tolist())
  -- Inside another checkpoint.
  g = vestige.generator(2, 'noise')
  y = vestige.checkpoint(function(v) return vestige.checkpoint(f, v) * 1 end, x)
  near(vestige.grad(y:sum(), x) * x, (y * 2):tolist())
end

function T.test_checkpoints_inside_each_other()
  compare(function(x)
    return vestige.checkpoint(function(v) return vestige.checkpoint(cube(), v) * v end, x * 2) * x
  end, function() return { f64{ 2, 3 } } end)
end

function T.test_checkpoint_with_several_results()
  local x, w = f64{ 2 }, f64{ 3 }
  local function f(a)
    local y = a * w -- w is an upvalue
    return y, nil, 'text', y * y, a, w, y
  end
  local y, none, text, z, same, also, again = vestige.checkpoint(f, x)
  lu.assertNil(none)
  lu.assertEquals(text, 'text')
  lu.assertTrue(x:is_leaf() and w:is_leaf())
  local g = vestige.grad(y + z * 10 + same * 100 + also * 1000 + again * 10000, { x, w })
  near(g[1], { 3 + 10 * 2 * 6 * 3 + 100 + 30000 })
  near(g[2], { 2 + 10 * 2 * 6 * 2 + 1000 + 20000 })
  y = vestige.checkpoint(f, x)
  near(vestige.grad(y, x), { 3 })
  lu.assertEquals({ vestige.checkpoint(function() return 1, nil end) }, { 1, nil })
  -- An argument given back keeps the history that others see.
  local h = x * x
  local before = h * 5
  local back = vestige.checkpoint(function(v) return v end, h)
  near(vestige.grad(before + back, h), { 6 })
end

function T.test_checkpoint_keeps_only_its_arguments()
  local x = vestige.ones({ 1000 }, { requires_grad = true })
  local function deep(v)
    for _ = 1, 20 do v = v * 1.01 * v end
    return v
  end
  vestige.scope(function()
    vestige.memory()
    local before = vestige.memory().live
    local y = vestige.checkpoint(deep, x)
    lu.assertTrue(vestige.memory().live - before < 2 * 4096 + 1000)
    local live = vestige.memory().live
    vestige.grad(y:sum(), x)
    lu.assertTrue(vestige.memory().live - live < 3 * 4096 + 1000)
  end)
end

function T.test_checkpoint_used_twice()
  local x = f64{ 2 }
  local y = vestige.checkpoint(function(v) return v * v end, x)
  near(vestige.grad(y, x, { retain_graph = true }), { 4 })
  near(vestige.grad(y, x), { 4 })
  lu.assertStrContains(message_of(vestige.grad, y, x), 'used up by an earlier walk')
end

-- ---- Failures: everything is back where it was ----
local function everything(x)
  local f = cube()
  local h = x * 2
  h:register_hook(function(g) return g * 1.5 end)
  local y = f(h) + vestige.checkpoint(function(a, b)
    return f(a) * b:tanh() * vestige.rand({ 2 }, { dtype = 'f64' })
  end, h, x)
  local g = vestige.grad(y:sum(), x, { create_graph = true })
  return (vestige.grad(g:sum(), x))
end

-- f runs in a scope and fails; bytes, tensors, nodes and roots are as before, and so are the modes.
local function leaves_nothing(f)
  local before = counts()
  local ok, message = pcall(vestige.scope, f)
  lu.assertEquals(counts(), before, message)
  lu.assertTrue(vestige.is_grad_enabled())
  lu.assertEquals(C.vestige_scope_current(), 0)
  return ok, message
end

function T.test_out_of_memory_at_every_allocation()
  local x = f64{ 0.5, -1 }
  vestige.scope(function() everything(x) end) -- tables that stay are made now
  vestige.manual_seed(1)
  local n = 0
  handle.no_retry = true
  repeat
    n = n + 1
    local ok, message = leaves_nothing(function()
      C.vestige_fail_allocation(n)
      everything(x)
    end)
    C.vestige_fail_allocation(0)
    if not ok then
      lu.assertStrContains(message, 'out of memory')
      lu.assertStrContains(message, 'test_autograd.lua:')
    end
  until ok or n > 5000
  handle.no_retry = nil
  lu.assertTrue(n > 100 and n < 5000)
  lu.assertNil(x.grad)
end

function T.test_out_of_memory_outside_scopes()
  local x = f64{ 0.5, -1 }
  everything(x)
  local before = counts()
  handle.no_retry = true
  for n = 1, 200, 3 do
    C.vestige_fail_allocation(n)
    pcall(everything, x)
    C.vestige_fail_allocation(0)
  end
  handle.no_retry = nil
  lu.assertEquals(counts(), before)
end

function T.test_a_failed_allocation_is_made_again_after_a_collection()
  local x = f64{ 2 }
  for n = 1, 8 do
    local y = x * x
    C.vestige_fail_allocation(n)
    local g = pcall(vestige.grad, y, x)
    C.vestige_fail_allocation(0)
    if n <= 4 then lu.assertTrue(g, n) end -- while the walk is planned
  end
  C.vestige_fail_allocation(1)
  near(x * 3, { 6 })
end

function T.test_errors_inside_rules_leave_nothing()
  local x = f64{ 0.5, -1 }
  local count = 0
  local function bad_after(n)
    return vestige.custom{
      forward = function(ctx, v)
        ctx:save(v)
        return v * 2
      end,
      backward = function(ctx, g)
        count = count + 1
        if count == n then error('stopped', 0) end
        local _ = ctx:saved() * 5
        return g * 2
      end,
    }
  end
  for n = 1, 3 do
    count = 0
    local f = bad_after(n)
    local ok, message = leaves_nothing(function()
      vestige.grad(f(f(f(x * x))):sum(), x, { create_graph = n % 2 == 0 })
    end)
    lu.assertFalse(ok)
    lu.assertEquals(message, 'stopped')
  end
  leaves_nothing(function()
    local y = vestige.checkpoint(function(v)
      count = count + 1
      if count > 4 then error('again', 0) end
      return v * vestige.rand({ 2 }, { dtype = 'f64' })
    end, x)
    count = 10
    local before = vestige.rand({ 1 })
    lu.assertFalse(pcall(vestige.grad, y:sum(), x))
    lu.assertNotEquals(vestige.rand({ 1 }):item(), before:item()) -- the stream went on
  end)
end

function T.test_an_interrupted_walk_leaves_nothing()
  local x = f64{ 0.5, -1 }
  local ok, message = leaves_nothing(function()
    local h = x * 2
    h:register_hook(function() C.vestige_interrupt() end)
    vestige.grad((h * h):sum(), x)
  end)
  lu.assertFalse(ok)
  lu.assertStrContains(message, 'interrupted')
  lu.assertFalse(pcall(function() return x * 2 end))
  C.vestige_clear_interrupt()
  near(x * 2, { 1, -2 })
end

-- ---- Depth ----
local function chain(x, n)
  local y = x
  for _ = 1, n do y = y + 1 end
  return y
end

function T.test_a_chain_of_a_million_nodes()
  local x = f64{ 2 }
  local before = counts()
  vestige.scope(function()
    local y = chain(x, 1e6)
    lu.assertTrue(vestige.memory().nodes >= 1e6)
    near(vestige.grad(y, x), { 1 })
  end)
  lu.assertEquals(counts(), before)
  do
    local y = chain(x, 1e6)
    y:backward()
    near(x.grad, { 1 })
    y:release()
    x.grad = nil
  end
  lu.assertEquals(counts(), before)
end

function T.test_a_chain_of_custom_functions()
  local x, f = f64{ 1 }, vestige.custom{ forward = function(_, v) return v + 1 end,
                                         backward = function(_, g) return g end }
  local before = counts()
  vestige.scope(function()
    local y = x
    for _ = 1, 20000 do y = f(y) end
    near(vestige.grad(y, x), { 1 })
  end)
  lu.assertEquals(counts(), before)
end

os.exit(lu.LuaUnit.new():runSuiteByInstances{ { 'TestAutograd', T } })
