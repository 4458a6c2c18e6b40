-- The protocol (Algorithm 4) as stages: poison, train, unlearn, score. Each runs once and is kept;
-- one poisoned model serves all methods.
local context = require 'vestige.context'
local data = require 'vestige.data'
local fail = require 'vestige.fail'
local gus = require 'vestige.metrics.gus'
local accuracy = require 'vestige.metrics.accuracy'
local collapse = require 'vestige.metrics.collapse'
local interclass = require 'vestige.metrics.interclass'
local json = require 'vestige.json'
local lira = require 'vestige.metrics.lira'
local mia = require 'vestige.metrics.mia'
local models = require 'vestige.models'
local nearest = require 'vestige.nearest'
local options = require 'vestige.options'
local plugins = require 'vestige.plugins'
local similarity = require 'vestige.metrics.similarity'
local streams = require 'vestige.data.streams'
local study = require 'vestige.study'
local target = require 'vestige.metrics.target'
local term = require 'vestige.term'
local verdict = require 'vestige.verdict'
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

--- protocol.retained(clean, record): what is left of the clean data set without the samples that
-- the stage poison changed; all of it where the attack adds samples.
function M.retained(clean, record)
  local p = json.load(record:path 'poison.json')
  return p.places == 'append' and clean or clean:without(p.forget)
end

