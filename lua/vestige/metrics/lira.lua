-- The likelihood-ratio membership attack (Carlini et al., 2022, section IV, offline form): is a
-- sample surer than under models that were not trained on it? Each sample is its own yardstick,
-- where the loss threshold (mia.lua) has one for all.
local fail = require 'vestige.fail'
local mia = require 'vestige.metrics.mia'
local stats = require 'vestige.stats'

local M = { name = 'lira', least = 16 }

-- Mean and spread under the out-models: the means by sample, one variance pooled over all samples,
-- within them.
local function out_law(groups)
  local squares, freedom = {}, 0
  for _, g in ipairs(groups) do
    g.mean = {}
    for i, values in ipairs(g.out) do
      g.mean[i] = stats.mean(values)
      squares[i] = (squares[i] or 0) + stats.var(values) * (#values - 1)
      freedom = freedom + #values - 1
    end
  end
  return math.sqrt(stats.sum(squares) / freedom)
end

local function check(what, g)
  if #g.phi ~= #g.out then
    fail('lira: %s: %d samples, out-models for %d', what, #g.phi, #g.out)
  end
  local fewest = math.huge
  for _, values in ipairs(g.out) do fewest = math.min(fewest, #values) end
  if fewest < M.least then
    fail('lira: %s: a sample has %d models that were not trained on it, expected at least %d', what,
         fewest, M.least)
  end
  return fewest
end

--- lira.attack(members, others): the attack from logit-scaled confidences phi = log p_y / (1 - p_y)
-- = -mia.losses. Each group is {phi = the audited model's, a list over samples; out = for each
-- sample the list of phi under the models that were not trained on it}. A sample's score is
-- (phi - its out-models' mean) / sd, whose normal probability is the offline likelihood ratio;
-- sd is pooled over the samples of both groups, since 16 models tell little of one sample's own.
-- Returns mia.attack's table with models, the fewest out-models of a sample; sd; and shift, the
-- members' mean score less the others', {estimate, se}.
-- Errors: fewer than 16 out-models for a sample.
function M.attack(members, others)
  local models = math.min(check('members', members), check('others', others))
  local sd = out_law{ members, others }
  if not (sd > 0) then fail 'lira: the out-models all agree: their spread is 0' end
  local function scores(g)
    local z = {}
    for i, v in ipairs(g.phi) do z[i] = (v - g.mean[i]) / sd end
    return z
  end
  local function negated(z)
    local list = {}
    for i, v in ipairs(z) do list[i] = -v end
    return list
  end
  local a, b = scores(members), scores(others)
  local out = mia.attack(negated(a), negated(b))
  out.models, out.sd = models, sd
  out.shift = { estimate = stats.mean(a) - stats.mean(b),
                se = math.sqrt(stats.var(a) / #a + stats.var(b) / #b) }
  return out
end

local function confidences(model, ds)
  local phi = mia.losses(model, ds)
  for i, v in ipairs(phi) do phi[i] = -v end
  return phi
end

--- metric lira: measure(model, ctx) with ctx.canaries = {planted =, fresh =} as for mia, and
-- ctx.out, a list of {load = function() -> model, holds = function(id) -> whether the model was
-- trained on that sample}. A model is loaded when its turn comes, and let go.
function M.measure(model, ctx)
  local groups = {}
  for name, ds in pairs(ctx.canaries) do
    local g = { phi = confidences(model, ds), out = {}, ids = ds:ids(), ds = ds }
    for i = 1, #g.phi do g.out[i] = {} end
    groups[name] = g
  end
  for _, other in ipairs(ctx.out) do
    local m = other.load()
    for _, g in pairs(groups) do
      local phi = confidences(m, g.ds)
      for i, id in ipairs(g.ids) do
        if not other.holds(id) then g.out[i][#g.out[i] + 1] = phi[i] end
      end
    end
  end
  return M.attack(groups.planted, groups.fresh)
end

return M
