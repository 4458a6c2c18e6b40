-- The protocol (Algorithm 4) as stages: poison, train, unlearn, score. Each runs once and is kept;
-- one poisoned model serves all methods.
local context = require 'vestige.context'
local data = require 'vestige.data'
local fail = require 'vestige.fail'
local gus = require 'vestige.metrics.gus'
local accuracy = require 'vestige.metrics.accuracy'
local json = require 'vestige.json'
local mia = require 'vestige.metrics.mia'
local models = require 'vestige.models'
local options = require 'vestige.options'
local plugins = require 'vestige.plugins'
local study = require 'vestige.study'
local target = require 'vestige.metrics.target'
local term = require 'vestige.term'
local vestige = require 'vestige'

local M = {}

-- ---- What the stages share ----

-- How a model is made, from plain options.
local function maker(o)
  return function() return models.make(o.name, o.options) end
end

local function load_model(o, path)
  return maker(o)():load(path)
end

-- A context for a stage that runs in ctx.
local function context_of(o, ctx, more)
  local t = { seed = o.seed, make = maker(o.model), recipe = o.recipe, checkpoint = ctx.checkpoint,
              every = ctx.every, quiet = ctx.quiet, log = ctx.log, rewind = ctx.rewind,
              loaders = ctx.loaders }
  for k, v in pairs(more or {}) do t[k] = v end
  return context.new(t)
end

-- The poisoned data set again, from the clean one and what the stage poison wrote.
local function poisoned(clean, record)
  if not record then return clean end
  local p = json.load(record:path 'poison.json')
  local rows = vestige.load(record:path 'rows.safetensors')
  local ids = p.forget
  if p.places == 'append' then
    return clean:append(data.new({ x = rows.x, y = rows.y, id = rows.id },
                                 { classes = clean.classes })), p
  end
  if p.noise and p.noise.unit == 'normalised' then
    return clean:with_noise{ seed = p.noise.seed, variance = p.noise.variance, ids = ids }, p
  end
  return clean:replace(ids, { x = rows.x, y = rows.y }), p
end
M.poisoned = poisoned

-- ---- Stages ----

local CLEAN_SEED = 100003 -- apart from victims' seeds

-- Options that are tables of others: the attack's, the model's, the recipe's.
local any = options.maybe 'table'

