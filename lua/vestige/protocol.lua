-- The protocol (Algorithm 4) as stages: poison, train, unlearn (stages.lua), score (scoring.lua).
-- Each runs once and is kept; one poisoned model serves all methods.
local collapse = require 'vestige.metrics.collapse'
local context = require 'vestige.context'
local fail = require 'vestige.fail'
local json = require 'vestige.json'
local nearest = require 'vestige.nearest'
local plugins = require 'vestige.plugins'
local scoring = require 'vestige.scoring'
local stages = require 'vestige.stages'
local verdict = require 'vestige.verdict'

local M = {}

-- Apart from victims' seeds, and from those of stages.lua.
local CLEAN_SEED, OUT_SEED = 100003, 200003

--- protocol.out_model(s, t, i, half): a model that LiRA needs, of protocol.run's t: the i-th random
-- split of the clean data, trained on its first or second half. It depends on no attack and no
-- seed: a study's runs share it.
function M.out_model(s, t, i, half)
  local halves = { scoring.halves(t.train, i) }
  return s:run(stages.train, { model = t.model, recipe = t.recipe,
                               seed = OUT_SEED + 2 * i + half }, { data = halves[half] })
end

--- protocol.out_models(s, t): all of them, t.lira pairs, so that every sample has t.lira models
-- that were not trained on it. Returns the inputs out1a, out1b, ... of the stage lira. Errors:
-- fewer than 16.
function M.out_models(s, t)
  scoring.check_lira(t.lira)
  local inputs = {}
  for i = 1, t.lira do
    for half, name in ipairs { 'a', 'b' } do
      local record = M.out_model(s, t, i, half)
      inputs[('out%d%s'):format(i, name)] = record
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
      m.lira = s:run(scoring.lira, { model = t.model, seed = t.seed or 0, models = t.lira }, all)
      after('lira', m.lira)
    end
    if retrained and record ~= retrained then
      inputs.train, inputs.retrained = out.train, retrained
      m.compare = s:run(scoring.compare, { model = t.model }, inputs)
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
    local gone = #stages.discovered(p.forget, t.discovered or 1, t.seed or 0)
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
  stages.check_share(t.discovered or 1)
  if t.lira and t.lira ~= 0 then scoring.check_lira(t.lira) end
  local attack = plugins.find('attacks', t.attack)
  -- Bad options are told before anything is computed.
  local attack_options = plugins.options('attack', attack, t.attack_options)
  for _, name in ipairs(t.methods) do
    plugins.options('method', plugins.find('unlearn', name), (t.method_options or {})[name])
  end
  local inputs, knows_models = { data = t.train }, attack.models ~= nil
  if knows_models then
    inputs.test = t.test
    for i = 1, attack.models(attack_options) do
      inputs['clean' .. i] = s:run(stages.train, { model = t.model, recipe = t.recipe,
                                              seed = seed + CLEAN_SEED * i }, { data = t.train })
      after('clean', inputs['clean' .. i])
    end
  end
  local poison = s:run(stages.poison, {
    attack = t.attack, version = attack.version, seed = seed,
    options = plugins.changed(attack, t.attack_options),
    model = knows_models and t.model or nil }, inputs)
  after('poison', poison)
  local trained = s:run(stages.train, { model = t.model, recipe = t.recipe, seed = seed },
                        { data = t.train, poison = poison })
  after('train', trained)
  local function score(record)
    local scored = s:run(scoring.score, { model = t.model, seed = seed, discovered = t.discovered },
                         { data = t.train, test = t.test, poison = poison, model = record })
    after('score', scored)
    return scored
  end
  local out = { poison = poison, train = trained, before = score(trained), methods = {} }
  local budget = budget_of(t, poison, trained)
  for _, name in ipairs(t.methods) do
    local method = plugins.find('unlearn', name)
    local o = { method = name, version = method.version,
                options = plugins.changed(method, (t.method_options or {})[name]),
                model = t.model, recipe = t.recipe, seed = seed }
    local from = { data = t.train, poison = poison, train = trained }
    if method.whole then
      from = { data = stages.retained(t.train, poison) }
    else
      o.budget, o.discovered, o.requests = budget, t.discovered, t.requests
    end
    local record = s:run(stages.unlearn, o, from)
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
