-- Normalisation, losses and optimiser steps beyond the registry loop: derivatives of third order,
-- confident samples in f32, messages, and steps that fail before they change anything.
local lu = require 'luaunit'
local vestige = require 'vestige'

local T = {}

local function in_scope(f)
  return function() vestige.scope(f) end
end

local function draw(shape, name)
  local t = vestige.rand(shape, { dtype = 'f64', generator = vestige.generator(5, name) })
  return (t * 2 - 1):detach():requires_grad_()
end

local function fails(text, f, ...)
  local ok, message = pcall(f, ...)
  lu.assertFalse(ok)
  lu.assertStrContains(message, text)
end

T.test_batch_norm_third_order = in_scope(function()
  local o = { dtype = 'f64' }
  for _, training in ipairs { true, false } do
    local x, w, b = draw({ 5, 2 }, 'x'), draw({ 2 }, 'w'), draw({ 2 }, 'b')
    local mean, var = vestige.zeros({ 2 }, o), vestige.ones({ 2 }, o)
    local function first_order(...)
      local ins = { ... }
      local y = vestige.batch_norm(ins[1], ins[2], ins[3], mean, var, { training = training })
      local g = vestige.grad((y * y * y):sum(), ins, { create_graph = true })
      return (g[1] * g[1]):sum() + (g[2] * g[2] * g[2]):sum() + (g[3] * g[3]):sum()
    end
    local function f(...) return vestige.enable_grad(first_order, ...) end
    vestige.gradcheck(f, { x, w, b })
    vestige.gradgradcheck(f, { x, w, b })
  end
end)

T.test_batch_norm_running = in_scope(function()
  local x = vestige.tensor { { 1, 10 }, { 3, 30 } }
  local mean, var = vestige.zeros { 2 }, vestige.ones { 2 }
  local results = { vestige.batch_norm(x, nil, nil, mean, var, true, 0.5) }
  lu.assertEquals(#results, 1)
  lu.assertEquals(mean:tolist(), { 1, 10 })
  lu.assertEquals(var:tolist(), { 1.5, 100.5 })
  lu.assertEquals(mean:version(), 1)
  vestige.batch_norm(x, nil, nil, mean, var)
  lu.assertEquals(mean:version(), 2) -- counted, though evaluation changes nothing
  fails('more than one value', vestige.batch_norm, vestige.ones { 1, 2 }, { training = true })
  fails('running_mean', vestige.batch_norm, x)
  fails('weight: expected (2), one for each channel', vestige.batch_norm, x, vestige.ones { 3 })
  fails('channels last', vestige.batch_norm, vestige.ones { 2 })
end)

T.test_confident_sample = in_scope(function()
  local x = vestige.tensor({ { 27.63102, 0 }, { 0, 27.63102 } }, { requires_grad = true })
  local target = vestige.tensor({ 0, 1 }, { dtype = 'i64' })
  local p = 1.0000015e-12
  local function check(loss)
    for _, create_graph in ipairs { false, true } do
      local g = vestige.grad(loss, x, { create_graph = create_graph, retain_graph = true })
      for i, expected in ipairs { -p, p, p, -p } do
        lu.assertAlmostEquals(g:tolist()[i] / expected, 1, 1e-6)
      end
    end
  end
  local loss = vestige.cross_entropy(x, target, { reduction = 'none' })
  for i = 1, 2 do lu.assertAlmostEquals(loss:tolist()[i] / p, 1, 1e-6) end
  check(loss:sum())
  check(vestige.nll_loss(vestige.log_softmax(x, -1), target, { reduction = 'sum' }))
end)

T.test_labels = in_scope(function()
  local x = vestige.randn { 2, 3, 5 }
  local function labels(t) return vestige.tensor(t, { dtype = 'i64' }) end
  fails('target[2,2] is 7: expected a class from 0 to 4', vestige.cross_entropy, x,
        labels { { 0, 1, 2 }, { 1, 7, 3 } })
  fails('target[1,3] is -1', vestige.nll_loss, x, labels { { 0, 1, -1 }, { 1, 2, 3 } })
  fails('classes are x\'s last dimension', vestige.cross_entropy, x, labels { 0, 1 })
  fails('label_smoothing', vestige.cross_entropy, x, labels { { 0, 1, 2 }, { 1, 2, 3 } },
        { label_smoothing = 2 })
  local none = vestige.cross_entropy(x, labels { { 4, 4, 4 }, { 4, 4, 4 } }, { ignore_index = 4 })
  lu.assertNotEquals(none:item(), none:item()) -- a mean over nothing is NaN
  fails('expected the shape of x', vestige.mse_loss, vestige.ones { 2, 1 }, vestige.ones { 2 })
end)

T.test_steps_are_whole = in_scope(function()
  local function list(...)
    local t = {}
    for i, n in ipairs { ... } do t[i] = vestige.ones { n } end
    return t
  end
  local ps, gs, ms, vs = list(3, 4), list(3, 4), list(3, 4), list(3, 4)
  fails('gs[2] is f32 (5), but ps[2] is f32 (4)', vestige.sgd_step_, ps, list(3, 5), { lr = 1 })
  fails('gs: expected 2 tensors', vestige.sgd_step_, ps, list(3), { lr = 1 })
  fails('ms: expected 2 tensors', vestige.sgd_step_, ps, gs, { lr = 1, momentum = 0.9 })
  fails('option lr is missing', vestige.sgd_step_, ps, gs, { momentum = 0.9 })
  fails('beta2', vestige.adamw_step_, ps, gs, ms, vs, { step = 1, beta2 = 1 })
  fails('vs[1] is f64 (3)', vestige.adamw_step_, ps, gs, ms, { vs[1]:to('f64'), vs[2] },
        { step = 1 })
  local leaf = vestige.ones({ 3 }, { requires_grad = true })
  fails('requires grad', vestige.sgd_step_, { leaf, ps[2] }, gs, { lr = 1 })
  lu.assertEquals(ps[1]:tolist(), { 1, 1, 1 })
  lu.assertEquals(ps[1]:version(), 0)
  local before = vestige.memory().allocations
  vestige.sgd_step_(ps, gs, ms, { lr = 1, momentum = 0.9 })
  vestige.adamw_step_(ps, gs, ms, vs, { step = 1 })
  lu.assertEquals(vestige.memory().allocations, before)
  lu.assertEquals(ps[1]:version(), 2)
end)

T.test_clip_grad_norm = in_scope(function()
  local x = vestige.tensor({ 3, 4 }, { requires_grad = true })
  local y = (x * x):sum()
  y:backward() -- (6, 8)
  lu.assertAlmostEquals(vestige.clip_grad_norm_({ x, vestige.ones { 2 } }, 5):item(), 10, 1e-5)
  lu.assertAlmostEquals(x.grad:tolist()[1], 3, 1e-5)
  lu.assertAlmostEquals(vestige.clip_grad_norm_(x, 7, math.huge):item(), 4, 1e-5)
  lu.assertAlmostEquals(x.grad:tolist()[2], 4, 1e-5)
end)

os.exit(lu.LuaUnit.new():runSuiteByInstances{ { 'TrainingOps', T } })