--- The stage poison: options attack, options (the attack's), seed, model (of the clean models);
-- inputs data and, for an attack that knows models, test and clean1 .., stages train. Writes
-- poison.json (forget, noise, target, y_adv) and rows.safetensors, the poisoned rows.
M.poison = study.stage{
  name = 'poison', version = 1,
  defaults = { attack = 'gaussian', seed = 0, options = any, model = any },
  run = function(o, inputs, ctx)
    local attack = plugins.find('attacks', o.attack)
    local c = context.new{ seed = o.seed, recipe = {}, test = inputs.test, quiet = ctx.quiet,
      checkpoint = ctx.checkpoint, every = ctx.every, label = o.attack,
      clean = function(i)
        return load_model(o.model, inputs['clean' .. i]:path 'model.safetensors')
      end }
    local result = c:call(attack.poison, inputs.data,
                          plugins.options('attack', attack, o.options or {}))
    if not data.is_dataset(result.data) or type(result.forget) ~= 'table' then
      fail('attack %s: expected {data = a data set, forget = ids}', o.attack)
    end
    local rows = result.data:subset(result.forget)
    vestige.save(ctx.path 'rows.safetensors', { x = rows.x, y = rows.y, id = rows.id })
    json.save(ctx.path 'poison.json', { forget = json.array(result.forget), places = attack.places,
                                        noise = result.noise, y_adv = result.y_adv,
                                        target = result.target })
    return { poisons = #result.forget, samples = result.data:size(), phi = result.phi }
  end,
}

--- The stage train: options model {name, options}, recipe, seed; inputs data, poison (none: a clean
-- model). Writes model.safetensors.
M.train = study.stage{
  name = 'train', version = 1, defaults = { seed = 0, model = any, recipe = any },
  run = function(o, inputs, ctx)
    local ds = poisoned(inputs.data, inputs.poison)
    local c = context_of(o, ctx, { label = 'train' })
    local model = c:fresh()
    local r = c:train(model, { data = ds, budget = false })
    model:save(ctx.path 'model.safetensors')
    return { loss = r.loss, train_accuracy = r.accuracy, steps = c.spent.steps,
             flops = c.spent.flops, train_seconds = r.seconds }
  end,
}

--- The stage unlearn: options method, options (the method's), budget (steps), model, recipe, seed;
-- inputs data, poison, train. Writes model.safetensors.
M.unlearn = study.stage{
  name = 'unlearn', version = 1,
  defaults = { method = 'gd', options = any, budget = 0, seed = 0, model = any, recipe = any },
  run = function(o, inputs, ctx)
    local method = plugins.find('unlearn', o.method)
    local ds, p = poisoned(inputs.data, inputs.poison)
    local retain, forget = ds:without(p.forget), ds:subset(p.forget)
    local model = load_model(o.model, inputs.train:path 'model.safetensors')
    local before = model:clone()
    local c = context_of(o, ctx, { label = o.method, budget = o.budget, original = before,
                                   full = ds })
    local result = c:call(method.unlearn, model, retain, forget,
                          plugins.options('method', method, o.options))
    if type(result) ~= 'table' or not result.state_dict then
      fail('method %s: expected unlearn to return a model, got %s', o.method, type(result))
    end
    result:save(ctx.path 'model.safetensors')
    return { steps = c.spent.steps, flops = c.spent.flops, train_seconds = c.spent.seconds,
             moved = M.distance(result, before) }
  end,
}

--- protocol.distance(a, b): the l2 distance of two models' parameters.
function M.distance(a, b)
  local other = {}
  for name, p in b:named_parameters() do other[name] = p end
  return vestige.scope(vestige.no_grad, function()
    local total = 0
    for name, p in a:named_parameters() do
      local d = (p - other[name]):norm():item()
      total = total + d * d
    end
    return math.sqrt(total)
  end)
end

-- Test samples with fresh noise of the same law: what the membership attack sees as non-members.
local function non_members(test, p, seed)
  local n = math.min(#p.forget, test:size())
  local sample = test:sample(n, vestige.generator(seed, 'mia'))
  if not p.noise then return sample end
  local fresh = { seed = p.noise.seed + 1000003, variance = p.noise.variance }
  if p.noise.unit == 'normalised' then
    fresh.ids = sample:ids()
    return sample:with_noise(fresh)
  end
  local x = vestige.scope(function()
    local clean = sample.x:dtype() == 'u8' and sample.x:to 'f32' / 255 or sample.x
    local shape = clean:shape()
    table.remove(shape, 1)
    return clean + data.noise(fresh.seed, sample:ids(), shape) * math.sqrt(fresh.variance)
  end)
  return sample:replace(sample:ids(), { x = x })
end

--- The stage score: options seed, model; inputs data, test, poison, model (the stage whose model is
-- scored). Writes scores.json with every canary's I. Gives test accuracy, the membership attack
-- and, for planted noise, GUS.
M.score = study.stage{
  name = 'score', version = 1, defaults = { seed = 0, model = any },
  run = function(o, inputs, ctx)
    local ds, p = poisoned(inputs.data, inputs.poison)
    local model = load_model(o.model, inputs.model:path 'model.safetensors'):eval()
    local bar = term.bar{ label = 'score', total = p.noise and 3 or 2, quiet = ctx.quiet }
    bar:update(0)
    local out = { accuracy = accuracy.measure(model, { test = inputs.test }) }
    bar:update(1)
    out.mia = mia.measure(model, { canaries = { planted = ds:subset(p.forget),
                                                fresh = non_members(inputs.test, p, o.seed) } })
    bar:update(2)
    if p.target then
      out.target = target.measure(model, { target = target.of(inputs.test, p) })
    end
    if p.noise then
      local base = inputs.data:subset(p.forget)
      local I, zero = gus.scores(model, base, p.noise)
      local control = gus.scores(model, base, p.noise, { fresh = p.noise.seed + 2000003 })
      out.gus = gus.summary(I, zero)
      json.save(ctx.path 'scores.json', { I = json.array(I), fresh = json.array(control),
                                          zero = zero })
    end
    if out.target then
      bar:finish(('test accuracy %.1f %%  target %s (margin %.2f)'):format(
        100 * out.accuracy.estimate, out.target.hit and 'taken' or 'not taken',
        out.target.estimate))
      return out
    end
    local signal = out.gus and ('  GUS %.3f  z %.1f'):format(out.gus.estimate, out.gus.z) or ''
    bar:finish(('test accuracy %.1f %%  membership AUC %.2f%s'):format(
      100 * out.accuracy.estimate, out.mia.estimate, signal))
    return out
  end,
}

--- protocol.run(s, t): the whole protocol in a study s. t: train, test (data sets), attack,
-- attack_options, model {name, options}, recipe, methods (names, in order), method_options (by
-- name), budget (a share of the original run's steps, default 0.1), seed.
-- after(name, record) is called after each stage. Returns {poison, train, before = score,
-- methods = list of {name, unlearn, score}}: records of stages, with .estimates.
function M.run(s, t)
  local after = t.after or function() end
  local seed = t.seed or 0
  local attack = plugins.find('attacks', t.attack)
  local inputs, knows_models = { data = t.train }, attack.models ~= nil
  if knows_models then
    inputs.test = t.test
    for i = 1, attack.models(plugins.options('attack', attack, t.attack_options)) do
      inputs['clean' .. i] = s:run(M.train, { model = t.model, recipe = t.recipe,
                                              seed = seed + CLEAN_SEED * i }, { data = t.train })
      after('clean', inputs['clean' .. i])
    end
  end
  local poison = s:run(M.poison, { attack = t.attack, options = t.attack_options, seed = seed,
                                   model = knows_models and t.model or nil }, inputs)
  after('poison', poison)
  local trained = s:run(M.train, { model = t.model, recipe = t.recipe, seed = seed },
                        { data = t.train, poison = poison })
  after('train', trained)
  local function score(record)
    local scored = s:run(M.score, { model = t.model, seed = seed },
                         { data = t.train, test = t.test, poison = poison, model = record })
    after('score', scored)
    return scored
  end
  local out = { poison = poison, train = trained, before = score(trained), methods = {} }
  local steps = trained.estimates.steps
  local budget = math.max(1, math.floor((t.budget or 0.1) * steps + 0.5))
  for _, name in ipairs(t.methods) do
    local method = plugins.find('unlearn', name)
    local record = s:run(M.unlearn, {
      method = name, options = plugins.changed(method, (t.method_options or {})[name]),
      budget = method.whole and 0 or budget, model = t.model, recipe = t.recipe, seed = seed,
    }, { data = t.train, poison = poison, train = trained })
    after(name, record)
    out.methods[#out.methods + 1] = { name = name, unlearn = record, score = score(record) }
  end
  return out
end

--- protocol.scores(record): the list of I of a stage score (false where a gradient was zero), and
-- the list under fresh noise.
function M.scores(record)
  local t = json.load(record:path 'scores.json')
  return t.I, t.fresh
end

--- protocol.judge(before, after): the verdict on a model from the stages score before and after
-- unlearning; canaries whose gradient is zero in either are left out and counted.
function M.judge(before, after)
  local a, b = M.scores(before), M.scores(after)
  local x, y, lost_a, lost_b = {}, {}, 0, 0
  for i = 1, #a do
    if a[i] and b[i] then x[#x + 1], y[#y + 1] = a[i], b[i] end
    if not a[i] then lost_a = lost_a + 1 end
    if not b[i] then lost_b = lost_b + 1 end
  end
  return require('vestige.verdict').judge(x, y, { zero_gradients_before = lost_a,
                                                  zero_gradients_after = lost_b })
end

return M