-- The ids in random order, by a named stream of the seed.
local function shuffled(ids, seed, name)
  local list = {}
  for i, at in ipairs(streams.permutation(#ids, vestige.generator(seed, name))) do
    list[i] = ids[at]
  end
  return list
end

local function check_share(share)
  if type(share) ~= 'number' or not (share > 0 and share <= 1) then
    fail('discovered: expected a share above 0, at most 1, got %s', tostring(share))
  end
end

--- protocol.discovered(forget, share, seed): the ids of the poisons that are known, and of those
-- that are not, each in the order of forget: a random share of them (corrective unlearning, Goel et
-- al., 2024), at least one, drawn from the stream discovered.
-- Errors: a share that is not above 0, at most 1.
function M.discovered(forget, share, seed)
  check_share(share)
  if share == 1 then return forget, {} end
  local n, known, found, hidden = math.max(1, math.floor(share * #forget + 0.5)), {}, {}, {}
  for i, id in ipairs(shuffled(forget, seed, 'discovered')) do known[id] = i <= n end
  for _, id in ipairs(forget) do table.insert(known[id] and found or hidden, id) end
  return found, hidden
end

--- protocol.requests(ids, k, seed): the ids in k parts of equal size (within one), drawn from the
-- stream requests: what is deleted first, second, and so on. One part is the ids as they are.
-- Errors: a number of requests that is not whole, or more than ids.
function M.requests(ids, k, seed)
  if type(k) ~= 'number' or k % 1 ~= 0 or k < 1 or k > #ids then
    fail('requests: expected a whole number from 1 to %d, the samples to forget, got %s', #ids,
         tostring(k))
  end
  if k == 1 then return { ids } end
  local order, parts = shuffled(ids, seed, 'requests'), {}
  for j = 1, k do
    parts[j] = {}
    for i = math.floor(#ids * (j - 1) / k) + 1, math.floor(#ids * j / k) do
      table.insert(parts[j], order[i])
    end
  end
  return parts
end

-- ---- Stages ----

-- Apart from victims' seeds.
local CLEAN_SEED, OUT_SEED, REQUEST_SEED = 100003, 200003, 1000003

-- Options that are tables of others: the attack's, the model's, the recipe's.
local any = options.maybe 'table'

--- The stage poison: options attack, options (the attack's), seed, model (of the clean models);
-- inputs data and, for an attack that knows models, test and clean1 .., stages train. Writes
-- poison.json (forget, noise, target, y_adv) and rows.safetensors, the poisoned rows. Gives what
-- the attack returns as estimates.
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
                                        target = result.target, classes = result.classes })
    local out = { poisons = #result.forget, samples = result.data:size() }
    for name, v in pairs(result.estimates or {}) do out[name] = v end
    return out
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

-- What one request of several runs in: files of its own, a log that counts on from the steps
-- before, and other orders and noise than the request before; the initial weights stay.
local function request_context(o, ctx, j, done, more)
  more.seed, more.init_seed = o.seed + REQUEST_SEED * (j - 1), o.seed
  more.logged, more.label = done, o.method
  if o.requests > 1 then more.label = ('%s %d/%d'):format(o.method, j, o.requests) end
  if ctx.checkpoint and j > 1 then
    more.checkpoint = ('%s.request%d'):format(ctx.checkpoint, j)
  end
  return context_of(o, ctx, more)
end

-- What a method makes of a model, checked.
local function unlearned(c, method, o, model, retain, forget)
  model = c:call(method.unlearn, model, retain, forget,
                 plugins.options('method', method, o.options))
  if type(model) ~= 'table' or not model.state_dict then
    fail('method %s: expected unlearn to return a model, got %s', o.method, type(model))
  end
  return model
end

-- The gold standard, from what is retained alone.
local function from_scratch(method, o, retain, ctx)
  local c = context_of(o, ctx, { label = o.method, full = retain })
  local model = unlearned(c, method, o, nil, retain, nil)
  model:save(ctx.path 'model.safetensors')
  return { steps = c.spent.steps, flops = c.spent.flops, train_seconds = c.spent.seconds }
end

--- The stage unlearn: options method, options (the method's), budget (steps), model, recipe, seed,
-- discovered (1), requests (1); inputs data, poison, train. Writes model.safetensors.
-- A method that is the gold standard (`whole`) does without all poisons at once and sees neither
-- them nor the poisoned model: its only input is data, what is retained, and settings that retain
-- the same share it.
-- discovered: the share of the poisons that is known: the method forgets those, and what it retains
-- holds the others. requests: the samples to forget come in that many parts, one after the other:
-- each is unlearned from the model that the last one left, on what remains, without those deleted
-- before, within its share of the budget. A stop between requests, or in one, loses nothing: those
-- that are over are read from their checkpoints.
M.unlearn = study.stage{
  name = 'unlearn', version = 1,
  defaults = { method = 'gd', options = any, budget = 0, seed = 0, model = any, recipe = any,
               discovered = 1, requests = 1 },
  run = function(o, inputs, ctx)
    local method = plugins.find('unlearn', o.method)
    if method.whole then return from_scratch(method, o, inputs.data, ctx) end
    local full, p = poisoned(inputs.data, inputs.poison)
    local parts = M.requests(M.discovered(p.forget, o.discovered, o.seed), o.requests, o.seed)
    local model = load_model(o.model, inputs.train:path 'model.safetensors')
    local trained = model:clone()
    local spent = { steps = 0, flops = 0, train_seconds = 0 }
    for j, part in ipairs(parts) do
      local retain, forget = full:without(part), full:subset(part)
      local budget = math.floor(o.budget * j / #parts) - math.floor(o.budget * (j - 1) / #parts)
      local c = request_context(o, ctx, j, spent.steps, {
        budget = budget, full = full, original = j == 1 and trained or model:clone() })
      model = unlearned(c, method, o, model, retain, forget)
      spent.steps, spent.flops = spent.steps + c.spent.steps, spent.flops + c.spent.flops
      spent.train_seconds = spent.train_seconds + c.spent.seconds
      full = retain
    end
    model:save(ctx.path 'model.safetensors')
    spent.moved = M.distance(model, trained)
    return spent
  end,
}

--- protocol.distance(a, b): the l2 distance of two models' parameters.
M.distance = similarity.distance

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

-- The membership attack and GUS over the poisons that `which` picks: losses and scores by position.
local function over(which, members, others, I)
  local losses, scores = {}, I and {}
  for i, v in ipairs(members) do
    if which(i) then
      losses[#losses + 1] = v
      if I then scores[#scores + 1] = I[i] end
    end
  end
  local out = { mia = #losses > 1 and mia.attack(losses, others) or nil }
  if I and #gus.nonzero(scores) > 0 then
    out.gus = gus.summary(scores, #scores - #gus.nonzero(scores))
  end
  return out
end

local function any_position() return true end

--- The stage score: options seed, model, discovered (1); inputs data, test, poison, model (the
-- stage whose model is scored). Writes scores.json with every canary's I. Gives test accuracy,
-- whether the model collapsed, the membership attack and, for planted noise, GUS, over all poisons;
-- where only a share was discovered, both in `parts` over the discovered and the undiscovered ones
-- too; a targeted attack's goal and interclass confusion, where the attack has them. A model whose
-- outputs are not finite has no membership attack and no GUS, one without any gradient no GUS.
M.score = study.stage{
  name = 'score', version = 1, defaults = { seed = 0, model = any, discovered = 1 },
  run = function(o, inputs, ctx)
    local ds, p = poisoned(inputs.data, inputs.poison)
    local model = load_model(o.model, inputs.model:path 'model.safetensors'):eval()
    local bar = term.bar{ label = 'score', total = p.noise and 3 or 2, quiet = ctx.quiet }
    bar:update(0)
    local planted = ds:subset(p.forget)
    local seen, out = { test = inputs.test, classes = p.classes, canaries = { planted = planted } },
                      {}
    seen.confusion, seen.finite = accuracy.confusion(model, inputs.test)
    out.accuracy, out.collapse = accuracy.measure(model, seen), collapse.measure(model, seen)
    if p.classes then out.interclass = interclass.measure(model, seen) end
    if p.target then
      out.target = target.measure(model, { target = target.of(inputs.test, p) })
    end
    bar:update(1)
    local I, zero
    if p.noise then
      local base = inputs.data:subset(p.forget)
      I, zero = gus.scores(model, base, p.noise)
      local control = gus.scores(model, base, p.noise, { fresh = p.noise.seed + 2000003 })
      json.save(ctx.path 'scores.json', { I = json.array(I), fresh = json.array(control),
                                          zero = zero })
    end
    bar:update(2)
    local said = ('test accuracy %.1f %%'):format(100 * out.accuracy.estimate)
    if out.collapse.finite then
      local members = mia.losses(model, planted)
      local others = mia.losses(model, non_members(inputs.test, p, o.seed))
      local all = over(any_position, members, others, I)
      out.mia, out.gus = all.mia, all.gus
      local found, hidden = M.discovered(p.forget, o.discovered, o.seed)
      if #hidden > 0 then
        local known = {}
        for _, id in ipairs(found) do known[id] = true end
        out.parts = {
          discovered = over(function(i) return known[p.forget[i]] end, members, others, I),
          undiscovered = over(function(i) return not known[p.forget[i]] end, members, others, I) }
      end
    end
    if out.collapse.collapsed then said = said .. '  no model: ' .. out.collapse.reason end
    if out.target then
      said = ('%s  target %s (margin %.2f)'):format(said, out.target.hit and 'taken' or 'not taken',
                                                    out.target.estimate)
    elseif out.mia then
      said = ('%s  membership AUC %.2f'):format(said, out.mia.estimate)
    end
    if out.gus then
      said = ('%s  GUS %.3f  z %.1f'):format(said, out.gus.estimate, out.gus.z)
    end
    bar:finish(said)
    return out
  end,
}

--- The stage compare: an unlearned model beside the retrained one (metrics/similarity.lua). Options
-- model; inputs data, test, poison, train (the model before), model, retrained.
M.compare = study.stage{
  name = 'compare', version = 1, defaults = { model = any },
  run = function(o, inputs)
    local ds, p = poisoned(inputs.data, inputs.poison)
    local function loaded(name)
      return load_model(o.model, inputs[name]:path 'model.safetensors'):eval()
    end
    return similarity.measure(loaded 'model', {
      retrained = loaded 'retrained', original = loaded 'train', test = inputs.test,
      canaries = { planted = ds:subset(p.forget) } })
  end,
}

local function check_lira(n)
  if type(n) ~= 'number' or n % 1 ~= 0 or n < lira.least then
    fail('lira: expected a whole number of out-models, at least %d, got %s', lira.least,
         tostring(n))
  end
end

-- The i-th halving of a data set, which depends on its size alone: two data sets.
local function halves(train, i)
  return train:split(0.5, vestige.generator(i, 'lira'))
end

--- The stage lira: the likelihood-ratio attack on a model (metrics/lira.lua). Options seed, model,
-- models; inputs data, test, poison, model, out1a, out1b, out2a .. (stages of protocol.out_models).
-- Of each pair, a sample's out-model is the one whose half did not hold it; one that is in neither,
-- such as a test sample, has either by its id, so that all have equally many.
M.lira = study.stage{
  name = 'lira', version = 1, defaults = { seed = 0, model = any, models = lira.least },
  run = function(o, inputs, ctx)
    local ds, p = poisoned(inputs.data, inputs.poison)
    local bar = term.bar{ label = 'lira', total = 2 * o.models, quiet = ctx.quiet }
    local out, done = {}, 0
    local id = inputs.data.id
    for i = 1, o.models do
      local a, b = halves(data.new{ x = id, id = id }, i)
      local in_a, in_b = {}, {}
      for _, k in ipairs(a:ids()) do in_a[k] = true end
      for _, k in ipairs(b:ids()) do in_b[k] = true end
      local function held_by_a(k)
        if in_a[k] or in_b[k] then return in_a[k] == true end
        return k % 2 == 0
      end
      for _, which in ipairs { 'a', 'b' } do
        out[#out + 1] = {
          load = function()
            done = done + 1
            bar:update(done)
            local record = inputs[('out%d%s'):format(i, which)]
            return load_model(o.model, record:path 'model.safetensors')
          end,
          holds = function(k) return held_by_a(k) == (which == 'a') end }
      end
    end
    local model = load_model(o.model, inputs.model:path 'model.safetensors')
    local found = lira.measure(model, { out = out, canaries = {
      planted = ds:subset(p.forget), fresh = non_members(inputs.test, p, o.seed) } })
    bar:finish(('LiRA AUC %.2f, %d out-models'):format(found.estimate, found.models))
    return found
  end,
}

--- protocol.out_models(s, t): the models that LiRA needs, of protocol.run's t: t.lira pairs, each
-- trained on the two halves of a random split of the clean data, so that every sample has t.lira
-- models that were not trained on it. They depend on no attack and no seed: a study's runs share
-- them. Returns the inputs out1a, out1b, ... of the stage lira. Errors: fewer than 16.
function M.out_models(s, t)
  check_lira(t.lira)
  local inputs = {}
  for i = 1, t.lira do
    local a, b = halves(t.train, i)
    for k, half in ipairs { a, b } do
      local record = s:run(M.train, { model = t.model, recipe = t.recipe,
                                      seed = OUT_SEED + 2 * i + k }, { data = half })
      inputs[('out%d%s'):format(i, k == 1 and 'a' or 'b')] = record
      if t.after then t.after('out', record) end
    end
  end
  return inputs
end

-- The metrics that need more than a model: beside the retrained one, and LiRA.
local function beyond_scores(s, t, out, after)
  local retrained, others
  for _, m in ipairs(out.methods) do
    if m.name == 'retrain' and t.compare ~= false then retrained = m.unlearn end
  end
  if t.lira and t.lira ~= 0 then others = M.out_models(s, t) end
  local function further(m, record)
    local state = m.score.estimates.collapse
    if state and not state.finite then return end -- nothing to compare
    local inputs = { data = t.train, test = t.test, poison = out.poison, model = record }
    if others then
      local all = {}
      for k, v in pairs(inputs) do all[k] = v end
      for k, v in pairs(others) do all[k] = v end
      m.lira = s:run(M.lira, { model = t.model, seed = t.seed or 0, models = t.lira }, all)
      after('lira', m.lira)
    end
    if retrained and record ~= retrained then
      inputs.train, inputs.retrained = out.train, retrained
      m.compare = s:run(M.compare, { model = t.model }, inputs)
      after('compare', m.compare)
    end
  end
  local before = { score = out.before }
  further(before, out.train)
  out.lira, out.compare = before.lira, before.compare
  for _, m in ipairs(out.methods) do further(m, m.unlearn) end
end

-- The steps that each method has. In epochs: as many passes over what is retained as the share of
-- the recipe's (C.2); a method that goes over the poisons has the same number of steps.
local function budget_of(t, poison, trained)
  local unit, share = t.budget_unit or 'steps', t.budget or 0.1
  if unit ~= 'steps' and unit ~= 'epochs' then
    fail("budget_unit: expected 'steps' or 'epochs', got '%s'%s", tostring(unit),
         nearest.hint(tostring(unit), { 'steps', 'epochs' }))
  end
  local steps = trained.estimates.steps
  if unit == 'epochs' then
    local p = json.load(poison:path 'poison.json')
    local gone = #M.discovered(p.forget, t.discovered or 1, t.seed or 0)
    steps = context.recipe_steps(t.recipe, poison.estimates.samples - gone)
  end
  return math.max(1, math.floor(share * steps + 0.5))
end

--- protocol.run(s, t): the whole protocol in a study s. t: train, test (data sets), attack,
-- attack_options, model {name, options}, recipe, methods (names, in order), method_options (by
-- name), budget (a share of the original run's steps, default 0.1) and budget_unit ('steps', or
-- 'epochs': that share of the recipe's epochs, over what is retained), seed; discovered (1), the
-- share of the poisons that is known, and requests (1), in how many parts they are deleted: see the
-- stage unlearn; lira (0): out-models for each sample, at least 16, 0 for no likelihood-ratio
-- attack; compare (true): whether models are compared with the retrained one.
-- after(name, record) is called after each stage. Returns {poison, train, before = score, lira,
-- compare, methods = list of {name, unlearn, score, lira, compare}}: records of stages, with
-- .estimates; compare where retrain is among the methods and the model is not the retrained one.
function M.run(s, t)
  local after = t.after or function() end
  local seed = t.seed or 0
  check_share(t.discovered or 1)
  if t.lira and t.lira ~= 0 then check_lira(t.lira) end
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
  local poison = s:run(M.poison, {
    attack = t.attack, options = plugins.changed(attack, t.attack_options), seed = seed,
    model = knows_models and t.model or nil }, inputs)
  after('poison', poison)
  local trained = s:run(M.train, { model = t.model, recipe = t.recipe, seed = seed },
                        { data = t.train, poison = poison })
  after('train', trained)
  local function score(record)
    local scored = s:run(M.score, { model = t.model, seed = seed, discovered = t.discovered },
                         { data = t.train, test = t.test, poison = poison, model = record })
    after('score', scored)
    return scored
  end
  local out = { poison = poison, train = trained, before = score(trained), methods = {} }
  local budget = budget_of(t, poison, trained)
  for _, name in ipairs(t.methods) do
    local method = plugins.find('unlearn', name)
    local o = { method = name, options = plugins.changed(method, (t.method_options or {})[name]),
                model = t.model, recipe = t.recipe, seed = seed }
    local from = { data = t.train, poison = poison, train = trained }
    if method.whole then
      from = { data = M.retained(t.train, poison) }
    else
      o.budget, o.discovered, o.requests = budget, t.discovered, t.requests
    end
    local record = s:run(M.unlearn, o, from)
    after(name, record)
    out.methods[#out.methods + 1] = { name = name, unlearn = record, score = score(record) }
  end
  beyond_scores(s, t, out, after)
  return out
end

--- protocol.scores(record): the list of I of a stage score (false where a gradient was zero), and
-- the list under fresh noise.
function M.scores(record)
  local t = json.load(record:path 'scores.json')
  return t.I, t.fresh
end

--- protocol.collapsed(before, after): why unlearning left no model, from the stages score before
-- and after it (metrics/collapse.lua); nil where it did, or there was none before.
function M.collapsed(before, after)
  return collapse.since(before.estimates.collapse, after.estimates.collapse)
end

--- protocol.judge_scores(a, b, why): the verdict on a model from its canaries' I before and after
-- unlearning, false where a gradient was zero: those are left out and counted. why: how the model
-- collapsed, nil where it did not: collapsed, text and sentence say it, whatever the canaries do;
-- where they say nothing, because no gradient is left, the verdict is inconclusive.
function M.judge_scores(a, b, why)
  local x, y, lost_a, lost_b = {}, {}, 0, 0
  for i = 1, #a do
    if a[i] and b[i] then x[#x + 1], y[#y + 1] = a[i], b[i] end
    if not a[i] then lost_a = lost_a + 1 end
    if not b[i] then lost_b = lost_b + 1 end
  end
  if why and #x < 2 then
    return { verdict = verdict.words.inconclusive, text = 'collapsed', collapsed = why, n = #x,
             sentence = ('The model collapsed: %s. No canary has a gradient.'):format(why) }
  end
  local judged = verdict.judge(x, y, { zero_gradients_before = lost_a,
                                       zero_gradients_after = lost_b })
  if why then
    judged.collapsed, judged.text = why, judged.text .. '; collapsed'
    judged.sentence = ('%s The model collapsed: %s.'):format(judged.sentence, why)
  end
  return judged
end

--- protocol.judge(before, after): judge_scores of the stages score before and after unlearning.
function M.judge(before, after)
  return M.judge_scores((M.scores(before)), (M.scores(after)), M.collapsed(before, after))
end

return M
