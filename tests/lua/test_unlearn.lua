-- Unlearning methods: three steps against PyTorch transcriptions (tests/golden/make_unlearn.py),
-- which weights they move, what a budget of zero does.
local lu = require 'luaunit'
local context = require 'vestige.context'
local data = require 'vestige.data'
local init = require 'vestige.nn.initialise'
local models = require 'vestige.models'
local plugins = require 'vestige.plugins'
local vestige = require 'vestige'
local start = require 'tests.golden.start'

local T = {}

local golden = vestige.load 'tests/golden/unlearn.safetensors'

local function model(seed)
  local m = models.resnet18{ width = 1 }:to 'f64'
  for name, p in m:named_parameters() do
    vestige.no_grad(p.copy_, p, start.initial(name, p:shape(), seed, 'f64'))
  end
  return m
end

local function set(k, first_id)
  local x, y = start.batch(k, 8, 1, 'f64')
  return data.new({ x = x, y = y }, { first_id = first_id })
end

local recipe = { epochs = 3, batch_size = 16, augment = {},
                 optim = { name = 'sgd', lr = 0.05, momentum = 0.9, weight_decay = 5e-4 } }

-- What a method makes of model 1 (8 retained samples, 8 forgotten) within a budget of steps.
local function unlearn(name, o, budget, checkpoint)
  local retain, forget = set(0, 0), set(1, 8)
  local original = model(1)
  local ctx = context.new{ seed = 1, recipe = recipe, quiet = true, budget = budget,
                           original = original, full = retain:append(forget),
                           checkpoint = checkpoint, every = 0,
                           make = function() return model(2) end }
  local method = plugins.find('unlearn', name)
  local result = ctx:call(method.unlearn, original:clone(), retain, forget,
                          plugins.options('method', method, o))
  return result, original, ctx
end

local function moved(a, b)
  local list, other = {}, b:state_dict()
  for name, t in pairs(a:state_dict()) do
    if not vestige.equal(t, other[name]) then list[name] = true end
  end
  return list
end

-- ---- Three steps are PyTorch's ----

local heads = { 'layer4.1.conv1', 'layer4.1.conv2', 'fc' }

