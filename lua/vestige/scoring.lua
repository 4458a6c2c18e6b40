-- The stages that measure a model: score, compare, lira.
local accuracy = require 'vestige.metrics.accuracy'
local collapse = require 'vestige.metrics.collapse'
local data = require 'vestige.data'
local fail = require 'vestige.fail'
local gus = require 'vestige.metrics.gus'
local interclass = require 'vestige.metrics.interclass'
local json = require 'vestige.json'
local lira = require 'vestige.metrics.lira'
local mia = require 'vestige.metrics.mia'
local options = require 'vestige.options'
local plugins = require 'vestige.plugins'
local similarity = require 'vestige.metrics.similarity'
local stages = require 'vestige.stages'
local study = require 'vestige.study'
local target = require 'vestige.metrics.target'
local term = require 'vestige.term'
local vestige = require 'vestige'

local M = {}

-- Options that are tables of others.
local any = options.maybe 'table'

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

-- GUS and the membership attack over the poisons that `which` picks: losses and scores by place.
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
-- whether the model collapsed and, for planted noise, GUS and the membership attack, over all
-- poisons; where only a share was discovered, both in `parts` over the discovered and the
-- undiscovered ones too; a targeted attack's goal, a backdoor's success and interclass confusion,
-- where the attack has them. A model whose outputs are not finite has no membership attack and no
-- GUS, one without any gradient no GUS. Other poisons have no membership attack: no sample that was
-- not trained on has their law, so it would find the perturbation or the label, not membership.
M.score = study.stage{
  name = 'score', version = 2, defaults = { seed = 0, model = any, discovered = 1 },
  run = function(o, inputs, ctx)
    local ds, p = stages.poisoned(inputs.data, inputs.poison)
    local model = stages.load_model(o.model, inputs.model):eval()
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
    local attack = p.attack and plugins.find('attacks', p.attack)
    if attack and attack.trigger then
      local given = plugins.options('attack', attack, p.options or {})
      out.backdoor = target.backdoor(model, inputs.test, function(x)
        return attack.trigger(x, given)
      end, p.y_adv)
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
    if p.noise and out.collapse.finite then
      local members = mia.losses(model, planted)
      local others = mia.losses(model, non_members(inputs.test, p, o.seed))
      local all = over(any_position, members, others, I)
      out.mia, out.gus = all.mia, all.gus
      local found, hidden = stages.discovered(p.forget, o.discovered, o.seed)
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
    elseif out.backdoor then
      said = ('%s  trigger works on %.0f %%'):format(said, 100 * out.backdoor.estimate)
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
    local ds, p = stages.poisoned(inputs.data, inputs.poison)
    local function loaded(name)
      return stages.load_model(o.model, inputs[name]):eval()
    end
    return similarity.measure(loaded 'model', {
      retrained = loaded 'retrained', original = loaded 'train', test = inputs.test,
      canaries = { planted = ds:subset(p.forget) } })
  end,
}

-- Errors: a number of out-models that is too small.
function M.check_lira(n)
  if type(n) ~= 'number' or n % 1 ~= 0 or n < lira.least then
    fail('lira: expected a whole number of out-models, at least %d, got %s', lira.least,
         tostring(n))
  end
end

--- scoring.halves(train, i): the i-th halving of a data set, which depends on its size alone: two
-- data sets.
function M.halves(train, i)
  return train:split(0.5, vestige.generator(i, 'lira'))
end

--- The stage lira: the likelihood-ratio attack on a model (metrics/lira.lua). Options seed, model,
-- models; inputs data, test, poison, model, out1a, out1b, out2a .. (stages of protocol.out_models).
-- Of each pair, a sample's out-model is the one whose half did not hold it; one that is in neither,
-- such as a test sample, has either by its id, so that all have equally many.
M.lira = study.stage{
  name = 'lira', version = 1, defaults = { seed = 0, model = any, models = lira.least },
  run = function(o, inputs, ctx)
    local ds, p = stages.poisoned(inputs.data, inputs.poison)
    local bar = term.bar{ label = 'lira', total = 2 * o.models, quiet = ctx.quiet }
    local out, done = {}, 0
    local id = inputs.data.id
    for i = 1, o.models do
      local a, b = M.halves(data.new{ x = id, id = id }, i)
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
            return stages.load_model(o.model, inputs[('out%d%s'):format(i, which)])
          end,
          holds = function(k) return held_by_a(k) == (which == 'a') end }
      end
    end
    local model = stages.load_model(o.model, inputs.model)
    local found = lira.measure(model, { out = out, canaries = {
      planted = ds:subset(p.forget), fresh = non_members(inputs.test, p, o.seed) } })
    bar:finish(('LiRA AUC %.2f, %d out-models'):format(found.estimate, found.models))
    return found
  end,
}

return M
