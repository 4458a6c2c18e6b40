-- Optimisers, schedules and clipping against PyTorch (tests/golden/optim.lua, make_optim.py).
local lu = require 'luaunit'
local C = require('vestige.ffi').C
local handle = require 'vestige.handle'
local models = require 'vestige.models'
local optim = require 'vestige.optim'
local vestige = require 'vestige'
local golden = require 'tests.golden.optim'

local T = {}
local STEPS = 7

local function start()
  local o = { dtype = 'f64', requires_grad = true }
  return { vestige.tensor({ { 0.5, -1 }, { 0.25, 2 }, { -0.75, 0 } }, o),
           vestige.tensor({ 1.5, -0.5, 0.125, -2 }, o) }
end

local function gradient(p, t)
  local list = {}
  for i = 0, p:numel() - 1 do list[i + 1] = ((7 * i + 3 * t) % 11 - 5) / 7 end
  return p:detach() * 0.7 + vestige.tensor(list, { dtype = 'f64' }):reshape(p:shape())
end

local function flat(params)
  local list = {}
  for _, p in ipairs(params) do
    for _, v in ipairs(p:tolist()) do list[#list + 1] = v end
  end
  return list
end

local function assert_close(got, want, what)
  lu.assertEquals(#got, #want)
  for i = 1, #want do
    lu.assertTrue(math.abs(got[i] - want[i]) <= 1e-13 * math.max(1, math.abs(want[i])),
                  ('%s: %d: %.17g, expected %.17g'):format(what, i, got[i], want[i]))
  end
end

local function message_of(...)
  local ok, err = pcall(...)
  lu.assertFalse(ok)
  return tostring(err)
end

local function build(case, params)
  if case.how ~= 'groups' then return optim[case.name](params, case.options) end
  return optim.SGD({ { params = { params[1] } },
                     { params = { params[2] }, prefix = 'b.', lr = 0.02, momentum = 0.5 } },
                   case.options)
end

-- Rosenbrock's function of all elements one after the other.
local function valley(params)
  local x = vestige.cat{ params[1]:flatten(), params[2]:flatten() }
  local a, b = x:narrow(1, 1, 9), x:narrow(1, 2, 9)
  return (10 * (b - a:square()):square() + (1 - a):square()):sum()
end

function T.test_lbfgs()
  for i, case in ipairs(golden.lbfgs) do
    local params = start()
    local opt = optim.LBFGS(params, case.options)
    for _ = 1, case.calls do opt:step(function() return valley(params) end) end
    lu.assertEquals(opt.iterations, case.iterations, 'lbfgs ' .. i)
    local got = flat(params)
    for k, want in ipairs(case.want) do -- a line search feeds rounding back
      lu.assertAlmostEquals(got[k], want, 1e-9, ('lbfgs %d: %d'):format(i, k))
    end
  end
end

function T.test_lbfgs_ends()
  local w = vestige.tensor({ 3, -2 }, { dtype = 'f64', requires_grad = true })
  local opt = optim.LBFGS({ w }, { max_iter = 50, tolerance_change = 1e-14 })
  local function loss() return ((w - 1):square() * vestige.tensor{ 1, 30 }):sum() end
  local value, why = opt:step(loss)
  lu.assertTrue(value < 1e-14)
  lu.assertStrContains('gradient step loss slope', why)
  value, why = opt:step(loss)
  lu.assertEquals({ value < 1e-14, why }, { true, 'gradient' })
  lu.assertStrContains(message_of(optim.LBFGS, { w }, { line_search = 'wolf' }),
                       "expected one of strong_wolfe, none, got 'wolf'")
  lu.assertStrContains(message_of(optim.LBFGS, { w }, { history = 3 }), 'history')
  lu.assertStrContains(message_of(opt.step, opt), 'expected a function')
end

function T.test_lbfgs_error_leaves_the_last_place()
  local params, calls, seen = start(), 0, nil
  local opt = optim.LBFGS(params, { max_iter = 1 })
  opt:step(function() return valley(params) end)
  local before = flat(params)
  lu.assertStrContains(message_of(opt.step, opt, function()
    calls = calls + 1
    seen = flat(params)
    if calls == 2 then error 'stop' end
    return valley(params)
  end), 'stop')
  lu.assertNotEquals(seen, before)
  lu.assertEquals(flat(params), before)
end

-- Long solves hold what one iteration and the history need.
function T.test_lbfgs_memory()
  local params = start()
  local opt = optim.LBFGS(params, { max_iter = 2, history_size = 2, tolerance_change = 0,
                                    tolerance_grad = 0 })
  local function run() opt:step(function() return valley(params) end) end
  for _ = 1, 3 do run() end
  collectgarbage()
  local before = vestige.memory().live
  for _ = 1, 5 do run() end
  collectgarbage()
  lu.assertTrue(vestige.memory().live <= before)
end

function T.test_optimisers()
  for i, case in ipairs(golden.optimisers) do
    for _, by_grad in ipairs { true, false } do
      local params = start()
      local opt = build(case, params)
      for t = 0, STEPS - 1 do
        local grads = {}
        for k, p in ipairs(params) do
          grads[k] = not (case.how == 'late' and k == 2 and t < 3) and gradient(p, t)
        end
        if by_grad then
          for k, p in ipairs(params) do p.grad = grads[k] or nil end
          opt:step()
        else
          opt:step(grads)
        end
      end
      assert_close(flat(params), case.want, ('%s %d %s'):format(case.name, i, case.how))
    end
  end
end

function T.test_schedules()
  for i, case in ipairs(golden.schedules) do
    local f = optim.schedule[case.name](0.5, case.options)
    local lr, momentum = {}, {}
    for step = 0, #case.lr - 1 do lr[step + 1], momentum[step + 1] = f(step) end
    assert_close(lr, case.lr, ('%s %d'):format(case.name, i))
    if case.momentum then assert_close(momentum, case.momentum, case.name .. ' momentum') end
  end
end

function T.test_schedules_from_tables()
  local f = optim.schedule.make({ name = 'step', step_size = 2, unit = 'epoch' }, 1, 60, 10)
  lu.assertEquals({ f(19), f(20), f(39) }, { 1, 0.1, 0.1 })
  f = optim.schedule.make({ name = 'cosine', warmup = 4 }, 1, 14)
  lu.assertEquals({ f(0), f(2), f(4) }, { 0, 0.5, 1 })
  lu.assertAlmostEquals(f(9), 0.5, 1e-12)
  lu.assertEquals(optim.schedule.make(nil, 0.3, 10)(7), 0.3)
  lu.assertStrContains(message_of(optim.schedule.make, { name = 'cosin' }, 1, 2),
                       "did you mean 'cosine'")
  lu.assertStrContains(message_of(optim.schedule.step, 1), 'step_size: expected a number above 0')
end

function T.test_clipping()
  for _, case in ipairs(golden.clips) do
    for _, by_grad in ipairs { true, false } do
      local params, grads = start(), {}
      for k, p in ipairs(params) do
        grads[k] = gradient(p, 0)
        if by_grad then p.grad = grads[k] end
      end
      local total = optim.clip_grad_norm_(by_grad and params or grads, case.most, case.norm)
      assert_close({ total }, { case.total }, 'total')
      if by_grad then grads = { params[1].grad, params[2].grad } end
      assert_close(flat(grads), case.want, ('norm %g to %g'):format(case.norm, case.most))
    end
  end
  local g = vestige.tensor{ -3, 0.5, 2 }
  optim.clip_grad_value_({ g, false }, 1)
  lu.assertEquals(g:tolist(), { -1, 0.5, 1 })
  lu.assertEquals(optim.clip_grad_norm_({ false }, 1), 0)
end

function T.test_a_step_is_one_call_and_allocates_nothing_large()
  local model = models.mlp{ inputs = 6, hidden = { 5 }, classes = 3 }
  for _, name in ipairs { 'SGD', 'AdamW' } do
    local opt = optim[name](model, { lr = 0.1 })
    local grads = {}
    for i, p in ipairs(opt:parameters()) do grads[i] = vestige.ones(p:shape()) end
    collectgarbage() -- so that nothing older is given back during the step
    collectgarbage()
    local before = vestige.memory()
    C.vestige_profile(1)
    opt:step(grads)
    C.vestige_profile(0)
    local row = require('ffi').new 'vestige_profile_row'
    lu.assertEquals(C.vestige_profile_get(0, row), 0)
    lu.assertEquals(tonumber(row.count), 1)
    lu.assertTrue(C.vestige_profile_get(1, row) < 0)
    local after = vestige.memory()
    lu.assertEquals({ after.live, after.tensors }, { before.live, before.tensors })
  end
end

function T.test_nothing_moves_when_a_step_cannot_be_made()
  local params = start()
  local opt = optim.SGD(params, { lr = 0.1, momentum = 0.9 })
  local before = flat(params)
  local g = gradient(params[1], 0)
  lu.assertStrContains(message_of(opt.step, opt, { g, g }), 'gs[2] is f64 (3,2)')
  lu.assertEquals(flat(params), before)
  lu.assertStrContains(message_of(opt.step, opt, { g }), 'expected 2 gradients, got 1')
  -- An optimiser step needs no memory that could be missing.
  handle.no_retry = true
  local grads = { gradient(params[1], 0), gradient(params[2], 0) }
  C.vestige_fail_allocation(1)
  local ok = pcall(opt.step, opt, grads)
  C.vestige_fail_allocation(0)
  handle.no_retry = nil
  lu.assertTrue(ok or table.concat(flat(params)) == table.concat(before))
end

function T.test_masks()
  for _, by_name in ipairs { true, false } do
    for _, name in ipairs { 'SGD', 'AdamW' } do
      local params = start()
      local before = flat(params)
      local mask = vestige.tensor({ 1, 0, 0, 1 }, { dtype = 'f64' })
      local o = { lr = 0.1, weight_decay = 0.5,
                  masks = by_name and { ['1'] = mask } or { [params[2]] = mask } }
      if name == 'SGD' then o.momentum = 0.9 end
      local opt = optim[name](params, o)
      for t = 0, 2 do opt:step{ gradient(params[1], t), gradient(params[2], t) } end
      local after = flat(params)
      for i = 1, 10 do
        local stays = i == 8 or i == 9
        lu.assertEquals(after[i] == before[i], stays, ('%s, element %d'):format(name, i))
      end
    end
  end
  lu.assertStrContains(message_of(optim.SGD, start(), { masks = { ['0'] = vestige.ones{ 2 } } }),
                       "'0': expected shape (3,2), got (2)")
end

function T.test_state_goes_and_comes_back()
  for _, name in ipairs { 'SGD', 'Adam' } do
    local o = name == 'SGD' and { lr = 0.1, momentum = 0.9, dampening = 0.2 } or { lr = 0.1 }
    local a = start()
    local opt = optim[name](a, o)
    for t = 0, 2 do opt:step{ gradient(a[1], t), t > 0 and gradient(a[2], t) } end
    local path = os.tmpname()
    vestige.save(path, opt:state_dict())
    local b = start()
    for k = 1, 2 do vestige.no_grad(b[k].copy_, b[k], a[k]) end
    local other = optim[name](b, o):load_state_dict((vestige.load(path)))
    os.remove(path)
    for t = 3, 5 do
      opt:step{ gradient(a[1], t), gradient(a[2], t) }
      other:step{ gradient(b[1], t), gradient(b[2], t) }
    end
    lu.assertEquals(flat(a), flat(b))
    local state = opt:state_dict()
    lu.assertEquals({ state['0.step']:item(), state['1.step']:item() }, { 6, 5 })
    state['0.stpe'] = state['0.step']
    lu.assertStrContains(message_of(other.load_state_dict, other, state), "did you mean '0.step'")
    state['0.stpe'], state['1.step'] = nil, nil
    lu.assertStrContains(message_of(other.load_state_dict, other, state), "'1.step' is missing")
  end
end

function T.test_state_lives_outside_scopes()
  local model = models.mlp{ inputs = 3, hidden = { 4 }, classes = 2 }
  local opt
  vestige.scope(function() opt = optim.Adam(model) end)
  for _ = 1, 2 do
    vestige.scope(function()
      local loss = model(vestige.ones{ 2, 3 }):square():sum()
      opt:step(vestige.grad(loss, opt:parameters()))
    end)
  end
  lu.assertTrue(opt:state_dict()['fc.bias.exp_avg']:abs():sum():item() > 0)
end

function T.test_which_parameters()
  local model = models.mlp{ inputs = 3, hidden = { 4 }, classes = 2 }
  model:requires_grad_(false, '^hidden')
  local opt = optim.SGD(model:named_parameters(), { lr = 1, momentum = 0.5 })
  lu.assertEquals(#opt:parameters(), 2)
  lu.assertNotNil(opt:state_dict()['fc.weight.momentum_buffer'])
  local w = vestige.ones({ 2 }, { requires_grad = true })
  lu.assertEquals(#optim.SGD({ w, w }):parameters(), 1)
  lu.assertStrContains(message_of(optim.SGD, { vestige.ones{ 2 } }), 'no parameter requires')
  lu.assertStrContains(message_of(optim.SGD, { { params = { w } },
    { params = { vestige.ones({ 1 }, { requires_grad = true }) } } }), "are called '0'")
  lu.assertStrContains(message_of(optim.SGD, 3), 'expected a module')
  lu.assertStrContains(message_of(optim.SGD, { w }, { momentun = 1 }), "did you mean 'momentum'")
  lu.assertStrContains(message_of(optim.SGD, { w }, { nesterov = true }), 'needs a momentum')
  lu.assertStrContains(message_of(optim.Adam, { w }, { betas = { 0.9, 1 } }), 'betas')
  lu.assertStrContains(message_of(optim.make, { w }, { name = 'adma' }), "did you mean 'adam'")
end

function T.test_rates()
  local opt = optim.SGD{ { params = { vestige.ones({ 1 }, { requires_grad = true }) }, lr = 0.4 },
                         { params = { vestige.ones({ 1 }, { requires_grad = true }) }, prefix = 'b',
                           lr = 0.1 } }
  opt:set_lr(0.2)
  lu.assertEquals(opt.groups[1].options.lr, 0.2)
  lu.assertAlmostEquals(opt.groups[2].options.lr, 0.05, 1e-15)
  opt:set('weight_decay', 0.5)
  lu.assertEquals(opt.groups[2].options.weight_decay, 0.5)
  lu.assertStrContains(message_of(opt.set, opt, 'momentum', 0.5), 'build it with a momentum')
  lu.assertStrContains(message_of(opt.set, opt, 'momentun', 1), "did you mean 'momentum'")
end

os.exit(lu.LuaUnit.new():runSuiteByInstances{ { 'optim', T } })