-- f() with what is random in it as the transcriptions have it: noise and new weights by
-- start.initial.
local function without_chance(f)
  local randn, kaiming = vestige.randn, init.kaiming_normal_
  local names, draws, anew = {}, 0, 0
  for name in model(2):named_parameters() do names[#names + 1] = name end
  function vestige.randn(shape) -- for all parameters in order, step after step
    draws = draws + 1
    local i, step = (draws - 1) % #names + 1, math.floor((draws - 1) / #names)
    return start.initial(names[i], shape, 10 + step, 'f64')
  end
  function init.kaiming_normal_(w)
    anew = anew + 1
    return w:copy_(start.initial(heads[anew] .. '.weight', w:shape(), 2, 'f64'))
  end
  local ok, err = pcall(f)
  vestige.randn, init.kaiming_normal_ = randn, kaiming
  if not ok then error(err, 0) end
end

for name, spec in pairs {
  gd = { 'gd' }, ga = { 'ga' }, neggrad_plus = { 'neggrad_plus' }, cfk = { 'cfk' },
  cfk_split = { 'cfk', { counts = 'split' } }, euk_stage = { 'euk', { counts = 'stage' } },
  cfk_stage = { 'cfk', { counts = 'stage' } }, euk = { 'euk' },
  euk_split = { 'euk', { counts = 'split' } }, ngd = { 'ngd', { sigma2 = 0.04 } },
  ngd_langevin = { 'ngd', { sigma2 = 0.04, form = 'langevin' } }, retrain = { 'retrain' },
  retrain_budget = { 'retrain_budget' }, scrub = { 'scrub' },
  scrub_joint = { 'scrub', { form = 'joint' } },
  scrub_authors = { 'scrub', { variant = 'authors' } },
  ssd = { 'ssd', { alpha = 1, batch_size = 4 }, 6 },
} do
  T['test_' .. name .. '_is_pytorchs'] = function()
    local m
    without_chance(function() m = unlearn(spec[1], spec[2], spec[3] or 3) end)
    local before, state, keys, moves, at = model(1):state_dict(), m:state_dict(), {}, 0, 1
    for key in pairs(state) do keys[#keys + 1] = key end
    table.sort(keys)
    -- Within the budget, which is the recipe's here, retraining is retraining.
    local all = golden[name == 'retrain_budget' and 'retrain' or name]
    for _, key in ipairs(keys) do
      local t = state[key]
      local s = t:shape()
      if #s == 4 then s = { s[1], s[4], s[2], s[3] } end
      local want = start.from_file(all:narrow(1, at, t:numel()):reshape(s))
      at = at + t:numel()
      local off = (t:to 'f64' - want):norm():item() / math.max(want:norm():item(), 1e-30)
      lu.assertTrue(off < 1e-9, ('%s %s: off by %.3g'):format(name, key, off))
      if not vestige.equal(t, before[key]) then moves = moves + 1 end
    end
    lu.assertEquals({ #keys, at - 1 }, { 122, all:numel() })
    lu.assertTrue(moves > 0)
  end
end

-- ---- What moves ----

local last3 = { 'layer4.1.conv1', 'layer4.1.bn1', 'layer4.1.conv2', 'layer4.1.bn2', 'fc' }

local function below(name, prefixes)
  for _, prefix in ipairs(prefixes) do
    if name:sub(1, #prefix + 1) == prefix .. '.' then return true end
  end
  return false
end

function T.test_the_last_layers_move_and_no_others()
  for _, name in ipairs { 'euk', 'cfk' } do
    for counts, where in pairs { modules = last3, split = last3, stage = { 'layer4' } } do
      local m, original = unlearn(name, { counts = counts }, 2)
      local list = moved(m, original)
      for key in pairs(m:state_dict()) do
        local statistics = key:find 'running' or key:find 'tracked'
        local expected = below(key, where) or (statistics and counts ~= 'split') or false
        lu.assertEquals(list[key] or false, expected, ('%s %s %s'):format(name, counts, key))
      end
      for _, p in m:named_parameters() do lu.assertTrue(p:requires_grad()) end
    end
  end
end

function T.test_euk_starts_from_new_weights()
  local m = unlearn('euk', { lr = 0 }, 1)
  local w = m:state_dict()['layer4.1.conv1.weight']
  lu.assertEquals(m.fc.bias:tolist(), vestige.zeros(10):tolist())
  lu.assertFalse(vestige.equal(w, model(1):state_dict()['layer4.1.conv1.weight']))
  -- N(0, 2 / fan_in) of 576 weights with a fan of 72.
  local std = math.sqrt(2 / 72)
  lu.assertAlmostEquals(w:std():item(), std, 4 * std / math.sqrt(2 * 576))
  lu.assertTrue(vestige.equal(w, (unlearn('euk', { lr = 0 }, 1)):state_dict()
                                 ['layer4.1.conv1.weight']))
end

function T.test_a_budget_of_zero_gives_the_same_bits()
  for _, name in ipairs(plugins.names 'unlearn') do
    if not plugins.find('unlearn', name).whole then
      local forms = { {} }
      if name == 'ga' then forms[2] = { form = 'graves' } end
      if name == 'scrub' then forms[2] = { form = 'joint' } end
      if name == 'ngd' then forms[2] = { form = 'langevin' } end
      if name == 'euk' or name == 'cfk' then
        forms[2], forms[3] = { counts = 'split' }, { counts = 'stage' }
      end
      for _, o in ipairs(forms) do
        local m, original, ctx = unlearn(name, o, 0)
        lu.assertEquals(moved(m, original), {}, name)
        lu.assertEquals(ctx.spent.steps, 0)
      end
    end
  end
end

function T.test_methods_leave_the_original_as_it_is()
  for _, name in ipairs(plugins.names 'unlearn') do
    local _, original = unlearn(name, {}, 4)
    lu.assertEquals(moved(original, model(1)), {}, name)
  end
end

-- ---- Stopped in the middle ----

-- Wherever a run is stopped, the same call goes on from there to the same bits.
function T.test_a_run_that_was_stopped_ends_on_the_same_bits()
  local path = os.tmpname()
  local forward, calls, stop = models.Model.forward, 0, nil
  function models.Model:forward(...)
    calls = calls + 1
    if calls == stop then error('stopped', 0) end
    return forward(self, ...)
  end
  local function run(name, o, stops)
    calls, stop = 0, stops
    return pcall(unlearn, name, o, name ~= 'retrain' and 4 or nil, path)
  end
  local function clear()
    os.remove(path)
    for k = 2, 9 do os.remove(path .. '.' .. k) end
  end
  local ok, err = pcall(function()
    for _, name in ipairs(plugins.names 'unlearn') do
      for _, o in ipairs(name == 'ga' and { {}, { form = 'graves' } }
                         or name == 'ssd' and { { alpha = 1, batch_size = 8 } } or { {} }) do
        clear()
        local _, whole, _, spent = run(name, o)
        local count = calls
        lu.assertTrue(count >= 3, name)
        for at = 1, count do
          clear()
          lu.assertFalse((run(name, o, at)), name)
          local good, again, _, ctx = run(name, o)
          lu.assertTrue(good, name)
          lu.assertEquals(moved(again, whole), {}, ('%s, stopped at %d'):format(name, at))
          lu.assertEquals(ctx.spent.steps, spent.spent.steps, name)
        end
      end
    end
  end)
  models.Model.forward = forward
  clear()
  if not ok then error(err, 0) end
end

-- ---- Noise ----

-- The first step of ngd is gd's plus eta times noise of the stream; momentum has no say in it.
function T.test_ngd_adds_the_streams_noise()
  for form, scale in pairs { gradient = 1, langevin = math.sqrt(2 / 1e-3) } do
    local noisy = unlearn('ngd', { form = form, sigma2 = 0.04 }, 1)
    local plain = unlearn('gd', {}, 1)
    local g, other = vestige.generator(1, 'unlearn'), plain:state_dict()
    for name, p in noisy:named_parameters() do
      local xi = vestige.randn(p:shape(), { dtype = 'f64', generator = g }) * (0.2 * scale)
      local off = (p - (other[name] - xi * 1e-3)):abs():max():item()
      lu.assertTrue(off < 1e-12, ('%s %s: off by %.3g'):format(form, name, off))
    end
  end
end

-- ---- Stored updates ----

-- Every batch holds forgotten samples: taking all updates back gives the initial weights.
function T.test_graves_takes_back_what_the_training_did()
  local full = set(0, 0):append(set(1, 8))
  local ctx = context.new{ seed = 1, recipe = recipe, quiet = true, full = full,
                           make = function() return model(2) end }
  local trained = ctx:fresh()
  ctx:train(trained, { data = full, budget = false })
  local ga = plugins.find('unlearn', 'ga')
  local o = plugins.options('method', ga, { form = 'graves' })
  local back = ctx:call(ga.unlearn, trained:clone(), nil, full:subset{ 8, 9 }, o)
  local fresh, far = ctx:fresh():state_dict(), 0
  for name, p in back:named_parameters() do
    lu.assertTrue((p - fresh[name]):abs():max():item() < 1e-12, name)
  end
  for name, p in trained:named_parameters() do
    far = math.max(far, (p - fresh[name]):abs():max():item())
  end
  lu.assertTrue(far > 1e-2)
  -- No batch holds a sample that was not there: nothing is taken back.
  local same = ctx:call(ga.unlearn, trained:clone(), nil, set(2, 100), o)
  lu.assertEquals(moved(same, trained), {})
end

-- ---- SSD ----

function T.test_ssd_only_shrinks_what_matters_to_the_forgotten()
  local m, original = unlearn('ssd', { alpha = 1, batch_size = 4 }, 6)
  local before, smaller, same = original:state_dict(), 0, 0
  for name, p in m:named_parameters() do
    local ratio = p:detach() / before[name]
    lu.assertTrue(ratio:max():item() <= 1 and ratio:min():item() >= 0, name)
    smaller, same = smaller + ratio:lt(1):sum():item(), same + ratio:eq(1):sum():item()
  end
  lu.assertTrue(smaller > 10 and same > 10)
  lu.assertEquals(moved((unlearn('ssd', { alpha = 1e9 }, 6)), original), {})
end

-- The defaults, alpha 10: weights that matter more than ten times as much to one batch of 16 as to
-- all of them.
function T.test_ssd_by_its_definition()
  local ssd, parts, full = plugins.find('unlearn', 'ssd'), {}, nil
  for k = 0, 15 do
    parts[k] = set(k, 8 * k)
    full = full and full:append(parts[k]) or parts[k]
  end
  local before = model(1)
  local m = before:clone()
  local ctx = context.new{ seed = 1, recipe = recipe, quiet = true, budget = 100, full = full }
  ctx:call(ssd.unlearn, m, nil, parts[3], plugins.options('method', ssd, { batch_size = 8 }))
  local function importance(ds)
    local list = vestige.grad(before:eval()(ds.x):cross_entropy(ds.y), before:parameters())
    for i, g in ipairs(list) do list[i] = g:square() end
    return list
  end
  local own, all, chosen, rest = importance(parts[3]), nil, 0, 0
  for k = 0, 15 do
    local one = importance(parts[k])
    for i, t in ipairs(one) do one[i] = (all and all[i] or 0) + t / 16 end
    all = one
  end
  for i, p in ipairs(before:parameters()) do
    local ratio = own[i] / all[i]
    local chosen_here = ratio:gt(10)
    local want = vestige.where(chosen_here, p / ratio, p)
    lu.assertTrue((m:parameters()[i] - want):abs():max():item() < 1e-12)
    chosen = chosen + chosen_here:sum():item()
    rest = rest + (1 - chosen_here:to 'f64'):sum():item()
  end
  lu.assertTrue(chosen > 10 and rest > 10, ('%d, %d'):format(chosen, rest))
end

function T.test_salun_moves_the_salient_weights_alone()
  local result, original = unlearn('salun', { share = 0.2, weight_decay = 0, lr = 1e-3 }, 3)
  local total, moved_count, other = 0, 0, original:state_dict()
  local parameters = {}
  for name in original:named_parameters() do parameters[name] = true end
  for name, t in pairs(result:state_dict()) do
    if parameters[name] then
      total = total + t:numel()
      moved_count = moved_count + t:ne(other[name]):to 'i64':sum():item()
    end
  end
  lu.assertTrue(moved_count > 0.1 * total and moved_count <= 0.2 * total + 1)
  -- Those are the ones that matter to the forgotten samples.
  local forget = set(1, 8)
  local m = original:clone():eval()
  local names, params = {}, {}
  for name, p in m:named_parameters() do names[#names + 1], params[#params + 1] = name, p end
  local grads = vestige.grad(m(forget.x):cross_entropy(forget.y), params)
  local all, of_moved = {}, {}
  for i, g in ipairs(grads) do
    local was = result:state_dict()[names[i]]:ne(other[names[i]]):to 'i64':flatten():tolist()
    for k, v in ipairs(g:abs():flatten():tolist()) do
      all[#all + 1] = v
      if was[k] == 1 then of_moved[#of_moved + 1] = v end
    end
  end
  table.sort(all)
  lu.assertTrue(math.min(unpack(of_moved)) >= all[math.floor(0.8 * total)] * (1 - 1e-9))
end

function T.test_messages()
  local function message(...)
    local ok, text = pcall(unlearn, ...)
    lu.assertFalse(ok)
    return text
  end
  lu.assertStrContains(message('cfk', { k = 50 }, 1), 'k: expected 1 to 21')
  lu.assertStrContains(message('euk', { counts = 'layers' }, 1), 'one of modules, split, stage')
  lu.assertStrContains(message('scrub', { form = 'both' }, 1), 'one of alternate, joint')
  lu.assertStrContains(message('scrub', { variant = 'theirs' }, 1), 'one of paper, authors')
  lu.assertStrContains(message('ga', { form = 'yang' }, 1), 'one of jang, graves')
  lu.assertStrContains(message('ngd', { form = 'noise' }, 1), 'one of gradient, langevin')
end

os.exit(lu.LuaUnit.new():runSuiteByInstances{ { 'unlearn', T } })
